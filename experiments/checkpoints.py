"""Checkpoints by orbax: the arrays of a training, and what belongs to them as JSON.

    checkpoints/12/state, meta      what orbax writes
    checkpoints/12/files.json       size and CRC-32 of every file of it, written last

A checkpoint counts as complete when its list of files is there, and as sound when the files agree
with it: orbax itself reads a file in which bits have changed without a word. So a training that is
killed in the middle of saving goes on from the checkpoint before, and a damaged one is reported.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from experiments.results import plain, write_json

_FILES = "files.json"


class Checkpoints:
    """The checkpoints of one training: a context manager, open for as long as the training runs.

    With several processes all of them call every method, with the same arguments.

    Args:
        folder: of all checkpoints; it is made when the first is saved.
        keep: how many to keep, the newest.
    """

    def __init__(self, folder: Path, keep: int = 3):
        self.folder = Path(folder).absolute()
        self._keep = keep
        self._damaged: set[int] = set()
        self._manager: ocp.CheckpointManager | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager is not None:
            self._manager.close()

    def path(self, step: int) -> Path:
        """Return the folder of one checkpoint."""
        return self.folder / str(step)

    def latest(self) -> int | None:
        """Return the step of the newest complete checkpoint, None if there is none.

        What `restore` has found to be damaged does not count: it is to be saved anew.
        """
        return _agreed(next((s for s in self._complete() if s not in self._damaged), None))

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Save a checkpoint, which is complete or absent, and remove all but the newest.

        Args:
            step: its number, larger than those before.
            state: any pytree of arrays; keys of `jax.random.key` are arrays as well.
            meta: anything that JSON can hold; NaN and infinity become None.

        Raises:
            FileExistsError: if there is a checkpoint of this or of a later step.
            OSError: if it cannot be written.
        """
        if self._manager is None:
            self._clean(step)
            self._manager = self._open(step)
        if (newest := self._manager.latest_step()) is not None and newest >= step:
            raise self._exists(step, newest)  # orbax would return without a word
        arrays = _flat(state)
        notes = {"meta": plain(dict(meta)), "arrays": _shapes(arrays)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave({k: v for k, v in arrays.items() if v.size}),  # pyright: ignore
            meta=ocp.args.JsonSave(notes),  # pyright: ignore
        )
        try:
            self._manager.save(step, args=args)
            if jax.process_index() == 0:
                write_json(self.path(step) / _FILES, _sums(self.path(step)))
        except Exception as error:  # of orbax and TensorStore, which have many
            for half in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):  # the disk may be full
                shutil.rmtree(half, ignore_errors=True)
            raise OSError(self._unsaved(step, error)) from error

    def restore(self, template: Any) -> tuple[int, Any, dict[str, Any]]:
        """Return step, state and meta of the newest sound checkpoint.

        Args:
            template: a state of the same structure; its arrays say shapes, dtypes and shardings.

        Warns:
            UserWarning: if a newer checkpoint is damaged, with its path.

        Raises:
            FileNotFoundError: if there is no checkpoint.
            ValueError: if the checkpoint holds other arrays than the template, or all are damaged.
        """
        complete = self._complete()
        sound = next((step for step in complete if not self._damage(step)), None)
        if (step := _agreed(sound)) is None:
            raise self._nothing(complete)
        self._damaged = {newer for newer in complete if newer > step}
        for newer in sorted(self._damaged):
            warnings.warn(
                f"the checkpoint {self.path(newer)} is damaged: {self._damage(newer)}; "
                f"{self.path(step)} is used instead.",
                stacklevel=2,
            )
        notes = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(self.path(step) / "meta")
        wanted = _flat(template)
        _check_shapes(self.path(step), notes["arrays"], _shapes(wanted))
        shapes = {k: ocp.utils.to_shape_dtype_struct(v) for k, v in wanted.items() if v.size}
        with ocp.StandardCheckpointer() as checkpointer:
            arrays = checkpointer.restore(self.path(step) / "state", shapes)
        return step, _like(template, {**wanted, **arrays}), notes["meta"]

    def _open(self, step: int) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep, enable_async_checkpointing=False, create=True
        )
        try:
            return ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise OSError(self._unsaved(step, error)) from error

    def _clean(self, step: int) -> None:
        """Remove what is not complete or damaged: orbax would take it for a checkpoint."""
        unsound = [s for s in self._steps() if not self._lists(s) or s in self._damaged]
        if later := [s for s in self._complete() if s >= step and s not in unsound]:
            raise self._exists(step, later[0])
        if jax.process_index() == 0:
            for old in unsound:
                shutil.rmtree(self.path(old))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"clean {self.folder}")

    def _steps(self) -> list[int]:
        """Return what orbax would take for checkpoints, the newest first."""
        names = [f.name for f in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _complete(self) -> list[int]:
        return [step for step in self._steps() if self._lists(step)]

    def _lists(self, step: int) -> bool:
        return (self.path(step) / _FILES).is_file()

    def _damage(self, step: int) -> str:
        """Return what is wrong with the files of a complete checkpoint, "" if nothing is."""
        try:
            listed = json.loads((self.path(step) / _FILES).read_text(encoding="utf-8"))
            found = _sums(self.path(step))
        except (OSError, ValueError) as error:
            return str(error)
        for name in listed:
            if found.get(name) != listed[name]:
                return f"{name} is not as it was written" if name in found else f"{name} is missing"
        return ""

    def _exists(self, step: int, newest: int) -> Exception:
        return FileExistsError(
            f"step (={step}) must be larger than that of {self.path(newest)}; resume that "
            "training, or save to another folder."
        )

    def _nothing(self, complete: list[int]) -> Exception:
        if not complete:
            return FileNotFoundError(f"there is no checkpoint in {self.folder}: train first.")
        newest = complete[0]
        return ValueError(
            f"no checkpoint in {self.folder} is sound; of the newest, {self.path(newest)}, "
            f"{self._damage(newest)}: train anew, in another folder."
        )

    def _unsaved(self, step: int, error: Exception) -> str:
        last = next(iter(self._complete()), None)
        kept = (
            "there is no earlier one" if last is None else f"the last good one is {self.path(last)}"
        )
        return f"checkpoint {self.path(step)} could not be written ({_line(error)}); {kept}."


def _agreed(step: int | None) -> int | None:
    """Return what the first process says, so that all processes take the same checkpoint."""
    if jax.process_count() == 1:
        return step
    said = multihost_utils.broadcast_one_to_all(np.int32(-1 if step is None else step))
    return None if said < 0 else int(said)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _flat(state: Any) -> dict[str, Any]:
    """Return the arrays of a pytree by name, and of random keys their words."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): _words(leaf) for path, leaf in leaves}


def _words(leaf: Any) -> Any:
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _like(template: Any, arrays: dict[str, Any]) -> Any:
    def pick(path: Any, leaf: Any) -> Any:
        array = arrays[jax.tree_util.keystr(path)]
        return (
            jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else array
        )

    return jax.tree_util.tree_map_with_path(pick, template)


def _shapes(arrays: dict[str, Any]) -> dict[str, str]:
    return {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}


def _check_shapes(path: Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
    for name in [*saved, *wanted]:
        if saved.get(name) != wanted.get(name):
            raise ValueError(
                f"the checkpoint {path} does not fit: {name} is {saved.get(name, 'absent')} there, "
                f"but {wanted.get(name, 'absent')} here; build the model, and choose the recipe, "
                "with the options of that training."
            )


def _sums(folder: Path) -> dict[str, list[int]]:
    """Return size and CRC-32 of every file in a checkpoint but their list."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != _FILES)
    contents = ((str(f.relative_to(folder)), f.read_bytes()) for f in files)
    return {name: [len(content), zlib.crc32(content)] for name, content in contents}


def _line(error: Exception) -> str:
    """Return the end of a message, where TensorStore says what the system said."""
    return " ".join(str(error).split())[-120:] or type(error).__name__
