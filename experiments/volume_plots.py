"""The pictures of the experiment on volumes; nothing in here computes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.plots import COLOURS, save


def accuracies(
    path: Path, tests: Sequence[str], networks: Mapping[str, Sequence[Mapping[str, float]]]
) -> None:
    """Draw accuracies as bars, with the single seeds as points.

    Args:
        path: of the picture.
        tests: their names, in words.
        networks: by name: for every test "mean" and "seeds", as shares.
    """
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(networks)
    for i, ((name, numbers), colour) in enumerate(zip(networks.items(), COLOURS, strict=False)):
        places = np.arange(len(tests)) + (i - (len(networks) - 1) / 2) * width
        heights = [100 * of["mean"] for of in numbers]
        bars = axes.bar(places, heights, width, color=colour, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=9)
        for place, of in zip(places, numbers, strict=True):
            seeds = 100 * np.atleast_1d(of["seeds"])
            axes.plot(np.full(len(seeds), place), seeds, "o", color="0.15", ms=3)
    axes.set_xticks(np.arange(len(tests)), tests)
    axes.set_ylim(0, 112)
    axes.set_ylabel("accuracy, %")
    axes.set_title("Held-out volumes (trained on upright ones only)", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def projections(path: Path, names: Sequence[str], rows: Mapping[str, np.ndarray]) -> None:
    """Draw volumes as seen along the depth: the sums of their voxels.

    Args:
        path: of the picture.
        names: of the columns.
        rows: by label: `(len(names), D, H, W)` volumes.
    """
    figure = Figure(figsize=(1.15 * len(names) + 0.8, 1.3 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(names), squeeze=False)
    for line, (label, volumes) in zip(panels, rows.items(), strict=True):
        line[0].set_ylabel(label)
        for axes, volume in zip(line, volumes, strict=True):
            axes.imshow(volume.sum(axis=0), cmap="gray_r")
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, name in zip(panels[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    save(figure, path)
