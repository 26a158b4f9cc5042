"""What relaxed layers learn on tasks of known symmetry: the tables of docs/relaxed.md.

The record is the `result.json` of `python -m experiments.relaxed`.
"""

from __future__ import annotations

import json
from typing import Any

from experiments import tables
from experiments.results import ROOT

Record = dict[str, Any]

FILE = ROOT / "benchmarks/results/relaxed_tasks.json"


def recorded() -> Record:
    """Return the record."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def lines(record: Record) -> list[str]:
    """Return a table with a row for every task: amounts, and accuracies on the test digits."""
    accuracies = ("learned", "strict", "free", "best fixed")
    head = ["task", "amount of position", "amount of orientation"]
    rows = [[*head, *(f"{name}, %" for name in accuracies), "its bandwidths"]]
    for task, report in _tasks(record).items():
        amounts = [_spread(report["amounts"][p], 1, "{:.3f}") for p in ("position", "orientation")]
        shares = [_spread(report[name]["test"], 100, "{:.1f}") for name in accuracies]
        best = " and ".join(f"{b:g}" for b in report["best fixed"]["bandwidths"])
        rows.append([task, *amounts, *shares, best])
    return tables.markdown(rows)


def by_seed(record: Record) -> list[str]:
    """Return a table with a row for every seed: the amounts of position, then of orientation."""
    found = _tasks(record)
    parts = ("position", "orientation")
    rows = [["seed", *(f"{task}, {part}" for part in parts for task in found)]]
    for i, seed in enumerate(record["seeds"]):
        values = [report["amounts"][p]["seeds"][i] for p in parts for report in found.values()]
        rows.append([str(seed), *(f"{value:.3f}" for value in values)])
    return tables.markdown(rows)


def _tasks(record: Record) -> dict[str, Any]:
    return {name: record["metrics"][name] for name in record["config"]["tasks"]}


def _spread(numbers: dict[str, Any], scale: float, form: str) -> str:
    return tables.spread([scale * value for value in numbers["seeds"]], form)
