"""Small classifiers: images per second in training and inference, against a plain CNN.

A training step is forward, backward, Adam and the running statistics, in one compiled program.
Inference is the forward pass in evaluation mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import pdo_jax as pdo
from benchmarks import entry, timing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Training and inference of small classifiers against a plain CNN with as many parameters."""

    networks: tuple[str, ...] = ("mnist_rot", "mnist_rot invariant", "plain")
    """Names in NETWORKS; the last one is what the others are compared with."""
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


NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "mnist_rot": pdo.models.mnist_rot,
    "mnist_rot invariant": partial(pdo.models.mnist_rot, invariant=True),
    "plain": PlainCNN,
}


def run(config: Config) -> entry.Report:
    """Measure training, then inference, each with all networks in turns."""
    unknown = sorted(set(config.networks) - set(NETWORKS))
    if unknown:
        raise ValueError(f"networks (={unknown}) must be among {list(NETWORKS)}; pass one of them.")
    models = {name: NETWORKS[name](rngs=nnx.Rngs(config.seed)) for name in config.networks}
    (images,) = entry.normal(config.seed, "float32", (config.batch, 28, 28, 1))
    labels = jnp.arange(config.batch) % 10

    report = entry.Report()
    for name, model in models.items():
        report.metrics[f"parameters, {name}"] = count(model)
    for mode in config.modes:
        prepare = {"training": training, "inference": inference}[mode]
        programs = {name: prepare(model, images, labels) for name, model in models.items()}
        times = timing.measure(programs, repeats=config.repeats, warmup=config.warmup)
        reference = config.networks[-1]
        ratios = {
            f"{name} / {reference}": timing.ratio(times[name], times[reference])
            for name in config.networks[:-1]
        }
        report.cases.append({"mode": mode, **times, **ratios})
        for name, time in times.items():
            report.metrics[f"images/s, {mode}, {name}"] = config.batch / time.median
        for name, ratio in ratios.items():
            report.metrics[f"time {name}, {mode}"] = ratio.median
    return report


def training(model: nnx.Module, images: jax.Array, labels: jax.Array) -> timing.Program:
    """Return one step of Adam as a program."""
    model.train()
    definition, weights, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(1e-3)

    def loss(weights: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
        model = nnx.merge(definition, weights, rest, copy=True)
        logits = model(images)  # pyright: ignore[reportCallIssue]
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, nnx.split(model, nnx.Param, ...)[2]

    def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        weights, rest, optimizer_state = state
        (value, rest), slope = jax.value_and_grad(loss, has_aux=True)(weights, rest, images, labels)
        updates, optimizer_state = optimizer.update(slope, optimizer_state, weights)
        return value, (optax.apply_updates(weights, updates), rest, optimizer_state)

    return timing.prepare(step, (weights, rest, optimizer.init(weights)), images, labels)


def inference(model: nnx.Module, images: jax.Array, labels: jax.Array) -> timing.Program:
    """Return the forward pass in evaluation mode as a program."""
    del labels
    model.eval()
    definition, state = nnx.split(model)
    return timing.prepare(lambda state, x: nnx.merge(definition, state)(x), state, images)  # pyright: ignore


def count(model: nnx.Module) -> int:
    """Return the number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
