"""What a run or a measurement leaves behind: one JSON record, written whole or not at all.

Every number of the project's prose comes from such a file. It says which command made it, from
which commit, on what machine, with which versions and seeds, so that it can be made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pdo_jax._files import replacing

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Result:
    """The record of one experiment or benchmark; the fields are the schema of the JSON files.

    Attributes:
        name: of the experiment, such as "rotated_digits".
        command: the command line that repeats it.
        config: every option, defaults included.
        seeds: those of the runs in this record.
        commit: the revision of the source, with "-dirty" if it was changed since; None if unknown.
        device: what it ran on.
        versions: of Python and of the packages that decide the numbers.
        curve: the numbers of every epoch (or size, or batch), a list for each quantity.
        metrics: the numbers that are reported, those of the last epoch.
        seconds: wall-clock times by name; compilation has a name of its own.
    """

    name: str
    command: str
    config: dict[str, Any]
    seeds: list[int]
    commit: str | None
    device: str
    versions: dict[str, str]
    curve: dict[str, Any]
    metrics: dict[str, Any]
    seconds: dict[str, float]

    @classmethod
    def of(
        cls,
        name: str,
        *,
        config: Any,
        seeds: list[int] | tuple[int, ...] = (),
        curve: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        seconds: dict[str, float] | None = None,
        command: str | None = None,
    ) -> Result:
        """Return a record with the command, the commit, the device and the versions filled in."""
        return cls(
            name=name,
            command=command or command_line(),
            config=dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config,  # pyright: ignore[reportArgumentType]
            seeds=list(seeds),
            curve=curve or {},
            metrics=metrics or {},
            seconds=seconds or {},
            **environment(),
        )


def environment() -> dict[str, Any]:
    """Return the commit, the device and the versions: `Result`'s fields of these names."""
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"commit": commit(), "device": device(), "versions": versions}


def commit() -> str | None:
    """Return the git revision of this source tree, "-dirty" after it if files were changed."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def device() -> str:
    """Return the accelerators in words, or for the CPU how many cores this process may use."""
    devices = jax.devices()
    if devices[0].platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"{_cpu_model()}, {cores} {'core' if cores == 1 else 'cores'}"
    return f"{len(devices)} x {devices[0].device_kind}"


def _cpu_model() -> str:
    """Return the processor's name where the system tells it, its architecture elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return f"CPU ({platform.machine()})"


def command_line(arguments: bool = True) -> str:
    """Return the command that runs this program again: `python -m package.module arguments`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", sys.argv[0]] if spec is None else ["python", "-m", spec.name]
    return shlex.join([*program, *(sys.argv[1:] if arguments else [])])


def write_json(path: str | Path, value: Any) -> None:
    """Write a `Result`, or anything made of dicts, lists and numbers, as JSON.

    Args:
        path: the file, replaced as a whole.
        value: NumPy and JAX numbers and arrays and paths may occur; NaN and infinity become null.
    """
    text = json.dumps(plain(value), indent=1, allow_nan=False)
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: dataclasses as dicts, arrays as lists, NaN as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return plain(np.asarray(value).tolist())
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
