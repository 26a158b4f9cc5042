"""The convolutions of PDO-eConvs, as pure functions of arrays, free weights and a constant basis.

    lift        y(., g) = kernel_g * x                               images -> fields
    group       y(., g) = sum_h kernel_g[w(g^-1 h)] * x(., h)         fields -> fields
    pointwise   y(., g) = sum_h w(g^-1 h) x(., h)                     fields -> fields, no space

The kernels come from `kernels`; here they meet `lax.conv_general_dilated`. The output has the dtype
of the input; kernels are expanded at full precision and then cast to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from pdo_jax import _check, algorithms, harmonic, harmonic_conv, kernels, stencil_conv, windows
from pdo_jax.algorithms import ALGORITHMS, Shapes
from pdo_jax.basis import FilterBasis
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group

PerAxis = int | Sequence[int]


def lift_conv(
    x: Float[_check.Array, "... channels"],
    weights: Float[_check.Array, "m i o"],
    basis: FilterBasis,
    strides: PerAxis = 1,
    padding: windows.Padding = "SAME",
    *,
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
    algorithm: str = "auto",
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "... g o"]:
    """Convolve an image with every rotated copy of a filter: a field on the group.

        y(., g) = kernel_g * x

    Args:
        x: `(..., H, W, C_in)` image, any number of leading axes.
        weights: `(M, C_in / feature_group_count, C_out)` free weights.
        basis: the `FilterBasis`, which also names the group.
        strides: the step in pixels, one number or one for each axis.
        padding: "SAME" (symmetric at every stride), "VALID", "CIRCULAR", "REFLECT", an integer, or
            an integer or pair for each axis.
        kernel_dilation: the distance of two taps in pixels.
        feature_group_count: the number of groups into which the channels are split.
        algorithm: "direct" expands the kernel and convolves; "stencils" applies the few stencils
            that span all kernels, and one matrix product; "harmonic" has nothing to gain from an
            image, and is one of them; "auto" chooses, by the backend.
        precision: of the convolution; the kernel is always expanded at full precision.

    Returns:
        `(..., H', W', |G|, C_out)` field in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Warns:
        EquivarianceWarning: once, if the stride does not fit the size of `x`.

    Example:
        >>> import pdo_jax as pdo
        >>> B = pdo.filter_basis("p8")
        >>> pdo.lift_conv(jnp.ones((2, 28, 28, 1)), jnp.ones((9, 1, 6)), B).shape
        (2, 28, 28, 8, 6)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), the map Psi.
    """
    weights = kernels.check_weights(weights, basis, "(M, C_in, C_out)")
    x = _check.floating("x", x, _axes(basis.group.ndim, field=False), basis.group.ndim + 1)
    geometry = Geometry(strides, 1, padding, kernel_dilation)
    return _convolve(
        "lift_conv", x, weights, basis, geometry, feature_group_count, algorithm, precision
    )


def group_conv(
    x: Float[_check.Array, "... g channels"],
    weights: Float[_check.Array, "m g i o"],
    basis: FilterBasis,
    strides: PerAxis = 1,
    padding: windows.Padding = "SAME",
    *,
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
    algorithm: str = "auto",
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "... g o"]:
    """Convolve a field over space and over the group.

        y(., g) = sum_h kernel_g[w(g^-1 h)] * x(., h)

    Args:
        x: `(..., H, W, |G|, C_in)` field, any number of leading axes.
        weights: `(M, |G|, C_in / feature_group_count, C_out)` free weights; the second axis is
            indexed by g^-1 h, g the output's element and h the input's.
        basis: the `FilterBasis`, which also names the group.
        strides: the step in pixels, one number or one for each axis.
        padding: as in `lift_conv`.
        kernel_dilation: the distance of two taps in pixels.
        feature_group_count: the number of groups into which the channels (never the group axis)
            are split.
        algorithm: "direct" expands the kernel and convolves; "stencils" applies the few stencils
            that span all kernels, and one matrix product; "harmonic" does so for every frequency
            of a Fourier transform over the rotations; "auto" chooses, by the backend and the
            estimated cost.
        precision: of the convolution; the kernel is always expanded at full precision.

    Returns:
        `(..., H', W', |G|, C_out)` field in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Warns:
        EquivarianceWarning: once, if the stride does not fit the size of `x`.

    Example:
        >>> import pdo_jax as pdo
        >>> B = pdo.filter_basis("p4m")
        >>> pdo.group_conv(jnp.ones((15, 15, 8, 3)), jnp.ones((9, 8, 3, 5)), B, 2).shape
        (8, 8, 8, 5)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), the map Phi.
    """
    weights = kernels.check_weights(weights, basis, "(M, |G|, C_in, C_out)")
    x = _check_field(x, basis.group)
    geometry = Geometry(strides, 1, padding, kernel_dilation)
    return _convolve(
        "group_conv", x, weights, basis, geometry, feature_group_count, algorithm, precision
    )


def group_conv_transpose(
    x: Float[_check.Array, "... g channels"],
    weights: Float[_check.Array, "m g i o"],
    basis: FilterBasis,
    strides: PerAxis = 1,
    padding: windows.Padding = "SAME",
    *,
    kernel_dilation: PerAxis = 1,
    feature_group_count: int = 1,
    algorithm: str = "auto",
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "... g o"]:
    """Convolve a field after enlarging it: strides - 1 zeros between every two of its pixels.

        y(., g) = sum_h kernel_g[w(g^-1 h)] * up(x)(., h)

    The output is symmetric on the grid, and so exact at quarter turns, at every size and stride:
    "SAME" turns n pixels into (n - 1) strides + 1, which undoes a strided "SAME" convolution at the
    sizes that keep that one exact. (XLA's n * strides cannot be symmetric at even strides.)

    Args:
        x: `(..., H, W, |G|, C_in)` field, any number of leading axes.
        weights: `(M, |G|, C_in / feature_group_count, C_out)` free weights, as in `group_conv`.
        basis: the `FilterBasis`, which also names the group.
        strides: the factor of enlargement, one number or one for each axis.
        padding: "SAME", "VALID" (every pixel that a kernel reaches: extent - 1 zeros on both
            sides), or numbers of zeros around the enlarged input.
        kernel_dilation: the distance of two taps in pixels.
        feature_group_count: as in `group_conv`.
        algorithm: as in `group_conv`.
        precision: of the convolution; the kernel is always expanded at full precision.

    Returns:
        `(..., H', W', |G|, C_out)` field in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> import pdo_jax as pdo
        >>> B = pdo.filter_basis("p4")
        >>> pdo.group_conv_transpose(jnp.ones((8, 8, 4, 3)), jnp.ones((9, 4, 3, 5)), B, 2).shape
        (15, 15, 4, 5)
    """
    weights = kernels.check_weights(weights, basis, "(M, |G|, C_in, C_out)")
    x = _check_field(x, basis.group)
    geometry = transposed(basis, strides, padding, kernel_dilation)
    return _convolve(
        "group_conv_transpose",
        x,
        weights,
        basis,
        geometry,
        feature_group_count,
        algorithm,
        precision,
    )


def pointwise_group_conv(
    x: Float[_check.Array, "*lead g i"],
    weights: Float[_check.Array, "g i o"],
    group: Group | str,
    *,
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "*lead g o"]:
    """Mix channels and group elements at every pixel: the 1x1 group convolution.

        y(., g) = sum_h w(g^-1 h) x(., h)

    Args:
        x: `(..., |G|, C_in)` field; it does not matter which axes come before.
        weights: `(|G|, C_in, C_out)` free weights, the first axis indexed by g^-1 h.
        group: the `Group` or its name.
        precision: of the matrix product.

    Returns:
        `(..., |G|, C_out)` field in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> import pdo_jax as pdo
        >>> x, weights = jnp.ones((7, 7, 4, 3)), jnp.ones((4, 3, 5))
        >>> pdo.pointwise_group_conv(x, weights, "p4").shape
        (7, 7, 4, 5)
    """
    group = as_group(group)
    weights = _check.floating("weights", weights, "(|G|, C_in, C_out)", 3, exact=True)
    _check.axis("weights", weights, 0, group.order, f"the order of {group.name}")
    _check.nonempty("weights", weights, -2, "(C_in, C_out)")
    x = _check.floating("x", x, "(..., |G|, C_in)", 2)
    _check.axis("x", x, -2, group.order, f"the order of {group.name}")
    _check.axis("x", x, -1, weights.shape[1], "the weights' C_in")
    matrix = weights.astype(x.dtype)[group.product[group.inverse]]  # (G, H, C_in, C_out)
    return jnp.einsum("...hi,ghio->...go", x, matrix, precision=precision)


def _axes(ndim: int, field: bool) -> str:
    space = "H, W" if ndim == 2 else "D, H, W"
    return f"(..., {space}, |G|, C)" if field else f"(..., {space}, C)"


def _check_field(x: _check.Array, group: Group) -> jax.Array:
    x = _check.floating("x", x, _axes(group.ndim, field=True), group.ndim + 2)
    _check.axis("x", x, -2, group.order, f"the order of {group.name}")
    return x


class Geometry(NamedTuple):
    """Where a kernel is put: the step, the enlargement of the input, the borders, the dilation."""

    strides: PerAxis
    enlargement: PerAxis
    padding: windows.Padding
    dilation: PerAxis

    def steps(self, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return step, enlargement and dilation along every axis."""
        return (
            _check.per_axis("strides", self.strides, ndim),
            _check.per_axis("strides", self.enlargement, ndim),
            _check.per_axis("kernel_dilation", self.dilation, ndim),
        )


def transposed(
    basis: FilterBasis, strides: PerAxis, padding: windows.Padding, kernel_dilation: PerAxis
) -> Geometry:
    """Return where `group_conv_transpose` puts its kernel, with its own meaning of "VALID"."""
    if isinstance(padding, str) and _check.choice("padding", padding, ("SAME", "VALID")) == "VALID":
        dilation = _check.per_axis("kernel_dilation", kernel_dilation, basis.group.ndim)
        padding = tuple((basis.size - 1) * d for d in dilation)
    return Geometry(1, strides, padding, kernel_dilation)


def _convolve(
    caller: str,
    x: jax.Array,
    weights: jax.Array,
    basis: FilterBasis,
    geometry: Geometry,
    feature_group_count: int,
    algorithm: str,
    precision: lax.PrecisionLike,
) -> jax.Array:
    """Convolve an image (weights with three axes) or a field (with four): what all layers share."""
    _check.choice("algorithm", algorithm, ALGORITHMS)
    groups = _check.integer("feature_group_count", feature_group_count, 1)
    order, field, ndim = basis.group.order, weights.ndim == 4, basis.group.ndim
    channels, outputs = weights.shape[-2:]
    image, pads = _placed(caller, x, (basis.size,) * ndim, channels, geometry, groups, order, field)
    strides, enlargement, dilation = geometry.steps(ndim)
    leading, sizes = image.shape[: -1 - ndim], image.shape[-1 - ndim : -1]
    batch = math.prod(leading)
    shapes = Shapes(batch, sizes, channels, outputs, field, strides, enlargement, dilation, pads)
    if algorithm == "auto":
        algorithm, _ = algorithms.choose(basis, shapes, groups, x.dtype)
    elif obstacle := algorithms.obstacle(algorithm, basis, shapes, groups):
        raise ValueError(
            f"algorithm (={algorithm!r}) does not serve {obstacle}; pass algorithm='auto' or "
            "'direct'."
        )
    if algorithm == "harmonic" and not field:
        obstacle = algorithms.obstacle("stencils", basis, shapes, groups)
        algorithm = "direct" if obstacle else "stencils"
    if algorithm == "direct":
        kernel = kernels.expand(weights, basis, x.dtype)
        return _correlate(image, kernel, geometry, pads, groups, precision, order)
    flat = image.reshape(batch, *image.shape[-1 - ndim :])
    if algorithm == "stencils":
        y = stencil_conv.convolve(
            flat,
            kernels.expand_spanned(weights, basis, x.dtype),
            stencil_conv.place(basis, dilation, pads, precision),
        )
    else:
        y = harmonic_conv.convolve(
            flat,
            harmonic.expand(weights, basis, x.dtype),
            harmonic_conv.place(basis, strides, enlargement, dilation, pads, precision),
            basis.group,
        )
    return y.reshape(*leading, *y.shape[1:-1], order, outputs)


def convolve(
    caller: str,
    x: jax.Array,
    kernel: jax.Array,
    geometry: Geometry,
    feature_group_count: int,
    precision: lax.PrecisionLike,
    *,
    order: int,
    field: bool,
) -> jax.Array:
    """Convolve an image or a field with a kernel that is expanded already.

    Args:
        caller: the name of the public function, for messages.
        x: `(..., H, W, C_in)` image or `(..., H, W, |G|, C_in)` field.
        kernel: `(k, k, C_in, |G| C_out)` or `(k, k, |G| C_in, |G| C_out)`, in the dtype of `x`.
        geometry: where the kernel is put.
        feature_group_count: the number of groups into which the channels are split.
        precision: of the convolution.
        order: the order of the group.
        field: whether `x` is a field.

    Returns:
        `(..., H', W', |G|, C_out)` field.
    """
    ndim, inputs = kernel.ndim - 2, order if field else 1
    groups = _check.integer("feature_group_count", feature_group_count, 1)
    channels = kernel.shape[-2] // inputs
    x, pads = _placed(caller, x, kernel.shape[:ndim], channels, geometry, groups, order, field)
    return _correlate(x, kernel, geometry, pads, groups, precision, order)


def _correlate(
    x: jax.Array,
    kernel: jax.Array,
    geometry: Geometry,
    pads: tuple[tuple[int, int], ...],
    groups: int,
    precision: lax.PrecisionLike,
    order: int,
) -> jax.Array:
    """Convolve what `_placed` returns with a kernel."""
    ndim, outputs = kernel.ndim - 2, kernel.shape[-1] // order
    if outputs % groups:
        raise ValueError(
            f"feature_group_count (={groups}) must divide C_out (={outputs}); pass a divisor."
        )
    space, (strides, enlargement, dilation) = "DHW"[-ndim:], geometry.steps(ndim)
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-1 - ndim :]),
        _swap_blocks(kernel, order, groups),
        strides,
        pads,
        lhs_dilation=enlargement,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=groups,
        precision=precision,
    )
    y = _swap_blocks(y, groups, order)
    return y.reshape(*x.shape[: -1 - ndim], *y.shape[1:-1], order, outputs)


