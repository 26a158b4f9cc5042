"""Our recommended classifiers: residual networks whose answers do not change under rotations.

Whatever is invariant holds by construction, at every size of image: blurs before every
downsampling, means over the group and over the pixels. Between the elements that the grid knows it
holds nearly, because of a smooth activation and of operators of low total degree.
"""

from __future__ import annotations

import math
from typing import Any

from flax import nnx
from jax.typing import DTypeLike

from pdo_jax import _check
from pdo_jax.groups import Group
from pdo_jax.models.resnet import ResNet

# Fields and blocks of every stage, and the share that is dropped in training.
SIZES: dict[str, dict[str, Any]] = {
    "small": dict(features=(5, 10, 13), blocks=(1, 1, 1), dropout_rate=0.1),
    "medium": dict(features=(8, 16, 32), blocks=(1, 2, 2), dropout_rate=0.1),
    "large": dict(features=(16, 32, 64), blocks=(5, 5, 5), dropout_rate=0.1),
}


def invariant_resnet(
    size: str = "small",
    *,
    group: Group | str = "p8",
    num_classes: int = 10,
    in_features: int = 1,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """Return the network that we recommend for a budget of parameters.

    Args:
        size: "small", "medium" or "large".
        group: the `Group` or its name.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `ResNet`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.
    """
    return ResNet(
        **SIZES[_check.choice("size", size, tuple(SIZES))],
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        invariant=True,
        downsampling="blur",
        activation="gelu",
        operators="total",
        orientation=math.pi / 8,
        dtype=dtype,
        rngs=rngs,
    )
