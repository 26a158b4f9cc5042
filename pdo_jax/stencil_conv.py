"""The same convolution in fewer operations: a few fixed stencils, and one matrix product.

The |G| M filters of a basis span only R dimensions (12 for p8 on 5x5 taps), so that every kernel is
a combination of R fixed stencils s_r, and with S_r x(p) = sum_t s_r[t] x(p + t)

    y = sum_r S_r (x W_r)            W_r: C_in -> C_out, all channels of all group elements

Its two gradients are sums of the same kind, and keep no patches:

    dx = sum_r S_r^T (dy W_r^T)                dW_r = (S_r x)^T dy

The stencils cost little: they are sparse, and act on one channel at a time. Batches are worked off
in slices that stay in the cache, large images in tiles. `docs/speed.md` says what that gains.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from pdo_jax._bilinear import primitive_pair
from pdo_jax._varying import alike
from pdo_jax.basis import FilterBasis
from pdo_jax.span import span

Pairs = tuple[tuple[int, int], ...]


class Stencil(NamedTuple):
    """A sparse stencil: where its taps are, counted from the first pixel of its window."""

    taps: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray, dilation: Sequence[int]) -> Stencil:
        """Return the taps that are not 0, `dilation` pixels apart along every axis."""
        taps = np.argwhere(values)
        where = tuple(tuple(int(t) for t in tap) for tap in taps * np.asarray(dilation))
        return cls(where, tuple(float(values[tuple(tap)]) for tap in taps))

    def mirrored(self, extents: Sequence[int]) -> Stencil:
        """Return the stencil that gives back what this one takes, in windows of these extents."""
        taps = (tuple(e - 1 - t for e, t in zip(extents, tap, strict=True)) for tap in self.taps)
        return Stencil(tuple(taps), self.values)


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
        stencils = (stencil.mirrored(self.extents) for stencil in self.stencils)
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
    stencils = tuple(Stencil.of(values, dilation) for values in span(basis)[0])
    extents = tuple((basis.size - 1) * d + 1 for d in dilation)
    return Placement(stencils, extents, pads, fixed(precision))


def fixed(precision: lax.PrecisionLike) -> Any:
    """Return a precision as a primitive has to have it, which is lowered later: hashable."""
    if precision is None:
        return jax.config.jax_default_matmul_precision  # pyright: ignore
    return tuple(precision) if isinstance(precision, list) else precision


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
    return _conv_p.bind(*alike(x, weights), placement=placement)


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


def _gram_slice(x: jax.Array, y: jax.Array, placement: Placement) -> jax.Array:
    """Return y^T (S_r x), `(O, R I)`."""
    return lax.dot_general(
        y.reshape(-1, y.shape[-1]),
        _maps(x, placement),
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
    slices = _slices(x, space, count * min(inputs, outputs)) if sliced else None
    if slices is None:
        return _conv_slice(x, matrix, widens, outputs, placement)
    x, placement, beyond = slices.windows(x, placement)

    def add(y: jax.Array, i: jax.Array, part: jax.Array) -> jax.Array:
        part = _conv_slice(part, matrix, widens, outputs, placement)
        part = lax.optimization_barrier(part)[:, None]
        return lax.dynamic_update_slice(y, part, slices.start(i))

    shape = (n * count for n, count in zip(slices.tile, slices.counts[1:], strict=True))
    y = jnp.zeros((slices.images, slices.counts[0], *shape, outputs), x.dtype)
    y, x = alike(y, x)
    y = slices.fold(add, y, (x, beyond))
    return y.reshape(-1, *y.shape[2:])[(slice(None), *map(slice, space))]


def _gram(
    x: Float[jax.Array, "n *space i"],
    y: Float[jax.Array, "n *moved o"],
    *,
    placement: Placement,
    sliced: bool,
) -> Float[jax.Array, "r i o"]:
    """Return W_r = (S_r x)^T y = x^T (S_r^T y)."""
    widens, count, dtype = x.shape[-1] <= y.shape[-1], len(placement.stencils), x.dtype
    if not widens:  # the stencils go to the fewer channels
        x, y, placement = y, x, placement.transposed
    inputs, outputs = x.shape[-1], y.shape[-1]
    slices = _slices(y, y.shape[1:-1], count * inputs) if sliced else None
    if slices is None:
        result = _gram_slice(x, y, placement)
    else:
        x, placement, beyond = slices.windows(x, placement)
        none = (0,) * len(beyond)
        y = slices.fill(y, none)

        def add(total: jax.Array, _: jax.Array, part: jax.Array, other: jax.Array) -> jax.Array:
            return total + _gram_slice(part, other, placement)

        total, x = alike(jnp.zeros((outputs, count * inputs), _precise(x)), x)
        result = slices.fold(add, total, (x, beyond), (y, none))
    result = result.reshape(outputs, count, inputs).astype(dtype)
    return result.transpose(1, 2, 0) if widens else result.swapaxes(0, 1)


class Slices(NamedTuple):
    """How a batch is cut: into slices of several images, or into tiles of one.

    Attributes:
        images: of a slice. Those of a slice lie far apart in the batch, so that each of several
            devices that share a batch works on some of them.
        tile: the pixels of a slice, along every axis of the output.
        counts: the number of slices of the batch, and of tiles along every axis.
    """

    images: int
    tile: tuple[int, ...]
    counts: tuple[int, ...]

    def windows(
        self, x: jax.Array, placement: Placement
    ) -> tuple[jax.Array, Placement, tuple[int, ...]]:
        """Return input from which slices can be taken, and what is then done to a slice.

        Args:
            x: the images that the stencils act on.
            placement: on the whole of them.

        Returns:
            The images, the placement on a slice, and how many more pixels than a tile it has.
        """
        if not self.whole:  # around a tile are its neighbours, not zeros
            x = _pad(x, placement)
            placement = placement._replace(pads=((0, 0),) * len(placement.pads))
        sides = zip(placement.extents, placement.pads, strict=True)
        beyond = tuple(extent - 1 - low - high for extent, (low, high) in sides)
        return self.fill(x, beyond), placement, beyond

    def fill(self, x: jax.Array, beyond: Sequence[int]) -> jax.Array:
        """Append the zeros that the last tiles need: `(images, slices, H, W, ...)`."""
        axes = zip(self.tile, self.counts[1:], beyond, x.shape[1:-1], strict=True)
        pads = ((0, n * count + more - size, 0) for n, count, more, size in axes)
        x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
        return x.reshape(self.images, -1, *x.shape[1:])

    def fold(
        self,
        step: Callable[..., jax.Array],
        result: jax.Array,
        *images: tuple[jax.Array, Sequence[int]],
    ) -> jax.Array:
        """Return step(... step(step(result, 0), 1) ..., n - 1), each with its slices.

        Args:
            step: `step(result, i, *parts)`, the next result.
            result: the first one.
            *images: filled, and how many more pixels than a tile a part has along every axis.
        """

        def parts(i: jax.Array) -> list[jax.Array]:
            return [self._part(x, i, beyond) for x, beyond in images]

        count = math.prod(self.counts)
        if self.whole:  # one after the other, and read where they are
            return lax.fori_loop(0, count, lambda i, result: step(result, i, *parts(i)), result)

        # The loop carries tiles. Taken where they are used, they would not be written down: XLA
        # would cut them out again in every stencil, and work out for every number where it lies.
        def body(i: jax.Array, carry: Any) -> Any:
            return step(carry[0], i, *carry[1]), parts(i + 1)

        return lax.fori_loop(0, count, body, (result, parts(jnp.zeros((), jnp.int32))))[0]

    def _part(self, x: jax.Array, i: jax.Array, beyond: Sequence[int]) -> jax.Array:
        """Return the `i`-th slice of filled images; behind the last, some slice."""
        sizes = (n + more for n, more in zip(self.tile, beyond, strict=True))
        return lax.dynamic_slice(x, self.start(i), (len(x), 1, *sizes, x.shape[-1]))[:, 0]

    def start(self, i: jax.Array) -> list[jax.Array]:
        """Return where the `i`-th slice begins, along every axis of filled images."""
        zero = jnp.zeros((), i.dtype)
        if self.whole:
            return [zero, i, *(zero for _ in self.tile), zero]
        first, *places = jnp.unravel_index(i, self.counts)
        return [zero, first, *(p * n for p, n in zip(places, self.tile, strict=True)), zero]

    @property
    def whole(self) -> bool:
        """Whether images are not cut."""
        return max(self.counts[1:]) == 1


def _slices(x: jax.Array, space: Sequence[Any], numbers: int) -> Slices | None:
    """Return how a batch is cut; None if it is not.

    Args:
        x: the batch.
        space: the pixels of an image between the stencils and the product.
        numbers: how many numbers a pixel has there.
    """
    batch, area = x.shape[0], math.prod(space)
    if not isinstance(batch, int) or not isinstance(area, int):  # free sizes have no divisors
        return None
    most = max(1, SLICE_BYTES // (numbers * x.dtype.itemsize))
    if batch * area <= most:
        return None
    if area <= 2 * most:  # what the tiles of larger ones share is computed for each
        images = max(n for n in range(1, max(1, most // area) + 1) if batch % n == 0)
        return Slices(images, tuple(space), (batch // images, *(1 for _ in space)))
    tile = list(space)
    while math.prod(tile) > most:
        longest = max(range(len(tile)), key=tile.__getitem__)
        tile[longest] = -(-tile[longest] // 2)
    return Slices(1, tuple(tile), (batch, *(-(-n // t) for n, t in zip(space, tile, strict=True))))


_conv_p, _gram_p = primitive_pair(
    "pdo_stencil_conv",
    _conv,
    _gram,
    lambda weights, placement, _: (jnp.swapaxes(weights, 1, 2), placement.transposed),
)
