"""tensorflow-datasets' side of the data sets: prepare once, then read. TensorFlow is not needed.

One builder serves all of them. It finds the files of a `Source`, lets its parser read them, and
writes what comes out as array_record files with licence, citation and class names into

    FOLDER/prepared/NAME/VERSION

where `tfds.builder_from_directory` reads it as well. The folder gets its name at the end: a
preparation that is interrupted leaves nothing that looks complete.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.datasets import files
from experiments.datasets.sources import Arrays, Source

PREPARED = "prepared"


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The builder of one data set.

    Args:
        source: the data set.
        folder: of its files, and of the prepared folder.
        verify: whether a file in the folder must have the published checksum.
    """

    def __init__(self, source: Source, folder: Path, verify: bool = True) -> None:
        self.source, self.folder, self.verify = source, folder, verify
        self.name = source.name  # pyright: ignore[reportAttributeAccessIssue]
        self.VERSION = tfds.core.Version(source.version)
        super().__init__(data_dir=folder / PREPARED, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        source = self.source
        features: dict[str, Any] = {  # as lists of numbers they would take six times as long
            name: tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")
            for name, (shape, dtype) in source.tensors.items()
        }
        if source.classes:
            features["label"] = tfds.features.ClassLabel(names=source.classes)
        return tfds.core.DatasetInfo(
            builder=self,
            description=source.description,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # the order of the files
            homepage=source.homepage,
            citation=source.citation,
            license=source.licence,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        source = self.source
        found = [files.find(file, self.folder, self.verify) for file in source.files]
        paths = [file.path for file in found] or [self.folder / source.manual]
        parts = source.read(paths)
        for name, count in source.counts.items():
            images = len(parts[name]["image"])
            if images != count:
                place = ", ".join(map(str, paths))
                expected = f"{count:,} images to {name}"
                raise files.malformed(place, expected, f"{images:,}", "get the files again")
        self.info.metadata.update(  # pyright: ignore[reportOptionalMemberAccess]
            published=bool(found) and all(file.published for file in found),
            files={file.path.name: file.checksum for file in found},
        )
        return {name: self._generate_examples(part) for name, part in parts.items()}

    def _generate_examples(self, part: Arrays) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(len(part["image"])):
            yield i, {key: array[i] for key, array in part.items()}


def prepared(source: Source, folder: Path, verify: bool) -> Builder:
    """Return the builder of a data set that is prepared, which is done first if it is not."""
    builder = Builder(source, folder, verify)
    if _complete(builder):
        return builder
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    with (
        tempfile.TemporaryDirectory() as unused,  # tfds' own downloads: there are none
        contextlib.redirect_stdout(sys.stderr),  # where it tells what it does
    ):
        try:
            builder.download_and_prepare(download_dir=unused, download_config=config)
        except OSError:
            if not _complete(builder):  # by another process, in the meantime
                raise
    return Builder(source, folder, verify)


def published(builder: Builder) -> bool:
    """Return whether a prepared data set was made of files with the published checksums."""
    return bool((builder.info.metadata or {})["published"])


def arrays(builder: Builder) -> dict[str, Arrays]:
    """Return the arrays of every part of a prepared data set, in the order of its files.

    Raises:
        ValueError: if they cannot be read, or are not all there.
    """
    parts = {}
    for name, count in builder.source.counts.items():
        rows = _rows(builder, name, count)
        parts[name] = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return parts


def _complete(builder: Builder) -> bool:
    return (builder.data_path / "dataset_info.json").exists()


def _rows(builder: Builder, name: str, count: int) -> list[dict[str, Any]]:
    try:
        source = builder.as_data_source(split=name)  # pyright: ignore[reportCallIssue]
        if len(source) == count:
            return source.__getitems__(list(range(count)))
        found = f"{len(source):,} images"
    except Exception as error:  # array_record and tfds raise many kinds, none of their own
        found = f"files that cannot be read ({type(error).__name__}: {error})"
    raise files.malformed(
        builder.data_dir,
        f"{count:,} images in its part {name!r}",
        found,
        "delete that folder, and it is prepared again",
    )
