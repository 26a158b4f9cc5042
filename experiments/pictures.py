"""Picture files as the arrays that networks see, and folders of them as data sets.

FOLDER/cats/1.jpg, FOLDER/cats/2.png, FOLDER/dogs/1.jpg ...        one subfolder a class
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from experiments.datasets import Part

NAMED = 10  # unreadable files in an error message


def read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a picture in a given size: scaled, its middle cut out, in grey or in colour.

    A camera's note of how it was held is followed, and what is transparent becomes white.

    Args:
        path: of the file, in any format that Pillow reads.
        shape: height and width in pixels, and 1 channel for grey or 3 for colour.

    Returns:
        `shape` uint8.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no picture, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"picture (={path}) is not a file; pass the path of a picture.")
    try:
        with Image.open(path) as opened:
            picture = _opaque(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture in a known format.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged or cannot be read: {error}.") from error
    height, width, channels = shape
    picture = picture.convert("L" if channels == 1 else "RGB")
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.uint8).reshape(shape)


def read_folder(
    folder: Path,
    shape: tuple[int, int, int],
    *,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
) -> tuple[Part, tuple[str, ...]]:
    """Return all pictures of a folder with one subfolder a class.

        FOLDER/cats/1.jpg, FOLDER/cats/2.png, FOLDER/dogs/1.jpg ...

    Args:
        folder: of the subfolders, which give the classes their names; hidden files are left out.
        shape: what the pictures become, as in `read`.
        classes: the names that subfolders may have; None takes those that there are, in order.
        skip_unreadable: whether to go on without files that cannot be read, and name them.

    Returns:
        The pictures and their labels, and the names of the classes.

    Raises:
        FileNotFoundError: if the folder is not there.
        ValueError: if there are fewer than two classes, a class is empty, or files cannot be read.
    """
    files = _files(folder, classes)
    images, labels, unreadable = [], [], []
    paths = [(path, label) for label, name in enumerate(files) for path in files[name]]
    for path, label in tqdm(paths, desc=f"pictures of {folder.name}", leave=False):
        try:
            images.append(read(path, shape))
            labels.append(label)
        except ValueError as error:
            unreadable.append(str(error))
    if unreadable:
        words = "\n".join(["", *unreadable[:NAMED], *(["..."] if unreadable[NAMED:] else [])])
        if not skip_unreadable:
            raise ValueError(
                f"{len(unreadable)} of {len(paths)} files in {folder} cannot be read; remove them, "
                f"or pass --skip-unreadable to go on without them:{words}"
            )
        print(f"Left out {len(unreadable)} of {len(paths)} files, which cannot be read:{words}")
    for label, name in enumerate(files):
        if label not in labels and (classes is None or not labels):
            raise ValueError(
                f"{folder / name} has no picture that can be read; add some, or remove the folder."
            )
    return Part(np.stack(images), np.asarray(labels, np.int32)), tuple(files)


def _opaque(picture: Image.Image) -> Image.Image:
    """Return a picture with 8 bits a channel, on white where it was transparent."""
    if picture.mode.startswith("I"):  # 16 bits, which `convert` would cut off instead of scaling
        return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.copy()
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _files(folder: Path, classes: Sequence[str] | None) -> dict[str, list[Path]]:
    """Return the files of every class."""
    if not folder.is_dir():
        raise FileNotFoundError(f"folder (={folder}) is not there; pass a folder of pictures.")
    found = {
        sub.name: sorted(path for path in sub.rglob("*") if path.is_file() and _visible(path))
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and _visible(sub)
    }
    if classes is not None:
        if set(found) - set(classes):
            raise ValueError(
                f"folder (={folder}) has subfolders {sorted(set(found) - set(classes))}, which are "
                f"none of the classes {sorted(classes)}; rename or remove them."
            )
        return {name: found.get(name, []) for name in classes}
    if len(found) < 2:
        raise ValueError(
            f"folder (={folder}) must have a subfolder for each of two or more classes, but has "
            f"{sorted(found)}; sort the pictures into such folders."
        )
    return found


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")
