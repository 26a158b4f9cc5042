"""DRIVE: forty photographs of the retina, with vessels marked by hand and the field of view.

Its licence allows no redistribution, and it is given out on registration only, so it is never
downloaded: everyone gets it at https://drive.grand-challenge.org and unpacks it into the folder of
the data, as

    DRIVE/training/{images, 1st_manual, mask}      21_training.tif, 21_manual1.gif, ... to 40
    DRIVE/test/{images, 1st_manual, mask}          01_test.tif, 01_manual1.gif, ... to 20

Source: J. Staal, M. D. Abramoff, M. Niemeijer, M. A. Viergever, B. van Ginneken, "Ridge-based
vessel segmentation in color images of the retina", IEEE Transactions on Medical Imaging, 2004.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.datasets.files import data_folder, malformed

FOLDER = "DRIVE"
SHAPE = (584, 565)
AGAIN = "get the file again"
IDS = {"train": range(21, 41), "test": range(1, 21)}
PLACES = {"train": "training", "test": "test"}


class Retinas(NamedTuple):
    """Images `(N, 584, 565, 3)` uint8; vessels and the field of view, `(N, 584, 565)` bool."""

    images: np.ndarray
    vessels: np.ndarray
    field_of_view: np.ndarray


def load(folder: str | os.PathLike[str] | None = None) -> tuple[Retinas, Retinas]:
    """Return the retinas to train with and those to test with, twenty each.

    Args:
        folder: that holds `DRIVE`; None for that of the environment variable PDO_JAX_DATA, or else
            ~/.cache/pdo_jax. What is prepared is kept in `folder`/prepared.

    Raises:
        FileNotFoundError: if a file of the data set is not there.
        ValueError: if it is not what it must be.
    """
    from experiments.datasets import builders, sources  # loads tensorflow-datasets

    builder = builders.prepared(sources.DRIVE, data_folder(folder), verify=True)
    parts = builders.arrays(builder)
    train, test = (
        Retinas(part["image"], part["vessels"], part["field_of_view"])
        for part in (parts["train"], parts["test"])
    )
    return train, test


def read(folder: Path, part: str) -> Retinas:
    """Return the retinas "train" or "test" from the published files.

    Args:
        folder: that holds `training` and `test`.
        part: of the data set.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if it is not a picture of its kind and size.
    """
    place = folder / PLACES[part]
    rows = []
    for number in IDS[part]:
        name = f"{number:02d}_{PLACES[part]}"
        rows.append(
            Retinas(
                _pixels(place / "images" / f"{name}.tif", "RGB"),
                _region(place / "1st_manual" / f"{number:02d}_manual1.gif"),
                _region(place / "mask" / f"{name}_mask.gif"),
            )
        )
    return Retinas(*(np.stack(arrays) for arrays in zip(*rows, strict=True)))


def _region(path: Path) -> np.ndarray:
    """Return the bright pixels of a picture of two colours."""
    pixels = _pixels(path, "L")
    values = np.unique(pixels)
    if len(values) > 2:
        raise malformed(path, "a picture of two colours", f"{len(values)} of them", AGAIN)
    return pixels == max(values[-1], 1)


def _pixels(path: Path, mode: str) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; register at https://drive.grand-challenge.org, and unpack the "
            f"data set so that {FOLDER}/training and {FOLDER}/test hold images, 1st_manual and "
            "mask (a release without the annotations of its test images is not enough)."
        )
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert(mode))
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, ValueError) as error:
        raise malformed(path, "a whole picture", f"something else ({error})", AGAIN) from error
    if pixels.shape[:2] != SHAPE:
        expected, found = (" x ".join(map(str, shape)) for shape in (SHAPE, pixels.shape[:2]))
        raise malformed(path, f"a picture of {expected} pixels", found, AGAIN)
    return pixels
