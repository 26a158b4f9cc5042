"""What relaxed layers learn on tasks of known symmetry: the tables of docs/relaxed.md.

The record is the `result.json` of `python -m experiments.relaxed`.
"""

from __future__ import annotations

import json
from typing import Any

from experiments import tables
from experiments.classification import difference
from experiments.results import ROOT

Record = dict[str, Any]

PARTS = ("position", "orientation")
FIXED = ("strict", "free", "best fixed")


def record(name: str = "relaxed_tasks") -> Record:
    """Return a record."""
    file = ROOT / "benchmarks/results" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def accuracies(found: Record) -> list[str]:
    """Return a table of the accuracies on the test digits, a row for every task."""
    rows = [["task", *(f"{name}, %" for name in ("learned", *FIXED)), "its bandwidths"]]
    for task in found["config"]["tasks"]:
        report = found["metrics"][task]
        cells = [
            tables.spread([100 * share for share in report[name]["test"]["seeds"]], "{:.1f}")
            for name in ("learned", *FIXED)
        ]
        best = " and ".join(f"{b:g}" for b in report["best fixed"]["bandwidths"])
        rows.append([task, *cells, best])
    return tables.markdown(rows)


def differences(found: Record) -> list[str]:
    """Return a table of how far learned amounts are ahead, seed by seed, a row for every task."""
    rows = [["task", *(f"learned - {name}, points" for name in FIXED)]]
    for task in found["config"]["tasks"]:
        report = found["metrics"][task]
        rows.append([task, *(_ahead(report["learned"], report[name]) for name in FIXED)])
    return tables.markdown(rows)


def amounts(found: Record) -> list[str]:
    """Return a table of the learned amounts, a row for every seed."""
    tasks = found["config"]["tasks"]
    rows = [["seed", *(f"{task}, {part}" for part in PARTS for task in tasks)]]
    reports = [(found["metrics"][task]["amounts"], part) for part in PARTS for task in tasks]
    for i, seed in enumerate(found["seeds"]):
        rows.append([str(seed), *(f"{report[part]['seeds'][i]:.4f}" for report, part in reports)])
    return tables.markdown(rows)


def _ahead(learned: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the mean difference of the accuracies over the seeds, and its 95 % interval."""
    shares = ([100 * share for share in report["test"]["seeds"]] for report in (learned, other))
    found = difference(*shares)
    low, high = found["interval"]
    return f"{found['mean']:+.1f} ({low:+.1f} to {high:+.1f})"
