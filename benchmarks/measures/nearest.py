"""Kernels on SE(2) that are rotated by nearest neighbour, as LieTorch 0.6 does: a negative control.

The kernel of orientation 0 is sampled once. That of orientation t takes, at the offset o, what lies
nearest to R(-t) o in it, and nothing where that is outside of the window.
"""

from __future__ import annotations

import numpy as np

from pdo_jax.pde import geometry


def rotated(kernel: np.ndarray, outside: float) -> np.ndarray:
    """Return a kernel whose every orientation is the first one, rotated by nearest neighbour.

    Args:
        kernel: `(Or, kH, kW, kOr, C)`, of which orientation 0 is used.
        outside: the value of what lies outside of the window.
    """
    orientations, height, width = kernel.shape[:3]
    right, up = np.moveaxis(geometry.offsets((height, width)), -1, 0)
    result = np.full_like(kernel, outside)
    for t in range(orientations):
        cos, sin = (f(2 * np.pi * t / orientations) for f in (np.cos, np.sin))
        # Rounding first: at quarter turns the halves of even multiples are whole numbers.
        column = np.rint(np.round(cos * right + sin * up, 9)).astype(int) + width // 2
        row = height // 2 - np.rint(np.round(cos * up - sin * right, 9)).astype(int)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        result[t][inside] = kernel[0][row[inside], column[inside]]
    return result
