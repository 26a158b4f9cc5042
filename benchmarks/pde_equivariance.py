"""How equivariant diffusion and dilation are at 45 degrees, against kernels of nearest neighbours.

The field is a smooth signal on SE(2), sampled and never interpolated (`measures/patches.py`): what
a layer makes of the turned field's patch is compared with what it makes of the patch, turned. The
negative control rotates the kernel of orientation 0 by nearest neighbour, as LieTorch 0.6 does.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pdo_jax as pdo
from benchmarks import entry
from benchmarks.measures import nearest, patches, signals
from experiments import tables
from pdo_jax.pde import geometry

OPERATORS = ("diffusion", "dilation, alpha 0.65", "dilation, alpha 1")
FITTING = ((0.5, 0.5, 1.0), (0.5, 0.6, 1.0), (1.0, 1.0, 1.0), (1.0, 1.1, 1.0), (2.0, 2.0, 1.0))
ANISOTROPIC = ((0.5, 2.0, 1.0), (1.0, 4.0, 1.0), (0.5, 8.0, 1.0), (0.5, 32.0, 1.0))
AREA = 1000.0  # pixels: where the points are
TURNED = 1  # the element of p8 that is 45 degrees
NEVER = 1e9  # a dilation's kernel where it does not reach


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Common):
    """The equivariance error of diffusion and dilation at 45 degrees."""

    metrics: tuple[tuple[float, float, float], ...] = (*FITTING, *ANISOTROPIC)
    """(m1, m2, m3); the nearly isotropic ones first."""
    bands: tuple[float, ...] = (0.5, 1.0)
    """The largest wave number of the signal, in radians a pixel."""
    size: int = 5
    """The window has so many pixels in height and width, and 5 orientations."""
    points: int = 256
    """Of the signal."""
    draws: int = 3
    """The number of signals; their seeds follow `seed`."""

    @property
    def seeds(self) -> list[int]:
        """The seeds of the signals."""
        return list(range(self.seed, self.seed + self.draws))


def run(config: Config) -> entry.Report:
    """Measure every signal, metric and operator in float64."""
    with jax.enable_x64(True):
        cases = [
            _case(band, metric, operator, config)
            for band in config.bands
            for metric in config.metrics
            for operator in OPERATORS
        ]
    return entry.Report(cases, _metrics(cases), lines(cases))


def fields(seed: int, band: float, size: int, points: int) -> np.ndarray:
    """Return patches of a signal and of the turned signal: `(2, points, size, size, 8, 1)`."""
    group = pdo.group("p8")
    signal = signals.plane_waves(seed, (8, 1), band)
    where = np.random.default_rng(seed).uniform(-AREA, AREA, (points, 1, 1, 2))
    steps = np.arange(size) - size // 2
    grid, found = np.stack(np.meshgrid(steps, -steps), -1), []
    for element in (0, TURNED):
        back = group.inverse[element]
        values = signal(where + grid @ group.matrices[back].T)
        found.append(values[..., group.product[back], :])
    return np.stack(found)


def kernel(
    operator: str, metric: tuple[float, float, float], size: int, distance: str
) -> np.ndarray:
    """Return the kernel of an operator, `distance` an estimate or "nearest"."""
    estimate = "log" if distance == "nearest" else distance
    values, window = jnp.array([metric]), (size, size, 5)
    if operator == "diffusion":
        k = np.asarray(pdo.pde.diffusion_kernel(values, window, 8, distance=estimate))
        if distance == "nearest":
            k = nearest.rotated(k, 0.0)
            k /= k.sum((1, 2, 3), keepdims=True)
        return k
    alpha = float(operator.split()[-1])
    k = np.asarray(pdo.pde.morphological_kernel(values, window, 8, alpha, distance=estimate))
    return nearest.rotated(k, NEVER) if distance == "nearest" else k


def error(operator: str, kernel: np.ndarray, x: np.ndarray) -> float:
    """Return the relative error at 45 degrees; `x` from `fields`."""
    size = x.shape[2]
    y = _apply(operator == "diffusion", jnp.asarray(x.reshape(-1, *x.shape[2:])), kernel)
    centres = np.asarray(y)[:, size // 2, size // 2].reshape(2, -1, 8, 1)
    return float(patches.errors(centres, pdo.group("p8"), (0, TURNED))[1])


@functools.partial(jax.jit, static_argnums=0)
def _apply(linear: bool, x: jax.Array, kernel: np.ndarray) -> jax.Array:
    return (pdo.pde.linear_conv if linear else pdo.pde.morphological_conv)(x, kernel)


def _case(
    band: float, metric: tuple[float, float, float], operator: str, config: Config
) -> dict[str, Any]:
    """Return the errors over all signals, by the kernel."""
    case: dict[str, Any] = {"band": band, "metric": list(metric), "operator": operator}
    for distance in (*geometry.DISTANCES, "nearest"):
        k = kernel(operator, metric, config.size, distance)
        found = [
            error(operator, k, fields(seed, band, config.size, config.points))
            for seed in config.seeds
        ]
        case[distance] = float(np.sqrt(np.mean(np.square(found))))
    return case


def _metrics(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many times lower the errors are than those of nearest neighbours.

    The ratio of root mean squares over the metrics of a kind, and the smallest of all ratios.
    """
    kinds = {"nearly isotropic": FITTING, "anisotropic": ANISOTROPIC}
    numbers = {}
    for band, operator, kind, distance in itertools.product(
        sorted({case["band"] for case in cases}), OPERATORS, kinds, geometry.DISTANCES
    ):
        of = [
            (case["nearest"], case[distance])
            for case in cases
            if (case["band"], case["operator"]) == (band, operator)
            and tuple(case["metric"]) in kinds[kind]
        ]
        if of:
            theirs, ours = np.array(of).T
            label = f"{operator}, {kind}, waves to {band:g}, {distance}"
            numbers[label] = float(np.sqrt(np.mean(theirs**2) / np.mean(ours**2)))
            numbers[f"{label}, least"] = float(np.min(theirs / ours))
    return numbers


def lines(cases: list[dict[str, Any]]) -> list[str]:
    """Return the table: the errors by signal, metric, operator and kernel."""
    rows = [["waves to", "m1, m2, m3", *OPERATORS]]
    for case in cases:
        metric = ", ".join(f"{m:g}" for m in case["metric"])
        if case["operator"] == OPERATORS[0]:
            rows.append([f"{case['band']:g}", metric])
        errors = [case[distance] for distance in (*geometry.DISTANCES, "nearest")]
        rows[-1].append(" / ".join(f"{value:.2g}" for value in errors))
    return tables.markdown(rows)
