"""The classifiers with which PDE-G-CNNs were introduced on rotated digits, and their baselines.

    rotnist_pde     28 - lift 5x5 - 24 - PDE layer - 14 - PDE layer - 5 - max - linear
                    28 - PDE layer - PDE layer - 14 - PDE layer - 5 - linear       (on the plane)
    rotnist_gcnn    28 - lift 5x5 - 24 - conv - 20 - conv - 16 - 5 - max - linear
    lenet5          28 - conv - 24 - pool - 12 - conv - 8 - pool - 4 - three linear layers

The maximum is over the orientations. The linear layer sees all 5 x 5 pixels: none is invariant.
LieTorch resamples by nearest neighbours, which breaks quarter turns; here `pdo_jax.nn.resize` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.models.blocks import Normalised, channel_dropout, spline_conv, spline_lift
from pdo_jax.nn import PDELayer, group_pool, resize

MANIFOLDS = ("se2", "plane")
TERMS = ("convection", "dilation", "erosion")
PIXELS = 28  # of the images, along both axes
LAST = 5  # of what the linear layer sees


class RotNist(nnx.Module):
    """Layers, a resampling after some of them, and a linear classifier of all pixels.

    Args:
        layers: maps of images or fields; dropout of whole channels comes before the last one.
        sizes: the number of pixels after each layer, None to keep what it gives.
        features: of the last layer.
        field: whether the last layer gives a field.
        num_classes: the number of classes.
        dropout_rate: before the last layer and before the classifier.
        dtype: of the computation.
        rngs: the random keys.
    """

    def __init__(
        self,
        layers: Sequence[nnx.Module],
        sizes: Sequence[int | None],
        features: int,
        *,
        field: bool,
        num_classes: int,
        dropout_rate: float,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        num_classes = _check.integer("num_classes", num_classes, 1)
        self.layers, self.sizes, self.field = nnx.List(layers), tuple(sizes), field
        self.channel_dropout = channel_dropout(dropout_rate, 5 if field else 4, rngs)
        self.dropout = nnx.Dropout(_check.rate("dropout_rate", dropout_rate), rngs=rngs)
        self.head = nnx.Linear(LAST**2 * features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n classes"]:
        """Classify images.

        Args:
            x: `(N, 28, 28, in_features)` images.

        Returns:
            `(N, num_classes)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape.
        """
        x = check_digits(x)
        for i, (layer, size) in enumerate(zip(self.layers, self.sizes, strict=True)):
            x = self.channel_dropout(x) if i == len(self.layers) - 1 else x
            x = layer(x)  # pyright: ignore
            x = x if size is None else resize(x, size)
        x = group_pool(x, "max") if self.field else x
        return self.head(self.dropout(x.reshape(-1, self.head.in_features)))


class LeNet5(nnx.Module):
    """Two convolutions and three linear layers; see `lenet5`."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_features: int,
        dropout_rate: float,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        num_classes = _check.integer("num_classes", num_classes, 1)
        options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.conv1 = nnx.Conv(in_features, 6, (5, 5), padding="VALID", **options)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding="VALID", **options)
        self.linear1 = nnx.Linear(4 * 4 * 16, 120, **options)
        self.linear2 = nnx.Linear(120, 84, **options)
        self.head = nnx.Linear(84, num_classes, **options)
        self.dropout = nnx.Dropout(_check.rate("dropout_rate", dropout_rate), rngs=rngs)

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n classes"]:
        """Classify `(N, 28, 28, in_features)` images: `(N, num_classes)` logits."""
        y = check_digits(x)
        for conv in (self.conv1, self.conv2):
            y = nnx.max_pool(nnx.tanh(conv(y)), (2, 2), (2, 2))
        y = self.dropout(nnx.tanh(self.linear1(y.reshape(-1, self.linear1.in_features))))
        return self.head(nnx.tanh(self.linear2(y)))


def check_digits(x: Any) -> jax.Array:
    """Return `x` if it is a batch of images of the size that these classifiers see."""
    x = _check.floating("x", x, f"(N, {PIXELS}, {PIXELS}, in_features)", 4, exact=True)
    if x.shape[1:3] != (PIXELS, PIXELS):
        raise ValueError(
            f"x has shape {x.shape}, but (N, {PIXELS}, {PIXELS}, in_features) is needed: the "
            "classifier sees every pixel; resize the images with pdo_jax.nn.resize."
        )
    return x


def rotnist_pde(
    terms: Sequence[str] = TERMS,
    manifold: str = "se2",
    *,
    num_classes: int = 10,
    in_features: int = 1,
    dropout_rate: float = 0.1,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> RotNist:
    """Return LieTorch's PDE-G-CNN for rotated digits: 2,542 parameters, 2,010 in its last layer.

    | terms                           | manifold | parameters |
    |---------------------------------|----------|------------|
    | convection, dilation, erosion   | se2      | 2,542      |
    | dilation, erosion               | se2      | 2,488      |
    | convection, dilation, erosion   | plane    | 2,518      |
    | dilation, erosion               | plane    | 2,476      |

    On the plane there is no lift and one PDE layer more, with Finsler metrics of five numbers.

    Args:
        terms: of every PDE layer, as in `pdo_jax.nn.PDELayer`.
        manifold: "se2" or "plane".
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: of whole channels between the PDE layers, and before the classifier.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `RotNist`, which maps `(N, 28, 28, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: rotnist_pde(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        2542

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022). LieTorch 0.8.2, `CDEPdeM2Classifier4`, `DEPdeM2Classifier4`,
        `CDEPdeR2Classifier4`, `DEPdeR2Classifier4`. Ours resample linearly.
    """
    options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
    if _check.choice("manifold", manifold, MANIFOLDS) == "plane":
        features, sizes = (in_features, 8, 12, 8), (None, 14, LAST)
        shape: dict[str, Any] = dict(kernel_size=(5, 5), metric="finsler")
        layers = []
    else:
        features, sizes = (6, 12, 8), (None, 14, LAST)
        shape = dict(kernel_size=(5, 5, 5))
        lift = spline_lift(in_features, features[0], 5, padding="VALID", **options)
        layers = [Normalised(lift, features[0], **options)]
    pairs = zip(features, features[1:], strict=False)
    layers += [PDELayer(i, o, tuple(terms), **shape, **options) for i, o in pairs]
    return RotNist(
        layers,
        sizes,
        features[-1],
        field=manifold == "se2",
        num_classes=num_classes,
        dropout_rate=dropout_rate,
        **options,
    )


def rotnist_gcnn(
    *,
    num_classes: int = 10,
    in_features: int = 1,
    dropout_rate: float = 0.1,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> RotNist:
    """Return LieTorch's G-CNN for rotated digits: 12,700 parameters.

    Args:
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: of whole channels between the convolutions, and before the classifier.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `RotNist`, which maps `(N, 28, 28, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: rotnist_gcnn(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        12700

    References:
        LieTorch 0.8.2, `GroupM2Classifier4`.
    """
    options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
    features = (6, 6, 8)
    lift = spline_lift(in_features, features[0], 5, padding="VALID", **options)
    pairs = zip(features, features[1:], strict=False)
    convs = [spline_conv(i, o, padding="VALID", **options) for i, o in pairs]
    layers = [Normalised(c, f, **options) for c, f in zip((lift, *convs), features, strict=True)]
    return RotNist(
        layers,
        (None, None, LAST),
        features[-1],
        field=True,
        num_classes=num_classes,
        dropout_rate=dropout_rate,
        **options,
    )


def lenet5(
    *,
    num_classes: int = 10,
    in_features: int = 1,
    dropout_rate: float = 0.1,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> LeNet5:
    """Return LeNet-5, a plain CNN, as LieTorch compares with it: 44,426 parameters.

    Args:
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: after the first linear layer.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `LeNet5`, which maps `(N, 28, 28, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: lenet5(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        44426

    References:
        LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition
        (1998). LieTorch 0.8.2, `LeNet5`: hyperbolic tangents, and dropout.
    """
    return LeNet5(
        num_classes=num_classes,
        in_features=in_features,
        dropout_rate=dropout_rate,
        dtype=dtype,
        rngs=rngs,
    )
