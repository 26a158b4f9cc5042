"""Finite point groups: the rotations and mirrors that a layer is equivariant to.

A group is a finite set of orthogonal matrices that is closed under products. Everything else in
the library takes a `Group` as a value and reads only its matrices, product table and inverses.

    element k of p{n}          R(2 pi k / n)                     k = 0 .. n-1
    element k of p{n}m         R(2 pi k / n)                     k = 0 .. n-1
                               R(2 pi (k - n) / n) diag(1, -1)   k = n .. 2n-1

In space each group is a smaller one, times the powers of one more matrix:

    element 4 c + s of T       half turn s . C^c       C: x -> y -> z -> x        c = 0 .. 2
    element 12 q + t of O      t . Q^q                 Q: a quarter turn about z  q = 0, 1
    element 24 i + o of Oh     o . (-1)^i                                         i = 0, 1
    element 12 f + t of I      t . F^f                 F: a fifth of a turn       f = 0 .. 4

The half turns s are the identity and those about x, y and z, in this order.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np

from pdo_jax import _check

# Below this an entry of a product of orthogonal matrices differs from another's by rounding alone.
_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Group:
    """A finite group of orthogonal matrices, checked for closure when it is made.

    `pdo_jax.group`, `cyclic` and `dihedral` make the usual ones. Groups are immutable, compare and
    hash by value, and pickle.

    Args:
        name: a short name; for the groups that `pdo_jax.group` knows, the canonical one.
        matrices: `(order, ndim, ndim)` orthogonal matrices, the identity first, in coordinates
            x to the right, y up (and z in depth).

    Attributes:
        order: the number of elements |G|.
        ndim: the dimension of the space on which the group acts.
        product: `(order, order)` integers; `product[g, h]` is the index of the element g h.
        inverse: `(order,)` integers; `inverse[g]` is the index of the inverse of g.
        on_grid: `(order,)` booleans; whether the element maps the pixel grid to itself.

    Raises:
        ValueError: if the matrices are not orthogonal, distinct, closed under products, or do not
            begin with the identity.

    Example:
        >>> G = Group("half-turns", np.stack([np.eye(2), -np.eye(2)]))
        >>> G.order, G.product.tolist()
        (2, [[0, 1], [1, 0]])
    """

    name: str
    matrices: np.ndarray
    product: np.ndarray = dataclasses.field(init=False)
    inverse: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        matrices = np.array(self.matrices, np.float64)
        if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or not matrices.size:
            raise ValueError(
                f"matrices has shape {matrices.shape}, but (order, ndim, ndim) is needed; "
                "stack one square matrix for each element."
            )
        gram = np.einsum("gij,gkj->gik", matrices, matrices)
        identity = np.eye(matrices.shape[1])
        if not np.allclose(gram, identity, rtol=0, atol=_TOLERANCE):
            raise ValueError(
                f"matrices of the group {self.name!r} must be orthogonal; normalise them."
            )
        if not np.allclose(matrices[0], identity, rtol=0, atol=_TOLERANCE):
            raise ValueError(
                f"matrices[0] of the group {self.name!r} must be the identity; put it first."
            )
        object.__setattr__(self, "matrices", _frozen(matrices))
        if len(np.unique(self.index(matrices))) != len(matrices):
            raise ValueError(
                f"matrices of the group {self.name!r} must be distinct; remove the copies."
            )
        product = np.stack([self.index(g @ matrices) for g in matrices])
        object.__setattr__(self, "product", _frozen(product))
        object.__setattr__(self, "inverse", _frozen(np.argmin(product, axis=1)))

    @property
    def order(self) -> int:
        """The number of elements."""
        return len(self.matrices)

    @property
    def ndim(self) -> int:
        """The dimension of the space on which the group acts."""
        return self.matrices.shape[1]

    @functools.cached_property
    def on_grid(self) -> np.ndarray:
        """Whether each element permutes the pixel grid: `(order,)` booleans, read-only."""
        return _frozen(np.all(np.isin(self.matrices, (-1.0, 0.0, 1.0)), axis=(1, 2)))

    def index(self, matrices: np.ndarray) -> np.ndarray:
        """Return the indices of orthogonal `matrices` in this group.

        For orthogonal matrices <A, B> = trace(A^T B) is at most ndim, and equal to it only if
        A = B, so one matrix product compares everything with everything.

        Args:
            matrices: `(..., ndim, ndim)` orthogonal matrices.

        Returns:
            `(...)` integers.

        Raises:
            ValueError: if one of them is not an element of the group.

        Example:
            >>> group("p4").index(np.array([[-1.0, 0.0], [0.0, -1.0]]))
            array(2)
        """
        size = self.ndim**2
        if np.shape(matrices)[-2:] != (self.ndim, self.ndim):
            raise ValueError(
                f"matrices has shape {np.shape(matrices)}, but (..., {self.ndim}, {self.ndim}) is "
                f"needed for {self.name}; pass orthogonal matrices."
            )
        inner = np.reshape(matrices, (-1, size)) @ self.matrices.reshape(-1, size).T
        # |A - B|^2 = 2 (ndim - <A, B>); the tolerance is far below the distance of two elements.
        if np.any(np.max(inner, axis=1) < self.ndim - _TOLERANCE):
            worst = np.reshape(matrices, (-1, size))[np.argmin(np.max(inner, axis=1))]
            raise ValueError(
                f"the matrix {worst.reshape(self.ndim, self.ndim).round(6).tolist()} is not an "
                f"element of the group {self.name!r}: a group must be closed under products, and "
                "a subgroup's matrices must be among the group's."
            )
        return np.asarray(np.argmax(inner, axis=1).reshape(np.shape(matrices)[:-2]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self.name == other.name and np.array_equal(self.matrices, other.matrices)

    def __hash__(self) -> int:
        return hash((self.name, self.order, self.ndim))

    def __repr__(self) -> str:
        return f"Group({self.name!r}, order={self.order}, ndim={self.ndim})"

    def __reduce__(self) -> tuple:
        return Group, (self.name, self.matrices)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _rotations(n: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(n) / n
    cos, sin = np.cos(angles), np.sin(angles)
    matrices = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    # cos(pi / 2) is 6e-17 in floating point: quarter turns must be exact to permute the grid.
    nearest = np.round(matrices)
    return np.where(np.abs(matrices - nearest) < 1e-14, nearest, matrices)


@functools.cache
def _cyclic(n: int) -> Group:
    return Group(f"p{n}", _rotations(n))


@functools.cache
def _dihedral(n: int) -> Group:
    rotations = _rotations(n)
    return Group(f"p{n}m", np.concatenate([rotations, rotations @ np.diag([1.0, -1.0])]))


def cyclic(n: int) -> Group:
    """Return the group p{n} of the n rotations by multiples of 2 pi / n.

    Args:
        n: the number of rotations, at least 1.

    Returns:
        The group, named `p{n}`.

    Raises:
        TypeError, ValueError: if `n` is not an integer of at least 1.

    Example:
        >>> cyclic(4).matrices[1].tolist()
        [[0.0, -1.0], [1.0, 0.0]]
    """
    return _cyclic(_check.integer("n", n, 1))


def dihedral(n: int) -> Group:
    """Return the group p{n}m of n rotations and n mirrors, of order 2n.

    Args:
        n: the number of rotations, at least 1.

    Returns:
        The group, named `p{n}m`; elements n .. 2n-1 are R(2 pi k / n) diag(1, -1).

    Raises:
        TypeError, ValueError: if `n` is not an integer of at least 1.

    Example:
        >>> dihedral(6)
        Group('p6m', order=12, ndim=2)
    """
    return _dihedral(_check.integer("n", n, 1))


def _tetrahedral() -> np.ndarray:
    half_turns = np.stack([np.diag(d) for d in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))])
    cycle = np.roll(np.eye(3), 1, axis=0)  # x -> y -> z -> x
    return _times_powers(half_turns, cycle, 3)


def _octahedral() -> np.ndarray:
    quarter_turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x -> y
    return _times_powers(_tetrahedral(), quarter_turn, 2)


def _full_octahedral() -> np.ndarray:
    return _times_powers(_octahedral(), -np.eye(3), 2)


def _icosahedral() -> np.ndarray:
    # A fifth of a turn about the vertex (0, 1, golden) of the icosahedron whose others are
    # (0, +-1, +-golden) and their cyclic permutations.
    golden = (1 + np.sqrt(5)) / 2
    rows = [[1 / golden, -golden, 1], [golden, 1, 1 / golden], [-1, 1 / golden, golden]]
    return _times_powers(_tetrahedral(), np.array(rows) / 2, 5)


def _times_powers(matrices: np.ndarray, generator: np.ndarray, count: int) -> np.ndarray:
    """Return `matrices` times each of the first `count` powers of a matrix, power by power."""
    powers = [np.linalg.matrix_power(generator, k) for k in range(count)]
    return np.concatenate([matrices @ power for power in powers]) + 0.0  # and no -0.0


_SPACE = {"T": _tetrahedral, "O": _octahedral, "Oh": _full_octahedral, "I": _icosahedral}


@functools.cache
def _polyhedral(name: str) -> Group:
    return Group(name, _SPACE[name]())


def group(name: str | Group) -> Group:
    """Return a point group by its name.

    Args:
        name: in the plane `"p{n}"` or `"C{n}"` for n rotations, `"p{n}m"` or `"D{n}"` for n
            rotations and n mirrors, any n >= 1. In space `"T"`, `"O"` and `"I"` for the 12, 24 and
            60 rotations of a tetrahedron, an octahedron (or cube) and an icosahedron, all with
            two-fold axes along x, y and z, and `"Oh"` for the 48 rotations and mirrors of a cube.
            A `Group` is returned as it is.

    Returns:
        The group; equal groups are equal whatever they were called: `group("C8") == group("p8")`.

    Raises:
        TypeError: if `name` is neither a string nor a `Group`.
        ValueError: if there is no such group.

    Example:
        >>> G = group("D6")
        >>> G.name, G.order, G.ndim
        ('p6m', 12, 2)
        >>> group("I"), int(group("I").on_grid.sum())
        (Group('I', order=60, ndim=3), 12)
    """
    if isinstance(name, Group):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"group (={name!r}) must be a name or a Group, got {type(name).__name__}; "
            "pass e.g. 'p8'."
        )
    if match := re.fullmatch(r"(p|C)([1-9][0-9]*)", name, re.ASCII):
        return cyclic(int(match[2]))
    if match := re.fullmatch(r"p([1-9][0-9]*)m|D([1-9][0-9]*)", name, re.ASCII):
        return dihedral(int(match[1] or match[2]))
    if name in _SPACE:
        return _polyhedral(name)
    raise ValueError(
        f"group (={name!r}) is not known; write 'p{{n}}' or 'C{{n}}' for n rotations, 'p{{n}}m' or "
        "'D{n}' with mirrors, n >= 1, such as 'p8' or 'p6m', or in space 'T', 'O', 'Oh' or 'I'."
    )
