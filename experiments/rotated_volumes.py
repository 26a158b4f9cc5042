"""Train on upright volumes, test at every rotation of space: an invariant network beside a 3-D CNN.

    python -m experiments.rotated_volumes --seeds 0 1 2

Both networks have the same number of parameters, within 5 %, the same layers, data, recipe and
steps, and never see a rotated shape in training. The CNN is the same network over the group of the
identity alone, where a layer of differential operators of box order 2 is an ordinary convolution
with 3x3x3 free taps. `shapes` holds the data, `trainer` the loop.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import pdo_jax as pdo
from experiments import networks, recipes, runs, shapes, tables, trainer, volume_plots
from experiments.results import Result, write_json

NAME = "rotated_volumes"
INVARIANT, PLAIN = "invariant PDO-eConv", "plain 3-D CNN"
ACCURACIES = {
    "upright": "upright",
    "octahedral": "at rotations of the cube",
    "random": "at random rotations",
}
ROTATIONS_SEED = 3  # of the rotations of test volumes, the same in every run
MESH = 0.1  # at which the error of one layer over the icosahedral group is reported
IDENTITY = pdo.Group("identity", np.eye(3)[None])


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `python -m experiments.rotated_volumes`."""

    recipe: recipes.Recipe = recipes.Recipe(epochs=8, batch_size=16)
    """The same for both networks."""
    seeds: tuple[int, ...] = (0,)
    """One run a seed; several are reported by their mean, deviation and worst."""
    group: str = "O"
    """The rotations that the invariant network convolves over: "T", "O", "Oh" or "I"."""
    features: tuple[int, ...] = (2, 4, 16)
    """Fields after every convolution."""
    train: int = 480
    """The number of upright training shapes in an epoch, each drawn anew."""
    test: int = 400
    """The number of test shapes, each seen upright, at a rotation of the cube and at a random one.
    """
    validate: bool = False
    """Measure on the validation shapes, by which the recipe was chosen, not on the test shapes."""
    out: Path | None = None
    """The folder of the run; by default the first of runs/rotated_volumes, runs/rotated_volumes-2
    ... that is not in use."""
    overwrite: bool = False
    """Replace an earlier run in `out`."""

    def __post_init__(self):
        if pdo.group(self.group).ndim != 3:
            raise ValueError(
                f"group (={self.group!r}) must be one of space; pass 'T', 'O', 'Oh' or 'I'."
            )
        runs.check_seeds(self.seeds)
        if not self.features or min(self.features) < 1:
            raise ValueError(
                f"features (={self.features}) must be numbers of at least 1, one a convolution; "
                "pass e.g. --features 2 4 16."
            )
        for name in ("train", "test"):
            if getattr(self, name) < len(shapes.CLASSES):
                raise ValueError(
                    f"{name} (={getattr(self, name)}) must be at least {len(shapes.CLASSES)}, one "
                    "shape a class."
                )


def main(config: Config) -> Result:
    """Train and test both networks, print the table, and write the folder of the run."""
    start = time.perf_counter()
    folder = runs.begin(config, Path("runs") / NAME)
    tests = held_out(config)
    classes = np.arange(config.train, dtype=np.int32) % len(shapes.CLASSES)
    reports: dict[str, list[dict[str, Any]]] = {INVARIANT: [], PLAIN: []}
    curves: dict[str, list[trainer.Curve]] = {INVARIANT: [], PLAIN: []}
    for seed in config.seeds:
        for name, model in build(config, seed).items():
            label = f"seed {seed}, {name}"
            trained = trainer.train(
                model,
                classes,
                classes,
                config.recipe,
                seed=seed,
                label=label,
                augment=shapes.draw,
                folder=folder / runs.CHECKPOINTS / label.replace(", ", "-").replace(" ", "_"),
            )
            reports[name].append(measure(trained.model, tests) | trained.seconds)
            curves[name].append(trained.curve)
    metrics = _metrics(reports)
    result = Result.of(
        NAME,
        config=config,
        seeds=config.seeds,
        curve=curves,
        metrics=metrics | {"one layer over I": icosahedral_layer()},
        seconds={"in all": time.perf_counter() - start},
    )
    write_json(folder / runs.RESULT, result)
    print(_table(reports))
    accuracies = {name: [metrics[name][key] for key in ACCURACIES] for name in reports}
    volume_plots.accuracies(folder / "accuracy.png", list(ACCURACIES.values()), accuracies)
    first = slice(len(shapes.CLASSES))  # one of each class
    seen = {key: tests[key].volumes[first, ..., 0] for key in ("upright", "random")}
    volume_plots.projections(folder / "shapes.png", shapes.CLASSES, seen)
    print(f"Pictures, checkpoints and {runs.RESULT} are in {folder}.")
    return result


