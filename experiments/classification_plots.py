"""The picture of a training: loss, errors and equivariance against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.plots import COLOURS, save

Curve = Mapping[str, Sequence[float]]


def training(path: Path, curves: Mapping[str, Sequence[Curve]]) -> None:
    """Draw the means over the seeds against the epoch, for every network.

    Args:
        path: of the picture.
        curves: by network, a curve a seed: "loss", "accuracy" and "held_out" (shares; the last may
            be left out), and "equivariance_error".
    """
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    loss, error, change = figure.subplots(1, 3)
    for (name, of), colour in zip(curves.items(), COLOURS, strict=False):
        means = {key: np.mean([curve[key] for curve in of], axis=0) for key in of[0]}
        epochs = np.arange(1, len(means["loss"]) + 1)
        loss.semilogy(epochs, means["loss"], color=colour, label=name)
        error.semilogy(epochs, 100 * (1 - means["accuracy"]), color=colour, label=name)
        if "held_out" in means:
            held_out = 100 * (1 - means["held_out"])
            error.semilogy(epochs, held_out, color=colour, ls="--", label=f"{name}, held out")
        change.semilogy(epochs, means["equivariance_error"], color=colour, label=name)
    _frame(loss, "cross-entropy in training")
    _frame(error, "error, %")
    _frame(change, "largest change of the logits")
    figure.legend(
        handles=error.get_lines(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    save(figure, path)


def _frame(axes: Axes, y: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
