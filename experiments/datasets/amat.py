"""`.amat` text, the form of the rotated MNIST archive: a zip of two files, an image a row.

    p_1 p_2 ... p_784 label        pixels from 0 to 1, row by row of the image

Source: the data sets of H. Larochelle, D. Erhan, A. Courville, J. Bergstra, Y. Bengio, "An
empirical evaluation of deep architectures on problems with many factors of variation", ICML 2007.
"""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from experiments.datasets.files import malformed

SIDE = 28
CLASSES = 10
ROWS = 1000  # read at once
SWING = 1.0  # how far from 0.5 a pixel may be: an interpolation may swing beyond 0 and 1
AGAIN = "get the archive again"


def member(archive: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of one file of the archive.

    Args:
        archive: the zip file.
        name: of the `.amat` file in it.

    Returns:
        Images `(N, 28, 28, 1)` float32, as they are in the file, and labels `(N,)` uint8.

    Raises:
        ValueError: if the archive is not a whole zip file, has no such member, or a row is not 784
            pixels from 0 to 1 and a label from 0 to 9.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            if name not in opened.namelist():
                found = ", ".join(opened.namelist()) or "nothing"
                raise malformed(archive, f"the member {name}", found, AGAIN)
            with opened.open(name) as text:
                return rows(text, f"{archive}/{name}")
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise malformed(archive, "a whole zip file", f"something else ({error})", AGAIN) from error


def rows(text: IO[bytes], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of `.amat` text, as `member` does.

    Args:
        text: the open file.
        name: of the file, for messages.

    Raises:
        ValueError: as for `member`.
    """
    images, labels, count = [], [], 0
    while lines := list(itertools.islice(text, ROWS)):
        table = _table(lines, name, count)
        classes = table[:, -1]
        wrong = ~np.isin(classes, np.arange(CLASSES))
        if wrong.any():
            place = f"{classes[wrong][0]:g} in row {count + int(np.argmax(wrong)) + 1}"
            raise malformed(name, "labels from 0 to 9", place, AGAIN)
        outside = ~(np.abs(table[:, :-1] - 0.5) <= SWING).all(axis=1)
        if outside.any():
            place = f"others in row {count + int(np.argmax(outside)) + 1}"
            raise malformed(name, "pixels from 0 to 1", place, AGAIN)
        images.append(table[:, :-1].reshape(-1, SIDE, SIDE, 1))
        labels.append(classes.astype(np.uint8))
        count += len(table)
    if not count:
        raise malformed(name, f"rows of {SIDE**2 + 1} numbers", "nothing", AGAIN)
    return np.concatenate(images), np.concatenate(labels)


def _table(lines: Sequence[bytes], name: str, before: int) -> np.ndarray:
    """Return lines as numbers `(N, 785)`; `before` lines came before them."""
    expected = f"rows of {SIDE**2 + 1} finite numbers"
    for number, line in enumerate(lines, before + 1):
        if len(line.split()) != SIDE**2 + 1:
            raise malformed(name, expected, f"{len(line.split())} in row {number}", AGAIN)
    try:
        table = np.loadtxt(lines, np.float32, comments=None)
    except ValueError as error:
        raise malformed(name, expected, f"something else ({error})", AGAIN) from error
    table = table.reshape(len(lines), -1)
    if not np.isfinite(table).all():
        row = before + int(np.argmin(np.isfinite(table).all(1))) + 1
        raise malformed(name, expected, f"one that is not finite in row {row}", AGAIN)
    return table
