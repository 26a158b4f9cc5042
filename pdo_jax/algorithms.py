"""Which way a convolution is computed, and why.

All ways compute the same function. What one of them costs on a CPU is a sum of what it does, which
is counted from the shapes alone, times the seconds that were measured for one of each:

    seconds(way) = sum_i COSTS[way][i] counts(way)[i]

`python -m benchmarks costs` measures and fits them, and reports how often the choice was wrong, and
by how much, on shapes that took no part in the fit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pdo_jax import harmonic, harmonic_conv
from pdo_jax.basis import FilterBasis
from pdo_jax.span import span

ALGORITHMS = ("auto", "direct", "stencils", "harmonic")
MAX_TAPS = 256  # of all stencils together: beyond, compiling their sums takes too long

logger = logging.getLogger("pdo_jax.algorithms")

COUNTS = ("products", "columns", "numbers", "weights", "calls")
"""What is counted: multiplications of the matrix product, numbers that are made for it, numbers of
input and output, numbers of the kernel, and calls."""

COSTS: dict[str, tuple[float, ...]] = {
    "direct": (1e-10, 1e-9, 1e-9, 1e-9, 1e-4),
    "stencils": (6e-11, 1e-9, 1e-9, 1e-9, 1e-4),
    "harmonic": (6e-11, 1e-9, 1e-9, 1e-9, 2e-4),
}
"""Seconds for one of each `COUNTS`, forward and backward, in float32 on one core of a CPU."""


class Shapes(NamedTuple):
    """What the cost of a convolution depends on.

    Attributes:
        batch: the number of images.
        sizes: their pixels along every axis, borders that are not zeros included.
        channels_in: of every group element.
        channels_out: of every group element.
        field: whether the input is a field, not an image.
        strides: the step along every axis.
        enlargement: of the input, along every axis.
        dilation: the distance of two taps.
        pads: the zeros before and after every axis.
    """

    batch: int
    sizes: tuple[int, ...]
    channels_in: int
    channels_out: int
    field: bool
    strides: tuple[int, ...]
    enlargement: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]


def obstacle(algorithm: str, basis: FilterBasis, shapes: Shapes, feature_group_count: int) -> str:
    """Return why an algorithm cannot serve a convolution, in words, or nothing."""
    if algorithm == "direct":
        return ""
    if feature_group_count > 1:
        return f"feature_group_count (={feature_group_count}) above 1"
    if algorithm == "stencils":
        for steps in (shapes.strides, shapes.enlargement):
            if max(steps) > 1:
                return f"strides (={steps!r}) above 1"
        taps = np.count_nonzero(span(basis)[0])
    else:
        taps = harmonic.taps(basis)
    return f"a basis whose stencils have {taps} taps, above {MAX_TAPS}" if taps > MAX_TAPS else ""


def counts(algorithm: str, basis: FilterBasis, shapes: Shapes) -> tuple[float, ...]:
    """Return how many there are of each of `COUNTS`, for one forward pass."""
    order = basis.group.order
    inputs = shapes.channels_in * (order if shapes.field else 1)
    outputs = shapes.channels_out * order
    pixels = shapes.batch * math.prod(_outputs(basis, shapes))
    numbers = shapes.batch * math.prod(shapes.sizes) * inputs + pixels * outputs
    if algorithm == "harmonic":
        found = harmonic_conv.counts(_placement(basis, shapes), shapes.sizes, basis.group)
        columns = found.columns * shapes.channels_in * shapes.batch
        products = found.products * shapes.channels_in * shapes.channels_out * shapes.batch
        weights = found.stencils * order * found.cosets * shapes.channels_in * shapes.channels_out
        return products, columns, numbers, weights, 1
    if algorithm == "stencils":
        stencils = span(basis)[0]
        columns = (len(stencils) + int(np.count_nonzero(stencils))) * min(inputs, outputs) * pixels
        weights = len(stencils) * inputs * outputs
        return weights * pixels, columns, numbers, weights, 1
    taps = basis.size**basis.group.ndim
    weights = taps * inputs * outputs
    return weights * pixels, taps * inputs * pixels, numbers, weights, 1


def seconds(algorithm: str, basis: FilterBasis, shapes: Shapes) -> float:
    """Return the estimated seconds of a training step's share, on one core of a CPU."""
    found = counts(algorithm, basis, shapes)
    return sum(c * n for c, n in zip(COSTS[algorithm], found, strict=True))


def choose(
    basis: FilterBasis, shapes: Shapes, feature_group_count: int, dtype: Any
) -> tuple[str, str]:
    """Return the algorithm that "auto" takes, and why, in words.

    The words are logged, too, with the level DEBUG:

        logging.getLogger("pdo_jax.algorithms").setLevel(logging.DEBUG)
    """
    algorithm, reason = _choose(basis, shapes, feature_group_count, dtype)
    logger.debug("%s for %s on %s: %s", algorithm, basis.group.name, shapes, reason)
    return algorithm, reason


def _choose(
    basis: FilterBasis, shapes: Shapes, feature_group_count: int, dtype: Any
) -> tuple[str, str]:
    # XLA's convolutions on a CPU, and their gradients above all, are far slower than its matrix
    # products; elsewhere they are tuned, and numbers of 16 bits are made for them.
    if jax.default_backend() != "cpu":
        return "direct", f"nothing else is measured on {jax.default_backend()}"
    if np.dtype(dtype).itemsize < 4:
        return "direct", f"nothing else is measured in {np.dtype(dtype)}"
    served = [
        algorithm
        for algorithm in ALGORITHMS[1:]
        # On images, "harmonic" is one of the others.
        if (shapes.field or algorithm != "harmonic")
        and not obstacle(algorithm, basis, shapes, feature_group_count)
    ]
    if len(served) == 1:
        return served[0], "nothing else serves it"
    if not shapes.field:
        return "stencils", "images have few channels, to which stencils are applied"
    if not isinstance(shapes.batch, int):  # a free batch: all costs grow alike
        shapes = shapes._replace(batch=16)
    costs = {algorithm: seconds(algorithm, basis, shapes) for algorithm in served}
    words = ", ".join(f"{algorithm} {1e3 * cost:.3g} ms" for algorithm, cost in costs.items())
    return min(costs, key=costs.__getitem__), f"estimated on one core, with gradients: {words}"


def _outputs(basis: FilterBasis, shapes: Shapes) -> Sequence[int]:
    return [
        ((n - 1) * factor + 1 + sum(pads) - (basis.size - 1) * dilation - 1) // stride + 1
        for n, factor, pads, dilation, stride in zip(
            shapes.sizes, shapes.enlargement, shapes.pads, shapes.dilation, shapes.strides,
            strict=True,
        )
    ]  # fmt: skip


def _placement(basis: FilterBasis, shapes: Shapes) -> harmonic_conv.Placement:
    return harmonic_conv.place(
        basis, shapes.strides, shapes.enlargement, shapes.dilation, shapes.pads, None
    )
