"""Where one point lies as seen from another, and how far that is: on the plane and on SE(2).

A point of SE(2) is a position p and an orientation t; a field `(..., H, W, Or, C)` holds Or of
them, t = 2 pi k / Or. The logarithmic coordinates of h = (p + (dx, dy), t + dt), seen from
g = (p, t), are

    (u, v) = R(-t) (dx, dy),    s = dt / 2,    a = s / sin s
    c1 = a (u cos s + v sin s)          along the orientation ("main"), in pixels
    c2 = a (v cos s - u sin s)          across it ("lateral"), in pixels
    c3 = dt                             turning ("angular"), in radians

They are evaluated at the exactly rotated (u, v), so that nothing is interpolated. A metric is an
array, or a `Finsler` norm, and its shape says what it is:

    SE(2)   diagonal  (C, 3)      rho^2 = m1 c1^2 + m2 c2^2 + m3 c3^2, negative m taken as 0
            full      (C, 3, 3)   rho^2 = |M c|^2
    plane   isotropic (C,)        rho^2 = m |h - g|^2, negative m taken as 0
            full      (C, 2, 2)   rho^2 = |M (h - g)|^2
            Finsler               rho = F(h - g), not symmetric

The squares above are exact on the plane. On SE(2) the shortest way has no closed form, and
`distance` says which estimate of its length is meant:

    "log"     the formulas above, those of LieTorch: the length of the way of constant velocity.
              Right near g; far too long where m1 and m2 differ much, since turning, driving and
              turning back is then shorter
    "paths"   for diagonal metrics: the shortest of `WAYS`, which turn more than they must. Exact
              where m1 = m2; about 2 % too long on average, and 10 % at most, where they differ much

Both are lengths of ways that there are, so neither is too short, and "paths" is never longer than
"log". docs/pde.md has their errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pdo_jax import _check

DISTANCES = ("log", "paths")
# How far a way of "paths" leaves the even turn: (A, B) is A sin pi s + B sin 2 pi s, in radians.
WAYS = (
    *((0.3 * k, 0.0) for k in range(-6, 7)),
    *((0.0, b) for b in (-0.9, -0.6, -0.3, 0.3, 0.6, 0.9)),
)
_LEAST_RATIO = 1e-6  # of m1 and m2 in "paths": divided by in float32, and m may be 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Finsler:
    """A norm of the plane for each channel, whose unit ball is anything star-shaped.

        F(v) = |v| exp(-p_0 - sum_k p_{2k-1} cos k a + p_{2k} sin k a),      a the angle of v

    Args:
        coefficients: `(C, 2 order + 1)`, p above: zeros are the Euclidean norm.

    Example:
        >>> Finsler(jnp.zeros((4, 11))).coefficients.shape
        (4, 11)
    """

    coefficients: Any


Metric = _check.Array | Finsler


def offsets(kernel_size: Sequence[int]) -> Float[np.ndarray, "h w 2"]:
    """Return h - g for every point h of a window about g: x to the right, y up, in pixels.

    Args:
        kernel_size: `(kH, kW)`, odd.

    Returns:
        `(kH, kW, 2)` float64.

    Raises:
        TypeError, ValueError: if `kernel_size` is not valid.

    Example:
        >>> offsets((3, 3))[0, 2].tolist()
        [1.0, 1.0]
    """
    rows, columns = (np.arange(n) - n // 2 for n in check_kernel_size(kernel_size, ndim=2))
    down, right = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([right, -down], -1).astype(np.float64)


def log_coordinates(
    kernel_size: Sequence[int], orientations: int
) -> Float[np.ndarray, "t h w s 3"]:
    """Return the logarithmic coordinates of every point of a window about g, for every t of g.

    Args:
        kernel_size: `(kH, kW, kOr)`, odd, kOr at most `orientations`.
        orientations: Or.

    Returns:
        `(Or, kH, kW, kOr, 3)` float64: (c1, c2, c3) of g^-1 h, in pixels, pixels and radians.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> c = log_coordinates((3, 3, 1), 4)
        >>> c[1, 0, 1, 0].round(12).tolist()  # looking up, one pixel above lies straight ahead
        [1.0, 0.0, 0.0]

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022).
    """
    *window, turns = check_kernel_size(kernel_size, ndim=3)
    orientations = _check.integer("orientations", orientations, 1)
    if turns > orientations:
        raise ValueError(
            f"kernel_size (={tuple(kernel_size)}) covers {turns} orientations, but there are only "
            f"{orientations}: an angle would be counted twice; pass an odd last entry of at most "
            f"{orientations}."
        )
    step = 2 * np.pi / orientations
    t = step * np.arange(orientations)[:, None, None]
    dx, dy = np.moveaxis(offsets(window), -1, 0)
    u = (np.cos(t) * dx + np.sin(t) * dy)[..., None]
    v = (np.cos(t) * dy - np.sin(t) * dx)[..., None]
    dt = np.broadcast_to(step * (np.arange(turns) - turns // 2), (*u.shape[:3], turns))
    s = dt / 2
    a = 1 / np.sinc(s / np.pi)
    c1 = a * (u * np.cos(s) + v * np.sin(s))
    c2 = a * (v * np.cos(s) - u * np.sin(s))
    return np.stack([c1, c2, dt], -1)


def squared_distance(
    coordinates: Float[np.ndarray, "... d"], metric: Metric, distance: str = "log"
) -> Float[jax.Array, "... c"]:
    """Return the squared distance of a point from the one that it is seen from.

        rho(c)^2 = sum_i m_i c_i^2, or |M c|^2, or F(c)^2        "log", and on the plane

    Args:
        coordinates: `(..., 3)` from `log_coordinates`, or `(..., 2)` from `offsets`.
        metric: see the head of this file; one for each of C channels.
        distance: the estimate on SE(2), one of `DISTANCES`. On the plane distances are exact, and
            there is nothing to choose.

    Returns:
        `(..., C)`, in the dtype of the metric, float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> squared_distance(offsets((3, 3)), jnp.array([4.0]))[..., 0].tolist()
        [[8.0, 4.0, 8.0], [4.0, 0.0, 4.0], [8.0, 4.0, 8.0]]
    """
    _check.choice("distance", distance, DISTANCES)
    metric = check_metric(metric, coordinates.shape[-1])
    if isinstance(metric, Finsler):
        return _finsler(coordinates, metric.coefficients)
    if distance == "paths" and metric.shape[1:] == (3, 3):
        raise ValueError(
            f"distance (='paths') is for diagonal metrics (C, 3), but metric has shape "
            f"{metric.shape}; pass distance='log', which is for full metrics too."
        )
    precise = metric.astype(np.promote_types(metric.dtype, np.float32))
    c = jnp.asarray(coordinates, precise.dtype)
    if precise.ndim == 3:
        turned = jnp.sum(precise * c[..., None, None, :], axis=-1)  # M c, without a product's tf32
        return jnp.sum(turned**2, axis=-1)
    weights = jax.nn.relu(precise)
    if precise.ndim == 1:
        return weights * jnp.sum(c**2, axis=-1, keepdims=True)
    if distance == "paths":
        return _shortest_way(coordinates, weights)
    return jnp.sum(weights * c[..., None, :] ** 2, axis=-1)


def _shortest_way(coordinates: np.ndarray, metric: jax.Array) -> jax.Array:
    """Return the squared length of the shortest of `WAYS`, for a diagonal metric without negatives.

    In the frame half-way between the two orientations, a way turns as

        t(s) = dt (s - 1/2) + A sin pi s + B sin 2 pi s,      0 <= s <= 1

    Given the turning, the best driving is a linear problem with quadratic cost: to reach the offset
    b costs b^T (int R(t) diag(1/m1, 1/m2) R(t)^T ds)^-1 b, and turning costs m3 int t'^2 ds.
    """
    _, _, dt = np.moveaxis(coordinates, -1, 0)
    b = coordinates[..., :2] * np.sinc(dt / (2 * np.pi))[..., None]  # the half-angle coordinates
    angles, where = np.unique(dt, return_inverse=True)
    sines, mixed, turning = _turns(angles)
    spread = np.maximum(sines * (1 - sines) - mixed**2, 0)  # 0 for the straight way alone

    def constant(values: np.ndarray) -> jax.Array:
        return jnp.asarray(values, metric.dtype)

    def per_way(table: np.ndarray) -> jax.Array:
        return constant(table)[where.reshape(dt.shape)][..., None]

    b1, b2 = constant(b[..., 0, None, None]), constant(b[..., 1, None, None])
    m1, m2, m3 = metric.T
    low, high = jnp.minimum(m1, m2), jnp.maximum(jnp.maximum(m1, m2), 1e-12)
    ratio = jnp.maximum(low / high, _LEAST_RATIO)
    shortcut = ratio / (ratio + per_way(spread) * (1 - ratio) ** 2)
    straight = m1 * b1**2 + m2 * b2**2
    across = m2 * b1**2 + m1 * b2**2 - straight
    driving = straight + per_way(sines) * across - 2 * per_way(mixed) * (m2 - m1) * b1 * b2
    return jnp.min(driving * shortcut + m3 * per_way(turning), axis=-2)


def _turns(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return int sin^2 t, int sin t cos t and int t'^2 of `WAYS`, each `(len(angles), ways)`."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    s, weights = (nodes + 1) / 2, weights / 2
    a, b = np.array(WAYS).T
    waves = np.outer(a, np.sin(np.pi * s)) + np.outer(b, np.sin(2 * np.pi * s))
    t = angles[:, None, None] * (s - 1 / 2) + waves
    turning = angles[:, None] ** 2 + np.pi**2 / 2 * (a**2 + 4 * b**2)
    return np.sin(t) ** 2 @ weights, np.sin(2 * t) @ weights / 2, turning


def _finsler(offsets: np.ndarray, coefficients: jax.Array) -> jax.Array:
    dtype = np.promote_types(coefficients.dtype, np.float32)
    angle = np.arctan2(offsets[..., 1], offsets[..., 0])
    waves = [np.ones_like(angle)]
    for k in range(1, (coefficients.shape[-1] + 1) // 2):
        waves += [np.cos(k * angle), np.sin(k * angle)]
    basis = jnp.asarray(np.stack(waves, -1), dtype)
    exponent = jnp.sum(coefficients.astype(dtype) * basis[..., None, :], axis=-1)
    squares = jnp.asarray(np.sum(offsets**2, axis=-1, keepdims=True), dtype)
    return squares * jnp.exp(-2 * exponent)


# ----------------------------------------------------------------------------------------- checks

_METRICS = {
    2: "(C,), (C, 2, 2) or a Finsler norm on the plane",
    3: "(C, 3) or (C, 3, 3) on SE(2)",
}


def check_metric(metric: Metric, ndim: int) -> jax.Array | Finsler:
    """Return a metric if it is one of the plane (`ndim` 2) or of SE(2) (3)."""
    if isinstance(metric, Finsler):
        if ndim != 2:
            raise ValueError(
                f"metric is a Finsler norm, which there is on the plane alone; pass an array of "
                f"shape {_METRICS[3]}, or a kernel_size of two numbers."
            )
        p = _check.floating("metric.coefficients", metric.coefficients, "(C, K)", 2, exact=True)
        if p.shape[1] % 2 == 0:
            raise ValueError(
                f"metric.coefficients has shape {p.shape}: its last axis must be odd, "
                "2 order + 1; pass e.g. 11 columns."
            )
        return Finsler(p)
    array = _check.floating("metric", metric, _METRICS[ndim], 1)
    shapes = ((), (2, 2)) if ndim == 2 else ((3,), (3, 3))
    if array.shape[1:] not in shapes:
        raise ValueError(
            f"metric has shape {array.shape}, but {_METRICS[ndim]} is needed; pass one for each of "
            "the C channels."
        )
    return array


def check_kernel_size(kernel_size: Any, ndim: int | None = None) -> tuple[int, ...]:
    """Return two (plane) or three (SE(2)) odd numbers; `ndim` says which, None either."""
    if not isinstance(kernel_size, Sequence) or isinstance(kernel_size, str):
        raise TypeError(
            f"kernel_size (={kernel_size!r}) must be (kH, kW) on the plane or (kH, kW, kOr) on "
            "SE(2); pass e.g. (5, 5) or (5, 5, 5)."
        )
    if len(kernel_size) not in ((2, 3) if ndim is None else (ndim,)):
        allowed = {2: "(kH, kW)", 3: "(kH, kW, kOr)", None: "(kH, kW) or (kH, kW, kOr)"}[ndim]
        raise ValueError(
            f"kernel_size (={tuple(kernel_size)}) must be {allowed}; "
            f"pass e.g. {(5,) * (ndim or 3)}."
        )
    why = ", so that the window has a middle"
    return tuple(_check.odd(f"kernel_size[{i}]", n, why) for i, n in enumerate(kernel_size))
