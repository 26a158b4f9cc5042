"""Our networks of operators that are trained and equations that are solved.

    classifier    lift - PDE - half - conv, PDE - half - conv, PDE - maximum, mean - linear

    segmenter     lift - PDE --------------------- join, PDE - maximum - linear
                          half - conv, PDE - join, PDE
                                  half - conv, PDE

PDO-eConvs see neighbourhoods, with weights for every pair of fields. PDE layers move, dilate and
erode every field by itself, with nine numbers each, and mix. Fine levels have few fields and small
windows: a window of 5 x 5 x 5 costs 250 operations a value. Quarter turns are exact at every size
of image: the blurs before halving fit odd and even sizes, and coarse levels are resampled to the
very size of the finer level that they join.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.groups import Group, cyclic
from pdo_jax.groups import group as as_group
from pdo_jax.models.blocks import Normalised
from pdo_jax.nn import PDELayer, PDOConv, PDOLift, blur_pool, group_pool, recompute
from pdo_jax.nn.pooling import linear_resample

KernelSizes = Sequence[tuple[int, int, int]]

TERMS = ("convection", "dilation", "erosion")
# Six operators, on the fewest taps, and three neighbouring orientations: 18 weights for a pair of
# fields where there could be 72.
CONV: dict[str, Any] = dict(operators="total", scheme="optimal", size=3, angular_size=3)
ORIENTATION = math.pi / 8


class PDEClassifier(nnx.Module):
    """Levels of fewer and fewer pixels, and a linear classifier of what a turn does not change.

    Args:
        features: the fields of the lift, and of every level's PDE layer.
        kernel_sizes: the windows of the PDE layers.
        terms: of every PDE layer.
        group: a cyclic `Group` of the plane or its name.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: before the classifier.
        checkpoint: whether the levels are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys.
    """

    def __init__(
        self,
        features: Sequence[int],
        kernel_sizes: KernelSizes,
        *,
        terms: Sequence[str] = TERMS,
        group: Group | str,
        num_classes: int,
        in_features: int,
        dropout_rate: float,
        checkpoint: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        num_classes = _check.integer("num_classes", num_classes, 1)
        options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.stem, levels = _levels(in_features, features, kernel_sizes, terms, group, options)
        self.levels, self.checkpoint = nnx.List(levels), checkpoint
        self.norm = nnx.BatchNorm(features[-1], momentum=0.9, **options)
        self.dropout = nnx.Dropout(_check.rate("dropout_rate", dropout_rate), rngs=rngs)
        self.head = nnx.Linear(features[-1], num_classes, **options)

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n classes"]:
        """Classify images.

        Args:
            x: `(N, H, W, in_features)` images of any size.

        Returns:
            `(N, num_classes)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape.
        """
        x = _check.floating("x", x, "(N, H, W, in_features)", 4, exact=True)
        x = _descend(x, self.stem, self.levels, self.checkpoint)[-1]
        invariants = jnp.mean(nnx.relu(group_pool(x, "max")), axis=(1, 2))
        return self.head(self.dropout(self.norm(invariants)))


class PDESegmenter(nnx.Module):
    """Levels of fewer and fewer pixels, and back up, every level joined with its like.

    Args:
        features: the fields of the lift, and of every level's PDE layer.
        kernel_sizes: the windows of the PDE layers, fine levels first; the same on the way up.
        terms: of every PDE layer.
        group: a cyclic `Group` of the plane or its name.
        in_features: the number of channels of the image.
        checkpoint: whether the levels are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys.
    """

    def __init__(
        self,
        features: Sequence[int],
        kernel_sizes: KernelSizes,
        *,
        terms: Sequence[str] = TERMS,
        group: Group | str,
        in_features: int,
        checkpoint: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.stem, levels = _levels(in_features, features, kernel_sizes, terms, group, options)
        self.levels, self.checkpoint = nnx.List(levels), checkpoint
        widths = features[:0:-1]  # from the coarsest level up
        joins = list(zip(widths[:-1], widths[1:], kernel_sizes[-2::-1], strict=True))
        self.mixes = nnx.List(
            [nnx.Linear(i + o, o, use_bias=False, **options) for i, o, _ in joins]
        )
        self.ascent = nnx.List(
            [PDELayer(o, o, terms, kernel_size=k, **options) for _, o, k in joins]
        )
        self.head = nnx.Linear(features[1], 1, **options)

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n h w 1"]:
        """Say of every pixel whether it belongs to what is looked for.

        Args:
            x: `(N, H, W, in_features)` images of any size.

        Returns:
            `(N, H, W, 1)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape.
        """
        x = _check.floating("x", x, "(N, H, W, in_features)", 4, exact=True)
        *finer, x = _descend(x, self.stem, self.levels, self.checkpoint)
        for mix, layer, like in zip(self.mixes, self.ascent, reversed(finer), strict=True):
            x = recompute.call(_join, mix, layer, x, like, checkpoint=self.checkpoint)
        return self.head(group_pool(x, "max"))


def _levels(
    in_features: int,
    features: Sequence[int],
    kernel_sizes: KernelSizes,
    terms: Sequence[str],
    group: Group | str,
    options: dict[str, Any],
) -> tuple[nnx.Module, list[nnx.Module]]:
    """Return the lift, and every level: a PDE layer, after a convolution below the first."""
    group = as_group(group)
    if group.ndim != 2 or group != cyclic(group.order):
        raise ValueError(
            f"group (={group.name}) must be a cyclic group of the plane: PDEs know orientations, "
            "and no mirrors; pass e.g. 'p8'."
        )
    if not kernel_sizes or len(features) != len(kernel_sizes) + 1:
        raise ValueError(
            f"features (={tuple(features)}) must hold one number more than there are kernel_sizes "
            f"(={tuple(kernel_sizes)}): the fields of the lift, and of each level."
        )
    least = max(CONV["angular_size"], *(size[-1] for size in kernel_sizes))
    if group.order < least:
        raise ValueError(
            f"group (={group.name}) has {group.order} orientations, but kernel_sizes "
            f"(={tuple(kernel_sizes)}) and the convolutions cover {least}; pass a larger group, or "
            "windows of fewer orientations."
        )
    lift = PDOLift(
        in_features, features[0], group, orientation=ORIENTATION, use_bias=False, **options
    )
    levels: list[nnx.Module] = []
    for i, o, size in zip(features[:-1], features[1:], kernel_sizes, strict=True):
        layer = PDELayer(i, o, terms, kernel_size=size, **options)
        if levels:
            conv = PDOConv(i, i, group, orientation=ORIENTATION, use_bias=False, **CONV, **options)
            layer = nnx.Sequential(Normalised(conv, i, **options), layer)
        levels.append(layer)
    return Normalised(lift, features[0], relu=False, **options), levels


def _descend(
    x: jax.Array, stem: nnx.Module, levels: Sequence[nnx.Module], checkpoint: bool
) -> list[jax.Array]:
    """Return what every level gives, the finest first; each has half the pixels of the last."""
    x = recompute.layer(stem, x, checkpoint)
    outputs: list[jax.Array] = []
    for level in levels:
        x = recompute.layer(level, blur_pool(x, kind="field") if outputs else x, checkpoint)
        outputs.append(x)
    return outputs


def _join(mix: nnx.Linear, layer: nnx.Module, x: jax.Array, like: jax.Array) -> jax.Array:
    """Return a level of the way up, from the coarser one and from its like on the way down."""
    x = linear_resample(x, like.shape[1:3], tail=2)
    return layer(mix(jnp.concatenate([x, like], axis=-1)))  # pyright: ignore


def pde_classifier(
    features: Sequence[int] = (8, 12, 16, 32),
    kernel_sizes: KernelSizes = ((3, 3, 3), (5, 5, 3), (5, 5, 5)),
    terms: Sequence[str] = TERMS,
    *,
    group: Group | str = "p8",
    num_classes: int = 10,
    in_features: int = 1,
    dropout_rate: float = 0.1,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> PDEClassifier:
    """Return our classifier of PDO-eConvs and PDE layers: 8,982 parameters, invariant.

    The logits do not change at all under quarter turns, at every size of image, and little between
    them.

    Args:
        features: the fields of the lift, and of every level's PDE layer.
        kernel_sizes: the windows (kH, kW, kOr) of the PDE layers, one for each level.
        terms: of every PDE layer, as in `pdo_jax.nn.PDELayer`.
        group: a cyclic `Group` of the plane or its name; its order is that of every kOr at least.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: before the classifier.
        checkpoint: whether the levels are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `PDEClassifier`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: pde_classifier(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        8982
    """
    return PDEClassifier(
        features,
        kernel_sizes,
        terms=terms,
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        dropout_rate=dropout_rate,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )


def pde_segmenter(
    features: Sequence[int] = (10, 10, 16, 24),
    kernel_sizes: KernelSizes = ((3, 3, 3), (5, 5, 3), (5, 5, 5)),
    terms: Sequence[str] = TERMS,
    *,
    group: Group | str = "p8",
    in_features: int = 3,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> PDESegmenter:
    """Return our segmenter, a U of PDO-eConvs and PDE layers: 9,371 parameters, equivariant.

    The logits turn with the picture, exactly so for quarter turns, at every size of image.

    Args:
        features: the fields of the lift, and of every level's PDE layer on the way down.
        kernel_sizes: the windows (kH, kW, kOr) of the PDE layers, one for each level.
        terms: of every PDE layer, as in `pdo_jax.nn.PDELayer`.
        group: a cyclic `Group` of the plane or its name; its order is that of every kOr at least.
        in_features: the number of channels of the image.
        checkpoint: whether the levels are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `PDESegmenter`, which maps `(N, H, W, in_features)` to logits `(N, H, W, 1)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: pde_segmenter(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        9371

    References:
        Ronneberger, Fischer, Brox: U-Net (MICCAI 2015), for the shape.
    """
    return PDESegmenter(
        features,
        kernel_sizes,
        terms=terms,
        group=group,
        in_features=in_features,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )
