"""The weights of the published PDO-eConv networks, which are written for TensorFlow 1.

There, fields are flat: channel c at group element g is channel c |G| + g, where ours is g C + c.
Free weights are plain 3x3 filters, in TensorFlow's order (rows, columns, inputs, outputs).

    kind         theirs                         ours
    "lift"       (3, 3, C_in, C_out)            (9, C_in, C_out)
    "group"      (3, 3, C_in |G|, C_out)        (9, |G|, C_in, C_out)
    "pointwise"  (1, 1, C_in |G|, C_out)        (|G|, C_in, C_out)
    "head"       (k, k, C_in |G|, C_out)        (k, k, |G| C_in, C_out)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.groups import Group, cyclic
from pdo_jax.groups import group as as_group

KINDS = ("lift", "group", "pointwise", "head")


def from_tensorflow(
    weights: Float[_check.Array, "h w i o"], group: Group | str, kind: str
) -> np.ndarray:
    """Return weights of the published source in the layout of this library.

    The published networks have `orientation=pi / 8` and no biases. The numbers of their batch norms
    need no conversion, but they have an epsilon of 1e-3.

    Args:
        weights: a variable `weights` of the published source, or of a checkpoint of it.
        group: the `Group` or its name. The published source has rotations alone.
        kind: "lift" for its `open_conv2d`, "group" for `g_conv2d`, "pointwise" for that with a 1x1
            kernel, "head" for an ordinary convolution of a field, such as the classifier.

    Returns:
        `(9, C_in, C_out)`, `(9, |G|, C_in, C_out)` or `(|G|, C_in, C_out)` free weights; for a
        head `(k, k, |G| C_in, C_out)`, the kernel of an `nnx.Conv` of the flattened field.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> from_tensorflow(np.ones((3, 3, 56, 7)), "p8", "group").shape
        (9, 8, 7, 7)

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), `mnist.py` and `cifar.py` of its source.
    """
    order = _order(group)
    sides = {"lift": (3, 3), "group": (3, 3), "pointwise": (1, 1), "head": (None, None)}
    _check.choice("kind", kind, KINDS)
    weights = _shaped(weights, (*sides[kind], None, None), kind)
    rows, columns, channels, outputs = weights.shape
    if kind == "lift":
        return weights.reshape(9, channels, outputs)
    _check_multiple(weights, order)
    blocks = np.swapaxes(weights.reshape(rows, columns, -1, order, outputs), 2, 3)
    match kind:
        case "group":
            return blocks.reshape(9, *blocks.shape[2:])
        case "pointwise":
            return blocks[0, 0]
        case _:
            return blocks.reshape(weights.shape)


def to_tensorflow(weights: Float[_check.Array, "..."], group: Group | str, kind: str) -> np.ndarray:
    """Return weights of this library in the layout of the published source.

    Args:
        weights: what `from_tensorflow` returns.
        group: the `Group` or its name.
        kind: as in `from_tensorflow`.

    Returns:
        What `from_tensorflow` takes.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> to_tensorflow(np.ones((9, 8, 7, 7)), "p8", "group").shape
        (3, 3, 56, 7)
    """
    order = _order(group)
    fixed = {"lift": (9,), "group": (9, order), "pointwise": (order,), "head": (None, None)}
    _check.choice("kind", kind, KINDS)
    weights = _shaped(weights, (*fixed[kind], None, None), kind)
    match kind:
        case "lift":
            return weights.reshape(3, 3, *weights.shape[1:])
        case "group":
            blocks = weights.reshape(3, 3, *weights.shape[1:])
        case "pointwise":
            blocks = weights[None, None]
        case _:
            _check_multiple(weights, order)
            blocks = weights.reshape(*weights.shape[:2], order, -1, weights.shape[-1])
    return np.swapaxes(blocks, 2, 3).reshape(*blocks.shape[:2], -1, blocks.shape[-1])


def _order(group: Group | str) -> int:
    group = as_group(group)
    if group != cyclic(group.order):
        rotations = int(np.sum(np.linalg.det(group.matrices) > 0))
        raise ValueError(
            f"group (={group.name}) must be a group of rotations of the plane, as the published "
            f"source has; pass e.g. 'p{rotations if group.ndim == 2 else 8}'."
        )
    return group.order


def _shaped(weights: _check.Array, expected: tuple[int | None, ...], kind: str) -> np.ndarray:
    weights = np.asarray(weights)
    if weights.ndim != len(expected) or any(
        m not in (None, n) for n, m in zip(weights.shape, expected, strict=True)
    ):
        axes = ", ".join("any" if m is None else str(m) for m in expected)
        raise ValueError(
            f"weights has shape {weights.shape}, but ({axes}) is needed for kind={kind!r}; pass "
            f"the variable as it is, or another kind of {', '.join(map(repr, KINDS))}."
        )
    return weights


def _check_multiple(weights: np.ndarray, order: int) -> None:
    if weights.shape[2] % order:
        raise ValueError(
            f"weights has shape {weights.shape}: axis 2 is {weights.shape[2]}, but must be a "
            f"multiple of {order}, the order of the group; pass another group or kind."
        )