def _placed(
    caller: str,
    x: jax.Array,
    taps: Sequence[int],
    channels: int,
    geometry: Geometry,
    groups: int,
    order: int,
    field: bool,
) -> tuple[jax.Array, tuple[tuple[int, int], ...]]:
    """Return `x` with its group and channel axes in one, and the zeros to add around it.

    Borders that are not zeros are added here. Feature groups come before the group axis.
    """
    ndim = len(taps)
    _check.nonempty("x", x, -ndim - 1 - field, "the pixels, the group and the channels")
    what = "the weights' C_in" if groups == 1 else "the weights' C_in times feature_group_count"
    _check.axis("x", x, -1, channels * groups, what)
    strides, enlargement, dilation = geometry.steps(ndim)
    if field:
        # Feature groups are blocks of the flat channels, so they come before the group axis.
        x = _swap_blocks(x.reshape(*x.shape[:-2], order * x.shape[-1]), order, groups)
    sizes = [(n - 1) * e + 1 for n, e in zip(x.shape[-ndim - 1 : -1], enlargement, strict=True)]
    extents = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    pads = windows.place(caller, sizes, extents, strides, geometry.padding)
    if pads.mode == "constant":
        return x, pads.pairs
    around = [(0, 0)] * (x.ndim - 1 - ndim) + [*pads.pairs, (0, 0)]
    return jnp.pad(x, around, mode=pads.mode), ((0, 0),) * ndim


def _swap_blocks(x: jax.Array, outer: int, inner: int) -> jax.Array:
    """Reorder flat channels from (outer, inner, C) to (inner, outer, C)."""
    if outer == 1 or inner == 1:
        return x
    blocks = x.reshape(*x.shape[:-1], outer, inner, x.shape[-1] // (outer * inner))
    return jnp.swapaxes(blocks, -2, -3).reshape(x.shape)
