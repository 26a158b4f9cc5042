"""Tiny data sets in their published forms, written by the tests' own few lines."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image

AMAT = "mnist_all_rotation_normalized_float_{}.amat"


def idx(array):
    """IDX bytes of a uint8 array."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def write_mnist(folder, train, test, seed=0):
    """MNIST's four files with so many random digits; returns ((images, labels), (...))."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
        parts.append((images, labels))
    return parts


def amat(images, labels):
    """.amat text of images `(N, 784)` and labels."""
    rows = (
        " ".join(f"{p:.8g}" for p in image) + f" {label:.1f}\n"
        for image, label in zip(images, labels, strict=True)
    )
    return "".join(rows).encode()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def write_mnist_rot(folder, train, test, seed=0):
    """The rotated archive with so many images; returns ((images, labels), (...))."""
    rng = np.random.default_rng(seed)
    parts, members = [], {}
    for name, count in (("train_valid", train), ("test", test)):
        images, labels = rng.uniform(size=(count, 784)), rng.integers(0, 10, count)
        members[AMAT.format(name)] = amat(images, labels)
        parts.append((images, labels))
    write_zip(folder / "mnist_rotation_new.zip", members)
    return parts


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def cifar_records(images, *labels):
    """Records of images `(N, 32, 32, 3)`, with one label byte each for every array of labels."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(column[:, None] for column in labels), planes], 1).tobytes()


def write_cifar(folder, name, names, count, seed=0):
    """CIFAR-10 or 100 with so many images a file; returns the (images, labels) of every file."""
    rng = np.random.default_rng(seed)
    ten = name == "cifar10"
    inside = "cifar-10-batches-bin" if ten else "cifar-100-binary"
    files = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    parts, members = [], {}
    for file in files if ten else ["train.bin", "test.bin"]:
        images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        labels = rng.integers(0, len(names), count).astype(np.uint8)
        coarse = () if ten else (rng.integers(0, 20, count).astype(np.uint8),)
        members[f"{inside}/{file}"] = cifar_records(images, *coarse, labels)
        parts.append((images, labels))
    text = "batches.meta.txt" if ten else "fine_label_names.txt"
    members[f"{inside}/{text}"] = ("\n".join(names) + "\n\n").encode()
    write_tar(folder / f"cifar-{10 if ten else 100}-binary.tar.gz", members)
    return parts


def write_drive(folder, ids, shape, seed=0):
    """DRIVE's folders; returns (images, vessels, field of view) of every part."""
    rng = np.random.default_rng(seed)
    parts = {}
    for part, place in (("train", "training"), ("test", "test")):
        rows = []
        for kind in ("images", "1st_manual", "mask"):
            (folder / place / kind).mkdir(parents=True)
        for number in ids[part]:
            image = rng.integers(0, 256, (*shape, 3), np.uint8)
            vessels, field = rng.uniform(size=(2, *shape)) > 0.5
            stem = folder / place
            Image.fromarray(image).save(stem / "images" / f"{number:02d}_{place}.tif")
            for kind, name, region in (
                ("1st_manual", "manual1", vessels),
                ("mask", f"{place}_mask", field),
            ):
                path = stem / kind / f"{number:02d}_{name}.gif"
                Image.fromarray(region * np.uint8(255)).save(path)
            rows.append((image, vessels, field))
        parts[part] = [np.stack(arrays) for arrays in zip(*rows, strict=True)]
    return parts
