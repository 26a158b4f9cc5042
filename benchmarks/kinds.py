"""One network with layers of several kinds, trained alike: the table of docs/recipes.md.

Every record of `experiments.cifar` whose network is one of `relaxed_...`, by the recipe "relaxed",
is a row. Records belong together that were made from the same data, recipe and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import published
from experiments import tables
from experiments.classification import difference

Record = dict[str, Any]

PARTS = ("orientation", "position")
OF_SIZE = ("parameters",)  # options that are the same in all rows


def records() -> list[Record]:
    """Return the records of trainings by the recipe "relaxed"."""
    return [record for record in published.records() if record["config"]["recipe"] == "relaxed"]


def lines(found: Sequence[Record]) -> list[str]:
    """Return the table: one row a record, those of the same data together."""
    if not found:
        return ["No training is on record yet."]
    head = ["data", "network", "parameters", "error, %", "minus strict, points"]
    rows = [[*head, *(f"amount of {part}" for part in PARTS), "change of the logits", "minutes"]]
    for record in sorted(found, key=_order):
        [(label, curves)] = record["curve"].items()
        metrics, config = record["metrics"][label], record["config"]
        strict = next((r for r in found if _is_strict(r) and _alike(r, record)), None)
        rows.append(
            [
                _data(config),
                _title(config),
                f"{metrics['parameters']:,}",
                tables.spread(metrics["error"]["seeds"], "{:.2f}"),
                "-" if strict in (None, record) else _difference(record, strict),
                *(_amounts(curves, part) for part in PARTS),
                f"{max(metrics['equivariance_error']):.2f}",
                f"{metrics['seconds']['train']['mean'] / 60:.1f}",
            ]
        )
    return tables.markdown(rows)


def _order(record: Record) -> tuple:
    """Return what rows are sorted by: the data, then strict, free, and the others by name."""
    name = record["config"]["network"]
    first = ["relaxed_strict", "relaxed_free"]
    place = first.index(name) if name in first else len(first)
    return _data(record["config"]), place, name, _title(record["config"])


def _data(config: dict[str, Any]) -> str:
    limit = f", {config['limit']:,} images" if config["limit"] else ""
    epochs = f", {config['training']['epochs']} epochs"
    return (
        published.NAMES[config["data"]]
        + limit
        + epochs
        + (", held-out" if config["validate"] else "")
    )


def _title(config: dict[str, Any]) -> str:
    label, options = config["network"], config["network_options"]
    words = [f"{name} {value}" for name, value in options.items() if name not in OF_SIZE]
    if label == "relaxed_learned":  # the others are not held by the prior, or come to nothing else
        words.append(f"strength {config['training']['penalty']:g}")
    return f"`{label}`" + (f" ({', '.join(words)})" if words else "")


def _is_strict(record: Record) -> bool:
    return record["config"]["network"] == "relaxed_strict"


def _alike(one: Record, other: Record) -> bool:
    return _data(one["config"]) == _data(other["config"]) and one["seeds"] == other["seeds"]


def _difference(record: Record, strict: Record) -> str:
    """Return the mean difference of the errors over the seeds, and its 95 % interval."""
    first, second = (
        r["metrics"][label]["error"]["seeds"] for r in (record, strict) for label in r["curve"]
    )
    found = difference(first, second)
    if found["interval"] is None:
        return f"{found['mean']:+.2f}"
    low, high = found["interval"]
    return f"{found['mean']:+.2f} ({low:+.2f} to {high:+.2f})"


def _amounts(curves: Sequence[dict[str, list[float]]], part: str) -> str:
    """Return the amounts after the last epoch, first layer first: means over the seeds."""
    names = sorted(name for name in curves[0] if name.startswith("amount/") and name.endswith(part))
    last = [np.mean([curve[name][-1] for curve in curves]) for name in names]
    return " ".join(f"{amount:.2f}" for amount in last) or "-"
