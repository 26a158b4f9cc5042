"""The rotated archive's text: what is in it comes out, and what is wrong with it is named."""

import io

import numpy as np
import pytest

from experiments.datasets import amat
from tests.experiments import published

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.uniform(size=(7, 784)), RNG.integers(0, 10, 7)
TEXT = published.amat(IMAGES, LABELS)


@pytest.mark.parametrize("rows", [3, 1000])  # read at once
def test_rows(rows, monkeypatch):
    monkeypatch.setattr(amat, "ROWS", rows)
    images, labels = amat.rows(io.BytesIO(TEXT), "x.amat")
    assert (images.shape, images.dtype, labels.dtype) == ((7, 28, 28, 1), np.float32, np.uint8)
    np.testing.assert_allclose(images.reshape(7, -1), IMAGES, rtol=1e-6)
    np.testing.assert_array_equal(labels, LABELS)


def test_members_of_an_archive(tmp_path):
    parts = published.write_mnist_rot(tmp_path, 4, 5)
    for name, (images, labels) in zip(("train_valid", "test"), parts, strict=True):
        archive = tmp_path / "mnist_rotation_new.zip"
        found = amat.member(archive, published.AMAT.format(name))
        np.testing.assert_allclose(found[0].reshape(len(images), -1), images, rtol=1e-6)
        np.testing.assert_array_equal(found[1], labels)


LINES = TEXT.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "rows of 785 numbers, but holds nothing"),
        (TEXT[: len(TEXT) - 100], "rows of 785 finite numbers, but holds [0-9]+ in row 7"),
        (b"".join([*LINES[:2], b"0.5 " + LINES[2]]), "785 finite numbers, but holds 786 in row 3"),
        (TEXT + b"\n", "785 finite numbers, but holds 0 in row 8"),
        (b"x" + TEXT, "785 finite numbers, but holds something else .*could not convert"),
        (b"nan " + TEXT.split(b" ", 1)[1], "but holds one that is not finite in row 1"),
        (published.amat(255 * IMAGES, LABELS), "pixels from 0 to 1, but holds others in row 1"),
        (published.amat(IMAGES, LABELS + 10), "labels from 0 to 9, but holds .* in row 1"),
        (published.amat(IMAGES, LABELS + 0.5), "labels from 0 to 9, but holds .*5 in row 1"),
    ],
)
def test_wrong_rows(text, message):
    with pytest.raises(ValueError, match=f"x.amat must hold .*{message}.*; get the archive again"):
        amat.rows(io.BytesIO(text), "x.amat")


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped"])
def test_not_a_zip_file(tmp_path, damage):
    published.write_mnist_rot(tmp_path, 4, 5)
    path = tmp_path / "mnist_rotation_new.zip"
    data = path.read_bytes()
    flipped = data[:2000] + bytes((data[2000] ^ 255,)) + data[2001:]
    path.write_bytes({"truncated": data[:-30], "text": b"<html>", "flipped": flipped}[damage])
    with pytest.raises(ValueError, match="new.zip must hold a whole zip file, but holds something"):
        amat.member(path, published.AMAT.format("train_valid"))


def test_a_member_that_is_missing(tmp_path):
    published.write_zip(tmp_path / "other.zip", {"readme.txt": b"hello"})
    message = "other.zip must hold the member train.amat, but holds readme.txt"
    with pytest.raises(ValueError, match=message):
        amat.member(tmp_path / "other.zip", "train.amat")
