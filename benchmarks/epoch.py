"""One epoch of the published network for rotated MNIST: 93 steps of 128 images.

A step is forward, backward, Adam and the running statistics, with dropout, in one compiled program.
The same network is measured with both algorithms of its convolutions, and beside it a plain CNN of
as many channels (3x3 convolutions by `nnx.Conv`). One epoch is also taken from its first step to
its last, with other images in every step: nothing is skipped.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import pdo_jax as pdo
from benchmarks import demo_network, entry, timing

Part = Literal["step", "step without dropout", "forward"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """One epoch of the network with 26,747 parameters, by algorithm and by part."""

    group: str = "p8"
    """The name of the network's group."""
    algorithms: tuple[Literal["auto", "stencils", "direct"], ...] = ("stencils", "direct")
    """How the convolutions are computed."""
    parts: tuple[Part, ...] = ("step", "step without dropout", "forward")
    """What is timed: a training step, one without dropout, the forward pass in training."""
    plain: bool = True
    """Measure the plain CNN, too."""
    batch: int = 128
    """The number of images in a step."""
    steps: int = 93
    """In an epoch."""
    cores: int = 2
    """Pin the process to so many CPU cores; 0 leaves it free."""
    repeats: int = 25
    """The number of rounds; every round times every program once."""


def run(config: Config) -> entry.Report:
    """Measure the parts in turns, then one whole epoch of every network."""
    report = entry.Report()
    names = [*config.algorithms, *(["plain CNN"] if config.plain else [])]
    times = timing.measure(programs(config, names), repeats=config.repeats, warmup=config.warmup)
    first, *others = [f"{name}, {config.parts[0]}" for name in names]
    ratios = {f"{other} / {first}": timing.ratio(times[other], times[first]) for other in others}
    report.cases.append({"group": config.group, "times": times, "ratios": ratios})
    for name in names:
        for part in config.parts:
            seconds = config.steps * times[f"{name}, {part}"].median
            report.metrics[f"{name}, {part}, seconds an epoch"] = seconds
        report.metrics[f"{name}, one whole epoch, seconds"] = epoch(config, name)
    return report


def build(config: Config, name: str, dropout_rate: float = 0.2) -> Any:
    """Return the network with the algorithm of that name, or the plain CNN."""
    rngs = nnx.Rngs(config.seed)
    if name == "plain CNN":
        width = pdo.group(config.group).order * 7
        model = demo_network.PlainCNN(features=width, last=width, rngs=rngs)
        model.dropout.rate = dropout_rate
        return model
    model = pdo.models.mnist_rot(group=config.group, dropout_rate=dropout_rate, rngs=rngs)
    for conv in model.convs:
        conv.algorithm = name
    return model


def programs(config: Config, names: list[str]) -> dict[str, timing.Program]:
    """Return the parts of every network."""
    (images,) = entry.normal(config.seed, "float32", (config.batch, 28, 28, 1))
    labels = jnp.arange(config.batch) % 10
    result = {}
    for name in names:
        for part in config.parts:
            model = build(config, name, 0.0 if part == "step without dropout" else 0.2)
            if part == "forward":
                model.train()
                definition, state = nnx.split(model)
                program = timing.prepare(
                    lambda state, x, definition=definition: nnx.merge(definition, state)(x),
                    state,
                    images,
                )
            else:
                program = demo_network.training(model, images, labels)
            result[f"{name}, {part}"] = program
    return result


def epoch(config: Config, name: str) -> float:
    """Return the seconds of all steps of an epoch, one after the other, compiled before."""
    rng = np.random.default_rng(config.seed)
    shape = (config.steps, config.batch)
    images = jnp.asarray(rng.normal(size=(*shape, 28, 28, 1)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, shape))
    step, state = demo_network.training_step(build(config, name), optax.adam(1e-3))
    compiled = jax.jit(step).lower(state, images[0], labels[0]).compile()
    jax.block_until_ready(compiled(state, images[0], labels[0]))
    batches = list(zip(images, labels, strict=True))
    start, loss = time.perf_counter(), None
    for batch in batches:
        loss, state = compiled(state, *batch)
    jax.block_until_ready((loss, state))
    return time.perf_counter() - start
