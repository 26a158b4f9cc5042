"""Run folders and the command line: what all experiments do before and around their training.

A run folder is found unfit before anything is computed, and a run that is there is never touched
unless the user says so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from experiments import devices, interrupts
from experiments.loop import Diverged, Interrupted
from experiments.results import command_line, plain, write_json

RESULT = "result.json"
CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
_FREE = ("out", "overwrite", "resume", "hosts")  # where a run is and who computes it, not what

Config = TypeVar("Config")


def check_run(config: Any, default: Path) -> None:
    """Check that `begin` will find or make the folder of a run, before anything is computed.

    Args:
        config: the options: `out`, `overwrite`, and `resume` where there is one.
        default: the folder of this experiment.

    Raises:
        As `open_run` and `resume_run`. Nothing is removed.
    """
    if getattr(config, "resume", None) is not None:
        resume_run(config.resume, config)
    else:
        devices.from_main(lambda: _check_new(config.out, default, config.overwrite))


def begin(config: Any, default: Path) -> Path:
    """Return the folder of a run, which from now on is that run's: with its options, and no result.

    Args:
        config: as in `check_run`.
        default: the folder of this experiment.

    Raises:
        As `open_run` and `resume_run`.
    """
    if getattr(config, "resume", None) is not None:
        return resume_run(config.resume, config)
    folder = open_run(config.out, default, config.overwrite)
    save_config(folder, config)
    return folder


def open_run(out: Path | None, default: Path, overwrite: bool = False) -> Path:
    """Make the folder of a run and check that files can be written there.

    Args:
        out: the folder that the user named. None makes `default`, or where that is there already
            the first of `default`-2, `default`-3 and so on that is not: runs that start at the same
            time get a folder each.
        default: the folder of this experiment.
        overwrite: whether a run in `out` may be replaced.

    Returns:
        The folder: empty, or an old run without its result and its checkpoints.

    Raises:
        FileExistsError: if `out` holds something already.
        OSError: if no file can be written there.
    """

    def make() -> str:
        _check_new(out, default, overwrite)
        if out is None:
            return str(_claimed(default))
        if _in_use(out):
            (out / RESULT).unlink(missing_ok=True)
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return str(out)

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


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ValueError unless a run has one seed at least, and each once."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds (={seeds}) must be different numbers, one at least; pass --seeds 0."
        )


def save_config(folder: Path, config: object) -> None:
    """Write the options of a run, which also marks its folder as one."""
    if devices.is_main():
        write_json(folder / CONFIG, config)


@contextlib.contextmanager
def resumable(experiment: str, folder: Path) -> Iterator[None]:
    """Add the command that goes on with a run to what is said of a stop.

    Args:
        experiment: the module of `experiments` that is run.
        folder: of the run.
    """
    try:
        yield
    except Interrupted as error:
        program = f"python -m experiments.{experiment}"
        raise Interrupted(f"{error} Go on with: {program} --resume {folder}") from error


def command(
    main: Callable[[Any], object],
    config: type[Config],
    about: str | None,
    default: Callable[[], Config | None] = lambda: None,
) -> None:
    """Run an experiment from the command line: every field of `config` is an option.

    Options that are not given are those that `default` returns, or else those of the class. Errors
    of the user (a wrong option, a folder in use) and trainings that diverge end the program with
    one line, Ctrl-C ends it with the exit code that shells expect. Where `hosts` is an option,
    processes that train together find each other first, by that or by the environment (see
    `devices.Hosts`).
    """
    try:
        start = default()
        given: dict[str, Any] = {} if start is None else {"default": start}
        options = tyro.cli(config, description=about, prog=command_line(arguments=False), **given)
        hosts = getattr(options, "hosts", None)
        with contextlib.nullcontext() if hosts is None else devices.joined(hosts):
            main(options)
    except KeyboardInterrupt:
        raise SystemExit(interrupts.EXIT_CODE) from None
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(interrupts.EXIT_CODE) from stopped
    except (ValueError, OSError, Diverged) as error:
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


def _claimed(default: Path) -> Path:
    """Make and return the first folder of the row that is not there: who makes it has it."""
    folder, number = default, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = default.with_name(f"{default.name}-{number}")
        else:
            return folder


def _check_new(out: Path | None, default: Path, overwrite: bool) -> None:
    """Raise unless a run can be made in `out`, or in a folder beside `default`."""
    if out is not None and _in_use(out):
        if not overwrite:
            raise FileExistsError(
                f"out (={out}) holds an earlier run or other files; pass --overwrite to replace "
                "the run, or --out with a new folder."
            )
        if not (out / CONFIG).is_file():
            raise FileExistsError(
                f"out (={out}) is not a run: it has no {CONFIG}, so --overwrite leaves it alone; "
                "pass --out with a new folder."
            )
    _probe(default.parent if out is None else out)
