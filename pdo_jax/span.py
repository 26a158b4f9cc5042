"""The few stencils that span all filters of a basis.

    basis[g, m] = sum_r coefficients[g, m, r] stencils[r]

A filter has k x k taps, but the |G| M filters of a basis span far fewer dimensions: 12 for p8 on
5x5 taps. Whatever acts on filters linearly need only act on those.
"""

from __future__ import annotations

import functools

import numpy as np

from pdo_jax.basis import FilterBasis


@functools.lru_cache(maxsize=256)
def span(basis: FilterBasis) -> tuple[np.ndarray, np.ndarray]:
    """Return sparse stencils that span the filters of a basis, and the filters in terms of them.

        basis[g, m] = sum_r coefficients[g, m, r] stencils[r]

    The stencils are the rows of the reduced echelon form, pivots taken in the order of their size:
    every one has a tap of 1 where all others have 0, and no tap much larger than that.

    Args:
        basis: the `FilterBasis`.

    Returns:
        `(R, k, k)` stencils and `(|G|, M, R)` coefficients, float64 (one more k in space).

    Example:
        >>> import pdo_jax as pdo
        >>> stencils, coefficients = span(pdo.filter_basis("p8"))
        >>> stencils.shape, coefficients.shape
        ((12, 5, 5), (8, 9, 12))
    """
    filters = basis.values.reshape(-1, basis.size**basis.group.ndim)
    rows, pivots = echelon(filters, 1e-10 * float(np.linalg.norm(filters, 2)))
    stencils = rows.reshape(-1, *basis.values.shape[2:])
    coefficients = filters[:, pivots].reshape(*basis.values.shape[:2], -1)
    for array in (stencils, coefficients):
        array.flags.writeable = False
    return stencils, coefficients


def echelon(filters: np.ndarray, tolerance: float) -> tuple[np.ndarray, list[int]]:
    """Return the reduced echelon form of real or complex filters, with complete pivoting.

        filters = filters[:, pivots] rows

    Args:
        filters: `(filters, taps)`.
        tolerance: singular values up to this are rounding.

    Returns:
        `(rank, taps)` rows, and the taps where one of them is 1 and the others are 0.
    """
    _, sizes, rows = np.linalg.svd(filters, full_matrices=False)
    rows = rows[: np.count_nonzero(sizes > tolerance)]
    pivots: list[int] = []
    for i in range(len(rows)):
        left = np.abs(rows[i:])
        # The first of all that are as large as the largest but for rounding: symmetric filters
        # then get symmetric, sparse stencils.
        row, pivot = np.unravel_index(np.argmax(left >= left.max() * (1 - 1e-9)), left.shape)
        rows[[i, i + row]] = rows[[i + row, i]]
        rows[i] /= rows[i, pivot]
        others = np.arange(len(rows)) != i
        rows[others] -= np.outer(rows[others, pivot], rows[i])
        pivots.append(int(pivot))
    rows[np.abs(rows) < 1e-12] = 0
    return rows, pivots
