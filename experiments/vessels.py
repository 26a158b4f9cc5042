"""Vessels of the retina: DRIVE's forty photographs, twenty to learn from, twenty to be tested on.

    python -m experiments.vessels --network pde_6 --compare cnn_6 gcnn_6 --seeds 0 1 2

Networks lower the Dice loss on patches (or on whole photographs), and are tested on whole ones,
inside the official fields of view, after the last step. `--tune 1e-3 1e-2` chooses each network's
learning rate by short trainings on sixteen of the training photographs, measured on the other four;
`--seconds 600` trains every network for as long, in place of as many steps. The test set is used
once, at the end; with --validate not at all: then the four photographs are measured on.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from flax import nnx

from experiments import (
    classification,
    devices,
    plots,
    runs,
    segmentation,
    specs,
    tables,
    trainer,
    zoo,
)
from experiments.augment import Lighting
from experiments.datasets import Normalisation, drive
from experiments.datasets.drive import Retinas
from experiments.evaluation import Prepare
from experiments.execution import Work
from experiments.networks import count_parameters
from experiments.objectives import Dice, Patches
from experiments.recipes import Recipe
from experiments.results import Result, write_json
from experiments.segmentation import SCORES
from experiments.specs import Spec

SPLIT_SEED = 0  # of the photographs that are held out: the same ones in every run
TUNE_SEED = 0  # of the trainings that tune
DECIDED = "decided.json"
LABELS = {score: score for score in SCORES} | {"dice": "Dice", "auc": "AUC"}
WORDS = {"found": "found", "false": "falsely found", "missed": "missed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of `python -m experiments.vessels`."""

    experiment: ClassVar[str] = "vessels"
    """The name of the command."""
    recipe: Literal["patches", "whole"] = "patches"
    """The configuration that all other options change."""
    training: classification.RecipeOptions = Recipe(
        epochs=20, batch_size=8, learning_rate=3e-3, warmup=0.1, checkpoint_every=1
    )
    """The same for all networks and seeds, but for learning rates that are tuned or given. An epoch
    is a share of the steps: after each the curve has a row."""
    steps: int = 2000
    """In all; a multiple of the epochs."""
    seconds: float | None = None
    """Train each network and seed for so long, in place of `steps`: as many steps are planned as
    the pace of a few of them promises, and training ends after the first at which time is up."""
    patch: int | None = 64
    """The side of the patches in pixels; None for whole photographs."""
    poses: bool = True
    """Show patches in all quarter turns and mirror images, whole photographs mirrored."""
    lighting: Lighting = Lighting(contrast=0.2, brightness=0.1)
    """How much contrast and brightness of training images change."""
    network: zoo.Segmenter = "pde_6"
    """Which network is trained."""
    compare: tuple[zoo.Segmenter, ...] = ()
    """Further networks, with the same data and seeds; their differences from the first are
    reported."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are float32."""
    seeds: tuple[int, ...] = (0,)
    """One independent run a seed; several are reported by mean, deviation and worst."""
    tune: tuple[float, ...] = ()
    """Learning rates to choose from: the one whose training, of `tune_steps` steps and on one seed,
    leads to the best Dice coefficient on held-out photographs; for every network by itself."""
    tune_steps: int = 200
    """Of each of the trainings that tune."""
    rates: tuple[float, ...] = ()
    """Learning rates of the networks, in their order; such as an earlier run has tuned."""
    validate: bool = False
    """Leave `held_out` training photographs out of training and report on them, not on the test
    set."""
    held_out: int = 4
    """How many photographs are left out by `validate` and `tune`; always the same ones."""
    limit_test: int | None = None
    """Report on so many photographs alone, the first ones."""
    pictures: int = 4
    """Of how many photographs pictures are drawn, of the first seed. DRIVE's licence allows nobody
    to pass them on."""
    data_folder: Path | None = None
    """That holds DRIVE; by default PDO_JAX_DATA, or ~/.cache/pdo_jax."""
    execution: trainer.Execution = trainer.Execution(together=False)
    """How the work is done."""
    hosts: devices.Hosts = devices.Hosts()
    """Several processes, on one machine or on many, that train together."""
    resume: Path | None = None
    """Go on with the run in this folder, with the options that it was started with."""
    out: Path | None = None
    """The folder of the run; by default the first of runs/vessels, runs/vessels-2 ... that is not
    in use."""
    overwrite: bool = False
    """Replace an earlier run in `out`."""

    def __post_init__(self):
        if len(set(self.networks)) < len(self.networks):
            raise ValueError(
                f"compare (={self.compare}) must name networks that differ from each other and "
                f"from network (={self.network!r})."
            )
        runs.check_seeds(self.seeds)
        for name in ("tune_steps", "held_out", "limit_test"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} (={getattr(self, name)}) must be at least 1.")
        if self.steps < 1 or self.steps % self.training.epochs:
            raise ValueError(
                f"steps (={self.steps}) must be a multiple of recipe.epochs "
                f"(={self.training.epochs}); change one of the two."
            )
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds (={self.seconds}) must be above 0, or None to count steps.")
        if self.seconds is not None and self.execution.together is not False:
            raise ValueError(
                f"execution.together (={self.execution.together}) must be False where seconds "
                f"(={self.seconds}) are counted: seeds that share a program share its time."
            )
        if self.training.label_smoothing:
            raise ValueError(
                f"recipe.label_smoothing (={self.training.label_smoothing}) is for classes; pass 0."
            )
        if any(not rate > 0 for rate in (*self.tune, *self.rates)):
            raise ValueError(f"tune (={self.tune}) and rates (={self.rates}) must be above 0.")
        if self.rates and (self.tune or len(self.rates) != len(self.networks)):
            raise ValueError(
                f"rates (={self.rates}) must be one for each of the networks {self.networks}, and "
                "go without tune."
            )

    @property
    def networks(self) -> tuple[str, ...]:
        """All networks, the one that the others are compared with first."""
        return (self.network, *self.compare)

    @property
    def measured_on(self) -> str:
        """A word for the photographs that are reported on."""
        return "held-out" if self.validate else "test"


