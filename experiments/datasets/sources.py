"""The data sets: for each its files, how they are read, its classes, licence and citation.

A data set is one value here. What it becomes, arrays in a prepared folder, is in `builders.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.datasets import amat, cifar_binary, drive, idx, rotated
from experiments.datasets.files import Published

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as it is published.

    Attributes:
        name: the name it is loaded by.
        version: of what `read` returns; another version is prepared beside this one.
        files: the published files; none if everyone has to get a folder by hand.
        manual: the name of that folder.
        read: takes the paths of the files in their order, or that of the folder, to the arrays of
            every part.
        counts: how many images each part has.
        tensors: the shape and the dtype of every array of an image.
        classes: the names of the classes, by label; none if there are no labels.
        description: what it is, in a sentence.
        homepage: where it is described.
        licence: what its authors allow.
        citation: BibTeX.
    """

    name: str
    version: str
    read: Callable[[Sequence[Path]], dict[str, Arrays]]
    counts: Mapping[str, int]
    tensors: Mapping[str, tuple[tuple[int, ...], type[np.generic]]]
    description: str
    homepage: str
    licence: str
    citation: str
    files: tuple[Published, ...] = ()
    manual: str = ""
    classes: tuple[str, ...] = ()


DIGITS = tuple("0123456789")
TEN = "airplane automobile bird cat deer dog frog horse ship truck"
HUNDRED = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR10, CIFAR100 = tuple(TEN.split()), tuple(HUNDRED.split())
MNIST_LICENCE = (
    "Copyright Yann LeCun and Corinna Cortes; CC BY-SA 3.0, "
    "https://creativecommons.org/licenses/by-sa/3.0/"
)
CIFAR_LICENCE = (
    "None is stated. The authors ask that their technical report be cited; see the homepage."
)
CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR_HOSTS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://cave.cs.toronto.edu/kriz/",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
)
MNIST_HOSTS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
ROTATED_HOSTS = (
    "http://www.iro.umontreal.ca/~lisa/icml2007data/",
    "https://www.iro.umontreal.ca/~lisa/icml2007data/",
)

MNIST_CITATION = """\
@misc{lecun1998mnist,
  author = {LeCun, Yann and Cortes, Corinna and Burges, Christopher J. C.},
  title = {The {MNIST} database of handwritten digits},
  howpublished = {http://yann.lecun.com/exdb/mnist/},
  year = {1998},
}"""
ROTATED_CITATION = """\
@inproceedings{larochelle2007empirical,
  author = {Larochelle, Hugo and Erhan, Dumitru and Courville, Aaron and Bergstra, James and
            Bengio, Yoshua},
  title = {An empirical evaluation of deep architectures on problems with many factors of
           variation},
  booktitle = {International Conference on Machine Learning},
  year = {2007},
}"""
CIFAR_CITATION = """\
@techreport{krizhevsky2009learning,
  author = {Krizhevsky, Alex},
  title = {Learning multiple layers of features from tiny images},
  institution = {University of Toronto},
  year = {2009},
}"""

DRIVE_CITATION = """\
@article{staal2004ridge,
  author = {Staal, Joes and Abr{\\`a}moff, Michael D. and Niemeijer, Meindert and Viergever, Max A.
            and van Ginneken, Bram},
  title = {Ridge-based vessel segmentation in color images of the retina},
  journal = {IEEE Transactions on Medical Imaging},
  volume = {23},
  number = {4},
  pages = {501--509},
  year = {2004},
}"""


def _published(name: str, checksum: str, hosts: Sequence[str]) -> Published:
    return Published(name, checksum, tuple(host + name for host in hosts))


# The SHA-256 sums are those that tensorflow-datasets registers for its own builders.
MNIST_FILES = (
    _published(
        "train-images-idx3-ubyte.gz",
        "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        MNIST_HOSTS,
    ),
    _published(
        "train-labels-idx1-ubyte.gz",
        "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        MNIST_HOSTS,
    ),
    _published(
        "t10k-images-idx3-ubyte.gz",
        "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        MNIST_HOSTS,
    ),
    _published(
        "t10k-labels-idx1-ubyte.gz",
        "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        MNIST_HOSTS,
    ),
)


def _part(images: np.ndarray, labels: np.ndarray) -> Arrays:
    return {"image": images, "label": labels}


def _mnist(paths: Sequence[Path]) -> dict[str, Arrays]:
    return {"train": _part(*idx.digits(*paths[:2])), "test": _part(*idx.digits(*paths[2:]))}


def _mnist_rot(paths: Sequence[Path]) -> dict[str, Arrays]:
    name = "mnist_all_rotation_normalized_float_{}.amat"
    return {
        "train": _part(*amat.member(paths[0], name.format("train_valid"))),
        "test": _part(*amat.member(paths[0], name.format("test"))),
    }


def _mnist_rot_made(paths: Sequence[Path]) -> dict[str, Arrays]:
    parts = [idx.digits(*paths[:2]), idx.digits(*paths[2:])]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return {name: _part(*part) for name, part in rotated.make(images, labels).items()}


