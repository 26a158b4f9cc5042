"""Checkpoints come back bit by bit, are complete or absent, and are not trusted when damaged."""

import json
import os
import resource
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import checkpoints
from experiments.checkpoints import Checkpoints

BITS = np.array([0x7FC00001, 0x80000000, 0x00000001], np.uint32).view(np.float32)  # NaN, -0, tiny


def make_state(offset=0.0):
    return {
        "weights": (jnp.arange(6.0).reshape(2, 3) + offset, jnp.ones(3, jnp.bfloat16)),
        "bits": BITS,
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(0, impl="rbg"), 2),
        "step": np.int32(7),
        "none": None,
        "empty": jnp.zeros((2, 0)),
    }


def words(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), np.asarray(jax.random.key_data(leaf)).tobytes()
    return np.asarray(leaf).dtype, np.asarray(leaf).tobytes()


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        words(x) == words(y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def biggest(folder):
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


@pytest.fixture
def three(tmp_path):
    """Checkpoints of the steps 1, 2 and 3."""
    with Checkpoints(tmp_path, keep=5) as saved:
        for step in (1, 2, 3):
            saved.save(step, make_state(step), {"step": step})
    return tmp_path


def test_everything_comes_back(tmp_path):
    meta = {"curve": {"loss": [0.1 + 0.2, 1e-300]}, "nan": float("nan"), "none": None}
    with Checkpoints(tmp_path / "new" / "folder") as saved:
        assert saved.latest() is None
        saved.save(5, make_state(), meta)
        assert saved.latest() == 5
        step, state, found = saved.restore(jax.tree.map(lambda x: x, make_state(offset=9.0)))
    assert (step, found) == (5, meta | {"nan": None})
    assert same(state, make_state())
    assert not same(state, make_state(offset=9.0))


def test_only_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as saved:
        for step in (1, 2, 10):
            saved.save(step, make_state(step), {})
        assert sorted(f.name for f in tmp_path.iterdir()) == ["10", "2"]
        assert saved.restore(make_state())[0] == 10


def test_steps_must_grow(three):
    for earlier in (3, 2):
        with (
            Checkpoints(three) as saved,
            pytest.raises(
                FileExistsError, match=rf"step \(={earlier}\) must be larger .*{three}/3"
            ),
        ):
            saved.save(earlier, make_state(), {})
    with Checkpoints(three) as saved:
        saved.save(4, make_state(), {})
        with pytest.raises(FileExistsError, match=r"step \(=4\) must be larger than that of .*/4"):
            saved.save(4, make_state(), {})


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    """Change one bit in the middle: orbax reads such a file without complaint."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, os.remove])
def test_damaged_checkpoint_is_reported_and_the_older_one_used(three, damage):
    damage(biggest(three / "3" / "state"))
    with Checkpoints(three) as saved:
        with pytest.warns(UserWarning, match=rf"{three}/3 is damaged: .* {three}/2 is used"):
            step, state, meta = saved.restore(make_state())
        assert (step, meta) == (2, {"step": 2})
        assert same(state, make_state(2))
        saved.save(3, make_state(30), {})  # what was damaged makes room
        assert same(saved.restore(make_state())[1], make_state(30))


def test_without_a_sound_checkpoint_nothing_is_restored(three):
    for step in (1, 2, 3):
        truncate(biggest(three / str(step) / "state"))
    with pytest.raises(ValueError, match=rf"no checkpoint in {three} is sound.*{three}/3,"):
        Checkpoints(three).restore(make_state())


def test_incomplete_checkpoint_is_none(three):
    """Killed after orbax was done, and before its files were listed."""
    (three / "3" / "files.json").unlink()
    with Checkpoints(three) as saved:
        assert saved.latest() == 2
        assert saved.restore(make_state())[0] == 2
        saved.save(3, make_state(30), {})
        assert saved.latest() == 3


def test_reading_changes_nothing(three):
    (three / "4.orbax-checkpoint-tmp").mkdir()  # another process may be writing it
    before = sorted(three.rglob("*"))
    with Checkpoints(three) as saved:
        saved.restore(make_state())
    assert sorted(three.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": BITS[:2]}, r"\['bits'\] is float32\[3\] there, but float32\[2\] here"),
        ({"step": np.int16(7)}, r"\['step'\] is int32\[\] there, but int16\[\] here"),
        ({"none": BITS}, r"\['none'\] is absent there, but float32\[3\] here"),
        ({"bits": None}, r"\['bits'\] is float32\[3\] there, but absent here"),
    ],
)
def test_other_model_is_refused(three, change, message):
    with pytest.raises(ValueError, match=rf"{three}/3 does not fit: {message}"):
        Checkpoints(three).restore(make_state() | change)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere: train first"):
        Checkpoints(tmp_path / "nowhere").restore(make_state())
    assert not (tmp_path / "nowhere").exists()


# Writers that fail leave coroutines behind, which say so again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_full_disk_is_reported_and_leaves_the_last_one(three):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    noise = jax.random.normal(jax.random.key(0), (100, 100))
    try:
        with (
            Checkpoints(three) as saved,
            pytest.raises(
                OSError, match=rf"{three}/4 could not .*too large.*last good .*{three}/3"
            ),
        ):
            saved.save(4, {"noise": noise}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(f.name for f in three.iterdir()) == ["1", "2", "3"]
    assert Checkpoints(three).latest() == 3


def test_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with (
        Checkpoints(tmp_path / "file" / "checkpoints") as saved,
        pytest.raises(OSError, match=r"checkpoints/1 could not be written \(.*no earlier one"),
    ):
        saved.save(1, make_state(), {})


def test_list_of_files_names_all_of_them(three):
    listed = json.loads((three / "3" / "files.json").read_text())
    files = {str(f.relative_to(three / "3")) for f in (three / "3").rglob("*") if f.is_file()}
    assert set(listed) == files - {"files.json"}
    assert checkpoints._sums(three / "3") == listed
