"""One large image: time and memory of inference and training.

    as trained    inference; kernels are expanded in every call
    folded        inference after `pdo_jax.export.fold`
    training      a step: forward, backward, SGD and the running statistics
    checkpoint    the same with `checkpoint=True`

Memory is what is neither argument nor result, as the compiler lays it out. What takes more than
the limit is not run, and has no time.
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
from benchmarks import demo_network, entry, timing
from experiments import tables

WAYS = ("as trained", "folded", "training", "checkpoint")
# Without this, XLA on a CPU merges what is computed again with what was computed first.
CPU_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def resnet8(**options: Any) -> nnx.Module:
    """Return a small residual network over p8 that is exact at quarter turns at every size."""
    return pdo.models.resnet8(downsampling="blur", invariants=32, **options)


NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "resnet8": resnet8,
    "vessel_gcnn": pdo.models.vessel_gcnn,
    "pde_segmenter": pdo.models.pde_segmenter,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """One large image: inference, folded or not, and training, with `checkpoint` or without."""

    networks: tuple[Literal["resnet8", "vessel_gcnn", "pde_segmenter"], ...] = (
        "resnet8",
        "vessel_gcnn",
        "pde_segmenter",
    )
    """A classifier over p8, and two segmenters: by splines and by PDEs."""
    pixels: tuple[int, ...] = (512, 1024)
    """The side of the image."""
    ways: tuple[Literal["as trained", "folded", "training", "checkpoint"], ...] = WAYS
    """What is measured."""
    algorithm: str = "auto"
    """How convolutions are computed; those that it does not serve are left to "auto"."""
    limit: float = 16.0
    """GiB of temporary memory beyond which a program is not run."""
    cores: int = 2
    """Pin the process to so many CPU cores; 0 leaves it free."""
    repeats: int = 2
    """The number of rounds; every round times every program once."""
    warmup: int = 1
    """The number of calls of every program before the first round."""


def run(config: Config) -> entry.Report:
    """Measure every network at every size, its programs in turns."""
    report = entry.Report()
    for network in config.networks:
        for pixels in config.pixels:
            case = measure(config, network, pixels)
            report.cases.append({"network": network, "pixels": pixels, **case})
            for way, size in case["memory"].items():
                report.metrics[f"{network}, {pixels} pixels, {way}, MiB"] = size / 2**20
            for way, time in case["times"].items():
                report.metrics[f"{network}, {pixels} pixels, {way}, seconds"] = time.median
    report.lines = lines(report.cases)
    return report


def measure(config: Config, network: str, pixels: int) -> dict[str, Any]:
    """Return the bytes of every way, and the times of those that fit."""
    programs = {way: program(config, network, pixels, way) for way in config.ways}
    memory = {way: p.temporary_bytes or 0 for way, p in programs.items()}
    fit = {way: p for way, p in programs.items() if memory[way] <= config.limit * 2**30}
    times = timing.measure(fit, repeats=config.repeats, warmup=config.warmup) if fit else {}
    pairs = [("folded", "as trained"), ("checkpoint", "training")]
    ratios = {
        f"{one} / {other}": timing.ratio(times[one], times[other])
        for one, other in pairs
        if one in times and other in times
    }
    return {"memory": memory, "times": times, "ratios": ratios}


def program(config: Config, network: str, pixels: int, way: str) -> timing.Program:
    """Return a network at one size as a program."""
    model = NETWORKS[network](
        in_features=3, checkpoint=way == "checkpoint", rngs=nnx.Rngs(config.seed)
    )
    for _, layer in nnx.iter_graph(model):
        if isinstance(layer, pdo.nn.PDOConv) and max(layer.strides) == 1:
            layer.algorithm = config.algorithm
    (x,) = entry.normal(config.seed, "float32", (1, pixels, pixels, 3))
    options = CPU_OPTIONS if jax.default_backend() == "cpu" else None
    if way in ("training", "checkpoint"):
        y = jnp.zeros((1,), jnp.int32) if network == "resnet8" else jnp.ones((1, pixels, pixels, 1))
        loss = demo_network.cross_entropy if network == "resnet8" else binary_cross_entropy
        step, state = demo_network.training_step(model, optax.sgd(0.1), loss)
        return timing.prepare(step, state, x, y, options=options)
    model = pdo.export.fold(model) if way == "folded" else model
    model.eval()
    definition, state = nnx.split(model)
    return timing.prepare(
        lambda state, x: nnx.merge(definition, state)(x), state, x, options=options
    )  # pyright: ignore


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean over the pixels."""
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


def lines(cases: list[dict[str, Any]]) -> list[str]:
    """Return the table: a row a network, size and way."""
    rows = [["network", "pixels", "what", "MiB", "seconds"]]
    for case in cases:
        for way, size in case["memory"].items():
            time = case["times"].get(way)
            median = time["median"] if isinstance(time, dict) else time and time.median
            words = [case["network"], f"{case['pixels']} x {case['pixels']}", way]
            rows.append([*words, f"{size / 2**20:,.0f}", f"{median:.2f}" if median else "-"])
    return tables.markdown(rows)
