"""How equivariant the layers are, without any interpolation: against mesh, angle, and other layers.

    order     the error against the mesh size, whose slope is the accuracy of the scheme
    angles    the error against the angle on photographs and digits, for every scheme and size
    peers     the same patches through escnn's R2Conv and a plain convolution

Every part leaves a result and a plot of its own. docs/equivariance.md derives and discusses them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from benchmarks import entry
from benchmarks.measures import angles, order, peers
from experiments import plots
from experiments.results import ROOT
from pdo_jax.stencils import SCHEMES

Part = Literal["order", "angles", "peers"]
Cases = Sequence[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Drawn):
    """Equivariance errors without interpolation: orders, angles, other libraries."""

    part: Part
    """What to measure."""
    groups: tuple[str, ...] | None = None
    """Of "order": p3 to p16, p6m and p8m; of "angles": one, p24; of "peers": p8 and p16."""
    schemes: tuple[str, ...] = tuple(SCHEMES)
    """The discretisations."""
    accuracies: tuple[int, ...] = order.ACCURACIES
    """Of "order"."""
    networks: tuple[str, ...] = tuple(order.ACTIVATIONS)
    """The activations of the networks of "order"."""
    sizes: tuple[int, ...] | None = None
    """The kernel sizes; of "angles": 3, 5, 7 and 9; of "peers": 5 and 7."""
    images: tuple[str, ...] = ("photographs", "digits")
    """Of "angles" and "peers"."""
    points: int = 128
    """The number of patches of either kind of image, and of points of "order" divided by 4."""
    draws: int = 5
    """The number of draws of random weights; their seeds follow `seed`."""
    data: Path | None = None
    """The folder of mnist.npz or of MNIST's own files; that of PDO_JAX_DATA, or scikit-learn's
    digits, if none is given."""
    escnn: Path = Path(".venv-escnn/bin/python")
    """The Python that has escnn, for "peers", from the project's folder."""

    @property
    def stem(self) -> str:
        """The name of the result."""
        return f"equivariance_{self.part}"

    @property
    def seeds(self) -> list[int]:
        """The seeds of the draws."""
        return list(range(self.seed, self.seed + self.draws))


GROUPS = {
    "order": ("p3", "p5", "p6", "p7", "p8", "p12", "p16", "p6m", "p8m"),
    "angles": ("p24",),
    "peers": ("p8", "p16"),
}
SIZES = {"angles": (3, 5, 7, 9), "peers": (5, 7)}


def run(config: Config) -> entry.Report:
    """Measure one part in float64 and draw its plot."""
    if config.draws < 2:
        raise ValueError(f"draws (={config.draws}) must be at least 2, to have an error; pass 5.")
    with jax.enable_x64(True):
        cases = _measure(config)
    part = {"order": order, "angles": angles, "peers": peers}[config.part]
    folder = config.folder()
    _draw(config.part, folder, cases)
    return entry.Report(cases, part.metrics(cases), tables(config.part, cases))


def tables(part: Part, cases: Cases) -> list[str]:
    """Return the tables of a part, as docs/equivariance.md shows them."""
    if part == "angles":
        return [*angles.lines(cases), "", *angles.winners_by_angle(cases)]
    if part == "peers":
        return [*peers.summary(cases), "", *peers.lines(cases), "", *peers.sizes(cases)]
    return order.lines(cases)


def _measure(config: Config) -> list[dict[str, Any]]:
    groups = config.groups or GROUPS[config.part]
    sizes = config.sizes or SIZES.get(config.part, ())
    if config.part == "order":
        points = max(1, config.points // 4)
        return order.measure(
            groups, config.schemes, config.accuracies, config.networks, points, config.seeds
        )
    options = (config.schemes, sizes, config.points, config.seeds, config.data)
    if config.part == "angles":
        return angles.measure(config.images, groups[0], *options)
    return peers.measure(config.images, groups, *options, ROOT / config.escnn)


def _draw(part: Part, folder: Path, cases: Cases) -> None:
    path = folder / f"equivariance_{part}.png"
    if part == "order":
        plots.convergence(path, order.curves(cases))
    elif part == "angles":
        plots.error_by_angle(path, cases[0]["degrees"], angles.curves(cases))
    else:
        plots.error_points(path, peers.points(cases), "relative equivariance error of the field")
