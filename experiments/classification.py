"""What the classification experiments share: from data to trained networks and their record.

    data -> normalisation of training images -> a network a seed -> training -> last epoch, tested

`mnist_rot`, `cifar` and `images` say which data, networks and recipes. The labels of the test set
are used once, at the end; what is chosen, is chosen with `validate`. (A few test images, without
their labels, show after every epoch how the logits change when images turn.)
"""

from __future__ import annotations

import abc
import argparse
import ast
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from scipy import stats

import pdo_jax as pdo
from experiments import (
    amounts,
    datasets,
    devices,
    networks,
    plots,
    runs,
    specs,
    tables,
    trainer,
    zoo,
)
from experiments.augment import Augmentation
from experiments.datasets import Dataset, Normalisation, Part
from experiments.recipes import Recipe
from experiments.results import Result, write_json
from experiments.specs import Spec

SPLIT_SEED = 0  # of the split in training and validation, and of `limit`: the same in every run
PROBES = 16  # images for the equivariance error
DATA = "data.json"


def _options(words: list[str]) -> zoo.Options:
    """Return keywords from the words of the command line: names and values in turn."""
    if len(words) % 2:
        raise ValueError(f"{' '.join(words)!r} must be names and values in turn, as in 'group p4'.")
    return {name: _value(word) for name, word in zip(words[::2], words[1::2], strict=True)}


def _value(word: str) -> zoo.Value:
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return value if isinstance(value, zoo.Value) else word


RecipeOptions = Annotated[Recipe, tyro.conf.arg(name="recipe")]  # --recipe.epochs and so on
NetworkOptions = Annotated[
    zoo.Options,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME VALUE ...]",
        instance_from_str=_options,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda options: [str(word) for pair in options.items() for word in pair],
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(abc.ABC):
    """The options that all classification experiments have."""

    experiment: ClassVar[str]
    """The name of the command."""
    training: RecipeOptions = Recipe()
    """The same for all networks and seeds."""
    augmentation: Augmentation = Augmentation()
    """What happens to training images."""
    network: zoo.Name = "mnist_rot"
    """Which network is trained."""
    network_options: NetworkOptions = dataclasses.field(default_factory=dict)
    """Keywords of its function in pdo_jax.models, such as group p4, in place of the recipe's."""
    compare: zoo.Name | None = None
    """A second network, with the same recipe, data and seeds; the difference is reported."""
    compare_options: NetworkOptions = dataclasses.field(default_factory=dict)
    """Keywords of the second network's function."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are float32."""
    seeds: tuple[int, ...] = (0,)
    """One independent run a seed; several are reported by mean, deviation and worst."""
    limit: int | None = None
    """Train on so many images, classes in equal shares; always the same ones."""
    validate: bool = False
    """Leave `held_out` training images out of training and report on them, not on the test set."""
    held_out: int = 2000
    """How many images `validate` leaves out; always the same ones."""
    execution: trainer.Execution = trainer.Execution()
    """How the work is done."""
    elements: str = "p8"
    """The group for whose elements the change of the logits is measured."""
    hosts: devices.Hosts = devices.Hosts()
    """Several processes, on one machine or on many, that train together."""
    resume: Path | None = None
    """Go on with the run in this folder, with the options that it was started with."""
    out: Path | None = None
    """The folder of the run; by default the first of runs/NAME, runs/NAME-2 ... that is not in
    use."""
    overwrite: bool = False
    """Replace an earlier run in `out`."""

    def __post_init__(self):
        zoo.check(self.network, self.network_options)
        if self.compare is not None:
            zoo.check(self.compare, self.compare_options)
        _plane("elements", self.elements)
        runs.check_seeds(self.seeds)
        for name in ("limit", "held_out"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} (={getattr(self, name)}) must be at least 1.")

    @property
    def measured_on(self) -> str:
        """A word for the images that errors are measured on."""
        return "held-out" if self.validate else "test"

    @abc.abstractmethod
    def load(self) -> Dataset:
        """Return the data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(Config):
    """The options of experiments on a published data set."""

    data: str
    """The name of the data set."""
    data_folder: Path | None = None
    """Where its files are or go; by default PDO_JAX_DATA, or ~/.cache/pdo_jax."""
    verify: bool = True
    """Whether files that are there already must have the published checksums."""

    def load(self) -> Dataset:
        """Return the data set."""
        return datasets.load(self.data, self.data_folder, self.verify)


C = TypeVar("C")


def command(
    config: type[C],
    about: str | None,
    recipes: Mapping[str, C] | None = None,
    experiment: Callable[[Any], Result] | None = None,
) -> None:
    """Run an experiment, by default `run`, from the command line.

    `--recipe NAME` says which of `recipes` the other options change, the first if it is left out;
    `--resume FOLDER` says that it is the options of that run.
    """
    main: Callable[[Any], Result] = experiment or run
    runs.command(main, config, about, lambda: starting_options(config, recipes or {}))


def starting_options(config: type[C], recipes: Mapping[str, C]) -> C | None:
    """Return the options that the command line changes: a recipe's, or those of a run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    # An option without its value is refused by the parser of all options, which knows them.
    parser.add_argument("--recipe", "--model", nargs="?", default=next(iter(recipes), None))
    parser.add_argument("--resume", nargs="?", type=Path)
    given, _ = parser.parse_known_args()
    if given.resume is not None:
        return specs.read(config, given.resume / runs.CONFIG)
    return recipes.get(given.recipe)  # what is not there is refused by the parser of all options


