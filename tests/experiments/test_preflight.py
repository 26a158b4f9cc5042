"""A disk without room is found before the training."""

import collections
import resource
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import preflight

Usage = collections.namedtuple("Usage", "total used free")


def test_room_is_checked_without_a_trace(tmp_path):
    preflight.check_room(tmp_path / "new" / "run", 1_000_000)
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**9, 10**9 - 5_000, 5_000))
    preflight.check_room(tmp_path, 5_000)
    with pytest.raises(OSError, match=rf"{tmp_path}\) has no room for .*0.1 MB .*0.0 MB are free"):
        preflight.check_room(tmp_path, 100_000)


def test_limits_count_as_well(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        preflight.check_room(tmp_path, 50_000)
        with pytest.raises(OSError, match=r"0.1 MB of checkpoints.*too large.*--out"):
            preflight.check_room(tmp_path, 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_read_only_folder():
    with pytest.raises(OSError, match=r"folder \(=/proc/run\).* is read-only .*--out"):
        preflight.check_room(Path("/proc/run"), 0)


def test_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="Not a directory.*--out"):
        preflight.check_room(tmp_path / "file" / "run", 0)


def test_size_is_that_of_the_arrays():
    assert preflight.size({"a": jnp.zeros((2, 3)), "b": (np.zeros(5, np.uint8), None)}) == 53
