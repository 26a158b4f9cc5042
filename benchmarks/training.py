"""How steps are best taken: one by one or several in a call, seeds apart or in one program.

    one by one   a call of the compiled step for every step and seed
    fused        all steps of a seed in one call, by lax.scan
    together     a call for every step, all seeds in it, by vmap

Every program does the same work: `steps` steps of `seeds` networks, forward, backward and update.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks import entry, timing
from experiments import zoo
from experiments.evaluation import Prepare
from experiments.execution import Work
from experiments.recipes import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Training steps one by one, fused, or of several seeds together."""

    networks: tuple[zoo.Name, ...] = ("mnist_cnn", "invariant_small", "mnist_rot")
    """Which networks; all of them see 28 x 28 pixels."""
    batch: int = 32
    """Images in a step."""
    steps: int = 4
    """Of every seed in one sample."""
    number: int = 3
    """How many seeds."""


def run(config: Config) -> entry.Report:
    """Measure every network in the three ways."""
    report = entry.Report()
    for network in config.networks:
        times = timing.measure(programs(config, network), repeats=config.repeats)
        ratios = {
            f"{way} / one by one": timing.ratio(times[way], times["one by one"])
            for way in ("fused", "together")
        }
        report.cases.append({"network": network, "times": times, "ratios": ratios})
        report.metrics |= {f"{name}, {network}": ratio.median for name, ratio in ratios.items()}
    return report


def programs(config: Config, network: str) -> dict[str, timing.Program]:
    """Return the three ways to train one network."""
    rng = np.random.default_rng(config.seed)
    count = config.batch * config.steps
    images = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, count).astype(np.int32)
    work = Work(images, labels, Recipe(batch_size=config.batch), Prepare())
    seeds = list(range(config.number))
    models = [
        zoo.build(network, {}, num_classes=10, in_features=1, dtype="float32", seed=seed)
        for seed in seeds
    ]
    alone = [work.start([model], [seed], False) for model, seed in zip(models, seeds, strict=True)]
    stacked = work.start(models, seeds, True)
    return {
        "one by one": _program(work, alone, False, 1, config.steps),
        "fused": _program(work, alone, False, config.steps, config.steps),
        "together": _program(work, [stacked], True, 1, config.steps),
    }


def _program(
    work: Work, starts: list[Any], together: bool, fused: int, steps: int
) -> timing.Program:
    graph, first = starts[0]
    program = work.program(graph, first, together, fused)
    orders = [program.order(state, 1) for _, state in starts]
    # Steps donate their states, which several programs start from.
    states = [jax.tree.map(lambda array: array.copy(), state) for _, state in starts]

    def call() -> Any:
        numbers = None
        for i, (state, order) in enumerate(zip(states, orders, strict=True)):
            for position in range(0, steps, fused):
                state, numbers, _ = program.run(state, work.data, order, position, fused)
            states[i] = state
        return states, numbers

    return timing.Program(call)
