"""Tables for the terminal and for Markdown, and how the numbers of several seeds become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines in columns; the first row is the header, the first column is words.

    Example:
        >>> print(table([["", "CNN"], ["accuracy", "99.1"]]))
                   CNN
        --------------
        accuracy  99.1
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:]])


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as the lines of a table in Markdown; the first row is the header.

    Example:
        >>> markdown([["network", "accuracy"], ["CNN", "99.1"]])
        ['| network | accuracy |', '|---|---|', '| CNN | 99.1 |']
    """
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def spread(values: Sequence[float], form: str = "{:.1f}", worst: str | None = None) -> str:
    """Return the mean, and for several values their standard deviation and the worst.

    Args:
        values: one number a seed.
        form: how to write a number.
        worst: "min" where large is good, "max" where small is; None leaves the worst out.

    Example:
        >>> spread([96.0]), spread([96.0, 98.0], worst="min")
        ('96.0', '97.0 +- 1.4 (worst 96.0)')
    """
    numbers = summary(values, worst or "min")
    mean, deviation, extreme = (form.format(numbers[k]) for k in ("mean", "std", "worst"))
    if len(values) == 1:
        return mean
    return f"{mean} +- {deviation}" + (f" (worst {extreme})" if worst else "")


def summary(values: Sequence[float], worst: str = "min") -> dict[str, float | list[float]]:
    """Return mean, standard deviation, worst and all values of one number over the seeds.

    Args:
        values: one number a seed.
        worst: "min" where large is good, "max" where small is.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    extreme = min(values) if worst == "min" else max(values)
    return {"mean": float(np.mean(values)), "std": deviation, "worst": extreme, "seeds": [*values]}
