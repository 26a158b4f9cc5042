"""The one training loop: a classifier, some images in memory, a recipe.

    every epoch: augment, shuffle -> every batch: one jitted step -> evaluate -> maybe a checkpoint

The step is `jax.jit` over the split state of model and optimiser (`nnx.jit` costs milliseconds of
Python a call) and is compiled before the clock starts; the data lie on the device as a whole. What
is reported is the last epoch: nothing in here chooses one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from experiments import checkpoints
from experiments.recipes import Recipe, optimizer

Curve = dict[str, list[float]]
Evaluate = Callable[[nnx.Module], dict[str, float]]
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training leaves: the model (in evaluation mode), one number an epoch, and the times."""

    model: nnx.Module
    curve: Curve
    seconds: dict[str, float]


def train(
    model: nnx.Module,
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    label: str = "train",
    augment: Augment | None = None,
    evaluate: Evaluate | None = None,
    folder: Path | None = None,
) -> Trained:
    """Train a classifier and return it as it is after the last epoch.

    Args:
        model: maps images to logits; its own seed decides how it starts. It is left as it was.
        images: `(N, H, W, C)`.
        labels: `(N,)` integers.
        recipe: how to train.
        seed: of the order of the images, and of what `augment` does.
        label: the words before the progress bar.
        augment: makes the images of an epoch from `images` and a random generator.
        evaluate: numbers for the curve, measured on the model after every epoch.
        folder: where checkpoints go; None keeps none.

    Returns:
        The trained model, its curve (loss, accuracy and what `evaluate` gives) and the seconds that
        compilation, training and evaluation took.

    Raises:
        ValueError: if there are fewer images than one batch.
    """
    steps = len(images) // recipe.batch_size
    if not steps:
        raise ValueError(
            f"batch_size (={recipe.batch_size}) must not exceed the {len(images)} training images."
        )
    graph, state = _split(model, recipe, steps)
    data = jnp.asarray(images), jnp.asarray(labels)
    clock = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
    with _timed(clock, "compile"):
        step = _compile(graph, state, data, recipe)
    curve: Curve = {}
    with _bar(label, recipe.epochs * steps * recipe.batch_size) as bar:
        for epoch in range(1, recipe.epochs + 1):
            with _timed(clock, "train"):
                rng = np.random.default_rng((seed, epoch))
                batches = _batches(len(images), steps, recipe.batch_size, rng)
                if augment is not None:
                    data = jnp.asarray(augment(images, rng)), data[1]
                state, numbers = _epoch(step, state, data, batches, bar)
            if evaluate is not None:
                with _timed(clock, "evaluate"):
                    numbers |= evaluate(_model(graph, state))
            for name, value in numbers.items():
                curve.setdefault(name, []).append(value)
            if folder is not None and _is_due(epoch, recipe):
                checkpoints.save(folder, epoch, state, {"seed": seed, "curve": curve})
    return Trained(_model(graph, state), curve, clock)


def accuracy(model: nnx.Module, images: np.ndarray, labels: np.ndarray, batch: int = 270) -> float:
    """Return the share of images that a model, in evaluation mode, classifies correctly."""
    graph, state = nnx.split(model)
    correct = 0
    for start in range(0, len(images), batch):
        guesses = _classify(graph, state, images[start : start + batch])
        correct += int(np.sum(np.asarray(guesses) == labels[start : start + batch]))
    return correct / len(images)


@partial(jax.jit, static_argnums=0)
def _classify(graph: Any, state: Any, images: jax.Array) -> jax.Array:
    return jnp.argmax(nnx.merge(graph, state)(images), axis=-1)


def restore(model: nnx.Module, folder: Path, recipe: Recipe, steps: int) -> nnx.Module:
    """Return `model`, in evaluation mode, with what the newest checkpoint in `folder` holds.

    Args:
        model: built with the same sizes as the one that was saved.
        folder: the one given to `train`.
        recipe: that of the training, which decides what the optimiser remembers.
        steps: batches in an epoch.
    """
    graph, state = _split(model, recipe, steps)
    return _model(graph, checkpoints.restore(folder, state)[0])


def _split(model: nnx.Module, recipe: Recipe, steps: int) -> tuple[Any, Any]:
    """Split a copy of the model and its optimiser into their structure and their arrays."""
    model = nnx.clone(model)
    model.train()
    graph, state = nnx.split((model, nnx.Optimizer(model, optimizer(recipe, steps), wrt=nnx.Param)))
    return graph, jax.tree.map(jnp.copy, state)  # the step donates its arrays; the caller keeps his


def _model(graph: Any, state: Any) -> nnx.Module:
    """Return the model in evaluation mode."""
    model, _ = nnx.merge(graph, state)
    model.eval()
    return model


def _compile(graph: Any, state: Any, data: tuple, recipe: Recipe) -> Callable:
    batch = np.zeros(recipe.batch_size, np.int32)
    step = jax.jit(partial(_step, graph, recipe.label_smoothing), donate_argnums=0)
    return step.lower(state, *data, batch).compile()


def _step(
    graph: Any, smoothing: float, state: Any, images: jax.Array, labels: jax.Array, batch: jax.Array
) -> tuple[Any, dict[str, jax.Array]]:
    """Take one step on the images whose indices are in `batch`."""
    model, optimiser = nnx.merge(graph, state)
    differentiate = nnx.value_and_grad(_loss, has_aux=True)
    (loss, correct), gradient = differentiate(model, images[batch], labels[batch], smoothing)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with its integer counter
        optimiser.update(model, gradient)
    return nnx.state((model, optimiser)), {"loss": loss, "accuracy": correct}


def _loss(
    model: Any, images: jax.Array, labels: jax.Array, smoothing: float
) -> tuple[jax.Array, jax.Array]:
    """Return the mean cross-entropy and the share of correct guesses."""
    logits = model(images)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    loss = optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))
    correct = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    return jnp.mean(loss), jnp.mean(correct, dtype=logits.dtype)


def _batches(count: int, steps: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return `(steps, size)` indices, shuffled anew for every epoch."""
    order = rng.permutation(count)
    return order[: steps * size].reshape(steps, size).astype(np.int32)


def _epoch(
    step: Callable, state: Any, data: tuple, batches: np.ndarray, bar: tqdm
) -> tuple[Any, dict[str, float]]:
    """Take one step a batch; return the new state and the means of loss and accuracy."""
    history = []
    every = max(1, len(batches) // 10)  # reading a number waits for the device: do it seldom
    for i, batch in enumerate(batches):
        state, numbers = step(state, *data, batch)
        history.append(numbers)
        bar.update(len(batch))
        if i % every == 0:
            bar.set_postfix({k: f"{float(v):.3f}" for k, v in numbers.items()}, refresh=False)
    means = {k: float(np.mean([numbers[k] for numbers in history])) for k in history[0]}
    return state, means


def _is_due(epoch: int, recipe: Recipe) -> bool:
    often = recipe.checkpoint_every
    return epoch == recipe.epochs or (often > 0 and epoch % often == 0)


def _bar(label: str, images: int) -> tqdm:
    """Return a progress bar in images; where nobody watches it, it writes a line now and then."""
    pause = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(total=images, desc=label, unit=" images", mininterval=pause, dynamic_ncols=True)


@contextlib.contextmanager
def _timed(clock: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    clock[name] += time.perf_counter() - start
