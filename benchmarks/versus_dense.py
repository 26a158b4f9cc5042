"""One group convolution against the dense convolution that everybody else computes, and escnn.

    XLA         lax.conv of |G| C -> |G| C channels with a kernel that is ready
    im2col      the same as patches and one matrix product, its gradients by JAX
    direct, stencils, harmonic
                `group_conv` with that algorithm, the expansion of its weights included
    escnn       R2Conv with regular fields over C_n, in training mode: its expansion is included

All have 5 x 5 taps and as many channels as fields times group elements. Backward means the output
and, for a given cotangent, the gradients of the input and the weights. escnn has a process of its
own on the same cores, which waits for its turn: every round times every program.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import pdo_jax as pdo
from benchmarks import costs, entry, timing
from benchmarks.measures import escnn_process
from benchmarks.versus_lietorch import BACKWARD, FORWARD, PASSES, backward
from experiments import plots
from experiments.results import ROOT
from pdo_jax import algorithms

XLA, IM2COL, ESCNN = "XLA", "im2col", "escnn"
OURS = algorithms.ALGORITHMS[1:]
OWNERS = (XLA, IM2COL, *OURS, ESCNN)
AUTO = "auto"  # one of ours


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options, entry.Drawn):
    """Every algorithm of a group convolution against XLA's dense one, im2col and escnn."""

    cases: tuple[tuple[str, int, int, int], ...] = (
        ("p8", 45, 8, 16),
        ("p8", 23, 16, 16),
        ("p8", 7, 14, 32),
        ("p16", 22, 8, 16),
        ("p16", 11, 16, 16),
        ("p16", 4, 14, 32),
    )
    """A group C_n, a number of fields, a side of the square images, a number of images."""
    escnn: Path = Path(".venv-escnn/bin/python")
    """The Python that has escnn, from the project's folder; without it ours run alone."""
    repeats: int = 11
    """The number of rounds; every round times every program once."""


def run(config: Config) -> entry.Report:
    """Measure every case, forward and backward."""
    report = entry.Report()
    with escnn_process.start(ROOT / config.escnn) as peer:
        for case in config.cases:
            report.cases.append(measure(config, peer, *case))
    cases = plain(report.cases)
    rows = {
        where(case): {
            owner: found[f"{owner} / {XLA}, {BACKWARD}"]["median"]
            for owner in OWNERS
            if f"{owner} / {XLA}, {BACKWARD}" in (found := case["ratios"])
        }
        for case in cases
    }
    label = f"time / XLA's dense convolution, {BACKWARD}"
    plots.error_points(config.folder() / "versus_dense.png", rows, label)
    report.metrics = metrics(cases)
    return report


def measure(
    config: Config, peer: escnn_process.Peer, group: str, fields: int, pixels: int, batch: int
) -> dict[str, Any]:
    """Return one case."""
    basis = pdo.filter_basis(group)
    order, size = basis.group.order, basis.size
    shape = (batch, pixels, pixels, order, fields)
    count = (basis.num_operators, order, fields, fields)
    x, cotangent, w = entry.normal(config.seed, "float32", shape, shape, count)
    w = w / np.float32(math.sqrt(math.prod(count[:3])))
    kernel = jax.jit(partial(pdo.group_kernel, basis=basis))(w)
    flat = x.reshape(*shape[:3], -1), kernel, cotangent.reshape(*shape[:3], -1)
    programs = prepared(XLA, convolution, *flat) | prepared(IM2COL, im2col, *flat)
    for way in OURS:

        def call(x: jax.Array, w: jax.Array, way: str = way) -> jax.Array:
            return pdo.group_conv(x, w, basis, algorithm=way)

        programs |= prepared(way, call, x, w, cotangent)
    if peer.program:
        for name in PASSES:
            task = dict(order=order, fields=fields, pixels=pixels, batch=batch)
            program, _ = peer.program(task="layer", forward=name == FORWARD, **task)
            programs[f"{ESCNN}, {name}"] = program
    times = timing.measure(programs, repeats=config.repeats, warmup=config.warmup)
    point = costs.Point(basis.group.name, fields, pixels, batch)
    auto, _ = algorithms.choose(basis, costs.shapes(point, basis), 1, np.float32)
    values = {way: programs[f"{way}, {BACKWARD}"].call() for way in OURS}
    jax.clear_caches()
    return {
        "group": point.group, "fields": fields, "pixels": pixels, "batch": batch,
        "peer": peer.about, "auto": auto,
        "im2col bytes": 4 * math.prod(shape) * size**2,
        "differences": {way: difference(values[way], values[OURS[0]]) for way in OURS[1:]},
        "times": times, "ratios": ratios(times, auto),
    }  # fmt: skip


