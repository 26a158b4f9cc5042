"""escnn with a Python and a process of its own; `escnn_programs.py` runs it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.measures import worker

WORKER = Path(__file__).with_name("escnn_programs.py")
INSTALL = (
    "escnn needs a Python of its own, with NumPy 1 (and gfortran to install). Make one and name "
    "it:\n"
    "  python -m venv .venv-escnn && .venv-escnn/bin/pip install -r benchmarks/peers.txt\n"
    "  python -m benchmarks versus_dense --escnn .venv-escnn/bin/python"
)


@dataclasses.dataclass(frozen=True)
class Peer:
    """escnn, or the reason why it is not there.

    Attributes:
        about: its version, or "none" and the reason.
        program: makes a program to be timed of a task and its options, as the worker has them, and
            says how many parameters it has; None if escnn is not there.
    """

    about: str
    program: Callable[..., tuple[timing.Program, int]] | None = None


@contextlib.contextmanager
def start(python: Path) -> Iterator[Peer]:
    """Run the worker on as many cores as this process has.

    Args:
        python: the Python that has escnn.

    Raises:
        RuntimeError: if escnn is there and fails, with what it said.
    """
    reason = missing(python)
    if reason:
        print(f"escnn: {reason}.\n{INSTALL}\n")
        yield Peer(f"none: {reason}")
        return
    with worker.start("escnn", python, WORKER) as (about, ask):

        def program(**task: Any) -> tuple[timing.Program, int]:
            line, begin = json.dumps(task), time.perf_counter()
            parameters = int(ask(line))
            seconds = time.perf_counter() - begin
            return timing.Program(lambda: ask(line), seconds), parameters

        yield Peer(about, program)


def missing(python: Path) -> str:
    """Return why there is no escnn, or nothing."""
    if not python.exists():
        return "there is no Python that has it"
    find = "import sys; from importlib.util import find_spec; sys.exit(find_spec('escnn') is None)"
    done = subprocess.run([python, "-c", find], capture_output=True)
    return "its Python has no escnn" if done.returncode else ""