def run(config: Config) -> Result:
    """Train the networks of a configuration, print a table, and write the folder of the run.

    Returns:
        The record; by network "error" is per cent of wrong answers after the last epoch.

    Raises:
        trainer.Interrupted: if the user asked to stop, with the command that goes on.
        trainer.Diverged: if a loss is infinite or not a number.
        ValueError: if options do not fit the data, or each other.
        OSError: if data cannot be had, or files not be written.
    """
    start = time.perf_counter()
    default = Path("runs") / config.experiment
    runs.check_run(config, default)
    dataset = devices.main_first(config.load)
    train, tests = parts(config, dataset)
    described = describe(config, dataset.classes, train.images)
    for spec in described.values():
        nnx.eval_shape(partial(spec.build, config.seeds[0]))  # raises for options that do not fit
    folder = runs.begin(config, default)
    if config.resume is not None:
        check_data(folder, train, tests)
    elif devices.is_main():
        write_json(folder / DATA, fingerprints(train, tests))
    if devices.is_main():
        specs.write(folder, described)
    probes = Probes.of(tests.images[:PROBES], config.elements)
    reports: dict[str, list[dict[str, Any]]] = {}
    curves: dict[str, list[trainer.Curve]] = {}
    for label, spec in described.items():
        trained = _train(label, spec, config, train, tests, probes, folder)
        reports[label] = [
            report(t.model, tests, spec.normalisation, probes) | t.seconds for t in trained
        ]
        curves[label] = [t.curve for t in trained]
    metrics = _metrics(reports)
    result = Result.of(
        config.experiment,
        config=config,
        seeds=config.seeds,
        curve=curves,
        metrics=metrics | {"data": _about(dataset, config)},
        seconds={"in all": time.perf_counter() - start},
    )
    if not devices.is_main():
        return result
    write_json(folder / runs.RESULT, result)
    print(table(reports, config.measured_on))
    if "difference" in metrics:
        print(_in_words(metrics["difference"]))
    plots.training(folder / "training.png", curves)
    print(f"Picture, checkpoints and {runs.RESULT} are in {folder}.")
    return result


def parts(config: Config, dataset: Dataset) -> tuple[Part, Part]:
    """Return the images for training, and those that the trained networks are measured on."""
    train, tests = dataset.train, dataset.test
    if config.validate:
        train, tests = datasets.split(train, _fitting("held_out", config, train), SPLIT_SEED)
    if config.limit is not None and config.limit != len(train.labels):
        _, train = datasets.split(train, _fitting("limit", config, train), SPLIT_SEED)
    return train, tests


