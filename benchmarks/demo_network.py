"""Small classifiers: images per second in training and inference, against plain CNNs.

Each family has one image size and ends with a plain CNN of as many parameters, with which the
others are compared. A training step is forward, backward, Adam and the running statistics, in one
compiled program; inference is the forward pass in evaluation mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import pdo_jax as pdo
from benchmarks import entry, timing
from experiments import rotated_digits
from experiments.networks import count_parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Training and inference of small classifiers against a plain CNN with as many parameters."""

    families: tuple[Literal["rotated_digits", "mnist_rot"], ...] = ("rotated_digits", "mnist_rot")
    """The networks of the demo, and those for rotated MNIST."""
    modes: tuple[Literal["training", "inference"], ...] = ("training", "inference")
    """What is measured."""
    batch: int = 32
    """The number of images in a step."""


class PlainCNN(nnx.Module):
    """Six 3x3 convolutions and a free 4x4 one, with the sizes of `pdo.models.mnist_rot`."""

    def __init__(self, *, features: int = 22, last: int = 26, rngs: nnx.Rngs):
        widths = (1, *[features] * 5, last)
        pairs = list(zip(widths, widths[1:], strict=False))
        options: dict[str, Any] = dict(padding="VALID", use_bias=False, rngs=rngs)
        self.convs = nnx.List([nnx.Conv(i, o, (3, 3), **options) for i, o in pairs])
        self.norms = nnx.List([nnx.BatchNorm(o, momentum=0.9, rngs=rngs) for _, o in pairs])
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Conv(last, 10, (4, 4), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Classify `(N, 28, 28, 1)` images: `(N, 10)` logits."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = nnx.relu(norm(conv(x)))
            x = nnx.max_pool(x, (2, 2), (2, 2)) if i == 1 else self.dropout(x)
        return self.head(x).reshape(len(x), -1)


def mnist_rot(seed: int) -> dict[str, nnx.Module]:
    """Return the networks for rotated MNIST, and the plain one."""
    return {
        "mnist_rot": pdo.models.mnist_rot(rngs=nnx.Rngs(seed)),
        "mnist_rot invariant": pdo.models.mnist_rot(invariant=True, rngs=nnx.Rngs(seed)),
        "plain CNN": PlainCNN(rngs=nnx.Rngs(seed)),
    }


def demo(seed: int) -> dict[str, Any]:
    """Return the networks of `python -m experiments.rotated_digits`."""
    return rotated_digits.build(rotated_digits.Config(), seed)


# The side of the images, and the networks by name for a seed; the last one is the plain CNN.
FAMILIES: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
    "rotated_digits": (24, demo),
    "mnist_rot": (28, mnist_rot),
}


def run(config: Config) -> entry.Report:
    """Measure every family in every mode, its networks in turns."""
    report = entry.Report()
    for family in config.families:
        pixels, build = FAMILIES[family]
        models = build(config.seed)
        (images,) = entry.normal(config.seed, "float32", (config.batch, pixels, pixels, 1))
        for name, model in models.items():
            report.metrics[f"{family}, {name}, parameters"] = count_parameters(model)
        for mode in config.modes:
            times = measure(config, mode, models, images)
            *others, plain = models
            ratios = {f"{n} / {plain}": timing.ratio(times[n], times[plain]) for n in others}
            report.cases.append({"family": family, "mode": mode, "times": times, "ratios": ratios})
            for name, time in times.items():
                speed = config.batch / time.median
                report.metrics[f"{family}, {name}, {mode}, images/s"] = speed
    return report


def measure(
    config: Config, mode: str, models: dict[str, Any], images: jax.Array
) -> dict[str, timing.Timing]:
    """Return the times of one step, or one forward pass, of every network."""
    prepare = {"training": training, "inference": inference}[mode]
    labels = jnp.arange(config.batch) % 10
    programs = {name: prepare(model, images, labels) for name, model in models.items()}
    return timing.measure(programs, repeats=config.repeats, warmup=config.warmup)


def training(model: nnx.Module, images: jax.Array, labels: jax.Array) -> timing.Program:
    """Return one step of Adam as a program."""
    step, state = training_step(model, optax.adam(1e-3))
    return timing.prepare(step, state, images, labels)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean over the images."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def training_step(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    score: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
) -> tuple[Callable[..., Any], Any]:
    """Return one step, a function of state, images and labels, and the first state.

    The step returns the loss and the next state.
    """
    model.train()
    definition, weights, rest = nnx.split(model, nnx.Param, ...)

    def loss(weights: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
        model = nnx.merge(definition, weights, rest, copy=True)
        logits = model(images)  # pyright: ignore[reportCallIssue]
        return score(logits, labels), nnx.split(model, nnx.Param, ...)[2]

    def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        weights, rest, optimizer_state = state
        (value, rest), slope = jax.value_and_grad(loss, has_aux=True)(weights, rest, images, labels)
        updates, optimizer_state = optimizer.update(slope, optimizer_state, weights)
        return value, (optax.apply_updates(weights, updates), rest, optimizer_state)

    return step, (weights, rest, optimizer.init(weights))


def inference(model: nnx.Module, images: jax.Array, labels: jax.Array) -> timing.Program:
    """Return the forward pass in evaluation mode as a program."""
    del labels
    model.eval()
    definition, state = nnx.split(model)
    return timing.prepare(lambda state, x: nnx.merge(definition, state)(x), state, images)  # pyright: ignore
