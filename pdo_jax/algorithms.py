"""Which way a convolution is computed, and why.

All ways compute the same function. What one of them costs on a CPU is a sum of what it does, which
is counted from the shapes alone, times the seconds that were measured for one of each:

    seconds(way) = sum_i COSTS[way][i] counts(way)[i]

`python -m benchmarks costs` measures and fits them, and reports how often the choice was wrong, and
by how much, on shapes that took no part in the fit.
"""

from __future__ import annotations

import functools
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

COUNTS = ("products", "ragged", "spilled", "windows", "taps", "numbers", "weights", "calls")
"""What is counted: multiplications of the matrix product; again those of a dense convolution whose
channels are no multiple of 8, or whose input and output are above 4 MiB; pixels of all its windows;
terms of the sums of stencils; numbers that are moved; numbers of the kernel; calls."""

COSTS: dict[str, tuple[float, ...]] = {
    "direct": (5.54e-11, 3.26e-11, 3.6e-11, 2.06e-08, 0.0, 2.97e-09, 8.26e-09, 0.0),
    "stencils": (4.47e-11, 0.0, 0.0, 0.0, 9.82e-10, 4.7e-09, 4.63e-09, 0.000158),
    "harmonic": (6.85e-11, 0.0, 0.0, 0.0, 2.73e-10, 2.21e-08, 3.97e-08, 0.0),
}
"""Seconds for one of each `COUNTS`, forward and backward, in float32 on one core of a CPU."""

SMALL = 3e-4
"""Seconds of which nothing is worth saving: the dense convolution compiles in a fraction of the
time that the others need."""


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


@functools.lru_cache(maxsize=1024)  # asked again by every eager call
def counts(algorithm: str, basis: FilterBasis, shapes: Shapes) -> tuple[float, ...]:
    """Return how many there are of each of `COUNTS`, for one forward pass."""
    order = basis.group.order
    inputs = shapes.channels_in * (order if shapes.field else 1)
    outputs = shapes.channels_out * order
    pixels = shapes.batch * math.prod(_outputs(basis, shapes))
    numbers = shapes.batch * math.prod(shapes.sizes) * inputs + pixels * outputs
    if algorithm == "harmonic":
        found = _harmonic(basis, shapes)
        return found.products, 0, 0, 0, found.taps, found.numbers, found.weights, 1
    if algorithm == "stencils":
        stencils, narrower = span(basis)[0], min(inputs, outputs)
        weights = len(stencils) * inputs * outputs
        # The products are made before the stencils, with the zeros around the images.
        padded = math.prod(n + sum(pads) for n, pads in zip(shapes.sizes, shapes.pads, strict=True))
        padded *= shapes.batch
        taps = int(np.count_nonzero(stencils)) * narrower * pixels
        return weights * padded, 0, 0, 0, taps, numbers, weights, 1
    taps = basis.size**basis.group.ndim
    weights = taps * inputs * outputs
    products = weights * pixels
    ragged = products if inputs % 8 or outputs % 8 else 0
    spilled = products if numbers > 2**20 else 0
    return products, ragged, spilled, taps * pixels, 0, numbers, weights, 1


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
    if max(*shapes.strides, *shapes.enlargement) > 1:
        return "direct", "nothing else is measured with strides"
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
    if not all(isinstance(n, int) for n in shapes.sizes):
        way = "stencils" if "stencils" in served else "direct"
        return way, "images of free size have no cost that could be compared"
    if not isinstance(shapes.batch, int) or not shapes.batch:  # of no known size
        shapes = shapes._replace(batch=16)
    return cheapest({algorithm: seconds(algorithm, basis, shapes) for algorithm in served})


def cheapest(costs: dict[str, float]) -> tuple[str, str]:
    """Return the algorithm of least cost, and why: of those that are worth compiling.

    Args:
        costs: the seconds of every algorithm that serves, "direct" among them.
    """
    words = ", ".join(f"{algorithm} {1e3 * cost:.3g} ms" for algorithm, cost in costs.items())
    words = f"estimated on one core, with gradients: {words}"
    if costs["direct"] < SMALL:
        return "direct", f"the others take longer to compile; {words}"
    return min(costs, key=costs.__getitem__), words


def _outputs(basis: FilterBasis, shapes: Shapes) -> Sequence[int]:
    return [
        ((n - 1) * factor + 1 + sum(pads) - (basis.size - 1) * dilation - 1) // stride + 1
        for n, factor, pads, dilation, stride in zip(
            shapes.sizes, shapes.enlargement, shapes.pads, shapes.dilation, shapes.strides,
            strict=True,
        )
    ]  # fmt: skip


def _harmonic(basis: FilterBasis, shapes: Shapes) -> harmonic_conv.Counts:
    placement = harmonic_conv.place(
        basis, shapes.strides, shapes.enlargement, shapes.dilation, shapes.pads, None
    )
    channels = shapes.channels_in, shapes.channels_out
    return harmonic_conv.counts(placement, shapes.batch, shapes.sizes, basis.group, *channels)
