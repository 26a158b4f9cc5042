"""The moment conditions that make an array of taps a derivative, and symmetric stencils under them.

A stencil c with taps at the integer offsets j approximates the derivative of exponents t with an
error of order p in the mesh size if

    sum_j c_j j^a / a! = 1 if a == t else 0          for all exponents a with |a| <= |t| + p - 1

(a!, j^a and |a| as usual for several variables). A stencil that is even in the variables of even
exponent and odd in the others meets all conditions but those of its own parity by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.operators import Monomial
from pdo_jax.stencils.taps import layout, offsets


def check_accuracy(accuracy: int) -> int:
    """Return `accuracy` if it is an even integer of at least 2, as symmetric stencils have."""
    accuracy = _check.integer("accuracy", accuracy, 2)
    if accuracy % 2:
        raise ValueError(
            f"accuracy (={accuracy}) must be even, as every central difference's is; "
            f"pass {accuracy + 1}."
        )
    return accuracy


def check_moments(stencil: np.ndarray, exponents: Monomial | int, accuracy: int) -> None:
    """Raise unless a stencil satisfies the moment conditions of a derivative at an accuracy.

    Args:
        stencil: the taps, an odd number along every axis, laid out as the array is.
        exponents: the order t of the derivative in each variable; an integer in one variable.
        accuracy: the order p of the error.

    Raises:
        ValueError: naming the first moment that is wrong.

    Example:
        >>> check_moments(np.array([-0.5, 0.0, 0.5]), 1, accuracy=2)
    """
    wanted = (exponents,) if isinstance(exponents, int) else tuple(exponents)
    taps = stencil.transpose() if stencil.ndim < 2 else np.flip(stencil, -2).transpose()
    degree = sum(wanted) + accuracy - 1
    for a in itertools.product(range(degree + 1), repeat=len(wanted)):
        if sum(a) > degree:
            continue
        moment, magnitude = taps, np.abs(taps)
        for power in a:  # the first axis that is left belongs to the next variable
            steps = np.arange(len(moment), dtype=np.float64) - len(moment) // 2
            powers = steps**power / math.factorial(power)
            moment = np.tensordot(powers, moment, axes=1)
            magnitude = np.tensordot(np.abs(powers), magnitude, axes=1)
        if abs(moment - (a == wanted)) > 1e-11 * max(1.0, magnitude):
            raise ValueError(
                f"taps (={stencil.tolist()}) have moment {', '.join(map(str, a))} equal "
                f"to {moment}, but a derivative of order {exponents} at accuracy {accuracy} needs "
                f"{int(a == wanted)}; solve the moment conditions again."
            )


def finished(
    exponents: Monomial, cubes: Mapping[Monomial, np.ndarray], accuracy: int
) -> Float[np.ndarray, "*taps"]:
    """Return the stencil of a derivative, checked, and equal to its mirror images to rounding.

    An exchange of axes turns the stencil of t into another one's. The mean over all exchanges
    removes what rounding broke, so that quarter turns are exact.

    Args:
        exponents: the order t of the derivative in each variable.
        cubes: for every permutation of t the taps at `offsets`, as a cube with axes x, y (z).
        accuracy: the order of the error.

    Returns:
        The float64 taps, read-only, as a correlation kernel laid out as the array is.
    """
    ndim, size = len(exponents), len(cubes[tuple(exponents)])
    images = [
        cubes[tuple(exponents[i] for i in axes)].transpose(np.argsort(axes))
        for axes in itertools.permutations(range(ndim))
    ]
    stencil = layout(np.mean(images, axis=0).ravel(), size, ndim)
    check_moments(stencil, exponents, accuracy)
    stencil.flags.writeable = False
    return stencil


class Symmetric(NamedTuple):
    """The stencils of the parity of a derivative, by the taps at offsets that are not negative.

    Attributes:
        spread: `(taps, R)`: all taps at `offsets` from the R representatives.
        conditions: `(A, R)`: the moments of the derivative's parity, from the representatives.
        moments: `(A,)`: what they must be.
    """

    spread: np.ndarray
    conditions: np.ndarray
    moments: np.ndarray


def symmetric(exponents: Monomial, accuracy: int, size: int) -> Symmetric:
    """Return the symmetric stencils of a derivative and the moment conditions on them.

    Args:
        exponents: the order t of the derivative in each variable.
        accuracy: the order p of the error.
        size: the odd number of taps along every axis, at least `extent(exponents, accuracy)`.

    Example:
        >>> space = symmetric((2,), 2, 3)  # c_1 and c_0, with c_-1 = c_1
        >>> np.linalg.solve(space.conditions, space.moments).tolist()
        [-2.0, 1.0]
    """
    points = offsets(size, len(exponents))
    odd = np.array(exponents) % 2 == 1
    signs = np.prod(np.where(odd, np.sign(points), 1), axis=1)
    kept = np.flatnonzero(signs)  # an odd stencil is zero where an odd variable is
    _, representative = np.unique(np.abs(points[kept]), axis=0, return_inverse=True)
    spread = np.zeros((len(points), representative.max() + 1))
    spread[kept, representative.ravel()] = signs[kept]

    conditions = same_parity(exponents, accuracy)
    powers = [
        np.prod(points.astype(float) ** np.array(a), axis=1) / math.prod(map(math.factorial, a))
        for a in conditions
    ]
    moments = np.array([float(a == tuple(exponents)) for a in conditions])
    return Symmetric(spread, np.stack(powers) @ spread, moments)


def same_parity(exponents: Monomial, accuracy: int) -> list[Monomial]:
    """Return the exponents a of the moment conditions that symmetry does not fulfil by itself.

    Example:
        >>> same_parity((2, 0), 2)
        [(0, 0), (0, 2), (2, 0)]
    """
    degree = sum(exponents) + accuracy - 1
    ranges = [range(t % 2, degree + 1, 2) for t in exponents]
    return [a for a in itertools.product(*ranges) if sum(a) <= degree]


def extent(exponents: Monomial, accuracy: int) -> int:
    """Return the smallest odd size on which the moment conditions are independent.

    Powers j^a on k points are independent up to a = k - 1.

    Example:
        >>> extent((2, 0), 2), extent((2, 2), 2)
        (3, 5)
    """
    largest = max(max(a) for a in same_parity(exponents, accuracy))
    return largest + 1 + largest % 2


def constrained_minimum(
    quadratic: Float[np.ndarray, "r r"],
    linear: Float[np.ndarray, " r"],
    conditions: Float[np.ndarray, "a r"],
    moments: Float[np.ndarray, " a"],
) -> Float[np.ndarray, " r"]:
    """Return where z^T Q z / 2 - b^T z is stationary under the conditions C z = m.

    Solved in the null space of the conditions, so that these hold to rounding whatever Q is.

    Args:
        quadratic: Q, symmetric and definite on the null space of C.
        linear: b.
        conditions: C.
        moments: m.

    Returns:
        The only such z.

    Example:
        >>> constrained_minimum(np.diag([1.0, 3.0]), np.zeros(2), np.ones((1, 2)), np.ones(1))
        array([0.75, 0.25])
    """
    left, values, right = np.linalg.svd(conditions)
    rank = int(np.sum(values > 1e-12 * values[0]))
    start = right[:rank].T @ ((left[:, :rank].T @ moments) / values[:rank])
    free = right[rank:].T
    step = np.linalg.solve(free.T @ quadratic @ free, free.T @ (linear - quadratic @ start))
    return start + free @ step
