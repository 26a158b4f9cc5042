"""Training images changed at random, in JAX, so that the jitted step can do it.

    flip -> resample (rotation and shift, one spline) -> crop -> cutout

Every image has a random key of its own, made of the batch's key and its index: what happens to it
depends neither on the other images nor on the devices that they lie on. Images are in [0, 1], as
they are before `Normalisation`; nothing here is meant to be differentiated.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdo_jax import _check
from pdo_jax.fields import mirror, prefilter, spline_weights


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training images, every time anew; by default nothing."""

    rotation: float = 0.0
    """Degrees: images turn by up to so much either way; 180 for all angles."""
    shift: float = 0.0
    """Pixels and parts of them: images move along both axes by up to so much either way."""
    crop: int = 0
    """Pixels: images move by up to so many whole ones (padded with zeros and cropped at random)."""
    flip: bool = False
    """Half of the images are mirrored, left to right."""
    cutout: int = 0
    """Pixels: the side of a square, anywhere, that takes the image's mean colour; 0 for none."""

    def __post_init__(self):
        rotation, shift = _check.real("rotation", self.rotation), _check.real("shift", self.shift)
        if not 0 <= rotation <= 180:
            raise ValueError(
                f"rotation (={rotation}) must lie in [0, 180] degrees; pass 180 for all angles."
            )
        if shift < 0:
            raise ValueError(f"shift (={shift}) must not be negative; pass 0 for none.")
        _check.integer("crop", self.crop, 0)
        _check.integer("cutout", self.cutout, 0)
        if not isinstance(self.flip, bool):
            raise TypeError(f"flip (={self.flip!r}) must be a bool; pass True or False.")

    def __call__(self, key: jax.Array, images: Any) -> jax.Array:
        """Return changed images.

        Args:
            key: a random key; the same one changes the same images in the same way.
            images: `(B, H, W, C)` in [0, 1], of a floating dtype.

        Returns:
            Images in the shape and dtype of `images`. A spline swings slightly below 0 and above 1.

        Raises:
            TypeError, ValueError: if `images` are no such images.

        Example:
            >>> augmentation = Augmentation(rotation=180.0, shift=1.5, flip=True)
            >>> augmentation(jax.random.key(0), jnp.ones((2, 28, 28, 1))).shape
            (2, 28, 28, 1)
        """
        images = _check.floating("images", images, "(B, H, W, C)", 4, exact=True)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
        return jax.vmap(self._one)(keys, images)

    def _one(self, key: jax.Array, image: jax.Array) -> jax.Array:
        # Each part has its key whether or not the others are asked for.
        side, pose, place, hole = jax.random.split(key, 4)
        colour = jnp.mean(image, (0, 1))
        if self.flip:
            image = jnp.where(jax.random.bernoulli(side), image[:, ::-1], image)
        if self.rotation or self.shift:
            precise = np.promote_types(image.dtype, np.float32)
            turn, *move = jax.random.uniform(pose, (3,), precise, -1.0, 1.0)
            image = resample(image, self.rotation * turn, self.shift * jnp.stack(move))
        if self.crop:
            padded = jnp.pad(image, [(self.crop, self.crop), (self.crop, self.crop), (0, 0)])
            first = jax.random.randint(place, (2,), 0, 2 * self.crop + 1)
            image = lax.dynamic_slice(padded, (*first, jnp.zeros_like(first[0])), image.shape)
        if self.cutout:
            image = jnp.where(_square(hole, image.shape[:2], self.cutout), colour, image)
        return image


@dataclasses.dataclass(frozen=True)
class Lighting:
    """Photographs taken in another light: their contrast and brightness change, every time anew.

        y = (1 + contrast u) x + brightness v,      u, v uniform in [-1, 1], a pair for each image

    Nothing moves, so maps that belong to an image still do.
    """

    contrast: float = 0.0
    """The largest change of the factor, a share."""
    brightness: float = 0.0
    """The largest change of all pixels, where 1 is white."""

    def __post_init__(self):
        for name in ("contrast", "brightness"):
            if not 0 <= _check.real(name, getattr(self, name)) < 1:
                raise ValueError(
                    f"{name} (={getattr(self, name)}) must lie in [0, 1); pass 0 for no change."
                )

    def __call__(self, key: jax.Array, images: Any) -> jax.Array:
        """Return changed images.

        Args:
            key: a random key; the same one changes the same images in the same way.
            images: `(B, H, W, C)` in [0, 1], of a floating dtype.

        Returns:
            Images in the shape and dtype of `images`; they may leave [0, 1].

        Raises:
            TypeError, ValueError: if `images` are no such images.

        Example:
            >>> lighting = Lighting(contrast=0.2, brightness=0.1)
            >>> lighting(jax.random.key(0), jnp.ones((2, 28, 28, 3))).shape
            (2, 28, 28, 3)
        """
        images = _check.floating("images", images, "(B, H, W, C)", 4, exact=True)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
        return jax.vmap(self._one)(keys, images)

    def _one(self, key: jax.Array, image: jax.Array) -> jax.Array:
        u, v = jax.random.uniform(key, (2,), image.dtype, -1.0, 1.0)
        return (1 + self.contrast * u) * image + self.brightness * v


