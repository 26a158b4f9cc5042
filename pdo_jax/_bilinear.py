"""Convolutions as two primitives of JAX, each other's transposes in both arguments.

    conv: (x, W) -> y          gram: (x, y) -> W          <y, conv(x, W)> = <gram(x, y), W>

Both gradients of a convolution are such maps again: that of W is the gram of x and dy, that of x is
a convolution of dy with other weights, placed otherwise. So forward and reverse mode of every order
follow from two functions, and so does vmap. (A custom_vjp would forbid forward mode.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

Transpose = Callable[[jax.Array, Any, Sequence[int]], tuple[jax.Array, Any]]


def primitive_pair(
    name: str,
    conv: Callable[..., jax.Array],
    gram: Callable[..., jax.Array],
    transpose: Transpose,
) -> tuple[Primitive, Primitive]:
    """Return the primitives of a convolution and of the gradient of its weights.

    Args:
        name: of the convolution.
        conv: `conv(x, weights, placement=, sliced=)`; `x` has the batch first and channels last,
            `weights` have C_in and C_out last, as the output has C_out. `sliced` says whether the
            batch is worked off in slices.
        gram: `gram(x, y, placement=, sliced=)`, of the shape of the weights.
        transpose: of weights, a placement and the shape of `x`: the weights and the placement of
            the convolution that maps dy to dx.
    """
    conv_p, gram_p = _primitive(name, conv), _primitive(f"{name}_gram", gram)

    def back(dy: jax.Array, x: Any, weights: jax.Array, placement: Any) -> jax.Array:
        weights, placement = transpose(weights, placement, x.aval.shape)
        return conv_p.bind(dy, weights, placement=placement)

    ad.defbilinear(
        conv_p,
        back,
        lambda dy, x, weights, placement: gram_p.bind(x, dy, placement=placement),
    )
    ad.defbilinear(
        gram_p,
        lambda dw, x, y, placement: back(y, x, dw, placement),
        lambda dw, x, y, placement: conv_p.bind(x, dw, placement=placement),
    )
    batching.primitive_batchers[conv_p] = partial(_batch_conv, conv_p)
    batching.primitive_batchers[gram_p] = partial(_batch_gram, gram_p)
    return conv_p, gram_p


def _primitive(name: str, function: Callable[..., jax.Array]) -> Primitive:
    primitive = Primitive(name)
    plain = partial(function, sliced=False)
    traced = jax.jit(plain, static_argnames=("placement",))  # once for all layers of a shape

    def shape(*arrays: Any, **options: Any) -> Any:
        return jax.typeof(jax.eval_shape(partial(traced, **options), *arrays))

    primitive.def_abstract_eval(shape)
    primitive.def_impl(partial(xla.apply_primitive, primitive))
    # Functions of the program, shared by layers of the same shapes. Only the small caches of a CPU
    # ask for slices.
    whole = mlir.lower_fun(plain, multiple_results=False)
    sliced = mlir.lower_fun(partial(function, sliced=True), multiple_results=False)
    mlir.register_lowering(primitive, whole, inline=False)
    mlir.register_lowering(primitive, sliced, platform="cpu", inline=False)
    return primitive


def _batch_conv(
    conv_p: Primitive, arrays: tuple, axes: tuple, *, placement: Any
) -> tuple[jax.Array, int]:
    (x, weights), (x_axis, weights_axis) = arrays, axes
    if weights_axis is None:  # more images
        x = jnp.moveaxis(x, x_axis, 0)
        y = conv_p.bind(x.reshape(-1, *x.shape[2:]), weights, placement=placement)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    if x_axis is None:  # more outputs
        weights = jnp.moveaxis(weights, weights_axis, -2)
        y = conv_p.bind(x, weights.reshape(*weights.shape[:-2], -1), placement=placement)
        return y.reshape(*y.shape[:-1], *weights.shape[-2:]), y.ndim - 1
    return _one_by_one(conv_p, arrays, axes, placement)


def _batch_gram(
    gram_p: Primitive, arrays: tuple, axes: tuple, *, placement: Any
) -> tuple[jax.Array, int]:
    (x, y), (x_axis, y_axis) = arrays, axes
    if y_axis is None:  # more inputs
        x = jnp.moveaxis(x, x_axis, -2)
        result = gram_p.bind(x.reshape(*x.shape[:-2], -1), y, placement=placement)
        shape = *result.shape[:-2], *x.shape[-2:], result.shape[-1]
        return result.reshape(shape), result.ndim - 2
    if x_axis is None:  # more outputs
        y = jnp.moveaxis(y, y_axis, -2)
        result = gram_p.bind(x, y.reshape(*y.shape[:-2], -1), placement=placement)
        return result.reshape(*result.shape[:-1], *y.shape[-2:]), result.ndim - 1
    return _one_by_one(gram_p, arrays, axes, placement)


def _one_by_one(
    primitive: Primitive, arrays: tuple, axes: tuple, placement: Any
) -> tuple[jax.Array, int]:
    moved = [jnp.moveaxis(a, axis, 0) for a, axis in zip(arrays, axes, strict=True)]
    return lax.map(lambda pair: primitive.bind(*pair, placement=placement), moved), 0
