"""DRIVE's folders: what is in them comes out, and what is wrong with them is named."""

import numpy as np
import pytest
from PIL import Image

from experiments.datasets import drive
from tests.experiments import published

IDS = {"train": range(21, 23), "test": range(1, 4)}
SHAPE = (12, 9)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "IDS", IDS)
    monkeypatch.setattr(drive, "SHAPE", SHAPE)
    tmp_path.joinpath("parts").mkdir()
    return tmp_path / "parts"


def test_retinas_are_those_of_the_files(folder):
    for part, expected in published.write_drive(folder, IDS, SHAPE).items():
        found = drive.read(folder, part)
        for array, other in zip(found, expected, strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def test_the_published_numbers():
    assert [list(ids)[::19] for ids in drive.IDS.values()] == [[21, 40], [1, 20]]
    assert drive.SHAPE == (584, 565)


def test_an_empty_region(folder):
    published.write_drive(folder, IDS, SHAPE)
    Image.new("L", SHAPE[::-1]).save(folder / "test" / "1st_manual" / "02_manual1.gif")
    assert not drive.read(folder, "test").vessels[1].any()


def test_a_missing_file(folder):
    published.write_drive(folder, IDS, SHAPE)
    (folder / "test" / "1st_manual" / "02_manual1.gif").unlink()
    message = "02_manual1.gif is missing; register at https://drive.grand-challenge.org"
    with pytest.raises(FileNotFoundError, match=message):
        drive.read(folder, "test")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "images/21_training.tif",
            lambda path: Image.new("RGB", (9, 9)).save(path),
            "a picture of 12 x 9 pixels, but holds 9 x 9",
        ),
        (
            "images/21_training.tif",
            lambda path: path.write_bytes(path.read_bytes()[:150]),
            "a whole picture, but holds something else",
        ),
        (
            "mask/22_training_mask.gif",
            lambda path: path.write_text("<html>"),
            "a whole picture, but holds something else",
        ),
        (
            "mask/22_training_mask.gif",
            lambda path: Image.linear_gradient("L").resize(SHAPE[::-1]).save(path),
            "a picture of two colours, but holds [0-9]+ of them",
        ),
    ],
)
def test_wrong_pictures(folder, name, change, message):
    published.write_drive(folder, IDS, SHAPE)
    change(folder / "training" / name)
    with pytest.raises(ValueError, match=f"{name} must hold {message}.*; get the file again"):
        drive.read(folder, "train")
