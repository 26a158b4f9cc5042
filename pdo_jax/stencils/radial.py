"""RBF-FD: stencils that are exact on polyharmonic splines and on polynomials.

A stencil c of the derivative d^t is asked to be exact, at its centre, on every function

    f(x) = sum_j w_j |x - j|^m  +  a polynomial of degree |t| + p - 1

that is a spline on the grid of its own k^n taps, w orthogonal to the polynomials. That is

    sum_j c_j |j - i|^m + sum_a v_a i^a = d^t |x - i|^m at x = 0      for all taps i,

and the moment conditions of accuracy p. Where these alone decide, as in one variable on the
smallest stencil, the result is a finite difference; taps beyond them are settled by the spline.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pdo_jax.operators import Monomial
from pdo_jax.stencils.moments import constrained_minimum, finished, symmetric
from pdo_jax.stencils.taps import offsets


@functools.cache
def rbf_fd(exponents: Monomial, accuracy: int, size: int) -> Float[np.ndarray, "*taps"]:
    """Return the RBF-FD stencil of a mixed derivative.

    The power m of the spline is odd and at least |t| + 5: smooth well beyond the derivative.

    Args:
        exponents: the order t of the derivative in each variable: (x, y) or (x, y, z).
        accuracy: the order of the error in the mesh size, even.
        size: the odd number of taps along every axis, at least `extent(exponents, accuracy)`.

    Returns:
        The float64 taps, read-only, as a correlation kernel laid out as the array is.

    Example:
        >>> rbf_fd((2, 0), 2, 3).sum(0).round(12).tolist()  # nine taps; their sums over y
        [1.0, -2.0, 1.0]

    References:
        Flyer, Fornberg, Bayona, Barnett: On the role of polynomials in RBF-FD approximations I
        (Journal of Computational Physics 321, 2016).
    """
    images = set(itertools.permutations(exponents))
    return finished(exponents, {t: _cube(t, accuracy, size) for t in images}, accuracy)


def _cube(exponents: Monomial, accuracy: int, size: int) -> Float[np.ndarray, "*taps"]:
    """Return the taps as a cube with axes x, y (and z), y upwards."""
    ndim = len(exponents)
    power = sum(exponents) + 5 + sum(exponents) % 2
    points = offsets(size, ndim).astype(np.float64)
    spread, conditions, moments = symmetric(exponents, accuracy, size)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    kernel = spread.T @ distances**power @ spread
    # The derivative of |x - j|^m at x = 0 is that of |y|^m at y = -j.
    right = spread.T @ _power_derivative(-points, power, exponents)
    taps = spread @ constrained_minimum(kernel, right, conditions, moments)
    return taps.reshape((size,) * ndim)


def _power_derivative(
    points: Float[np.ndarray, "p n"], power: int, exponents: Sequence[int]
) -> Float[np.ndarray, " p"]:
    """Return the derivative d^t of |y|^power, for |t| < power.

    It is a sum of y^a |y|^s, kept as {(a, s): coefficient}: d_i adds a_i y^(a - e_i) |y|^s and
    s y^(a + e_i) |y|^(s - 2).
    """
    terms = {((0,) * len(exponents), power): 1.0}
    for variable, order in enumerate(exponents):
        for _ in range(order):
            derived: dict[tuple[tuple[int, ...], int], float] = {}
            for (a, s), coefficient in terms.items():
                for step, exponent, factor in ((-1, s, a[variable]), (1, s - 2, s)):
                    b = tuple(e + step * (i == variable) for i, e in enumerate(a))
                    derived[b, exponent] = derived.get((b, exponent), 0.0) + factor * coefficient
            terms = {key: c for key, c in derived.items() if c}
    radius = np.linalg.norm(points, axis=-1)
    safe = np.where(radius > 0, radius, 1.0)
    values = np.zeros(len(points))
    for (a, s), coefficient in terms.items():
        values += coefficient * np.prod(points ** np.array(a), axis=-1) * safe**s
    return np.where(radius > 0, values, 0.0)
