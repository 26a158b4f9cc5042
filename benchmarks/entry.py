"""What the entries share: the options that all of them take, and the report that they return.

An entry is a module with a dataclass `Config(Options)`, whose docstring is its line in `--help`,
and a function `run(config) -> Report`; one that times nothing has a `Config(Common)`. Add its name
to `ENTRIES` in `__main__.py`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments.results import ROOT

DType = Literal["float32", "bfloat16", "float16", "float64"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """The options of every entry."""

    out: Path | None = None
    """The JSON file; benchmarks/results/NAME.json if none is given."""
    overwrite: bool = False
    """Replace a result that exists."""
    cores: int = 1
    """Pin the process to so many CPU cores; 0 leaves it free."""
    seed: int = 0
    """Of the random arrays and weights."""

    @property
    def stem(self) -> str | None:
        """The name of the result; None for that of the entry."""
        return None

    @property
    def seeds(self) -> list[int]:
        """All seeds that are used."""
        return [self.seed]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn(Common):
    """The options of every entry that draws what it measures."""

    pictures: Path | None = None
    """The folder of the plots; docs/images, or that of `out` if it is given."""

    def folder(self) -> Path:
        """Return the folder of the plots, made if it is not there."""
        folder = self.pictures or (self.out.parent if self.out else ROOT / "docs/images")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Common):
    """The options of every entry that takes time."""

    repeats: int = 15
    """The number of rounds; every round times every program once."""
    warmup: int = 2
    """The number of calls of every program before the first round."""


@dataclasses.dataclass
class Report:
    """What was measured.

    Attributes:
        cases: what each case is, then its "times" (a `Timing` by program) and "ratios" (a `Spread`
            by name), where time is taken.
        metrics: the few numbers that matter.
        lines: the table to print, where no time is taken.
    """

    cases: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    lines: list[str] = dataclasses.field(default_factory=list)


def normal(seed: int, dtype: DType, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Return one standard normal array of every shape."""
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return [jax.random.normal(k, s, jnp.dtype(dtype)) for k, s in zip(keys, shapes, strict=True)]


def scalar(y: jax.Array) -> jax.Array:
    """Return a loss of an output, whose derivative is neither constant nor sparse."""
    return jnp.sum(jnp.sin(y))
