"""Does equivariance survive training? The error of the demo's networks at every epoch.

At the quarter turns the layers are exact whatever the weights are. Between them the error is that
of the discretisation, which depends on the weights: training on upright digits alone rewards detail
of the pixel grid, training on all rotations punishes it. Measured on digits that are not trained
on, before training (epoch 0) and after every epoch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import pdo_jax as pdo
from benchmarks import entry
from benchmarks.measures import demo_networks
from experiments import datasets, digits, plots, tables, trainer

OUTPUTS = {"first layer": "field", "pooled features": "invariant", "logits": "invariant"}
QUARTERS, BETWEEN = "quarter turns", "45 degrees"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Drawn):
    """The equivariance error of networks for p8 while they are trained, epoch by epoch."""

    discretisations: tuple[str, ...] = ("gaussian, total", "finite-difference, box")
    """Those of the networks."""
    augmentations: tuple[str, ...] = tuple(demo_networks.AUGMENTATIONS)
    """What they are trained on."""
    epochs: int = 5
    """Of training."""
    draws: int = 1
    """The number of networks of a kind; their seeds follow `seed`."""
    digits: int = 64
    """The number of held-out digits on which the error is measured."""
    limit: int | None = None
    """Train on no more than so many digits."""

    @property
    def seeds(self) -> list[int]:
        """The seeds of the networks."""
        return list(range(self.seed, self.seed + self.draws))


def run(config: Config) -> entry.Report:
    """Train every network with every augmentation, and draw the errors."""
    held_out = datasets.take(demo_networks.parts()[1], slice(config.digits))
    cases = [
        _case(name, augmentation, held_out, config)
        for name in config.discretisations
        for augmentation in config.augmentations
    ]
    folder = config.folder()
    plots.errors_by_epoch(folder / "drift.png", {_name(c): c[f"logits, {BETWEEN}"] for c in cases})
    return entry.Report(cases, _metrics(cases), lines(cases))


def errors(model: Any, images: np.ndarray) -> dict[str, float]:
    """Return the equivariance errors of `OUTPUTS`, at and between the quarter turns."""
    graph, state = nnx.split(model)
    found = {}
    for name, kind in OUTPUTS.items():
        outputs = functools.partial(_outputs, graph, name, state)
        error = pdo.equivariance_error(outputs, jnp.asarray(images), "p8", output_kind=kind)
        found[f"{name}, {QUARTERS}"] = float(error[::2].max())
        found[f"{name}, {BETWEEN}"] = float(error[1::2].mean())
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _outputs(graph: Any, name: str, state: Any, x: jax.Array) -> jax.Array:
    """Return one of `OUTPUTS` of a network; compiled once for all epochs."""
    model = nnx.merge(graph, state)
    if name == "logits":
        return model(x)
    return model.features(x, 1) if name == "first layer" else model.features(x).mean((-4, -3, -2))


def _case(name: str, augmentation: str, held_out: datasets.Part, config: Config) -> dict[str, Any]:
    """Return the mean over the seeds of all errors, a list over the epochs for each."""
    options = demo_networks.discretisations()[name]
    turned = datasets.Part(digits.rotate(held_out.images, 45.0), held_out.labels)
    curves = []
    for seed in config.seeds:
        model = demo_networks.build("p8", options, seed)
        before = errors(model, held_out.images)
        trained = demo_networks.train(
            model,
            f"{name}, {augmentation}, seed {seed}",
            epochs=config.epochs,
            seed=seed,
            augmentation=augmentation,
            evaluate=lambda model: (
                errors(model, held_out.images)
                | {"accuracy at 45 degrees": trainer.accuracy(model, *turned)}
            ),
            limit=config.limit,
        )
        curve = {key: [before[key], *trained.curve[key]] for key in before}
        curves.append(curve | {"accuracy": trained.curve["accuracy at 45 degrees"]})
    means = {key: np.mean([c[key] for c in curves], 0).tolist() for key in curves[0]}
    return {"discretisation": name, "trained on": augmentation, **means}


def lines(cases: list[dict[str, Any]]) -> list[str]:
    """Return the table: errors before and after training."""
    words = [f"{key}, {when}" for key in OUTPUTS for when in ("before", "after")]
    rows = [["network", *words, "largest at quarter turns"]]
    for case in cases:
        row = [_name(case)]
        for key in OUTPUTS:
            values = case[f"{key}, {BETWEEN}"]
            row += [f"{values[0]:.3f}", f"{values[-1]:.3f}"]
        exact = max(max(case[f"{key}, {QUARTERS}"]) for key in OUTPUTS)
        rows.append([*row, f"{exact:.1e}"])
    return tables.markdown(rows)


def _metrics(cases: list[dict[str, Any]]) -> dict[str, float]:
    numbers = {}
    for case in cases:
        values = case[f"logits, {BETWEEN}"]
        numbers[f"{_name(case)}, logits, before training"] = values[0]
        numbers[f"{_name(case)}, logits, after training"] = values[-1]
    exact = [max(c[f"{key}, {QUARTERS}"]) for c in cases for key in OUTPUTS]
    return numbers | {"largest error at the quarter turns": max(exact)}


def _name(case: dict[str, Any]) -> str:
    return f"{case['discretisation']}; {case['trained on']}"
