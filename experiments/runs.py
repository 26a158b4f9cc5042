"""Run folders and the command line: what all experiments do before and around their training.

A run folder is found unfit before anything is computed, and a run that is there is never touched
unless the user says so.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tyro

from experiments import devices, interrupts
from experiments.results import command_line, plain, write_json

RESULT = "result.json"
CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
_FREE = ("out", "overwrite", "resume", "hosts")  # where a run is and who computes it, not what

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

    def make() -> str:
        if out is not None and _in_use(out):
            _clear(out, overwrite)
        folder = _unused(default) if out is None else out
        _probe(folder)
        return str(folder)

    return Path(devices.from_main(make))


def resume_run(folder: Path, config: object) -> Path:
    """Return the folder of a run to go on with, after checking that it can; nothing is removed.

    Args:
        folder: of a run that was stopped.
        config: the options now; all but `_FREE` must be those that the run was started with.

    Raises:
        FileNotFoundError: if it is not the folder of a run.
        FileExistsError: if the run is finished.
        ValueError: if options differ; the message names them.
        OSError: if no file can be written there.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"resume (={folder}) is not the folder of a run: it has no {CONFIG}; pass the one "
            "that the run named, or leave --resume out to start one."
        )
    was = _flat(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    now = _flat(plain(config))
    missing = "not there"
    if different := [
        f"{name} was {was.get(name, missing)} and is {now.get(name, missing)}"
        for name in {**was, **now}
        if name.split(".")[0] not in _FREE and was.get(name, missing) != now.get(name, missing)
    ]:
        raise ValueError(
            f"resume (={folder}) goes on with the options that the run was started with, but "
            f"{'; '.join(different)}: leave them as they were, or start another run with --out."
        )
    if (folder / RESULT).is_file():
        raise FileExistsError(
            f"resume (={folder}) is a finished run: it has its {RESULT}; nothing is left to do."
        )
    devices.from_main(lambda: _probe(folder))
    return folder


def save_config(folder: Path, config: object) -> None:
    """Write the options of a run, which also marks its folder as one."""
    if devices.is_main():
        write_json(folder / CONFIG, config)


def command(
    main: Callable[[Config], object],
    config: type[Config],
    about: str | None,
    default: Callable[[], Config | None] = lambda: None,
) -> None:
    """Run an experiment from the command line: every field of `config` is an option.

    Options that are not given are those that `default` returns, or else those of the class. Errors
    of the user (a wrong option, a folder in use) end the program with one line, Ctrl-C ends it with
    the exit code that shells expect. Where several processes train together they find each other
    first: by the option `hosts`, if there is one, or by the environment (see `devices.Hosts`).
    """
    try:
        start = default()
        given: dict[str, Any] = {} if start is None else {"default": start}
        options = tyro.cli(config, description=about, prog=command_line(arguments=False), **given)
        with devices.joined(getattr(options, "hosts", devices.Hosts())):
            main(options)
    except KeyboardInterrupt:
        raise SystemExit(interrupts.EXIT_CODE) from None
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def _probe(folder: Path) -> None:
    """Raise unless files can be written to a folder, which is made."""
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


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by the names that the command line gives them."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {}
        flat |= inner or {f"{prefix}{name}": value}
    return flat


def _in_use(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    # Names with a dot in front are what a start leaves that was killed in the middle of a file.
    return any(not entry.name.startswith(".") for entry in folder.iterdir())


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
    if not (folder / CONFIG).is_file():
        raise FileExistsError(
            f"out (={folder}) is not a run: it has no {CONFIG}, so --overwrite leaves it alone; "
            "pass --out with a new folder."
        )
    (folder / RESULT).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
