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

# Fields and blocks of every stage, and how many invariants are left.
SIZES: dict[str, Any] = {
    "small": dict(features=(8, 9, 13), blocks=(0, 1, 1), invariants=32),
    "medium": dict(features=(8, 16, 32), blocks=(1, 2, 2), invariants=64),
    "large": dict(features=(18, 36, 72), blocks=(4, 4, 4), invariants=128),
}


def invariant_resnet(
    size: str = "small",
    *,
    group: Group | str = "p8",
    num_classes: int = 10,
    in_features: int = 1,
    dropout_rate: float = 0.1,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """Return the network that we recommend for a budget of parameters.

    | size   | parameters (p8, ten classes, one channel) | multiply-adds for a 32x32 image |
    |--------|-------------------------------------------|---------------------------------|
    | small  | 26,522                                    | 37 million                      |
    | medium | 244,074                                   | 353 million                     |
    | large  | 2,560,826                                 | 4.5 billion                     |

    The logits do not change at all under the elements of the group that the grid knows (quarter
    turns for p8, mirrors as well for p8m), at every size of image, and little under others.

    - Residual blocks; a blur before every downsampling (`pdo_jax.nn.blur_pool`).
    - GELU in place of ReLU, operators of total degree 2, six weights for a pair of channels in
      place of nine, and 3x3 stencils of the scheme "optimal": all of these lower the error
      between the quarter turns.
    - Means over the group and over the pixels, of more fields than the last block has.

    Args:
        size: "small" for digits (one block on a half and one on a quarter of the pixels along an
            axis, so that it is quick on a CPU), "medium" or "large".
        group: the `Group` of the plane or its name. The number of parameters is in proportion to
            its order, but for head and norms.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        dropout_rate: in every block, and before the classifier.
        checkpoint: whether the blocks are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys `params` and `dropout`.

    Returns:
        A `ResNet`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = nnx.eval_shape(lambda: invariant_resnet("small", rngs=nnx.Rngs(0)))
        >>> len(model.blocks), model.stem.out_features, model.head.in_features
        (2, 8, 32)
    """
    return ResNet(
        **SIZES[_check.choice("size", size, tuple(SIZES))],
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        downsampling="blur",
        activation="gelu",
        dropout_rate=dropout_rate,
        checkpoint=checkpoint,
        orientation=math.pi / 8,
        operators="total",
        scheme="optimal",
        size=3,  # the fewest taps: 5 would rotate better, at almost three times the cost
        dtype=dtype,
        rngs=rngs,
    )
