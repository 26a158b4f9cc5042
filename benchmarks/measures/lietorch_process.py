"""LieTorch in a Python and a process of its own, which computes when it is told to.

The compiled code of LieTorch 0.6.2 runs on CPUs. It needs PyTorch 2.0 and NumPy 1;
`lietorch_worker.py` runs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.measures import worker

WORKER = Path(__file__).with_name("lietorch_worker.py")
INSTALL = (
    "LieTorch 0.6.2 needs a Python 3.11 of its own. Make one and name it:\n"
    "  python3.11 -m venv .venv-lietorch\n"
    "  .venv-lietorch/bin/pip install -r benchmarks/lietorch.txt\n"
    "  python -m benchmarks versus_lietorch --lietorch .venv-lietorch/bin/python"
)


@dataclasses.dataclass(frozen=True)
class Peer:
    """LieTorch, or the reason why it is not there.

    Attributes:
        about: its version, or "none" and the reason.
        program: makes a program to be timed of "OPERATOR, PASS"; None if LieTorch is not there.
        values: of the operators, as the worker writes them.
    """

    about: str
    program: Callable[[str], timing.Program] | None = None
    values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def start(python: Path, arrays: Callable[[], Mapping[str, Any]]) -> Iterator[Peer]:
    """Run the worker on as many cores as this process has.

    Args:
        python: the Python that has LieTorch.
        arrays: returns the worker's input; not called without LieTorch.

    Raises:
        RuntimeError: if LieTorch is there and fails, with what it said.
    """
    folder, reason = library(python)
    if folder is None:
        yield Peer(f"none: {reason}")
        return
    with tempfile.TemporaryDirectory() as name:
        source, target = (Path(name) / file for file in ("arrays.npz", "values.npz"))
        np.savez(source, **arrays())
        variables = {"LD_LIBRARY_PATH": str(folder)}
        files = WORKER, source, target
        with worker.start("LieTorch", python, *files, variables=variables) as (_, ask):
            with np.load(target) as archive:
                values = dict(archive)
            about = str(values.pop("version"))
            yield Peer(about, lambda line: timing.Program(lambda: ask(line)), values)


def library(python: Path) -> tuple[Path | None, str]:
    """Return the folder of LieTorch's compiled code in a Python; None and a reason without it."""
    if not python.exists():
        return None, f"there is no Python at {python}"
    find = "from importlib.util import find_spec; print(find_spec('lietorch').origin)"
    done = subprocess.run([python, "-c", find], capture_output=True, text=True)
    folder = Path(done.stdout.strip()).parent / "lib"
    if done.returncode or not (folder / "liblietorch.so").exists():
        return None, f"{python} has no LieTorch with compiled code"
    return folder, ""
