"""What all convolutions on SE(2) and on the plane share: the window about every point.

A field `(..., H, W, Or, C)` and a kernel `(Or, kH, kW, kOr, C)`, one for each output orientation,
become

    padded    (N, H + kH - 1, W + kW - 1, (Or + kOr - 1) C)
    kernel    (kH, kW, kOr, Or C)

in which the tap (i, j, l) of all outputs is one slice: `padded[:, i:i+H, j:j+W, l C : l C + Or C]`.
Orientation and channel are one axis, so that even a few channels fill vector registers, and the
angle is periodic because its first entries are repeated behind its last ones. The plane is the case
of one orientation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, xla

from pdo_jax import _check
from pdo_jax._varying import alike
from pdo_jax.fields import mirror
from pdo_jax.pde import geometry, kernels

Kernel = _check.Array | Callable[..., jax.Array]

# XLA on CPU makes vector instructions of loops over pixels that combine so many slices, not of much
# longer ones, and not where a number says at which row slices start. From sixteen slices of one
# array on it cuts those rows out before, so groups of rows have more taps than that.
TAPS_TOGETHER = 45
BAND_BYTES = 2**20  # of a band of a large example, that what is made of it stays in the caches


Window = tuple[int, int, int]  # (kH, kW, kOr)


class Shape(NamedTuple):
    """The sizes of a convolution; hashable."""

    window: Window
    """(kH, kW, kOr); kOr is 1 on the plane."""
    orientations: int
    """Or; 1 on the plane."""
    channels: int
    """C."""

    @property
    def lanes(self) -> int:
        """The length of the axis of orientation and channel."""
        return self.orientations * self.channels

    @property
    def taps(self) -> int:
        """How many points a window has."""
        return int(np.prod(self.window))

    @property
    def tap_dtype(self) -> Any:
        """The smallest unsigned integers that hold the number of every tap, and one more."""
        dtypes = np.uint8, np.uint16, np.uint32
        return next(d for d in dtypes if self.taps <= np.iinfo(d).max)


def check(
    x: _check.Array, kernel: Kernel, kernel_size: Sequence[int] | None
) -> tuple[jax.Array, jax.Array, Shape]:
    """Return a field and a kernel in the form `(N, H, W, Or, C)` and `(Or, kH, kW, kOr, C)`.

    Args:
        x: `(..., H, W, Or, C)`, or `(..., H, W, C)` on the plane.
        kernel: `(Or, kH, kW, kOr, C)`, or `(kH, kW, C)` on the plane, or a function.
        kernel_size: where a function is sampled.

    Raises:
        TypeError, ValueError: if they are not of these shapes, or do not fit.
    """
    if callable(kernel):
        kernel = _sampled(x, kernel, kernel_size)
    kernel = _check.floating("kernel", kernel, "(Or, kH, kW, kOr, C) or (kH, kW, C)", 3)
    if kernel.ndim not in (3, 5):
        raise ValueError(
            f"kernel has shape {kernel.shape}, but (Or, kH, kW, kOr, C) is needed on SE(2), or "
            "(kH, kW, C) on the plane; reshape it."
        )
    x = check_field(x, 2 if kernel.ndim == 3 else 3)
    if kernel.ndim == 3:
        kernel, x = kernel[None, :, :, None], x[..., None, :]
    orientations, *window, channels = kernel.shape
    _check.axis("kernel", kernel, -1, x.shape[-1], "the number of channels of x")
    _check.axis("kernel", kernel, 0, x.shape[-2], "the number of orientations of x")
    for axis, size in zip(("kH", "kW", "kOr"), window, strict=True):
        if size % 2 == 0:
            raise ValueError(
                f"kernel has shape {kernel.shape}: {axis} (={size}) must be odd, so that the "
                "window has a middle; pad it with one more row."
            )
    if window[2] > orientations:
        raise ValueError(
            f"kernel has shape {kernel.shape}: kOr (={window[2]}) must be at most Or "
            f"(={orientations}), or an angle would be counted twice; pass a narrower kernel."
        )
    field, values = alike(x.reshape(-1, *x.shape[-4:]), kernel)
    return field, values, Shape((window[0], window[1], window[2]), orientations, channels)


def _sampled(
    x: _check.Array, kernel: Callable[..., jax.Array], kernel_size: Sequence[int] | None
) -> jax.Array:
    """Return a function of the coordinates as an array of the number of channels of `x`."""
    if kernel_size is None:
        raise ValueError(
            "kernel_size must be given with a kernel that is a function; pass e.g. (5, 5, 5), or "
            "(5, 5) on the plane."
        )
    sizes = geometry.check_kernel_size(kernel_size)
    field = check_field(x, len(sizes))
    where = kernels.coordinates(sizes, field.shape[-2])
    dtype = np.promote_types(field.dtype, np.float32)
    values = kernel(*(jnp.asarray(c[..., None], dtype) for c in np.moveaxis(where, -1, 0)))
    shape = (*where.shape[:-1], field.shape[-1])
    try:
        return jnp.broadcast_to(values, shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"kernel returned an array of shape {jnp.shape(values)}, but one that broadcasts to "
            f"{shape} is needed; keep the shape of its arguments, and channels on the last axis."
        ) from error


def check_field(x: _check.Array, ndim: int) -> jax.Array:
    """Return `x` if it is a field on the plane (`ndim` 2) or on SE(2) (3), with nothing empty."""
    axes = "(..., H, W, C)" if ndim == 2 else "(..., H, W, Or, C)"
    x = _check.floating("x", x, axes, ndim + 1)
    _check.nonempty("x", x, -ndim - 1, axes)
    return x


def check_metric(
    x: _check.Array, metric: geometry.Metric, kernel_size: Sequence[int]
) -> tuple[tuple[int, ...], int]:
    """Return a window and the orientations of `x`, if there is a metric for each of its channels.

    Raises:
        TypeError, ValueError: if they do not fit.
    """
    sizes = geometry.check_kernel_size(kernel_size)
    field = check_field(x, len(sizes))
    found = geometry.check_metric(metric, len(sizes))
    array = found.coefficients if isinstance(found, geometry.Finsler) else found
    if len(array) != field.shape[-1]:
        raise ValueError(
            f"metric is for {len(array)} channels, but x has {field.shape[-1]}; pass one for each "
            "channel of x."
        )
    return sizes, field.shape[-2]


def lanes(kernel: jax.Array) -> jax.Array:
    """Return `(Or, kH, kW, kOr, C)` as `(kH, kW, kOr, Or C)`."""
    moved = jnp.moveaxis(kernel, 0, 3)
    return moved.reshape(*moved.shape[:3], -1)


def pad(x: jax.Array, shape: Shape, border: float | str) -> jax.Array:
    """Return `(..., H, W, Or, C)` with its surroundings: `(..., H', W', (Or + kOr - 1) C)`.

    Args:
        x: the field.
        shape: of the convolution.
        border: the number outside the image, or "REFLECT": mirrored at the first and last pixel.
    """
    height, width, turns = (n // 2 for n in shape.window)
    if isinstance(border, str):
        for axis, radius in ((-4, height), (-3, width)):
            if radius:
                n = x.shape[axis]
                x = jnp.take(x, mirror(np.arange(-radius, n + radius), n), axis=axis)
    else:
        near = [(height, height, 0), (width, width, 0), (0, 0, 0), (0, 0, 0)]
        x = lax.pad(x, np.asarray(border, x.dtype), [(0, 0, 0)] * (x.ndim - 4) + near)
    if turns:
        x = jnp.concatenate([x[..., -turns:, :], x, x[..., :turns, :]], axis=-2)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def fold(
    shape: Shape,
    padded: jax.Array,
    kernel: jax.Array,
    start: jax.Array,
    update: Callable[..., jax.Array],
) -> jax.Array:
    """Fold `update(result, part, weights, tap)` over all taps of the window, in any order.

    A small window is one fused loop over pixels. For a larger one there is a loop over groups of
    its rows, in whose body a run of taps is one; rows that are left over come last.

    Args:
        shape: of the convolution.
        padded: one example, `(H + kH - 1, W + kW - 1, (Or + kOr - 1) C)`.
        kernel: `(kH, kW, kOr, Or C)`.
        start: `(H, W, Or C)`.
        update: gets the result so far, what the tap sees of `padded`, its `(Or C,)` of the kernel,
            and its number in the order (row, column, angle).
    """
    height, width = (n - k + 1 for n, k in zip(padded.shape[:2], shape.window[:2], strict=True))
    rows, columns, turns = shape.window
    of_row = columns * turns

    def some(result: jax.Array, taps: range, row: Any, strip: Any, weights: Any) -> jax.Array:
        for tap in taps:
            i, j, turn = tap // of_row, tap // turns % columns, tap % turns
            first = turn * shape.channels
            part = strip[i : i + height, j : j + width, first : first + shape.lanes]
            number = jnp.asarray(row * np.int32(of_row) + np.int32(tap))
            result = update(result, part, weights[i, j, turn], number)
        return result

    start, _ = alike(start, padded)
    if shape.taps <= TAPS_TOGETHER:
        return some(start, range(shape.taps), np.int32(0), padded, kernel)
    group = max(1, min(TAPS_TOGETHER // of_row, rows // 2))  # rows
    groups, left = divmod(rows, group)
    for run in np.array_split(np.arange(group * of_row), -(-group * of_row // TAPS_TOGETHER)):
        taps = range(run[0], run[-1] + 1)

        def rows_of_group(step: jax.Array, result: jax.Array, taps: range = taps) -> jax.Array:
            row = step * np.int32(group)
            strip = lax.dynamic_slice_in_dim(padded, row, height + group - 1, 0)
            weights = lax.dynamic_slice_in_dim(kernel, row, group, 0)
            return some(result, taps, row, strip, weights)

        start = lax.fori_loop(np.int32(0), np.int32(groups), rows_of_group, start)
    if left:
        last = rows - left
        start = some(start, range(left * of_row), np.int32(last), padded[last:], kernel[last:])
    return start


def over_examples(function: Callable[..., Any], one_by_one: bool, *arrays: jax.Array) -> Any:
    """Apply a function to every example; one by one, what lies between stays in the caches."""
    if one_by_one:
        return lax.map(lambda one: function(*one), arrays)
    return jax.vmap(function)(*arrays)


def over_bands(function: Callable[[jax.Array], jax.Array], x: jax.Array, axis: int) -> jax.Array:
    """Apply a function to every example, and of large ones to a band at a time.

    Args:
        function: of `(1, H, W, ...)` with fewer pixels along `axis`; does not change the shape.
        x: `(N, H, W, ...)`.
        axis: along which examples are cut.
    """
    count, size = x.shape[0], x.shape[axis]
    if not all(isinstance(n, int) for n in x.shape):  # free sizes have no divisors
        return over_examples(lambda one: function(one[None])[0], True, x)
    if not count:
        return x
    bytes_of_one = math.prod(x.shape[1:]) * x.dtype.itemsize
    most = size if bytes_of_one <= 4 * BAND_BYTES else max(1, BAND_BYTES * size // bytes_of_one)
    band = max(n for n in range(1, most + 1) if size % n == 0)  # of a prime size, one line
    shape = [1, *x.shape[1:]]
    shape[axis] = band

    def body(i: jax.Array, x: jax.Array) -> jax.Array:  # each band is put where it was
        start = [jnp.zeros((), i.dtype)] * x.ndim
        start[0], start[axis] = i // (size // band), i % (size // band) * band
        part = function(lax.dynamic_slice(x, start, shape))
        return lax.dynamic_update_slice(x, part, start)

    return lax.fori_loop(0, count * (size // band), body, x)


def primitive(name: str, function: Callable[..., Any], *, results: bool = False) -> Primitive:
    """Return a function of arrays as a primitive of JAX: one operation to derivatives and vmap.

    Args:
        name: of the primitive.
        function: takes arrays and, by name, hashable options and `one_by_one`, which is True on
            CPU.
        results: whether it returns a tuple.
    """
    made = Primitive(name)
    made.multiple_results = results
    plain = partial(function, one_by_one=False)

    def shapes(*arrays: Any, **options: Any) -> Any:
        return jax.tree.map(jax.typeof, jax.eval_shape(partial(plain, **options), *arrays))

    made.def_impl(partial(xla.apply_primitive, made))
    made.def_abstract_eval(shapes)
    mlir.register_lowering(made, mlir.lower_fun(plain, multiple_results=results))
    careful = mlir.lower_fun(partial(function, one_by_one=True), multiple_results=results)
    mlir.register_lowering(made, careful, platform="cpu")
    return made


def batched(made: Primitive, of_examples: int) -> None:
    """Let vmap make the new axis one with that of the examples, or else of the channels.

    Args:
        made: the primitive; channels are on the last axis of all its arrays, and of its results.
            Its option "channels", if it has one, is their number.
        of_examples: how many of the arrays, the first ones, have an axis of examples that it treats
            one by one.
    """

    def batch(arrays: tuple, axes: tuple, **options: Any) -> tuple[Any, Any]:
        (size,) = {a.shape[i] for a, i in zip(arrays, axes, strict=True) if i is not None}
        moved = [
            jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
            for a, axis in zip(arrays, axes, strict=True)
        ]
        if of_examples and all(axis is None for axis in axes[of_examples:]):
            merged = [a.reshape(-1, *a.shape[2:]) for a in moved[:of_examples]]
            y = made.bind(*merged, *arrays[of_examples:], **options)
            y = jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), y)
        else:
            if "channels" in options:
                options["channels"] *= size
            merged = [jnp.moveaxis(a, 0, -1) for a in moved]
            merged = (a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1]) for a in merged)
            y = made.bind(*merged, **options)
            y = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(*a.shape[:-1], -1, size), -1, 0), y)
        return y, jax.tree.map(lambda _: 0, y)

    batching.primitive_batchers[made] = batch
