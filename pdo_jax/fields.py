"""How a group acts on images and on fields, and what is left of a field under a subgroup.

    image           (L_g x)(p)     = x(g^-1 p)
    field           (L_g x)(p, h)  = x(g^-1 p, g^-1 h)
    field on G/H    (L_g x)(p, aH) = x(g^-1 p, g^-1 aH)
    invariant       L_g x          = x

A field on the cosets aH, such as orientations modulo 180 degrees (p8 / p2), is called by its
subgroup H. Cosets are in the order of their first elements; the field itself is the one on G/{e}.
Positions p are measured from the centre of the image, x to the right and y up. An element that
permutes the pixels does just that; any other samples an interpolating cubic spline.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group

KINDS = ("image", "field", "invariant")
Kind = str | Group  # one of KINDS, or the subgroup H of a field on G/H


def act(
    group: Group | str, element: int, x: Float[_check.Array, "..."], kind: Kind = "image"
) -> Float[jax.Array, "..."]:
    """Let an element of a group act on an image, a field or an invariant.

        image: y(p) = x(g^-1 p)          field: y(p, h) = x(g^-1 p, g^-1 h)

    On the field of a quotient h is a coset.

    Elements that permute the pixels (quarter turns, mirrors) are exact, and exchange H and W where
    they must. All others interpolate with a spline of order 3, keep the shape, and put zeros where
    the image ends (SciPy's `affine_transform` with order 3 and mode "constant" gives the same).

    Args:
        group: the `Group` or its name.
        element: the index of the element g.
        x: `(..., H, W, C)` for an image, `(..., H, W, |G|, C)` for a field, `(..., H, W, |G/H|, C)`
            for a field on the cosets of a subgroup H, anything for an invariant; any number of
            leading axes.
        kind: "image", "field", "invariant", or the subgroup H, a `Group`, of a field on G/H.

    Returns:
        The transformed array, in the dtype of `x`. Differentiable in `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> import pdo_jax as pdo
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
        >>> pdo.act("p4", 1, x)[..., 0].tolist()  # a quarter turn counter-clockwise
        [[2.0, 4.0], [1.0, 3.0]]
    """
    group = as_group(group)
    element = check_element(group, element)
    if check_kind("kind", kind, group) == "invariant":
        return jnp.asarray(x)
    if kind == "image":
        x = _check.floating("x", x, "(..., H, W, C)", group.ndim + 1)
        return transform(x, group.matrices[element])
    x = _check.floating("x", x, "(..., H, W, |G|, C)", group.ndim + 2)
    if isinstance(kind, Group):
        first, coset_of = cosets(group, kind)
        check_cosets(x, len(first), group, kind)
        source = coset_of[group.product[group.inverse[element], first]]
    else:
        _check.axis("x", x, -2, group.order, f"the order of {group.name}")
        source = group.product[group.inverse[element]]
    merged = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
    flat = transform(merged, group.matrices[element])
    moved = flat.reshape(*flat.shape[:-1], *x.shape[-2:])
    return moved[..., source, :]


def check_kind(name: str, kind: Kind, group: Group) -> Kind:
    """Return `kind` if it is one of `KINDS` or a subgroup of `group`."""
    if isinstance(kind, Group):
        members(group, kind, name)
        return kind
    return _check.choice(name, kind, KINDS)


def check_cosets(x: jax.Array, number: int, group: Group, subgroup: Group) -> None:
    """Raise unless axis -2 of `x` holds one entry for each coset."""
    what = f"the number of cosets of {subgroup.name} in {group.name}"
    _check.axis("x", x, -2, number, what)


def check_element(group: Group, element: int) -> int:
    """Return `element` if it is the index of one of the group's elements."""
    element = _check.integer("element", element, 0)
    if element >= group.order:
        raise ValueError(
            f"element (={element}) must be below {group.order}, the order of {group.name}; "
            "elements are counted from 0."
        )
    return element


def transform(
    x: Float[jax.Array, "... c"], matrix: Float[np.ndarray, "n n"]
) -> Float[jax.Array, "... c"]:
    """Move an image by an orthogonal matrix about its centre: y(p) = x(A^-1 p).

    Args:
        x: `(..., H, W, C)` image, or `(..., D, H, W, C)` for a matrix of space.
        matrix: `(ndim, ndim)` orthogonal matrix A in coordinates x right, y up, z in depth.

    Returns:
        The moved image: exact, with axes exchanged, if A permutes the axes up to sign; otherwise
        sampled from a cubic spline at unchanged shape, with zeros outside.

    Example:
        >>> transform(jnp.ones((4, 6, 1)), np.array([[0.0, -1.0], [1.0, 0.0]])).shape
        (6, 4, 1)
    """
    ndim = len(matrix)
    # Array axes run z, y, x with y downwards: reverse the order and the sign of y.
    signs = np.where(np.arange(ndim) == 1, -1.0, 1.0)
    inverse = (signs[:, None] * matrix.T * signs)[::-1, ::-1]
    if np.all(np.isin(inverse, (-1.0, 0.0, 1.0))):
        return _permute(x, inverse)
    return _sample(x, inverse)


def _permute(x: jax.Array, inverse: np.ndarray) -> jax.Array:
    """Apply a signed permutation of the spatial axes; row i says where source axis i comes from."""
    ndim = len(inverse)
    lead = x.ndim - 1 - ndim
    source_of = np.argmax(np.abs(inverse), axis=0)  # output axis -> source axis
    flipped = [lead + i for i in range(ndim) if inverse[i].sum() < 0]
    order = [*range(lead), *(lead + source_of), x.ndim - 1]
    return jnp.transpose(jnp.flip(x, flipped), order)


def _sample(x: jax.Array, inverse: np.ndarray) -> jax.Array:
    """Sample the interpolating cubic spline of `x` at the positions `inverse @ p`."""
    ndim = len(inverse)
    shape = x.shape[-1 - ndim : -1]
    lead = x.shape[: -1 - ndim]
    coefficients = x.reshape(-1, *shape, x.shape[-1])
    for i, n in enumerate(shape):
        # Full precision and at least float32: rounding here would look like broken symmetry.
        precise = np.promote_types(x.dtype, np.float32)
        matrix = jnp.asarray(prefilter(n), precise)
        coefficients = jnp.moveaxis(
            jnp.tensordot(
                matrix,
                coefficients.astype(precise),
                axes=(1, 1 + i),
                precision=lax.Precision.HIGHEST,
            ),
            0,
            1 + i,
        )
    indices, weights = _taps(shape, tuple(map(tuple, inverse.tolist())))
    flat = coefficients.reshape(-1, math.prod(shape), x.shape[-1])
    result = jnp.zeros_like(flat)
    for index, weight in zip(indices, weights, strict=True):
        result += flat[:, index] * jnp.asarray(weight, flat.dtype)[:, None]
    return result.reshape(*lead, *shape, x.shape[-1]).astype(x.dtype)


@functools.lru_cache(maxsize=64)
def prefilter(n: int) -> np.ndarray:
    """Return the `(n, n)` matrix from samples to coefficients of the interpolating cubic spline.

    The spline is B(0) = 2/3, B(+-1) = 1/6 at the pixels, mirrored at the first and last pixel.
    """
    samples = np.zeros((n, n))
    for offset, value in ((0, 2 / 3), (-1, 1 / 6), (1, 1 / 6)):
        np.add.at(samples, (np.arange(n), mirror(np.arange(n) + offset, n)), value)
    return np.linalg.inv(samples)


def mirror(index: np.ndarray, n: int) -> np.ndarray:
    """Reflect indices into 0 .. n-1 about the first and last pixel."""
    if n == 1:
        return np.zeros_like(index)
    folded = np.mod(index, 2 * n - 2)
    return np.where(folded < n, folded, 2 * n - 2 - folded)


def spline_weights(fraction: Any) -> tuple[Any, Any, Any, Any]:
    """Return the cubic B-spline at the four taps around a position: at 1 + f, f, 1 - f and 2 - f.

    Args:
        fraction: `(...)` f, by how much the position is past the second tap, in NumPy or JAX.
    """
    rest = 1 - fraction
    return (
        rest**3 / 6,
        2 / 3 - fraction**2 * (2 - fraction) / 2,
        2 / 3 - rest**2 * (1 + fraction) / 2,
        fraction**3 / 6,
    )


@functools.lru_cache(maxsize=8)  # 4^ndim numbers and places a pixel
def _taps(shape: tuple[int, ...], inverse: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return the spline's taps for every pixel: `(4^ndim, pixels)` flat indices and weights."""
    centre = (np.array(shape) - 1) / 2
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    pixels = np.stack(grid, -1).reshape(-1, len(shape))
    source = (pixels - centre) @ np.array(inverse).T + centre
    # Rounding must not push a pixel that falls on the border to the outside.
    inside = np.all((source >= -1e-9) & (source <= np.array(shape) - 1 + 1e-9), axis=1)
    first = np.floor(source).astype(int)
    fraction = source - first
    one_axis = np.stack(spline_weights(fraction))  # (4, pixels, ndim)
    indices, weights = [], []
    for taps in itertools.product(range(4), repeat=len(shape)):
        index, weight = np.zeros(len(pixels), int), inside.astype(float)
        for i, tap in enumerate(taps):
            index = index * shape[i] + mirror(first[:, i] + tap - 1, shape[i])
            weight = weight * one_axis[tap, :, i]
        indices.append(index)
        weights.append(weight)
    return np.stack(indices), np.stack(weights)


def restrict(
    x: Float[_check.Array, "*lead g c"], group: Group | str, subgroup: Group | str
) -> Float[jax.Array, "*lead k kc"]:
    """Read a field on a group as a field on a subgroup, with more channels.

    Every element of G is k t for one k in K and one of the [G:K] representatives t of the right
    cosets K t, so

        y(p, k, coset C + c) = x(p, k t_coset, c)

    and the action of K stays the action of K. Representatives are the cosets' first elements.

    Args:
        x: `(..., |G|, C)` field on `group`.
        group: the `Group` G or its name.
        subgroup: the `Group` K or its name; its matrices must be among those of `group`.

    Returns:
        `(..., |K|, [G:K] C)` field on `subgroup`.

    Raises:
        TypeError, ValueError: if `subgroup` is not one, or `x` is not a field on `group`.

    Example:
        >>> import pdo_jax as pdo
        >>> pdo.restrict(jnp.ones((5, 5, 8, 3)), "p8", "p4").shape
        (5, 5, 4, 6)
    """
    group, subgroup = as_group(group), as_group(subgroup)
    x = _check.floating("x", x, "(..., |G|, C)", 2)
    _check.axis("x", x, -2, group.order, f"the order of {group.name}")
    right = group.product[members(group, subgroup)]  # [k, t] -> k t
    first = np.flatnonzero(np.min(right, axis=0) == np.arange(group.order))
    y = x[..., right[:, first], :]
    return y.reshape(*x.shape[:-2], subgroup.order, len(first) * x.shape[-1])


def pullback(
    x: Float[_check.Array, "*lead q c"], group: Group | str, subgroup: Group | str
) -> Float[jax.Array, "*lead g c"]:
    """Read a field on the cosets of a subgroup as a field on the group.

        y(p, g) = x(p, gH)

    The action stays the action. `pdo_jax.nn.group_pool(y, "mean", group, subgroup)` is the way
    back. Between the two any layer for fields is a layer for fields on cosets, and a group
    convolution is no restriction: whatever is linear and equivariant between fields on G/H and G/K
    is a group convolution of the pulled-back field, then the mean over each coset of K.

    Args:
        x: `(..., |G/H|, C)` field on the left cosets gH, in the order of their first elements.
        group: the `Group` G or its name.
        subgroup: the `Group` H or its name; its matrices must be among those of `group`.

    Returns:
        `(..., |G|, C)` field on `group`.

    Raises:
        TypeError, ValueError: if `subgroup` is not one, or `x` is not a field on its cosets.

    Example:
        >>> import pdo_jax as pdo
        >>> x = jnp.arange(4.0)[:, None]  # four orientations modulo 180 degrees
        >>> pdo.pullback(x, "p8", "p2")[:, 0].tolist()
        [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]
    """
    group, subgroup = as_group(group), as_group(subgroup)
    x = _check.floating("x", x, "(..., |G/H|, C)", 2)
    first, coset_of = cosets(group, subgroup)
    check_cosets(x, len(first), group, subgroup)
    return x[..., coset_of, :]


def cosets(group: Group, subgroup: Group) -> tuple[np.ndarray, np.ndarray]:
    """Return the left cosets gH of a subgroup, in the order of their first elements.

    Args:
        group: the group G.
        subgroup: the subgroup H.

    Returns:
        `(|G/H|,)` the first element of every coset, and `(|G|,)` the coset of every element.

    Example:
        >>> import pdo_jax as pdo
        >>> first, coset_of = cosets(pdo.group("p4"), pdo.group("p2"))
        >>> first.tolist(), coset_of.tolist()
        ([0, 1], [0, 1, 0, 1])
    """
    left = group.product[:, members(group, subgroup)]  # [g, h] -> g h
    return np.unique(np.min(left, axis=1), return_inverse=True)


def members(group: Group, subgroup: Group, name: str = "subgroup") -> np.ndarray:
    """Return the indices of a subgroup's elements among those of the group.

    Raises:
        ValueError: if it is not a subgroup; `name` is the argument's.
    """
    if subgroup.ndim != group.ndim:
        raise ValueError(
            f"{name} (={subgroup.name}) acts on {subgroup.ndim} dimensions, but {group.name} on "
            f"{group.ndim}; pass a subgroup of {group.name}."
        )
    try:
        return group.index(subgroup.matrices)
    except ValueError as error:
        raise ValueError(
            f"{name} (={subgroup.name}) must be a subgroup of {group.name}, with matrices among "
            f"those of {group.name}; pass another one. ({error})"
        ) from None


def inscribed_disc(shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels of an image lie in the largest disc (ball) about its centre.

    Args:
        shape: the number of pixels along every axis.

    Returns:
        Booleans of that shape: distance from the centre at most half the shortest side.

    Example:
        >>> inscribed_disc((4, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    """
    offsets = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    return np.sum(np.square(offsets), axis=0) <= (min(shape) / 2) ** 2
