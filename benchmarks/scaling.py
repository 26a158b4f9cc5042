"""How the cost of one group convolution grows: with the batch, the pixels, the fields and |G|.

One size is varied at a time from a common point, and every algorithm computes the output and both
gradients, with the expansion of its weights. Time and temporary memory are fitted by a straight
line on logarithmic axes; its slope is the power with which they grow. The interval of the slope,
95 %, comes from how far the points lie off the line, be it by noise or by curvature.

The groups are p5 to p32, all with 5 x 5 taps: p3 has more stencils, and p4 has 3 x 3 taps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

import pdo_jax as pdo
from benchmarks import entry, timing
from benchmarks.versus_dense import OURS, plain
from benchmarks.versus_lietorch import backward
from experiments import plots

QUANTITIES = ("seconds", "MiB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options, entry.Drawn):
    """Time and memory of one layer against batch, pixels, fields and |G|: log-log slopes."""

    start: tuple[int, int, int, int] = (8, 16, 16, 8)
    """What is not varied: the number of images, a side of the images, fields, |G|."""
    batch: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Numbers of images."""
    pixels: tuple[int, ...] = (8, 11, 16, 23, 32)
    """Sides of the square images."""
    fields: tuple[int, ...] = (4, 8, 16, 32, 48)
    """Numbers of fields."""
    order: tuple[int, ...] = (5, 6, 8, 10, 12, 16, 24, 32)
    """Numbers of rotations."""
    repeats: int = 5
    """The number of rounds; every round times every program once."""


# What is varied, by what it is called in the tables. Pixels are counted, not their rows.
SWEEPS = {"batch": "images", "pixels": "pixels", "fields": "fields", "order": "|G|"}


def run(config: Config) -> entry.Report:
    """Measure all points together, in turns; then fit."""
    starting = dict(zip(SWEEPS, config.start, strict=True))
    points = [starting | {sweep: value} for sweep in SWEEPS for value in getattr(config, sweep)]
    distinct = [dict(found) for found in dict.fromkeys(tuple(p.items()) for p in points)]
    programs = {
        f"{key(point)}, {way}": program(config, way, **point) for point in distinct for way in OURS
    }
    times = timing.measure(programs, repeats=config.repeats, warmup=config.warmup)
    sweeps = [sweep for sweep in SWEEPS for _ in getattr(config, sweep)]
    report = entry.Report(
        cases=[
            {"sweep": sweep, **point, "ratios": {}}
            | {"times": {way: times[f"{key(point)}, {way}"] for way in OURS}}
            for sweep, point in zip(sweeps, points, strict=True)
        ]
    )
    cases = plain(report.cases)
    draw(config.folder() / "scaling.png", cases)
    report.metrics = metrics(cases)
    return report


def key(point: dict[str, int]) -> str:
    """Return what a point is told by."""
    return ", ".join(f"{name} {value}" for name, value in point.items())


def program(
    config: Config, way: str, *, batch: int, pixels: int, fields: int, order: int
) -> timing.Program:
    """Compile one convolution with its gradients."""
    basis = pdo.filter_basis(f"p{order}")
    shape, count = (batch, pixels, pixels, order, fields), (9, order, fields, fields)
    x, cotangent, w = entry.normal(config.seed, "float32", shape, shape, count)
    w = w / np.float32(math.sqrt(9 * order * fields))

    def call(x: jax.Array, w: jax.Array) -> jax.Array:
        return pdo.group_conv(x, w, basis, algorithm=way)

    return timing.prepare(backward(call), x, w, cotangent)


def line(
    cases: Sequence[dict[str, Any]], sweep: str, way: str, quantity: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is varied, and what it takes; none of it where it is unknown."""
    shown = [case for case in cases if case["sweep"] == sweep]
    sizes = np.array([case[sweep] ** (2 if sweep == "pixels" else 1) for case in shown])
    timed = [case["times"][way] for case in shown]
    if quantity == "seconds":
        return sizes, np.array([t["median"] for t in timed])
    known = [t["temporary_bytes"] for t in timed]
    return (sizes, np.array(known) / 2**20) if all(known) else (sizes[:0], np.zeros(0))


def slope(sizes: np.ndarray, values: np.ndarray) -> tuple[float, float] | None:
    """Return the power with which values grow, and half of its 95 % interval."""
    if len(sizes) < 3:
        return None
    fit: Any = stats.linregress(np.log(sizes), np.log(values))
    return float(fit.slope), float(fit.stderr * stats.t.ppf(0.975, len(sizes) - 2))


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return all slopes, and the half-widths of their intervals."""
    found = {}
    for sweep, name in SWEEPS.items():
        for quantity in QUANTITIES:
            for way in OURS:
                fitted = slope(*line(cases, sweep, way, quantity))
                if fitted:
                    words = f"of {quantity} in {name}, {way}"
                    found[f"slope {words}"], found[f"95 % of the slope {words}"] = fitted
    return found


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of a record: slopes, the range of the sizes, the last times."""
    rows = [
        f"| in | from | to | {' | '.join(f'{q}, {way}' for q in QUANTITIES for way in OURS)} |",
        f"|---|---|---|{'---|' * 2 * len(OURS)}",
    ]
    for sweep, name in SWEEPS.items():
        cells = []
        for quantity in QUANTITIES:
            for way in OURS:
                fitted = slope(*line(cases, sweep, way, quantity))
                cells.append("{:.2f} ± {:.2f}".format(*fitted) if fitted else "-")
        sizes, _ = line(cases, sweep, OURS[0], "seconds")
        name = name.replace("|", r"\|")  # ends no cell
        rows.append(f"| {name} | {sizes[0]} | {sizes[-1]} | {' | '.join(cells)} |")
    return rows


def draw(path: Path, cases: Sequence[dict[str, Any]]) -> None:
    """Draw time and memory on logarithmic axes, a panel for every size."""
    figure = Figure(figsize=(3.3 * len(SWEEPS), 5.6), layout="constrained")
    panels = figure.subplots(len(QUANTITIES), len(SWEEPS), sharey="row", squeeze=False)
    for quantity, row in zip(QUANTITIES, panels, strict=True):
        row[0].set_ylabel(quantity)
        for (sweep, name), axes in zip(SWEEPS.items(), row, strict=True):
            for way, colour, marker in zip(OURS, plots.COLOURS, plots.MARKERS, strict=False):
                found = line(cases, sweep, way, quantity)
                axes.loglog(*found, color=colour, marker=marker, ms=4, label=way)
            sizes, _ = line(cases, sweep, OURS[0], "seconds")
            axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
            axes.set_xticks([], minor=True)
            axes.set_xlabel(name)
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(OURS), frameon=False)
    plots.save(figure, path)
