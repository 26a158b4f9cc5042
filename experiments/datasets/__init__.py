"""Published data sets as arrays.

    train, test = dataset.train, dataset.test           (N, H, W, C) uint8 and (N,) int32

`sources.py` lists them; the parsers (`idx`, `amat`, `cifar_binary`, `drive`) are plain functions;
`files.py` finds or downloads; `builders.py` prepares through tensorflow-datasets, once.
"""

from __future__ import annotations

import dataclasses
import os
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from experiments.datasets import drive as drive
from experiments.datasets import files, sources
from experiments.datasets.normalisation import Normalisation as Normalisation
from pdo_jax import _check

NAMES = tuple(sources.CLASSIFICATION)


class Part(NamedTuple):
    """Images `(N, H, W, C)`, uint8 if they are published, and labels `(N,)` int32."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: the name it was loaded by.
        train: to train with. Whatever is chosen or measured before the end comes from here.
        test: to test with, once.
        classes: their names, by label.
        published: whether it was made of files with the published checksums.
    """

    name: str
    train: Part
    test: Part
    classes: tuple[str, ...]
    published: bool = True


def load(name: str, folder: str | os.PathLike[str] | None = None, verify: bool = True) -> Dataset:
    """Return a data set; the first time it is downloaded, if need be, and prepared.

    The published files are looked for in `folder`, and else downloaded to it; what is prepared is
    kept in `folder`/prepared, and is found there without the files.

    Args:
        name: one of `NAMES`.
        folder: of the data; None for that of the environment variable PDO_JAX_DATA, or else
            ~/.cache/pdo_jax.
        verify: whether files that are in `folder` must have the published checksums.

    Returns:
        The data set. mnist_rot is published as numbers from 0 to 1, and comes as round(255 x).

    Raises:
        ValueError: if the name is not known, or a file is not what it must be.
        OSError: if a file is neither there nor can be downloaded.
    """
    source = sources.CLASSIFICATION[_check.choice("name", name, NAMES)]
    from experiments.datasets import builders  # loads tensorflow-datasets, which takes a while

    builder = builders.prepared(source, files.data_folder(folder), verify)
    parts = {
        part: Part(_bytes(arrays["image"]), arrays["label"].astype(np.int32))
        for part, arrays in builders.arrays(builder).items()
    }
    published = builders.published(builder)
    return Dataset(name, parts["train"], parts["test"], source.classes, published)


def take(part: Part, index: np.ndarray | slice) -> Part:
    """Return some of the images."""
    return Part(part.images[index], part.labels[index])


def split(part: Part, held_out: int, seed: int) -> tuple[Part, Part]:
    """Split a part in two, classes in equal shares: those that stay, and `held_out` others.

    Args:
        part: the images, such as all that are there to train with.
        held_out: how many are held out, to choose by.
        seed: of the choice.

    Raises:
        ValueError: if one of the two has fewer images than there are classes.
    """
    classes = len(np.unique(part.labels))
    most = len(part.labels) - classes
    if _check.integer("held_out", held_out, classes) > most:
        raise ValueError(
            f"held_out (={held_out}) must be at most {most}: of {len(part.labels):,} images at "
            f"least one of each of the {classes} classes stays; hold out fewer."
        )
    stay, leave = train_test_split(
        np.arange(len(part.labels)), test_size=held_out, stratify=part.labels, random_state=seed
    )
    return take(part, np.sort(stay)), take(part, np.sort(leave))


def _bytes(images: np.ndarray) -> np.ndarray:
    """Return images as uint8; those that are not are numbers from 0 to 1."""
    if images.dtype == np.uint8:
        return images
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
