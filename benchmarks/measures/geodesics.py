"""The Riemannian distance of SE(2) to many digits, for diagonal metrics: an oracle in NumPy.

Seen in the frame half-way between both orientations, a way to (b1, b2, dt) turns as t(s), from
-dt/2 to dt/2. Given the turning, the best driving is a linear problem with quadratic cost, so

    rho^2 = min over t of   b^T M(t)^-1 b + m3 int t'(s)^2 ds,       0 <= s <= 1
    M(t) = int R(t) diag(1/m1, 1/m2) R(t)^T ds

is a problem for one function of one variable. It is written as dt (s - 1/2) + sum_k a_k sin k pi s
and solved for the a_k by Newton's method from several starts. Every result is the length of a way
that there is, up to the quadrature: it cannot be too short. How much too long it can be is measured
by more waves, and by the shortest ways on a graph, which share nothing with it but the metric.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy import sparse

WAVES, NODES, STEPS = 8, 33, 40
# The first coefficients to start from: signs of a bump and of a wiggle, small and large.
STARTS = ((0.0, 0.0), (1.2, 0.0), (0.0, 1.0), (0.3, 0.5))


def distance(coordinates: np.ndarray, metric: np.ndarray, waves: int = WAVES) -> np.ndarray:
    """Return the Riemannian distances `(N,)` of points from the one that they are seen from.

    Args:
        coordinates: `(N, 3)` logarithmic coordinates.
        metric: `(3,)` positive: m1, m2 and m3.
        waves: the number of coefficients of a way.
    """
    problem = _Turning.of(coordinates, metric, waves)
    signs = sorted(
        {(a * i, b * j) for a, b in STARTS for i, j in itertools.product((1, -1), (1, -1))}
    )
    return np.sqrt(np.min([_minimum(problem, start) for start in signs], axis=0))


def half_angle(coordinates: np.ndarray) -> np.ndarray:
    """Return (b1, b2, dt) of logarithmic coordinates: the offset in the frame half-way."""
    scale = np.sinc(coordinates[..., 2:] / (2 * np.pi))
    return np.concatenate([coordinates[..., :2] * scale, coordinates[..., 2:]], -1)


@dataclasses.dataclass(frozen=True)
class _Turning:
    """The cost as a function of the coefficients `(N, waves)` of the turning.

    Attributes:
        b: `(N, 2)`.
        dt: `(N,)`.
        metric: `(3,)`.
        s: the nodes of the quadrature; `weights` belongs to it.
        sines: `(waves, nodes)`.
        bending: `(waves,)` int of the squared derivative of the sines.
    """

    b: np.ndarray
    dt: np.ndarray
    metric: np.ndarray
    s: np.ndarray
    weights: np.ndarray
    sines: np.ndarray
    bending: np.ndarray

    @classmethod
    def of(cls, coordinates: np.ndarray, metric: np.ndarray, waves: int) -> _Turning:
        nodes, weights = np.polynomial.legendre.leggauss(NODES + 2 * waves)
        s, k = (nodes + 1) / 2, np.pi * np.arange(1, waves + 1)
        b = half_angle(coordinates)
        sines = np.sin(np.outer(k, s))
        return cls(b[:, :2], b[:, 2], metric, s, weights / 2, sines, k**2 / 2)

    def cost(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the cost `(N,)`, its gradient and its Hessian."""
        m1, m2, m3 = self.metric
        mean, half = (1 / m1 + 1 / m2) / 2, (1 / m1 - 1 / m2) / 2
        turning = self.dt[:, None] * (self.s - 0.5) + a @ self.sines
        cosine, sine = np.cos(2 * turning) * self.weights, np.sin(2 * turning) * self.weights
        c, d = half * cosine.sum(-1), half * sine.sum(-1)
        inverse = _symmetric(mean - c, -d, mean + c) / (mean**2 - c**2 - d**2)[:, None, None]
        p = np.einsum("nij,nj->ni", inverse, self.b)
        value = np.sum(self.b * p, -1) + m3 * (self.dt**2 + a**2 @ self.bending)

        dc, dd = -2 * half * sine @ self.sines.T, 2 * half * cosine @ self.sines.T
        moved = np.einsum("nkij,nj->nki", _symmetric(dc, dd, -dc), p)
        gradient = 2 * m3 * self.bending * a - np.einsum("nki,ni->nk", moved, p)

        curved = (
            4 * half * (cosine * (p[:, :1] ** 2 - p[:, 1:] ** 2) + 2 * sine * (p[:, :1] * p[:, 1:]))
        )
        hessian = 2 * np.einsum("nki,nij,nlj->nkl", moved, inverse, moved)
        hessian += np.einsum("nq,kq,lq->nkl", curved, self.sines, self.sines)
        return value, gradient, hessian + 2 * m3 * np.diag(self.bending)


