"""How a network is trained, as a value: every field becomes an option of the command line."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import optax


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: optimiser, learning rates, regularisation, averaging."""

    epochs: int = 12
    """How often every training image is seen."""
    batch_size: int = 32
    """Images in one step; those left over at the end of an epoch wait for the next shuffle."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or gradient descent with Nesterov's momentum of 0.9."""
    learning_rate: float = 1e-2
    """The largest learning rate ("step": the one that `factors` multiply)."""
    schedule: Literal["cosine", "one-cycle", "step", "constant"] = "cosine"
    """"cosine" rises from 0 and falls to 0; "one-cycle" rises from 1/25 and falls to 1/10,000 of
    that; "step" is constant between `milestones`."""
    warmup: float = 0.2
    """The share of all steps in which the rate of "cosine" and "one-cycle" rises."""
    milestones: tuple[float, ...] = ()
    """The epochs at which the rate of "step" changes."""
    factors: tuple[float, ...] = (1.0,)
    """What `learning_rate` is multiplied by before, between and after the milestones."""
    weight_decay: float = 1e-2
    """On the free weights of convolutions and linear layers; norms and biases do not decay."""
    decay: Literal["decoupled", "coupled"] = "decoupled"
    """"decoupled" shrinks the weights beside the step, in proportion to its rate; "coupled" is an
    L2 penalty of weight_decay / 2 in the loss, which the optimiser sees."""
    label_smoothing: float = 0.0
    """The probability that targets spread over all classes."""
    penalty: float = 0.0
    """Of relaxed layers: the strength of the prior on their amounts. The loss grows by so many
    times `pdo_jax.nn.equivariance_penalty`, whose value is in the curve where this is above 0."""
    ema: float = 0.0
    """Evaluate an exponential moving average of the weights that keeps this share a step; 0 for
    the weights themselves."""
    accumulate: int = 1
    """Steps whose gradients are averaged before the weights move."""
    checkpoint_every: float = 0.0
    """Epochs, or parts of one, between checkpoints; 0 keeps the end alone."""

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} (={getattr(self, name)}) must be at least {least}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate (={self.learning_rate}) must be above 0.")
        for name in ("weight_decay", "penalty", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} (={getattr(self, name)}) must not be negative; pass 0.")
        for name in ("warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} (={getattr(self, name)}) must lie in [0, 1).")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones (={self.milestones}) must be increasing epochs.")
        if len(self.factors) != len(self.milestones) + 1:
            raise ValueError(
                f"factors (={self.factors}) must be one more than the {len(self.milestones)} "
                "milestones; pass one for each stretch of epochs."
            )


@functools.cache  # so that models of one kind with their optimisers are equal, and share a program
def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Return the optimiser of a recipe for so many steps an epoch."""
    moments = {
        "adam": optax.scale_by_adam(),
        "sgd": optax.trace(decay=0.9, nesterov=True),
    }[recipe.optimizer]
    decay = optax.add_decayed_weights(recipe.weight_decay, mask=_decaying)
    parts = (decay, moments) if recipe.decay == "coupled" else (moments, decay)
    whole = optax.chain(*parts, optax.scale_by_learning_rate(learning_rate(recipe, steps)))
    if recipe.accumulate == 1:
        return whole
    return optax.MultiSteps(whole, recipe.accumulate).gradient_transformation()


def learning_rate(recipe: Recipe, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the number of updates, `steps` an epoch."""
    schedule = _schedule(recipe, steps)

    def rate(count: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with its integer counter
            return schedule(count)

    return rate


def _schedule(recipe: Recipe, steps: int) -> optax.Schedule:
    updates = steps / recipe.accumulate  # an epoch
    total = max(1, round(recipe.epochs * updates))
    peak = recipe.learning_rate
    match recipe.schedule:
        case "cosine":
            rising = min(round(recipe.warmup * total), total - 1)  # something is left to fall
            return optax.warmup_cosine_decay_schedule(0.0, peak, rising, total)
        case "one-cycle":
            return optax.cosine_onecycle_schedule(total, peak, recipe.warmup)
        case "step":
            stretches = [optax.constant_schedule(peak * factor) for factor in recipe.factors]
            return optax.join_schedules(stretches, [round(m * updates) for m in recipe.milestones])
        case _:
            return optax.constant_schedule(peak)


def _decaying(parameters: Any) -> Any:
    """Say of every parameter whether it decays: the free weights, which layers call `kernel`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(getattr(key, "key", None) == "kernel" for key in path), parameters
    )
