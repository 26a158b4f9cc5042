"""How far the estimates of the distance on SE(2) are from it, by anisotropy.

For diagonal metrics (1, m2, m3), over all points of a window but its middle, seen from orientation
0 and from the next one: the other orientations see the same points. The oracle is the shortest way
that Newton's method finds (`measures/geodesics.py`); where m2 = 1 the group is flat, and there the
oracle itself is checked against sqrt(|b|^2 + m3 dt^2). "semigroup" says how far the kernels of
dilation are from making one (`measures/semigroup.py`), as a part of the kernel, on average.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import entry
from benchmarks.measures import geodesics, semigroup
from experiments import tables
from pdo_jax.pde import geometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Common):
    """The errors of the estimates of distance on SE(2) against a numerical distance."""

    anisotropies: tuple[float, ...] = (1.0, 4.0, 16.0, 64.0)
    """m2 / m1."""
    turns: tuple[float, ...] = (0.3, 1.0, 3.0)
    """m3 / m1, in squares of pixels."""
    sizes: tuple[int, ...] = (5, 7)
    """The window has so many pixels in height and width, and `angles` orientations."""
    angles: int = 5
    """How many orientations the window has."""
    orientations: int = 8
    """Of the field."""


def run(config: Config) -> entry.Report:
    """Measure every window and metric."""
    cases = [
        _case((size, size, config.angles), config.orientations, anisotropy, turn)
        for size in config.sizes
        for anisotropy in config.anisotropies
        for turn in config.turns
    ]
    return entry.Report(cases, _metrics(cases, config), lines(cases))


def _points(window: tuple[int, int, int], orientations: int) -> np.ndarray:
    """Return the logarithmic coordinates `(N, 3)` of all points of a window but its middle."""
    coordinates = geometry.log_coordinates(window, orientations)[:2].reshape(-1, 3)
    return coordinates[np.any(coordinates != 0, axis=-1)]


def _case(
    window: tuple[int, int, int], orientations: int, anisotropy: float, turn: float
) -> dict[str, Any]:
    """Return the mean and the largest relative error of every estimate."""
    points = _points(window, orientations)
    metric = np.array([1.0, anisotropy, turn])
    exact = geodesics.distance(points, metric)
    case: dict[str, Any] = {"window": "x".join(map(str, window)), "m2": anisotropy, "m3": turn}
    for name in geometry.DISTANCES:
        with jax.enable_x64(True):
            squares = geometry.squared_distance(points, jnp.asarray(metric[None]), name)
        error = np.abs(np.sqrt(np.asarray(squares)[:, 0]) / exact - 1)
        case |= {f"{name}, mean": float(error.mean()), f"{name}, largest": float(error.max())}
        case[f"{name}, semigroup"] = _defect(anisotropy, turn, name)
    return case


@functools.cache  # the same for all windows
def _defect(anisotropy: float, turn: float, distance: str) -> float:
    return float(semigroup.defects(np.array([1.0, anisotropy, turn]), distance).mean())


def _metrics(cases: list[dict[str, Any]], config: Config) -> dict[str, float]:
    numbers = {}
    for anisotropy in config.anisotropies:
        of = [case for case in cases if case["m2"] == anisotropy]
        for name in geometry.DISTANCES:
            label = f"{name}, m2 / m1 = {anisotropy:g}"
            numbers[f"{label}, mean"] = float(np.mean([case[f"{name}, mean"] for case in of]))
            numbers[f"{label}, largest"] = max(case[f"{name}, largest"] for case in of)
            defects = [case[f"{name}, semigroup"] for case in of]
            numbers[f"{label}, semigroup"] = float(np.mean(defects))
    size = config.sizes[0]
    points = _points((size, size, config.angles), config.orientations)
    flat = np.ones(3)
    error = geodesics.distance(points, flat) - np.sqrt(
        np.sum(geodesics.half_angle(points) ** 2, axis=-1)
    )
    numbers["oracle, against the flat distance"] = float(np.abs(error).max())
    metric = np.array([1.0, config.anisotropies[-1], config.turns[0]])
    few, many = (geodesics.distance(points, metric, geodesics.WAVES * n) for n in (1, 2))
    numbers["oracle, with twice the waves"] = float(np.max(np.abs(few / many - 1)))
    return numbers


def lines(cases: list[dict[str, Any]]) -> list[str]:
    """Return the table: relative errors and defects in per cent."""
    columns = [(name, of) for of in ("mean", "largest", "semigroup") for name in geometry.DISTANCES]
    rows = [["window", "m2 / m1", "m3 / m1", *(f'"{name}", {of}' for name, of in columns)]]
    for case in cases:
        numbers = [f"{100 * case[f'{name}, {of}']:.1f} %" for name, of in columns]
        rows.append([case["window"], f"{case['m2']:g}", f"{case['m3']:g}", *numbers])
    return tables.markdown(rows)