def resample(image: jax.Array, degrees: jax.Array, shift: jax.Array) -> jax.Array:
    """Rotate an image about its centre, then move it: one sampling of its cubic spline.

        y(p) = x(R(-degrees) (p - shift))

    Zeros where the image ends: what SciPy's `affine_transform` does with order 3 and mode
    "constant", and `pdo_jax.act` for the elements of a group.

    Args:
        image: `(H, W, C)`.
        degrees: `()`, counter-clockwise.
        shift: `(2,)` pixels, to the right and up.

    Returns:
        `(H, W, C)`, in the dtype of `image`.

    Example:
        >>> image = jnp.zeros((5, 5, 1)).at[2, 3].set(1.0)
        >>> turned = resample(image, jnp.float32(90.0), jnp.zeros(2))
        >>> float(turned[1, 2, 0])
        1.0
    """
    height, width, channels = image.shape
    precise = np.promote_types(image.dtype, np.float32)
    coefficients = jnp.einsum(
        "ui,vj,ijc->uvc",
        jnp.asarray(_coefficients(height), precise),
        jnp.asarray(_coefficients(width), precise),
        image.astype(precise),
        precision=lax.Precision.HIGHEST,
    ).reshape(-1, channels)

    middle = (height - 1) / 2, (width - 1) / 2
    right = jnp.arange(width, dtype=precise) - middle[1] - shift[0]
    down = jnp.arange(height, dtype=precise)[:, None] - middle[0] + shift[1]
    angle = jnp.deg2rad(degrees)
    rows = jnp.sin(angle) * right + jnp.cos(angle) * down + middle[0]
    columns = jnp.cos(angle) * right - jnp.sin(angle) * down + middle[1]
    # Rounding must not push a pixel that falls on the border to the outside.
    margin = 32 * float(jnp.finfo(precise).eps) * max(height, width)
    inside = (jnp.abs(rows - middle[0]) <= middle[0] + margin) & (
        jnp.abs(columns - middle[1]) <= middle[1] + margin
    )
    row, row_weights = _taps(rows, height)
    column, column_weights = _taps(columns, width)
    by_row = jnp.where(inside, jnp.stack(row_weights), 0.0)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        first = (row + i) * (width + 3) + column
        for j, in_column in enumerate(column_weights):
            values = coefficients.at[first + j].get(mode="promise_in_bounds")
            total += (by_row[i] * in_column)[..., None] * values
        return total

    # Gathers of single taps are faster on CPU than windows of 4x4 and than dense matrices. The loop
    # keeps XLA from fusing them into what reads the image, and sampling anew for every reader.
    total = lax.fori_loop(0, 4, add, jnp.zeros_like(image, precise))
    return total.astype(image.dtype)


def _square(key: jax.Array, shape: tuple[int, ...], side: int) -> jax.Array:
    """Return which pixels, `(H, W, 1)`, lie in a square about a random one."""
    covered = jnp.ones((), bool)
    for axis, axis_key in enumerate(jax.random.split(key)):
        pixels = lax.broadcasted_iota(jnp.int32, (*shape, 1), axis)
        first = jax.random.randint(axis_key, (), 0, shape[axis], jnp.int32) - side // 2
        covered = covered & (pixels >= first) & (pixels < first + side)
    return covered


def _coefficients(n: int) -> np.ndarray:
    """Return the `(n + 3, n)` matrix from samples to spline coefficients -1 .. n + 1."""
    return prefilter(n)[mirror(np.arange(-1, n + 2), n)]


def _taps(positions: jax.Array, n: int) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Return the first of four coefficients around every position, and their weights."""
    first = jnp.clip(jnp.floor(positions), 0, n - 1)
    return first.astype(jnp.int32), spline_weights(positions - first)
