"""Residual networks: the published ones of PDO-eConvs, their plain baselines, and what they share.

    image - conv - blocks - down, blocks - down, blocks - norm - means - linear

    block(x) = shortcut(x) + conv(act(norm(conv(act(norm(x))))))

Norms and activations come before the convolutions ("pre-activation"). The shortcut is the identity,
or a 1x1 convolution of act(norm(x)) where the block changes the number of fields or of pixels.
Over the trivial group the same layers are ordinary 3x3 convolutions: that is the plain baseline.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group
from pdo_jax.nn import PDOConv, PDOLift, PointwiseConv, blur_pool, recompute

ACTIVATIONS = {"relu": nnx.relu, "gelu": nnx.gelu}
DOWNSAMPLING = ("stride", "blur")


class Block(nnx.Module):
    """Two convolutions beside a shortcut; see the top of this file.

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group`.
        down: "stride" or "blur" to halve the number of pixels, None to keep it.
        activation: "relu" or "gelu".
        dropout_rate: before the second convolution.
        dtype: of the computation.
        rngs: the random keys.
        basis: options of `pdo_jax.filter_basis`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group,
        *,
        down: str | None,
        activation: str,
        dropout_rate: float,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
        **basis: Any,
    ):
        options: dict[str, Any] = dict(use_bias=False, dtype=dtype, rngs=rngs)
        strides = 2 if down == "stride" else 1
        self.norm1 = _norm(in_features, dtype, rngs)
        self.conv1 = PDOConv(in_features, out_features, group, strides=strides, **basis, **options)
        self.norm2 = _norm(out_features, dtype, rngs)
        self.conv2 = PDOConv(out_features, out_features, group, **basis, **options)
        changes = in_features != out_features or down is not None
        self.shortcut = (
            PointwiseConv(in_features, out_features, group, strides=strides, **options)
            if changes
            else None
        )
        self.dropout = _dropout(dropout_rate, rngs)
        self.down, self.activation = down, activation

    def __call__(self, x: Float[jax.Array, "n h w g i"]) -> Float[jax.Array, "n y x g o"]:
        """Map a field to a field."""
        activation = ACTIVATIONS[self.activation]
        y = activation(self.norm1(x))
        if self.down == "blur":
            y = blur_pool(y, kind="field")
        if self.shortcut is not None:
            x = self.shortcut(y)
        y = activation(self.norm2(self.conv1(y)))
        if self.dropout is not None:
            y = self.dropout(y)
        return x + self.conv2(y)


class Invariants(nnx.Module):
    """What a rotation does not change: means over the group and over the pixels.

        norm(mean(act(norm(1x1 convolution of x))))

    The last norm is there because the means of different images differ little beside their own.

    Args:
        in_features: the number of fields of the input.
        out_features: the number of invariants.
        group: the `Group`.
        activation: "relu" or "gelu".
        dtype: of the computation.
        rngs: the random keys.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group,
        *,
        activation: str,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.conv = PointwiseConv(
            in_features, out_features, group, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.norm1 = _norm(out_features, dtype, rngs)
        self.norm2 = _norm(out_features, dtype, rngs)
        self.activation = activation

    def __call__(self, x: Float[jax.Array, "n h w g i"]) -> Float[jax.Array, "n o"]:
        """Map a field to `(N, out_features)` numbers."""
        x = ACTIVATIONS[self.activation](self.norm1(self.conv(x)))
        return self.norm2(jnp.mean(x, axis=(1, 2, 3)))


class ResNet(nnx.Module):
    """A residual network over a group, its variants as values.

    Args:
        features: the number of fields in every stage; every stage but the first halves the image.
        blocks: the number of blocks in every stage; the first may have none.
        group: the `Group` or its name; None (or "p1") for ordinary 3x3 convolutions.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        invariants: how many means over the group and over the pixels the classifier sees, taken of
            as many fields by a last 1x1 convolution; None for the means over the pixels alone, for
            every group element, as published.
        downsampling: "stride" takes every other pixel, which breaks exact quarter turns on even
            sizes; "blur" blurs before (`pdo_jax.nn.blur_pool`), which keeps them at every size.
        activation: "relu" or "gelu".
        dropout_rate: in every block, and before the classifier.
        orientation: of the frame of the free weights; 0 for plain networks.
        checkpoint: whether the blocks are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and, if the rate is not 0, `dropout`.
        basis: further options of `pdo_jax.filter_basis`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> def logits(x):
        ...     options = dict(group="p4", num_classes=3, in_features=1, invariants=8)
        ...     return ResNet((2, 4), (1, 1), **options, rngs=nnx.Rngs(0))(x)
        >>> nnx.eval_shape(logits, jnp.zeros((2, 9, 9, 1))).shape
        (2, 3)
    """

    def __init__(
        self,
        features: tuple[int, ...],
        blocks: tuple[int, ...],
        *,
        group: Group | str | None,
        num_classes: int,
        in_features: int,
        invariants: int | None = None,
        downsampling: str = "stride",
        activation: str = "relu",
        dropout_rate: float = 0.0,
        orientation: float = 0.0,
        checkpoint: bool = False,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
        **basis: Any,
    ):
        num_classes = _check.integer("num_classes", num_classes, 1)
        _check.choice("downsampling", downsampling, DOWNSAMPLING)
        _check.choice("activation", activation, tuple(ACTIVATIONS))
        if not features or len(features) != len(blocks) or 0 in blocks[1:]:
            raise ValueError(
                f"blocks (={blocks}) must hold one number for each of features (={features}), and "
                "of these the first alone may be 0; pass e.g. features=(4, 8) and blocks=(0, 1)."
            )
        group = _group(group)
        if group.ndim != 2:
            raise ValueError(
                f"group (={group.name}) acts on {group.ndim} dimensions, but images have two; pass "
                "'p8' or another group of the plane."
            )
        basis["orientation"] = orientation if group.order > 1 else 0.0
        options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.stem = PDOLift(in_features, features[0], group, use_bias=False, **basis, **options)
        self.blocks = nnx.List([])
        width = features[0]
        for stage, (new_width, count) in enumerate(zip(features, blocks, strict=True)):
            for i in range(count):
                block = Block(
                    width,
                    new_width,
                    group,
                    down=downsampling if stage and not i else None,
                    activation=activation,
                    dropout_rate=dropout_rate,
                    **basis,
                    **options,
                )
                self.blocks.append(block)
                width = new_width
        self.norm = _norm(width, dtype, rngs)
        self.invariants = (
            None
            if invariants is None
            else Invariants(width, invariants, group, activation=activation, **options)
        )
        self.dropout = _dropout(dropout_rate, rngs)
        inputs = group.order * width if invariants is None else invariants
        self.head = nnx.Linear(inputs, num_classes, **options)
        self.activation, self.checkpoint = activation, checkpoint

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n classes"]:
        """Classify images.

        Args:
            x: `(N, H, W, in_features)` images of any size.

        Returns:
            `(N, num_classes)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape.

        Warns:
            EquivarianceWarning: once, if strides do not fit the size of the images.
        """
        y = self.stem(_check.floating("x", x, "(N, H, W, in_features)", 4, exact=True))
        for block in self.blocks:
            y = recompute.layer(block, y, self.checkpoint)
        y = ACTIVATIONS[self.activation](self.norm(y))
        if self.invariants is None:
            y = jnp.mean(y, axis=(1, 2)).reshape(-1, self.head.in_features)
        else:
            y = recompute.layer(self.invariants, y, self.checkpoint)
        return self.head(y if self.dropout is None else self.dropout(y))


def resnet8(
    *,
    group: Group | str | None = "p8",
    num_classes: int = 10,
    in_features: int = 3,
    invariants: int | None = None,
    downsampling: str = "stride",
    orientation: float = math.pi / 8,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """Return ResNet-8: 42,762 parameters over p8, 44,086 plain; for a CPU, or for a few images.

    One block in each of three stages. The plain network has 12, 24 and 48 channels; over a group
    there are as many fields as keep the number of parameters, 12, 24, 48 over the root of |G|.

    Args:
        group: the `Group` or its name; None for the plain network.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        invariants: the number of means over the group that the classifier sees; None for a
            classifier that sees every group element. See `ResNet`.
        downsampling: "stride" or "blur"; see `ResNet`.
        orientation: of the frame of the free weights.
        checkpoint: whether the blocks are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `ResNet`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: resnet8(rngs=nnx.Rngs(0)))
        >>> len(model.blocks), model.stem.out_features, model.head.in_features
        (3, 4, 136)
    """
    group = _group(group)
    return ResNet(
        _scaled((12, 24, 48), group),
        (1, 1, 1),
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        invariants=invariants,
        downsampling=downsampling,
        orientation=orientation,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )


def resnet26(
    *,
    group: Group | str | None = "p6",
    num_classes: int = 10,
    in_features: int = 3,
    invariants: int | None = None,
    downsampling: str = "stride",
    orientation: float = math.pi / 8,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """Return ResNet-26: 362,386 parameters over p6, 372,587 over p6m, 369,498 plain.

    Four blocks in each of three stages. The plain network has 16, 32 and 64 channels. The published
    table gives the sizes 0.36M for p6 and 0.37M for p6m, but no widths; these are ours:
    6, 13, 26 and 5, 10, 18, near 16, 32, 64 over the root of |G|. Other groups take exactly that,
    rounded, which keeps the number of parameters.

    Args:
        group: the `Group` or its name; None for the plain network.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        invariants: the number of means over the group that the classifier sees; None as published,
            where it sees every group element. See `ResNet`.
        downsampling: "stride" as published, or "blur"; see `ResNet`.
        orientation: of the frame of the free weights.
        checkpoint: whether the blocks are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `ResNet`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: resnet26(group="p6", rngs=nnx.Rngs(0)))
        >>> len(model.blocks), model.stem.out_features, model.head.in_features
        (12, 6, 156)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), errors on CIFAR-10: p6 5.65 %, p6m 5.38 %, plain
        11.5 %. Hoogeboom, Peters, Cohen, Welling: HexaConv (ICLR 2018), where the network is from.
    """
    matched = {"p6": (6, 13, 26), "p6m": (5, 10, 18)}
    group = _group(group)
    return ResNet(
        matched.get(group.name, _scaled((16, 32, 64), group)),
        (4, 4, 4),
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        invariants=invariants,
        downsampling=downsampling,
        orientation=orientation,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )


def resnet44(
    *,
    group: Group | str | None = "p8",
    num_classes: int = 10,
    in_features: int = 3,
    invariants: int | None = None,
    downsampling: str = "stride",
    orientation: float = math.pi / 8,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """Return ResNet-44: 2,621,693 parameters over p8, 2,636,074 plain.

    Seven blocks in each of three stages. The plain network has 32, 64 and 128 channels. Over a
    group there are as many fields as keep the number of parameters, 32, 64, 128 over the root of
    |G|: 11, 23, 45 for p8, as published.

    Args:
        group: the `Group` or its name; None for the plain network.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        invariants: the number of means over the group that the classifier sees; None as published,
            where it sees every group element. See `ResNet`.
        downsampling: "stride" as published, or "blur"; see `ResNet`.
        orientation: of the frame of the free weights.
        checkpoint: whether the blocks are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `ResNet`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: resnet44(rngs=nnx.Rngs(0)))
        >>> len(model.blocks), model.stem.out_features, model.head.in_features
        (21, 11, 360)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), errors: CIFAR-10 3.68 %, CIFAR-100 20.01 % (plain
        5.61 %, 24.08 %). Their script trains by gradient descent with Nesterov's momentum of 0.9
        and batches of 128 for 300 epochs, learning rate 0.1, then 0.01 from 150 and 0.001 from 225,
        L2 of 1e-3 in the loss, crops and flips, and reports the best test epoch.
    """
    group = _group(group)
    return ResNet(
        _scaled((32, 64, 128), group),
        (7, 7, 7),
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        invariants=invariants,
        downsampling=downsampling,
        orientation=orientation,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )


def wide_resnet26(
    *,
    group: Group | str | None = "p8",
    num_classes: int = 10,
    in_features: int = 3,
    invariants: int | None = None,
    downsampling: str = "stride",
    orientation: float = math.pi / 8,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """Return the wide ResNet-26: 4,591,630 parameters over p8, 4,586,212 plain.

    Four blocks in each of three stages. The published table gives the size 4.6M, but no widths;
    20, 40 and 80 fields have it. Other groups take 57, 113, 226 over the root of |G|, which keeps
    the number of parameters; so the plain network is not the one of 36.5M of the table.

    Args:
        group: the `Group` or its name; None for the plain network.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        invariants: the number of means over the group that the classifier sees; None as published,
            where it sees every group element. See `ResNet`.
        downsampling: "stride" as published, or "blur"; see `ResNet`.
        orientation: of the frame of the free weights.
        checkpoint: whether the blocks are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `ResNet`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: wide_resnet26(rngs=nnx.Rngs(0)))
        >>> len(model.blocks), model.stem.out_features, model.head.in_features
        (12, 20, 640)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), errors: CIFAR-10 3.50 %, CIFAR-100 18.40 % (a
        plain network of 36.5M parameters: 4.00 %, 19.25 %).
    """
    group = _group(group)
    return ResNet(
        _scaled((57, 113, 226), group),
        (4, 4, 4),
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        invariants=invariants,
        downsampling=downsampling,
        orientation=orientation,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )


def _scaled(channels: tuple[int, ...], group: Group) -> tuple[int, ...]:
    """Return how many fields have about as many parameters as so many plain channels."""
    return tuple(round(c / math.sqrt(group.order)) for c in channels)


def _group(group: Group | str | None) -> Group:
    return as_group("p1" if group is None else group)


def _norm(features: int, dtype: DTypeLike | None, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """One mean and variance a field, shared over the group; momentum 0.9 as in most recipes."""
    return nnx.BatchNorm(features, momentum=0.9, dtype=dtype, rngs=rngs)


def _dropout(rate: float, rngs: nnx.Rngs) -> nnx.Dropout | None:
    """Return a dropout, or None, which needs no random keys, where nothing is dropped."""
    return nnx.Dropout(_check.rate("dropout_rate", rate), rngs=rngs) if rate else None