def prepared(
    owner: str,
    function: Callable[..., jax.Array],
    x: jax.Array,
    weights: jax.Array,
    cotangent: jax.Array,
) -> dict[str, timing.Program]:
    """Compile a convolution, and that with its gradients."""
    return {
        f"{owner}, {FORWARD}": timing.prepare(function, x, weights),
        f"{owner}, {BACKWARD}": timing.prepare(backward(function), x, weights, cotangent),
    }


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return XLA's convolution."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def im2col(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the same as one matrix product: the patches side by side, times the kernel."""
    size, (height, width) = len(kernel), x.shape[1:3]
    pad = (size // 2, size // 2)
    padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    taps = ((i, j) for i in range(size) for j in range(size))
    patches = [padded[:, i : i + height, j : j + width] for i, j in taps]
    return jnp.concatenate(patches, -1) @ kernel.reshape(-1, kernel.shape[-1])


def difference(one: Sequence[jax.Array], other: Sequence[jax.Array]) -> float:
    """Return the largest difference of output and gradients, relative to their norms."""
    errors = []
    for a, b in zip(one, other, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        errors.append(np.linalg.norm(a - b) / np.linalg.norm(b))
    return float(max(errors))


def ratios(times: dict[str, timing.Timing], auto: str) -> dict[str, timing.Spread]:
    """Compare everything with XLA's convolution, and ours with escnn."""
    found = {}
    for part in PASSES:
        for owner in (*OWNERS[1:], AUTO):
            key = f"{auto if owner == AUTO else owner}, {part}"
            for other in (XLA, ESCNN) if owner in (*OURS, AUTO) else (XLA,):
                if key in times and f"{other}, {part}" in times:
                    ratio = timing.ratio(times[key], times[f"{other}, {part}"])
                    found[f"{owner} / {other}, {part}"] = ratio
    return found


def plain(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return cases as a record has them."""
    return [
        case | {key: {k: vars(v) for k, v in case[key].items()} for key in ("times", "ratios")}
        for case in cases
    ]


def where(case: dict[str, Any]) -> str:
    """Return what a case is, in words."""
    return "{group}, {fields} fields, {batch} x {pixels} x {pixels}".format(**case)


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of the passes together, and the largest difference between ours."""
    found = {
        f"{key}, {where(case)}": value["median"]
        for case in cases
        for key, value in case["ratios"].items()
        if key.endswith(BACKWARD)
    }
    for way in OURS[1:]:
        largest = max(case["differences"][way] for case in cases)
        found[f"largest difference of {way} from {OURS[0]}"] = largest
    return found


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the tables of a record: milliseconds and ratios of the medians; memory."""
    rows = [
        f"| convolution | pass | {' | '.join(OWNERS)} | `auto` | `auto` / XLA | quartiles "
        "| `auto` / escnn |",
        f"|---|---|{'---|' * len(OWNERS)}---|---|---|---|",
    ]
    sizes = [
        f"| convolution | patches | {' | '.join(OWNERS[:-1])} | harmonic / patches |",
        f"|---|---|{'---|' * (len(OWNERS) - 1)}---|",
    ]
    for case in cases:
        times, found = case["times"], case["ratios"]
        for part in PASSES:
            timed = (times.get(f"{owner}, {part}") for owner in OWNERS)
            cells = [f"{1e3 * t['median']:.1f}" if t else "-" for t in timed]
            dense, escnn = (found.get(f"{AUTO} / {other}, {part}") for other in (XLA, ESCNN))
            name = where(case) if part == FORWARD else ""
            rows.append(
                f"| {name} | {part} | {' | '.join(cells)} | {case['auto']} "
                f"| {dense['median']:.2f} | {dense['lower']:.2f} to {dense['upper']:.2f} "
                f"| {format(escnn['median'], '.2f') if escnn else '-'} |"
            )
        memory = [times[f"{owner}, {BACKWARD}"]["temporary_bytes"] for owner in OWNERS[:-1]]
        cells = ["-" if size is None else f"{size / 2**20:.1f}" for size in memory]
        used, patches = memory[OWNERS.index("harmonic")], case["im2col bytes"]
        share = "-" if used is None else f"{used / patches:.2f}"
        sizes.append(f"| {where(case)} | {patches / 2**20:.1f} | {' | '.join(cells)} | {share} |")
    largest = {way: max(case["differences"][way] for case in cases) for way in OURS[1:]}
    words = " and ".join(f"{way} by {error:.0e}" for way, error in largest.items())
    return [
        "Milliseconds:", "", *rows, "",
        f"escnn: {cases[0]['peer']}. Output and gradients differ from those of direct by at most, "
        f"relative to their norms: {words}.", "",
        "Temporary memory of forward + backward, MiB:", "", *sizes,
    ]  # fmt: skip
