"""What each way to compute a convolution costs: the measurements behind `algorithm="auto"`.

Shapes are drawn by a fixed seed. Each is measured with every algorithm that serves it, forward and
backward with the expansion of the kernel; every fourth one forward alone, too. The costs of
`pdo_jax.algorithms` are fitted to the points of even number, by relative error. On the others,
which took no part, the choice is compared with the fastest: its regret is how much longer it takes.

A run takes about an hour. Points are appended to a journal as they are measured, and one that is
there is not measured again.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

import pdo_jax as pdo
from benchmarks import entry, timing
from benchmarks.versus_lietorch import backward
from pdo_jax import algorithms
from pdo_jax.basis import FilterBasis

GROUPS = tuple(f"p{n}" for n in (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16)) + ("p4m", "p6m", "p8m")
WAYS = algorithms.ALGORITHMS[1:]
RATE = 1e-11  # seconds of an operation, of which no shape may have too many


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Every algorithm on shapes drawn by a seed; the costs that "auto" reckons with; its regret."""

    points: int = 200
    """How many shapes are drawn."""
    first: int = 0
    """The number of the first one that is measured."""
    journal: Path = Path("costs.jsonl")
    """Where points are kept as they are measured."""
    seconds: float = 2.0
    """Shapes that take the direct algorithm longer, by an estimate, are not drawn."""
    budget: float = 1.5
    """The rounds of a point end after so many seconds; one that takes as long has one round."""
    repeats: int = 15
    """The largest number of rounds."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A shape: a group convolution of as many fields as it makes, and what it takes.

    Attributes:
        group: its name.
        fields: in and out.
        pixels: the side of the square images.
        batch: the number of images.
        seconds: by algorithm, forward and backward.
        forward: by algorithm, the output alone, for some.
    """

    group: str
    fields: int
    pixels: int
    batch: int
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    forward: dict[str, float] = dataclasses.field(default_factory=dict)


def draw(config: Config) -> list[Point]:
    """Return the shapes: sizes uniform in their logarithms, groups in turn."""
    rng = np.random.default_rng(config.seed)
    found: list[Point] = []
    while len(found) < config.points:
        fields, pixels, batch = (
            round(math.exp(rng.uniform(math.log(low), math.log(high))))
            for low, high in ((1, 64), (7, 64), (1, 128))
        )
        group = str(rng.choice(GROUPS))
        basis = pdo.filter_basis(group)
        width = basis.group.order * fields
        operations = 6 * basis.size**2 * width**2 * batch * pixels**2
        numbers = basis.size**2 * width * batch * pixels**2 + 3 * (basis.size * width) ** 2
        if operations * RATE < config.seconds and 4 * numbers < 2**32:
            found.append(Point(group, fields, pixels, batch))
    return found


def run(config: Config) -> entry.Report:
    """Measure what is not in the journal; then fit and judge."""
    known = {}
    if config.journal.exists():
        for line in config.journal.read_text().splitlines():
            point = Point(**json.loads(line))
            known[key(point)] = point
    points = []
    for number, point in enumerate(draw(config)):
        if key(point) not in known:
            if number < config.first:
                continue
            point = measure(config, point, forward=number % 4 == 0)
            with config.journal.open("a") as journal:
                journal.write(json.dumps(dataclasses.asdict(point)) + "\n")
            print(number, point, flush=True)
        points.append(known.get(key(point), point))
    costs = fit(points[::2])
    return entry.Report(
        cases=[dataclasses.asdict(point) for point in points],
        metrics={f"{way}, {name}": cost for way in WAYS
                 for name, cost in zip(algorithms.COUNTS, costs[way], strict=True)}
        | {f"{name}, fitted": value for name, value in judge(points[::2], costs).items()}
        | {f"{name}, held out": value for name, value in judge(points[1::2], costs).items()},
        lines=["COSTS of pdo_jax.algorithms:", *(f'    "{way}": {costs[way]},' for way in WAYS)],
    )  # fmt: skip


def key(point: Point) -> tuple:
    """Return what a shape is told by."""
    return point.group, point.fields, point.pixels, point.batch


