"""Finite-difference stencils of partial derivatives, derived from their moment conditions.

A stencil c with taps at the integer offsets j approximates d^k/dx^k with an error of order p if

    sum_j c_j j^m / m! = 1 if m == k else 0          for m = 0 .. k + p - 1.

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


def check_accuracy(accuracy: int) -> int:
    """Return `accuracy` if it is an even integer of at least 2, as central differences have."""
    accuracy = _check.integer("accuracy", accuracy, 2)
    if accuracy % 2:
        raise ValueError(
            f"accuracy (={accuracy}) must be even, as every central difference's is; "
            f"pass {accuracy + 1}."
        )
    return accuracy


@functools.cache
def central_difference(derivative: int, accuracy: int = 2) -> Float[np.ndarray, " taps"]:
    """Return the shortest central difference of a derivative in one variable.

    The 2 r + 1 taps, r = (derivative + 1) // 2 - 1 + accuracy / 2, solve the moment conditions of
    this module in rational arithmetic, so that every tap is correctly rounded.

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


def check_moments(taps: np.ndarray, derivative: int, accuracy: int) -> None:
    """Raise unless `taps` satisfy the moment conditions of a derivative at an accuracy.

    Args:
        taps: `(2 r + 1,)` taps at offsets -r .. r.
        derivative: the order k of the derivative.
        accuracy: the order p of the error.

    Raises:
        ValueError: naming the first moment that is wrong.

    Example:
        >>> check_moments(np.array([-0.5, 0.0, 0.5]), derivative=1, accuracy=2)
    """
    radius = len(taps) // 2
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    for m in range(derivative + accuracy):
        terms = taps * offsets**m / math.factorial(m)
        if abs(terms.sum() - (m == derivative)) > 1e-12 * max(1.0, np.abs(terms).sum()):
            raise ValueError(
                f"taps (={taps.tolist()}) have moment {m} equal to {terms.sum()}, but a derivative "
                f"of order {derivative} at accuracy {accuracy} needs {int(m == derivative)}; solve "
                "the moment conditions again."
            )


@functools.cache
def finite_difference(exponents: tuple[int, ...], accuracy: int = 2) -> Float[np.ndarray, "*taps"]:
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
    stencil = np.ones(())
    for variable, exponent in enumerate(exponents):
        taps = central_difference(exponent, accuracy)
        stencil = np.multiply.outer(taps[::-1] if variable == 1 else taps, stencil)
    stencil.flags.writeable = False
    return stencil


# A scheme is a value: a function of (exponents, accuracy) that returns the stencil of a derivative.
SCHEMES = {"finite-difference": finite_difference}


def centred(stencil: np.ndarray, size: int) -> np.ndarray:
    """Return `stencil` padded with zeros to `size` taps along every axis, centre on centre.

    Args:
        stencil: an array with an odd number of taps along every axis, none above `size`.
        size: an odd number of taps.

    Returns:
        An array with `size` taps along every axis.

    Example:
        >>> centred(np.ones((1,)), 3).tolist()
        [0.0, 1.0, 0.0]
    """
    return np.pad(stencil, [((size - n) // 2,) * 2 for n in stencil.shape])


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
