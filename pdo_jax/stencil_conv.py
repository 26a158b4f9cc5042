"""The same convolution in fewer operations: a few fixed stencils, and one matrix product.

The |G| M filters of a basis span only R dimensions (12 for p8 on 5x5 taps), so that every kernel is
a combination of R fixed stencils s_r, and with S_r x(p) = sum_t s_r[t] x(p + t)

    y = sum_r S_r (x W_r)            W_r: C_in -> C_out, all channels of all group elements

Its two gradients are sums of the same kind, and keep no patches:

    dx = sum_r S_r^T (dy W_r^T)                dW_r = (S_r x)^T dy

The stencils cost little: they are sparse, and act on one channel at a time. Batches are worked off
in slices that stay in the cache. `docs/speed.md` says what that gains.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from pdo_jax._bilinear import primitive_pair
from pdo_jax.basis import FilterBasis
from pdo_jax.span import span

Pairs = tuple[tuple[int, int], ...]


class Stencil(NamedTuple):
    """A sparse stencil: where its taps are, counted from the first pixel of its window."""

    taps: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]


class Placement(NamedTuple):
    """How stencils are put on an image; hashable, as the options of a primitive must be.

    Attributes:
        stencils: the R stencils, their taps in pixels (dilation included).
        extents: the extent of the windows along every axis.
        pads: the zeros before and after every axis; negative numbers crop.
        precision: of the matrix product.
    """

    stencils: tuple[Stencil, ...]
    extents: tuple[int, ...]
    pads: Pairs
    precision: lax.PrecisionLike

    @property
    def transposed(self) -> Placement:
        """The placement that gives every pixel of the output back to those that it came from."""

        def mirror(tap: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(e - 1 - t for e, t in zip(self.extents, tap, strict=True))

        stencils = (Stencil(tuple(map(mirror, s.taps)), s.values) for s in self.stencils)
        sides = zip(self.extents, self.pads, strict=True)
        pads = tuple((e - 1 - low, e - 1 - high) for e, (low, high) in sides)
        return Placement(tuple(stencils), self.extents, pads, self.precision)


def place(
    basis: FilterBasis, dilation: Sequence[int], pads: Pairs, precision: lax.PrecisionLike
) -> Placement:
    """Return the stencils of a basis as `convolve` takes them.

    Args:
        basis: the `FilterBasis`.
        dilation: the distance of two taps in pixels along every axis.
        pads: the zeros before and after every axis.
        precision: of the matrix product.
    """
    stencils = []
    for values in span(basis)[0]:
        taps = np.argwhere(values)
        where = tuple(tuple(int(t) for t in tap) for tap in taps * np.asarray(dilation))
        stencils.append(Stencil(where, tuple(float(values[tuple(tap)]) for tap in taps)))
    extents = tuple((basis.size - 1) * d + 1 for d in dilation)
    if precision is None:  # read here, as the product is made when the program is lowered
        precision = jax.config.jax_default_matmul_precision  # pyright: ignore
    return Placement(tuple(stencils), extents, pads, precision)


def convolve(
    x: Float[jax.Array, "n *space i"],
    weights: Float[jax.Array, "r i o"],
    placement: Placement,
) -> Float[jax.Array, "n *moved o"]:
    """Convolve images with combinations of stencils.

        y = sum_r S_r (x W_r)

    Linear in both arguments, and differentiable any number of times in either mode.

    Args:
        x: `(N, H, W, I)` images (`(N, D, H, W, I)` in space).
        weights: `(R, I, O)`, in the dtype of `x`.
        placement: the R stencils and where they are put.

    Returns:
        `(N, H', W', O)` images in the dtype of `x`.
    """
    return _conv_p.bind(x, weights, placement=placement)


# ---------------------------------------------------------------- the maps, on a slice of the batch

SLICE_BYTES = 2**22  # of what lies between stencils and product; 8 MiB and more are slower


def _pad(x: jax.Array, placement: Placement) -> jax.Array:
    pads = [(0, 0, 0), *((low, high, 0) for low, high in placement.pads), (0, 0, 0)]
    return lax.pad(x, np.zeros((), x.dtype), pads)


def _apply(stencil: Stencil, x: jax.Array, space: Sequence[int]) -> jax.Array:
    """Apply a stencil to `(N, H + k - 1, W + k - 1, ...)`: `(N, H, W, ...)`."""
    terms = []
    for tap, value in zip(stencil.taps, stencil.values, strict=True):
        window = (slice(t, t + n) for t, n in zip(tap, space, strict=True))
        shifted = x[(slice(None), *window)]
        terms.append(shifted if value == 1 else shifted * np.asarray(value, x.dtype))
    return functools.reduce(jnp.add, terms)


def _space(x: jax.Array, placement: Placement) -> tuple[int, ...]:
    sizes = zip(x.shape[1:-1], placement.pads, placement.extents, strict=True)
    return tuple(n + low + high - e + 1 for n, (low, high), e in sizes)


def _precise(x: jax.Array) -> Any:
    return np.promote_types(x.dtype, np.float32)


def _maps(x: jax.Array, placement: Placement) -> jax.Array:
    """Return all S_r x side by side: `(pixels, R I)`, in the dtype of `x`."""
    space = _space(x, placement)
    padded = _pad(x, placement).astype(_precise(x))
    maps = [_apply(s, padded, space).astype(x.dtype) for s in placement.stencils]
    # Every map on its own, then the memory moved together: fused into one loop, XLA would ask for
    # every number which map it belongs to.
    maps = lax.optimization_barrier(maps)
    return jnp.concatenate([m.reshape(-1, m.shape[-1]) for m in maps], -1)


def _conv_slice(
    x: jax.Array, matrix: jax.Array, widens: bool, outputs: int, placement: Placement
) -> jax.Array:
    space, count = _space(x, placement), len(placement.stencils)
    product = partial(
        lax.dot_general,
        dimension_numbers=(((1,), (1,)), ((), ())),
        precision=placement.precision,
        preferred_element_type=_precise(x),
    )
    if widens:
        y = product(_maps(x, placement), matrix)
        return y.reshape(-1, *space, outputs).astype(x.dtype)
    padded = _pad(x, placement)
    mixed = product(padded.reshape(-1, padded.shape[-1]), matrix)
    mixed = mixed.reshape(*padded.shape[:-1], count, outputs)
    parts = [_apply(s, mixed[..., r, :], space) for r, s in enumerate(placement.stencils)]
    return functools.reduce(jnp.add, parts).astype(x.dtype)


def _gram_slice(x: jax.Array, y: jax.Array, widens: bool, placement: Placement) -> jax.Array:
    """Return `(O, R I)`, or `(I, R O)` if the stencils act on `y`."""
    one, other = (y, _maps(x, placement)) if widens else (x, _maps(y, placement.transposed))
    return lax.dot_general(
        one.reshape(-1, one.shape[-1]),
        other,
        dimension_numbers=(((0,), (0,)), ((), ())),
        precision=placement.precision,
        preferred_element_type=_precise(x),
    )


# ---------------------------------------------------------------- over the whole batch


def _conv(
    x: Float[jax.Array, "n *space i"],
    weights: Float[jax.Array, "r i o"],
    *,
    placement: Placement,
    sliced: bool,
) -> Float[jax.Array, "n *moved o"]:
    """Return y = sum_r S_r (x W_r)."""
    count, inputs, outputs = weights.shape
    space = _space(x, placement)
    # The stencils go before the product where there are far fewer channels to apply them to.
    widens = 2 * inputs <= outputs
    # Either matrix has its sum on the last axis, which XLA multiplies twice as fast.
    matrix = weights.reshape(-1, outputs).T if widens else jnp.swapaxes(weights, 1, 2)
    matrix = lax.optimization_barrier(matrix.reshape(-1, count * inputs if widens else inputs))
    images = _images(x, count * math.prod(space) * min(inputs, outputs)) if sliced else None
    if images is None:
        return _conv_slice(x, matrix, widens, outputs, placement)

    slices = x.reshape(images, -1, *x.shape[1:])

    def body(i: jax.Array, y: jax.Array) -> jax.Array:
        part = lax.dynamic_index_in_dim(slices, i, 1, keepdims=False)
        part = lax.optimization_barrier(_conv_slice(part, matrix, widens, outputs, placement))
        return lax.dynamic_update_index_in_dim(y, part, i, 1)

    y = jnp.zeros((*slices.shape[:2], *space, outputs), x.dtype)
    return lax.fori_loop(0, slices.shape[1], body, y).reshape(-1, *space, outputs)


def _gram(
    x: Float[jax.Array, "n *space i"],
    y: Float[jax.Array, "n *moved o"],
    *,
    placement: Placement,
    sliced: bool,
) -> Float[jax.Array, "r i o"]:
    """Return W_r = (S_r x)^T y = x^T (S_r^T y)."""
    inputs, outputs, count = x.shape[-1], y.shape[-1], len(placement.stencils)
    widens = inputs <= outputs
    area = math.prod(y.shape[1:-1])
    images = _images(x, count * area * min(inputs, outputs)) if sliced else None
    if images is None:
        result = _gram_slice(x, y, widens, placement)
    else:
        slices = [a.reshape(images, -1, *a.shape[1:]) for a in (x, y)]

        def body(i: jax.Array, total: jax.Array) -> jax.Array:
            one, other = (lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in slices)
            return total + _gram_slice(one, other, widens, placement)

        shape = (outputs, count * inputs) if widens else (inputs, count * outputs)
        total = jnp.zeros(shape, _precise(x))
        result = lax.fori_loop(0, slices[0].shape[1], body, total)
    if widens:
        result = result.reshape(outputs, count, inputs).transpose(1, 2, 0)
    else:
        result = result.reshape(inputs, count, outputs).swapaxes(0, 1)
    return result.astype(x.dtype)


def _images(x: jax.Array, numbers: int) -> int | None:
    """Return how many images make a slice, a divisor of the batch; None for all of them.

    Args:
        x: the batch.
        numbers: how many numbers an image has between the stencils and the product.
    """
    batch, most = x.shape[0], SLICE_BYTES // (numbers * x.dtype.itemsize)
    if not isinstance(batch, int) or batch <= most:  # a free batch has no divisors
        return None
    return max((n for n in range(1, most + 1) if batch % n == 0), default=1)


_conv_p, _gram_p = primitive_pair(
    "pdo_stencil_conv",
    _conv,
    _gram,
    lambda weights, placement, _: (jnp.swapaxes(weights, 1, 2), placement.transposed),
)
