"""Fill the tables of the docs from the records: `python -m benchmarks.documents`.

A table stands between `<!-- NAME -->` and `<!-- end -->`, and NAME.json is its record, unless it
is a table of many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    budget,
    compile,
    distance,
    drift,
    equivariance,
    kinds,
    large,
    pde_equivariance,
    published,
    relaxed,
    scaling,
    steps,
    tasks,
    versus_dense,
    versus_lietorch,
    vessels,
)
from benchmarks.measures import crossover
from experiments.results import ROOT
from pdo_jax._files import replacing

Cases = list[dict[str, Any]]

# The tasks of known symmetry: the records by the names of their tables, and what is said of each.
TASKS = {
    "tasks": "relaxed_tasks",
    "tasks_mnist": "relaxed_tasks_mnist",
    "tasks_torus": "relaxed_tasks_torus",
}
KINDS = {"": tasks.accuracies, "_ahead": tasks.differences, "_amounts": tasks.amounts}


def _of_tasks(lines: Callable[[tasks.Record], list[str]], record: str) -> list[str]:
    """Return a table of a record of the tasks of known symmetry."""
    return lines(tasks.record(record))


# By the name of the record: the page, and what makes the lines of the table from the cases.
OF_A_RECORD: dict[str, tuple[str, Callable[[Cases], list[str]]]] = {
    "budget": ("budget.md", budget.lines),
    "budget_p8": ("budget.md", budget.lines),
    "drift": ("budget.md", drift.lines),
    "distance": ("pde.md", distance.lines),
    "pde_equivariance": ("pde.md", pde_equivariance.lines),
    "relaxed": ("relaxed.md", relaxed.lines),
    "equivariance_angles": ("equivariance.md", partial(equivariance.tables, "angles")),
    "equivariance_order": ("equivariance.md", partial(equivariance.tables, "order")),
    "equivariance_peers": ("equivariance.md", partial(equivariance.tables, "peers")),
    "costs": ("speed.md", crossover.lines),
    "versus_dense": ("speed.md", versus_dense.lines),
    "scaling": ("speed.md", scaling.lines),
    "large": ("large.md", large.lines),
    "compile": ("large.md", compile.lines),
    "steps_mnist_rot": ("speed.md", steps.lines),
    "steps_resnet44": ("speed.md", steps.lines),
}
# By name: the page, and what makes the lines from the records of training.
OF_MANY: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "published": ("recipes.md", lambda: published.lines(published.records())),
    "comparisons": ("recipes.md", lambda: published.comparisons(published.records())),
    "kinds": ("recipes.md", lambda: kinds.lines(kinds.records())),
    **{
        f"{table}{kind}": ("relaxed.md", partial(_of_tasks, lines, record))
        for table, record in TASKS.items()
        for kind, lines in KINDS.items()
    },
    "vessels": ("vessels.md", lambda: vessels.lines(vessels.records())),
    "versus_lietorch": ("speed.md", lambda: versus_lietorch.lines(versus_lietorch.recorded())),
}
TABLES = (*OF_A_RECORD, *OF_MANY)


def cases(record: dict[str, Any]) -> Cases:
    """Return the measured cases of a record, which holds a list over them for each quantity."""
    columns = record["curve"]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def filled(name: str, text: str) -> str:
    """Return a page with one of its tables as the records have it."""
    if name in OF_MANY:
        lines = OF_MANY[name][1]()
    else:
        file = ROOT / f"benchmarks/results/{name}.json"
        lines = ["No run is on record yet."]
        if file.exists():
            lines = OF_A_RECORD[name][1](cases(json.loads(file.read_text(encoding="utf-8"))))
    table = "\n".join([f"<!-- {name} -->", *lines, "<!-- end -->"])
    found, count = re.subn(f"<!-- {name} -->.*?<!-- end -->", lambda _: table, text, flags=re.S)
    if count != 1:
        raise ValueError(
            f"the page for {name} has {count} places for its table, but must have one: "
            f"<!-- {name} --> and <!-- end -->."
        )
    return found


def page(name: str) -> Path:
    """Return the page on which a table stands."""
    return ROOT / "docs" / (OF_A_RECORD | OF_MANY)[name][0]


def main() -> None:
    """Fill every table."""
    for name in TABLES:
        text = filled(name, page(name).read_text(encoding="utf-8"))
        with replacing(page(name), overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
