"""Building the layers of a large network: time, and memory beyond the parameters.

A wide ResNet-28-10 has four stages of pre-activation blocks, 3x3 convolutions and 36.5 million
parameters. Its layers are built twice, in turns:

    pdo_jax    on fields; with 1 / sqrt(|G|) times the channels a group convolution has as many
               weights as a plain one
    flax       nnx.Conv, as published

Every build has a process of its own: what the first build of a process draws from memory and
compiles, a second one finds ready. Imports are not counted, and compiling the initialisers is.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import pdo_jax as pdo
from benchmarks import entry, timing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Building the layers of a wide ResNet-28-10: time, and memory beyond the parameters."""

    group: str = "p8m"
    """The name of the group."""
    fields: tuple[int, ...] = (4, 40, 80, 160)
    """The number of fields of the first layer, then of every stage."""
    blocks: int = 4
    """The number of blocks of a stage, each of two convolutions."""
    repeats: int = 5
    """The number of rounds; every round builds everything once."""
    warmup: int = 0
    """Not used: nothing is warm in a new process."""


class Layer(NamedTuple):
    """A layer: "lift", "conv", "pointwise", "norm" or "linear"."""

    kind: str
    in_features: int
    out_features: int
    stride: int = 1


class Build(NamedTuple):
    """What one build took."""

    seconds: float
    compile_seconds: float
    beyond_bytes: int
    parameters: int


def run(config: Config) -> entry.Report:
    """Build both networks in turns, each time in a process of its own."""
    samples: dict[str, list[Build]] = {name: [] for name in FAMILIES}
    for _ in range(config.repeats):
        for name in FAMILIES:
            samples[name].append(in_a_new_process(name, config))
    times = {name: summary(builds) for name, builds in samples.items()}
    parameters = {f"parameters, {name}": builds[0].parameters for name, builds in samples.items()}
    ratio = timing.ratio(times["pdo_jax"], times["flax"])
    case = {"group": config.group, "layers": len(list(layers(config))), **parameters}
    metrics = {
        "seconds": times["pdo_jax"].median,
        "megabytes beyond the parameters": (times["pdo_jax"].temporary_bytes or 0) / 1e6,
        "pdo_jax / flax": ratio.median,
        **parameters,
    }
    return entry.Report([case | {"times": times, "ratios": {"pdo_jax / flax": ratio}}], metrics)


def layers(config: Config) -> Iterator[Layer]:
    """List the layers of a pre-activation wide ResNet, its features counted in fields."""
    inputs, *widths = config.fields
    yield Layer("lift", 3, inputs)
    for stage, width in enumerate(widths):
        for block in range(config.blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            yield Layer("norm", inputs, inputs)
            yield Layer("conv", inputs, width, stride)
            yield Layer("norm", width, width)
            yield Layer("conv", width, width)
            if inputs != width:
                yield Layer("pointwise", inputs, width, stride)
            inputs = width
    yield Layer("norm", inputs, inputs)
    yield Layer("linear", inputs, 10)


def equivariant(layer: Layer, config: Config, rngs: nnx.Rngs) -> nnx.Module:
    """Build a layer on fields."""
    kind, inputs, outputs, stride = layer
    match kind:
        case "norm":
            return nnx.BatchNorm(inputs, rngs=rngs)
        case "linear":
            return nnx.Linear(inputs, outputs, rngs=rngs)
    kinds: dict[str, Any] = {
        "lift": pdo.nn.PDOLift,
        "conv": pdo.nn.PDOConv,
        "pointwise": pdo.nn.PointwiseConv,
    }
    return kinds[kind](inputs, outputs, config.group, strides=stride, use_bias=False, rngs=rngs)


def plain(layer: Layer, config: Config, rngs: nnx.Rngs) -> nnx.Module:
    """Build a plain layer with about as many parameters."""
    width = math.sqrt(pdo.group(config.group).order)
    kind, inputs, outputs, stride = layer
    inputs = inputs if kind == "lift" else round(width * inputs)
    match kind:
        case "norm":
            return nnx.BatchNorm(inputs, rngs=rngs)
        case "linear":
            return nnx.Linear(inputs, outputs, rngs=rngs)
    window = (1, 1) if kind == "pointwise" else (3, 3)
    return nnx.Conv(
        inputs, round(width * outputs), window, strides=stride, use_bias=False, rngs=rngs
    )


FAMILIES = {"pdo_jax": equivariant, "flax": plain}


def build(family: str, config: Config) -> nnx.List:
    """Build all layers of a network."""
    rngs = nnx.Rngs(config.seed)
    return nnx.List([FAMILIES[family](layer, config, rngs) for layer in layers(config)])


def in_a_new_process(family: str, config: Config) -> Build:
    """Measure a build in a process that has imported this module and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(family, config, sender))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def measure(family: str, config: Config, sender: Connection) -> None:
    """Build a network once and send what it took."""
    jax.config.update("jax_enable_compilation_cache", False)
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jnp.zeros(1).block_until_ready()  # the backend starts
    compiling.clear()
    before, start = memory("VmRSS"), time.perf_counter()
    state = nnx.state(build(family, config))
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    leaves = jax.tree.leaves(state)
    beyond = memory("VmHWM") - before - sum(leaf.nbytes for leaf in leaves)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.filter_state(state, nnx.Param)))
    sender.send(Build(seconds, sum(compiling), beyond, parameters))


def memory(key: str) -> int:
    """Return the memory of this process in bytes: "VmRSS" now, "VmHWM" at its peak (on Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (words,) = (line.split() for line in lines if line.startswith(f"{key}:"))
    return 1024 * int(words[1])


def summary(builds: Sequence[Build]) -> timing.Timing:
    """Return the times of several builds; their memory is the largest."""
    seconds = [build.seconds for build in builds]
    return timing.Timing(
        **vars(timing.spread(seconds)),
        samples=seconds,
        compile_seconds=max(build.compile_seconds for build in builds),
        temporary_bytes=max(build.beyond_bytes for build in builds),
        flops=None,
    )
