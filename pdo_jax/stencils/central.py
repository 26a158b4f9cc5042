"""Central differences: the shortest stencils that meet the moment conditions in one variable.

Stencils in several variables are outer products of these. Taps are correlation taps: the value at
offset +1 multiplies the neighbour on the right (x) or above (y, one row up in the array).
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.operators import Monomial
from pdo_jax.stencils.moments import check_accuracy, check_moments
from pdo_jax.stencils.taps import outer


@functools.cache
def central_difference(derivative: int, accuracy: int = 2) -> Float[np.ndarray, " taps"]:
    """Return the shortest central difference of a derivative in one variable.

    The 2 r + 1 taps, r = (derivative + 1) // 2 - 1 + accuracy / 2, solve the moment conditions of
    `moments` in rational arithmetic, so that every tap is correctly rounded.

    Args:
        derivative: the order k of the derivative, at least 0.
        accuracy: the order p of the error in the mesh size, even.

    Returns:
        `(2 r + 1,)` float64, read-only: the taps at offsets -r .. r, at unit mesh size.

    Raises:
        TypeError, ValueError: if an argument is not an integer in its range.

    Example:
        >>> central_difference(2).tolist(), central_difference(1, 4).size
        ([1.0, -2.0, 1.0], 5)
    """
    derivative = _check.integer("derivative", derivative, 0)
    accuracy = check_accuracy(accuracy)
    if derivative == 0:
        taps = np.ones(1)
    else:
        radius = (derivative + 1) // 2 - 1 + accuracy // 2
        offsets = range(-radius, radius + 1)
        conditions = [[Fraction(j) ** m for j in offsets] for m in range(2 * radius + 1)]
        moments = [Fraction(0)] * (2 * radius + 1)
        moments[derivative] = Fraction(math.factorial(derivative))
        taps = np.array([float(c) for c in _solve(conditions, moments)])
    check_moments(taps, derivative, accuracy)
    taps.flags.writeable = False
    return taps


@functools.cache
def finite_difference(exponents: Monomial, accuracy: int = 2) -> Float[np.ndarray, "*taps"]:
    """Return the stencil of a mixed derivative as an outer product of central differences.

    Args:
        exponents: the order of the derivative in each variable: (x, y) or (x, y, z).
        accuracy: the order of the error in the mesh size, even.

    Returns:
        The float64 taps, read-only, as a correlation kernel laid out as the array is: axes y, x or
        z, y, x, where y points up, against the rows.

    Raises:
        TypeError, ValueError: if an argument is not an integer in its range.

    Example:
        >>> finite_difference((0, 1)).tolist()  # d_y: the row above counts +1/2
        [[0.5], [0.0], [-0.5]]
    """
    return outer(central_difference(exponent, accuracy) for exponent in exponents)


def _solve(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Solve a regular linear system exactly, by Gauss-Jordan elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = next(j for j in range(i, len(rows)) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(len(rows)):
            if j != i:
                factor = rows[j][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[-1] for row in rows]
