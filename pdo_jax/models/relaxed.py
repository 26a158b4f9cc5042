"""One network whose layers keep all of their symmetry, none, or as much as they learn to keep.

    image - conv, half - conv, half - conv, half - conv - means over group and pixels - linear

Every convolution is followed by a norm and a GELU. The blurs before halving fit odd and even sizes,
and the linear layer sees means alone. So with strict layers the logits do not change under the
rotations that are exact on the grid, and whatever they say of the pose has come through a layer
that is relaxed: networks differ in their layers, and in nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.basis import filter_basis
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group
from pdo_jax.nn import PDOConv, PDOLift, RelaxedConv, RelaxedLift, blur_pool, group_pool, recompute
from pdo_jax.nn.relaxed import RELAXATIONS

LAYERS = ("strict", "free", *RELAXATIONS)


class RelaxedClassifier(nnx.Module):
    """Convolutions, each with a norm and a GELU; means over all but the channels; a linear layer.

    Args:
        features: the number of fields (of channels with "free" layers) after every convolution.
        layers: one of `LAYERS`.
        group: the `Group` of the plane or its name.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        pool_after: the convolutions, from 0, after which the pixels are halved.
        padding: of convolutions and blurs, as in `pdo_jax.nn.PDOConv`.
        relaxation: options of `pdo_jax.nn.RelaxedConv` for relaxed layers.
        basis: options of `pdo_jax.filter_basis`.
        checkpoint: whether the convolutions are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys.
    """

    def __init__(
        self,
        features: Sequence[int],
        *,
        layers: str,
        group: Group,
        num_classes: int,
        in_features: int,
        pool_after: Sequence[int],
        padding: str,
        relaxation: dict[str, Any],
        basis: dict[str, Any],
        checkpoint: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        makers = _convolutions(layers, group, relaxation, basis)
        lift, conv = (partial(make, padding=padding) for make in makers)
        options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        pairs = itertools.pairwise(features)
        self.convs = nnx.List(
            [lift(in_features, features[0], **options), *(conv(i, o, **options) for i, o in pairs)]
        )
        self.norms = nnx.List([nnx.BatchNorm(f, momentum=0.9, **options) for f in features])
        self.head = nnx.Linear(features[-1], num_classes, **options)
        self.kind = "image" if layers == "free" else "field"
        self.pool_after, self.padding, self.checkpoint = tuple(pool_after), padding, checkpoint

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
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = recompute.call(_convolved, conv, norm, x, checkpoint=self.checkpoint)
            if i in self.pool_after:
                x = blur_pool(x, padding=self.padding, kind=self.kind)
        x = group_pool(x, "mean") if self.kind == "field" else x
        return self.head(jnp.mean(x, axis=(1, 2)))


def _convolved(conv: nnx.Module, norm: nnx.Module, x: jax.Array) -> jax.Array:
    return nnx.gelu(norm(conv(x)))  # pyright: ignore


def _convolutions(
    layers: str, group: Group, relaxation: dict[str, Any], basis: dict[str, Any]
) -> tuple[Callable[..., nnx.Module], Callable[..., nnx.Module]]:
    """Return what makes the first layer and what makes the others, from two numbers of fields."""
    if layers == "free":  # with as many taps as the filters of the others
        size = filter_basis(group, **basis).size
        conv = partial(nnx.Conv, kernel_size=(size, size), use_bias=False)
        return conv, conv
    options: dict[str, Any] = dict(group=group, use_bias=False, **basis)
    if layers == "strict":
        return partial(PDOLift, **options), partial(PDOConv, **options)
    options |= dict(relaxation=layers, **relaxation)
    return partial(RelaxedLift, **options), partial(RelaxedConv, **options)


def relaxed_classifier(
    features: Sequence[int] = (4, 8, 16, 16),
    *,
    layers: str = "non-stationary",
    group: Group | str = "p4",
    num_classes: int = 10,
    in_features: int = 1,
    pool_after: Sequence[int] = (0, 1, 2),
    padding: str = "SAME",
    parameters: int | None = None,
    filters: int | None = None,
    position_bandwidth: float | None = 0.5,
    orientation_bandwidth: float | None = 0.5,
    random_features: int = 16,
    extent: float = 1.0,
    learn: bool = True,
    orientation: float = 0.0,
    operators: str = "box",
    scheme: str = "finite-difference",
    sigma: float | None = None,
    size: int | None = None,
    checkpoint: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> RelaxedClassifier:
    """Return our classifier of relaxed layers, or of strict or free ones to compare them with.

    The same network for every kind of layer: with strict layers the logits do not change under the
    rotations that are exact on the grid, nor, but for the borders, under translations.

    | layers         | parameters | with `parameters=30_000`        |
    |----------------|------------|---------------------------------|
    | strict         | 15,270     | 30,541, features 5, 11, 23, 23  |
    | free           | 4,038      | 30,118, features 11, 22, 45, 45 |
    | non-stationary | 30,426     | 29,830, features 3, 8, 16, 16   |
    | partial        | 15,274     | 30,545, features 5, 11, 23, 23  |
    | weights        | 30,314     | 29,718, features 3, 8, 16, 16   |
    | residual       | 75,318     | 30,866, features 2, 5, 10, 11   |

    Args:
        features: the number of fields (of channels with "free" layers) after every convolution.
        layers: "strict" (`PDOLift`, `PDOConv`), "free" (`nnx.Conv`: the unconstrained CNN of the
            same depth), or a relaxation of `pdo_jax.nn.RelaxedConv`: "non-stationary", "partial",
            "weights" or "residual". All convolutions are of this kind, the lift too.
        group: the `Group` of the plane or its name.
        num_classes: the number of classes.
        in_features: the number of channels of the image.
        pool_after: the convolutions, from 0, after which a blur halves the pixels.
        padding: "SAME", or "CIRCULAR" for images on a torus, which have no borders: with zeros
            beyond them, layers that keep translations still tell places that are near one.
        parameters: scale `features` until there are so many trainable parameters, as near as
            rounding them up or down allows; None takes `features` as they are.
        filters: of relaxed layers, as in `pdo_jax.nn.RelaxedConv`.
        position_bandwidth: likewise.
        orientation_bandwidth: likewise.
        random_features: likewise, the number of `features` there.
        extent: likewise.
        learn: likewise.
        orientation: of the filters, as in `pdo_jax.filter_basis`; "free" filters have as many taps
            as the group's would have.
        operators: likewise.
        scheme: likewise.
        sigma: likewise.
        size: likewise.
        checkpoint: whether the convolutions are computed again for the gradient; see docs/large.md.
        dtype: of the computation.
        rngs: the random keys; `params` is used.

    Returns:
        A `RelaxedClassifier`, which maps `(N, H, W, in_features)` to `(N, num_classes)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> def free():
        ...     return relaxed_classifier(layers="free", parameters=30_000, rngs=nnx.Rngs(0))
        >>> model = nnx.eval_shape(free)
        >>> [conv.out_features for conv in model.convs]
        [11, 22, 45, 45]
        >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        30118
    """
    _check.choice("layers", layers, LAYERS)
    group = as_group(group)
    if group.ndim != 2:
        raise ValueError(
            f"group (={group.name}) acts on {group.ndim} dimensions, but images have two; pass "
            "'p4' or another group of the plane."
        )
    features = tuple(_check.integer("features", f, 1) for f in features)
    pool_after = tuple(_check.integer("pool_after", i, 0) for i in pool_after)
    if not features or any(i >= len(features) for i in pool_after):
        raise ValueError(
            f"pool_after (={pool_after}) must name convolutions, counted from 0, of which features "
            f"(={features}) has {len(features)}; pass e.g. features=(8, 16) and pool_after=(0,)."
        )
    options: dict[str, Any] = dict(
        layers=layers,
        group=group,
        num_classes=_check.integer("num_classes", num_classes, 1),
        in_features=_check.integer("in_features", in_features, 1),
        pool_after=pool_after,
        padding=_check.choice("padding", padding, ("SAME", "CIRCULAR")),
        relaxation=dict(
            filters=filters,
            position_bandwidth=position_bandwidth,
            orientation_bandwidth=orientation_bandwidth,
            features=random_features,
            extent=extent,
            learn=learn,
        ),
        basis=dict(
            orientation=orientation, operators=operators, scheme=scheme, sigma=sigma, size=size
        ),
        checkpoint=checkpoint,
        dtype=dtype,
    )
    if parameters is not None:
        features = _scaled(features, _check.integer("parameters", parameters, 1), options)
    return RelaxedClassifier(features, **options, rngs=rngs)


def _scaled(features: tuple[int, ...], target: int, options: dict[str, Any]) -> tuple[int, ...]:
    """Return features in proportion, rounded up or down, for nearly so many parameters."""
    kind = (options[name] for name in ("layers", "group", "relaxation", "basis"))
    lift, conv = (_affine(layer) for layer in _convolutions(*kind))

    def count(widths: Sequence[int]) -> int:
        convs = sum(conv(i * o) for i, o in itertools.pairwise(widths))
        norms = 2 * sum(widths)
        head = options["num_classes"] * (widths[-1] + 1)
        return lift(options["in_features"] * widths[0]) + convs + norms + head

    widths = (1,) * len(features)
    for percent in itertools.count(1):
        larger = tuple(max(1, percent * f // 100) for f in features)
        if count(larger) > target:
            break
        widths = larger
    for i in reversed(range(len(widths))):  # from large steps to small ones
        up = (*widths[:i], widths[i] + 1, *widths[i + 1 :])
        widths = min(widths, up, key=lambda some: abs(count(some) - target))
    return widths


def _affine(layer: Callable[..., nnx.Module]) -> Callable[[int], int]:
    """Return the number of trainable parameters of a layer, by that of its pairs of fields."""
    one, two = (_count(nnx.eval_shape(lambda o=o: layer(1, o, rngs=nnx.Rngs(0)))) for o in (1, 2))
    return lambda pairs: one + (two - one) * (pairs - 1)


def _count(model: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
