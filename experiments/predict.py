"""Say what is on a picture, with a network that was trained here.

    python -m experiments.predict runs/images photo.jpg

The picture is scaled, its middle is cut out, and it is made grey if the network was trained so. It
should look like those of the training: MNIST's digits are white on black, so a pen's need --invert.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tyro

from experiments import pictures, runs, specs, trainer
from experiments.tables import table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of `python -m experiments.predict`."""

    run: tyro.conf.Positional[Path]
    """The folder of a run, whose first network and seed is taken, or in its `checkpoints` the
    folder of a network or of a seed."""
    picture: tyro.conf.Positional[Path]
    """Of any size, in any format that Pillow reads."""
    top: int = 5
    """How many classes are shown, the likeliest first."""
    invert: bool = False
    """Exchange black and white first."""

    def __post_init__(self):
        if self.top < 1:
            raise ValueError(f"top (={self.top}) must be at least 1.")


def main(config: Config) -> dict[str, float]:
    """Print the likeliest classes; return the probabilities of all of them, by name."""
    stored = specs.find_classifiers(config.run)[0]
    spec = stored.spec
    image = pictures.read(config.picture, spec.shape)
    image = 255 - image if config.invert else image
    logits = trainer.logits(stored.restore(), image[None], normalise=spec.normalisation)[0]
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    likeliest = np.argsort(-shares, kind="stable")
    rows = [[spec.classes[i], f"{100 * shares[i]:.1f} %"] for i in likeliest[: config.top]]
    print(f"{config.picture}, by {stored.label}, seed {stored.seed}:")
    print(table([["class", "probability"], *rows]))
    return {spec.classes[i]: float(shares[i]) for i in likeliest}


if __name__ == "__main__":
    runs.command(main, Config, __doc__)
