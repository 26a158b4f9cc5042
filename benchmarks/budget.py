"""An error budget: what an invariant network's error between the quarter turns is made of.

    error(angle) = |f(turned digits) - f(upright digits)| / |f(upright digits) - their mean|

f are the logits less their mean over the classes. Every source of error is taken away alone ("as it
is, but ..."), all of them together, and all but one ("nothing but ..."). `measures.idealised` says
what takes the place of stencils, nonlinearity, pooling and border. That of the test's interpolation
is the digit rendered at its angle from the spline of the scan, instead of turned as 24x24 pixels.
What is left when all are taken away is the share of the group: it has |G| directions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks import entry
from benchmarks.measures import demo_networks, idealised
from experiments import datasets, digits, plots, tables, trainer

INTERPOLATION = "interpolation"
SOURCES = (*idealised.SOURCES, INTERPOLATION)
AS_IT_IS, GROUP = "as it is", "the group alone"
BATCH = 8  # images that are evaluated at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Drawn):
    """An error budget of trained networks between the quarter turns, by angle, group and scheme."""

    groups: tuple[str, ...] = ("p4", "p8", "p16")
    """The groups of the networks, which have equally many parameters."""
    discretisations: tuple[str, ...] = tuple(demo_networks.discretisations())
    """Those of the networks."""
    degrees: tuple[float, ...] = (22.5, 45.0)
    """The angles; from 45 to 90 degrees the budget is much the same."""
    epochs: int = 3
    """Of training; 0 measures networks as they start."""
    digits: int = 4
    """The number of digits on which the error is measured."""
    limit: int | None = 400
    """Train on no more than so many digits."""


def run(config: Config) -> entry.Report:
    """Train every network, take its sources of error away, and draw what is left."""
    upright = datasets.take(demo_networks.parts()[1], slice(config.digits))
    turned = Turned.of(upright, config)
    cases = [
        _case(group, name, turned, config)
        for group in config.groups
        for name in config.discretisations
    ]
    folder = config.folder()
    plots.error_by_angle(folder / "budget.png", [0.0, *config.degrees, 90.0], _panels(cases))
    return entry.Report(cases, _metrics(cases), lines(cases))


@dataclasses.dataclass(frozen=True)
class Turned:
    """Digits upright and at every angle: turned as images, and rendered at the angle."""

    upright: np.ndarray
    as_images: list[np.ndarray]
    rendered: list[np.ndarray]

    @classmethod
    def of(cls, upright: datasets.Part, config: Config) -> Turned:
        """Return the digits of the budget at its angles."""
        count = len(upright.labels)
        return cls(
            upright.images,
            [digits.rotate(upright.images, d) for d in config.degrees],
            [demo_networks.parts(d)[1].images[:count] for d in config.degrees],
        )


def errors(model: Any, turned: Turned, ideal: tuple[str, ...]) -> list[float]:
    """Return the error at every angle, with some of `SOURCES` taken away."""
    inner = [source for source in ideal if source != INTERPOLATION]

    def centred(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), BATCH)
        y = [idealised.logits(model, jnp.asarray(images[i : i + BATCH]), inner) for i in starts]
        y = np.concatenate(y)
        return y - y.mean(axis=1, keepdims=True)

    still = centred(turned.upright)
    size = np.linalg.norm(still - still.mean(axis=0))
    moved = turned.rendered if INTERPOLATION in ideal else turned.as_images
    return [float(np.linalg.norm(centred(images) - still) / size) for images in moved]


def variants() -> dict[str, tuple[str, ...]]:
    """Return which sources are taken away, by the words of the tables."""
    alone = {f"but {source}": (source,) for source in SOURCES}
    others = {f"nothing but {s}": tuple(t for t in SOURCES if t != s) for s in SOURCES}
    return {AS_IT_IS: (), **alone, **others, GROUP: SOURCES}


def _case(group: str, name: str, turned: Turned, config: Config) -> dict[str, Any]:
    model = demo_networks.build(group, demo_networks.discretisations()[name], config.seed)
    if config.epochs:
        label = f"{group}, {name}"
        options: dict[str, Any] = dict(epochs=config.epochs, seed=config.seed, limit=config.limit)
        model = demo_networks.train(model, label, **options).model
    found = {words: errors(model, turned, ideal) for words, ideal in variants().items()}
    return {
        "group": group,
        "discretisation": name,
        "accuracy": trainer.accuracy(model, *demo_networks.parts()[1]),
        "degrees": list(config.degrees),
        "errors": found,
    }


def _panels(cases: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return what is drawn: what taking one source away does, for the first and last scheme."""
    names = [case["discretisation"] for case in cases]
    shown = [case for case in cases if case["discretisation"] in (names[0], names[-1])]
    words = (AS_IT_IS, *(f"but {source}" for source in SOURCES), GROUP)
    return {
        f"{case['group']}, {case['discretisation']}": {
            name: [0.0, *case["errors"][name], 0.0] for name in words
        }
        for case in sorted(shown, key=lambda case: names.index(case["discretisation"]))
    }


def lines(cases: list[dict[str, Any]]) -> list[str]:
    """Return the table: the root mean square over the angles, a row a network."""
    names = (AS_IT_IS, *(f"but {source}" for source in SOURCES), GROUP)
    rows = [["network", "accuracy", *names]]
    for case in cases:
        means = [f"{_mean(case, name):.3f}" for name in names]
        words = [f"{case['group']}, {case['discretisation']}", f"{case['accuracy']:.3f}"]
        rows.append([*words, *means])
    return tables.markdown(rows)


def _metrics(cases: list[dict[str, Any]]) -> dict[str, float]:
    return {
        f"{case['group']}, {case['discretisation']}, {name}": _mean(case, name)
        for case in cases
        for name in variants()
    }


def _mean(case: dict[str, Any], name: str) -> float:
    return float(np.sqrt(np.mean(np.square(case["errors"][name]))))