RECIPES: dict[str, Config] = {
    # Patches, small enough for a CPU.
    "patches": Config(),
    # Whole photographs, for a GPU.
    "whole": Config(
        recipe="whole",
        patch=None,
        training=dataclasses.replace(Config().training, batch_size=2),
    ),
}


def main(config: Config) -> Result:
    """Train and test the networks of a configuration, print a table, and write the run's folder.

    Returns:
        The record; for every network `metrics` holds its scores over the seeds after the last step.

    Raises:
        trainer.Interrupted: if the user asked to stop, with the command that goes on.
        trainer.Diverged: if a loss is infinite or not a number.
        ValueError: if options do not fit the data, or each other.
        OSError: if data cannot be had, or files not be written.
    """
    start = time.perf_counter()
    default = Path("runs") / config.experiment
    runs.check_run(config, default)
    train, tests = parts(config, *devices.main_first(lambda: drive.load(config.data_folder)))
    folder = runs.begin(config, default)
    if config.resume is None:
        devices.from_main(lambda: (folder / DECIDED).unlink(missing_ok=True))
    decided = Decided(folder / DECIDED)
    with runs.resumable(config.experiment, folder):
        described = describe(config, train, decided)
    if devices.is_main():
        specs.write(folder, described)
    metrics: dict[str, Any] = {}
    curves: dict[str, list[trainer.Curve]] = {}
    shown: dict[str, np.ndarray] = {}
    for name, spec in described.items():
        steps = _planned_steps(config, spec, train, decided)
        trained = _train(config, spec, steps, train, folder)
        curves[name] = [one.curve for one in trained]
        said = [_measure(one, spec, tests) for one in trained]
        shown[name] = said[0][1][: config.pictures]
        metrics[name] = {
            "learning rate": spec.recipe.learning_rate,
            "tried": {f"{r:g}": decided.read(_trial(name, r)) for r in config.tune},
            "planned steps": steps,
            **summary([report for report, _ in said]),
        }
    metrics["differences"] = differences(metrics, config.networks)
    metrics["data"] = {
        "name": "DRIVE",
        "measured on": config.measured_on,
        "photographs": len(tests.images),
    }
    result = Result.of(
        config.experiment,
        config=config,
        seeds=config.seeds,
        curve=curves,
        metrics=metrics,
        seconds={"in all": time.perf_counter() - start},
    )
    if not devices.is_main():
        return result
    write_json(folder / runs.RESULT, result)
    print(f"On {len(tests.images)} {config.measured_on} photographs, inside the field of view:")
    print(tables.table(score_rows(metrics, config.networks)))
    if config.compare:
        print("Differences, paired over the seeds, with 95 % intervals:")
        print(tables.table(difference_rows(metrics, config.networks)))
    plots.training(folder / "training.png", curves, plots.OF_SEGMENTERS)
    _draw(folder, tests, shown)
    print(f"Pictures, checkpoints and {runs.RESULT} are in {folder}.")
    return result