def fingerprints(train: Part, tests: Part) -> dict[str, str]:
    """Return what tells images and labels from all others: a checksum of each part."""
    named = {"train": train, "test": tests}
    return {
        name: hashlib.sha256(b"".join(a.tobytes() for a in part)).hexdigest()
        for name, part in named.items()
    }


def check_data(folder: Path, train: Part, tests: Part) -> None:
    """Raise unless images are those that a run began with: others are split otherwise.

    Raises:
        ValueError: if they are not; what was trained on might be tested on.
    """
    path = folder / DATA
    if not path.is_file():  # of an earlier version
        return
    if json.loads(path.read_text(encoding="utf-8")) != fingerprints(train, tests):
        raise ValueError(
            f"the run in {folder} had other data: images were added, removed or changed since, so "
            "that some it was trained on may be test images now; put the data back as they were, "
            "or evaluate with --data on images that the run has not seen."
        )


def describe(config: Config, classes: Sequence[str], images: np.ndarray) -> dict[str, Spec]:
    """Return the networks to train, by the names that tables and folders give them.

    Args:
        config: which networks.
        classes: the names of the classes.
        images: all training images, which normalisation is made for.
    """
    chosen = [(config.network, config.network_options)]
    if config.compare is not None:
        chosen.append((config.compare, config.compare_options))
    labels = [network for network, _ in chosen]
    if len(set(labels)) < len(labels):
        labels[1] += "-2"
    return {
        label: Spec(
            experiment=config.experiment,
            network=network,
            options=options,
            dtype=config.dtype,
            classes=tuple(classes),
            shape=images.shape[1:],
            normalisation=Normalisation.of(images),
            recipe=config.training,
        )
        for label, (network, options) in zip(labels, chosen, strict=True)
    }


@dataclasses.dataclass(frozen=True)
class Probes:
    """A few images, moved by all elements of a group, to see how the logits change."""

    moved: np.ndarray
    """`(|G|, N, H, W, C)` float32 in [0, 1]; those of the identity come first."""

    @classmethod
    def of(cls, images: np.ndarray, group: str) -> Probes:
        """Return the probes made of `(N, H, W, C)` uint8 images.

        Raises:
            ValueError: if the group is not one of the plane.
        """
        _plane("elements", group)
        still = jnp.asarray(images.astype(np.float32) / 255)
        elements = range(pdo.group(group).order)
        return cls(np.stack([np.asarray(pdo.act(group, g, still)) for g in elements]))

    def error(self, model: nnx.Module, normalise: Normalisation) -> np.ndarray:
        """Return the relative change of the logits for each element: `pdo.equivariance_error`."""
        flat = self.moved.reshape(-1, *self.moved.shape[2:])
        said = trainer.logits(model, flat, normalise=normalise).astype(np.float64)
        said = said.reshape(*self.moved.shape[:2], -1)
        return np.linalg.norm(said - said[0], axis=(1, 2)) / np.linalg.norm(said[0])


def report(
    model: nnx.Module, tests: Part, normalise: Normalisation, probes: Probes
) -> dict[str, Any]:
    """Return what is reported of a trained network; the error is in per cent."""
    right = trainer.accuracy(model, *tests, normalise=normalise)
    return {
        "parameters": networks.count_parameters(model),
        "error": 100 * (1 - right),
        "equivariance_error": probes.error(model, normalise).tolist(),
    }


def _train(
    label: str,
    spec: Spec,
    config: Config,
    train: Part,
    tests: Part,
    probes: Probes,
    folder: Path,
) -> list[trainer.Trained]:
    """Train one network for all seeds."""

    def evaluate(model: nnx.Module) -> dict[str, float]:
        numbers = {"equivariance_error": float(probes.error(model, spec.normalisation).max())}
        if config.validate:
            right = trainer.accuracy(model, *tests, normalise=spec.normalisation)
            numbers["held_out"] = right
        return numbers | amounts.flat(model)

    with runs.resumable(config.experiment, folder):
        return trainer.train_seeds(
            spec.build,
            *train,
            config.training,
            seeds=config.seeds,
            label=label,
            normalise=spec.normalisation,
            augment=config.augmentation,
            evaluate=evaluate,
            folder=specs.network_folder(folder, label),
            resume=config.resume is not None,
            execution=config.execution,
        )


