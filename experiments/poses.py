"""Four tasks on digits for which the right amount of symmetry is known.

    turned        any digit, turned by any angle                  neither part of the pose matters
    six-or-nine   a 6 or a 9, turned by up to 45 degrees          the orientation does, roughly
    halves        any digit, turned by up to 45 degrees: which    the position does, and the
                  digit, and in which half of the image           orientation, roughly
    upright       any digit, upright                              the orientation does

Only in "turned" do all orientations count alike, so the least should be learned of them there.
Every digit keeps a margin: layers see the zeros beyond a border, and digits that come near one
would tell their half to a network that knows no positions. Scans are split once; every copy of a
scan has a pose of its own, drawn from a fixed seed. Scans are scikit-learn's 1,797, which need no
download; or MNIST's, in as many pixels, of which there are enough for as many images without
copies.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

from experiments import datasets
from experiments.datasets import Part, split
from experiments.digits import CLASSES, SPLIT_SEED, TEST

Source = Literal["scikit-learn", "mnist"]

SIZE = 16  # of an image, twice that of a scan
TRAIN = 957  # scans
VALIDATION = 300  # scans, to choose amounts by; the test part has `TEST`
FOLDS = (0, 1, 2)  # of MNIST's test digits
COPIES = {"train": 4, "validation": 8, "test": 8}
_SHIFT = 2.5  # pixels: a digit stays inside, and a pixel and a half from the border
_APART = 1.0  # pixels between the middle of a digit and the middle of the image, to either side


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of a network, and how the digits lie."""

    about: str
    """In words."""
    degrees: float
    """The largest angle, to both sides."""
    digits: tuple[int, ...] = tuple(range(CLASSES))
    """Those that occur, in the order of their classes."""
    halves: bool = False
    """Whether the class says the half of the image as well."""

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.digits) * (2 if self.halves else 1)


TASKS = {
    "turned": Task("all digits, turned by any angle", 180.0),
    "six-or-nine": Task("6 or 9, turned by up to 45 degrees", 45.0, (6, 9)),
    "halves": Task(
        "all digits, turned by up to 45 degrees, and the half of the image", 45.0, halves=True
    ),
    "upright": Task("all digits, upright", 0.0),
}


def load(
    task: Task,
    source: Source = "scikit-learn",
    folder: str | os.PathLike[str] | None = None,
    fold: int = 0,
) -> dict[str, Part]:
    """Return the images and labels of a task, by the parts "train", "validation" and "test".

    Images are `(N, 16, 16, 1)` float32, always the same ones; a scan is in one part alone.

    Args:
        task: one of `TASKS`.
        source: of the scans. Of MNIST's, those of its test set are in no other part.
        folder: of MNIST's files, as in `datasets.load`.
        fold: which test digits of MNIST's, one of `FOLDS`; the draws have none in common. Draws 0
            and 1 are from its test set, 2 from the digits of its training set that are left over.
    """
    if source == "mnist":
        parts, copies = _of_mnist(folder, fold), dict.fromkeys(COPIES, 1)
    else:
        parts, copies = _of_scikit_learn(), COPIES
    return {name: _posed(task, part, name, copies[name]) for name, part in parts.items()}


def _of_scikit_learn() -> dict[str, Part]:
    """Return all 1,797 scans, in [0, 1]."""
    scans, labels = load_digits(return_X_y=True)
    everything = Part(scans.reshape(-1, 8, 8) / 16.0, labels.astype(np.int32))
    rest, test = split(everything, TEST, SPLIT_SEED)
    train, validation = split(rest, VALIDATION, SPLIT_SEED)
    return {"train": train, "validation": validation, "test": test}


def _of_mnist(folder: str | os.PathLike[str] | None, fold: int) -> dict[str, Part]:
    """Return as many of MNIST's digits as the others are with their copies."""
    data = datasets.load("mnist", folder)
    counts = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    counts = {name: count * COPIES[name] for name, count in counts.items()}
    rest, validation = split(_reduced(data.train), counts["validation"], SPLIT_SEED)
    left, train = split(rest, counts["train"], SPLIT_SEED)
    source = left if fold == 2 else _reduced(data.test)
    rest, test = split(source, counts["test"], SPLIT_SEED)
    if fold == 1:
        _, test = split(rest, counts["test"], SPLIT_SEED)
    return {"train": train, "validation": validation, "test": test}


def _reduced(part: Part) -> Part:
    """Return digits in 8 x 8 pixels, in [0, 1]: means over 3 x 3, without a margin of two."""
    blocks = part.images[:, 2:-2, 2:-2, 0].reshape(-1, 8, 3, 8, 3)
    return Part(blocks.mean(axis=(2, 4)) / 255, part.labels)


def _posed(task: Task, scans: Part, part: str, copies: int) -> Part:
    """Return copies of the scans that occur, each in a pose of its own."""
    occur = np.isin(scans.labels, task.digits)
    # As many images whichever digits occur, so that all tasks take the same steps.
    index = np.tile(np.flatnonzero(occur), copies * CLASSES // len(task.digits))
    rng = np.random.default_rng(list(COPIES).index(part))
    degrees = rng.uniform(-task.degrees, task.degrees, len(index))
    right = rng.integers(0, 2, len(index))
    x = (2 * right - 1) * rng.uniform(_APART, _SHIFT, len(index))
    y = rng.uniform(-_SHIFT, _SHIFT, len(index))
    images = [_place(*pose) for pose in zip(scans.images[index], degrees, x, y, strict=True)]
    labels = np.searchsorted(task.digits, scans.labels[index])
    if task.halves:
        labels = labels + len(task.digits) * right
    return Part(np.asarray(images, np.float32)[..., None], labels.astype(np.int32))


def _place(scan: np.ndarray, degrees: float, x: float, y: float) -> np.ndarray:
    """Return an image with a scan at (x, y) from its middle, y up, turned counter-clockwise."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[cos, sin], [-sin, cos]])  # rows point down
    middle = (SIZE - 1) / 2 + np.array([-y, x])
    offset: Any = (len(scan) - 1) / 2 - matrix @ middle
    return ndimage.affine_transform(scan, matrix, offset, output_shape=(SIZE, SIZE), order=1)
