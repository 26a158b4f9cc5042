"""Stencils of a given size whose equivariance error over a band of frequencies is least.

The stencils c_t of all derivatives of one degree d answer to the wave exp(i w x) with

    S_t(w) = sum_j c_t[j] exp(i w j),            exactly (i w)^t.

A rotation or mirror R mixes the derivatives of a degree by a matrix, orthogonal in the norm
sum_t d!/t! |S_t|^2, and the layer is equivariant at w if S(R w) = R S(w). The S for which that
holds for all R are spanned, on a sphere |w| = r, by the symmetric tensors

    E_q(w) = sym( w^(d - 2q) identity^q ),       q = 0 .. d // 2,

with any factor for each r and q: a blur changes the factors and breaks nothing. So the mean over
all R of |S(R w) - R S(w)|^2 is twice the squared distance of S from that span, and the stencils
minimise

    integral over |w| <= band of  | S - projection of S on span(E_q) |^2  dw

under the moment conditions: a linear least-squares problem with linear constraints, solved once in
float64. What that leaves open (the identity may be any round blur) is settled by a small multiple
of the distance to the derivative itself. docs/schemes.md derives this at length.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from jaxtyping import Float

from pdo_jax.operators import Monomial
from pdo_jax.stencils.moments import constrained_minimum, extent, finished, symmetric
from pdo_jax.stencils.taps import offsets

# The weight, in the objective, of the squared distance to the derivative of the image's part inside
# the band: of |S - (i w)^t|^2 there and |S|^2 outside. It decides what equivariance leaves open.
_RIDGE = 1e-10
_RADII, _ANGLES = 24, 16  # nodes of the quadrature


def optimal_stencil(
    exponents: Monomial, accuracy: int, size: int, band: float
) -> Float[np.ndarray, "*taps"]:
    """Return the stencil of a mixed derivative with the least equivariance error over a band.

    Args:
        exponents: the order t of the derivative in each variable: (x, y) or (x, y, z).
        accuracy: the order of the error in the mesh size, even.
        size: the odd number of taps along every axis, at least `optimal_extent`.
        band: the largest frequency |w|, in radians per pixel; pi is that of the grid.

    Returns:
        The float64 taps, read-only, as a correlation kernel laid out as the array is.

    Example:
        >>> (8 * optimal_stencil((1, 0), 2, 3, np.pi)).round(2).tolist()  # Sobel's has 1, 2, 1
        [[-0.91, 0.0, 0.91], [-2.19, 0.0, 2.19], [-0.91, 0.0, 0.91]]
    """
    return _of_degree(sum(exponents), len(exponents), accuracy, size, band)[tuple(exponents)]


def optimal_extent(exponents: Monomial, accuracy: int) -> int:
    """Return the smallest odd size that holds all derivatives of the degree of `exponents`.

    Example:
        >>> optimal_extent((1, 1, 1), 2)  # d_x^3 needs five taps
        5
    """
    return extent((sum(exponents), *(0,) * (len(exponents) - 1)), accuracy)


@functools.cache
def _of_degree(
    degree: int, ndim: int, accuracy: int, size: int, band: float
) -> dict[Monomial, np.ndarray]:
    """Return the optimal stencils of all derivatives of one degree."""
    box = itertools.product(range(degree + 1), repeat=ndim)
    exponents = [t for t in box if sum(t) == degree]
    norms = np.array([_multinomial(t) for t in exponents])
    spaces = [symmetric(t, accuracy, size) for t in exponents]
    directions, areas = _orthant(ndim)
    tensors = np.stack([_tensor(q, exponents, directions) for q in range(degree // 2 + 1)])
    gram = np.einsum("qtw,ptw,t,w->qp", tensors, tensors, norms, areas)

    def gram_in(end: float) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
        """Integrate over |w| <= end: |S|^2, |projection of S|^2, and S against (i w)^t."""
        radii, weights = _gauss(_RADII, end)
        weights = weights * radii ** (ndim - 1)
        # Symbols are even or odd in every variable: one orthant of directions stands for all.
        phases = (radii[:, None, None] * directions) @ offsets(size, ndim).T
        waves = np.cos(phases - degree * np.pi / 2)  # exp(i phase) / i^d, as far as symmetry lets
        symbols = [waves @ space.spread for space in spaces]  # (r, w, R)
        measure = np.outer(weights, areas)
        energies, inner, exact = [], [], []
        for i, (symbol, norm) in enumerate(zip(symbols, norms, strict=True)):
            weighted = norm * measure[:, :, None] * symbol
            energies.append(np.tensordot(weighted, symbol, axes=((0, 1), (0, 1))))
            inner.append(norm * np.einsum("qw,w,rwa->rqa", tensors[:, i], areas, symbol))
            exact.append(np.einsum("rwa,r,w->a", weighted, radii**degree, tensors[0, i]))
        on_spheres = np.concatenate(inner, axis=2)  # (r, q, all R): <E_q, S>
        dual = np.tensordot(on_spheres * weights[:, None, None], np.linalg.inv(gram), (1, 0))
        return energies, np.einsum("raq,rqb->ab", dual, on_spheres, optimize=True), exact

    energies, projected, exact = gram_in(band)
    everywhere, _, _ = gram_in(math.pi)
    ridge = _RIDGE * sum(map(np.trace, energies)) / sum(map(np.trace, everywhere))
    objective = _diagonal(energies) - projected + ridge * _diagonal(everywhere)
    conditions = _diagonal([space.conditions for space in spaces])
    moments = np.concatenate([space.moments for space in spaces])
    z = constrained_minimum(objective, ridge * np.concatenate(exact), conditions, moments)
    parts = np.split(z, np.cumsum([space.spread.shape[1] for space in spaces])[:-1])
    cubes = {
        t: (space.spread @ part).reshape((size,) * ndim)
        for t, space, part in zip(exponents, spaces, parts, strict=True)
    }
    return {t: finished(t, cubes, accuracy) for t in exponents}


def _tensor(
    q: int, exponents: list[Monomial], directions: Float[np.ndarray, "w n"]
) -> Float[np.ndarray, "t w"]:
    """Return the components of sym(u^(d - 2q) identity^q) at every direction u.

    They are the coefficients of y^t in (u . y)^(d - 2q) |y|^(2q), divided by d! / t!.
    """
    ndim = directions.shape[1]
    squares = [b for b in itertools.product(range(q + 1), repeat=ndim) if sum(b) == q]
    rows = np.zeros((len(exponents), len(directions)))
    for row, t in zip(rows, exponents, strict=True):
        for b in squares:
            left = tuple(i - 2 * j for i, j in zip(t, b, strict=True))
            if min(left) >= 0:
                count = _multinomial(b) * _multinomial(left) / _multinomial(t)
                row += count * np.prod(directions ** np.array(left), axis=1)
    return rows


def _multinomial(t: Monomial) -> float:
    return math.factorial(sum(t)) / math.prod(map(math.factorial, t))


def _gauss(count: int, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss and Legendre on [0, end]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) * end / 2, weights * end / 2


def _orthant(ndim: int) -> tuple[Float[np.ndarray, "w n"], Float[np.ndarray, " w"]]:
    """Return unit vectors without a negative component, and their areas (which sum to 1)."""
    vectors, areas = np.ones((1, 1)), np.ones(1)
    angles, weights = _gauss(_ANGLES, np.pi / 2)
    for dimension in range(1, ndim):
        low = np.sin(angles)[:, None, None] * vectors
        high = np.broadcast_to(np.cos(angles)[:, None, None], (*low.shape[:2], 1))
        vectors = np.concatenate([low, high], axis=2).reshape(-1, dimension + 1)
        areas = np.outer(weights * np.sin(angles) ** (dimension - 1), areas).ravel()
    return vectors, areas / areas.sum()


def _diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    """Return the block-diagonal matrix."""
    rows, columns = (np.cumsum([0, *(b.shape[axis] for b in blocks)]) for axis in (0, 1))
    matrix = np.zeros((rows[-1], columns[-1]))
    for block, i, j in zip(blocks, rows, columns, strict=False):
        matrix[i : i + block.shape[0], j : j + block.shape[1]] = block
    return matrix
