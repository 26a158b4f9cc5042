"""One PDO convolution against plain convolutions of the same width: time, memory, operations.

    PDOConv    expands its kernel, then convolves
    lax.conv   convolves |G| C -> |G| C channels with a kernel that is ready
    nnx.Conv   the layer that Flax users have, of the same width and size

All have the kernel size of the basis and no bias; backward means the gradients of the input and the
weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import pdo_jax as pdo
from benchmarks import entry, timing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """One PDOConv against lax.conv and nnx.Conv of equal width: time, memory, operations."""

    group: str = "p8"
    """The name of the group."""
    cases: tuple[tuple[int, int], ...] = ((7, 28), (23, 16), (45, 8))
    """Pairs of a number of fields and a side of the square image."""
    batch: int = 4
    """The number of images."""
    dtype: entry.DType = "float32"
    """Of the input, the parameters and the computation."""
    precision: Literal["default", "high", "highest"] = "default"
    """Of the convolution."""


def run(config: Config) -> entry.Report:
    """Measure every pair of fields and pixels."""
    report = entry.Report()
    for fields, pixels in config.cases:
        times = measure(config, fields, pixels)
        ratios = {
            f"{name} / lax.conv, {key}": timing.ratio(
                times[f"{name}, {key}"], times[f"lax.conv, {key}"]
            )
            for key in ("forward", "forward + backward")
            for name in ("PDOConv", "nnx.Conv")
        }
        case = {"fields": fields, "pixels": pixels, "times": times, "ratios": ratios}
        report.cases.append(case)
        for key, value in ratios.items():
            report.metrics[f"{key}, {fields} fields, {pixels} pixels"] = value.median
    return report


def measure(config: Config, fields: int, pixels: int) -> dict[str, timing.Timing]:
    """Return the times of one case."""
    dtype, precision = jnp.dtype(config.dtype), lax.Precision(config.precision)
    options: dict[str, Any] = dict(use_bias=False, dtype=dtype, param_dtype=dtype)
    options |= dict(precision=precision, rngs=nnx.Rngs(config.seed))
    ours = pdo.nn.PDOConv(fields, fields, config.group, **options)
    order, size = ours.basis.group.order, ours.basis.size
    width = order * fields
    flax = nnx.Conv(width, width, (size, size), **options)
    shape = (config.batch, pixels, pixels, width)
    (x,) = entry.normal(config.seed, config.dtype, shape)
    field = x.reshape(*shape[:-1], order, fields)

    def convolve(kernel: jax.Array, x: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, precision=precision
        )

    layers = {
        "PDOConv": (*split(ours), field),
        "lax.conv": (convolve, pdo.group_kernel(ours.kernel[...], ours.basis), x),
        "nnx.Conv": (*split(flax), x),
    }
    times = {}
    for key, transform in (("forward", forward), ("forward + backward", backward)):
        programs = {
            f"{name}, {key}": timing.prepare(transform(function), weights, x)
            for name, (function, weights, x) in layers.items()
        }
        times |= timing.measure(programs, repeats=config.repeats, warmup=config.warmup)
    return times


def split(layer: nnx.Module) -> tuple[Callable[..., jax.Array], Any]:
    """Return a layer as a pure function of its state and its input, and the state."""
    definition, state = nnx.split(layer)
    return lambda state, x: nnx.merge(definition, state)(x), state  # pyright: ignore


def forward(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Return the function as it is."""
    return function


def backward(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Return the gradient of a loss of the output, with respect to weights and input."""
    return jax.grad(lambda weights, x: entry.scalar(function(weights, x)), argnums=(0, 1))
