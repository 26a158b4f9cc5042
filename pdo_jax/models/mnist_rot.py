"""The PDO-eConv network for rotated MNIST, as published and in an invariant variant; a plain CNN.

    28 x 28 - conv - 26 - conv - 24 - max pool - 12 - conv - 10 - conv - 8 - conv - 6 - conv - 4 x 4

Every convolution takes two pixels off: 3x3 taps without padding, or 5x5 with padding 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.basis import filter_basis
from pdo_jax.groups import Group
from pdo_jax.nn import PDOConv, PDOLift, group_pool, max_pool, recompute

POOL_AFTER = 1  # the second convolution is followed by pooling, every other one by dropout


class MnistRot(nnx.Module):
    """Six convolutions of a few fields each, and a linear classifier; see `mnist_rot`."""

    def __init__(
        self,
        features: tuple[int, ...],
        *,
        invariant: bool,
        group: Group | str,
        num_classes: int,
        in_features: int,
        orientation: float,
        dropout_rate: float,
        checkpoint: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        padding = filter_basis(group, orientation=orientation).size // 2 - 1
        options: dict[str, Any] = dict(
            padding=padding, use_bias=False, orientation=orientation, dtype=dtype, rngs=rngs
        )
        num_classes = _check.integer("num_classes", num_classes, 1)
        lift = PDOLift(in_features, features[0], group, **options)
        pairs = zip(features, features[1:], strict=False)
        self.convs = nnx.List([lift, *(PDOConv(i, o, group, **options) for i, o in pairs)])
        # Momentum 0.9 as in most recipes; one mean and variance a field, shared over the group.
        self.norms = nnx.List(
            [nnx.BatchNorm(f, momentum=0.9, dtype=dtype, rngs=rngs) for f in features]
        )
        self.dropout = nnx.Dropout(_check.rate("dropout_rate", dropout_rate), rngs=rngs)
        self.invariant, self.checkpoint = invariant, checkpoint
        if invariant:
            self.head = nnx.Linear(features[-1], num_classes, dtype=dtype, rngs=rngs)
        else:
            channels = lift.basis.group.order * features[-1]
            self.head = nnx.Conv(
                channels,
                num_classes,
                (4, 4),
                padding="VALID",
                use_bias=False,
                dtype=dtype,
                rngs=rngs,
            )

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n classes"]:
        """Classify images.

        Args:
            x: `(N, 28, 28, in_features)` images.

        Returns:
            `(N, num_classes)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape (but the invariant variant takes images
                of any size from 22 pixels on).
        """
        x = _check.floating("x", x, "(N, 28, 28, in_features)", 4, exact=True)
        if not self.invariant and x.shape[1:3] != (28, 28):
            raise ValueError(
                f"x has shape {x.shape}, but (N, 28, 28, in_features) is needed: the published "
                "classifier sees every pixel; resize the images or pass invariant=True."
            )
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = recompute.call(_convolved, conv, norm, x, checkpoint=self.checkpoint)
            x = max_pool(x, 2, 2, kind="field") if i == POOL_AFTER else self.dropout(x)
        if self.invariant:
            return self.head(jnp.mean(group_pool(x, "max"), axis=(-3, -2)))
        logits = self.head(x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]))
        return logits[:, 0, 0]


def _convolved(conv: nnx.Module, norm: nnx.Module, x: jax.Array) -> jax.Array:
    return nnx.relu(norm(conv(x)))  # pyright: ignore


def mnist_rot(
    *,
    invariant: bool = False,
    group: Group | str = "p8",
    num_classes: int = 10,
    in_features: int = 1,
    orientation: float = jnp.pi / 8,
    dropout_rate: float = 0.2,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> MnistRot:
    """Return the network for rotated MNIST: 26,747 parameters, or 26,639 and invariant.

    As published, six convolutions of 7 fields and a free 4x4 convolution over all 56 channels,
    which sees in which direction a digit points. With `invariant=True` (recommended) the last
    convolution has 24 fields, orientation and space are pooled, and a linear layer classifies what
    is left: the logits do not change at all under quarter turns, and little between them.

    Args:
        invariant: whether to pool orientation and space before the classifier.
        group: the `Group` or its name; the counts above are for p8.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        orientation: of the frame of the free weights.
        dropout_rate: after every convolution but the second.
        checkpoint: whether the convolutions are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `MnistRot`, which maps `(N, 28, 28, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = mnist_rot(rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 28, 28, 1))).shape
        (2, 10)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), test error 1.87 % (their script reports the best
        test epoch). It trains with Adam, batches of 128, 200 epochs, learning rate 1e-4 up to epoch
        5, then 1e-3, 1e-4 from 100 and 1e-5 from 150, and L2 of 1e-2 in the loss. It draws the
        weights from TensorFlow's variance scaling; ours are `pdo_jax.nn.he_normal`.
    """
    return MnistRot(
        (7, 7, 7, 7, 7, 24 if invariant else 7),
        invariant=invariant,
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        orientation=orientation,
        dropout_rate=dropout_rate,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )


def mnist_cnn(
    *,
    num_classes: int = 10,
    in_features: int = 1,
    dropout_rate: float = 0.3,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> MnistRot:
    """Return the plain CNN for rotated MNIST: 21,620 parameters.

    Six 3x3 convolutions of 20 channels, each with batch normalisation and ReLU, max pooling after
    the second, dropout after the others, and a 4x4 convolution that classifies. It is the network
    of `mnist_rot` over the trivial group. The source's convolutions have biases on top, 130 numbers
    (120 of them without effect, since batch normalisation takes the mean away).

    Args:
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: after every convolution but the second.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `MnistRot`, which maps `(N, 28, 28, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = mnist_cnn(rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 28, 28, 1))).shape
        (2, 10)

    References:
        Cohen, Welling: Group equivariant convolutional networks (ICML 2016), "Z2CNN", test error
        5.03 %.
    """
    return MnistRot(
        (20,) * 6,
        invariant=False,
        group="p1",
        num_classes=num_classes,
        in_features=in_features,
        orientation=0.0,
        dropout_rate=dropout_rate,
        dtype=dtype,
        rngs=rngs,
    )
