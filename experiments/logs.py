"""The numbers of a training, one row an epoch, as a CSV file that can be read while it runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

FILE = "metrics.csv"


class Log:
    """Appends rows to `metrics.csv`; when a run is resumed at a step, later rows are dropped."""

    def __init__(self, folder: Path, resume_at: int | None = None):
        self._path = folder / FILE
        rows = []
        if resume_at is not None and self._path.is_file():
            with self._path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= resume_at]
        self._file = self._path.open("w", newline="")
        self._writer: csv.DictWriter | None = None
        for row in rows:
            self._write(row)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a row."""
        self._write({"step": step, **numbers})

    def _write(self, row: Mapping[str, object]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
