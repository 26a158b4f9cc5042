"""The networks of the demo: an invariant PDO-eConv network and a plain CNN of the same shape.

    24 x 24 - conv - blur, pool - 12 - conv - blur, pool - 6 - conv - 6 - conv - 2 x 2 - means

Both take the same steps; the one convolves and averages over a group as well. What makes invariance
hold between the quarter turns: filters that look at no detail finer than the grid can turn (few
derivatives, of a blurred image), the blur before every pooling, and means, not maxima, over the
group and over the pixels that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import pdo_jax as pdo
from experiments.digits import CLASSES

TAPS = 5  # along an axis
POOL_AFTER = (0, 1)  # convolutions
BLUR = 6  # taps: a binomial blur of 5 before the mean over 2x2 pixels
activation = nnx.gelu  # smoother than ReLU, so that fields hold less that the grid cannot turn


class Classifier(nnx.Module):
    """Convolutions, each with a norm and a GELU; means over all but the channels; a linear layer.

    Args:
        convs: from images to fields, or from images to images.
        features: what each of them puts out.
        kind: "field" or "image", the word for their outputs.
        rngs: the random keys.
    """

    def __init__(
        self, convs: Sequence[nnx.Module], features: tuple[int, ...], kind: str, *, rngs: nnx.Rngs
    ):
        self.convs = nnx.List(convs)
        self.norms = nnx.List([nnx.BatchNorm(f, momentum=0.9, rngs=rngs) for f in features])
        self.head = nnx.Linear(features[-1], CLASSES, rngs=rngs)
        self.kind = kind

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `(N, 24, 24, 1)` images to `(N, 10)` logits."""
        x = self.features(x)
        x = pdo.nn.group_pool(x, "mean") if self.kind == "field" else x
        return self.head(jnp.mean(x, axis=(-3, -2)))

    def features(self, x: jax.Array, layers: int | None = None) -> jax.Array:
        """Return what the first `layers` convolutions (by default all) make of images."""
        for i, (conv, norm) in enumerate(zip(self.convs[:layers], self.norms, strict=False)):
            x = activation(norm(conv(x)))
            if i in POOL_AFTER:
                x = pdo.nn.blur_pool(x, BLUR, 2, kind=self.kind)
        return x


def invariant_network(
    features: tuple[int, ...], group: str, orientation: float, *, rngs: nnx.Rngs, **basis: Any
) -> Classifier:
    """Return a network whose logits do not change when the image is rotated.

    Args:
        features: fields after every convolution.
        group: the rotations that it convolves over.
        orientation: of the frame of the free weights.
        rngs: the random keys.
        basis: further options of `pdo_jax.filter_basis`, by default those of the library.
    """
    options: dict[str, Any] = dict(orientation=orientation, use_bias=False, rngs=rngs, **basis)
    lift = pdo.nn.PDOLift(1, features[0], group, **options)
    convs = [
        pdo.nn.PDOConv(i, o, group, padding=_padding(layer, features), **options)
        for layer, (i, o) in enumerate(zip(features, features[1:], strict=False), 1)
    ]
    return Classifier([lift, *convs], features, "field", rngs=rngs)


def plain_network(features: tuple[int, ...], *, rngs: nnx.Rngs) -> Classifier:
    """Return an ordinary CNN, whose filters have as many taps as those of the other network."""
    convs = [
        nnx.Conv(i, o, (TAPS, TAPS), padding=_padding(layer, features), use_bias=False, rngs=rngs)
        for layer, (i, o) in enumerate(zip((1, *features), features, strict=False))
    ]
    return Classifier(convs, features, "image", rngs=rngs)


def plain_parameters(features: tuple[int, ...]) -> int:
    """Return the number of trainable parameters of the plain network of some sizes."""
    pairs = zip((1, *features), features, strict=False)
    convs = sum(TAPS**2 * i * o for i, o in pairs)
    return convs + 2 * sum(features) + CLASSES * (features[-1] + 1)


def in_proportion(
    features: tuple[int, ...], budget: int, parameters: Callable[[tuple[int, ...]], int]
) -> tuple[int, ...]:
    """Return the sizes, in proportion to `features`, that come closest to a number of parameters.

    Args:
        features: the sizes of every layer.
        budget: the number of parameters.
        parameters: how many there are with some sizes.
    """
    scaled = (tuple(round(f * percent / 100) for f in features) for percent in range(100, 2000))
    return min(scaled, key=lambda sizes: abs(parameters(sizes) - budget))


def count_parameters(model: nnx.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _padding(layer: int, features: tuple[int, ...]) -> str:
    return "VALID" if layer == len(features) - 1 else "SAME"