def build(config: Config, seed: int) -> dict[str, pdo.models.VolumeClassifier]:
    """Return both networks, with as many parameters."""
    classes = len(shapes.CLASSES)
    invariant = pdo.models.volume_classifier(
        config.features, group=config.group, num_classes=classes, rngs=nnx.Rngs(seed)
    )
    budget = networks.count_parameters(invariant)
    plain = pdo.models.volume_classifier(
        networks.in_proportion(config.features, budget, _plain_parameters),
        group=IDENTITY,
        num_classes=classes,
        operators="box",
        rngs=nnx.Rngs(seed),
    )
    return {INVARIANT: invariant, PLAIN: plain}


def _plain_parameters(features: tuple[int, ...]) -> int:
    """Return the number of trainable parameters of the plain network of some sizes."""
    convs = sum(27 * i * o for i, o in zip((1, *features), features, strict=False))
    norms = 2 * sum(features) + 2 * features[-1]
    return convs + norms + len(shapes.CLASSES) * (features[-1] + 1)


def held_out(config: Config) -> dict[str, shapes.Shapes]:
    """Return the shapes that the networks are tested on, by the keys of `ACCURACIES`.

    Rotations of the cube are exact: they move the voxels, noise included. At random rotations the
    same shapes are rendered anew.
    """
    seed = shapes.VALIDATION if config.validate else shapes.TEST
    upright = shapes.make(config.test, seed)
    cube = pdo.group("O")
    elements = np.random.default_rng(ROTATIONS_SEED).integers(1, cube.order, config.test)
    moved = np.empty_like(upright.volumes)
    for element in range(1, cube.order):
        of = elements == element
        moved[of] = pdo.act(cube, element, upright.volumes[of])
    rotations = shapes.random_rotations(config.test, ROTATIONS_SEED)
    return {
        "upright": upright,
        "octahedral": shapes.Shapes(moved, upright.labels),
        "random": shapes.make(config.test, seed, rotations=rotations),
    }


def measure(model: Any, tests: dict[str, shapes.Shapes]) -> dict[str, Any]:
    """Return what is reported of a trained network; accuracies are shares."""
    some = jnp.asarray(tests["upright"].volumes[:8])
    errors = pdo.equivariance_error(jax.jit(model), some, "O", output_kind="invariant")
    return {
        "parameters": networks.count_parameters(model),
        **{key: trainer.accuracy(model, *tests[key], batch=80) for key in ACCURACIES},
        "equivariance_error": float(jnp.max(errors)),
    }


def icosahedral_layer() -> dict[str, Any]:
    """Return the order and the error by element of one layer over I, which the grid does not hold.

    Operators are fixed in physical units and the signal has the unit of length as its finest
    detail, so that the mesh alone decides the error; nothing is interpolated.
    """
    measured = {}
    for operators in ("total", "box"):
        B = pdo.filter_basis("I", operators=operators)
        c = np.random.default_rng(0).normal(size=(B.num_operators, 1, 2))
        layer = jax.jit(lambda x, w, B=B: pdo.lift_conv(x, w, B, padding="VALID"))
        options: Any = dict(size=B.size, points=16)

        def physical(x: jax.Array, mesh: float, B=B, c=c, layer=layer) -> jax.Array:
            return layer(x, B.weights(c, mesh))

        with jax.enable_x64(True):
            order = pdo.convergence_order(physical, "I", meshes=(0.2, 0.1, 0.05), **options)
            errors = pdo.convergence_errors(physical, "I", meshes=(MESH,), **options)
        measured[operators] = {
            "taps": B.size,
            "order": order,
            "mesh": MESH,
            "error_by_element": errors[0],
        }
    return measured


def _metrics(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return mean, deviation and worst over the seeds of everything that was measured."""
    metrics: dict[str, Any] = {}
    for name, runs_of_it in reports.items():
        numbers = {k: tables.summary([r[k] for r in runs_of_it]) for k in ACCURACIES}
        numbers["equivariance_error"] = tables.summary(
            [r["equivariance_error"] for r in runs_of_it], "max"
        )
        times = {k: tables.summary([r[k] for r in runs_of_it], "max") for k in ("train", "compile")}
        metrics[name] = {"parameters": runs_of_it[0]["parameters"], **numbers, "seconds": times}
    margin = [a["random"] - b["random"] for a, b in zip(*reports.values(), strict=True)]
    return metrics | {"margin at random rotations": tables.summary(margin)}


def _table(reports: dict[str, list[dict[str, Any]]]) -> str:
    def row(words: str, value: Any, form: str = "{:.1f}", worst: str | None = None) -> list[str]:
        return [words, *(tables.spread([value(r) for r in of], form, worst) for of in all_seeds)]

    all_seeds = reports.values()
    accuracies = [
        row(f"accuracy {words}, %", lambda r, key=key: 100 * r[key], worst="min")
        for key, words in ACCURACIES.items()
    ]
    return tables.table(
        [
            ["", *reports],
            ["parameters", *(f"{of[0]['parameters']:,}" for of in all_seeds)],
            *accuracies,
            row("largest change of the logits, cube", lambda r: r["equivariance_error"], "{:.1e}"),
            row("seconds of training", lambda r: r["train"]),
            row("seconds of compilation", lambda r: r["compile"]),
        ]
    )


if __name__ == "__main__":
    runs.command(main, Config, __doc__)
