"""The constant tensor of a layer; of a PDO-eConv: groups x operators x stencils -> filters.

A filter w of 3x3 numbers is read as a polynomial H of d_x, d_y: w = c T, where row i of T is the
second-order stencil of monomial i, so c = w T^-1. Element g of the group turns H into H(A_g^-1 d),
which is a sum of more monomials (15 in the plane), each with a stencil of its own (rows of D):

    basis[g] = T^-1 . R_g . D             kernel_g = sum_m w[m] basis[g, m]

Read `groups`, `operators` and `stencils` first: this file only puts them together.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from typing import Any

import numpy as np

from pdo_jax import _check, operators, stencils
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group

Orientation = float | tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class FilterBasis:
    """How every weight of a filter looks after each element of a group: what a layer is made of.

        kernel_g = sum_m w[m] values[g, m]

    `filter_basis` makes those of PDO-eConvs and `pdo_jax.pde` some others, but any values do that
    move with the group: values[h g] is values[g] moved by h, which is checked for the elements h
    that permute the pixels. Bases are immutable, compare and hash by value, and pickle.

    Args:
        group: the `Group` G or its name.
        values: `(|G|, M, k, k)`, k odd; `(|G|, M, k, k, k)` in space. Kept in float64, read-only.

    Raises:
        ValueError: if the values have another shape, or do not move with the group.

    Example:
        >>> bars = np.zeros((4, 1, 3, 3))
        >>> bars[::2, 0, 1, :] = bars[1::2, 0, :, 1] = 1.0  # lying, standing, lying, standing
        >>> FilterBasis(as_group("p4"), bars).num_operators
        1
    """

    group: Group
    values: np.ndarray = dataclasses.field(repr=False, compare=False)
    digest: str = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        group, taps = as_group(self.group), values.shape[2:]
        shape = (group.order, *values.shape[1:2], *taps[:1] * group.ndim)
        if values.ndim != 2 + group.ndim or values.shape != shape or not values.size:
            axes = f"(|G|, M{', k' * group.ndim})"
            raise ValueError(
                f"values has shape {values.shape}, but {axes} with |G| = {group.order} is needed "
                f"for {group.name}; stack the kernels of every element."
            )
        if taps[0] % 2 == 0:
            raise ValueError(
                f"values has shape {values.shape}: the number of taps k (={taps[0]}) must be odd, "
                f"so that a kernel has a middle; pad it to {taps[0] + 1}."
            )
        if not np.isfinite(values).all() or not values.any():
            raise ValueError(
                "values must be finite and not all 0, but the largest is "
                f"{np.max(np.abs(values))}; check the kernels that were stacked."
            )
        flat = values.reshape(*values.shape[:2], -1)
        for h in np.flatnonzero(group.on_grid):
            where = _moved_taps(taps, group.matrices[h])
            error = np.max(np.abs(flat[group.product[h]][:, :, where] - flat))
            if error > 1e-9 * np.max(np.abs(values)):
                raise ValueError(
                    f"values must move with the group, but values[h g] and values[g] moved by h, "
                    f"element {h} of {group.name}, differ by {error:.2g}; rotate the filters."
                )
        values.flags.writeable = False
        digest = hashlib.sha256(values.tobytes() + str(values.shape).encode()).hexdigest()
        object.__setattr__(self, "group", group)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "digest", digest)

    @property
    def size(self) -> int:
        """The number k of taps along every axis."""
        return self.values.shape[-1]

    @property
    def num_operators(self) -> int:
        """The number M of filters, and so of free weights for a pair of channels."""
        return self.values.shape[1]

    def __reduce__(self) -> tuple:
        return type(self), (self.group, self.values)


def _moved_taps(taps: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Return where a matrix that permutes the taps puts each of them, as indices of flat kernels.

    Args:
        taps: `(k, k)`, or `(k, k, k)` in space.
        matrix: a signed permutation, in coordinates x right, y up, z in depth.
    """
    rows = np.indices(taps).reshape(len(taps), -1) - taps[0] // 2
    signs = np.where(np.arange(len(taps)) == 1, -1, 1)[:, None]  # rows are z, y downwards, x
    moved = (signs * (matrix @ (signs * rows[::-1])))[::-1].astype(int)
    return np.asarray(np.ravel_multi_index(tuple(moved + taps[0] // 2), taps))


@dataclasses.dataclass(frozen=True)
class OperatorBasis(FilterBasis):
    """The basis of a PDO-eConv, as `filter_basis` makes it; it compares by its options as well.

    Attributes:
        group: the group G.
        order: the largest order of derivative, as `operators` counts it.
        orientation: the angle phi (in space: the matrix) of the frame of the free weights.
        scheme: the name of the discretisation.
        accuracy: the order of the discretisation's error in the mesh size.
        operators: "box" or "total".
        sigma: the standard deviation of the scheme "gaussian" in pixels, None for others.
        band: the largest frequency of the scheme "optimal" in radians per pixel, None for others.
        size: the number k of taps along every axis.
        monomials: the exponents of the M operators.
        synthesis: `(M, M)` float64: weights = coefficients @ synthesis (T of this module).
        values: `(|G|, M, k, k)` float64, read-only; `(|G|, M, k, k, k)` in space.
    """

    order: int
    orientation: Orientation
    scheme: str
    accuracy: int
    operators: str
    sigma: float | None
    band: float | None
    monomials: tuple[operators.Monomial, ...] = dataclasses.field(repr=False, compare=False)
    synthesis: np.ndarray = dataclasses.field(repr=False, compare=False)

    def weights(self, coefficients: np.ndarray, mesh: float = 1.0) -> np.ndarray:
        """Return the weights of an operator that is given in physical units.

            w = c diag(mesh^-d) T,    d the degrees of the monomials

        Args:
            coefficients: `(M, ...)` coefficients c of `monomials`, in units of length^d.
            mesh: the distance of two pixels, above 0.

        Returns:
            `(M, ...)` float64 weights, as the layers take them.

        Example:
            >>> B = filter_basis("p4")
            >>> c = np.eye(9)[1]                                  # the operator d_x
            >>> B.weights(c, mesh=0.5).reshape(3, 3)[1].tolist()  # its stencil at mesh 1/2
            [-1.0, 0.0, 1.0]
        """
        mesh = _check.real("mesh", mesh)
        if mesh <= 0:
            raise ValueError(f"mesh (={mesh}) must be above 0; pass the distance of two pixels.")
        coefficients = np.asarray(coefficients)
        if coefficients.shape[:1] != (self.num_operators,):
            raise ValueError(
                f"coefficients has shape {coefficients.shape}, but ({self.num_operators}, ...) is "
                "needed; pass one coefficient for each of the basis's monomials."
            )
        degrees = np.array([sum(m) for m in self.monomials])
        return np.tensordot((mesh**-degrees)[:, None] * self.synthesis, coefficients, axes=(0, 0))

    def __reduce__(self) -> tuple:
        options = (f.name for f in dataclasses.fields(self) if f.compare and f.init)
        return _build, (*(getattr(self, name) for name in options), self.size)


@functools.lru_cache(maxsize=256)
def _build(
    group: Group,
    order: int,
    orientation: Orientation,
    scheme: str,
    accuracy: int,
    family: str,
    sigma: float | None,
    band: float | None,
    size: int | None,
) -> OperatorBasis:
    """Compute a basis from checked options: T^-1 . R_g . D."""
    sources = operators.monomials(group.ndim, order, family)
    targets = operators.monomials(group.ndim, max(map(sum, sources)), "total")
    frames = group.matrices @ _frame(orientation, group.ndim)
    rotated = operators.transform(frames, sources, targets)
    occurring = [i for i in range(len(targets)) if np.any(rotated[:, :, i])]
    discretisation = stencils.SCHEMES[scheme]
    width = discretisation.width({"sigma": sigma, "band": band})
    needed = max(discretisation.extent(targets[i], accuracy) for i in occurring)
    k = max(needed, discretisation.reach(width)) if size is None else size
    if k < needed:
        raise ValueError(
            f"size (={k}) is too small: {scheme!r} stencils of accuracy {accuracy} for "
            f"{group.name} need {needed}; pass size={needed} or None."
        )
    rows = [discretisation.stencil(targets[i], accuracy, k, width) for i in occurring]
    taps = np.stack([stencils.centred(stencil, k) for stencil in rows])
    synthesis = _synthesis(group.ndim, order, family, sources)
    mixed = np.einsum("mi,git->gmt", np.linalg.inv(synthesis), rotated[:, :, occurring])
    values = np.tensordot(mixed, taps, axes=1)
    synthesis.flags.writeable = False
    return OperatorBasis(
        group,
        values,
        order,
        orientation,
        scheme,
        accuracy,
        family,
        sigma,
        band,
        sources,
        synthesis,
    )


def _frame(orientation: Orientation, ndim: int) -> np.ndarray:
    """Return the matrix R(phi) of the frame in which the free weights live."""
    if isinstance(orientation, tuple):
        return np.array(orientation)
    if ndim == 2:
        cos, sin = math.cos(orientation), math.sin(orientation)
        return np.array([[cos, -sin], [sin, cos]])
    return np.eye(ndim)


def _synthesis(
    ndim: int, order: int, family: str, sources: tuple[operators.Monomial, ...]
) -> np.ndarray:
    """Return the matrix that turns coefficients of monomials into free weights.

    For box order 2 these are the taps of the 3x3 filter. Otherwise no small filter has as many taps
    as there are operators, and (S S^T)^(1/2) takes T's place, so that iid weights stay well scaled.
    """
    rows = [stencils.finite_difference(m, 2) for m in sources]
    size = max(max(stencil.shape) for stencil in rows)
    matrix = np.stack([stencils.centred(stencil, size).ravel() for stencil in rows])
    if (order, family) == (2, "box"):
        return matrix
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    return (vectors * np.sqrt(values)) @ vectors.T


def _canonical_orientation(orientation: Any, ndim: int) -> Orientation:
    """Check an orientation and return it as a hashable value."""
    if ndim == 2 or np.ndim(orientation) == 0:
        angle = _check.real("orientation", orientation)
        if ndim > 2 and angle != 0:
            raise ValueError(
                f"orientation (={angle}) must be 0 or a {ndim}x{ndim} rotation matrix for a group "
                "of space; pass a matrix."
            )
        return angle
    matrix = np.asarray(orientation, np.float64)
    rotation = matrix.shape == (ndim, ndim) and np.allclose(matrix @ matrix.T, np.eye(ndim))
    if not rotation or np.linalg.det(matrix) < 0:
        raise ValueError(
            f"orientation (={matrix.tolist()}) must be 0 or a {ndim}x{ndim} rotation matrix; "
            "normalise it."
        )
    return tuple(map(tuple, matrix.tolist()))


def filter_basis(
    group: Group | str,
    order: int = 2,
    orientation: Any = 0.0,
    scheme: str = "finite-difference",
    accuracy: int = 2,
    *,
    operators: str = "box",
    sigma: float | None = None,
    band: float | None = None,
    size: int | None = None,
) -> OperatorBasis:
    """Return the constant tensor from which all kernels of a PDO-eConv are made.

        basis[g] = T^-1 . R_g . D             kernel_g = sum_m w[m] basis[g, m]

    T are the accuracy-2 stencils of the M operators on 3x3 pixels, R_g expands their images under
    A_g = g R(orientation) in monomials, D are the stencils of those monomials. At angle 0 with
    central differences of accuracy 2 the kernel is w itself. Computed once in float64 and cached.

    Args:
        group: a `Group` or its name.
        order: the largest order of derivative in each variable ("box") or in all ("total").
        orientation: the angle in radians of the frame of the free weights. The default 0 keeps
            the first kernel a 3x3 filter; pi/8 makes the kernels of p8 equally large.
        scheme: the discretisation. "finite-difference": the shortest central differences.
            "gaussian": derivatives of a Gaussian blur. "rbf-fd": exact on polyharmonic splines.
            "optimal": the least equivariance error over a band of frequencies at this size.
        accuracy: the even order of its error in the mesh size.
        operators: "box" or "total" (total degree at most `order`: closed under rotation).
        sigma: of "gaussian": the standard deviation in pixels, at least 0.3; by default 1.
        band: of "optimal": the largest spatial frequency in radians per pixel at which the error
            counts, at most pi, the default.
        size: the number of taps along an axis, odd; None for the smallest that holds what occurs
            (with "gaussian" at least two standard deviations on both sides).

    Returns:
        An `OperatorBasis`, which is a `FilterBasis`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> B = filter_basis("p8", orientation=np.pi / 8)
        >>> B.values.shape, B.size, B.num_operators
        ((8, 9, 5, 5), 5, 9)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020). The official code fixes n in {1, 4, 8, 12},
        orientation pi/8 and accuracy 2 on 5x5 pixels.
    """
    group = as_group(group)
    scheme = _check.choice("scheme", scheme, tuple(stencils.SCHEMES))
    option = stencils.SCHEMES[scheme].option
    width = stencils.SCHEMES[scheme].width({"sigma": sigma, "band": band})
    if size is not None:
        size = _check.odd("size", size)
    return _build(
        group,
        _check.integer("order", order, 0),
        _canonical_orientation(orientation, group.ndim),
        scheme,
        stencils.check_accuracy(accuracy),
        _check.choice("operators", operators, ("box", "total")),
        width if option == "sigma" else None,
        width if option == "band" else None,
        size,
    )
