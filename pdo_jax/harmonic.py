"""Filters sorted by how they turn: what a Fourier transform over the rotations makes of a basis.

A group G has a cyclic subgroup of n rotations c^a, and its elements are c^a r_e with few r_e: one
for p{n}, two for p{n}m. The filters of a basis are then

    basis[c^a r_e, m] = sum_s e^{2 pi i s a / n} sum_j c_sj[e, m] D_sj

with few complex stencils D_sj for each s: 12 in all for p8, counted with their conjugates.
`harmonic_conv` convolves with them.
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from pdo_jax.basis import FilterBasis
from pdo_jax.groups import Group
from pdo_jax.span import echelon


class Rotations(NamedTuple):
    """A largest cyclic subgroup, and what the others are made of.

    Attributes:
        elements: `(cosets, n)`: the index of c^a r_d; the first row is the subgroup.
        between: `(cosets e, n, cosets d)`: the index of r_e^-1 c^t r_d.
    """

    elements: np.ndarray
    between: np.ndarray

    @property
    def order(self) -> int:
        """Of the subgroup."""
        return self.elements.shape[1]


@functools.lru_cache(maxsize=64)
def rotations(group: Group) -> Rotations:
    """Return a largest cyclic subgroup of proper rotations.

    Example:
        >>> import pdo_jax as pdo
        >>> rotations(pdo.group("p4m")).elements
        array([[0, 1, 2, 3],
               [4, 5, 6, 7]])
    """
    best: list[int] = [0]
    for g in range(group.order):
        powers = [0]
        while (power := int(group.product[g, powers[-1]])) != 0:
            powers.append(power)
        if np.linalg.det(group.matrices[g]) > 0 and len(powers) > len(best):
            best = powers
    rows: list[list[int]] = []
    for r in range(group.order):
        if not any(r in row for row in rows):
            rows.append([int(group.product[c, r]) for c in best])
    elements = np.array(rows)
    first = elements[:, 0]
    between = group.product[group.inverse[first][:, None, None], elements.T[None]]
    return Rotations(elements, between)


def natural(group: Group) -> bool:
    """Return whether a group lists its rotations coset by coset, as all groups of the plane do."""
    elements = rotations(group).elements
    return np.array_equal(elements.ravel(), np.arange(group.order))


@functools.lru_cache(maxsize=256)
def harmonics(basis: FilterBasis) -> tuple[tuple[tuple[int, np.ndarray], ...], np.ndarray]:
    """Return complex stencils that span the filters of a basis, sorted by how they turn.

        basis[c^a r_e, m] = sum_k (2 - [D_k real]) Re(e^{2 pi i s_k a / n} table[k, e, m] D_k)

    Only turns s from 0 to n / 2 are listed: the others are their conjugates. Those with s = 0 and
    s = n / 2 are real. For every s they are the reduced echelon form of what occurs, so every
    stencil has a tap of 1 where the others of its turn have 0.

    Args:
        basis: the `FilterBasis`.

    Returns:
        Pairs of s and a `(k, k)` stencil, complex128 or float64; and the `(K, cosets, M)` table.

    Example:
        >>> import pdo_jax as pdo
        >>> stencils, coefficients = harmonics(pdo.filter_basis("p8"))
        >>> [s for s, _ in stencils], coefficients.shape
        ([0, 0, 0, 1, 1, 2, 3, 4], (8, 1, 9))
    """
    elements = rotations(basis.group).elements
    cosets, order = elements.shape
    values = np.swapaxes(basis.values[elements], 0, 1)  # (n, cosets, M, k, k)
    turned = np.fft.fft(values.reshape(order, cosets * basis.num_operators, -1), axis=0) / order
    scale = float(np.linalg.norm(basis.values))
    found, coefficients = [], []
    for s in range(order // 2 + 1):
        filters = np.real(turned[s]) if _is_real(s, order) else turned[s]
        rows, pivots = echelon(filters, 1e-10 * scale)
        found += [(s, row.reshape(basis.values.shape[2:])) for row in rows]
        coefficients.append(filters[:, pivots].T)
    table = np.concatenate(coefficients).reshape(-1, cosets, basis.num_operators)
    table.flags.writeable = False
    return tuple(found), table


def _is_real(turn: int, order: int) -> bool:
    return 2 * turn % order == 0


def taps(basis: FilterBasis) -> int:
    """Return how many taps the harmonics of a basis have together: what compiling them costs."""
    return sum(
        int(np.count_nonzero(part))
        for _, d in harmonics(basis)[0]
        for part in (np.real(d), np.imag(d))
    )


def expand(weights: Float[jax.Array, "m g i o"], basis: FilterBasis, dtype: Any) -> jax.Array:
    """Return free weights as those of the harmonics: real parts, then imaginary parts.

    Args:
        weights: `(M, |G|, C_in, C_out)` free weights.
        basis: the `FilterBasis`.
        dtype: of the convolution.

    Returns:
        `(R, n, cosets C_in, cosets C_out)`: of all K harmonics the real parts, then of the complex
        ones, in their order, the imaginary parts.
    """
    stencils, coefficients = harmonics(basis)
    between = rotations(basis.group).between
    cosets, order, _ = between.shape
    complex_ones = [k for k, (_, d) in enumerate(stencils) if np.iscomplexobj(d)]
    matrix = np.concatenate([np.real(coefficients), np.imag(coefficients)[complex_ones]])
    precise = np.promote_types(weights.dtype, np.float32)
    product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    weights = weights.astype(precise)
    if cosets == 1:
        result = product("rm,mtio->rtio", jnp.asarray(matrix[:, 0], precise), weights)
        return result.astype(dtype)
    # Moved by a matrix of zeros and ones: the transpose of a gather would add one by one.
    moved = np.eye(basis.group.order)[between]  # (e, t, d, g)
    copies = product("etdg,mgio->etdmio", jnp.asarray(moved, precise), weights)
    result = product("rem,etdmio->rtdieo", jnp.asarray(matrix, precise), copies)
    shape = len(matrix), order, cosets * weights.shape[2], cosets * weights.shape[3]
    return result.reshape(shape).astype(dtype)
