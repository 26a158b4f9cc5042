"""Gaussian derivatives on the pixel grid, with the moments of their operators.

The derivative of a Gaussian is the Gaussian times a polynomial. Sampled and cut off, its moments
are wrong by several per cent at the widths in use; so the polynomial is solved from them instead:

    c_j = exp(-j^2 / (2 sigma^2)) sum_i a_i j^i,      i = k, k - 2, ... and i <= k + p - 2

with the moment conditions of d^k/dx^k at accuracy p. For p = 2 and enough taps these are the
Hermite polynomials, and the stencil differentiates what a Gaussian blur of standard deviation
sigma leaves.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float

from pdo_jax.operators import Monomial
from pdo_jax.stencils.moments import check_moments
from pdo_jax.stencils.taps import outer


def gaussian_derivative(
    exponents: Monomial, accuracy: int, size: int, sigma: float
) -> Float[np.ndarray, "*taps"]:
    """Return the stencil of a mixed derivative of a Gaussian blur.

    Args:
        exponents: the order of the derivative in each variable: (x, y) or (x, y, z).
        accuracy: the order of the error in the mesh size, even.
        size: the odd number of taps along every axis, at least each exponent + accuracy - 1.
        sigma: the standard deviation of the Gaussian in pixels, at least 0.3.

    Returns:
        The float64 taps, read-only, as a correlation kernel laid out as the array is.

    Example:
        >>> gaussian_derivative((1, 0), 2, 3, 1.0)[1].round(3).tolist()
        [-0.226, 0.0, 0.226]

    References:
        e2cnn's and the steerable-PDO code's `smoothing` s is not a standard deviation: their
        Gaussian is exp(-(r / s^2)^2), so sigma = s^2 / sqrt(2), and it is not normalised.
    """
    return outer(_derivative(exponent, accuracy, size, sigma) for exponent in exponents)


@functools.cache
def _derivative(order: int, accuracy: int, size: int, sigma: float) -> Float[np.ndarray, " taps"]:
    """Return the `size` taps of d^order/dx^order."""
    steps = np.arange(size, dtype=np.float64) - size // 2
    powers = [i for i in range(order + accuracy - 1) if (order - i) % 2 == 0]
    polynomial = np.stack([steps**i / math.factorial(i) for i in powers])
    weighted = np.exp(-(steps**2) / (2 * sigma**2)) * polynomial
    moments = np.array([float(i == order) for i in powers])
    taps = np.linalg.solve(polynomial @ weighted.T, moments) @ weighted
    taps = (taps + (-1) ** order * taps[::-1]) / 2
    check_moments(taps, order, accuracy)
    taps.flags.writeable = False
    return taps
