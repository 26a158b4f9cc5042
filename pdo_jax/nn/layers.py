"""Flax NNX layers: they own the free weights and call the functions of `pdo_jax.conv`.

The only parameters are `kernel` (the free weights, in the layout of those functions) and `bias`,
one number a field. Bases are constants of the program and kernels are expanded on the fly, so
neither is ever saved, and training and evaluation have the same parameter tree.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn.initializers import Initializer, zeros
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check, conv, windows
from pdo_jax.basis import FilterBasis, filter_basis
from pdo_jax.groups import Group, cyclic
from pdo_jax.groups import group as as_group
from pdo_jax.nn import recompute
from pdo_jax.nn.initializers import flat, he_normal


class _PDOLayer(nnx.Module):
    """What the three layers of differential operators share: their constructor and their call."""

    _function: Callable[..., jax.Array]
    _on_fields = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group | str | FilterBasis,
        *,
        strides: conv.PerAxis = 1,
        padding: windows.Padding = "SAME",
        kernel_dilation: conv.PerAxis = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer | None = None,
        bias_init: Initializer = zeros,
        order: int = 2,
        orientation: Any = 0.0,
        scheme: str = "finite-difference",
        accuracy: int = 2,
        operators: str = "box",
        sigma: float | None = None,
        band: float | None = None,
        size: int | None = None,
        angular_size: int | None = None,
        algorithm: str = "auto",
        checkpoint: bool = False,
        rngs: nnx.Rngs,
    ):
        self.in_features = _check.integer("in_features", in_features, 1)
        self.out_features = _check.integer("out_features", out_features, 1)
        self.basis = _basis(
            group,
            order=order,
            orientation=orientation,
            scheme=scheme,
            accuracy=accuracy,
            operators=operators,
            sigma=sigma,
            band=band,
            size=size,
        )
        ndim = self.basis.group.ndim
        self.strides = _check.per_axis("strides", strides, ndim)
        self.kernel_dilation = _check.per_axis("kernel_dilation", kernel_dilation, ndim)
        pads = windows.resolve_padding(padding, (self.basis.size,) * ndim)
        self.padding = padding if isinstance(padding, str) else pads.pairs
        if type(self)._function is conv.group_conv_transpose:  # which knows fewer words: raises
            conv.transposed(self.basis, self.strides, self.padding, self.kernel_dilation)
        groups = self.feature_group_count = _divisor(
            feature_group_count, self.in_features, self.out_features
        )
        self.algorithm = _check.choice("algorithm", algorithm, conv.ALGORITHMS)
        self.checkpoint = checkpoint
        self.dtype, self.param_dtype, self.precision = *_dtypes(dtype, param_dtype), precision

        self.angular_size = _angular_size(angular_size, self.basis.group, self._on_fields)
        copies = (self.angular_size or self.basis.group.order,) if self._on_fields else ()
        channels = self.in_features // groups
        shape = (self.basis.num_operators, *copies, channels, self.out_features)
        if kernel_init is None:
            kernel_init = he_normal(self.basis, self._fan_in(channels * math.prod(copies)))
        self.kernel = nnx.Param(kernel_init(_key(rngs), shape, param_dtype))
        self.bias = _bias(use_bias, bias_init, self.out_features, param_dtype, rngs)

    def _fan_in(self, inputs: int) -> float:
        """Return how many numbers of the input, of `inputs` at a pixel, are not zero."""
        return inputs

    def weights(self) -> jax.Array:
        """Return the free weights for every group element: `kernel`, and zeros beyond its reach."""
        kernel = jnp.asarray(self.kernel[...])
        if self.angular_size is None:
            return kernel
        reach, order = self.angular_size // 2, self.basis.group.order
        zeros = [(0, order - self.angular_size) if i == 1 else (0, 0) for i in range(kernel.ndim)]
        return jnp.roll(jnp.pad(kernel, zeros), -reach, axis=1)

    def __call__(self, x: Float[_check.Array, "... c"]) -> Float[jax.Array, "... g o"]:
        """Apply the layer.

        Args:
            x: `(..., H, W, in_features)` image or `(..., H, W, |G|, in_features)` field.

        Returns:
            `(..., H', W', |G|, out_features)` field.
        """
        x = _cast(x, self.kernel, self.dtype)
        return recompute.call(_PDOLayer._apply, self, x, checkpoint=self.checkpoint)

    def _apply(self, x: jax.Array) -> jax.Array:
        """Convolve, and add the bias."""
        y = type(self)._function(
            x,
            self.weights(),
            self.basis,
            self.strides,
            self.padding,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
            algorithm=self.algorithm,
            precision=self.precision,
        )
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)


class PDOLift(_PDOLayer):
    """A layer from images to fields: `pdo_jax.lift_conv` with its free weights.

        y(., g) = kernel_g * x + bias

    Args:
        in_features: the number of channels of the image.
        out_features: the number of fields.
        group: the `Group` or its name, with the options of the basis below; or a `FilterBasis`.
        strides: the step in pixels.
        padding: "SAME" (symmetric at every stride), "VALID", "CIRCULAR", "REFLECT", an integer, or
            an integer or pair for each axis.
        kernel_dilation: the distance of two taps in pixels.
        feature_group_count: the number of groups into which the channels are split.
        use_bias: whether to add one number a field, the same for every group element.
        dtype: of the computation; by default the promoted dtype of input and parameters.
        param_dtype: of the parameters.
        precision: of the convolution; kernels are always expanded at full precision.
        kernel_init: of the free weights; by default the output has the variance that a
            He-initialised plain convolution has, on white noise, on average over the group.
        bias_init: of the bias.
        order: the largest order of derivative of the basis, as in `pdo_jax.filter_basis`.
        orientation: of the frame of the free weights, in radians.
        scheme: the discretisation: "finite-difference", "gaussian", "rbf-fd" or "optimal".
        accuracy: the order of its error.
        operators: "box" or "total".
        sigma: the standard deviation of "gaussian" in pixels.
        band: the largest frequency of "optimal" in radians per pixel.
        size: the number of taps; None for the smallest.
        angular_size: None: an image has no orientations.
        algorithm: "auto", "direct", "stencils" or "harmonic".
        checkpoint: whether the gradient expands the kernel and prepares the input again in place
            of keeping what comes of it; less memory, more time.
        rngs: the random keys; `params` is used.

    Attributes:
        kernel: `nnx.Param`, `(M, in_features / feature_group_count, out_features)`.
        bias: `nnx.Param`, `(out_features,)`, or None.
        basis: the `FilterBasis`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = PDOLift(1, 6, "p8", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 28, 28, 1))).shape
        (2, 28, 28, 8, 6)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), the map Psi. The published networks have no bias.
    """

    _function = conv.lift_conv
    _on_fields = False


class PDOConv(_PDOLayer):
    """A layer from fields to fields: `pdo_jax.group_conv` with its free weights.

        y(., g) = sum_h kernel_g[w(g^-1 h)] * x(., h) + bias

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name, or a `FilterBasis`.
        strides, padding, kernel_dilation: as in `PDOLift`.
        feature_group_count: the number of groups into which the channels are split, never the
            group axis.
        use_bias, dtype, param_dtype, precision, kernel_init, bias_init: as in `PDOLift`.
        order, orientation, scheme, accuracy, operators, sigma, band, size: as in `PDOLift`.
        angular_size: the odd number of neighbouring orientations that are seen, |G| if None; of
            cyclic groups of the plane alone.
        algorithm, checkpoint: as in `PDOLift`.
        rngs: the random keys; `params` is used.

    Attributes:
        kernel: `nnx.Param`, `(M, |G|, in_features / feature_group_count, out_features)`; with
            `angular_size` in place of |G|, orientation -(angular_size // 2) first.
        bias: `nnx.Param`, `(out_features,)`, or None.
        basis: the `FilterBasis`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = PDOConv(6, 4, "p8", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 28, 28, 8, 6))).shape
        (2, 28, 28, 8, 4)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), the map Phi. The published networks have no bias.
    """

    _function = conv.group_conv


class PDOConvTranspose(_PDOLayer):
    """A layer that enlarges fields: `pdo_jax.group_conv_transpose` with its free weights.

        y(., g) = sum_h kernel_g[w(g^-1 h)] * X(., h) + bias     X: x with zeros between pixels

    n pixels become (n - 1) strides + 1, placed symmetrically, so that quarter turns stay exact at
    every size.

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name, or a `FilterBasis`.
        strides: the factor of enlargement.
        padding: "SAME", "VALID", or numbers of zeros around the enlarged input.
        kernel_dilation, feature_group_count: as in `PDOConv`.
        use_bias, dtype, param_dtype, precision, kernel_init, bias_init: as in `PDOLift`.
        order, orientation, scheme, accuracy, operators, sigma, band, size: as in `PDOLift`.
        angular_size: as in `PDOConv`.
        algorithm, checkpoint: as in `PDOLift`.
        rngs: the random keys; `params` is used.

    Attributes:
        kernel: `nnx.Param`, `(M, |G|, in_features / feature_group_count, out_features)`.
        bias: `nnx.Param`, `(out_features,)`, or None.
        basis: the `FilterBasis`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = PDOConvTranspose(6, 4, "p8", strides=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 14, 14, 8, 6))).shape
        (2, 27, 27, 8, 4)
    """

    _function = conv.group_conv_transpose

    def _fan_in(self, inputs: int) -> float:
        # Of the pixels under a kernel one in prod(strides) is not zero.
        enlargement = 1
        for stride in self.strides:
            enlargement *= stride
        return inputs / enlargement


class PointwiseConv(nnx.Module):
    """A 1x1 layer from fields to fields: `pdo_jax.pointwise_group_conv` with its free weights.

        y(., g) = sum_h w(g^-1 h) x(., h) + bias

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name.
        strides: the step in pixels; warns where it does not fit the size of the input.
        use_bias, dtype, param_dtype, precision: as in `PDOLift`.
        kernel_init: of the free weights; He's normal rule by default.
        bias_init: of the bias.
        rngs: the random keys; `params` is used.

    Attributes:
        kernel: `nnx.Param`, `(|G|, in_features, out_features)`.
        bias: `nnx.Param`, `(out_features,)`, or None.
        group: the `Group`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = PointwiseConv(6, 4, "p8", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 28, 28, 8, 6))).shape
        (2, 28, 28, 8, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group | str,
        *,
        strides: conv.PerAxis = 1,
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer | None = None,
        bias_init: Initializer = zeros,
        rngs: nnx.Rngs,
    ):
        self.in_features = _check.integer("in_features", in_features, 1)
        self.out_features = _check.integer("out_features", out_features, 1)
        self.group = as_group(group)
        self.strides = _check.per_axis("strides", strides, self.group.ndim)
        self.dtype, self.param_dtype, self.precision = *_dtypes(dtype, param_dtype), precision
        shape = (self.group.order, self.in_features, self.out_features)
        if kernel_init is None:
            kernel_init = flat(nnx.initializers.he_normal())  # fan_in |G| C_in: one sum
        self.kernel = nnx.Param(kernel_init(_key(rngs), shape, param_dtype))
        self.bias = _bias(use_bias, bias_init, self.out_features, param_dtype, rngs)

    def __call__(self, x: Float[_check.Array, "... c"]) -> Float[jax.Array, "... g o"]:
        """Apply the layer.

        Args:
            x: `(..., H, W, |G|, in_features)` field.

        Returns:
            `(..., H', W', |G|, out_features)` field.
        """
        x = _cast(x, self.kernel, self.dtype)
        if max(self.strides) > 1:
            ndim = self.group.ndim
            x = _check.floating("x", x, "(..., H, W, |G|, C_in)", ndim + 2)
            sizes = x.shape[-2 - ndim : -2]
            windows.place("PointwiseConv", sizes, (1,) * ndim, self.strides, "VALID")
            x = x[(..., *(slice(None, None, s) for s in self.strides), slice(None), slice(None))]
        y = conv.pointwise_group_conv(x, self.kernel[...], self.group, precision=self.precision)
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)


