"""The tables of docs/vessels.md: every record of `experiments.vessels` among the results.

The record is the `result.json` of a run, under any name.
"""

from __future__ import annotations

import json
from typing import Any

from experiments import tables, vessels
from experiments.results import ROOT

Record = dict[str, Any]

OURS = "ours"


def records() -> list[Record]:
    """Return the records of segmentation, by name."""
    files = sorted((ROOT / "benchmarks/results").glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [record for record in found if record["name"] == "vessels"]


def lines(found: list[Record]) -> list[str]:
    """Return what was measured: for each record how, and its tables."""
    if not found:
        return ["No run is on record yet."]
    return [line for record in found for line in _of(record)]


def _of(record: Record) -> list[str]:
    metrics, networks = record["metrics"], list(record["curve"])
    found = [_how(record), "", *tables.markdown(vessels.score_rows(metrics, networks)), ""]
    if len(networks) > 1:
        found += [*tables.markdown(vessels.difference_rows(metrics, networks)), ""]
    if OURS in networks[1:]:
        order = [OURS, *(name for name in networks if name != OURS)]
        turned = metrics | {"differences": vessels.differences(metrics, order)}
        found += [*tables.markdown(vessels.difference_rows(turned, order)), ""]
    return found


def _how(record: Record) -> str:
    """Return in words what the numbers of a record are."""
    config, data = record["config"], record["metrics"]["data"]
    equal = "Equal steps"
    if config["seconds"] is not None:
        equal = f"Equal time, {config['seconds']:g} seconds of training a seed"
    patch = config["patch"]
    size = "whole photographs" if patch is None else f"patches of {patch} pixels"
    seeds = len(record["seeds"])
    tuned = ""
    if config["tune"]:
        rates = ", ".join(f"{rate:g}" for rate in config["tune"])
        tuned = f"; learning rates tuned among {rates} in {config['tune_steps']} steps each"
    return (
        f"**{equal}**, {config['training']['batch_size']} {size} a step, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}{tuned}; {data['photographs']} "
        f"{data['measured on']} photographs; {record['device']}:"
    )
