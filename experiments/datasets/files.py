"""Find a published file in a folder, or download it from one of its mirrors.

What is downloaded is written under a temporary name and gets its own when its checksum is right:
the folder never holds half a file, or a wrong one, under the published name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from pdo_jax import _files

VARIABLE = "PDO_JAX_DATA"  # of the environment: the folder of the data
TIMEOUT = 30  # seconds without a byte, after which a mirror counts as dead
BLOCK = 2**20  # bytes read at once


@dataclasses.dataclass(frozen=True)
class Published:
    """A file as its authors published it.

    Attributes:
        name: of the file.
        checksum: `"algorithm:hexadecimal digits"`, the algorithm one of `hashlib`.
        mirrors: the addresses that have it, in the order in which they are tried.
    """

    name: str
    checksum: str
    mirrors: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Found:
    """A file that was found: where, its checksum, and whether that is the published one."""

    path: Path
    checksum: str
    published: bool


class _Unusable(Exception):
    """What a mirror gave is not the file."""


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return a folder as it is; for None that of PDO_JAX_DATA, or else ~/.cache/pdo_jax."""
    return Path(folder or os.environ.get(VARIABLE) or "~/.cache/pdo_jax").expanduser()


def find(file: Published, folder: Path, verify: bool = True) -> Found:
    """Return a published file: the one in the folder, or else one that is downloaded to it.

    Args:
        file: what to find.
        folder: where it is, or will be.
        verify: whether a file that is in the folder must have the published checksum. What is
            downloaded must have it anyway.

    Raises:
        ValueError: if the file in the folder has another checksum.
        OSError: if no mirror has the file, or the folder cannot be written.
    """
    path = folder / file.name
    if not path.exists():
        download(file, path)
        return Found(path, file.checksum, published=True)
    found = checksum(path, file.checksum.partition(":")[0])
    if verify and found != file.checksum:
        raise malformed(
            path,
            f"the published file, {file.checksum}",
            f"{found} in {path.stat().st_size:,} bytes",
            "delete it, and it is downloaded; or pass verify=False if it is another archive of "
            "the same form, and meant",
        )
    return Found(path, found, published=found == file.checksum)


def download(file: Published, path: Path) -> None:
    """Download a file to `path` from the first mirror that gives the right bytes.

    Raises:
        OSError: if none does; it says what each of them gave.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    algorithm = file.checksum.partition(":")[0]
    answers = []
    for url in file.mirrors:
        try:
            with _files.replacing(path, overwrite=True) as temporary:
                _copy(_received(url, file.name), temporary)
                found = checksum(temporary, algorithm)
                if found != file.checksum:
                    size = temporary.stat().st_size
                    raise _Unusable(f"expected {file.checksum}, found {found} in {size:,} bytes")
            return
        except _Unusable as error:
            answers.append(f"{url}: {error}")
    raise OSError(
        f"{file.name} could not be downloaded; get it elsewhere ({file.checksum}) and put it into "
        f"{str(path.parent)!r}. The mirrors gave:\n  " + "\n  ".join(answers)
    )


def checksum(path: Path, algorithm: str) -> str:
    """Return `"algorithm:hexadecimal digits"` of a file."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def malformed(path: str | os.PathLike[str], expected: str, found: str, step: str) -> ValueError:
    """Return the error of a file that is not what it must be."""
    return ValueError(f"{os.fspath(path)} must hold {expected}, but holds {found}; {step}.")


def _received(url: str, name: str) -> Iterator[bytes]:
    """Yield what a mirror sends, with a progress bar; whatever goes wrong there is `_Unusable`."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            size = int(response.headers.get("Content-Length") or 0) or None
            with tqdm(desc=name, total=size, unit="B", unit_scale=True, disable=None) as bar:
                while block := response.read(BLOCK):
                    bar.update(len(block))
                    yield block
    except (OSError, http.client.HTTPException) as error:
        raise _Unusable(f"{type(error).__name__}: {error}") from error


def _copy(blocks: Iterable[bytes], path: Path) -> None:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
