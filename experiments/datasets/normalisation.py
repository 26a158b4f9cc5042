"""Mean and standard deviation of a data set's channels, taken from its training images alone."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import numpy as np

Images = TypeVar("Images", np.ndarray, jax.Array)
BLOCK = 1000  # images whose squares are held at once


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Standardise images: x -> (x - mean) / std, a mean and a std for each channel.

    Attributes:
        mean: of each channel, of pixels in [0, 1].
        std: of each channel.

    Example:
        >>> import numpy as np
        >>> from experiments.datasets import Normalisation
        >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
        >>> normalise = Normalisation.of(images)
        >>> normalise
        Normalisation(mean=(0.5,), std=(0.5,))
        >>> normalise(images / 255).ravel()
        array([-1.,  1.])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: np.ndarray) -> Normalisation:
        """Return the statistics of images / 255, in float64.

        Args:
            images: `(N, H, W, C)` uint8: those to train with, never those to test with.

        Raises:
            TypeError: if they are not uint8.
            ValueError: if there are none, or a channel is constant.
        """
        if images.dtype != np.uint8:
            raise TypeError(
                f"images has dtype {images.dtype}, but uint8 is needed; pass the images as "
                "`datasets.load` gives them."
            )
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(
                f"images has shape {images.shape}, but (N, H, W, C) is needed, none of them 0; "
                "pass at least one image."
            )
        total = squares = np.zeros(images.shape[-1], np.int64)  # integers: nothing is rounded
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK].astype(np.int64)
            total = total + block.sum((0, 1, 2))
            squares = squares + (block**2).sum((0, 1, 2))
        count = images.size // images.shape[-1]
        mean = total / count
        std = np.sqrt(squares / count - mean**2)
        if np.any(std == 0):
            raise ValueError(
                f"images is constant in channel {int(np.argmin(std))}, which no standard "
                "deviation can divide; leave that channel out."
            )
        return cls(tuple((mean / 255).tolist()), tuple((std / 255).tolist()))

    def __call__(self, images: Images) -> Images:
        """Return images `(..., C)` of pixels in [0, 1], standardised, in their own dtype."""
        mean, std = (np.asarray(values, images.dtype) for values in (self.mean, self.std))
        return (images - mean) / std
