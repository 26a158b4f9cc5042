"""Train a classifier on your own folder of pictures, one subfolder a class.

    python -m experiments.images FOLDER --size 64
    python -m experiments.predict runs/images PICTURE

A fifth of every class is kept for the test. Pictures may have any size: they are scaled, and their
middle is cut out. By default the network is one whose answers do not change when pictures turn.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from experiments import classification, datasets, pictures, zoo
from experiments.augment import Augmentation
from experiments.datasets import Dataset
from experiments.recipes import Recipe
from experiments.results import Result

CHANNELS = {"colour": 3, "grey": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(classification.Config):
    """Options of `python -m experiments.images`."""

    experiment = "images"

    folder: tyro.conf.Positional[Path]
    """Of the pictures: a subfolder for each class, which gives it its name."""
    size: int = 64
    """Height and width of what the network sees, in pixels."""
    colour: Literal["colour", "grey"] = "colour"
    """Whether the network sees colours."""
    test: float = 0.2
    """The share of the pictures that is kept for the test, the same in every class."""
    skip_unreadable: bool = False
    """Go on without the files that cannot be read; they are named."""
    network: zoo.Name = "invariant_small"
    """Which network is trained."""
    training: classification.RecipeOptions = Recipe(
        epochs=40,
        batch_size=32,
        learning_rate=4e-3,
        schedule="one-cycle",
        label_smoothing=0.1,
        checkpoint_every=1,
    )
    """The same for all networks and seeds."""
    augmentation: Augmentation = Augmentation(shift=2.0, flip=True)
    """What happens to training images."""

    def __post_init__(self):
        super().__post_init__()
        if self.size < 8:
            raise ValueError(f"size (={self.size}) must be at least 8 pixels; pass --size 64.")
        if not 0 < self.test < 1:
            raise ValueError(f"test (={self.test}) must lie between 0 and 1; pass --test 0.2.")

    def load(self) -> Dataset:
        """Return the pictures of a folder, split into those for training and those for the test."""
        shape = (self.size, self.size, CHANNELS[self.colour])
        everything, classes = pictures.read_folder(
            self.folder, shape, skip_unreadable=self.skip_unreadable
        )
        counts = dict(zip(classes, np.bincount(everything.labels), strict=True))
        few = {name: count for name, count in counts.items() if count < 2}
        held_out = max(len(classes), round(self.test * len(everything.labels)))
        if few or held_out > len(everything.labels) - len(classes):
            raise ValueError(
                f"folder (={self.folder}) must have pictures of every class for training and "
                f"for the test, but has only {counts}; add pictures, or change test (={self.test})."
            )
        train, tests = datasets.split(everything, held_out, classification.SPLIT_SEED)
        return Dataset(self.folder.name, train, tests, classes)


def main(config: Config) -> Result:
    """Train and test the networks of a configuration; see `classification.run`."""
    return classification.run(config)


if __name__ == "__main__":
    classification.command(Config, __doc__)
