"""From free weights to convolution kernels: a linear map, and the only place where it is written.

    lift       kernel_g[k]    = sum_m basis[g, m, k] w[m]
    group      kernel_g,h[k]  = sum_m basis[g, m, k] w[m, g^-1 h]

Both are a matrix product followed by a shuffle of blocks. XLA's own transpose of that shuffle is
several times slower than the shuffle, so the transposed map is written out beside it. What both
directions cost beside the convolution is measured by `python -m benchmarks expansion`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.basis import FilterBasis
from pdo_jax.span import span


def lift_kernel(
    weights: Float[_check.Array, "m i o"], basis: FilterBasis
) -> Float[jax.Array, "*taps i go"]:
    """Expand free weights into the kernel of a lifting convolution.

        kernel[..., i, g C_out + o] = sum_m basis[g, m, ...] weights[m, i, o]

    Args:
        weights: `(M, C_in, C_out)` free weights.
        basis: the `FilterBasis`.

    Returns:
        `(k, k, C_in, |G| C_out)` correlation kernel in the dtype of `weights` (one more k in
        space). Computed at full precision in at least float32.

    Raises:
        TypeError, ValueError: if the weights do not fit the basis.

    Example:
        >>> import pdo_jax as pdo
        >>> pdo.lift_kernel(jnp.ones((9, 3, 4)), pdo.filter_basis("p8")).shape
        (5, 5, 3, 32)
    """
    weights = check_weights(weights, basis, "(M, C_in, C_out)")
    return expand(weights, basis, weights.dtype)


def group_kernel(
    weights: Float[_check.Array, "m g i o"], basis: FilterBasis
) -> Float[jax.Array, "*taps g*i g*o"]:
    """Expand free weights into the kernel of a group convolution.

        kernel[..., h C_in + i, g C_out + o] = sum_m basis[g, m, ...] weights[m, g^-1 h, i, o]

    Args:
        weights: `(M, |G|, C_in, C_out)` free weights.
        basis: the `FilterBasis`.

    Returns:
        `(k, k, |G| C_in, |G| C_out)` correlation kernel in the dtype of `weights` (one more k in
        space). Computed at full precision in at least float32.

    Raises:
        TypeError, ValueError: if the weights do not fit the basis.

    Example:
        >>> import pdo_jax as pdo
        >>> pdo.group_kernel(jnp.ones((9, 4, 3, 2)), pdo.filter_basis("p4")).shape
        (3, 3, 12, 8)
    """
    weights = check_weights(weights, basis, "(M, |G|, C_in, C_out)")
    return expand(weights, basis, weights.dtype)


def check_weights(weights: _check.Array, basis: FilterBasis, axes: str) -> jax.Array:
    """Return `weights` if they are free weights for `basis`, with the axes that are named."""
    if not isinstance(basis, FilterBasis):
        raise TypeError(
            f"basis must be a FilterBasis, got {type(basis).__name__}; make one with filter_basis."
        )
    weights = _check.floating("weights", weights, axes, axes.count(",") + 1, exact=True)
    _check.axis("weights", weights, 0, basis.num_operators, "the basis's number of operators")
    if weights.ndim == 4:
        _check.axis("weights", weights, 1, basis.group.order, f"the order of {basis.group.name}")
    _check.nonempty("weights", weights, -2, "(C_in, C_out)")
    return weights


def expand(weights: jax.Array, basis: FilterBasis, dtype: Any) -> jax.Array:
    """Expand checked free weights of either kind, and cast the kernel to `dtype`.

    Args:
        weights: `(M, C_in, C_out)` or `(M, |G|, C_in, C_out)`.
        basis: the `FilterBasis`.
        dtype: the dtype of the convolution that will use the kernel.

    Returns:
        The kernel of `lift_kernel` or `group_kernel`.
    """
    space = (basis.size,) * basis.group.ndim
    kernel = _bind(weights, basis, spanned=False)
    return kernel.reshape(*space, *kernel.shape[1:]).astype(dtype)


def expand_spanned(weights: jax.Array, basis: FilterBasis, dtype: Any) -> jax.Array:
    """Expand checked free weights of either kind in the stencils that span the basis.

        kernel[k] = sum_r stencils[r, k] result[r]

    Args:
        weights: `(M, C_in, C_out)` or `(M, |G|, C_in, C_out)`.
        basis: the `FilterBasis`.
        dtype: the dtype of the convolution.

    Returns:
        `(R, C_in, |G| C_out)` or `(R, |G| C_in, |G| C_out)`; see `span` for the R stencils.
    """
    return _bind(weights, basis, spanned=True).astype(dtype)


def _bind(weights: jax.Array, basis: FilterBasis, *, spanned: bool) -> jax.Array:
    """Return the kernel by taps or stencils: `(taps, inputs C_in, |G| C_out)`."""
    lifting = weights.ndim == 3
    copies = weights[:, None] if lifting else weights
    precise = copies.astype(np.promote_types(weights.dtype, np.float32))
    kernel = _expand_p.bind(precise, basis=basis, lifting=lifting, spanned=spanned)
    taps, inputs, channels_in, order, channels_out = kernel.shape
    return kernel.reshape(taps, inputs * channels_in, order * channels_out)


# The linear map as a primitive of JAX, whose transpose is the primitive after it, and so on. (A
# custom_vjp would forbid forward-mode derivatives; a linear_call forbids vmap.)


def _tables(basis: FilterBasis, lifting: bool, spanned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the basis as `(taps, |G|, M)`, and `[g, h] -> g^-1 h` (or `[g, 0] -> 0`).

    With `spanned` the stencils that span the basis take the place of the taps.
    """
    group = basis.group
    values = span(basis)[1] if spanned else basis.values
    values = np.moveaxis(values.reshape(group.order, basis.num_operators, -1), 2, 0)
    lift = np.zeros((group.order, 1), np.int64)
    return values, lift if lifting else group.product[group.inverse]


