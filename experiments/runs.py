"""Run folders and the command line: what all experiments do before and around their training.

A run folder is found unfit before anything is computed, and a run that is there is never touched
unless the user says so.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tyro

from experiments.results import command_line, write_json

RESULT = "result.json"
CHECKPOINTS = "checkpoints"
_CONFIG = "config.json"

Config = TypeVar("Config")


def open_run(out: Path | None, default: Path, overwrite: bool = False) -> Path:
    """Make the folder of a run and check that files can be written there.

    Args:
        out: the folder that the user named. None takes `default`, or where that is in use the first
            of `default`-2, `default`-3 and so on that is not.
        default: the folder of this experiment.
        overwrite: whether a run in `out` may be replaced.

    Returns:
        The folder: empty, or an old run without its result and its checkpoints.

    Raises:
        FileExistsError: if `out` holds something already.
        OSError: if no file can be written there.
    """
    if out is not None and _in_use(out):
        _clear(out, overwrite)
    folder = _unused(default) if out is None else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise type(error)(
            f"out (={folder}) cannot be written: {error.strerror}; pass --out with a folder of "
            "your own."
        ) from error
    return folder


def save_config(folder: Path, config: object) -> None:
    """Write the options of a run, which also marks its folder as one."""
    write_json(folder / _CONFIG, config)


def command(main: Callable[[Config], object], config: type[Config], about: str | None) -> None:
    """Run an experiment from the command line: every field of `config` is an option.

    Errors of the user (a wrong option, a folder in use) end the program with one line.
    """
    options = tyro.cli(config, description=about, prog=command_line(arguments=False))
    try:
        main(options)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def _in_use(folder: Path) -> bool:
    return folder.is_file() or (folder.is_dir() and any(folder.iterdir()))


def _unused(default: Path) -> Path:
    names = itertools.chain([default.name], (f"{default.name}-{i}" for i in itertools.count(2)))
    return next(f for name in names if not _in_use(f := default.with_name(name)))


def _clear(folder: Path, overwrite: bool) -> None:
    """Remove what would belong to two runs at once, if this is a run that may be replaced."""
    if not overwrite:
        raise FileExistsError(
            f"out (={folder}) holds an earlier run or other files; pass --overwrite to replace "
            "the run, or --out with a new folder."
        )
    if not (folder / _CONFIG).is_file():
        raise FileExistsError(
            f"out (={folder}) is not a run: it has no {_CONFIG}, so --overwrite leaves it alone; "
            "pass --out with a new folder."
        )
    (folder / RESULT).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
