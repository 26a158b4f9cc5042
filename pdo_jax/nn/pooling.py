"""Pooling over the group and over space, and resizing, for images and for fields.

Spatial pools leave the group axis alone (Flax's own, given a bare (2, 2), would pool it silently)
and pad symmetrically. With stride 2 and no padding, even windows are exact at quarter turns on even
sizes and odd windows on odd sizes; a pool that does not fit the size of its input warns once.
`blur_pool` takes the window that fits, and is exact at every size.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Float

from pdo_jax import _check, fields, windows
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group

PerAxis = int | Sequence[int]


def group_pool(
    x: Float[_check.Array, "*lead g c"],
    kind: str = "max",
    group: Group | str | None = None,
    subgroup: Group | str | None = None,
) -> Float[jax.Array, "*pooled c"]:
    """Pool a field over the group: an image that only moves, or an invariant, is left.

        max_g x(g)          1/|G| sum_g x(g)          (1/|G| sum_g x(g)^2)^(1/2)

    With a subgroup H, pool over each coset gH alone: what is left is a field on the cosets, such as
    orientations modulo 180 degrees for p8 and p2. `pdo_jax.pullback` is the way back.

    Args:
        x: `(..., |G|, C)` field.
        kind: "max", "mean", or "norm" (the root mean square; its gradient at 0 is 0).
        group: the `Group` G or its name; needed with a subgroup only.
        subgroup: the `Group` H or its name; None for the whole group.

    Returns:
        `(..., C)`, or `(..., |G/H|, C)` with the cosets in the order of their first elements; in
        the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> x = jnp.ones((2, 7, 7, 8, 3))
        >>> group_pool(x, "norm").shape
        (2, 7, 7, 3)
        >>> group_pool(x, "mean", "p8", "p2").shape
        (2, 7, 7, 4, 3)
    """
    x = _check.floating("x", x, "(..., |G|, C)", 2)
    _check.nonempty("x", x, -2, "(|G|, C)")
    if (group is None) != (subgroup is None):
        raise ValueError(
            f"group (={group}) and subgroup (={subgroup}) belong together; pass both, such as 'p8' "
            "and 'p2', or neither."
        )
    if group is not None and subgroup is not None:
        group, subgroup = as_group(group), as_group(subgroup)
        _check.axis("x", x, -2, group.order, f"the order of {group.name}")
        first, _ = fields.cosets(group, subgroup)
        x = x[..., group.product[np.ix_(first, fields.members(group, subgroup))], :]
    match _check.choice("kind", kind, ("max", "mean", "norm")):
        case "max":
            return jnp.max(x, axis=-2)
        case "mean":
            return jnp.mean(x, axis=-2)
        case _:
            square = jnp.mean(x.astype(np.promote_types(x.dtype, np.float32)) ** 2, axis=-2)
            zero = square == 0  # where the root has no slope
            return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square))).astype(x.dtype)


def max_pool(
    x: Float[_check.Array, "... c"],
    window: PerAxis,
    strides: PerAxis | None = None,
    padding: windows.Padding = "VALID",
    *,
    kind: str | None = None,
) -> Float[jax.Array, "... c"]:
    """Take the largest value in every window of pixels, group element by group element.

        y(p, g) = max_t x(s p + t, g)        s the strides, t over the window

    Args:
        x: `(..., H, W, C)` image or `(..., H, W, |G|, C)` field.
        window: the number of pixels, one number or one for each spatial axis (two, unless a
            sequence of another length is given).
        strides: the step; None for 1, as in Flax.
        padding: as in `pdo_jax.lift_conv`; "SAME" adds (window - 1) // 2 pixels on both sides.
            Padded pixels never win.
        kind: "image" or "field" (on a group or on cosets). None reads it off the number of axes:
            up to one leading axis and three others is an image, one leading axis and four others a
            field. A field without a batch axis, or with several, needs the word.

    Returns:
        The pooled image or field.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Warns:
        EquivarianceWarning: once, if the stride does not fit the size of `x`.

    Example:
        >>> max_pool(jnp.ones((2, 28, 28, 8, 3)), 2, 2).shape
        (2, 14, 14, 8, 3)
    """
    pool = _Pool.of("max_pool", x, window, strides, padding, kind)
    if pool.window == pool.strides and not np.any(pool.pairs):
        return pool.restore(_max_of_blocks(pool.x, pool.window))
    return pool.restore(nnx.max_pool(pool.x, pool.window, pool.strides, pool.pairs))


def _max_of_blocks(x: jax.Array, window: Sequence[int]) -> jax.Array:
    """Take the largest value of every block of pixels, axis after axis.

    The gradient goes to one winner, the first, as that of `lax.reduce_window` does; but XLA looks
    for it anew, and on a CPU that takes ten times as long as remembering it.
    """
    for i, size in reversed(list(enumerate(window, 1))):
        blocks = x.shape[i] // size
        x = lax.slice_in_dim(x, 0, blocks * size, axis=i)
        x = x.reshape(*x.shape[:i], blocks, size, *x.shape[i + 1 :])
        first, *others = (lax.index_in_dim(x, j, i + 1, keepdims=False) for j in range(size))
        # NaN compares as False: it wins here if it comes later, and in `isnan` if it came before.
        x = functools.reduce(lambda a, b: jnp.where((a >= b) | jnp.isnan(a), a, b), others, first)
    return x


def avg_pool(
    x: Float[_check.Array, "... c"],
    window: PerAxis,
    strides: PerAxis | None = None,
    padding: windows.Padding = "VALID",
    *,
    kind: str | None = None,
) -> Float[jax.Array, "... c"]:
    """Take the mean over every window of pixels, group element by group element.

        y(p, g) = mean_t x(s p + t, g)        s the strides, t over the window; summed in float32

    Args:
        x: `(..., H, W, C)` image or `(..., H, W, |G|, C)` field.
        window: the number of pixels, one number or one for each spatial axis.
        strides: the step; None for 1, as in Flax.
        padding: as in `max_pool`; padded zeros count in the mean, as in Flax.
        kind: "image" or "field", as in `max_pool`.

    Returns:
        The pooled image or field.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Warns:
        EquivarianceWarning: once, if the stride does not fit the size of `x`.

    Example:
        >>> avg_pool(jnp.ones((28, 28, 8, 3)), 2, 2, kind="field").shape
        (14, 14, 8, 3)
    """
    pool = _Pool.of("avg_pool", x, window, strides, padding, kind)
    # Flax's avg_pool divides by a NumPy integer, which strict dtype promotion forbids.
    precise = np.promote_types(pool.x.dtype, np.float32)
    sums = lax.reduce_window(
        pool.x.astype(precise),
        np.zeros((), precise),  # not jnp's: a traced zero has no reverse mode
        lax.add,
        (1, *pool.window, 1),
        (1, *pool.strides, 1),
        [(0, 0), *pool.pairs, (0, 0)],
    )
    return pool.restore((sums / math.prod(pool.window)).astype(pool.x.dtype))


def blur_pool(
    x: Float[_check.Array, "... c"],
    window: PerAxis | None = None,
    strides: PerAxis | None = 2,
    padding: windows.Padding = "SAME",
    *,
    kind: str | None = None,
) -> Float[jax.Array, "... c"]:
    """Blur with a binomial window and keep every other pixel: pooling without aliasing.

    The window of w taps is the row binomial(w - 1, j) / 2^(w - 1) along every axis: [1 1] / 2 for
    2, [1 4 6 4 1] / 16 for 5; 6 taps are a 5-tap blur followed by 2x2 mean pooling. Aliasing in
    pooling is what breaks equivariance most between the quarter turns.

    Quarter turns are exact where the window fits the size of the image. By default every axis gets
    the window that does: with stride 2 and "SAME" 6 taps on n even pixels, which become n / 2, and
    5 taps on odd ones, which become (n + 1) / 2. Explicit windows fit one of the two.

    Max pooling without aliasing is a maximum at stride 1, then the blur:

        blur_pool(max_pool(x, 3, padding="SAME"))

    Args:
        x: `(..., H, W, C)` image or `(..., H, W, |G|, C)` field.
        window: the number of taps, one number or one for each spatial axis; None for 5 or 6,
            whichever fits the size and the stride.
        strides: the step, one number or one for each spatial axis; None for 1.
        padding: as in `max_pool`; the image continues with zeros.
        kind: "image" or "field", as in `max_pool`.

    Returns:
        The blurred and thinned image or field.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Warns:
        EquivarianceWarning: once, if the stride does not fit the size of `x`.

    Example:
        >>> blur_pool(jnp.ones((2, 28, 28, 8, 3))).shape
        (2, 14, 14, 8, 3)
        >>> blur_pool(jnp.ones((2, 7, 7, 8, 3))).shape
        (2, 4, 4, 8, 3)

    References:
        Zhang: Making convolutional networks shift-invariant again (ICML 2019).
    """
    pool = _Pool.of("blur_pool", x, window, strides, padding, kind)
    y = jnp.pad(pool.x, [(0, 0), *pool.pairs, (0, 0)])
    for i, (taps, step) in enumerate(zip(pool.window, pool.strides, strict=True)):
        # A few shifted slices fuse into one loop; a depthwise convolution is slower on CPU.
        count = (y.shape[1 + i] - taps) // step + 1
        slices = (
            math.comb(taps - 1, j)
            / 2 ** (taps - 1)
            * lax.slice_in_dim(y, j, j + (count - 1) * step + 1, step, axis=1 + i)
            for j in range(taps)
        )
        y = functools.reduce(operator.add, slices)
    return pool.restore(y)


def resize(
    x: Float[_check.Array, "... c"], size: PerAxis, *, kind: str | None = None
) -> Float[jax.Array, "... c"]:
    """Resample images to a given size with linear interpolation, group element by group element.

    Pixels are squares that cover the same area before and after (`jax.image.resize`, "linear");
    where the image shrinks, the interpolation is widened against aliasing. Quarter turns and
    mirrors are exact at all sizes.

    Args:
        x: `(..., H, W, C)` image or `(..., H, W, |G|, C)` field.
        size: the new number of pixels, one number or one for each spatial axis (two, unless a
            sequence of another length is given). Axes of equal length must stay equally long.
        kind: "image" or "field", as in `max_pool`.

    Returns:
        The image or field of the new size, in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> resize(jnp.ones((2, 7, 7, 8, 3)), 14).shape
        (2, 14, 14, 8, 3)
    """
    ndim = _ndim("size", size)
    new = _check.per_axis("size", size, ndim)
    x, tail = _parse(x, ndim, kind)
    space = x.shape[-ndim - tail : -tail]
    if len(set(zip(space, new, strict=True))) > len(set(space)):
        raise ValueError(
            f"size (={new}) must be the same on axes of the same length, but the image has {space} "
            "pixels: quarter turns exchange the axes; pass one number."
        )
    return linear_resample(x, new, tail)


def linear_resample(x: jax.Array, size: Sequence[int], tail: int) -> jax.Array:
    """Return a checked image or field with another number of pixels.

    Exact wherever a quarter turn of `x` comes with a quarter turn of `size`, as that of a second
    image does.

    Args:
        x: `(..., H, W, C)` or `(..., H, W, |G|, C)`.
        size: the new H and W.
        tail: the number of axes after the spatial ones.
    """
    lead = x.shape[: -len(size) - tail]
    # Full precision and at least float32: rounding here would look like broken symmetry.
    y = jax.image.resize(
        x.astype(np.promote_types(x.dtype, np.float32)),
        (*lead, *size, *x.shape[-tail:]),
        "linear",
        precision=lax.Precision.HIGHEST,
    )
    return y.astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class _Pool:
    """A pool whose arguments are checked, on an array with one batch axis and flat channels."""

    x: jax.Array  # (N, *space, channels)
    lead: tuple[int, ...]
    tail: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pairs: Any  # one pair an axis; Flax annotates its pools' padding as a word alone

    @classmethod
    def of(
        cls,
        caller: str,
        x: _check.Array,
        window: PerAxis | None,
        strides: PerAxis | None,
        padding: windows.Padding,
        kind: str | None,
    ) -> _Pool:
        ndim = _ndim("strides", strides) if window is None else _ndim("window", window)
        steps = (1,) * ndim if strides is None else _check.per_axis("strides", strides, ndim)
        x, tail = _parse(x, ndim, kind)
        space = x.shape[-ndim - tail : -tail]
        if window is None:
            size = windows.fitting(space, steps, padding, (5, 6))
        else:
            size = _check.per_axis("window", window, ndim)
        pads = windows.place(caller, space, size, steps, padding)
        if any(max(pair) >= e for pair, e in zip(pads.pairs, size, strict=True)):
            raise ValueError(
                f"padding (={padding!r}) must be below the window (={size}), or some windows hold "
                "no pixel at all; pass 'SAME' or 'VALID'."
            )
        flat = x.reshape(-1, *space, math.prod(x.shape[-tail:]))
        pairs = pads.pairs
        if pads.mode != "constant":
            flat = jnp.pad(flat, [(0, 0), *pairs, (0, 0)], mode=pads.mode)
            pairs = ((0, 0),) * ndim
        return cls(flat, x.shape[: -ndim - tail], x.shape[-tail:], size, steps, pairs)

    def restore(self, y: jax.Array) -> jax.Array:
        return y.reshape(*self.lead, *y.shape[1:-1], *self.tail)


def _ndim(name: str, value: Any) -> int:
    """Return the number of spatial axes: two, unless `value` has an entry for each of three."""
    ndim = len(value) if isinstance(value, Sequence) else 2
    if ndim not in (2, 3):
        raise ValueError(
            f"{name} (={value!r}) must have two entries (three for volumes); pass e.g. (2, 2)."
        )
    return ndim


def _parse(x: _check.Array, ndim: int, kind: str | None) -> tuple[jax.Array, int]:
    """Return a checked image or field, and the number of axes after the spatial ones."""
    x = _check.floating("x", x, "(..., H, W, C) or (..., H, W, |G|, C)", ndim + 1)
    tail = 2 if _is_field(x, ndim, kind) else 1
    _check.nonempty("x", x, -ndim - tail, "the pixels and the channels")
    return x, tail


def _is_field(x: jax.Array, ndim: int, kind: str | None) -> bool:
    if kind is None:
        if x.ndim > ndim + 3:
            raise ValueError(
                f"kind (=None) cannot be read off {x.ndim} axes (shape {x.shape}); say "
                "kind='image' or kind='field'."
            )
        return x.ndim == ndim + 3
    field = _check.choice("kind", kind, ("image", "field")) == "field"
    if field and x.ndim < ndim + 2:
        raise ValueError(
            f"x has shape {x.shape}, but a field (..., H, W, |G|, C) is needed (at least "
            f"{ndim + 2} axes); reshape it, or pass kind='image'."
        )
    return field
