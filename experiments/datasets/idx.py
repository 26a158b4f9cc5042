"""IDX, the form of MNIST's files: gzip, a header of sizes, then bytes.

    0 0 8 n | n big-endian sizes of 32 bits | the bytes of an array of n axes

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from experiments.datasets.files import malformed

AGAIN = "get the file again"
CLASSES = 10


def digits(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's images `(N, 28, 28, 1)` and labels `(N,)`, both uint8, in their order.

    Raises:
        ValueError: if a file is not what it must be; it names file, expected and found.
    """
    pixels, classes = array(images, 3), array(labels, 1)
    if pixels.shape[1:] != (28, 28):
        raise malformed(images, "images of 28 x 28", " x ".join(map(str, pixels.shape[1:])), AGAIN)
    if len(pixels) != len(classes):
        expected = f"{len(pixels):,} labels, as many as {images.name} has images"
        raise malformed(labels, expected, f"{len(classes):,}", AGAIN)
    if np.any(classes >= CLASSES):
        raise malformed(labels, "labels from 0 to 9", f"{classes.max()}", AGAIN)
    return pixels[..., None], classes


def array(path: Path, ndim: int) -> np.ndarray:
    """Return the array of a gzipped IDX file of bytes.

    Args:
        path: the file.
        ndim: how many axes it must have.

    Raises:
        ValueError: if the file is not gzip, is truncated, has another magic number or number of
            axes, or more or fewer bytes than its header says.
    """
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise malformed(path, "a whole gzip file", f"something else ({error})", AGAIN) from error
    magic, start = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if data[:4] != magic:
        expected = f"an IDX array of bytes with {ndim} axes, magic number {magic.hex()}"
        raise malformed(path, expected, data[:4].hex() or "nothing", AGAIN)
    if len(data) < start:
        raise malformed(path, f"a header of {start} bytes", f"{len(data)}", AGAIN)
    sizes = struct.unpack(f">{ndim}I", data[4:start])
    expected = int(np.prod(sizes, dtype=np.uint64))
    if len(data) - start != expected:
        shape = " x ".join(map(str, sizes))
        raise malformed(
            path, f"{shape} = {expected:,} bytes after its header", f"{len(data) - start:,}", AGAIN
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)
