"""What relaxed layers learn on tasks of known symmetry: the tables of docs/relaxed.md.

Records are the `result.json` of `python -m experiments.relaxed`: one with fixed bandwidths as well,
and any number of others with learned bandwidths alone, at other strengths of the prior.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from experiments import tables
from experiments.results import ROOT

Record = dict[str, Any]

PARTS = ("position", "orientation")


def records() -> list[Record]:
    """Return the records, that with fixed bandwidths first."""
    files = sorted((ROOT / "benchmarks/results").glob("relaxed_tasks*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sorted(found, key=lambda record: not record["config"]["grid"])


def accuracies(found: Sequence[Record]) -> list[str]:
    """Return a table of the accuracies on the test digits, a row for every task."""
    first = found[0]
    fixed = ("strict", "free", "best fixed")
    learned = [f"learned, strength {_strength(record):g}, %" for record in found]
    rows = [["task", *learned, *(f"{name}, %" for name in fixed), "its bandwidths"]]
    for task in first["config"]["tasks"]:
        report = first["metrics"][task]
        cells = [_percent(record["metrics"][task]["learned"]) for record in found]
        cells += [_percent(report[name]) for name in fixed]
        best = " and ".join(f"{b:g}" for b in report["best fixed"]["bandwidths"])
        rows.append([task, *cells, best])
    return tables.markdown(rows)


def amounts(found: Sequence[Record]) -> list[str]:
    """Return a table of the learned amounts, a row for every strength and seed."""
    tasks = found[0]["config"]["tasks"]
    rows = [["strength", "seed", *(f"{task}, {part}" for part in PARTS for task in tasks)]]
    for record in found:
        for i, seed in enumerate(record["seeds"]):
            reports = [record["metrics"][task]["amounts"] for task in tasks]
            values = [report[part]["seeds"][i] for part in PARTS for report in reports]
            cells = (f"{value:.4f}" for value in values)
            rows.append([f"{_strength(record):g}", str(seed), *cells])
    return tables.markdown(rows)


def _strength(record: Record) -> float:
    return record["config"]["recipe"]["penalty"]


def _percent(report: dict[str, Any]) -> str:
    return tables.spread([100 * share for share in report["test"]["seeds"]], "{:.1f}")