def _expand(
    weights: Float[jax.Array, "m t i o"], *, basis: FilterBasis, lifting: bool, spanned: bool
) -> Float[jax.Array, "taps h i g o"]:
    """Map free weights to a kernel."""
    values, copy = _tables(basis, lifting, spanned)
    elements = np.arange(len(copy))
    flat = weights.reshape(len(weights), -1)

    def row(matrices: jax.Array) -> jax.Array:  # (taps of a row, G, M)
        matrix = matrices.reshape(-1, len(flat))
        product = jnp.matmul(matrix, flat, precision=lax.Precision.HIGHEST)
        product = product.reshape(*matrices.shape[:2], *weights.shape[1:])
        blocks = product[:, elements, copy.T]  # (taps, H, G, C_in, C_out)
        return jnp.swapaxes(blocks, 2, 3)

    # A loop over the rows of taps: XLA cannot fuse it into its consumers, which would shuffle the
    # blocks anew for each of them, and a row stays in the cache.
    steps = len(values) if spanned else basis.size
    rows = values.reshape(steps, -1, *values.shape[1:])
    kernel = lax.map(row, jnp.asarray(rows, weights.dtype))
    return kernel.reshape(-1, *kernel.shape[2:])


def _contract(
    cotangent: Float[jax.Array, "taps h i g o"], *, basis: FilterBasis, lifting: bool, spanned: bool
) -> Float[jax.Array, "m t i o"]:
    """Map what has the shape of a kernel to what has the shape of free weights: the transpose."""
    values, copy = _tables(basis, lifting, spanned)
    input_of = np.argsort(copy, axis=1)  # [g, t] -> h
    # Taps at which every kernel is zero (the corners of p8's 5x5) give nothing. Taking the others
    # by index, even if that is all of them, makes one gather of each block: twice as fast on CPU.
    taken = np.flatnonzero(np.any(values != 0, axis=(1, 2)))
    matrix = np.swapaxes(values[taken], 0, 1).reshape(-1, values.shape[2])
    blocks = [cotangent[taken, :, :, g][:, input_of[g]] for g in range(len(copy))]
    flat = jnp.stack(blocks).reshape(len(matrix), -1)
    product = jnp.matmul(
        np.asarray(matrix.T, cotangent.dtype), flat, precision=lax.Precision.HIGHEST
    )
    return product.reshape(-1, *cotangent.shape[1:3], cotangent.shape[4])


def _linear_primitive(name: str, function: Callable[..., jax.Array]) -> Primitive:
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(function, static_argnames=("basis", "lifting", "spanned")))
    primitive.def_abstract_eval(
        lambda x, **options: jax.typeof(jax.eval_shape(partial(function, **options), x))
    )
    # A function of the program, called by all layers of the same shapes, which share its constants.
    rule = mlir.lower_fun(function, multiple_results=False)
    mlir.register_lowering(primitive, rule, inline=False)

    def batch(arrays: tuple, axes: tuple, **options: Any) -> tuple[jax.Array, int]:
        # Input channels pass through untouched, on axis 2 of both sides: let the batch ride there.
        (array,), (axis,) = arrays, axes
        moved = jnp.moveaxis(array, axis, 2)
        batch, channels = moved.shape[2:4]
        merged = moved.reshape(*moved.shape[:2], batch * channels, *moved.shape[4:])
        result = primitive.bind(merged, **options)
        return result.reshape(*result.shape[:2], batch, channels, *result.shape[3:]), 2

    batching.primitive_batchers[primitive] = batch
    return primitive


_expand_p = _linear_primitive("pdo_expand", _expand)
_contract_p = _linear_primitive("pdo_contract", _contract)
ad.deflinear2(_expand_p, lambda t, _, **options: [_contract_p.bind(t, **options)])
ad.deflinear2(_contract_p, lambda t, _, **options: [_expand_p.bind(t, **options)])
