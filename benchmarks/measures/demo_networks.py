"""The networks of the entries "drift" and "budget": those of the demo, narrower, in all schemes.

The demo's defaults were chosen by these numbers, so its test digits take no part: a share of the
training digits is held out in their place.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import pdo_jax as pdo
from experiments import datasets, digits, networks, recipes, rotated_digits, trainer
from experiments.augment import Augmentation
from pdo_jax import stencils

FEATURES = (6, 8, 16, 32)  # of p8; other groups get as many parameters
HELD_OUT = 357  # of the training digits
SETTLE = 40  # batches until running statistics are those of the data
AUGMENTATIONS = {
    "upright": Augmentation(shift=rotated_digits.Config().shift),
    "all rotations": Augmentation(rotation=180.0, shift=rotated_digits.Config().shift),
}


def discretisations() -> dict[str, dict[str, Any]]:
    """Return options of the layers by name: the demo's, and the other schemes beside it."""
    demo = {k: v for k, v in rotated_digits.Config().basis.items() if k != "orientation"}
    return {
        f"{demo['scheme']}, {demo['operators']}": demo,
        **{
            f"{scheme}, total": {"operators": "total", "scheme": scheme, "size": 5}
            for scheme in stencils.SCHEMES
            if scheme != demo["scheme"]
        },
        "finite-difference, box": {"operators": "box", "scheme": "finite-difference"},
    }


def build(group: str, options: dict[str, Any], seed: int) -> networks.Classifier:
    """Return a network as it starts, with the statistics of the data, in evaluation mode."""
    order = pdo.group(group).order
    features = tuple(max(1, round(math.sqrt(8 / order) * f)) for f in FEATURES)
    model = networks.invariant_network(
        features, group, math.pi / order, **options, rngs=nnx.Rngs(seed)
    )
    images = jnp.asarray(parts()[0].images[:64])
    settle = jax.jit(lambda graph, state: _settled(graph, state, images), static_argnums=0)
    graph, state = nnx.split(model)
    for _ in range(SETTLE):
        state = settle(graph, state)
    nnx.update(model, state)
    model.eval()
    return model


def _settled(graph: Any, state: Any, images: jax.Array) -> Any:
    model = nnx.merge(graph, state)
    model(images)
    return nnx.state(model)


def train(
    model: networks.Classifier,
    label: str,
    *,
    epochs: int,
    seed: int,
    augmentation: str = "upright",
    evaluate: trainer.Evaluate | None = None,
    limit: int | None = None,
) -> trainer.Trained:
    """Train a network on upright digits, or on digits at all angles, with the demo's recipe."""
    part = datasets.take(parts()[0], slice(limit))
    return trainer.train(
        model,
        *part,
        recipes.Recipe(epochs=epochs),
        seed=seed,
        label=label,
        augment=AUGMENTATIONS[augmentation],
        evaluate=evaluate,
    )


def parts(degrees: float = 0.0) -> tuple[datasets.Part, datasets.Part]:
    """Return the training digits in two parts: to train on, and to measure on."""
    return datasets.split(digits.load(degrees)[0], HELD_OUT, seed=11)
