"""Relaxed layers against the strict layer of the same width: time, memory, parameters.

    strict            PDOConv
    non-stationary    RelaxedConv with F filters and gains that vary with position and orientation
    orientation       the same with gains that vary with the orientation alone
    the others        RelaxedConv with each of the other relaxations

A program returns the output, and for a given cotangent the gradients of the input and of all
parameters: without the output a strict layer, which is linear, could leave out its forward pass. A
relaxed layer with F filters may take F + 0.3 times as long as the strict one, and its temporary
memory is to be linear in F.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import pdo_jax as pdo
from benchmarks import entry, layer, timing
from benchmarks.versus_lietorch import backward

STRICT, GAINS = "strict", "non-stationary"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Relaxed layers against PDOConv: time, memory and parameters by the number of filters."""

    cases: tuple[tuple[str, int, int, int], ...] = (("p8", 16, 28, 8), ("p4", 32, 16, 16))
    """A group, numbers of fields in and out, a side of the square image, a number of images."""
    filters: tuple[int, ...] = (1, 2, 3, 4)
    """The numbers F of filters of "non-stationary"."""
    dtype: entry.DType = "float32"
    """Of the input, the parameters and the computation."""
    repeats: int = 9
    """The number of rounds; every round times every program once."""


def layers(config: Config, group: str, fields: int) -> dict[str, nnx.Module]:
    """Return all layers of one case by name; the name of a relaxed one ends with its F."""
    dtype = jnp.dtype(config.dtype)

    def options() -> dict[str, Any]:
        return dict(dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(config.seed))

    found: dict[str, nnx.Module] = {STRICT: pdo.nn.PDOConv(fields, fields, group, **options())}
    for filters in config.filters:
        found[f"{GAINS}, {filters}"] = pdo.nn.RelaxedConv(
            fields, fields, group, filters=filters, **options()
        )
    others = {
        "orientation": {"position_bandwidth": None},
        **{name: {"relaxation": name} for name in ("weights", "partial", "residual")},
    }
    for name, chosen in others.items():
        relaxed = pdo.nn.RelaxedConv(fields, fields, group, **chosen, **options())
        found[f"{name}, {relaxed.filters}"] = relaxed
    return found


def run(config: Config) -> entry.Report:
    """Measure every case."""
    report = entry.Report()
    for group, fields, pixels, batch in config.cases:
        found = layers(config, group, fields)
        shape = (batch, pixels, pixels, pdo.group(group).order, fields)
        x, cotangent = entry.normal(config.seed, config.dtype, shape, shape)
        programs = {}
        for name, module in found.items():
            function, state = layer.split(module)
            programs[name] = timing.prepare(backward(function), state, x, cotangent)
        times = timing.measure(programs, repeats=config.repeats, warmup=config.warmup)
        case = {"group": group, "fields": fields, "pixels": pixels, "batch": batch}
        report.cases.append(
            case
            | {
                "parameters": {name: parameters(module) for name, module in found.items()},
                "times": times,
                "ratios": {
                    f"{name} / {STRICT}": timing.ratio(times[name], times[STRICT])
                    for name in found
                    if name != STRICT
                },
            }
        )
    report.metrics = metrics(report.cases)
    return report


def parameters(module: nnx.Module) -> int:
    """Return how many numbers a layer trains."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return how far the ratios are above F, and how straight the memory grows with F."""
    above: list[float] = []
    found: dict[str, float] = {}
    for case in cases:
        where = "{group}, {fields} fields, {pixels} pixels".format(**case)
        found |= {f"{key}, {where}": value.median for key, value in case["ratios"].items()}
        names = [name for name in case["times"] if name.startswith(GAINS)]
        counts = [int(name.split(", ")[1]) for name in names]
        ratios = (case["ratios"][f"{name} / {STRICT}"].median for name in names)
        above += [ratio - count for ratio, count in zip(ratios, counts, strict=True)]
        sizes = [case["times"][name].temporary_bytes for name in names]
        strict = case["times"][STRICT].temporary_bytes
        if len(counts) > 1 and strict:
            line = np.polyfit(counts, sizes, 1)
            found[f"memory of one more filter / {STRICT}, {where}"] = float(line[0] / strict)
            off = np.max(np.abs(np.polyval(line, counts) / sizes - 1))
            found[f"memory off a straight line, {where}"] = float(off)
    return {"largest ratio - F": max(above), **found}


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of a record: times and memory as parts of those of the strict layer."""
    rows = [
        "| layer | relaxation | F | forward + backward | time / strict | quartiles "
        "| temporary memory / strict | parameters | compiled in |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        what = "{group}, {fields} fields, {pixels}x{pixels}, batch {batch}".format(**case)
        strict = case["times"][STRICT]
        for name, timed in case["times"].items():
            relaxation, _, filters = name.partition(", ")
            ratio = case["ratios"].get(f"{name} / {STRICT}")
            spread = "{lower:.2f} to {upper:.2f}".format(**ratio) if ratio else ""
            size, whole = timed["temporary_bytes"], strict["temporary_bytes"]
            rows.append(
                f"| {what} | {relaxation} | {filters} | {1e3 * timed['median']:.1f} ms "
                f"| {ratio['median'] if ratio else 1:.2f} | {spread} "
                f"| {format(size / whole, '.2f') if size and whole else '-'} "
                f"| {case['parameters'][name]:,} | {timed['compile_seconds']:.1f} s |"
            )
            what = ""
    return rows
