"""A program of another library, with a Python and a process of its own, that waits for its turn."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Ask = Callable[[str], str]


@contextlib.contextmanager
def start(
    name: str, python: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Ask]]:
    """Run a program on the cores of this process, with as many threads.

    Args:
        name: of the library, for messages.
        python: the Python that has it.
        arguments: the program, and its arguments. It writes a line when it is ready, and one for
            every line that it reads.
        variables: further environment variables.

    Yields:
        Its first line, and a function that sends a line, waits, and returns the answer.

    Raises:
        RuntimeError: if the program ends, with what it said.
    """
    threads = str(len(os.sched_getaffinity(0)))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, **(variables or {})}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [python, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):

        def wait() -> str:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                process.wait()
                errors.seek(0)
                raise RuntimeError(f"{name} failed in {python}:\n{errors.read()}")
            return line.rstrip("\n")

        def ask(line: str) -> str:
            print(line, file=process.stdin, flush=True)
            return wait()

        try:
            yield wait(), ask
        finally:
            process.kill()
