"""What a training lowers, as a value: which examples it draws from the data, and its loss.

    CrossEntropy()            an image and the number of its class
    Dice(patches=Patches())   pieces of images, with a map of what is to be found in them

An objective is hashable, a constant of the compiled step. All that is random in it comes from the
key that it is given.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from pdo_jax import _check

Numbers = dict[str, jax.Array]
Pair = tuple[jax.Array, jax.Array]  # images, and the targets that belong to them


class Objective(Protocol):
    """What the trainer asks of an objective."""

    def examples(self, images: int) -> int:
        """Return how many examples an epoch has, where there are so many images."""
        ...

    def draw(self, key: jax.Array, data: Pair, numbers: jax.Array) -> Pair:
        """Return the examples of these numbers, `(B,)`, which are below those of an epoch."""
        ...

    def __call__(self, logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, Numbers]:
        """Return the loss of a batch, and other numbers for the curve."""
        ...


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The mean cross-entropy of classes: logits `(B, classes)`, targets `(B,)` integers.

    The other number is "accuracy", the share of correct guesses.
    """

    label_smoothing: float = 0.0
    """The probability that targets spread over all classes."""

    def examples(self, images: int) -> int:
        """Return the number of images: each is an example."""
        return images

    def draw(self, key: jax.Array, data: Pair, numbers: jax.Array) -> Pair:
        """Return images and labels of these numbers; nothing is random."""
        images, labels = data
        return images[numbers], labels[numbers]

    def __call__(self, logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, Numbers]:
        """Return the loss and the accuracy of a batch."""
        wanted = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
        wanted = optax.smooth_labels(wanted, self.label_smoothing)
        loss = optax.softmax_cross_entropy(logits, wanted)
        right = jnp.argmax(logits, axis=-1).astype(targets.dtype) == targets
        return jnp.mean(loss), {"accuracy": jnp.mean(right, dtype=logits.dtype)}


@dataclasses.dataclass(frozen=True)
class Patches:
    """Examples cut out of images at random, or whole images, each in one of its exact poses.

    A patch lies around a pixel that is drawn from those inside the field of view, all with equal
    probability, and is moved into the image where it would stick out: so some of it is always
    inside. Then image and targets are mirrored left to right, top to bottom, and transposed, each
    with probability 1/2: that makes all eight quarter turns and mirrors of a square. Nothing is
    interpolated, so that a map of vessels stays one.
    """

    examples: int
    """In an epoch; every image gives as many as the others, to one."""
    size: int | None = 64
    """The side of a patch in pixels; None for whole images, which are not transposed."""
    poses: bool = True
    """Whether they are mirrored and transposed."""

    def __post_init__(self):
        _check.integer("examples", self.examples, 1)
        if self.size is not None:
            _check.integer("size", self.size, 1)

    def __call__(self, key: jax.Array, data: Pair, numbers: jax.Array) -> Pair:
        """Return patches and their targets.

        Args:
            key: a random key; every example has its own, made of it and its place in the batch.
            data: images `(N, H, W, C)` and targets `(N, H, W, T)`, whose last map says what is
                inside the field of view.
            numbers: `(B,)` integers; example i is cut from the image i modulo N.

        Returns:
            `(B, size, size, C)` and `(B, size, size, T)`, in their own dtypes.

        Raises:
            ValueError: if a patch is larger than the images.

        Example:
            >>> images, targets = jnp.ones((2, 9, 8, 3)), jnp.ones((2, 9, 8, 2), bool)
            >>> cut = Patches(examples=10, size=4)
            >>> x, t = cut(jax.random.key(0), (images, targets), jnp.array([3, 1, 9]))
            >>> x.shape, t.shape
            ((3, 4, 4, 3), (3, 4, 4, 2))
        """
        shape = data[0].shape[1:3]
        if self.size is not None and self.size > min(shape):
            raise ValueError(
                f"size (={self.size}) must not exceed the images, which have {shape[0]} x "
                f"{shape[1]} pixels; pass less, or None for whole images."
            )
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(numbers)))
        return jax.vmap(self._one, (0, None, 0))(keys, data, numbers % len(data[0]))

    def _one(self, key: jax.Array, data: Pair, number: jax.Array) -> Pair:
        # One draw for everything: each by itself would cost a second of compilation.
        chances = jax.random.uniform(key, (5,), np.float32)
        if self.size is None:
            image, target = data[0][number], data[1][number]
        else:
            size = self.size
            first = _corner(chances[:2], data[1][number, :, :, -1], size)
            start = (number.astype(first.dtype), *first, jnp.zeros_like(first[0]))
            image, target = (
                lax.dynamic_slice(maps, start, (1, size, size, maps.shape[-1]))[0] for maps in data
            )
        if self.poses:
            image, target = (self._posed(maps, chances[2:] < 0.5) for maps in (image, target))
        return image, target

    def _posed(self, maps: jax.Array, code: jax.Array) -> jax.Array:
        maps = jnp.where(code[0], maps[:, ::-1], maps)
        maps = jnp.where(code[1], maps[::-1], maps)
        return maps if self.size is None else jnp.where(code[2], maps.swapaxes(0, 1), maps)


