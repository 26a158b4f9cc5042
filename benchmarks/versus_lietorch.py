"""The operators on SE(2) against LieTorch's compiled ones: time, memory, and the values themselves.

    dilation              with the kernel of a metric; gradients of the field and the metric
    morphological_conv    with any kernels; gradients of the field and the kernels
    linear_conv           likewise
    convection            gradients of the field and the vector

"Forward + backward" returns the value and both gradients for a given cotangent. LieTorch 0.6.2,
whose compiled code runs on CPUs, has a Python and a process of its own, which waits for its turn:
every round times its programs and ours. Its kernels are rotated by nearest neighbour,
ours are sampled at rotated coordinates; for four orientations both are the same, and there the
values are compared. The plain loop is `max_h x(h) - k(h)` as one would write it, a shifted
difference after the other, with the gradient that JAX makes of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

import pdo_jax as pdo
from benchmarks import entry, timing
from benchmarks.measures import lietorch_process
from experiments.results import ROOT

OURS, PLAIN, LIETORCH = "ours", "plain loop", "LieTorch"
FORWARD, BACKWARD = PASSES = "forward", "forward + backward"
ALPHA = 0.65
Operator = Literal["dilation", "morphological_conv", "linear_conv", "convection"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
Arrays = dict[str, jax.Array]
Window = tuple[int, int, int]
COMPARED: Window = (5, 5, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Dilation, convolutions and convection on SE(2) against LieTorch: time, memory, values."""

    lietorch: Path = Path(".venv-lietorch/bin/python")
    """The Python that has LieTorch 0.6.2, from the project's folder; without it ours run alone."""
    shape: tuple[int, int, int, int, int] = (4, 28, 28, 8, 12)
    """Of the field: images, rows, columns, orientations, channels."""
    kernel_sizes: tuple[tuple[int, int, int], ...] = ((5, 5, 5), (5, 5, 3), (3, 3, 3))
    """Windows: rows, columns, orientations. Convection has none, and is measured once."""
    operators: tuple[Operator, ...] = OPERATORS
    """What to measure."""
    plain: bool = True
    """Time the plain loop, too."""


def ours(size: Window) -> dict[str, tuple[Callable[..., jax.Array], str]]:
    """Return our operators by name: a function of the field and a parameter, and which one."""
    return {
        "dilation": (lambda x, m: pdo.pde.dilation(x, m, size, ALPHA), "metric"),
        "morphological_conv": (pdo.pde.morphological_conv, "kernel"),
        "linear_conv": (pdo.pde.linear_conv, "weights"),
        "convection": (pdo.pde.convection, "shift"),
    }


def run(config: Config) -> entry.Report:
    """Measure every operator, forward and backward."""
    report = entry.Report()
    for size in config.kernel_sizes:
        report.cases += cases(config, size, first=size == config.kernel_sizes[0])
    report.metrics = metrics(report.cases)
    return report


def cases(config: Config, size: Window, first: bool) -> list[dict[str, Any]]:
    """Measure the operators with one window; convection only with the first."""
    rows, found = [], arrays(config, size)
    with lietorch_process.start(ROOT / config.lietorch, lambda: given(config, size)) as peer:
        if not peer.program and first:
            print(f"LieTorch: {peer.about}.\n{lietorch_process.INSTALL}\n")
        for name in config.operators:
            if name == "convection" and not first:
                continue
            function, parameter = ours(size)[name]
            operands = found["x"], found[parameter], found["cotangent"]
            programs = prepared(OURS, function, *operands)
            if config.plain and name == "morphological_conv":
                programs |= prepared(PLAIN, plain, *operands)
            if peer.program:
                programs |= {f"{LIETORCH}, {p}": peer.program(f"{name}, {p}") for p in PASSES}
            times = timing.measure(programs, repeats=config.repeats, warmup=config.warmup)
            window = None if name == "convection" else list(size)
            case = {"operator": name, "window": window, "peer": peer.about}
            case |= differences(config, name, peer.values)
            case["input bytes"] = operands[0].nbytes
            rows.append(case | {"times": times, "ratios": ratios(times)})
    return rows


def arrays(config: Config, size: Window) -> Arrays:
    """Return the arguments of all operators, in float32."""
    *_, orientations, channels = config.shape
    rng = np.random.default_rng(config.seed)
    x, cotangent = (jnp.asarray(rng.normal(size=config.shape), jnp.float32) for _ in range(2))
    # LieTorch draws its metrics from this interval, for 5 x 5 x 5.
    metric = jnp.asarray(rng.uniform(0.28, 3.5, (channels, 3)), jnp.float32)
    shift = jnp.asarray(rng.normal(size=(channels, 3)), jnp.float32)
    return {
        "x": x,
        "cotangent": cotangent,
        "metric": metric,
        "shift": shift,
        "kernel": pdo.pde.morphological_kernel(metric, size, orientations, ALPHA),
        "weights": pdo.pde.diffusion_kernel(metric, size, orientations),
    }


def prepared(
    owner: str,
    function: Callable[..., jax.Array],
    x: jax.Array,
    parameter: jax.Array,
    cotangent: jax.Array,
) -> dict[str, timing.Program]:
    """Compile an operator and its gradients."""
    return {
        f"{owner}, {FORWARD}": timing.prepare(function, x, parameter),
        f"{owner}, {BACKWARD}": timing.prepare(backward(function), x, parameter, cotangent),
    }


