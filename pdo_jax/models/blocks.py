"""What LieTorch's networks are made of: lifts and group convolutions by splines, and norms."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.nn import PDOConv, PDOLift
from pdo_jax.pde import spline_basis

GROUP = "p8"  # eight orientations everywhere
ANGULAR_SIZE = 5  # of group convolutions, as many as pixels


def spline_lift(in_features: int, features: int, size: int, **options: Any) -> PDOLift:
    """Return a lift by trained filters of size x size pixels, as LieTorch's `LiftM2Cartesian`."""
    return PDOLift(in_features, features, spline_basis(GROUP, size), use_bias=False, **options)


def spline_conv(in_features: int, features: int, **options: Any) -> PDOConv:
    """Return a group convolution of 5 x 5 pixels and 5 orientations, as `ConvM2Cartesian`."""
    return PDOConv(
        in_features,
        features,
        spline_basis(GROUP, ANGULAR_SIZE),
        angular_size=ANGULAR_SIZE,
        use_bias=False,
        **options,
    )


class Normalised(nnx.Module):
    """A layer, batch normalisation, and ReLU unless it is not wanted."""

    def __init__(self, layer: nnx.Module, features: int, *, relu: bool = True, **options: Any):
        self.layer, self.relu = layer, relu
        self.norm = nnx.BatchNorm(features, momentum=0.9, **options)

    def __call__(self, x: Float[_check.Array, "..."]) -> Float[jax.Array, "..."]:
        """Apply the layer."""
        y = self.norm(self.layer(x))  # pyright: ignore
        return nnx.relu(y) if self.relu else y


def channel_dropout(rate: float, axes: int, rngs: nnx.Rngs) -> nnx.Dropout:
    """Return a dropout of whole channels: the same at all pixels and group elements.

    Equivariant in training as well, which a mask of its own for every group element is not.

    Args:
        rate: how many channels are dropped.
        axes: the number of axes of the array: `(N, H, W, C)` has 4, `(N, H, W, |G|, C)` 5.
        rngs: the random keys.
    """
    rate = _check.rate("dropout_rate", rate)
    return nnx.Dropout(rate, broadcast_dims=tuple(range(1, axes - 1)), rngs=rngs)