def _symmetric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)


def _minimum(problem: _Turning, start: tuple[float, float]) -> np.ndarray:
    """Return the local minima `(N,)` that a damped Newton's method finds from one start."""
    scale = np.sqrt(2 * problem.metric[2] * problem.bending)
    a = np.zeros((len(problem.b), len(problem.bending)))
    a[:, : len(start)] = start
    damping = np.full(len(a), 1e-2)
    value, gradient, hessian = problem.cost(a)
    for _ in range(STEPS):
        curvatures, axes = np.linalg.eigh(hessian / np.outer(scale, scale))
        along = np.einsum("nji,nj->ni", axes, gradient / scale)
        along /= np.abs(curvatures) + damping[:, None]
        trial = a - np.einsum("nij,nj->ni", axes, along) / scale
        found = problem.cost(trial)
        better = found[0] < value
        a = np.where(better[:, None], trial, a)
        value = np.where(better, found[0], value)
        gradient = np.where(better[:, None], found[1], gradient)
        hessian = np.where(better[:, None, None], found[2], hessian)
        damping = np.where(better, damping / 5, np.maximum(damping, 1e-8) * 10)
    return value


def on_a_graph(
    metric: np.ndarray, orientations: int, side: int, step: float, reach: int = 2
) -> np.ndarray:
    """Return how long the shortest ways along the edges of a grid are, from its middle.

    Nodes are positions `step` apart and `orientations` orientations; an edge joins those at most
    `reach` apart in all three, and is as long as its logarithmic coordinates: the way of constant
    velocity. No way on the graph is shorter than the distance.

    Args:
        metric: `(3,)`: m1, m2 and m3.
        orientations: of the grid.
        side: the number of positions along x and along y, odd.
        step: between positions, in pixels.
        reach: of the edges.

    Returns:
        `(side, side, orientations)`: by x, by y and by the turn from the middle's orientation 0.
    """
    nodes = np.arange(side * side * orientations).reshape(side, side, orientations)
    angle = 2 * np.pi / orientations
    sources, targets, lengths = [], [], []
    hops = range(-reach, reach + 1)
    for dx, dy, dk in itertools.product(hops, hops, hops):
        inside = nodes[max(0, -dx) : side - max(0, dx), max(0, -dy) : side - max(0, dy)]
        beyond = nodes[max(0, dx) : side + min(0, dx), max(0, dy) : side + min(0, dy)]
        t, s = angle * np.arange(orientations), angle * dk / 2
        u = step * (np.cos(t + s) * dx + np.sin(t + s) * dy)
        v = step * (np.cos(t + s) * dy - np.sin(t + s) * dx)
        a = 1 / np.sinc(s / np.pi)
        length = np.sqrt(metric[0] * (a * u) ** 2 + metric[1] * (a * v) ** 2 + metric[2] * 4 * s**2)
        sources.append(inside.ravel())
        targets.append(np.roll(beyond, -dk, axis=-1).ravel())
        lengths.append(np.broadcast_to(length, inside.shape).ravel())
    edges = (np.concatenate(lengths), (np.concatenate(sources), np.concatenate(targets)))
    graph = sparse.csr_array(edges, shape=(nodes.size, nodes.size))
    start = nodes[side // 2, side // 2, 0]
    return sparse.csgraph.dijkstra(graph, indices=start).reshape(nodes.shape)
