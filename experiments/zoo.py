"""The networks by the names of the command line, and how one of them is built.

A network that was published keeps its name; what follows the underscore is its group. The names
without a group are the plain networks of the same papers.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import tyro
from flax import nnx

from pdo_jax import models

NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "mnist_rot": models.mnist_rot,
    "mnist_rot_invariant": partial(models.mnist_rot, invariant=True),
    "mnist_cnn": models.mnist_cnn,
    "resnet8": partial(models.resnet8, group=None),
    "resnet8_p8": partial(models.resnet8, group="p8"),
    "resnet26": partial(models.resnet26, group=None),
    "resnet26_p6": partial(models.resnet26, group="p6"),
    "resnet26_p6m": partial(models.resnet26, group="p6m"),
    "resnet44": partial(models.resnet44, group=None),
    "resnet44_p8": partial(models.resnet44, group="p8"),
    "wide_resnet26": partial(models.wide_resnet26, group=None),
    "wide_resnet26_p8": partial(models.wide_resnet26, group="p8"),
    "invariant_small": partial(models.invariant_resnet, size="small"),
    "invariant_medium": partial(models.invariant_resnet, size="medium"),
    "invariant_large": partial(models.invariant_resnet, size="large"),
    "pde_classifier": models.pde_classifier,
    "rotnist_cde": models.rotnist_pde,
    "rotnist_de": partial(models.rotnist_pde, terms=("dilation", "erosion")),
    "rotnist_plane": partial(models.rotnist_pde, manifold="plane"),
    "rotnist_gcnn": models.rotnist_gcnn,
    "lenet5": models.lenet5,
    "relaxed_strict": partial(models.relaxed_classifier, layers="strict"),
    "relaxed_free": partial(models.relaxed_classifier, layers="free"),
    "relaxed_learned": partial(models.relaxed_classifier, layers="non-stationary"),
    "relaxed_fixed": partial(models.relaxed_classifier, layers="non-stationary", learn=False),
    "relaxed_partial": partial(models.relaxed_classifier, layers="partial"),
    "relaxed_weights": partial(models.relaxed_classifier, layers="weights"),
    "relaxed_residual": partial(models.relaxed_classifier, layers="residual"),
}

# From images to one logit a pixel.
SEGMENTERS: dict[str, Callable[..., nnx.Module]] = {
    "pde_6": partial(models.vessel_pde, depth=6),
    "pde_12": partial(models.vessel_pde, depth=12),
    "cnn_6": partial(models.vessel_cnn, depth=6),
    "gcnn_6": partial(models.vessel_gcnn, depth=6),
    "ours": models.pde_segmenter,
}

if TYPE_CHECKING:
    Name = Segmenter = str
else:
    Name = tyro.extras.literal_type_from_choices(list(NETWORKS))
    Segmenter = tyro.extras.literal_type_from_choices(list(SEGMENTERS))

Value = int | float | bool | str | None
Options = dict[str, Value]  # keywords of a network's function

_OF_THE_DATA = ("num_classes", "in_features", "dtype", "rngs")  # decided elsewhere


def build(
    name: str, options: Options, *, num_classes: int, in_features: int, dtype: str, seed: int
) -> nnx.Module:
    """Return a network with fresh parameters.

    Args:
        name: one of `NETWORKS`, or of `SEGMENTERS`, which have no options and no classes.
        options: keywords of its function, such as `{"group": "p4"}`.
        num_classes: the number of logits.
        in_features: the channels of an image.
        dtype: of the computation, "float32" or "bfloat16"; parameters stay float32.
        seed: of the parameters, and of dropout.

    Raises:
        ValueError: if a name, an option or its value does not fit.
    """
    of_the_data: dict[str, Any] = dict(
        in_features=in_features, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(seed)
    )
    if name in SEGMENTERS:
        return SEGMENTERS[name](**of_the_data)
    check(name, options)
    try:
        return NETWORKS[name](**options, num_classes=num_classes, **of_the_data)
    except TypeError as error:
        raise ValueError(f"network_options (={options}) do not fit {name}: {error}") from error


def check(name: str, options: Options) -> None:
    """Raise ValueError unless there is a network of this name that has options of these names."""
    _known("network", name, list(NETWORKS))
    keywords = [k for k in inspect.signature(NETWORKS[name]).parameters if k not in _OF_THE_DATA]
    for option in options:
        _known(f"network_options of {name}:", option, keywords, "; pass those alone, or none")


def _known(what: str, name: str, allowed: list[str], advice: str = "") -> None:
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, 1)
        meant = f"did you mean {near[0]!r}? It" if near else "it"
        among = ", ".join(map(repr, allowed))
        raise ValueError(f"{what} {name!r} is not known; {meant} must be one of {among}{advice}.")