def _drive(paths: Sequence[Path]) -> dict[str, Arrays]:
    read = {part: drive.read(paths[0], part) for part in drive.IDS}
    return {
        part: {"image": images, "vessels": vessels, "field_of_view": field_of_view}
        for part, (images, vessels, field_of_view) in read.items()
    }


def _cifar(
    archive: Path, inside: Sequence[str], label_bytes: int, classes: Sequence[str]
) -> dict[str, Arrays]:
    """Read members of an archive: the files to train with, the one to test, the classes' names."""
    *data, text = cifar_binary.members(archive, inside)
    cifar_binary.names(text, f"{archive}/{inside[-1]}", classes)
    parts = [
        cifar_binary.records(block, f"{archive}/{name}", label_bytes, len(classes))
        for name, block in zip(inside[:-1], data, strict=True)
    ]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return {"train": _part(images, labels), "test": _part(*parts[-1])}


def _cifar10(paths: Sequence[Path]) -> dict[str, Arrays]:
    files = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "batches.meta.txt")
    return _cifar(paths[0], [f"cifar-10-batches-bin/{file}" for file in files], 1, CIFAR10)


def _cifar100(paths: Sequence[Path]) -> dict[str, Arrays]:
    files = ("train.bin", "test.bin", "fine_label_names.txt")
    return _cifar(paths[0], [f"cifar-100-binary/{file}" for file in files], 2, CIFAR100)


MNIST = Source(
    name="mnist",
    version="1.0.0",
    files=MNIST_FILES,
    read=_mnist,
    counts={"train": 60_000, "test": 10_000},
    tensors={"image": ((28, 28, 1), np.uint8)},
    classes=DIGITS,
    description="Handwritten digits.",
    homepage="http://yann.lecun.com/exdb/mnist/",
    licence=MNIST_LICENCE,
    citation=MNIST_CITATION,
)
MNIST_ROT = Source(
    name="mnist_rot",
    version="1.0.0",
    files=(
        _published("mnist_rotation_new.zip", "md5:0f9a947ff3d30e95cd685462cbf3b847", ROTATED_HOSTS),
    ),
    read=_mnist_rot,
    counts={"train": 12_000, "test": 50_000},
    tensors={"image": ((28, 28, 1), np.float32)},
    classes=DIGITS,
    description="MNIST's digits, turned by uniform angles: the published archive.",
    homepage="https://sites.google.com/a/lisa.iro.umontreal.ca/public_static_twiki/"
    "variations-on-the-mnist-digits",
    licence=f"None is stated. It is made from MNIST: {MNIST_LICENCE}",
    citation=ROTATED_CITATION,
)
MNIST_ROT_MADE = Source(
    name="mnist_rot_made",
    version="1.0.0",
    files=MNIST_FILES,
    read=_mnist_rot_made,
    counts={"train": rotated.TRAIN, "test": rotated.TEST},
    tensors={"image": ((28, 28, 1), np.uint8)},
    classes=DIGITS,
    description="MNIST's digits, turned by uniform angles: made from MNIST's files.",
    homepage=MNIST.homepage,
    licence=MNIST_LICENCE,
    citation=f"{MNIST_CITATION}\n{ROTATED_CITATION}",
)
CIFAR_10 = Source(
    name="cifar10",
    version="1.0.0",
    files=(
        _published(
            "cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            CIFAR_HOSTS,
        ),
    ),
    read=_cifar10,
    counts={"train": 50_000, "test": 10_000},
    tensors={"image": ((32, 32, 3), np.uint8)},
    classes=CIFAR10,
    description="Small photographs of ten classes.",
    homepage=CIFAR_HOME,
    licence=CIFAR_LICENCE,
    citation=CIFAR_CITATION,
)
CIFAR_100 = Source(
    name="cifar100",
    version="1.0.0",
    files=(
        _published(
            "cifar-100-binary.tar.gz",
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            CIFAR_HOSTS,
        ),
    ),
    read=_cifar100,
    counts={"train": 50_000, "test": 10_000},
    tensors={"image": ((32, 32, 3), np.uint8)},
    classes=CIFAR100,
    description="Small photographs of a hundred classes, by their fine labels.",
    homepage=CIFAR_HOME,
    licence=CIFAR_LICENCE,
    citation=CIFAR_CITATION,
)
DRIVE = Source(
    name="drive",
    version="1.0.0",
    manual=drive.FOLDER,
    read=_drive,
    counts={part: len(ids) for part, ids in drive.IDS.items()},
    tensors={
        "image": ((*drive.SHAPE, 3), np.uint8),
        "vessels": (drive.SHAPE, np.bool_),
        "field_of_view": (drive.SHAPE, np.bool_),
    },
    description="Photographs of the retina, their vessels and their field of view.",
    homepage="https://drive.grand-challenge.org",
    licence="For research and education, free of charge; no copying, no redistribution, no "
    "commercial use without permission. For those who got it from its authors.",
    citation=DRIVE_CITATION,
)
CLASSIFICATION = {
    source.name: source for source in (MNIST_ROT, MNIST_ROT_MADE, MNIST, CIFAR_10, CIFAR_100)
}
