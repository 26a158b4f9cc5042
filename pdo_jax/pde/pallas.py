"""The maximum and its winner for Nvidia's GPUs: one Triton kernel, through Pallas.

XLA has no loop with two results, a maximum and where it is, that is fused into one pass over the
taps. Here a program works on a block of pixels and lanes and walks through the taps with both in
registers, so that the padded field is read through the caches and only the results are written.
Neighbouring programs read the same rows.

It is lowered in the tests and interpreted on CPU, but has not run on a GPU: nothing takes it unless
it is asked for. Exported programs cannot hold it, since JAX promises nothing about Triton's custom
calls, and JAX 0.11 warns that a later version will drop this way to Triton.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from pdo_jax.pde.windows import Shape

WARPS = 4
NUMBERS = 1024  # of a block, a power of two: eight for each of the 128 threads of four warps
LANES = (128, 64, 32)  # how many of them lie side by side in memory, at most


def max_plus(
    padded: jax.Array, kernel: jax.Array, shape: Shape, *, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Return y and the first tap that reaches it, both of the shape of the field.

        y = max_n padded[:, i:i+H, j:j+W, l C : l C + Or C] - kernel[i, j, l],
        n = (i kW + j) kOr + l

    Args:
        padded: `(N, H + kH - 1, W + kW - 1, (Or + kOr - 1) C)`, from `windows.pad` with a finite
            border. A NaN goes on to the outputs that it reaches.
        kernel: `(kH, kW, kOr, Or C)`.
        shape: of the convolution.
        interpret: run on any device, slowly, for tests.

    Returns:
        y `(N, H, W, Or C)` in the dtype of `padded`, from differences in float32 at least, and n
        `(N, H, W, Or C)` in the dtype of `shape.tap_dtype`.
    """
    rows, columns, _ = shape.window
    examples, *pixels, _ = padded.shape
    height, width = pixels[0] - rows + 1, pixels[1] - columns + 1
    outputs = examples * height * width
    side = _lanes(shape.lanes)
    block = (NUMBERS // side, side)
    call: Any = pl.pallas_call(
        partial(_program, shape=shape, size=(height, width), outputs=outputs, block=block),
        out_shape=(
            jax.ShapeDtypeStruct((outputs, shape.lanes), padded.dtype),
            jax.ShapeDtypeStruct((outputs, shape.lanes), shape.tap_dtype),
        ),
        grid=(pl.cdiv(outputs, block[0]), pl.cdiv(shape.lanes, block[1])),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="max_plus",
    )
    precise = np.promote_types(np.promote_types(padded.dtype, kernel.dtype), np.float32)
    y, winner = call(
        padded.reshape(-1, padded.shape[-1]), kernel.reshape(-1, shape.lanes).astype(precise)
    )
    form = (examples, height, width, shape.lanes)
    return y.reshape(form), winner.reshape(form)


def _lanes(lanes: int) -> int:
    """Return the width of a block: of those that leave the fewest lanes idle the widest."""
    if lanes < min(LANES):
        return pl.next_power_of_2(lanes)
    return min(LANES, key=lambda side: (pl.cdiv(lanes, side) * side, -side))


def _program(
    x: Any,
    taps: Any,
    y: Any,
    winner: Any,
    *,
    shape: Shape,
    size: tuple[int, int],
    outputs: int,
    block: tuple[int, int],
) -> None:
    """Work off one block: pixels by lanes."""
    rows, columns, turns = shape.window
    height, width = size
    pixel, lane = (
        pl.program_id(axis) * n + lax.broadcasted_iota(np.int32, block, axis)
        for axis, n in enumerate(block)
    )
    side = pl.program_id(1) * block[1] + lax.broadcasted_iota(np.int32, block[1:], 0)
    inside = (pixel < outputs) & (lane < shape.lanes)
    above, column = lax.div(pixel, np.int32(width)), lax.rem(pixel, np.int32(width))
    example, down = lax.div(above, np.int32(height)), lax.rem(above, np.int32(height))
    across = width + columns - 1  # of a padded row
    first = (example * (height + rows - 1) + down) * across + column
    dtype = taps.dtype

    def row(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = found
        for j in range(columns):
            for turn in range(turns):
                tap = (i * columns + j) * turns + turn
                where = first + i * across + j, lane + turn * shape.channels
                value = triton.load(x.at[where], mask=inside, other=0).astype(dtype)
                value -= triton.load(taps.at[tap, side], mask=side < shape.lanes, other=0)
                better = (value > best) | (value != value)  # a NaN stays: nothing exceeds it
                best, index = jnp.where(better, value, best), jnp.where(better, tap, index)
        return best, index

    start = jnp.full(block, -jnp.inf, dtype), jnp.zeros(block, np.int32)
    best, index = lax.fori_loop(np.int32(0), np.int32(rows), row, start)
    triton.store(y.at[pixel, lane], best.astype(y.dtype), mask=inside)
    triton.store(winner.at[pixel, lane], index.astype(winner.dtype), mask=inside)
