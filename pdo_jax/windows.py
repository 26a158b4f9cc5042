"""Where windows fall on the pixel grid: padding, output sizes, and the sizes that stay exact.

A window of extent e, moved in steps of s over n pixels with p zeros on both sides, has its centres
placed symmetrically, so that quarter turns and mirrors stay exact, if and only if

    (n + 2 p - e) mod s == 0.

For "SAME" and an odd window that is n = 1 mod s: odd sizes for one stage of stride 2, 1 mod 4 for
two. A 2x2 window with stride 2 wants even sizes. Convolutions and pools share this file.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pdo_jax import _check

Padding = str | int | Sequence[int | tuple[int, int]]

# How the pixels outside the image are made, in the words of jnp.pad.
_MODES = {"SAME": "constant", "VALID": "constant", "CIRCULAR": "wrap", "REFLECT": "reflect"}


_FOLDER = os.path.dirname(__file__)


class EquivarianceWarning(UserWarning):
    """A stride does not fit the size of its input, so that quarter turns are no longer exact."""


class Pads(NamedTuple):
    """Padding, resolved: what to fill with, and how many pixels before and after every axis."""

    mode: str
    pairs: tuple[tuple[int, int], ...]


def resolve_padding(padding: Padding, extents: Sequence[int]) -> Pads:
    """Return a padding in numbers.

    Args:
        padding: "SAME" for (e - 1) // 2 zeros on both sides of a window of extent e at every
            stride, "VALID" for none, "CIRCULAR" and "REFLECT" for as many pixels as "SAME" taken
            from the image; an integer for all sides; or one integer or pair for every axis.
        extents: the extent of the window along every axis, dilation included.

    Returns:
        The `Pads`.

    Raises:
        TypeError, ValueError: if `padding` is not one of these.

    Example:
        >>> resolve_padding("SAME", (5, 3)).pairs
        ((2, 2), (1, 1))
        >>> resolve_padding([(0, 1), 2], (3, 3)).pairs
        ((0, 1), (2, 2))
    """
    ndim = len(extents)
    if isinstance(padding, str):
        word = _check.choice("padding", padding, tuple(_MODES))
        sides = [0 if word == "VALID" else (e - 1) // 2 for e in extents]
        return Pads(_MODES[word], tuple((side, side) for side in sides))
    if isinstance(padding, (int, np.integer)):
        return Pads("constant", (_pair("padding", padding),) * ndim)
    if not isinstance(padding, Sequence):
        raise TypeError(
            f"padding (={padding!r}) must be a word, an integer, or a sequence with an integer or "
            "a pair for each spatial axis; pass e.g. 'SAME'."
        )
    if len(padding) != ndim:
        raise ValueError(
            f"padding (={padding!r}) must have one entry for each of the {ndim} spatial axes, got "
            f"{len(padding)}; pass e.g. {[(0, 0)] * ndim}."
        )
    return Pads("constant", tuple(_pair(f"padding[{i}]", p) for i, p in enumerate(padding)))


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        side = _check.integer(name, value, 0)
        return side, side
    if len(value) != 2:
        raise ValueError(
            f"{name} (={value!r}) must be an integer or a pair (before, after); pass e.g. (1, 1)."
        )
    return _check.integer(f"{name}[0]", value[0], 0), _check.integer(f"{name}[1]", value[1], 0)


def place(
    caller: str,
    sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
) -> Pads:
    """Resolve a padding for windows that are about to be moved over an image.

    Raises if no window fits, and warns once for every caller and geometry where the stride breaks
    the symmetry of the grid.

    Args:
        caller: the name of the public function, for messages.
        sizes: the number of pixels along every axis.
        extents: the extent of the window along every axis, dilation included.
        strides: the step along every axis.
        padding: as in `resolve_padding`.

    Returns:
        The `Pads`.

    Raises:
        ValueError: if the padded image is smaller than the window.

    Example:
        >>> place("max_pool", (28, 28), (2, 2), (2, 2), "VALID")
        Pads(mode='constant', pairs=((0, 0), (0, 0)))
    """
    pads = resolve_padding(padding, extents)
    for n, e, s, (low, high) in zip(sizes, extents, strides, pads.pairs, strict=True):
        room = n + low + high - e
        if isinstance(room, int) and room < 0:  # a free size says neither
            raise ValueError(
                f"{caller}: padding (={padding!r}) leaves {n + low + high} pixels of {n} for a "
                f"window of {e}; pass padding='SAME' or a larger image."
            )
        if isinstance(room, int) and not _symmetric(n, e, s, low, high):
            _warn_once(caller, n, e, s, low, high)
    return pads


def fitting(
    sizes: Sequence[int], strides: Sequence[int], padding: Padding, extents: Sequence[int]
) -> tuple[int, ...]:
    """Return for every axis the first of some extents whose windows lie symmetrically on it.

    Args:
        sizes: the number of pixels along every axis.
        strides: the step along every axis.
        padding: as in `resolve_padding`.
        extents: the extents to choose from; the last one where none fits.

    Returns:
        One extent for every axis.

    Raises:
        TypeError, ValueError: if `padding` is not valid.

    Example:
        >>> fitting((28, 29), (2, 2), "SAME", (5, 6))
        (6, 5)
    """
    pairs = {e: resolve_padding(padding, (e,) * len(sizes)).pairs for e in extents}
    return tuple(
        next((e for e in extents if _symmetric(n, e, s, *pairs[e][i])), extents[-1])
        for i, (n, s) in enumerate(zip(sizes, strides, strict=True))
    )


def _symmetric(n: int, e: int, s: int, low: int, high: int) -> bool:
    """Return whether the first window is as far from its edge as the last one from the other."""
    return s == 1 or (n + low + high - e) // s * s == n + 2 * low - e


@functools.cache
def _warn_once(caller: str, n: int, e: int, s: int, low: int, high: int) -> None:
    if low != high:
        advice = "pad both sides equally"
    else:
        fitting = [m for m in range(max(1, n - s), n + s + 1) if (m + 2 * low - e) % s == 0]
        advice = f"sizes that keep them exact: {', '.join(map(str, fitting))}"
    warnings.warn(
        f"{caller}: a window of {e} with stride {s} and padding ({low}, {high}) on {n} pixels is "
        f"placed unsymmetrically, so that quarter turns and mirrors are not exact; {advice}.",
        EquivarianceWarning,
        stacklevel=_callers_level(),
    )


def _callers_level() -> int:
    """Return how many frames above `_warn_once` the library was called."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_FOLDER):
        level, frame = level + 1, frame.f_back
    return level
