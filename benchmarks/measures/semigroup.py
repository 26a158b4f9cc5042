"""How far estimates of the distance are from making a semigroup on SE(2).

For the distance itself, which is the length of ways, the kernels of dilation do:

    min_h k_t(h) + k_s(h^-1 g) = k_{t + s}(g)

An estimate may find something shorter by way of an h, and then a dilation up to time t + s is not
one up to t after one up to s.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from pdo_jax.pde import geometry

POINTS, ROUNDS, SHRINK = 13, 6, 0.5


def defects(metric: np.ndarray, distance: str) -> np.ndarray:
    """Return 1 - min_h (k_1/2(h) + k_1/2(h^-1 g)) / k_1(g) for the neighbours g of the middle.

    For alpha = 1, where k_t = rho^2 / (4 t). The search for h starts in a box of the size of the
    kernel's level set about the middle of the way of constant velocity, and halves it some times
    about the best of `POINTS`^3 points: what it finds cannot be too large.

    Args:
        metric: `(3,)`.
        distance: the estimate.

    Returns:
        One number for each point of a 3x3x3 window of 8 orientations, one of g and g^-1 each.
    """

    def squares(poses: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(
                geometry.squared_distance(_log(poses), jnp.asarray(metric[None]), distance)
            )[:, 0]

    found = []
    for signs in itertools.islice(itertools.product((1, 0, -1), repeat=3), 13):
        g = np.array(signs) * (1, 1, np.pi / 4)
        whole = squares(g[None])[0]
        middle, box = _exp(_log(g[None]) / 2)[0], np.sqrt(whole / metric)
        box[2] = min(box[2], np.pi / 2)
        best = whole
        for _ in range(ROUNDS):
            axes = [np.linspace(-side, side, POINTS) for side in box]
            h = _product(middle, np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
            sums = 2 * (squares(h) + squares(_from(h, g)))
            best, middle = min(best, sums.min()), h[sums.argmin()]
            box = box * SHRINK
        found.append(1 - best / whole)
    return np.array(found)


def _log(poses: np.ndarray) -> np.ndarray:
    """Return logarithmic coordinates of poses (x, y, t) `(N, 3)`."""
    x, y, t = poses.T
    s = (np.mod(t + np.pi, 2 * np.pi) - np.pi) / 2
    a = 1 / np.sinc(s / np.pi)
    cos, sin = np.cos(s), np.sin(s)
    return np.stack([a * (x * cos + y * sin), a * (y * cos - x * sin), 2 * s], -1)


def _exp(coordinates: np.ndarray) -> np.ndarray:
    c1, c2, t = coordinates.T
    a, cos, sin = np.sinc(t / (2 * np.pi)), np.cos(t / 2), np.sin(t / 2)
    return np.stack([a * (c1 * cos - c2 * sin), a * (c1 * sin + c2 * cos), t], -1)


def _product(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    (x, y, t), (u, v, s) = g, h.T
    cos, sin = np.cos(t), np.sin(t)
    return np.stack([x + cos * u - sin * v, y + sin * u + cos * v, t + s], -1)


def _from(h: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return h^-1 g."""
    (x, y, t), (u, v, s) = h.T, g
    cos, sin = np.cos(t), np.sin(t)
    return np.stack([cos * (u - x) + sin * (v - y), cos * (v - y) - sin * (u - x), s - t], -1)
