"""What it costs to expand the kernel of a group convolution, against the convolution itself.

    isolated     (expansion + its transpose) / (forward + backward of a convolution with a kernel)
    in context   (gradient of the group convolution) / (gradient with a kernel that is ready) - 1

with respect to the input and the weights, or the kernel. The rival, `naive`, gathers the weights
and sums over operators in one einsum, and leaves the transpose to JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import pdo_jax as pdo
from benchmarks import entry, timing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Expanding the kernel against the convolution that uses it, isolated and in context."""

    groups: tuple[str, ...] = ("p8",)
    """Names of groups, such as p4 p8 p16."""
    fields: tuple[int, ...] = (7, 23, 45)
    """Numbers of fields, the same in and out."""
    pixels: int = 8
    """The side of the square image."""
    batch: int = 4
    """The number of images."""
    dtype: entry.DType = "float32"
    """Of the input and the weights."""


def run(config: Config) -> entry.Report:
    """Measure every group with every number of fields."""
    report = entry.Report()
    for group in config.groups:
        for fields in config.fields:
            times = measure(config, pdo.filter_basis(group), fields)
            ratios = compare(times)
            case = {"group": group, "fields": fields, "times": times, "ratios": ratios}
            report.cases.append(case)
            for key, value in ratios.items():
                report.metrics[f"{key}, {group}, {fields} fields"] = value.median
    return report


def measure(config: Config, basis: pdo.FilterBasis, fields: int) -> dict[str, timing.Timing]:
    """Return the times of one case."""
    order, pixels = basis.group.order, config.pixels
    x, weights, cotangent = entry.normal(
        config.seed,
        config.dtype,
        (config.batch, pixels, pixels, order * fields),
        (basis.num_operators, order, fields, fields),
        (basis.size, basis.size, order * fields, order * fields),
    )
    field = x.reshape(*x.shape[:-1], order, fields)
    ours, naive = partial(pdo.group_kernel, basis=basis), partial(naive_kernel, basis=basis)

    programs = {
        "convolution": timing.prepare(gradient(convolve), x, ours(weights)),
        "expansion": timing.prepare(there_and_back(ours), weights, cotangent),
        "expansion naive": timing.prepare(there_and_back(naive), weights, cotangent),
        "group_conv": timing.prepare(
            gradient(lambda x, w: pdo.group_conv(x, w, basis)), field, weights
        ),
        "group_conv naive": timing.prepare(
            gradient(lambda x, w: convolve(x, naive(w))), x, weights
        ),
    }
    return timing.measure(programs, repeats=config.repeats, warmup=config.warmup)


def compare(times: dict[str, timing.Timing]) -> dict[str, timing.Spread]:
    """Return what the expansion costs, as a share of the convolution."""
    base = times["convolution"]
    return {
        "isolated": timing.ratio(times["expansion"], base),
        "isolated naive": timing.ratio(times["expansion naive"], base),
        "in context": timing.excess(times["group_conv"], base),
        "in context naive": timing.excess(times["group_conv naive"], base),
    }


def naive_kernel(weights: jax.Array, basis: pdo.FilterBasis) -> jax.Array:
    """Return `pdo.group_kernel(weights, basis)`, as one would write it down first."""
    group = basis.group
    values = jnp.asarray(basis.values.reshape(*basis.values.shape[:2], -1), weights.dtype)
    gathered = weights[:, group.product[group.inverse]]  # (M, G, H, C_in, C_out)
    kernel = jnp.einsum("gmk,mghio->khigo", values, gathered, precision=lax.Precision.HIGHEST)
    space = (basis.size,) * group.ndim
    return kernel.reshape(*space, group.order * weights.shape[2], -1)


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the plain convolution."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradient(layer: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Return the gradient of a loss of a layer's output, with respect to both arguments."""
    return jax.grad(lambda x, w: entry.scalar(layer(x, w)), argnums=(0, 1))


def there_and_back(kernel: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    """Return the function of weights and a cotangent that computes the kernel and its vjp."""

    def both(weights: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, back = jax.vjp(kernel, weights)
        return value, back(cotangent)[0]

    return both
