"""A small network for volumes whose answers do not change when a volume is rotated.

    n^3 - lift - blur, pool - (n/2)^3 - conv - blur, pool - (n/4)^3 - conv - means - norm - linear

What makes invariance hold between the elements that the grid knows: operators of low total degree
(closed under rotation, on 3x3x3 voxels for every group), a smooth activation, a blur before every
pooling, and means, not maxima, over the group and over the voxels that are left.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group
from pdo_jax.nn import PDOConv, PDOLift, blur_pool, recompute

BLUR = (4, 4, 4)  # taps: a binomial blur of 3 before the mean over 2x2x2 voxels


class VolumeClassifier(nnx.Module):
    """Convolutions of a few fields each, and a linear classifier; see `volume_classifier`."""

    def __init__(
        self,
        features: tuple[int, ...],
        *,
        group: Group | str,
        num_classes: int,
        in_features: int,
        operators: str,
        checkpoint: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        num_classes = _check.integer("num_classes", num_classes, 1)
        group = as_group(group)
        if group.ndim != 3:
            raise ValueError(
                f"group (={group.name}) acts on {group.ndim} dimensions, but volumes have three; "
                "pass 'T', 'O', 'Oh' or 'I'."
            )
        if not features:
            raise ValueError(
                "features (=()) must hold one number at least, the fields after each convolution; "
                "pass e.g. (2, 4, 16)."
            )
        options: dict[str, Any] = dict(operators=operators, use_bias=False, dtype=dtype, rngs=rngs)
        lift = PDOLift(in_features, features[0], group, **options)
        pairs = zip(features, features[1:], strict=False)
        self.convs = nnx.List([lift, *(PDOConv(i, o, group, **options) for i, o in pairs)])
        # The last one normalises the invariants, which differ little beside their mean.
        self.norms = nnx.List(
            [
                nnx.BatchNorm(f, momentum=0.9, dtype=dtype, rngs=rngs)
                for f in (*features, features[-1])
            ]
        )
        self.head = nnx.Linear(features[-1], num_classes, dtype=dtype, rngs=rngs)
        self.checkpoint = checkpoint

    def __call__(self, x: Float[_check.Array, "n d h w c"]) -> Float[jax.Array, "n classes"]:
        """Classify volumes.

        Args:
            x: `(N, D, H, W, in_features)` volumes; multiples of 2 to the number of pools (4 by
                default) keep the rotations of the grid exact.

        Returns:
            `(N, num_classes)` logits.

        Raises:
            TypeError, ValueError: if `x` has another shape.
        """
        x = _check.floating("x", x, "(N, D, H, W, in_features)", 5, exact=True)
        last = len(self.convs) - 1
        for i, conv in enumerate(self.convs):
            x = recompute.call(_convolved, conv, self.norms[i], x, checkpoint=self.checkpoint)
            x = blur_pool(x, BLUR, kind="field") if i < last else x
        invariants = jnp.mean(x, axis=(-5, -4, -3, -2))  # over the voxels and the group
        return self.head(self.norms[-1](invariants))


def _convolved(conv: nnx.Module, norm: nnx.Module, x: jax.Array) -> jax.Array:
    return nnx.silu(norm(conv(x)))  # pyright: ignore


def volume_classifier(
    features: tuple[int, ...] = (2, 4, 16),
    *,
    group: Group | str = "O",
    num_classes: int = 8,
    in_features: int = 1,
    operators: str = "total",
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> VolumeClassifier:
    """Return a classifier of volumes: 17,512 parameters, invariant to the rotations of a cube.

        M C_in f_1 + M |G| (f_1 f_2 + f_2 f_3) + 2 (f_1 + f_2 + 2 f_3) + (f_3 + 1) classes

    parameters for features f: operators (M = 10, or 27 for "box"), norms, head. The logits do not
    change under the rotations that the grid holds, and little between them.

    Args:
        features: the number of fields after every convolution; a pool follows all but the last.
        group: a `Group` of space or its name: "T", "O", "Oh" (which cannot tell a shape from its
            mirror image) or "I".
        num_classes: the number of classes.
        in_features: the number of channels of the volume.
        operators: "total" (10 operators) or "box" (27), as in `pdo_jax.filter_basis`. Over the
            trivial group "box" gives an ordinary CNN with 3x3x3 filters.
        checkpoint: whether the convolutions are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `VolumeClassifier`, which maps `(N, D, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> model = volume_classifier((1, 2, 4), group="T", rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 4, 4, 4, 1))).shape
        (2, 8)
    """
    return VolumeClassifier(
        features,
        group=group,
        num_classes=num_classes,
        in_features=in_features,
        operators=operators,
        checkpoint=checkpoint,
        dtype=dtype,
        rngs=rngs,
    )
