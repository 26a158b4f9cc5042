"""The discretisations that are compared: every scheme on every kernel size that it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

import pdo_jax as pdo

ACCURACIES = (2, 4, 6)
# Widths of the schemes that have one; those without are here once, as they are.
WIDTHS: dict[str, tuple[dict[str, Any], ...]] = {
    "gaussian": ({"sigma": 0.7}, {"sigma": 1.0}, {"sigma": 1.4}),
    "optimal": ({"band": np.pi / 2}, {"band": np.pi}),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A scheme with its options."""

    scheme: str
    operators: str
    accuracy: int
    size: int
    width: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The scheme with accuracy and width, such as "gaussian 2, sigma 1"."""
        width = "".join(f", {key} {value:.3g}" for key, value in self.width)
        return f"{self.scheme} {self.accuracy}{width}"

    def basis(self, group: str) -> pdo.FilterBasis:
        """Return its filter basis for a group."""
        options: dict[str, Any] = dict(self.width)
        return pdo.filter_basis(
            group,
            scheme=self.scheme,
            accuracy=self.accuracy,
            operators=self.operators,
            size=self.size,
            **options,
        )


def variants(
    group: str, schemes: Sequence[str], sizes: Sequence[int], families: Sequence[str]
) -> list[Variant]:
    """Return every scheme on every size, at every accuracy and width that fills it.

    Left out are sizes that are too small, and those whose outermost taps are all zero.
    """
    found = []
    for family in families:
        for size in sizes:
            for scheme in schemes:
                for width in WIDTHS.get(scheme, ({},)):
                    for accuracy in ACCURACIES:
                        variant = Variant(scheme, family, accuracy, size, tuple(width.items()))
                        if _fills(variant, group):
                            found.append(variant)
    return found


def _fills(variant: Variant, group: str) -> bool:
    try:
        values = variant.basis(group).values
    except ValueError:  # the size is too small for the accuracy
        return False
    border = np.ones(values.shape[-2:], bool)
    border[1:-1, 1:-1] = False
    return bool(np.max(np.abs(values[..., border])) > 1e-12)


def sharpness(kernels: np.ndarray) -> float:
    """Return the root-mean-square frequency, in radians per pixel, that kernels pass.

    It is that of their output for white noise: an error is lower for free where this is lower.

    Args:
        kernels: `(..., k, k)`, of random filters or of a basis with independent weights.
    """
    n = 64
    power = np.abs(np.fft.fft2(kernels, (n, n))).reshape(-1, n, n) ** 2
    frequency = 2 * np.pi * np.fft.fftfreq(n)
    squares = frequency[:, None] ** 2 + frequency**2
    return float(np.sqrt(np.sum(power * squares) / np.sum(power)))
