"""Training, for all experiments: a network, images in memory, an objective, a recipe.

    every epoch: an order -> every batch: one compiled step -> evaluate; now and then a checkpoint

`loop` holds the loop, `step` the step itself, `objectives` what it lowers, `evaluation` what a
trained model says of images, `recipes` how to train. What is reported is the last epoch: nothing in
here chooses one. A run that was stopped at any moment goes on from its last checkpoint, and ends in
the same bits as if it had not been stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from flax import nnx

from experiments import step
from experiments.checkpoints import Checkpoints
from experiments.evaluation import Augment, Map, Prepare
from experiments.evaluation import accuracy as accuracy
from experiments.evaluation import logits as logits
from experiments.execution import Execution as Execution
from experiments.execution import Work, choose_together
from experiments.loop import Diverged as Diverged
from experiments.loop import Evaluate as Evaluate
from experiments.loop import Interrupted as Interrupted
from experiments.loop import Loop, earlier_training
from experiments.objectives import Objective
from experiments.recipes import Recipe

Curve = dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training leaves: the model (in evaluation mode), one number an epoch, and the times."""

    model: nnx.Module
    curve: Curve
    seconds: dict[str, float]
    execution: Execution
    """How the work was done, choices included."""
    steps: int
    """How many were taken: fewer than the recipe has, where there was a limit of seconds."""


def train(
    model: nnx.Module,
    images: np.ndarray,
    targets: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    objective: Objective | None = None,
    label: str = "train",
    normalise: Map | None = None,
    augment: Augment | None = None,
    evaluate: Evaluate | None = None,
    folder: Path | None = None,
    resume: bool = False,
    execution: Execution | None = None,
    seconds: float | None = None,
) -> Trained:
    """Train a network and return it as it is after the last epoch.

    Args:
        model: maps images to logits; its own seed decides how it starts. It is left as it was.
        images: `(N, H, W, C)`; uint8 pixels are divided by 255, floats are taken as they are.
        targets: what belongs to each image: `(N,)` integers, the labels, or what `objective` takes.
        recipe: how to train.
        seed: of the order of the images, of what `augment` does, and of what `objective` draws.
        objective: what is lowered, hashable; None for the cross-entropy of classes.
        label: the words before the progress bar.
        normalise: what the network sees of an image; part of the compiled step, hashable.
        augment: maps a key and the images of a batch to other images; likewise.
        evaluate: numbers for the curve, measured on the model after every epoch. One that is left
            out in an epoch is NaN there.
        folder: where checkpoints and logs go; None keeps none.
        resume: go on from the newest checkpoint in `folder`, if there is one.
        execution: how the work is done.
        seconds: end after the first step at which training itself (no compilation, no evaluation)
            has taken so long. How many steps those are depends on the machine, so a run that goes
            on after a stop is then not the same to the last bit.

    Returns:
        The trained model, its curve (loss, accuracy and what `evaluate` gives), the seconds that
        compilation, training and evaluation took, how the work was done, and the number of steps.

    Raises:
        ValueError: if there are fewer images than one batch, or devices cannot share a batch.
        Diverged: if the loss is infinite or not a number.
        Interrupted: if the user asked to stop.
        FileExistsError: if `folder` holds checkpoints, and `resume` is not asked for.
        OSError: if there is no room for the checkpoints.
    """
    execution = execution or Execution()
    work = Work(images, targets, recipe, Prepare(normalise, augment), objective)
    graph, state = work.start([model], [seed], together=False)
    loop = Loop(
        work,
        graph,
        state,
        [seed],
        together=False,
        fused=execution.fused,
        label=label,
        evaluate=evaluate,
        folder=folder,
        resume=resume,
        seconds=seconds,
    )
    loop.run()
    return _results(loop)[0]


