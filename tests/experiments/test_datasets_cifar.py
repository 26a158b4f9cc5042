"""CIFAR's archives: what is in them comes out, and what is wrong with them is named."""

import numpy as np
import pytest

from experiments.datasets import cifar_binary, sources
from tests.experiments import published

READ = {"cifar10": sources.CIFAR_10, "cifar100": sources.CIFAR_100}


def archive(folder, name):
    return folder / READ[name].files[0].name


@pytest.mark.parametrize("name", READ)
def test_images_are_those_of_the_archive(tmp_path, name):
    files = published.write_cifar(tmp_path, name, READ[name].classes, 3)
    parts = READ[name].read([archive(tmp_path, name)])
    expected = {"train": files[:-1], "test": files[-1:]}
    for part, pairs in expected.items():
        images, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        np.testing.assert_array_equal(parts[part]["image"], images)
        np.testing.assert_array_equal(parts[part]["label"], labels)


def test_the_form_is_the_published_one():
    """A record by hand: the label, then red, green and blue, each row by row."""
    red, green, blue = (np.full(1024, value, np.uint8) for value in (10, 20, 30))
    red[33] = 99  # row 1, column 1
    record = bytes((17, 5)) + red.tobytes() + green.tobytes() + blue.tobytes()
    images, labels = cifar_binary.records(record, "x.bin", 2, 100)
    assert labels.tolist() == [5]
    assert images[0, 1, 1].tolist() == [99, 20, 30]
    assert images[0, 1, 0].tolist() == [10, 20, 30]


def test_the_hundred_classes():
    assert len(set(sources.CIFAR100)) == 100
    assert sorted(sources.CIFAR100) == list(sources.CIFAR100)


IMAGES = np.zeros((2, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "records of 3,073 bytes, but holds 0 bytes in all"),
        (published.cifar_records(IMAGES, IMAGES[:, 0, 0, 0])[:-1], "but holds 6,145 bytes in all"),
        (
            published.cifar_records(IMAGES, np.array([0, 10], np.uint8)),
            "labels from 0 to 9, but holds 10",
        ),
    ],
)
def test_wrong_records(data, message):
    with pytest.raises(ValueError, match=f"x.bin must hold .*{message}; get the archive again"):
        cifar_binary.records(data, "x.bin", 1, 10)


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped"])
def test_not_an_archive(tmp_path, damage):
    published.write_cifar(tmp_path, "cifar10", sources.CIFAR10, 3)
    path = archive(tmp_path, "cifar10")
    data = path.read_bytes()
    flipped = data[:5000] + bytes((data[5000] ^ 255,)) + data[5001:]
    cut = data[: len(data) // 2]
    path.write_bytes({"truncated": cut, "text": b"<html>", "flipped": flipped}[damage])
    with pytest.raises(ValueError, match="tar.gz must hold .*, but holds .*; get the archive"):
        sources.CIFAR_10.read([path])


def test_a_member_that_is_missing(tmp_path):
    published.write_tar(archive(tmp_path, "cifar100"), {"cifar-100-binary/train.bin": b""})
    message = "must hold the member cifar-100-binary/test.bin, but holds cifar-100-binary/train.bin"
    with pytest.raises(ValueError, match=message):
        sources.CIFAR_100.read([archive(tmp_path, "cifar100")])


def test_classes_in_another_order(tmp_path):
    published.write_cifar(tmp_path, "cifar10", sources.CIFAR10[::-1], 3)
    message = "batches.meta.txt must hold airplane .*, but holds truck ship"
    with pytest.raises(ValueError, match=message):
        sources.CIFAR_10.read([archive(tmp_path, "cifar10")])
