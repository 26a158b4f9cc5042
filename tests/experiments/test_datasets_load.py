"""From published files to arrays: prepared once, in the order of the files, without TensorFlow."""

import dataclasses
import json
import shutil
import socket
import sys

import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import builders, drive, rotated, sources
from tests.experiments import published

COUNTS = {"train": 5, "test": 3}
MNIST = published.write_mnist
ROTATED = published.write_mnist_rot


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let data sets have as many images as the tests write."""
    for name, source in sources.CLASSIFICATION.items():
        counts = {"train": 10, "test": 2} if name == "cifar10" else COUNTS
        monkeypatch.setitem(
            sources.CLASSIFICATION, name, dataclasses.replace(source, counts=counts)
        )
    monkeypatch.setattr(rotated, "TRAIN", 5)
    monkeypatch.setattr(rotated, "TEST", 3)


def same(part, images, labels):
    np.testing.assert_array_equal(part.images, images)
    np.testing.assert_array_equal(part.labels, labels)
    assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)


def test_mnist_is_prepared_once_and_found_again(tmp_path, monkeypatch):
    (train, test) = MNIST(tmp_path, 5, 3)
    monkeypatch.setenv("PDO_JAX_DATA", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", None)  # nothing is asked of the network
    dataset = datasets.load("mnist", verify=False)
    same(dataset.train, train[0][..., None], train[1])
    same(dataset.test, test[0][..., None], test[1])
    assert (dataset.name, dataset.classes[3], dataset.published) == ("mnist", "3", False)
    for file in tmp_path.glob("*.gz"):
        file.unlink()
    again = datasets.load("mnist")
    same(again.train, dataset.train.images, dataset.train.labels)
    assert not again.published
    assert "tensorflow" not in sys.modules


def test_what_is_prepared_says_where_it_comes_from(tmp_path):
    MNIST(tmp_path, 5, 3)
    datasets.load("mnist", tmp_path, verify=False)
    folder = tmp_path / "prepared" / "mnist" / "1.0.0"
    told = json.loads((folder / "dataset_info.json").read_text())
    assert "lecun1998mnist" in told["citation"]
    assert told["redistributionInfo"]["license"].startswith("Copyright Yann LeCun")
    assert told["fileFormat"] == "array_record"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["files"]["t10k-labels-idx1-ubyte.gz"].startswith("sha256:")
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["mnist"]
    import tensorflow_datasets as tfds

    read = tfds.builder_from_directory(folder).as_data_source(split="train")
    assert read[0]["image"].shape == (28, 28, 1)
    every = [*sources.CLASSIFICATION.values(), sources.DRIVE]
    assert all(s.licence and s.citation and s.homepage and s.description for s in every)


def test_mnist_rot_is_rounded_to_bytes(tmp_path):
    parts = ROTATED(tmp_path, 5, 3)
    dataset = datasets.load("mnist_rot", tmp_path, verify=False)
    for part, (images, labels) in zip((dataset.train, dataset.test), parts, strict=True):
        same(part, np.rint(255 * images.astype(np.float32)).reshape(-1, 28, 28, 1), labels)


def test_pixels_slightly_outside(tmp_path):
    text = published.amat(np.array([[-0.01, 1.02] * 392] * 5), np.zeros(5))
    names = [published.AMAT.format(part) for part in ("train_valid", "test")]
    members = dict(zip(names, (text, text[: 3 * len(text) // 5]), strict=True))
    published.write_zip(tmp_path / "mnist_rotation_new.zip", members)
    found = datasets.load("mnist_rot", tmp_path, verify=False).train.images
    assert np.unique(found).tolist() == [0, 255]


def test_mnist_rot_made(tmp_path):
    parts = MNIST(tmp_path, 6, 4)
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    expected = rotated.make(images[..., None], labels)
    dataset = datasets.load("mnist_rot_made", tmp_path, verify=False)
    same(dataset.train, *expected["train"])
    same(dataset.test, *expected["test"])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, name):
    source = sources.CLASSIFICATION[name]
    written = published.write_cifar(tmp_path, name, source.classes, 2)
    if name == "cifar100":
        counts = {"train": 2, "test": 2}
        sources.CLASSIFICATION[name] = dataclasses.replace(source, counts=counts)
    dataset = datasets.load(name, tmp_path, verify=False)
    images, labels = (np.concatenate(arrays) for arrays in zip(*written[:-1], strict=True))
    same(dataset.train, images, labels)
    same(dataset.test, *written[-1])
    assert dataset.classes == source.classes


def test_drive(tmp_path, monkeypatch):
    ids, shape = {"train": range(21, 23), "test": range(1, 4)}, (12, 9)
    monkeypatch.setattr(drive, "IDS", ids)
    monkeypatch.setattr(drive, "SHAPE", shape)
    tensors = {
        name: ((*shape, *full[2:]), dtype) for name, (full, dtype) in sources.DRIVE.tensors.items()
    }
    counts = {part: len(numbers) for part, numbers in ids.items()}
    monkeypatch.setattr(
        sources, "DRIVE", dataclasses.replace(sources.DRIVE, tensors=tensors, counts=counts)
    )
    expected = published.write_drive(tmp_path / "DRIVE", ids, shape)
    for found, part in zip(drive.load(tmp_path), ("train", "test"), strict=True):
        for array, other in zip(found, expected[part], strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def test_wrong_checksum_prepares_nothing(tmp_path):
    MNIST(tmp_path, 5, 3)
    with pytest.raises(ValueError, match="ubyte.gz must hold the published file, sha256:.*verify"):
        datasets.load("mnist", tmp_path)
    assert not list((tmp_path / "prepared").rglob("*.array_record*"))


def test_another_number_of_images(tmp_path):
    MNIST(tmp_path, 5, 4)
    message = "t10k-labels-idx1-ubyte.gz must hold 3 images to test, but holds 4"
    with pytest.raises(ValueError, match=message):
        datasets.load("mnist", tmp_path, verify=False)
    assert not list(tmp_path.rglob("dataset_info.json"))


def test_interrupted_preparation(tmp_path, monkeypatch):
    (train, _) = MNIST(tmp_path, 5, 3)

    def interrupted(self, part):
        yield 0, {key: array[0] for key, array in part.items()}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builders.Builder, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load("mnist", tmp_path, verify=False)
    assert not list(tmp_path.rglob("dataset_info.json"))
    same(datasets.load("mnist", tmp_path, verify=False).train, train[0][..., None], train[1])


def test_prepared_by_another_process_in_the_meantime(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (train, _) = MNIST(tmp_path / "other", 5, 3)
    shutil.copytree(tmp_path / "other", tmp_path / "here")
    datasets.load("mnist", tmp_path / "other", verify=False)

    def overtaken(self, part):
        target = tmp_path / "here" / "prepared" / "mnist" / "1.0.0"
        if not target.exists():
            shutil.copytree(tmp_path / "other" / "prepared" / "mnist" / "1.0.0", target)
        yield 0, {key: array[0] for key, array in part.items()}

    monkeypatch.setattr(builders.Builder, "_generate_examples", overtaken)
    dataset = datasets.load("mnist", tmp_path / "here", verify=False)
    same(dataset.train, train[0][..., None], train[1])


def test_prepared_files_that_are_damaged(tmp_path):
    MNIST(tmp_path, 5, 3)
    datasets.load("mnist", tmp_path, verify=False)
    shard = next((tmp_path / "prepared").rglob("mnist-test*"))
    shard.write_bytes(shard.read_bytes()[:40])
    message = "1.0.0 must hold 3 images in its part 'test', but holds .*; delete that folder"
    with pytest.raises(ValueError, match=message):
        datasets.load("mnist", tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(
        ValueError, match="name .*'minst'.* is not known; choose one of 'mnist_rot'"
    ):
        datasets.load("minst", tmp_path)
