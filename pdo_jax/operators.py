"""Polynomials of partial derivatives, and what a matrix does to them.

The monomial with exponents (i, j) stands for d_x^i d_y^j; in space (i, j, k) for d_x^i d_y^j d_z^k.
A linear map A of the plane turns the operator H(d) into H(A^-1 d): a filter that answers to an edge
along x then answers to the edge's image under A. For a rotation by t

    d_x -> cos t d_x + sin t d_y          d_y -> -sin t d_x + cos t d_y.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from pdo_jax import _check

Monomial = tuple[int, ...]


def monomials(ndim: int, order: int, operators: str = "box") -> tuple[Monomial, ...]:
    """Return the exponents of a family of monomials.

    Args:
        ndim: the number of variables.
        order: the largest order in each variable ("box") or in all of them together ("total").
        operators: "box" or "total".

    Returns:
        The exponents, the lowest total degree first: (order + 1)^ndim of them for "box",
        binomial(order + ndim, ndim) for "total".

    Raises:
        TypeError, ValueError: if `order` is not an integer of at least 0, or `operators` is not
            known.

    Example:
        >>> monomials(2, 1)
        ((0, 0), (1, 0), (0, 1), (1, 1))
        >>> len(monomials(2, 4, "total"))
        15
    """
    order = _check.integer("order", order, 0)
    total = _check.choice("operators", operators, ("box", "total")) == "total"
    box = itertools.product(range(order + 1), repeat=ndim)
    inside = [m for m in box if not total or sum(m) <= order]
    return tuple(sorted(inside, key=lambda m: (sum(m), *(-e for e in m))))


def transform(
    matrices: Float[np.ndarray, "g n n"],
    sources: tuple[Monomial, ...],
    targets: tuple[Monomial, ...],
) -> Float[np.ndarray, "g m t"]:
    """Expand monomials H(A^-1 d), for many matrices A at once, in other monomials.

        H_m(A^-1 d) = sum_t R[A, m, t] d^t

    Args:
        matrices: `(n, ndim, ndim)` invertible matrices A.
        sources: the M monomials H_m to transform.
        targets: the T monomials to expand in; they must hold every monomial of the degrees of
            `sources`.

    Returns:
        `(n, M, T)` float64 coefficients R; entries below 1e-12 are exactly zero.

    Example:
        >>> quarter = np.array([[[0.0, -1.0], [1.0, 0.0]]])
        >>> transform(quarter, ((1, 0),), ((1, 0), (0, 1))).tolist()  # d_x becomes d_y
        [[[0.0, 1.0]]]
    """
    inverses = np.linalg.inv(matrices)
    ndim = inverses.shape[-1]
    degree = max(map(sum, (*sources, *targets)))

    def times_row(polynomial: np.ndarray, variable: int) -> np.ndarray:
        # Multiply by the linear form that replaces d_variable: sum_j A^-1[variable, j] d_j. The
        # array's axis 1 + j counts the power of d_j, and no power reaches beyond its end.
        rows = inverses[:, variable].reshape((-1, ndim) + (1,) * ndim)
        terms = [rows[:, j] * np.roll(polynomial, 1, axis=1 + j) for j in range(ndim)]
        return np.sum(terms, axis=0)

    expanded = []
    for exponents in sources:
        polynomial = np.zeros((len(inverses), *(degree + 1,) * ndim))
        polynomial[(slice(None), *(0,) * ndim)] = 1.0
        for variable, exponent in enumerate(exponents):
            for _ in range(exponent):
                polynomial = times_row(polynomial, variable)
        expanded.append(polynomial[(slice(None), *np.transpose(targets))])
    coefficients = np.stack(expanded, axis=1)
    return np.where(np.abs(coefficients) < 1e-12, 0.0, coefficients)
