"""Find a disk that is full or read-only before the training, not after it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax


def check_room(folder: Path, nbytes: int) -> None:
    """Check that so much can be written to a folder; it is made, and left without new files.

    A file of that size is really reserved: what counts is not the free space of the disk alone, but
    quotas and limits as well.

    Args:
        folder: where the run is kept.
        nbytes: what it will need, in bytes; see `size`.

    Raises:
        OSError: if it cannot be written there, or if there is no room for it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < nbytes:
            raise OSError(errno.ENOSPC, f"{_words(free)} are free")
        with tempfile.TemporaryFile(dir=folder) as probe:  # without a name: nothing can stay
            _reserve(probe.fileno(), nbytes)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"folder (={folder}) has no room for the {_words(nbytes)} of checkpoints and logs, or "
            f"is read-only ({error.strerror}); make room, or choose another folder with --out.",
        ) from error


def size(state: Any) -> int:
    """Return the bytes of the arrays in a pytree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def _reserve(file: int, nbytes: int) -> None:
    if not nbytes or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, nbytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot
            raise


def _words(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB"
