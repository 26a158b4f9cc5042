"""How taps lie in an array: axes y, x or z, y, x, where y points up, against the rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int


def offsets(size: int, ndim: int) -> Int[np.ndarray, "taps n"]:
    """Return the offsets of all taps, x first; the last variable runs fastest.

    Example:
        >>> offsets(3, 2)[:4].tolist()
        [[-1, -1], [-1, 0], [-1, 1], [0, -1]]
    """
    axis = np.arange(size) - size // 2
    return np.stack(np.meshgrid(*[axis] * ndim, indexing="ij"), -1).reshape(-1, ndim)


def layout(taps: Float[np.ndarray, " taps"], size: int, ndim: int) -> Float[np.ndarray, "*taps"]:
    """Return taps in the order of `offsets` as a correlation kernel.

    Example:
        >>> layout(np.arange(9.0), 3, 2)[0].tolist()  # the offsets (-1, +1), (0, +1), (+1, +1)
        [2.0, 5.0, 8.0]
    """
    stencil = taps.reshape((size,) * ndim).transpose()
    return np.flip(stencil, -2) if ndim > 1 else stencil


def outer(factors: Iterable[np.ndarray]) -> Float[np.ndarray, "*taps"]:
    """Return the outer product of one stencil for each variable, as a correlation kernel.

    Args:
        factors: `(2 r + 1,)` taps at offsets -r .. r, for x, y (and z).

    Returns:
        The taps, read-only.

    Example:
        >>> outer([np.ones(1), np.array([-0.5, 0.0, 0.5])]).tolist()  # d_y
        [[0.5], [0.0], [-0.5]]
    """
    stencil = np.ones(())
    for variable, taps in enumerate(factors):
        stencil = np.multiply.outer(taps[::-1] if variable == 1 else taps, stencil)
    stencil.flags.writeable = False
    return stencil


def centred(stencil: np.ndarray, size: int) -> np.ndarray:
    """Return `stencil` padded with zeros to `size` taps along every axis, centre on centre.

    Args:
        stencil: an array with an odd number of taps along every axis, none above `size`.
        size: an odd number of taps.

    Returns:
        An array with `size` taps along every axis.

    Example:
        >>> centred(np.ones((1,)), 3).tolist()
        [0.0, 1.0, 0.0]
    """
    return np.pad(stencil, [((size - n) // 2,) * 2 for n in stencil.shape])