def backward(function: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
    """Return the value and both gradients as a function of field, parameter and cotangent."""

    def both(x: jax.Array, parameter: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(function, x, parameter)
        return (y, *pull(cotangent))

    return both


def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the max-plus convolution as a plain loop over the taps."""
    _, height, width, orientations, _ = x.shape
    *window, turns = kernel.shape[1:4]
    sides = [(0, 0), *((n // 2, n // 2) for n in window), (0, 0), (0, 0)]
    padded = jnp.pad(x, sides, constant_values=float(jnp.finfo(x.dtype).min))
    padded = jnp.pad(padded, [(0, 0)] * 3 + [(turns // 2,) * 2, (0, 0)], mode="wrap")
    taps = kernel.reshape(orientations, -1, x.shape[-1])

    def step(y: jax.Array, tap: jax.Array) -> tuple[jax.Array, None]:
        first = (0, *jnp.unravel_index(tap, (*window, turns)), 0)
        part = jax.lax.dynamic_slice(padded, first, x.shape)
        return jnp.maximum(y, part - jax.lax.dynamic_index_in_dim(taps, tap, 1, False)), None

    y, _ = jax.lax.scan(step, jnp.full(x.shape, -jnp.inf, x.dtype), jnp.arange(taps.shape[1]))
    return y


def ratios(times: dict[str, timing.Timing]) -> dict[str, timing.Spread]:
    """Compare our programs with those of others, as far as these are there."""
    found = {}
    for part in PASSES:
        for other in (LIETORCH, PLAIN):
            if f"{other}, {part}" in times:
                one, two = times[f"{OURS}, {part}"], times[f"{other}, {part}"]
                found[f"{OURS} / {other}, {part}"] = timing.ratio(one, two)
    return found


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the ratios, the memory, and the largest differences."""
    found = {}
    for case in cases:
        name = " ".join([case["operator"], *window(case)])
        found |= {f"{key}, {name}": value.median for key, value in case["ratios"].items()}
        size = case["times"][f"{OURS}, {BACKWARD}"].temporary_bytes
        if size is not None:
            found[f"temporary memory / input, {name}"] = size / case["input bytes"]
    for key in ("difference", "difference of gradients"):
        values = [case[key] for case in cases if case[key] is not None]
        if values:
            found[f"largest {key}, four orientations"] = max(values)
    return found


def window(case: dict[str, Any]) -> list[str]:
    """Return the window of a case in words, such as "5x5x3"; nothing for convection."""
    return ["x".join(map(str, case["window"]))] if case["window"] else []


def recorded() -> list[dict[str, Any]]:
    """Return the cases of the record, none if there is no record yet."""
    file = ROOT / "benchmarks/results/versus_lietorch.json"
    if not file.exists():
        return []
    columns = json.loads(file.read_text(encoding="utf-8"))["curve"]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of a record: milliseconds of the median, and the ratio to LieTorch's."""
    if not cases:
        return ["No run is on record yet."]
    rows = [
        "| operator | window | pass | LieTorch | plain loop | ours | ours / LieTorch | ours, MiB "
        "| plain loop, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        times = case["times"]
        for part in PASSES:
            seconds, memory = {}, {}
            for owner in (LIETORCH, PLAIN, OURS):
                timed = times.get(f"{owner}, {part}")
                seconds[owner] = f"{1e3 * timed['median']:.1f} ms" if timed else "-"
                size = timed and timed["temporary_bytes"]
                memory[owner] = "-" if size is None else f"{size / 2**20:.1f}"
            ratio = case["ratios"].get(f"{OURS} / {LIETORCH}, {part}")
            rows.append(
                f"| {case['operator']} | {' '.join(window(case))} | {part} "
                f"| {seconds[LIETORCH]} | {seconds[PLAIN]} "
                f"| {seconds[OURS]} | {format(ratio['median'], '.3f') if ratio else '-'} "
                f"| {memory[OURS]} | {memory[PLAIN]} |"
            )
    differences = [case["difference"] for case in cases if case["difference"] is not None]
    if differences:
        words = "values for four orientations differ by at most"
        rows += ["", f"{cases[0]['peer']}; {words} {max(differences):.0e} of the largest."]
    return rows


# -------------------------------------------------------------------------------------- LieTorch


def compared(config: Config) -> Config:
    """Return a small case with four orientations, where both rotate kernels exactly."""
    return dataclasses.replace(config, shape=(2, 9, 8, 4, 3))


def differences(
    config: Config, name: str, theirs: Mapping[str, np.ndarray]
) -> dict[str, float | None]:
    """Return the largest differences of values and gradients, relative to the largest number."""
    if not theirs:
        return {"difference": None, "difference of gradients": None}
    config = compared(config)
    function, parameter = ours(COMPARED)[name]
    found = arrays(config, COMPARED)
    y, dx, dp = jax.jit(backward(function))(found["x"], found[parameter], found["cotangent"])
    if dp.ndim == 5:  # LieTorch has one kernel for all orientations: turned back and summed
        dp = jnp.sum(jnp.stack([jnp.rot90(dp[t], -t) for t in range(len(dp))]), axis=0)

    def error(value: jax.Array, key: str) -> float:
        reference = theirs[f"{name}_{key}"]
        return float(np.max(np.abs(value - reference)) / np.max(np.abs(reference)))

    return {
        "difference": error(y, "y"),
        "difference of gradients": max(error(dx, "x"), error(dp, "parameter")),
    }


def given(config: Config, size: Window) -> dict[str, np.ndarray]:
    """Return what the worker gets: of the kernels that for the first orientation alone."""
    sets = {"compared": arrays(compared(config), COMPARED), "timed": arrays(config, size)}
    named = {f"{part}_{key}": a for part, found in sets.items() for key, a in found.items()}
    kernels = ("kernel", "weights")
    found = {key: np.asarray(a[0] if key.endswith(kernels) else a) for key, a in named.items()}
    return {"alpha": np.array(ALPHA), **found}
