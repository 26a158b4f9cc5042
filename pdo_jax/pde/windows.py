"""What all convolutions on SE(2) and on the plane share: the window about every point.

A field `(..., H, W, Or, C)` and a kernel `(Or, kH, kW, kOr, C)`, one for each output orientation,
become

    padded    (N, H + kH - 1, W + kW - 1, (Or + kOr - 1) C)
    kernel    (kH, kW, kOr, Or C)

in which the tap (i, j, l) of all outputs is one slice: `padded[:, i:i+H, j:j+W, l C : l C + Or C]`.
Orientation and channel are one axis, so that even a few channels fill vector registers, and the
angle is periodic because its first entries are repeated behind its last ones. The plane is the case
of one orientation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pdo_jax import _check
from pdo_jax.fields import mirror

# XLA on CPU makes vector instructions of loops that combine so many slices, and not of longer ones.
TAPS_TOGETHER = 30


class Shape(NamedTuple):
    """The sizes of a convolution; hashable."""

    window: tuple[int, int, int]
    """(kH, kW, kOr)."""
    orientations: int
    """Or; 1 on the plane."""
    channels: int
    """C."""

    @property
    def lanes(self) -> int:
        """The length of the axis of orientation and channel."""
        return self.orientations * self.channels

    @property
    def taps(self) -> int:
        """How many points a window has."""
        return int(np.prod(self.window))


def check(x: _check.Array, kernel: _check.Array) -> tuple[jax.Array, jax.Array, Shape]:
    """Return a field and a kernel in the form `(N, H, W, Or, C)` and `(Or, kH, kW, kOr, C)`.

    Args:
        x: `(..., H, W, Or, C)`, or `(..., H, W, C)` on the plane.
        kernel: `(Or, kH, kW, kOr, C)`, or `(kH, kW, C)` on the plane.

    Raises:
        TypeError, ValueError: if they are not arrays of these shapes, or do not fit.
    """
    kernel = _check.floating("kernel", kernel, "(Or, kH, kW, kOr, C) or (kH, kW, C)", 3)
    if kernel.ndim not in (3, 5):
        raise ValueError(
            f"kernel has shape {kernel.shape}, but (Or, kH, kW, kOr, C) is needed on SE(2), or "
            "(kH, kW, C) on the plane; reshape it."
        )
    x = check_field(x, 2 if kernel.ndim == 3 else 3)
    if kernel.ndim == 3:
        kernel, x = kernel[None, :, :, None], x[..., None, :]
    orientations, *window, channels = kernel.shape
    _check.axis("kernel", kernel, -1, x.shape[-1], "the number of channels of x")
    _check.axis("kernel", kernel, 0, x.shape[-2], "the number of orientations of x")
    for axis, size in zip(("kH", "kW", "kOr"), window, strict=True):
        if size % 2 == 0:
            raise ValueError(
                f"kernel has shape {kernel.shape}: {axis} (={size}) must be odd, so that the "
                "window has a middle; pad it with one more row."
            )
    if window[2] > orientations:
        raise ValueError(
            f"kernel has shape {kernel.shape}: kOr (={window[2]}) must be at most Or "
            f"(={orientations}), or an angle would be counted twice; pass a narrower kernel."
        )
    x = x.reshape(-1, *x.shape[-4:])
    return x, kernel, Shape((window[0], window[1], window[2]), orientations, channels)


def check_field(x: _check.Array, ndim: int) -> jax.Array:
    """Return `x` if it is a field on the plane (`ndim` 2) or on SE(2) (3), with nothing empty."""
    axes = "(..., H, W, C)" if ndim == 2 else "(..., H, W, Or, C)"
    x = _check.floating("x", x, axes, ndim + 1)
    _check.nonempty("x", x, -ndim - 1, axes)
    return x


def lanes(kernel: jax.Array) -> jax.Array:
    """Return `(Or, kH, kW, kOr, C)` as `(kH, kW, kOr, Or C)`."""
    moved = jnp.moveaxis(kernel, 0, 3)
    return moved.reshape(*moved.shape[:3], -1)


def pad(x: jax.Array, shape: Shape, border: float | str) -> jax.Array:
    """Return `(..., H, W, Or, C)` with its surroundings: `(..., H', W', (Or + kOr - 1) C)`.

    Args:
        x: the field.
        shape: of the convolution.
        border: the number outside the image, or "REFLECT": mirrored at the first and last pixel.
    """
    height, width, turns = (n // 2 for n in shape.window)
    if isinstance(border, str):
        for axis, radius in ((-4, height), (-3, width)):
            if radius:
                n = x.shape[axis]
                x = jnp.take(x, mirror(np.arange(-radius, n + radius), n), axis=axis)
    else:
        sides = [(0, 0, 0)] * (x.ndim - 4) + [(height,) * 2 + (0,), (width,) * 2 + (0,)]
        x = jax.lax.pad(x, np.asarray(border, x.dtype), [*sides, (0, 0, 0), (0, 0, 0)])
    if turns:
        x = jnp.concatenate([x[..., -turns:, :], x, x[..., :turns, :]], axis=-2)
    return x.reshape(*x.shape[:-2], -1)


def runs(shape: Shape) -> list[list[tuple[int, int]]]:
    """Return the taps (j, l) of a row of the window, in runs that are worked off together."""
    _, width, turns = shape.window
    row = [(j, turn) for j in range(width) for turn in range(turns)]
    return [row[i : i + TAPS_TOGETHER] for i in range(0, len(row), TAPS_TOGETHER)]
