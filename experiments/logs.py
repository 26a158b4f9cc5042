"""The numbers of a training as it goes on: `metrics.csv`, and a file for TensorBoard beside it.

Every row is on the disk before the training goes on, so that what a checkpoint follows from is
never missing. When a run is resumed at a step, what was written later is dropped: no row is there
twice.
"""

from __future__ import annotations

import contextlib
import csv
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pdo_jax._files import replacing

FILE = "metrics.csv"

Row = dict[str, Any]


class Log:
    """Appends rows to `metrics.csv`, and to TensorBoard's file where tensorboardX is installed.

    Columns are named by the first row; a name that appears later adds one, empty ("nan") above.

    Args:
        folder: where the files are; it exists.
        resume_at: the step from which the run goes on: rows of later steps, and a last line that
            was never finished, are removed. None begins new files.

    Raises:
        ValueError: if `metrics.csv` is not such a file.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> with Log(folder) as log:
        ...     log.write(10, {"loss": 0.5})
        ...     log.write(20, {"loss": 0.25})
        >>> with Log(folder, resume_at=10) as log:
        ...     log.write(20, {"loss": 0.125})
        >>> print((folder / "metrics.csv").read_text())
        step,loss
        10,0.5
        20,0.125
    """

    def __init__(self, folder: Path, resume_at: int | None = None):
        self._path = Path(folder) / FILE
        rows = [] if resume_at is None else _read(self._path)
        self._rows = [row for row in rows if int(row["step"]) <= (resume_at or 0)]
        self._columns = list(self._rows[0]) if self._rows else []
        self._write_all()
        self._events = None
        with contextlib.suppress(ImportError):
            self._events = _Events(Path(folder), 0 if resume_at is None else resume_at + 1)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a row.

        Args:
            step: how many steps were taken.
            numbers: by name.
        """
        row: Row = {"step": int(step)} | {name: float(value) for name, value in numbers.items()}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._write_all()
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                self._writer(file).writerow(row)
        if self._events is not None:
            self._events.write(row)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()

    def _write_all(self) -> None:
        with (
            replacing(self._path, overwrite=True) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            if self._columns:
                self._writer(file).writeheader()
            self._writer(file).writerows(self._rows)

    def _writer(self, file: Any) -> csv.DictWriter:
        return csv.DictWriter(file, self._columns, restval="nan", lineterminator="\n")


def _read(path: Path) -> list[Row]:
    """Return the rows of a log that are complete."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows: Iterable[Row] = csv.DictReader(line for line in lines if line.endswith("\n"))
        return [row | {"step": int(row["step"])} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the log of a training: every row must begin with the number of a step; "
            "move it away, or train in another folder."
        ) from error


class _Events:
    """TensorBoard's file, written row by row.

    A run that is resumed has a file more. Its first record tells TensorBoard to forget what the
    earlier ones hold from that step on. tensorboardX's `SummaryWriter` keeps rows in a queue, which
    a killed process takes with it; the writer below it does not.
    """

    def __init__(self, folder: Path, first: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        # Files are read in the order of their names, which begin with the time in seconds.
        suffix = f".{time.time_ns() % 10**9:09}.{os.getpid()}"
        self._file = EventsWriter(str(folder / "events"), suffix)
        session = self._events.SessionLog
        self._append(step=first, session_log=session(status=session.START))

    def write(self, row: Row) -> None:
        value = self._summaries.Summary.Value
        values = [value(tag=name, simple_value=row[name]) for name in row if name != "step"]
        self._append(step=row["step"], summary=self._summaries.Summary(value=values))

    def close(self) -> None:
        self._file.close()

    def _append(self, **what: Any) -> None:
        self._file.write_event(self._events.Event(wall_time=time.time(), **what))
        self._file.flush()
