"""What was published beside what is measured here: the tables of docs/recipes.md.

A record of `experiments.mnist_rot` or `experiments.cifar` among the results (its `result.json`,
under any name) fills its row; one with two networks has a row of its own in the second table.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from experiments import tables
from experiments.results import ROOT

Record = dict[str, Any]

NAMES = {
    "mnist_rot": "rotated MNIST",
    "mnist_rot_made": "rotated MNIST, made here",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
OF_TRAINING = ("dropout_rate",)  # options that leave a network what it is


class Row(NamedTuple):
    """A published result."""

    data: str
    network: str
    parameters: str
    error: str
    """In per cent."""


# Shen, He, Lin, Ma: PDO-eConvs (ICML 2020), the tables of their source's README; the errors of the
# plain networks are quoted there. Their script reports the best test epoch.
PUBLISHED = [
    Row("mnist_rot", "mnist_rot", "26k", "1.87"),
    Row("mnist_rot", "mnist_cnn", "22k", "5.03"),
    Row("cifar10", "resnet26", "0.37M", "11.5"),
    Row("cifar10", "resnet26_p6", "0.36M", "5.65"),
    Row("cifar10", "resnet26_p6m", "0.37M", "5.38"),
    Row("cifar10", "resnet44", "2.64M", "5.61"),
    Row("cifar10", "resnet44_p8", "2.62M", "3.68"),
    Row("cifar10", "wide_resnet26_p8", "4.6M", "3.50"),
    Row("cifar100", "resnet26", "0.37M", "31.66"),
    Row("cifar100", "resnet26_p6", "0.36M", "27.13"),
    Row("cifar100", "resnet26_p6m", "0.37M", "27.00"),
    Row("cifar100", "resnet44", "2.64M", "24.08"),
    Row("cifar100", "resnet44_p8", "2.62M", "20.01"),
    Row("cifar100", "wide_resnet26_p8", "4.6M", "18.40"),
]


def records() -> list[Record]:
    """Return the records of training on whole data sets or parts of them, by name."""
    files = sorted((ROOT / "benchmarks/results").glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [record for record in found if record["name"] in ("mnist_rot", "cifar")]


def lines(found: list[Record]) -> list[str]:
    """Return the table of all published results, and of what else was measured on whole sets."""
    whole = [
        (record, label)
        for record in found
        if record["config"]["limit"] is None and not record["config"]["validate"]
        for label in _networks(record)
    ]
    rows = [["data", "network", "parameters", "published error, %", "measured here, %"]]
    for row in PUBLISHED:
        title = f"`{row.network}`"
        mine = [pair for pair in whole if _is_of(pair[0], row.data) and _title(*pair) == title]
        said = "; ".join(_measured(*pair) for pair in mine) or "not yet"
        rows.append([NAMES[row.data], title, row.parameters, row.error, said])
        whole = [pair for pair in whole if pair not in mine]
    for record, label in whole:
        count = f"{record['metrics'][label]['parameters']:,}"
        data = NAMES[record["config"]["data"]]
        rows.append([data, _title(record, label), count, "-", _measured(record, label)])
    return tables.markdown(rows)


def comparisons(found: list[Record]) -> list[str]:
    """Return the table of the records with two networks."""
    rows = [["data", "networks", "parameters", "errors, %", "difference, points", "95 % interval"]]
    for record in found:
        if "difference" not in record["metrics"]:
            continue
        labels, difference = _networks(record), record["metrics"]["difference"]
        of = [record["metrics"][label] for label in labels]
        interval = "one seed: none"
        if difference["interval"] is not None:
            low, high = difference["interval"]
            interval = f"{low:+.2f} to {high:+.2f}, {len(record['seeds'])} seeds"
        limit = record["config"]["limit"]
        rows.append(
            [
                NAMES[record["config"]["data"]]
                + (f", {limit:,} images" if limit else "")
                + (", held-out" if record["config"]["validate"] else ""),
                " against ".join(_title(record, label) for label in labels),
                ", ".join(f"{m['parameters']:,}" for m in of),
                ", ".join(tables.spread(m["error"]["seeds"], "{:.2f}") for m in of),
                f"{difference['mean']:+.2f}",
                interval,
            ]
        )
    return tables.markdown(rows) if rows[1:] else ["No comparison is on record yet."]


def _networks(record: Record) -> list[str]:
    """Return the names of the networks in a record."""
    return list(record["curve"])


def _title(record: Record, label: str) -> str:
    """Return the name of a network, and the options that make it another one."""
    first = label == _networks(record)[0]
    options = record["config"]["network_options" if first else "compare_options"]
    words = ", ".join(f"{k} {v}" for k, v in options.items() if k not in OF_TRAINING)
    return f"`{label}`" + (f" ({words})" if words else "")


def _is_of(record: Record, data: str) -> bool:
    return record["config"]["data"] in (data, f"{data}_made")


def _measured(record: Record, label: str) -> str:
    """Return the error of one network and what it took, in words."""
    config, metrics = record["config"], record["metrics"][label]
    error = tables.spread(metrics["error"]["seeds"], "{:.2f}")
    minutes = metrics["seconds"]["train"]["mean"] / 60
    seeds = f"{len(record['seeds'])} seeds" if len(record["seeds"]) > 1 else "one seed"
    made = ", made here" if config["data"].endswith("_made") else ""
    recipe, epochs = config["recipe"], config["training"]["epochs"]
    return f"{error} (`{recipe}`{made}, {epochs} epochs, {seeds}, {minutes:.0f} minutes)"