def _corner(chances: jax.Array, inside: jax.Array, size: int) -> jax.Array:
    """Return the first row and column of a patch around a pixel of a region."""
    inside = inside.astype(np.int32)
    row = _choose(chances[0], jnp.sum(inside, axis=1, dtype=np.int32))
    column = _choose(chances[1], inside[row])
    most = np.array(inside.shape, np.int32) - size
    return jnp.clip(jnp.stack([row, column]) - size // 2, 0, most)


def _choose(chance: jax.Array, counts: jax.Array) -> jax.Array:
    """Return an index, with a probability in proportion to its count; 0 if all are 0."""
    ends = jnp.cumsum(counts, dtype=np.int32)
    before = jnp.floor(chance * ends[-1].astype(chance.dtype)).astype(np.int32)
    return jnp.sum(ends[:-1] <= jnp.minimum(before, ends[-1] - 1), dtype=np.int32)


@dataclasses.dataclass(frozen=True)
class Dice:
    """One minus the Dice coefficient of a map of probabilities, inside the field of view.

        1 - (2 sum p t + smooth) / (sum p + sum t + smooth),     p = sigmoid(logits)

    The sums run over all pixels of a batch that are inside. Logits are `(B, H, W, 1)`, targets
    `(B, H, W, 2)`: what is to be found, and what is inside. The other number is "dice", the same
    coefficient of the answers, p > 1/2. LieTorch's `dice_loss` (0.8.2), but for the field of view.
    """

    patches: Patches
    """What an example is."""
    smooth: float = 1.0
    """Added above and below, so that a batch with nothing to be found counts as well."""

    def examples(self, images: int) -> int:
        """Return the number of patches in an epoch, whatever the number of images."""
        return self.patches.examples

    def draw(self, key: jax.Array, data: Pair, numbers: jax.Array) -> Pair:
        """Return patches of images, and of the maps that belong to them."""
        return self.patches(key, data, numbers)

    def __call__(self, logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, Numbers]:
        """Return the loss and the Dice coefficient of a batch.

        Raises:
            ValueError: if there is not one logit for every pixel of the targets.
        """
        if logits.shape != (*targets.shape[:-1], 1):
            raise ValueError(
                f"logits has shape {logits.shape}, but {(*targets.shape[:-1], 1)} is needed, one "
                "for every pixel; use a network that keeps the size of its images."
            )
        logits = logits[..., 0]
        wanted, inside = (targets[..., i].astype(logits.dtype) for i in (0, 1))
        found = (logits > 0).astype(logits.dtype)
        soft, hard = (
            self._coefficient(p * inside, wanted * inside) for p in (jax.nn.sigmoid(logits), found)
        )
        return 1 - soft, {"dice": hard}

    def _coefficient(self, p: jax.Array, t: jax.Array) -> jax.Array:
        return (2 * jnp.sum(p * t) + self.smooth) / (jnp.sum(p) + jnp.sum(t) + self.smooth)
