"""How a network is trained, as a value: every field becomes an option of the command line."""

from __future__ import annotations

import dataclasses

import optax


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, its learning rate rising and falling once."""

    epochs: int = 12
    """How often every training image is seen."""
    batch_size: int = 32
    """Images in one step; those left over at the end of an epoch wait for the next shuffle."""
    learning_rate: float = 1e-2
    """The largest learning rate."""
    warmup: float = 0.2
    """The share of all steps in which the learning rate rises to it, before it falls to 0."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    label_smoothing: float = 0.0
    """The probability that targets spread over all classes."""
    checkpoint_every: int = 0
    """Epochs between checkpoints; 0 keeps the last epoch alone."""

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch_size", 1), ("checkpoint_every", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} (={getattr(self, name)}) must be at least {least}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate (={self.learning_rate}) must be above 0.")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} (={getattr(self, name)}) must lie in [0, 1).")


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Return AdamW for so many steps an epoch; its rate rises from 0 and falls back to 0 once."""
    total = recipe.epochs * steps
    rising = round(recipe.warmup * total)
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, rising, total)
    return optax.adamw(rate, weight_decay=recipe.weight_decay)
