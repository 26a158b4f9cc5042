"""Equivariant layers as the plain convolutions that they are once training is over.

    PDOLift, PDOConv, PDOConvTranspose   ->  FoldedConv with the expanded kernel
    PointwiseConv                        ->  nnx.LinearGeneral over (|G|, C); FoldedConv if strided
    RelaxedLift, RelaxedConv             ->  the same with folded filters

Read `kernels` and `nn.layers` first.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check, conv, kernels
from pdo_jax.groups import Group
from pdo_jax.nn import PointwiseConv
from pdo_jax.nn.layers import PDOLift, _PDOLayer
from pdo_jax.nn.relaxed import Continuous


class FoldedConv(nnx.Module):
    """A plain convolution of images or fields: what `fold` makes of an equivariant layer.

        y(., g) = sum_h kernel[h, g] * x(., h) + bias

    It knows neither a group nor a basis, and its kernel may be trained on, but what is trained is
    not equivariant any more.

    Attributes:
        kernel: `nnx.Param`, `(k, k, C_in, |G| C_out)` or `(k, k, |G| C_in, |G| C_out)`, as
            `pdo_jax.lift_kernel` and `pdo_jax.group_kernel` give it.
        bias: `nnx.Param`, `(C_out,)`, or None.
        order: the order of the group.
        field: whether the input is a field.
        geometry: the strides, the enlargement of the input, the padding and the dilation.

    Example:
        >>> import pdo_jax as pdo
        >>> layer = pdo.export.fold(pdo.nn.PDOLift(1, 6, "p8", rngs=nnx.Rngs(0)))
        >>> layer.kernel.shape, layer(jnp.ones((2, 28, 28, 1))).shape
        ((5, 5, 1, 48), (2, 28, 28, 8, 6))
    """

    def __init__(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        geometry: conv.Geometry,
        *,
        order: int,
        field: bool,
        feature_group_count: int = 1,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
    ):
        self.kernel = nnx.Param(kernel)
        self.bias = None if bias is None else nnx.Param(bias)
        self.geometry = geometry
        self.order, self.field = order, field
        self.feature_group_count = feature_group_count
        # Half precision weights are expanded in float32, but the input meets them as they were.
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision

    def __call__(self, x: Float[_check.Array, "... c"]) -> Float[jax.Array, "... g o"]:
        """Apply the layer.

        Args:
            x: `(..., H, W, C_in)` image or `(..., H, W, |G|, C_in)` field.

        Returns:
            `(..., H', W', |G|, C_out)` field.
        """
        axes = "(..., H, W, |G|, C_in)" if self.field else "(..., H, W, C_in)"
        x = _check.floating("x", x, axes, self.kernel.ndim - 1 + self.field)
        if self.field:
            _check.axis("x", x, -2, self.order, "the order of the group")
        x = x.astype(self.dtype or jnp.result_type(x.dtype, self.param_dtype))
        y = conv.convolve(
            "FoldedConv",
            x,
            jnp.asarray(self.kernel[...], x.dtype),
            self.geometry,
            self.feature_group_count,
            self.precision,
            order=self.order,
            field=self.field,
        )
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)


def fold(model: nnx.Module) -> nnx.Module:
    """Return a copy of a network in which every equivariant layer is a plain convolution.

        kernel_g,h = sum_m basis[g, m] w[m, g^-1 h],    computed once

    The outputs are the same up to rounding; no basis is left and nothing is expanded any more. The
    parameters are |G| k^2 / M times as many (22 times for p8), so fold what you deploy, not what
    you train or keep.

    Relaxed layers keep their gains, which depend on the pose, and their filters become a
    `FoldedConv`; continuous filters over the whole input stay, since the input gives their size.
    Layers that are no convolutions (norms, pools, activations, linear layers) stay as they are, as
    does a subclass of an equivariant layer that has a call of its own. Shared layers stay shared;
    train and eval modes are kept.

    Args:
        model: the network, or a single layer. It is not changed.

    Returns:
        The copy: `PDOLift`, `PDOConv`, `PDOConvTranspose` and strided `PointwiseConv` have become
        `FoldedConv`, other `PointwiseConv` have become `nnx.LinearGeneral`.

    Raises:
        TypeError: if `model` is not an `nnx.Module`.

    Example:
        >>> import pdo_jax as pdo
        >>> model = pdo.models.mnist_rot(invariant=True, rngs=nnx.Rngs(0))
        >>> model.eval()
        >>> x = jnp.ones((1, 28, 28, 1))
        >>> bool(jnp.allclose(pdo.export.fold(model)(x), model(x), atol=1e-5))
        True
    """
    copy = nnx.clone(check_module(model))
    nodes = [node for _, node in nnx.iter_graph(copy) if isinstance(node, nnx.Pytree)]
    folded = {id(node): new for node in nodes if (new := _fold_layer(node)) is not None}

    for node in nodes:
        for name, value in list(vars(node).items()):
            # An attribute is a module, or a pytree (a dict, a tuple, ...) with modules at its tips.
            if any(id(tip) in folded for tip in jax.tree.leaves(value, is_leaf=_is_tip)):
                swapped = jax.tree.map(lambda t: folded.get(id(t), t), value, is_leaf=_is_tip)
                setattr(node, name, nnx.data(swapped))
    return folded.get(id(copy), copy)


def check_module(model: Any) -> nnx.Module:
    """Return `model` if it is a module."""
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model must be an nnx.Module, got {type(model).__name__}; pass the network itself."
        )
    return model


def _is_tip(value: Any) -> bool:
    return isinstance(value, (nnx.Pytree, nnx.Variable))


def _fold_layer(layer: Any) -> nnx.Module | None:
    """Return what takes the place of a layer, or None where it stays."""
    if isinstance(layer, _PDOLayer) and type(layer).__call__ is _PDOLayer.__call__:
        return _fold_pdo(layer)
    if isinstance(layer, PointwiseConv) and type(layer).__call__ is PointwiseConv.__call__:
        return _fold_pointwise(layer)
    if isinstance(layer, Continuous) and layer.kernel_size is not None:
        return _fold_continuous(layer, layer.kernel_size)
    return None


# Compiled as one program each: a network has many layers, and eager operations are many programs.
_expand = jax.jit(kernels.expand, static_argnums=(1, 2))


def _check_single(layer: _PDOLayer | PointwiseConv, ndim: int) -> None:
    found = layer.kernel[...].shape
    if len(found) != ndim:
        raise ValueError(
            f"model has a stack of {type(layer).__name__} (nnx.vmap, nnx.scan): its kernel has "
            f"shape {found}, but that of one layer has {ndim} axes; split the stack into single "
            "layers, or leave it as it is with fold=False."
        )


def _fold_pdo(layer: _PDOLayer) -> FoldedConv:
    _check_single(layer, 3 if isinstance(layer, PDOLift) else 4)
    basis, weights = layer.basis, layer.weights()
    placed = layer.strides, layer.padding, layer.kernel_dilation
    if type(layer)._function is conv.group_conv_transpose:
        geometry = conv.transposed(basis, *placed)
    else:
        geometry = conv.Geometry(placed[0], 1, *placed[1:])
    dtype = layer.dtype or np.promote_types(weights.dtype, np.float32)
    return FoldedConv(
        _expand(weights, basis, dtype),
        None if layer.bias is None else layer.bias[...],
        geometry,
        order=basis.group.order,
        field=weights.ndim == 4,
        feature_group_count=layer.feature_group_count,
        dtype=layer.dtype,
        param_dtype=weights.dtype,
        precision=layer.precision,
    )


def _fold_pointwise(layer: PointwiseConv) -> nnx.Module:
    _check_single(layer, 3)
    group, weights = layer.group, layer.kernel[...]
    inputs, outputs = (group.order, layer.in_features), (group.order, layer.out_features)
    matrix = _matrix(weights, group)
    bias = None if layer.bias is None else layer.bias[...]
    options: dict[str, Any] = dict(
        dtype=layer.dtype, param_dtype=weights.dtype, precision=layer.precision
    )
    if max(layer.strides) > 1:
        kernel = matrix.reshape(*(1,) * group.ndim, *matrix.shape)
        geometry = conv.Geometry(layer.strides, 1, "VALID", 1)
        return FoldedConv(kernel, bias, geometry, order=group.order, field=True, **options)
    return nnx.LinearGeneral(
        inputs,
        outputs,
        axis=(-2, -1),
        use_bias=bias is not None,
        kernel_init=lambda *_: matrix,
        bias_init=lambda *_: jnp.tile(jnp.asarray(bias), group.order),
        rngs=nnx.Rngs(0),
        **options,
    )


def _fold_continuous(layer: Continuous, size: int) -> FoldedConv:
    strides, padding, dilation = layer.place
    return FoldedConv(
        layer.expanded((size,) * layer.group.ndim, None),
        None,
        conv.Geometry(strides, 1, padding, dilation),
        order=layer.group.order,
        field=layer.field,
        dtype=layer.dtype,
        param_dtype=layer.param_dtype,
        precision=layer.precision,
    )


@functools.partial(jax.jit, static_argnums=1)
def _matrix(weights: jax.Array, group: Group) -> jax.Array:
    """Return the matrix of a pointwise layer, `(|G| C_in, |G| C_out)`."""
    blocks = weights[group.product[group.inverse]].transpose(1, 2, 0, 3)  # (H, C_in, G, C_out)
    return blocks.reshape(group.order * weights.shape[1], group.order * weights.shape[2])
