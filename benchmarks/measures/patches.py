"""Equivariance errors without interpolation: patches of a continuous signal, turned and not.

A layer sees a patch around a point s, sampled at s + o (o: the patch's offsets), and the patch of
the turned signal around the turned point, which is the signal at s + g^-1 o. Equivariance wants

    f(turned patch)(h) = f(patch)(g^-1 h)        at the centre,

as in `pdo_jax.equivariance.convergence_errors`, which does this for analytic signals and several
mesh sizes. Here the mesh is one pixel, and one set of patches serves every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import pdo_jax as pdo
from benchmarks.measures.signals import Picture


def image_patches(
    pictures: Sequence[Picture], group: pdo.Group, elements: Sequence[int], size: int
) -> np.ndarray:
    """Return `(elements, points, size, size, 1)`: the patches of the turned images."""
    return np.stack([_samples(pictures, group, g, size, Picture.image) for g in elements])


def field_patches(
    pictures: Sequence[Picture], group: pdo.Group, elements: Sequence[int], size: int
) -> np.ndarray:
    """Return `(elements, points, size, size, |G|, 4)`: the patches of the turned fields."""
    patches = []
    for g in elements:
        still = _samples(pictures, group, g, size, lambda p, x: p.field(x, group))
        patches.append(still[..., group.product[group.inverse[g]], :])
    return np.stack(patches)


def _samples(
    pictures: Sequence[Picture],
    group: pdo.Group,
    element: int,
    size: int,
    signal: Callable[[Picture, np.ndarray], np.ndarray],
) -> np.ndarray:
    steps = np.arange(size) - size // 2
    offsets = np.stack(np.meshgrid(steps, -steps), -1) @ group.matrices[group.inverse[element]].T
    return np.concatenate([signal(p, p.points[:, None, None] + offsets) for p in pictures])


def crop(patches: np.ndarray, size: int) -> np.ndarray:
    """Return the middle of patches `(elements, points, k, k, ...)`: `size` pixels a side."""
    start = (patches.shape[2] - size) // 2
    return patches[:, :, start : start + size, start : start + size]


def errors(
    outputs: np.ndarray, group: pdo.Group, elements: Sequence[int], kind: str = "field"
) -> np.ndarray:
    """Return the relative equivariance error for every element.

        sqrt( mean over channels of  |f(L_g x) - L_g f(x)|^2 / |f(x)|^2 ),    norms over the points

    Every channel counts alike, as if its weights were scaled to equal output variance.

    Args:
        outputs: `(elements, points, |G|, C)` at the patches' centres; `(elements, points, C)` for
            images. The first element is the identity.
        group: the `Group`.
        elements: the indices of the elements that turned the input.
        kind: "field" or "image".

    Returns:
        `(elements,)` errors, 0 for the identity.
    """
    still = outputs[0]
    points = tuple(range(still.ndim - 1))
    squares = []
    for g, moved in zip(elements, outputs, strict=True):
        expected = still
        if kind == "field":
            expected = still[:, group.product[group.inverse[g]]]
        squares.append(np.sum((moved - expected) ** 2, points) / np.sum(still**2, points))
    return np.sqrt(np.mean(squares, axis=-1))


def first_quarter(group: pdo.Group) -> list[int]:
    """Return the rotations of a cyclic group up to the quarter turn; further ones repeat them.

    After an exact quarter turn the error is that of the remaining angle.
    """
    return [g for g in range(group.order) if g <= group.order / 4]