def parts(config: Config, train: Retinas, test: Retinas) -> tuple[Retinas, Retinas]:
    """Return the photographs for training, and those that the trained networks are measured on."""
    if config.validate:
        train, test = split(train, config.held_out)
    if config.tune:
        split(train, config.held_out)  # raises where too few would stay to be tuned on
    return train, take(test, slice(config.limit_test))


def split(retinas: Retinas, held_out: int) -> tuple[Retinas, Retinas]:
    """Return the photographs that stay, and those that are held out: always the same ones."""
    count = len(retinas.images)
    if held_out >= count:
        raise ValueError(
            f"held_out (={held_out}) must be below the {count} photographs that there are."
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    return take(retinas, np.sort(order[held_out:])), take(retinas, np.sort(order[:held_out]))


def take(retinas: Retinas, index: np.ndarray | slice) -> Retinas:
    """Return some of the photographs."""
    return Retinas(*(array[index] for array in retinas))


def normalisation(retinas: Retinas) -> Normalisation:
    """Return the statistics of the photographs inside their fields of view."""
    inside = retinas.images[retinas.field_of_view]
    return Normalisation.of(inside.reshape(1, -1, 1, inside.shape[-1]))


class Decided:
    """What is measured once in a run and decides how it goes on: a file of numbers by name.

    A run that is resumed reads there what it has decided before.
    """

    def __init__(self, path: Path):
        self._path = path
        self._numbers: dict[str, float] = {}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            self._numbers = {k: np.nan if v is None else v for k, v in found.items()}

    def read(self, name: str) -> float:
        """Return a number that is there."""
        return self._numbers[name]

    def number(self, name: str, measure: Callable[[], float]) -> float:
        """Return a number; it is measured unless it is there already."""
        if name not in self._numbers:
            self._numbers[name] = measure()
            if devices.is_main():
                write_json(self._path, self._numbers)
        return self._numbers[name]


def describe(config: Config, train: Retinas, decided: Decided) -> dict[str, Spec]:
    """Return the networks to train by name, with learning rates given, tuned, or the recipe's."""
    described = {}
    for i, name in enumerate(config.networks):
        spec = Spec(
            experiment=config.experiment,
            network=name,
            options={},
            dtype=config.dtype,
            classes=("vessel",),
            shape=train.images.shape[1:],
            normalisation=normalisation(train),
            recipe=config.training,
        )
        if config.rates:
            spec = _with_rate(spec, config.rates[i])
        elif config.tune:
            spec = _with_rate(spec, tuned(config, spec, train, decided))
        described[name] = spec
    return described


def tuned(config: Config, spec: Spec, train: Retinas, decided: Decided) -> float:
    """Return the learning rate of `tune` whose short training leads to the best Dice coefficient.

    Each is tried on the same seed and the same steps, and measured on photographs that are held out
    of `train`.

    Raises:
        trainer.Diverged: if no loss stayed finite.
    """
    stay, held_out = split(train, config.held_out)
    short = dataclasses.replace(config.training, epochs=1, checkpoint_every=0.0)
    of_these = dataclasses.replace(spec, recipe=short, normalisation=normalisation(stay))

    def attempt(rate: float) -> float:
        its = _with_rate(of_these, rate)
        label = f"{spec.network}, learning rate {rate:g}"
        options = _options(config, its, config.tune_steps, label)
        try:
            trained = trainer.train(
                its.build(TUNE_SEED), *_data(stay), its.recipe, seed=TUNE_SEED, **options
            )
        except trainer.Diverged:
            return np.nan
        said = _ask(trained.model, its, held_out)
        return segmentation.report(said, *held_out[1:])["mean"]["dice"]

    found = {
        rate: decided.number(_trial(spec.network, rate), lambda rate=rate: attempt(rate))
        for rate in config.tune
    }
    finite = {rate: dice for rate, dice in found.items() if np.isfinite(dice)}
    if not finite:
        raise trainer.Diverged(
            f"{spec.network} diverges at all of the learning rates tune (={config.tune}); pass "
            "smaller ones."
        )
    return max(finite, key=lambda rate: finite[rate])


def _trial(network: str, rate: float) -> str:
    return f"{network}, learning rate {rate:g}, dice"


def _with_rate(spec: Spec, rate: float) -> Spec:
    return dataclasses.replace(spec, recipe=dataclasses.replace(spec.recipe, learning_rate=rate))


def _data(retinas: Retinas) -> tuple[np.ndarray, np.ndarray]:
    """Return images and targets as the objective takes them."""
    return retinas.images, np.stack([retinas.vessels, retinas.field_of_view], -1)


def _objective(config: Config, spec: Spec, steps: int) -> Dice:
    """Return the objective of which an epoch is the recipe's share of so many steps."""
    examples = steps // spec.recipe.epochs * spec.recipe.batch_size
    return Dice(Patches(examples, config.patch, config.poses))


def _options(config: Config, spec: Spec, steps: int, label: str) -> dict[str, Any]:
    """Return what all trainings have in common."""
    return dict(
        objective=_objective(config, spec, steps),
        label=label,
        normalise=spec.normalisation,
        augment=config.lighting,
        execution=config.execution,
    )


def _planned_steps(config: Config, spec: Spec, train: Retinas, decided: Decided) -> int:
    """Return the steps of a training: those asked for, or as many as its seconds have room for."""
    if config.seconds is None:
        return config.steps
    seconds, epochs = config.seconds, spec.recipe.epochs

    def measure() -> float:
        work = Work(
            *_data(train),
            spec.recipe,
            Prepare(spec.normalisation, config.lighting),
            _objective(config, spec, config.steps),
        )
        seed = config.seeds[0]
        graph, state = work.start([spec.build(seed)], [seed], together=False)
        program = work.program(graph, state, False, config.execution.fused)
        return work.pace(program, state)

    pace = decided.number(f"{spec.network}, seconds of a step", measure)
    return max(1, int(seconds / pace / epochs)) * epochs


def _train(
    config: Config, spec: Spec, steps: int, train: Retinas, folder: Path
) -> list[trainer.Trained]:
    """Train one network for all seeds."""
    with runs.resumable(config.experiment, folder):
        return trainer.train_seeds(
            spec.build,
            *_data(train),
            spec.recipe,
            seeds=config.seeds,
            folder=specs.network_folder(folder, spec.network),
            resume=config.resume is not None,
            seconds=config.seconds,
            **_options(config, spec, steps, spec.network),
        )


def _ask(model: nnx.Module, spec: Spec, retinas: Retinas) -> np.ndarray:
    """Return the probabilities `(N, H, W)` of vessels in photographs."""
    return segmentation.probabilities(model, retinas.images, spec.normalisation)


def _measure(
    trained: trainer.Trained, spec: Spec, tests: Retinas
) -> tuple[dict[str, Any], np.ndarray]:
    """Return what is reported of a trained network, and what it says of the photographs."""
    start = time.perf_counter()
    said = _ask(trained.model, spec, tests)
    seconds = trained.seconds | {"test": time.perf_counter() - start}
    report = {
        "parameters": count_parameters(trained.model),
        "steps": trained.steps,
        "seconds": seconds,
        **segmentation.report(said, *tests[1:]),
    }
    return report, said


def summary(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was measured over the seeds: mean, deviation and worst of every score.

    Args:
        reports: one a seed: "parameters", "steps", "seconds", and what `segmentation.report` gives.

    Returns:
        "mean of photographs" and "pooled": by score, `tables.summary`; "photographs": by score, a
        row a seed of the scores of each; "steps" a seed, and "seconds".
    """
    return {
        "parameters": reports[0]["parameters"],
        "steps": [r["steps"] for r in reports],
        **{
            name: {s: tables.summary([r[key][s] for r in reports]) for s in SCORES}
            for name, key in (("mean of photographs", "mean"), ("pooled", "pooled"))
        },
        "photographs": {s: [[one[s] for one in r["images"]] for r in reports] for s in SCORES},
        "seconds": {
            name: tables.summary([r["seconds"][name] for r in reports], "max")
            for name in ("train", "compile", "test")
        },
    }


def differences(metrics: Mapping[str, Any], networks: Sequence[str]) -> dict[str, Any]:
    """Return the first network's scores minus those of every other, paired over the seeds.

    They are the means over the photographs; `classification.difference` says what is returned.
    """

    def of(name: str, score: str) -> list[float]:
        return metrics[name]["mean of photographs"][score]["seeds"]

    first, *others = networks
    return {
        other: {s: classification.difference(of(first, s), of(other, s)) for s in SCORES}
        for other in others
    }


def score_rows(metrics: Mapping[str, Any], networks: Sequence[str]) -> list[list[str]]:
    """Return the rows of the table of what was measured, a column for each network."""
    of = [metrics[name] for name in networks]
    seconds = [one["seconds"]["train"]["seeds"] for one in of]
    rows = [
        ["", *networks],
        ["parameters", *(f"{one['parameters']:,}" for one in of)],
        ["learning rate", *(f"{one['learning rate']:g}" for one in of)],
        ["steps", *(tables.spread(one["steps"], "{:.0f}") for one in of)],
        ["seconds of training", *(tables.spread(values, "{:.0f}") for values in seconds)],
    ]
    for words, key, worst in (("", "mean of photographs", "min"), (", pooled", "pooled", None)):
        for score in SCORES:
            values = [one[key][score]["seeds"] for one in of]
            cells = (tables.spread(v, "{:.4f}", worst) for v in values)
            rows.append([f"{LABELS[score]}{words}", *cells])
    return rows


def difference_rows(metrics: Mapping[str, Any], networks: Sequence[str]) -> list[list[str]]:
    """Return the rows of the table of the first network minus the others, with 95 % intervals."""
    first, *others = networks
    of = [metrics["differences"][name] for name in others]
    return [
        [f"{first} minus", *others],
        *([LABELS[score], *(_in_words(one[score]) for one in of)] for score in SCORES),
    ]


def _in_words(difference: Mapping[str, Any]) -> str:
    mean, interval = difference["mean"], difference["interval"]
    if interval is None:
        return f"{mean:+.4f}"
    return f"{mean:+.4f} ({interval[0]:+.4f} to {interval[1]:+.4f})"


def _draw(folder: Path, tests: Retinas, shown: Mapping[str, np.ndarray]) -> None:
    """Draw what the networks found on some photographs, side by side."""
    legend = {WORDS[name]: colour for name, colour in segmentation.COLOURS.items()}
    for i in range(len(next(iter(shown.values())))):
        found = {
            name: segmentation.overlay(tests.images[i], said[i], *(a[i] for a in tests[1:]))
            for name, said in shown.items()
        }
        plots.overlays(folder / f"overlay-{i + 1:02d}.png", found, legend)


if __name__ == "__main__":
    classification.command(Config, __doc__, RECIPES, main)
