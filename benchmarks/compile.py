"""How long the first step waits: tracing, lowering and compiling a training step.

    trace      the Python code is run once, and the gradient is made of what it did
    lower      that becomes StableHLO
    compile    XLA makes machine code of it

JAX's caches are emptied before each; basis and group have been made with the network. A step is
forward, backward, SGD with momentum and the running statistics, in one program. Beside the seconds
that pass, those of the processor are recorded, which a busy machine hardly changes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import pdo_jax as pdo
from benchmarks import demo_network, entry, timing
from experiments import tables
from pdo_jax import conv

# The side and the channels of the images, and what makes the network.
NETWORKS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "resnet44": (32, 3, pdo.models.resnet44),
    "mnist_rot": (28, 1, pdo.models.mnist_rot),
}
PARTS = ("trace", "lower", "compile")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Common):
    """Seconds to trace, lower and compile a training step, by network and algorithm."""

    networks: tuple[Literal["resnet44", "mnist_rot"], ...] = ("resnet44", "mnist_rot")
    """Which networks, over p8."""
    algorithms: tuple[str, ...] = conv.ALGORITHMS
    """How convolutions are computed; those that one does not serve are left to "auto"."""
    batch: int = 128
    """The number of images in a step."""
    repeats: int = 3
    """How often each step is compiled."""
    cores: int = 2
    """Pin the process to so many CPU cores; 0 leaves it free."""


def run(config: Config) -> entry.Report:
    """Compile every network with every algorithm."""
    report = entry.Report()
    for network in config.networks:
        for algorithm in config.algorithms:
            case = {
                "network": network,
                "algorithm": algorithm,
                **measure(config, network, algorithm),
            }
            report.cases.append(case)
            report.metrics[f"{network}, {algorithm}, seconds"] = total(case)
    report.lines = lines(report.cases)
    return report


def measure(config: Config, network: str, algorithm: str) -> dict[str, Any]:
    """Return the seconds of every part, and the size of the program before it is compiled."""
    pixels, channels, make = NETWORKS[network]
    model = make(group="p8", rngs=nnx.Rngs(config.seed))
    choose(model, algorithm)
    step, state = demo_network.training_step(model, optax.sgd(0.1, momentum=0.9))
    images = jax.ShapeDtypeStruct((config.batch, pixels, pixels, channels), jnp.float32)
    labels = jax.ShapeDtypeStruct((config.batch,), jnp.int32)
    samples: dict[str, list[float]] = {part: [] for part in PARTS}
    processor: list[float] = []
    characters = 0
    for _ in range(config.repeats):
        jax.clear_caches()
        busy = time.process_time()
        times = [time.perf_counter()]
        traced = jax.jit(step).trace(state, images, labels)
        times.append(time.perf_counter())
        lowered = traced.lower()
        times.append(time.perf_counter())
        lowered.compile()
        times.append(time.perf_counter())
        processor.append(time.process_time() - busy)
        for part, start, end in zip(PARTS, times[:-1], times[1:], strict=True):
            samples[part].append(end - start)
        characters = len(lowered.as_text())
    spreads = {part: timing.spread(samples[part]) for part in PARTS}
    processor_seconds = timing.spread(processor)
    return {"seconds": spreads, "processor": processor_seconds, "characters": characters}


def choose(model: nnx.Module, algorithm: str) -> None:
    """Ask for an algorithm wherever it serves: the lift and strided layers are left to "auto"."""
    for _, layer in nnx.iter_graph(model):
        if isinstance(layer, pdo.nn.PDOConv) and max(layer.strides) == 1:
            layer.algorithm = algorithm


def total(case: dict[str, Any]) -> float:
    """Return the seconds of all parts together."""
    return sum(_median(case["seconds"][part]) for part in PARTS)


def lines(cases: list[dict[str, Any]]) -> list[str]:
    """Return the table: a row a network and algorithm."""
    rows = [["network", "algorithm", *PARTS, "together", "of the processor", "program"]]
    for case in cases:
        seconds = [_median(case["seconds"][part]) for part in PARTS]
        together = (sum(seconds), _median(case["processor"]))
        numbers = [f"{value:.1f} s" for value in (*seconds, *together)]
        size = f"{case['characters'] / 1e6:.2f} MB"
        rows.append([case["network"], case["algorithm"], *numbers, size])
    return tables.markdown(rows)


def _median(spread: Any) -> float:
    """Return the median of a spread as it was measured, or as a record has it."""
    return spread["median"] if isinstance(spread, dict) else spread.median