def _plane(option: str, group: str) -> None:
    if pdo.group(group).ndim != 2:
        raise ValueError(f"{option} (={group!r}) must be a group of the plane; pass 'p8'.")


def _fitting(option: str, config: Config, part: Part) -> int:
    """Return how many images to split off, if all classes can be on both sides."""
    wanted, count = getattr(config, option), len(part.labels)
    classes = len(np.unique(part.labels))
    if not classes <= wanted <= count - classes:
        raise ValueError(
            f"{option} (={wanted}) must be from {classes} to {count - classes}: of the {count} "
            f"images that there are, both shares need one of each of the {classes} classes."
        )
    return wanted


def _about(dataset: Dataset, config: Config) -> dict[str, Any]:
    """Return what the errors were measured on."""
    return {
        "name": dataset.name,
        "published files": dataset.published,
        "measured on": config.measured_on,
    }


def _metrics(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return mean, deviation and worst over the seeds of everything that was measured."""
    metrics: dict[str, Any] = {}
    for name, of in reports.items():
        metrics[name] = {
            "parameters": of[0]["parameters"],
            "error": tables.summary([r["error"] for r in of], "max"),
            "equivariance_error": np.mean([r["equivariance_error"] for r in of], 0),
            "seconds": {
                k: tables.summary([r[k] for r in of], "max")
                for k in ("train", "compile", "evaluate")
            },
        }
    if len(reports) == 2:
        errors = [[r["error"] for r in of] for of in reports.values()]
        metrics["difference"] = difference(*errors)
    return metrics


def difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Return the mean of first - second, paired over the seeds, and its 95 % interval.

        mean +- t s / sqrt(n),      t the 97.5 % quantile of Student's distribution, n - 1 degrees

    Args:
        first: one number a seed.
        second: the numbers of the same seeds.

    Returns:
        "mean", "seeds" (the differences), and "interval": low and high, or None for one seed.
    """
    values = np.subtract(first, second)
    mean, interval = float(values.mean()), None
    if len(values) > 1:
        deviation = values.std(ddof=1) / np.sqrt(len(values))
        width = float(stats.t.ppf(0.975, len(values) - 1) * deviation)
        interval = [mean - width, mean + width]
    return {"mean": mean, "interval": interval, "seeds": values.tolist()}


def table(reports: Mapping[str, Sequence[Mapping[str, Any]]], measured_on: str) -> str:
    """Return the table of what `report` measured, by network and seed."""

    def row(words: str, value: Callable[..., float], form: str, worst: str | None = None):
        return [words, *(tables.spread([value(r) for r in of], form, worst) for of in all_seeds)]

    all_seeds = reports.values()
    rows = [
        ["", *reports],
        ["parameters", *(f"{of[0]['parameters']:,}" for of in all_seeds)],
        row(f"{measured_on} error, %", lambda r: r["error"], "{:.2f}", "max"),
        row("largest change of the logits", lambda r: max(r["equivariance_error"]), "{:.1e}"),
    ]
    times = {"train": "training", "compile": "compilation", "evaluate": "evaluation"}
    rows += [
        row(f"seconds of {words}", lambda r, key=key: r[key], "{:.1f}")
        for key, words in times.items()
        if all(key in of[0] for of in all_seeds)
    ]
    return tables.table(rows)


def _in_words(difference: dict[str, Any]) -> str:
    words = f"Difference of the errors, first minus second: {difference['mean']:+.2f} points"
    if difference["interval"] is None:
        return f"{words} (one seed: no interval)."
    low, high = difference["interval"]
    seeds = len(difference["seeds"])
    return f"{words}, 95 % interval {low:+.2f} to {high:+.2f} ({seeds} seeds, paired)."
