"""Files are written whole or not at all, and never over another one by accident."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """Give a temporary file that becomes `path` at the end, unless something fails.

    Args:
        path: the file to write.
        overwrite: whether it may exist already.

    Yields:
        The temporary path, in the folder of `path`.

    Raises:
        FileExistsError: if `path` exists and may not.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"path (={str(path)!r}) exists already; pass another one, or overwrite=True."
        )
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # the suffix says the format
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
