"""The binary form of CIFAR-10 and CIFAR-100: a tar.gz of files of records without a header.

    label bytes | 1,024 red | 1,024 green | 1,024 blue        each plane row by row, 32 x 32

CIFAR-10 has one label byte; CIFAR-100 has two, the coarse class and the fine one, which is ours.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.files import malformed

SIDE = 32
AGAIN = "get the archive again"


def members(archive: Path, names: Sequence[str]) -> list[bytes]:
    """Return files of a tar.gz archive, which is read once, from front to back.

    Raises:
        ValueError: if the archive is not a whole tar.gz file, or does not have them.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as opened:
            for entry in opened:
                file = opened.extractfile(entry) if entry.name in names else None
                if file is not None:
                    found[entry.name] = file.read()
            while unzipped.read(2**20):  # gzip compares its checksum at the very end
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise malformed(
            archive, "a whole tar.gz file", f"something else ({error})", AGAIN
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        present = ", ".join(found) or "none of its files"
        raise malformed(archive, f"the member {missing[0]}", present, AGAIN)
    return [found[name] for name in names]


def records(
    data: bytes, name: str, label_bytes: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of one file.

    Args:
        data: its bytes.
        name: of the file, for messages.
        label_bytes: how many bytes come before the pixels; the last of them is the label.
        classes: how many labels there are.

    Returns:
        Images `(N, 32, 32, 3)` and labels `(N,)`, both uint8, in the order of the file.

    Raises:
        ValueError: if the file is not a whole number of records, or a label is out of range.
    """
    size = label_bytes + 3 * SIDE**2
    if not data or len(data) % size:
        raise malformed(name, f"records of {size:,} bytes", f"{len(data):,} bytes in all", AGAIN)
    table = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = table[:, label_bytes - 1]
    if np.any(labels >= classes):
        raise malformed(name, f"labels from 0 to {classes - 1}", f"{labels.max()}", AGAIN)
    planes = table[:, label_bytes:].reshape(-1, 3, SIDE, SIDE)
    return planes.transpose(0, 2, 3, 1), labels


def names(data: bytes, name: str, expected: Sequence[str]) -> None:
    """Raise ValueError unless a file of class names, one a line, holds the expected ones."""
    found = tuple(data.decode("utf-8", "replace").split())
    if found != tuple(expected):
        raise malformed(name, " ".join(expected), " ".join(found) or "nothing", AGAIN)
