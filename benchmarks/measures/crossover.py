"""Which algorithm is the fastest where: a table of the shapes that `benchmarks.costs` measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pdo_jax as pdo
from pdo_jax.harmonic import rotations

FIELDS = ((1, 3), (4, 7), (8, 15), (16, 31), (32, 64))
ROTATIONS = ((3, 5), (6, 8), (9, 16))


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return how often each algorithm was the fastest, by the rotations and the fields."""
    rows = [
        f"| rotations | {' | '.join(f'{low} to {high} fields' for low, high in FIELDS)} |",
        f"|---|{'---|' * len(FIELDS)}",
    ]
    for first, last in ROTATIONS:
        cells = []
        for low, high in FIELDS:
            fastest = Counter(
                min(case["seconds"], key=case["seconds"].__getitem__)
                for case in cases
                if first <= rotations(pdo.group(case["group"])).order <= last
                and low <= case["fields"] <= high
            )
            cells.append(", ".join(f"{way} {count}" for way, count in fastest.most_common()))
        rows.append(f"| {first} to {last} | {' | '.join(cell or '-' for cell in cells)} |")
    return rows
