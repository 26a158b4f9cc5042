"""LieTorch's networks that find vessels in pictures of the retina: by PDEs, by G-CNN, by CNN.

    vessel_pde     lift 7x7 - PDE layers - max over orientations - 1x1
    vessel_gcnn    lift 7x7 - group convolutions 5x5x5 - 1x1 - max over orientations - 1x1
    vessel_cnn     convolution 7x7 - convolutions 5x5 - 1x1 - 1x1

All keep the number of pixels. The sources end in a sigmoid; here the logits are the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.models.blocks import Normalised, channel_dropout, spline_conv, spline_lift
from pdo_jax.nn import PDELayer, group_pool, recompute

# What a depth stands for: features, and the numbers of the layers with dropout after them.
PDE: dict[int, Any] = {
    6: dict(features=(16,) * 5, dropout_after=(1,)),
    12: dict(features=(10,) * 10 + (16,), dropout_after=(1, 5)),
}
GCNN: dict[int, Any] = {
    6: dict(features=(10,) * 4 + (16,), dropout_after=(1, 3)),
    12: dict(features=(10,) * 10 + (16,), dropout_after=(1, 5)),
}
CNN: dict[int, Any] = {
    6: dict(
        features=(24,) * 4 + (16,),
        sizes=(7, 5, 5, 5, 1),
        dropout_after=(1, 3),
    ),
    12: dict(
        features=(24,) * 10 + (16,),
        sizes=(7, 5, 5, 5, 1, 5, 5, 5, 5, 5, 5),
        dropout_after=(1, 5, 9),
    ),
}


class VesselSegmenter(nnx.Module):
    """Layers that keep the pixels, a maximum over the orientations, and a 1x1 convolution.

    Args:
        layers: maps of images or fields.
        features: of the last layer.
        field: whether the layers give fields.
        dropout_after: the numbers of the layers after which whole channels are dropped.
        dropout_rate: how many of them.
        checkpoint: whether the layers are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys.
    """

    def __init__(
        self,
        layers: Sequence[nnx.Module],
        features: int,
        *,
        field: bool,
        dropout_after: Sequence[int],
        dropout_rate: float,
        checkpoint: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.layers, self.field, self.checkpoint = nnx.List(layers), field, checkpoint
        self.dropout_after = tuple(dropout_after)
        self.dropout = channel_dropout(dropout_rate, 5 if field else 4, rngs)
        self.head = nnx.Linear(features, 1, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[_check.Array, "n h w c"]) -> Float[jax.Array, "n h w 1"]:
        """Say of every pixel whether it belongs to a vessel.

        Args:
            x: `(N, H, W, in_features)` images, at least 4 pixels along an axis.

        Returns:
            `(N, H, W, 1)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape.
        """
        y = _check.floating("x", x, "(N, H, W, in_features)", 4, exact=True)
        for i, layer in enumerate(self.layers):
            y = recompute.layer(layer, y, self.checkpoint)
            y = self.dropout(y) if i in self.dropout_after else y
        return self.head(group_pool(y, "max") if self.field else y)


class EdgeConv(nnx.Module):
    """A plain convolution beyond whose border the pixels of the border go on."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        size: int,
        *,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.reach = size // 2
        self.conv = nnx.Conv(
            in_features,
            out_features,
            (size, size),
            padding="VALID",
            use_bias=False,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_avg", "uniform"),
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: Float[jax.Array, "n h w i"]) -> Float[jax.Array, "n h w o"]:
        """Map an image to an image."""
        pads = [(0, 0), (self.reach, self.reach), (self.reach, self.reach), (0, 0)]
        return self.conv(jnp.pad(x, pads, mode="edge"))


def vessel_pde(
    depth: int = 6,
    terms: Sequence[str] = ("convection", "dilation", "erosion"),
    *,
    metric: str = "diagonal",
    in_features: int = 3,
    dropout_rate: float = 0.1,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> VesselSegmenter:
    """Return LieTorch's PDE-G-CNN for vessels: 4,128 parameters, or 3,678 with twelve layers.

    Lift, `depth` - 2 PDE layers of 5 x 5 pixels and 5 of 8 orientations, and a 1x1 convolution. In
    the deeper one layers are narrower: 10 in place of 16 fields.

    Args:
        depth: 6 or 12.
        terms: of every PDE layer, as in `pdo_jax.nn.PDELayer`.
        metric: "diagonal" or "full" (4,896 parameters with six layers).
        in_features: the number of channels of the image.
        dropout_rate: of whole channels.
        checkpoint: whether the layers are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `VesselSegmenter`, which maps `(N, H, W, in_features)` to logits `(N, H, W, 1)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: vessel_pde(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        4128

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022). LieTorch 0.8.2, `CDEPdeNN6`, `CDEPdeNN6NonDiag`, `CDEPdeNN12`.
    """
    setting = _setting(PDE, depth)
    options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
    features = setting["features"]
    lift = spline_lift(in_features, features[0], 7, padding="REFLECT", **options)
    pairs = zip(features, features[1:], strict=False)
    layers = [
        Normalised(lift, features[0], relu=False, **options),
        *(PDELayer(i, o, tuple(terms), metric=metric, **options) for i, o in pairs),
    ]
    return _segmenter(layers, setting, True, dropout_rate, checkpoint, options)


def vessel_gcnn(
    depth: int = 6,
    *,
    in_features: int = 3,
    dropout_rate: float = 0.1,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> VesselSegmenter:
    """Return LieTorch's G-CNN for vessels: 39,258 parameters, or 114,378 with twelve layers.

    Lift, `depth` - 3 group convolutions of 5 x 5 pixels and 5 of 8 orientations, and two 1x1
    convolutions, one on either side of the maximum.

    Args:
        depth: 6 or 12.
        in_features: the number of channels of the image.
        dropout_rate: of whole channels.
        checkpoint: whether the layers are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `VesselSegmenter`, which maps `(N, H, W, in_features)` to logits `(N, H, W, 1)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: vessel_gcnn(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        39258

    References:
        LieTorch 0.6.2, `BasicGroupCNN6` and `BasicGroupCNN12`, whose borders repeat the last pixel
        where ours are mirrored at it. (0.8.2 has 16 fields in place of 10 in the first: 98,784.)
    """
    setting = _setting(GCNN, depth)
    options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
    *features, last = setting["features"]
    pairs = zip(features, features[1:], strict=False)
    convs = [
        spline_lift(in_features, features[0], 7, padding="REFLECT", **options),
        *(spline_conv(i, o, padding="REFLECT", **options) for i, o in pairs),
        nnx.Linear(features[-1], last, use_bias=False, **options),
    ]
    layers = [
        Normalised(conv, f, **options) for conv, f in zip(convs, setting["features"], strict=True)
    ]
    return _segmenter(layers, setting, True, dropout_rate, checkpoint, options)


def vessel_cnn(
    depth: int = 6,
    *,
    in_features: int = 3,
    dropout_rate: float = 0.1,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> VesselSegmenter:
    """Return LieTorch's plain CNN for vessels: 47,352 parameters, or 129,432 with twelve layers.

    Args:
        depth: 6 or 12.
        in_features: the number of channels of the image.
        dropout_rate: of whole channels.
        checkpoint: whether the layers are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `VesselSegmenter`, which maps `(N, H, W, in_features)` to logits `(N, H, W, 1)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: vessel_cnn(rngs=nnx.Rngs(0)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        47352

    References:
        LieTorch 0.8.2, `BasicSpatialCNN6` and `BasicSpatialCNN12`.
    """
    setting = _setting(CNN, depth)
    options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
    widths = zip((in_features, *setting["features"]), setting["features"], strict=False)
    layers = [
        Normalised(EdgeConv(i, o, size, **options), o, **options)
        for (i, o), size in zip(widths, setting["sizes"], strict=True)
    ]
    return _segmenter(layers, setting, False, dropout_rate, checkpoint, options)


def _setting(settings: dict[int, Any], depth: int) -> Any:
    if _check.integer("depth", depth, 1) not in settings:
        words = ", ".join(map(str, settings))
        raise ValueError(f"depth (={depth!r}) must be one of {words}; pass {min(settings)}.")
    return settings[depth]


def _segmenter(
    layers: Sequence[nnx.Module],
    setting: Any,
    field: bool,
    dropout_rate: float,
    checkpoint: bool,
    options: dict[str, Any],
) -> VesselSegmenter:
    return VesselSegmenter(
        layers,
        setting["features"][-1],
        field=field,
        dropout_after=setting["dropout_after"],
        dropout_rate=dropout_rate,
        checkpoint=checkpoint,
        **options,
    )