def _cast(x: _check.Array, kernel: nnx.Param, dtype: DTypeLike | None) -> jax.Array:
    x = _check.floating("x", x, "(..., C)", 1)
    return x.astype(dtype or jnp.result_type(x.dtype, kernel.dtype))


def _key(rngs: nnx.Rngs) -> jax.Array:
    """Return a fresh key for a parameter."""
    stream = getattr(rngs, "params", None)
    if stream is None:
        raise TypeError(
            f"rngs (={type(rngs).__name__}) must be an nnx.Rngs with a stream 'params'; pass e.g. "
            "nnx.Rngs(0)."
        )
    return stream()


def _bias(
    use_bias: bool, init: Initializer, features: int, dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Param | None:
    return nnx.Param(init(_key(rngs), (features,), dtype)) if use_bias else None


def _basis(group: Group | str | FilterBasis, **options: Any) -> FilterBasis:
    """Return the basis that a layer was given, or make it of a group and options."""
    if not isinstance(group, FilterBasis):
        return filter_basis(group, **options)
    parameters = inspect.signature(filter_basis).parameters
    for name, value in options.items():
        if not np.array_equal(value, parameters[name].default):
            raise ValueError(
                f"{name} (={value!r}) is an option for the basis of a group, but group is a "
                "FilterBasis already; leave it out, or pass the group."
            )
    return group


def _angular_size(size: int | None, group: Group, on_fields: bool) -> int | None:
    if size is None:
        return None
    size = _check.integer("angular_size", size, 1)
    if not on_fields or group.ndim != 2 or group != cyclic(group.order):
        raise ValueError(
            f"angular_size (={size}) needs neighbouring orientations, but "
            + (f"{group.name} is not cyclic" if on_fields else "images have none")
            + "; pass None."
        )
    if size % 2 == 0 or size > group.order:
        raise ValueError(
            f"angular_size (={size}) must be odd and at most {group.order}, the order of "
            f"{group.name}; pass e.g. {min(size, group.order) - 1 | 1}."
        )
    return size


def _divisor(groups: int, in_features: int, out_features: int) -> int:
    groups = _check.integer("feature_group_count", groups, 1)
    if in_features % groups or out_features % groups:
        raise ValueError(
            f"feature_group_count (={groups}) must divide in_features (={in_features}) and "
            f"out_features (={out_features}); pass a common divisor."
        )
    return groups


def _dtypes(dtype: DTypeLike | None, param_dtype: DTypeLike) -> tuple[DTypeLike | None, DTypeLike]:
    if dtype is not None:
        _check.floating_dtype("dtype", dtype)
    return dtype, _check.floating_dtype("param_dtype", param_dtype)
