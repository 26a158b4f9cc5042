"""Continuous signals: functions of positions, which can be sampled on any grid, turned or not.

    plane waves    band-limited and analytic
    pictures       the quintic spline through the pixels of a photograph or of a digit

A signal takes positions `(..., 2)` in pixels, x to the right and y up, to values `(..., C)`, and a
field on a group to `(..., |G|, C)`. No feature map is ever interpolated: where a measurement needs
the turned input, it samples the signal at turned positions.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import interpolate, ndimage
from sklearn.datasets import load_digits, load_sample_images

import pdo_jax as pdo
from experiments import digits
from experiments.datasets import idx

Signal = Callable[[np.ndarray], np.ndarray]
BLUR = 0.5  # pixels: the standard deviation of a camera's blur, before it samples
SOURCE_PIXELS = 2  # of a photograph, from one of its samples to the next
MNIST_FILES = ("mnist.npz", "train-images-idx3-ubyte.gz")
DISC = 8.0  # pixels: about the centre of a digit, where the strokes are


def plane_waves(seed: int, shape: tuple[int, ...] = (1,), band: float = 1.0) -> Signal:
    """Return a random signal of unit variance: sixteen waves, their numbers from band / 2 to band.

    Args:
        seed: of vectors, amplitudes and phases.
        shape: of a value: `(C,)`, or `(|G|, C)` for a field.
        band: the largest wave number, in radians per unit of length.
    """
    count = 16
    rng = np.random.default_rng(seed)
    angles, lengths = rng.uniform(0, 2 * np.pi, count), rng.uniform(band / 2, band, count)
    vectors = lengths * np.stack([np.cos(angles), np.sin(angles)])
    amplitudes = (rng.normal(size=(count, *shape)) + 1j * rng.normal(size=(count, *shape))) / 4
    return lambda positions: np.real(np.tensordot(np.exp(1j * positions @ vectors), amplitudes, 1))


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as a smooth function of positions, measured from its centre in samples.

    Attributes:
        spline: of degree 5 through the source's pixels, by row and column.
        step: the source's pixels from one sample to the next.
        centre: the row and the column where positions start.
        points: `(n, 2)` the positions about which it is sampled.
    """

    spline: interpolate.RectBivariateSpline
    step: float
    centre: tuple[float, float]
    points: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, step: float, points: np.ndarray) -> Picture:
        """Return the picture through an array `(H, W)` of pixels."""
        rows, columns = map(np.arange, pixels.shape)
        spline = interpolate.RectBivariateSpline(rows, columns, pixels, kx=5, ky=5)
        return cls(spline, step, (rows[-1] / 2, columns[-1] / 2), points)

    def derivative(self, positions: np.ndarray, x: int = 0, y: int = 0) -> np.ndarray:
        """Return a derivative d_x^x d_y^y at positions `(..., 2)`, per sample's distance."""
        row = self.centre[0] - self.step * positions[..., 1]
        column = self.centre[1] + self.step * positions[..., 0]
        return (-1) ** y * self.step ** (x + y) * self.spline.ev(row, column, dx=y, dy=x)

    def image(self, positions: np.ndarray) -> np.ndarray:
        """Return the picture as an image of one channel: `(..., 1)`."""
        return self.derivative(positions)[..., None]

    def field(self, positions: np.ndarray, group: pdo.Group) -> np.ndarray:
        """Return four features of the picture in the frame u, v of every element: `(..., |G|, 4)`.

            s,   d_u s,   d_u d_u s,   d_u d_v s,        u, v = g e_x, g e_y

        Turning the picture turns them as a field on the group, without any error.
        """
        d = {
            (i, j): self.derivative(positions, i, j)[..., None]
            for i, j in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        }
        (a, b), (c, e) = group.matrices[:, :, 0].T, group.matrices[:, :, 1].T
        features = (
            d[0, 0] * np.ones_like(a),
            a * d[1, 0] + b * d[0, 1],
            a * a * d[2, 0] + 2 * a * b * d[1, 1] + b * b * d[0, 2],
            a * c * d[2, 0] + (a * e + b * c) * d[1, 1] + b * e * d[0, 2],
        )
        return np.stack(features, axis=-1)


def photographs(count: int, margin: float, seed: int = 0) -> list[Picture]:
    """Return scikit-learn's two photographs as a camera of half their resolution sees them.

    The grey photograph (mean 0, variance 1) is blurred by a Gaussian of standard deviation `BLUR`
    samples; a sample is `SOURCE_PIXELS` pixels wide.

    Args:
        count: the number of points in each, uniformly random.
        margin: how far they stay from the border, in samples.
        seed: of the points.
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for colours in cast(Any, load_sample_images()).images:
        grey = ndimage.gaussian_filter(np.mean(colours, axis=-1), BLUR * SOURCE_PIXELS)
        grey = (grey - grey.mean()) / grey.std()
        half = (np.array(grey.shape[::-1]) - 1) / (2 * SOURCE_PIXELS) - margin
        pictures.append(Picture.of(grey, SOURCE_PIXELS, rng.uniform(-half, half, (count, 2))))
    return pictures


def mnist_path(data: Path | None) -> Path | None:
    """Return where MNIST's training images are: mnist.npz, or the file that MNIST publishes.

    In a folder, or in that of PDO_JAX_DATA; None without one.
    """
    folder = data or os.environ.get("PDO_JAX_DATA")
    paths = [Path(folder) / name for name in MNIST_FILES] if folder else []
    return next((path for path in paths if path.exists()), None)


def scans(number: int, per_digit: int, margin: float, data: Path | None) -> list[Picture]:
    """Return digits on an empty background, a sample a pixel, of variance 1.

    They are the first of MNIST's training images where `mnist_path` finds them, and elsewhere the
    first of scikit-learn's, enlarged to 24x24 pixels.

    Args:
        number: of digits.
        per_digit: the number of points in each, uniformly random in the disc about its centre.
        margin: the empty pixels added on every side.
        data: the folder of MNIST, or None.
    """
    path = mnist_path(data)
    if path is None:
        eights = load_digits(return_X_y=True)[0][:number].reshape(-1, 8, 8)
        images = digits.enlarge(eights)[..., 0].astype(np.float64)
    elif path.suffix == ".gz":
        images = idx.array(path, 3)[:number].astype(np.float64)
    else:
        with np.load(path) as archive:
            images = archive["train_images"][:number].astype(np.float64)
    images /= images.std()
    rng = np.random.default_rng(0)
    pictures = []
    for image in np.pad(images, [(0, 0), *[(int(np.ceil(margin)),) * 2] * 2]):
        angle, radius = rng.uniform(0, 2 * np.pi, per_digit), rng.uniform(size=per_digit)
        points = DISC * np.sqrt(radius) * np.stack([np.cos(angle), np.sin(angle)])
        pictures.append(Picture.of(image, 1.0, points.T))
    return pictures


def load(
    names: Sequence[str], points: int, margin: float, data: Path | None
) -> dict[str, list[Picture]]:
    """Return "photographs" and "digits" with so many points in all, by what the digits are."""
    found = {}
    for name in names:
        if name == "photographs":
            found[name] = photographs(-(-points // 2), margin)
        else:
            source = "MNIST" if mnist_path(data) else "scikit-learn's digits"
            found[source] = scans(-(-points // 8), 8, margin, data)
    return found
