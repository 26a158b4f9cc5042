"""Scikit-learn's digits, padded and enlarged so that rotation loses nothing, and rotated copies.

The 1,797 scans of 8x8 pixels are part of the scikit-learn package, so nothing is downloaded. Padded
to 12x12 and enlarged to 24x24 a digit fits into the inscribed circle, and its finest details are
two pixels wide: what a rotation interpolates is smooth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

from experiments.datasets import Part, split

SIZE = 24
CLASSES = 10
TEST = 540  # digits; the others are for training
SPLIT_SEED = 0  # of the split, the same in every run
ANGLE_SEED = 1  # of the random angles of test digits, the same in every run


def load(degrees: float = 0.0) -> tuple[Part, Part]:
    """Return the training and the test digits: always the same 1,257 and 540.

    Args:
        degrees: 0 for upright digits; an angle turns all of them as they are enlarged, so that they
            are interpolated once (`rotate` turns what has been enlarged before).

    Returns:
        Images `(N, 24, 24, 1)` float32 and their labels.
    """
    scans, labels = load_digits(return_X_y=True)
    digits = Part(enlarge(scans.reshape(-1, 8, 8), degrees), labels.astype(np.int32))
    return split(digits, TEST, SPLIT_SEED)


def enlarge(scans: np.ndarray, degrees: float = 0.0) -> np.ndarray:
    """Return 8x8 scans as images: two pixels of margin, twice the size by a cubic spline.

    Args:
        scans: `(N, 8, 8)` numbers from 0 to 16.
        degrees: the angle by which the images are turned counter-clockwise.

    Returns:
        `(N, 24, 24, 1)` float32; white is 1, and a spline swings slightly below 0 and above 1.
    """
    padded = np.pad(scans / 16.0, [(0, 0), (2, 2), (2, 2)])
    step = padded.shape[1] / SIZE  # of the image's pixels, in the scan's
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = step * np.array([[cos, sin], [-sin, cos]])  # rows point down
    offset = (padded.shape[1] - 1) / 2 - matrix @ np.full(2, (SIZE - 1) / 2)
    options: dict[str, Any] = dict(output_shape=(SIZE, SIZE), order=3, mode="grid-constant")
    large = [ndimage.affine_transform(scan, matrix, offset, **options) for scan in padded]
    return np.asarray(large, np.float32)[..., None]


def rotate(images: np.ndarray, degrees: float | np.ndarray) -> np.ndarray:
    """Rotate images counter-clockwise about their centre, by a cubic spline, zeros outside.

    Args:
        images: `(N, H, W, C)`.
        degrees: one angle for all, or `(N,)` one for each.

    Returns:
        The rotated images, in the shape and dtype of `images`.
    """
    angles = np.broadcast_to(degrees, len(images))
    rotated = [
        ndimage.rotate(image, angle, reshape=False, order=3)
        for image, angle in zip(images, angles, strict=True)
    ]
    return np.stack(rotated).astype(images.dtype)


def randomly_rotated(digits: Part, copies: int = 1, seed: int = ANGLE_SEED) -> Part:
    """Return copies of digits, each rotated by an angle of its own, uniform in [0, 360)."""
    index = np.tile(np.arange(len(digits.labels)), copies)
    degrees = np.random.default_rng(seed).uniform(0, 360, len(index))
    return Part(rotate(digits.images[index], degrees), digits.labels[index])
