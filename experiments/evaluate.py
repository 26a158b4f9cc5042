"""Measure trained networks again, from the folder of their run alone.

    python -m experiments.evaluate runs/mnist_rot
    python -m experiments.evaluate runs/mnist_rot/checkpoints/mnist_rot/seed-0 --data mnist_rot_made

Without --data it measures what the run reported: on the test set, or with --validate on the images
that were held out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from experiments import cifar, classification, datasets, images, mnist_rot, pictures, runs, specs
from experiments.classification import Probes
from experiments.datasets import Part
from experiments.specs import Stored

CONFIGS = {kind.experiment: kind for kind in (mnist_rot.Config, cifar.Config, images.Config)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of `python -m experiments.evaluate`."""

    run: tyro.conf.Positional[Path]
    """The folder of a run, or in its `checkpoints` the folder of a network or of a seed."""
    data: str | None = None
    """Other data to measure on: the test part of a data set, by its name, or a folder of pictures
    with a subfolder for each class."""
    data_folder: Path | None = None
    """Where the files of a data set are or go; by default PDO_JAX_DATA, or ~/.cache/pdo_jax."""
    verify: bool = True
    """Whether files that are there already must have the published checksums."""
    elements: str = "p8"
    """The group for whose elements the change of the logits is measured."""


def main(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Print the table and return, by network, what was measured of every seed."""
    stored = specs.find_classifiers(config.run)
    tests, words = _data(config, stored[0])
    probes = Probes.of(tests.images[: classification.PROBES], config.elements)
    reports: dict[str, list[dict[str, Any]]] = {}
    for one in stored:
        found = classification.report(one.restore(), tests, one.spec.normalisation, probes)
        reports.setdefault(one.label, []).append(found)
    print(f"{len(tests.labels):,} images")
    print(classification.table(reports, words))
    return reports


def _data(config: Config, stored: Stored) -> tuple[Part, str]:
    """Return the images to measure on, in the size that the network knows, and a word for them."""
    spec, words = stored.spec, "test"
    if config.data is None:
        given = specs.read(CONFIGS[spec.experiment], stored.run / runs.CONFIG)
        if isinstance(given, classification.Published):
            folder = config.data_folder or given.data_folder
            verify = config.verify and given.verify
            given = dataclasses.replace(given, data_folder=folder, verify=verify)
        elif config.data_folder is not None:
            raise ValueError(
                f"data_folder (={config.data_folder}) is for published data sets, but this run "
                f"used the pictures in {given.folder}; pass --data with another folder of pictures."
            )
        train, tests = classification.parts(given, given.load())
        classification.check_data(stored.run, train, tests)
        words = given.measured_on
    elif Path(config.data).is_dir():
        tests, _ = pictures.read_folder(Path(config.data), spec.shape, classes=spec.classes)
    else:
        loaded = datasets.load(config.data, config.data_folder, config.verify)
        if loaded.classes != spec.classes:
            raise ValueError(
                f"data (={config.data}) has the classes {_few(loaded.classes)}, but "
                f"{stored.label} knows {_few(spec.classes)}; pass data of those classes."
            )
        tests = loaded.test
    if tests.images.shape[1:] != spec.shape:
        raise ValueError(
            f"data (={config.data}) has images of shape {tests.images.shape[1:]}, but "
            f"{stored.label} was trained on {spec.shape}; pass data of that shape."
        )
    return tests, words


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


if __name__ == "__main__":
    runs.command(main, Config, __doc__)
