"""MNIST's files: what is in them comes out, and what is wrong with them is named."""

import gzip
import re

import numpy as np
import pytest

from benchmarks.measures import signals
from experiments.datasets import idx
from tests.experiments import published


@pytest.fixture
def folder(tmp_path):
    published.write_mnist(tmp_path, 5, 3)
    return tmp_path


def paths(folder):
    return folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"


def test_digits_are_those_of_the_files(folder):
    (images, labels), _ = published.write_mnist(folder, 5, 3, seed=1)
    found = idx.digits(*paths(folder))
    np.testing.assert_array_equal(found[0], images[..., None])
    np.testing.assert_array_equal(found[1], labels)


def test_the_form_is_the_published_one(tmp_path):
    """Bytes by hand, as the page of MNIST describes them: they do not come from our writer."""
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x03\x07\x02\x01"))
    assert idx.array(path, 1).tolist() == [7, 2, 1]


def replaced(path, change):
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(change(data)))


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        (lambda data: b"\x00\x00\x08\x01" + data[4:], "magic number 00000803", "00000801"),
        (lambda data: b"", "magic number 00000803", "nothing"),
        (lambda data: data[:10], "a header of 16 bytes", "10"),
        (lambda data: data[:-1], "5 x 28 x 28 = 3,920 bytes after its header", "3,919"),
        (lambda data: data + b"\x00", "5 x 28 x 28 = 3,920 bytes after its header", "3,921"),
        (
            lambda data: data[:4] + np.array([5, 14, 56], ">u4").tobytes() + data[16:],
            "images of 28 x 28",
            "14 x 56",
        ),
    ],
)
def test_wrong_images(folder, change, expected, found):
    replaced(paths(folder)[0], change)
    message = f"train-images-idx3-ubyte.gz must hold .*{expected}, but holds {found}; get the file"
    with pytest.raises(ValueError, match=message):
        idx.digits(*paths(folder))


@pytest.mark.parametrize(
    ("labels", "expected", "found"),
    [
        (np.array([0, 1, 2, 10, 4], np.uint8), "labels from 0 to 9", "10"),
        (np.zeros(4, np.uint8), "5 labels, as many as train-images.* has images", "4"),
    ],
)
def test_wrong_labels(folder, labels, expected, found):
    paths(folder)[1].write_bytes(gzip.compress(published.idx(labels)))
    message = f"train-labels-idx1-ubyte.gz must hold {expected}, but holds {found}"
    with pytest.raises(ValueError, match=message):
        idx.digits(*paths(folder))


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped", "trailing"])
def test_not_gzip(folder, damage):
    path = paths(folder)[0]
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes((data[middle] ^ 255,)) + data[middle + 1 :]
    path.write_bytes(
        {
            "truncated": data[:middle],
            "text": b"<html>404</html>",
            "flipped": flipped,
            "trailing": data + b"more",
        }[damage]
    )
    message = f"{re.escape(str(path))} must hold a whole gzip file, but holds something else"
    with pytest.raises(ValueError, match=message):
        idx.digits(*paths(folder))


def test_the_benchmarks_read_the_same_digits(folder, tmp_path_factory):
    """From the published file, or from an archive of arrays."""
    (images, _), _ = published.write_mnist(folder, 5, 3)
    other = tmp_path_factory.mktemp("arrays")
    np.savez(other / "mnist.npz", train_images=images)
    place = np.zeros((1, 2))
    found = [[s.image(place) for s in signals.scans(4, 1, 2.0, data)] for data in (folder, other)]
    np.testing.assert_array_equal(*found)
    assert np.ptp(found[0]) > 0.1
