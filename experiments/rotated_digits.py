"""Train on upright digits, test at every angle: an invariant PDO-eConv network beside a plain CNN.

    python -m experiments.rotated_digits --seeds 0 1 2

Both networks have the same number of parameters, within 5 %, the same data, recipe and steps. They
never see a rotated digit in training. `networks` holds the two, `trainer` the loop.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

import pdo_jax as pdo
from experiments import angles, datasets, networks, plots, recipes, runs, tables, trainer
from experiments.augment import Augmentation
from experiments.results import Result, write_json
from pdo_jax.fields import inscribed_disc

NAME = "rotated_digits"
INVARIANT, PLAIN = "invariant PDO-eConv", "plain CNN"
ACCURACIES = ("upright", "random", "worst_angle")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `python -m experiments.rotated_digits`."""

    recipe: recipes.Recipe = recipes.Recipe()
    """The same for both networks."""
    seeds: tuple[int, ...] = (0,)
    """One run a seed; several are reported by their mean, deviation and worst."""
    group: str = "p12"
    """The rotations that the invariant network convolves over: "p4", "p8", "p12" ..."""
    features: tuple[int, ...] = (6, 8, 16, 32)
    """Fields after every convolution."""
    orientation: float = np.pi / 12
    """Of the frame of the free weights, in radians."""
    operators: str = "total"
    """The derivatives in a filter: "total", all up to the second, or "box", up to d_x^2 d_y^2."""
    scheme: str = "gaussian"
    """Their discretisation, as in `pdo_jax.filter_basis`."""
    sigma: float | None = 0.9
    """The blur of the scheme "gaussian" in pixels; None for its default, and for other schemes."""
    size: int | None = 5
    """Taps along an axis; None for the smallest number that holds the filters."""
    shift: float = 1.5
    """At every step training digits move by up to so many pixels; they stay upright."""
    limit: int | None = None
    """Use no more than so many digits for training and for testing, for a quick look."""
    out: Path | None = None
    """The folder of the run; by default the first of runs/rotated_digits, runs/rotated_digits-2 ...
    that is not in use."""
    overwrite: bool = False
    """Replace an earlier run in `out`."""

    def __post_init__(self):
        # Both raise for options that do not exist.
        pdo.filter_basis(self.group, **self.basis)
        Augmentation(shift=self.shift)
        group = pdo.group(self.group)
        if group.order < 2 or np.any(np.linalg.det(group.matrices) < 0):
            raise ValueError(
                f"group (={self.group!r}) must be rotations by less than a full turn; pass 'p8'."
            )
        runs.check_seeds(self.seeds)
        if len(self.features) != 4 or min(self.features) < 1:
            raise ValueError(
                f"features (={self.features}) must be four numbers of at least 1, one a "
                "convolution; pass e.g. --features 6 8 16 32."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit (={self.limit}) must be at least 1, or None for all digits.")

    @property
    def basis(self) -> dict[str, Any]:
        """The options of the layers but the group, as `pdo_jax.filter_basis` takes them."""
        names = ("orientation", "operators", "scheme", "sigma", "size")
        return {name: getattr(self, name) for name in names}


def main(config: Config) -> Result:
    """Train and test both networks, print the table, and write the folder of the run."""
    start = time.perf_counter()
    folder = runs.begin(config, Path("runs") / NAME)
    train, tests = angles.data(config.limit)
    reports: dict[str, list[dict[str, Any]]] = {INVARIANT: [], PLAIN: []}
    curves: dict[str, list[trainer.Curve]] = {INVARIANT: [], PLAIN: []}
    drawn: Any = None
    for seed in config.seeds:
        models: dict[str, Any] = dict(build(config, seed))
        for name, model in models.items():
            trained = _train(f"seed {seed}, {name}", model, train, tests, config, seed, folder)
            models[name] = trained.model
            measured = angles.measure(trained.model, tests, config.group)
            reports[name].append(measured | trained.seconds)
            curves[name].append(trained.curve)
        drawn = drawn or models[INVARIANT]  # of the first seed
    result = Result.of(
        NAME,
        config=config,
        seeds=config.seeds,
        curve=curves,
        metrics=_metrics(reports),
        seconds={"in all": time.perf_counter() - start},
    )
    write_json(folder / runs.RESULT, result)
    print(_table(reports, config.group))
    _draw(drawn, config.group, tests, folder)
    plots.training(folder / "training.png", curves)
    by_angle = {name: 100 * np.mean([r["by_angle"] for r in reports[name]], 0) for name in reports}
    plots.accuracy_by_angle(folder / "accuracy_by_angle.png", angles.DEGREES, by_angle)
    print(f"Pictures, checkpoints and {runs.RESULT} are in {folder}.")
    return result


def build(config: Config, seed: int) -> dict[str, networks.Classifier]:
    """Return both networks, with as many parameters."""
    invariant = networks.invariant_network(
        config.features, config.group, **config.basis, rngs=nnx.Rngs(seed)
    )
    sizes = networks.in_proportion(
        config.features, networks.count_parameters(invariant), networks.plain_parameters
    )
    return {INVARIANT: invariant, PLAIN: networks.plain_network(sizes, rngs=nnx.Rngs(seed))}


def _train(
    label: str,
    model: networks.Classifier,
    train: datasets.Part,
    tests: angles.HeldOut,
    config: Config,
    seed: int,
    folder: Path,
) -> trainer.Trained:
    some = datasets.take(tests.random, slice(len(tests.upright.labels) // 2))  # for the curve alone
    return trainer.train(
        model,
        *train,
        config.recipe,
        seed=seed,
        label=label,
        # What has seen a digit at many places between the pixels depends less on the grid, the one
        # thing that tells a rotated digit from an upright one.
        augment=Augmentation(shift=config.shift),
        evaluate=lambda model: {"rotated": trainer.accuracy(model, *some)},
        folder=folder / runs.CHECKPOINTS / label.replace(", ", "-").replace(" ", "_"),
    )


def _metrics(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return mean, deviation and worst over the seeds of everything that was measured."""
    metrics: dict[str, Any] = {}
    for name, runs_of_it in reports.items():
        accuracies = {k: tables.summary([r[k] for r in runs_of_it]) for k in ACCURACIES}
        times = {k: tables.summary([r[k] for r in runs_of_it], "max") for k in ("train", "compile")}
        mean = {
            k: np.mean([r[k] for r in runs_of_it], 0) for k in ("by_angle", "equivariance_error")
        }
        count = runs_of_it[0]["parameters"]
        metrics[name] = {"parameters": count, **accuracies, **mean, "seconds": times}
    margin = [a["random"] - b["random"] for a, b in zip(*reports.values(), strict=True)]
    return metrics | {"margin at random rotations": tables.summary(margin)}


def _table(reports: dict[str, list[dict[str, Any]]], group: str) -> str:
    def row(words: str, value: Any, form: str = "{:.1f}", worst: str | None = None) -> list[str]:
        return [words, *(tables.spread([value(r) for r in of], form, worst) for of in all_seeds)]

    def percent(words: str, key: str) -> list[str]:
        return row(f"accuracy {words}, %", lambda r: 100 * r[key], worst="min")

    all_seeds = reports.values()
    errors = [
        row(f"equivariance error, element {g}", lambda r, g=g: r["equivariance_error"][g], "{:.1e}")
        for g in range(pdo.group(group).order)
    ]
    return tables.table(
        [
            ["", *reports],
            ["parameters", *(f"{of[0]['parameters']:,}" for of in all_seeds)],
            percent("upright", "upright"),
            percent("at random rotations", "random"),
            percent("at the worst of 24 angles", "worst_angle"),
            *errors,
            row("seconds of training", lambda r: r["train"]),
            row("seconds of compilation", lambda r: r["compile"]),
        ]
    )


def _draw(model: Any, group: str, tests: angles.HeldOut, folder: Path) -> None:
    """Draw the output channel of the first layer that depends most on the direction."""
    order = pdo.group(group).order
    image = jnp.asarray(tests.upright.images[min(3, len(tests.upright.images) - 1)])
    moved = pdo.act(group, 1, image)
    upright, rotated = (model.features(x[None], 1)[0] for x in (image, moved))
    channel = int(jnp.argmax(jnp.sum(jnp.var(upright, axis=-2), axis=(0, 1))))

    kernel = pdo.lift_kernel(model.convs[0].kernel[...], model.convs[0].basis)
    kernels = kernel.reshape(*kernel.shape[:2], order, -1)[..., channel]
    degrees = [360 * g / order for g in range(order)]
    plots.filters(folder / "filters.png", np.moveaxis(np.asarray(kernels), -1, 0), degrees)
    rows = {
        "field of the\nupright digit": (image, upright),
        "field of the\nrotated digit": (moved, rotated),
        "first row, moved\nby the group": (moved, pdo.act(group, 1, upright, "field")),
    }
    disc = inscribed_disc(upright.shape[:2])[..., None]  # what a rotation keeps inside the frame
    pictures = {
        label: (np.asarray(x[..., 0]), np.where(disc, field[..., channel], np.nan))
        for label, (x, field) in rows.items()
    }
    plots.feature_field(folder / "feature_field.png", pictures)


if __name__ == "__main__":
    runs.command(main, Config, __doc__)
