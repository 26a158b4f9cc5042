"""Checkpoints by orbax: the arrays of a model and its optimiser, and what belongs to them as JSON.

A checkpoint appears under its final name only when it is complete, so that a run that is stopped
leaves the last complete one.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import nnx

from experiments.results import plain


def save(folder: Path, step: int, state: nnx.State, meta: dict[str, Any], keep: int = 3) -> None:
    """Save a checkpoint, and remove all but the newest.

    Args:
        folder: of all checkpoints of a training.
        step: the number of this one, such as the epoch.
        state: arrays, as `nnx.split` gives them.
        meta: anything that JSON can hold.
        keep: how many checkpoints to keep.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    arrays, notes = ocp.args.StandardSave(state), ocp.args.JsonSave(plain(meta))  # pyright: ignore
    with ocp.CheckpointManager(Path(folder).absolute(), options=options) as manager:
        manager.save(step, args=ocp.args.Composite(state=arrays, meta=notes))


def restore(folder: Path, template: nnx.State) -> tuple[nnx.State, dict[str, Any]]:
    """Return the state and the notes of the newest checkpoint.

    Args:
        folder: the one given to `save`.
        template: a state of the same structure; its arrays only say shapes and dtypes.

    Raises:
        FileNotFoundError: if there is no checkpoint.
    """
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    if not Path(folder).is_dir():  # asked for a folder that is not there, orbax makes it
        raise FileNotFoundError(f"there is no checkpoint in {folder}: train first.")
    arrays, notes = ocp.args.StandardRestore(shapes), ocp.args.JsonRestore()  # pyright: ignore
    with ocp.CheckpointManager(Path(folder).absolute()) as manager, warnings.catch_warnings():
        if (step := manager.latest_step()) is None:
            raise FileNotFoundError(f"there is no checkpoint in {folder}: train first.")
        found = manager.restore(step, args=ocp.args.Composite(state=arrays, meta=notes))
    return found["state"], found["meta"]
