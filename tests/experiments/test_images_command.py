"""Pictures of one's own: how files are read, and the command that trains on a folder of them."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from experiments import evaluate, images, pictures, specs
from experiments.images import Config
from tests.experiments import tiny

RED = np.array([[[255, 0, 0]]], np.uint8)
NAMES = ("cats", "dogs", "owls")


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def half(height, width):
    """Return a grey picture that is white on the left."""
    array = np.zeros((height, width), np.uint8)
    array[:, : width // 2] = 255
    return array


@pytest.fixture
def folder(tmp_path):
    """Make a folder of pictures in many sizes and forms, three classes of twelve."""
    root = tmp_path / "animals"
    for i, level in enumerate(tiny.part(36).images):
        colours = np.repeat(np.repeat(level, 1 + i % 3, 0), 2, 1).repeat(3, -1)
        ending = ("png", "jpg", "bmp")[i // 3 % 3]
        save(root / NAMES[i % 3] / f"{i}.{ending}", colours)
    (root / "cats" / ".hidden").write_text("no picture")
    (root / "notes.txt").write_text("no class")
    return root


# ---------------------------------------------------------------------------------- reading files


def test_middle_is_cut_out_of_a_picture_that_is_not_square(tmp_path):
    wide = np.concatenate([np.full((8, 4), 10), half(8, 8), np.full((8, 4), 20)], 1)
    path = save(tmp_path / "wide.png", wide.astype(np.uint8))
    np.testing.assert_array_equal(pictures.read(path, (8, 8, 1))[..., 0], half(8, 8))


@pytest.mark.parametrize("size", [(4, 4), (30, 50), (64, 64)])
def test_pictures_are_scaled(tmp_path, size):
    path = save(tmp_path / "some.png", half(*size))
    found = pictures.read(path, (16, 16, 1))
    assert found.shape == (16, 16, 1) and found.dtype == np.uint8
    assert found[:, :4].min() > 240 and found[:, -4:].max() < 15


def test_colours_and_grey(tmp_path):
    path = save(tmp_path / "red.png", np.broadcast_to(RED, (8, 8, 3)).copy())
    np.testing.assert_array_equal(pictures.read(path, (8, 8, 3))[0, 0], [255, 0, 0])
    assert pictures.read(path, (8, 8, 1))[0, 0] == 76  # 0.299 of 255, as in ITU-R 601
    grey = save(tmp_path / "grey.png", half(8, 8))
    np.testing.assert_array_equal(pictures.read(grey, (8, 8, 3))[0, 0], [255, 255, 255])


def test_sixteen_bits_are_scaled(tmp_path):
    path = save(tmp_path / "deep.png", np.full((8, 8), 257 * 100, np.uint16))
    assert pictures.read(path, (8, 8, 1)).tolist() == np.full((8, 8, 1), 100).tolist()


def test_what_is_transparent_becomes_white(tmp_path):
    array = np.zeros((8, 8, 4), np.uint8)
    array[4:, :, 3] = 255
    found = pictures.read(save(tmp_path / "glass.png", array), (8, 8, 1))
    assert found[:4].min() == 255 and found[4:].max() == 0


def test_camera_says_how_it_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the left: the viewer turns it to the right
    path = save(tmp_path / "held.png", half(8, 8), exif=exif)
    found = pictures.read(path, (8, 8, 1))[..., 0]
    np.testing.assert_array_equal(found, np.rot90(half(8, 8), -1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no picture", "bad.png is not a picture in a known format"),
        (None, r"bad.png is damaged or cannot be read: .*truncated"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, content, message):
    path = tmp_path / "bad.png"
    if content is None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
        content = save(path, noise).read_bytes()[:2000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pictures.read(path, (8, 8, 1))


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"picture \(=.*none.png\) is not a file"):
        pictures.read(tmp_path / "none.png", (8, 8, 1))


# ------------------------------------------------------------------------------- folders of them


def test_folder_becomes_a_data_set(folder):
    data = Config(folder=folder, size=8, test=0.25).load()
    assert data.classes == NAMES
    assert data.train.images.shape == (27, 8, 8, 3) and data.train.images.dtype == np.uint8
    for part, count in ((data.train, 9), (data.test, 3)):
        np.testing.assert_array_equal(np.bincount(part.labels), [count] * 3)
        dark, grey, light = (part.images[part.labels == i].mean() for i in range(3))
        assert dark < grey < light


def test_unreadable_files_stop_or_are_left_out(folder, capsys):
    (folder / "cats" / "broken.png").write_text("no picture")
    config = Config(folder=folder, size=8, colour="grey")
    with pytest.raises(ValueError, match=r"(?s)1 of 37 files .* --skip-unreadable.*broken.png"):
        config.load()
    data = dataclasses.replace(config, skip_unreadable=True).load()
    assert len(data.train.labels) + len(data.test.labels) == 36
    assert "broken.png" in capsys.readouterr().out


def test_folders_without_classes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder \(=.*none\) is not there"):
        Config(folder=tmp_path / "none").load()
    save(tmp_path / "one" / "1.png", half(8, 8))
    with pytest.raises(ValueError, match=r"subfolder for each of two or more classes, .*\['one'\]"):
        Config(folder=tmp_path).load()
    save(tmp_path / "two" / "1.png", half(8, 8))
    with pytest.raises(ValueError, match=r"of every class for training and for the test, but"):
        Config(folder=tmp_path).load()
    (tmp_path / "three").mkdir()
    with pytest.raises(ValueError, match="three has no picture that can be read"):
        Config(folder=tmp_path).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, r"size \(=4\) must be at least 8"),
        ({"test": 1.0}, r"test \(=1.0\) must lie between 0 and 1"),
        ({"seeds": ()}, "seeds"),
    ],
)
def test_options_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        Config(folder="there", **options)


@pytest.mark.slow
def test_training_on_a_folder(folder, tmp_path, monkeypatch):
    tiny.install(monkeypatch)
    options = dict(network=tiny.NETWORK, training=tiny.RECIPE, elements="p4", size=8)
    config = Config(folder=folder, out=tmp_path / "run", colour="grey", **options)
    result = images.main(config)
    (stored,) = specs.find(tmp_path / "run")
    assert stored.spec.classes == NAMES and stored.spec.shape == (8, 8, 1)
    again = evaluate.main(evaluate.Config(run=tmp_path / "run", elements="p4"))
    assert [again[tiny.NETWORK][0]["error"]] == result.metrics[tiny.NETWORK]["error"]["seeds"]
    other = evaluate.main(evaluate.Config(run=tmp_path / "run", data=str(folder), elements="p4"))
    assert other[tiny.NETWORK][0]["error"] < 50
    with pytest.raises(ValueError, match=r"data_folder \(=there\) is for published data sets"):
        evaluate.main(evaluate.Config(run=tmp_path / "run", data_folder="there"))
    # One more picture, and the split is another: what was trained on would be tested on.
    save(folder / "cats" / "0.png", half(8, 8))
    with pytest.raises(ValueError, match="had other data: images were added"):
        evaluate.main(evaluate.Config(run=tmp_path / "run", elements="p4"))
