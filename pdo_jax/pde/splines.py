"""Trained filters that are rotated as B-splines: bases for the layers of `pdo_jax.nn`.

    K(p) = sum_m w[m] B(p - p_m)          kernel_g(p) = K(A_g^-1 p)

The weights of a k x k filter are the coefficients of a spline with one knot a pixel, which is
sampled at the rotated pixels. That is linear in the weights, and so a `FilterBasis`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.basis import FilterBasis
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group


def bspline(order: int, x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the centred B-spline of an order at distances from its middle.

        B(x) = sum_j (-1)^j (order + 1 choose j) max((order + 1) / 2 - j - |x|, 0)^order / order!

    Args:
        order: of the polynomials, at least 1 (a hat).
        x: distances in units of the knots.

    Returns:
        float64; 0 from (order + 1) / 2 on. The splines at all integers sum to 1 everywhere.

    Example:
        >>> bspline(2, np.array([0.0, 1.0, 1.5])).tolist()
        [0.75, 0.125, 0.0]
    """
    # Seen from the nearer end of the support few terms occur, and little is lost in their sum.
    ends = (order + 1) / 2 - np.arange((order + 1) // 2 + 1)
    signs = (-1.0) ** np.arange(len(ends)) * [math.comb(order + 1, j) for j in range(len(ends))]
    powers = np.maximum(ends - np.abs(x)[..., None], 0) ** order
    return powers @ signs / math.factorial(order)


def spline_basis(group: Group | str, size: int, order: int = 2) -> FilterBasis:
    """Return the basis of trained filters of size x size pixels that are rotated as splines.

        values[g, m, p] = B(x - x_m) B(y - y_m),        (x, y) = A_g^-1 p

    A layer of it is LieTorch's: `pdo_jax.nn.PDOLift(3, 16, spline_basis("p8", 7), use_bias=False)`
    is a `LiftM2Cartesian`, `pdo_jax.nn.PDOConv(16, 16, spline_basis("p8", 5), angular_size=5,
    use_bias=False)` a `ConvM2Cartesian`. Quarter turns and mirrors are exact. What the corners of a
    square filter would put outside of the window is cut off.

    Args:
        group: a `Group` of the plane or its name.
        size: the odd number of weights, and of taps, along an axis.
        order: of the splines, at least 1. From 2 on, element 0 is not the filter itself but a
            smoothed one: the weights are coefficients.

    Returns:
        A `FilterBasis` of M = size^2 filters; weight m is that of pixel m, row by row.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> spline_basis("p8", 7).values.shape
        (8, 49, 7, 7)

    References:
        LieTorch 0.8.2, `lift_m2_cartesian`. Its group convolution has a spline over the
        orientations as well, an invertible change of the weights that we leave out.
    """
    group, size = as_group(group), _check.odd("size", size)
    if group.ndim != 2:
        raise ValueError(
            f"group (={group.name}) must be one of the plane for rotated splines; pass e.g. 'p8'."
        )
    return _build(group, size, _check.integer("order", order, 1))


@functools.lru_cache(maxsize=64)
def _build(group: Group, size: int, order: int) -> FilterBasis:
    ticks = np.arange(size) - size // 2
    pixels = np.stack(np.meshgrid(ticks, -ticks), -1)  # (size, size, 2): x to the right, y up
    rotated = pixels @ group.matrices[:, None]  # A^-1 p = p A, as rows
    x, y = (
        bspline(order, rotated[..., 0, None] - ticks),
        bspline(order, rotated[..., 1, None] + ticks),
    )
    values = np.einsum("gpqi,gpqj->gijpq", y, x)
    return FilterBasis(group, values.reshape(group.order, -1, size, size))
