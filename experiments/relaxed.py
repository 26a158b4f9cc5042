"""Do relaxed layers learn the right amount of symmetry? Four tasks of which that amount is known.

    python -m experiments.relaxed --seeds 0 1 2 3 4

For every task the same network is trained with learned bandwidths, from the same start and with the
same prior, and with bandwidths that are fixed at every pair of a grid: (0, 0) is the strict
network, the largest pair the free one. The best fixed pair is chosen by digits that are held out of
the training part; the test digits are read once, at the end. `poses` holds the tasks. What every
training has come to is kept, so that a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import nnx

import pdo_jax as pdo
from experiments import (
    amounts,
    classification,
    networks,
    plots,
    poses,
    recipes,
    runs,
    tables,
    trainer,
)
from experiments.datasets import Part, take
from experiments.results import Result, write_json

NAME = "relaxed"
LEARNED = "learned"
PARTS = ("position", "orientation")

Pair = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `python -m experiments.relaxed`."""

    recipe: recipes.Recipe = recipes.Recipe(
        epochs=10,
        batch_size=32,
        learning_rate=1e-2,
        schedule="one-cycle",
        warmup=0.3,
        penalty=0.005,
    )
    """The same for all tasks and networks; its penalty counts where bandwidths are learned."""
    seeds: tuple[int, ...] = (0,)
    """One run a seed."""
    tasks: tuple[str, ...] = tuple(poses.TASKS)
    """Names of `poses.TASKS`."""
    digits: poses.Source = "scikit-learn"
    """Whose digits; scikit-learn's need no download."""
    fold: int = 0
    """Which draw of test digits from MNIST, of three that share none: 0, 1 or 2."""
    data_folder: Path | None = None
    """That holds MNIST; by default PDO_JAX_DATA, or ~/.cache/pdo_jax."""
    start: float = 0.5
    """Where both bandwidths start when they are learned; 0 is the strict network."""
    grid: tuple[float, ...] = (0.0, 0.5, 1.5)
    """Both bandwidths, when they are fixed; the first is 0, the last that of the free network. None
    at all trains with learned bandwidths alone."""
    group: str = "p4"
    """The rotations that the network convolves over."""
    features: tuple[int, ...] = (4, 6, 8)
    """Fields after every convolution; the pixels are halved after the first two."""
    filters: int = 2
    """Filters of a layer."""
    padding: Literal["SAME", "CIRCULAR"] = "SAME"
    """Of the network; "CIRCULAR" makes images tori, so that no border tells a place."""
    limit: int | None = None
    """Use no more than so many images of every part, for a quick look."""
    together: bool = True
    """Whether all seeds take each step at once."""
    resume: Path | None = None
    """Go on with the run in this folder, with the options that it was started with."""
    out: Path | None = None
    """The folder of the run; by default the first of runs/relaxed, runs/relaxed-2 ... that is not
    in use."""
    overwrite: bool = False
    """Replace an earlier run in `out`."""

    def __post_init__(self):
        for task in self.tasks:
            if task not in poses.TASKS:
                raise ValueError(
                    f"tasks (={self.tasks}): {task!r} is not known; it must be one of "
                    f"{', '.join(map(repr, poses.TASKS))}."
                )
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(
                f"tasks (={self.tasks}) must be different names; leave it out for all."
            )
        runs.check_seeds(self.seeds)
        if self.grid and (self.grid[0] != 0 or sorted(set(self.grid)) != list(self.grid)):
            raise ValueError(
                f"grid (={self.grid}) must be increasing bandwidths from 0 on, which is the "
                "strict network; pass e.g. --grid 0 0.5 1.5."
            )
        if self.fold not in (poses.FOLDS if self.digits == "mnist" else (0,)):
            raise ValueError(
                f"fold (={self.fold}) must be 0, or with --digits mnist one of "
                f"{', '.join(map(str, poses.FOLDS))}; pass one of these."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit (={self.limit}) must be at least 1, or None for all images.")

    @property
    def pairs(self) -> list[Pair]:
        """The fixed bandwidths, of position and orientation."""
        return list(itertools.product(self.grid, self.grid))


def main(config: Config) -> Result:
    """Train on all tasks, print the tables, and write the folder of the run."""
    folder = runs.begin(config, Path("runs") / NAME)
    (folder / runs.CHECKPOINTS).mkdir(exist_ok=True)
    metrics, curves, seconds = {}, {}, {}
    for task in config.tasks:
        with runs.resumable(NAME, folder):
            metrics[task], curves[task], seconds[task] = measure(config, task, folder)
    result = Result.of(
        NAME,
        config=config,
        seeds=config.seeds,
        curve=curves,
        metrics=metrics | {"ordered": ordered(metrics)},
        seconds=seconds,
    )
    write_json(folder / runs.RESULT, result)
    print(table(metrics))
    plots.amounts(folder / "amounts.png", curves, PARTS)
    print(f"The picture and {runs.RESULT} are in {folder}.")
    return result


def measure(
    config: Config, task: str, folder: Path
) -> tuple[dict[str, Any], list[trainer.Curve], float]:
    """Train on one task in all ways, but for the trainings that the folder of the run holds.

    Returns:
        The numbers that are reported, the curves of the networks with learned bandwidths, and the
        seconds of all trainings.
    """
    parts = poses.load(poses.TASKS[task], config.digits, config.data_folder, config.fold)
    if config.limit is not None:
        parts = {name: take(p, slice(config.limit)) for name, p in parts.items()}

    def outcome(pair: Pair, learn: bool) -> dict[str, Any]:
        name = LEARNED if learn else "{:g}-{:g}".format(*pair)
        file = folder / runs.CHECKPOINTS / f"{task}-{name}.json"
        return _kept(file, lambda: _outcome(config, task, pair, parts, learn))

    learned = outcome((config.start, config.start), True)
    report = {name: learned[name] for name in ("parameters", "amounts")}
    report[LEARNED] = learned["accuracies"]
    outcomes = {pair: outcome(pair, False) for pair in config.pairs}
    fixed = {pair: of["accuracies"] for pair, of in outcomes.items()}
    if fixed:
        best = max(fixed, key=lambda pair: fixed[pair]["validation"]["mean"])
        report["fixed"] = {f"{p:g}, {o:g}": of for (p, o), of in fixed.items()}
        report["best fixed"] = {"bandwidths": list(best), **fixed[best]}
        report["strict"], report["free"] = fixed[config.pairs[0]], fixed[config.pairs[-1]]
    seconds = sum(of["seconds"] for of in (learned, *outcomes.values()))
    return report, learned["curves"], seconds


def build(config: Config, classes: int, pair: Pair, learn: bool, seed: int) -> nnx.Module:
    """Return the network of a seed, with bandwidths of position and orientation."""
    return pdo.models.relaxed_classifier(
        config.features,
        group=config.group,
        num_classes=classes,
        pool_after=(0, 1),
        filters=config.filters,
        padding=config.padding,
        position_bandwidth=pair[0],
        orientation_bandwidth=pair[1],
        learn=learn,
        rngs=nnx.Rngs(seed),
    )


def mean_amount(model: nnx.Module, part: str) -> float:
    """Return the mean over the layers of how much depends on one part of the pose."""
    return float(np.mean([v for name, v in amounts.flat(model).items() if name.endswith(part)]))


def ordered(metrics: dict[str, Any]) -> dict[str, list[bool]]:
    """Return for every seed whether the learned amounts are in the right order.

    The orientation must count least where all angles occur and most where digits are upright, the
    position most where the half of the image is asked for. Nothing is said of tasks left out.
    """
    found = {}
    for claim, part, extreme, task in (
        ("orientation least", "orientation", np.argmin, "turned"),
        ("orientation most", "orientation", np.argmax, "upright"),
        ("position most", "position", np.argmax, "halves"),
    ):
        if task in metrics:
            of = np.array([m["amounts"][part]["seeds"] for m in metrics.values()])
            right = extreme(of, axis=0) == list(metrics).index(task)
            found[f"{claim}: {task}"] = right.tolist()
    return found


def table(metrics: dict[str, Any]) -> str:
    """Return what was measured, a column for every task."""

    def row(words: str, *path: str, scale: float = 100, form: str = "{:.1f}") -> list[str]:
        cells = []
        for of in metrics.values():
            for key in path:
                of = of[key]
            cells.append(tables.spread([scale * v for v in of["seeds"]], form))
        return [words, *cells]

    rows = [
        ["", *metrics],
        row("amount of position", "amounts", "position", scale=1, form="{:.3f}"),
        row("amount of orientation", "amounts", "orientation", scale=1, form="{:.3f}"),
        row("test accuracy, learned, %", LEARNED, "test"),
    ]
    if all("fixed" in of for of in metrics.values()):
        best = ["{:g}, {:g}".format(*of["best fixed"]["bandwidths"]) for of in metrics.values()]
        rows += [
            row("strict", "strict", "test"),
            row("free", "free", "test"),
            row("best fixed pair", "best fixed", "test"),
            ["its bandwidths", *best],
        ]
    return tables.table(rows)


def _kept(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file holds; it is computed and written first if there is none."""
    if not file.is_file():
        write_json(file, compute())
    return json.loads(file.read_text(encoding="utf-8"))


def _outcome(
    config: Config, task: str, pair: Pair, parts: dict[str, Part], learn: bool
) -> dict[str, Any]:
    """Train one kind of network on a task, and return what is reported of it."""
    start = time.perf_counter()
    trained = _train(config, task, pair, parts, learn=learn)
    return {
        "parameters": networks.count_parameters(trained[0].model),
        "accuracies": {
            part: tables.summary([trainer.accuracy(t.model, *parts[part]) for t in trained])
            for part in ("validation", "test")
        },
        "amounts": {
            part: tables.summary([mean_amount(t.model, part) for t in trained], "max")
            for part in PARTS
        },
        "curves": [t.curve for t in trained],
        "seconds": time.perf_counter() - start,
    }


def _train(
    config: Config, task: str, pair: Pair, parts: dict[str, Part], *, learn: bool
) -> list[trainer.Trained]:
    """Train one kind of network on a task, for all seeds."""
    recipe = config.recipe if learn else dataclasses.replace(config.recipe, penalty=0.0)
    words = LEARNED if learn else f"{pair[0]:g}, {pair[1]:g}"
    return trainer.train_seeds(
        lambda seed: build(config, poses.TASKS[task].classes, pair, learn, seed),
        *parts["train"],
        recipe,
        seeds=config.seeds,
        label=f"{task}, {words}",
        evaluate=amounts.flat if learn else None,
        execution=trainer.Execution(together=config.together),
    )


if __name__ == "__main__":
    classification.command(Config, __doc__, experiment=main)