def train_seeds(
    build: Callable[[int], nnx.Module],
    images: np.ndarray,
    targets: np.ndarray,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    objective: Objective | None = None,
    label: str = "train",
    normalise: Map | None = None,
    augment: Augment | None = None,
    evaluate: Evaluate | None = None,
    folder: Path | None = None,
    resume: bool = False,
    execution: Execution | None = None,
    seconds: float | None = None,
) -> list[Trained]:
    """Train one network a seed, each as it would be alone, to the tolerance of rounding.

    They are trained one after the other, or all at once in one program: whichever is measured to be
    faster, unless `execution` says. The choice is written into `folder` and kept when resuming.

    Args:
        build: makes the model of a seed.
        images: as in `train`, like everything that is not described here.
        targets: likewise.
        recipe: likewise.
        seeds: of the models and of their training, all different.
        objective: see `train`.
        label: see `train`.
        normalise: see `train`.
        augment: see `train`.
        evaluate: see `train`.
        folder: every seed has a folder of its own in it, `seed_folder`.
        resume: see `train`.
        execution: see `train`.
        seconds: see `train`; seeds that are trained together share them.

    Returns:
        What `train` returns, for every seed. Seeds that were trained together share the seconds.

    Raises:
        As `train`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds (={tuple(seeds)}) must be one at least, and all different.")
    execution = execution or Execution()
    work = Work(images, targets, recipe, Prepare(normalise, augment), objective)
    if folder is not None and not resume:
        for some in [*([seed] for seed in seeds), list(seeds)]:
            _refuse_earlier(_folder(folder, some))
    together = False
    if len(seeds) > 1:
        execution = choose_together(work, build, seeds, execution, folder, resume)
        together = bool(execution.together)
    found = []
    for some in [list(seeds)] if together else [[seed] for seed in seeds]:
        graph, state = work.start([build(seed) for seed in some], some, together)
        loop = Loop(
            work,
            graph,
            state,
            some,
            together=together,
            fused=execution.fused,
            label=label if together or len(seeds) == 1 else f"{label}, seed {some[0]}",
            evaluate=evaluate,
            folder=_folder(folder, some),
            resume=resume,
            seconds=seconds,
        )
        loop.run()
        if together and folder is not None:
            loop.save_apart(lambda seed: seed_folder(folder, seed))
        found += _results(loop)
    return found


def restore(model: nnx.Module, folder: Path, recipe: Recipe) -> nnx.Module:
    """Return `model`, in evaluation mode, with what the newest checkpoint in `folder` holds.

    Args:
        model: built with the same sizes as the one that was saved.
        folder: the one given to `train`, or `seed_folder` of the one given to `train_seeds`.
        recipe: that of the training, which decides what the optimiser remembers.

    Raises:
        FileNotFoundError: if there is no checkpoint.
    """
    graph, state = step.start(model, recipe, 1, 0)
    with Checkpoints(folder) as checkpoints:
        _, state, _ = checkpoints.restore(state)
    return step.trained_model(graph, state)


def seed_folder(folder: Path, seed: int) -> Path:
    """Return where `train_seeds` keeps the checkpoints of one seed."""
    return folder / f"seed-{seed}"


def _refuse_earlier(folder: Path | None) -> None:
    """Raise if a folder holds checkpoints: seeds are trained apart or together, and saved apart."""
    if folder is not None and Checkpoints(folder).latest() is not None:
        raise earlier_training(folder)


def _folder(folder: Path | None, seeds: list[int]) -> Path | None:
    if folder is None:
        return None
    return seed_folder(folder, seeds[0]) if len(seeds) == 1 else folder / "together"


def _results(loop: Loop) -> list[Trained]:
    record, count = loop.record, len(loop.seeds)
    execution = Execution(together=loop.together, fused=record.fused)
    seconds = {name: value / count for name, value in record.seconds.items()}
    curves = [
        {k: [row[i] for row in rows] for k, rows in record.curve.items()} for i in range(count)
    ]
    models = loop.models()
    pairs = zip(models, curves, strict=True)
    return [Trained(model, curve, seconds, execution, loop.done) for model, curve in pairs]
