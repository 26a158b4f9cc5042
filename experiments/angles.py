"""How networks that were trained on upright digits are tested: at every 15 degrees, and at random.

No choice depends on any of these digits: not of a recipe, not of an epoch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pdo_jax as pdo
from experiments import datasets, digits, networks, trainer

DEGREES = tuple(range(0, 360, 15))


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out digits, all upright, and rotated copies of them."""

    upright: datasets.Part
    by_angle: tuple[datasets.Part, ...]
    """All of them turned by each of `DEGREES`."""
    random: datasets.Part
    """Two copies, each turned by an angle of its own; the first copies come first."""


def data(limit: int | None = None) -> tuple[datasets.Part, HeldOut]:
    """Return the upright training digits and everything that the networks are tested on."""
    train, test = (datasets.take(part, slice(limit)) for part in digits.load())
    turned = (datasets.Part(digits.rotate(test.images, d), test.labels) for d in DEGREES)
    return train, HeldOut(test, tuple(turned), digits.randomly_rotated(test, copies=2))


def measure(model: Any, tests: HeldOut, group: str) -> dict[str, Any]:
    """Return what is reported of a trained network; accuracies are shares."""
    by_angle = [trainer.accuracy(model, *turned) for turned in tests.by_angle]
    smooth = jnp.asarray(tests.upright.images[:64])
    errors = pdo.equivariance_error(jax.jit(model), smooth, group, output_kind="invariant")
    return {
        "parameters": networks.count_parameters(model),
        "upright": trainer.accuracy(model, *tests.upright),
        "random": trainer.accuracy(model, *tests.random),
        "worst_angle": min(by_angle),
        "by_angle": by_angle,
        "equivariance_error": np.asarray(errors).tolist(),
    }
