"""A network in the format of ONNX, for runtimes that know nothing of JAX."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.extend.core import Literal, Var
from jax.typing import DTypeLike

from pdo_jax import _check, _files
from pdo_jax.export import program

DTYPES = ("float32", "float64")


def save_onnx(
    model: nnx.Module,
    path: str | os.PathLike[str],
    input_shape: Sequence[int | None],
    *,
    dtype: DTypeLike = jnp.float32,
    overwrite: bool = False,
) -> None:
    """Write a network as an ONNX file, with the converter jax2onnx (the extra `onnx`).

    The network is folded and saved as it evaluates, as by `save`. Images stay channels-last.
    jax2onnx 0.17 has no convolutions in space, so it refuses networks for volumes.

    Args:
        model: the network. It is not changed.
        path: the file. It is written whole or not at all.
        input_shape: the shape of a batch, whose first axis is free, as in `save`. The input is
            called "x" in the file and the output "y" (several outputs "y0", "y1", ...).
        dtype: of the input: float32 or float64.
        overwrite: whether an existing file may be replaced.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.
        FileExistsError: if `path` exists and `overwrite` is False.
        ImportError: if jax2onnx is missing.
    """
    shape = program.check_shape(input_shape, fixed_batch=False)
    name = jnp.dtype(_check.floating_dtype("dtype", dtype)).name
    _check.choice("dtype", name, DTYPES)
    function = program.evaluation(model, fold=True)
    try:
        jax2onnx = importlib.import_module("jax2onnx")
    except ImportError:
        raise ImportError(
            "pdo_jax.export.save_onnx needs the package jax2onnx; install it with "
            "pip install jax2onnx."
        ) from None
    with _files.replacing(path, overwrite) as temporary:
        sizes = ",".join(["batch", *map(str, shape[1:])])
        x = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), name)
        closed = jax.make_jaxpr(function)(x)
        count = len(closed.jaxpr.outvars)
        proto = jax2onnx.to_onnx(
            lambda x: _evaluate(closed.jaxpr, closed.consts, [x]),
            [x],
            model_name=type(model).__name__,
            enable_double_precision=name == "float64",
            input_names=["x"],
            output_names=["y"] if count == 1 else [f"y{i}" for i in range(count)],
        )
        temporary.write_bytes(proto.SerializeToString())


# jax2onnx writes a pool as one over all axes, batch and channels too, where runtimes stop at three,
# and pads no batch of unknown size. So the network is evaluated equation by equation, with pools as
# slices and pads as concatenations.


def _evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """Evaluate a jaxpr with its inner functions inlined and its pools as slices."""
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= zip(jaxpr.invars, inputs, strict=True)

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        operands = [read(atom) for atom in equation.invars]
        if name in _POOLS:
            results = [_pool(*_POOLS[name], operands[0], **params)]
        elif name == "pad":
            x, value = operands
            results = [_pad(x, value, params["padding_config"])]
        elif name in _CALLS:
            inner = params[_CALLS[name]]
            results = _evaluate(inner.jaxpr, inner.consts, operands)
        else:
            results = equation.primitive.bind(*operands, **params)
            results = results if equation.primitive.multiple_results else [results]
        values |= zip(equation.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
_POOLS = {
    "reduce_window_max": (jnp.maximum, -jnp.inf),
    "reduce_window_sum": (jnp.add, 0.0),
}


def _pool(
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    empty: float,
    x: jax.Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[Any, Any]],
    **_: Any,
) -> jax.Array:
    """Pool by combining one strided slice for each place in the window, axis by axis."""
    x = _pad(x, jnp.asarray(empty, x.dtype), [(low, high, 0) for low, high in padding])
    for axis, (window, step) in enumerate(zip(window_dimensions, window_strides, strict=True)):
        if window > 1 or step > 1:
            end = (x.shape[axis] - window) // step * step + 1
            slices = (lax.slice_in_dim(x, j, j + end, step, axis=axis) for j in range(window))
            x = functools.reduce(combine, slices)
    return x


def _pad(x: jax.Array, value: jax.Array, config: Sequence[tuple[Any, Any, Any]]) -> jax.Array:
    """Pad by concatenating constants; negative pads cut, and pads between pixels stay pads."""
    if any(low < 0 or high < 0 or interior for low, high, interior in config):
        return lax.pad(x, value, config)
    for axis, (low, high, _) in enumerate(config):
        if low:
            x = jnp.concatenate([_layers(x, value, axis, low), x], axis)
        if high:
            x = jnp.concatenate([x, _layers(x, value, axis, high)], axis)
    return x


def _layers(x: jax.Array, value: jax.Array, axis: int, count: Any) -> jax.Array:
    """Return what has the shape of `x`, but for `count` entries along an axis, and one value."""
    return jnp.broadcast_to(value, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