def measure(config: Config, point: Point, *, forward: bool) -> Point:
    """Return the point with its times."""
    basis, dtype = pdo.filter_basis(point.group), jnp.float32
    order, fields = basis.group.order, point.fields
    shape = point.batch, point.pixels, point.pixels, order, fields
    weights = basis.num_operators, order, fields, fields
    x, cotangent, w = entry.normal(config.seed, "float32", shape, shape, weights)
    w = w.astype(dtype) / math.sqrt(weights[0] * order * fields)

    def call(way: str) -> Any:
        return lambda w, x: pdo.group_conv(x, w, basis, algorithm=way)

    programs = {way: timing.prepare(backward(call(way)), w, x, cotangent) for way in WAYS}
    seconds = rounds(config, programs)
    alone = {}
    if forward:
        alone = rounds(config, {way: timing.prepare(call(way), w, x) for way in WAYS})
    jax.clear_caches()
    return dataclasses.replace(point, seconds=seconds, forward=alone)


def rounds(config: Config, programs: dict[str, timing.Program]) -> dict[str, float]:
    """Return the medians, of as many rounds as there is time for."""
    first = timing.measure(programs, repeats=1, warmup=1)
    once = sum(max(t.median, timing.MIN_SECONDS) for t in first.values())
    repeats = min(config.repeats, int(config.budget / once))
    times = timing.measure(programs, repeats=repeats, warmup=1) if repeats > 2 else first
    return {way: t.median for way, t in times.items()}


def shapes(point: Point, basis: FilterBasis) -> algorithms.Shapes:
    """Return what the estimate is made of."""
    pad = basis.size // 2
    return algorithms.Shapes(
        batch=point.batch,
        sizes=(point.pixels,) * 2,
        channels_in=point.fields,
        channels_out=point.fields,
        field=True,
        strides=(1, 1),
        enlargement=(1, 1),
        dilation=(1, 1),
        pads=((pad, pad), (pad, pad)),
    )


def counts(point: Point, way: str) -> np.ndarray:
    """Return what is counted for a way."""
    basis = pdo.filter_basis(point.group)
    return np.array(algorithms.counts(way, basis, shapes(point, basis)))


def fit(points: list[Point]) -> dict[str, tuple[float, ...]]:
    """Return the costs, none below 0, of least relative error.

    XLA's convolutions obey no such sum closely, and the choice falls where an estimate is too low.
    So the direct costs are multiplied by the factor of least mean regret.
    """
    found = {}
    for way in WAYS:
        table = np.stack([counts(p, way) / p.seconds[way] for p in points])
        scale = np.linalg.norm(table, axis=0)
        scale[scale == 0] = 1
        costs, _ = nnls(table / scale, np.ones(len(points)))
        found[way] = tuple(float(f"{c:.3g}") for c in costs / scale)

    def raised(factor: float) -> dict[str, tuple[float, ...]]:
        return found | {"direct": tuple(float(f"{factor * c:.3g}") for c in found["direct"])}

    factors = np.linspace(0.8, 2, 25)
    return raised(min(factors, key=lambda f: judge(points, raised(f))["mean regret"]))


def judge(points: list[Point], costs: dict[str, tuple[float, ...]]) -> dict[str, float]:
    """Return how the choice does: regrets, and how often it is right where it matters."""
    taken, regrets, alone, missed, clear = [], [], [], 0, 0
    for point in points:
        guess = {way: float(np.dot(costs[way], counts(point, way))) for way in WAYS}
        way, _ = algorithms.cheapest(guess)
        taken.append(way)
        regrets.append(point.seconds[way] / min(point.seconds.values()) - 1)
        if point.forward:
            alone.append(point.forward[way] / min(point.forward.values()) - 1)
        others = min(t for name, t in point.seconds.items() if name != "harmonic")
        if point.seconds["harmonic"] < others / 1.1:
            clear += 1
            missed += way != "harmonic"
    found = {
        "median regret": float(np.median(regrets)),
        "mean regret": float(np.mean(regrets)),
        "95th percentile of the regret": float(np.percentile(regrets, 95)),
        "largest regret": float(np.max(regrets)),
        "harmonic faster by more than 10 %": clear,
        "of which not taken": missed,
    }
    found |= {f"{way} taken": taken.count(way) for way in WAYS}
    if alone:
        found["median regret of the forward pass"] = float(np.median(alone))
    return found
