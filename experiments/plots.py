"""The pictures of an experiment, in colours that colour-blind readers can tell apart.

Every function draws one figure and writes it whole; none of them computes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator

from pdo_jax._files import replacing

Curve = Mapping[str, Sequence[float]]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's
MORE_COLOURS = (*COLOURS, "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D")


class Panel(NamedTuple):
    """What one panel of the picture of a training shows."""

    axis: str
    """The words beside it."""
    lines: dict[str, str]
    """By the name of a quantity, what is added to the name of the network."""
    scale: str = "log"
    """Of the vertical axis."""
    number: Callable[[np.ndarray], np.ndarray] = np.asarray
    """What is drawn of the quantity."""


PANELS = (
    Panel("cross-entropy in training", {"loss": ""}),
    Panel(
        "error, %",
        {"accuracy": "", "held_out": ", held out", "rotated": ", held out and rotated"},
        number=lambda share: 100 * (1 - share),
    ),
    Panel("largest change of the logits", {"equivariance_error": ""}),
    Panel("learning rate", {"learning_rate": ""}, scale="linear"),
)

OF_SEGMENTERS = (
    Panel("1 - Dice of the probabilities, in training", {"loss": ""}),
    Panel("Dice of the answers, in training", {"dice": ""}, scale="linear"),
    PANELS[-1],
)


def save(figure: Figure, path: Path) -> None:
    """Write a figure under its name when it is complete."""
    with replacing(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight", facecolor="white")


def accuracy_by_angle(
    path: Path, degrees: Sequence[float], percent: Mapping[str, Sequence[float]]
) -> None:
    """Draw accuracy in per cent against the angle of the test digits, as a polar plot."""
    figure = Figure(figsize=(5.2, 5.6))
    axes = cast(PolarAxes, figure.add_subplot(projection="polar"))
    around = np.radians([*degrees, degrees[0] + 360])
    for (name, values), colour, marker in zip(percent.items(), COLOURS, MARKERS, strict=False):
        axes.plot(around, [*values, values[0]], color=colour, marker=marker, ms=4, label=name)
        axes.fill(around, [*values, values[0]], color=colour, alpha=0.12)
    axes.set_ylim(0, 100)  # a polar plot's radius
    axes.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100 %"], fontsize=8, color="0.3")
    axes.set_rlabel_position(67.5)
    axes.set_xticks(np.radians(np.arange(0, 360, 45)))
    axes.tick_params(axis="x", pad=6)
    axes.grid(color="0.85")
    axes.set_title("Accuracy on held-out digits, by their angle\n(trained on upright digits only)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=2, frameon=False)
    save(figure, path)


def training(
    path: Path, curves: Mapping[str, Sequence[Curve]], panels: Sequence[Panel] = PANELS
) -> None:
    """Draw a training against the epoch: the mean over the seeds, and every seed as a thin line.

    Args:
        path: of the picture.
        curves: by network, a curve a seed, as the trainer gives them. Each of the panels that they
            hold is drawn; NaN stands for an epoch without a number. Curves may differ in length.
        panels: what there is to be drawn.
    """
    shown = {name: of for name, of in curves.items() if of}
    keys = {key for of in shown.values() for key in of[0]}
    found = [panel for panel in panels if keys & set(panel.lines)]
    figure = Figure(figsize=(3.7 * len(found), 3.4), layout="constrained")
    legend: dict[str, Line2D] = {}
    for axes, panel in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        for (name, of), colour in zip(shown.items(), MORE_COLOURS, strict=False):
            for (key, words), dashes in zip(panel.lines.items(), ("-", "--", ":"), strict=False):
                if key in of[0]:
                    line = _seeds(
                        axes, [panel.number(np.array(c[key])) for c in of], colour, dashes
                    )
                    legend.setdefault(f"{name}{words}", line)
        axes.set_yscale(panel.scale)
        _frame(axes, "epoch", panel.axis)
    figure.legend(
        legend.values(), legend, loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    save(figure, path)


def _seeds(axes: Axes, lines: Sequence[np.ndarray], colour: str, dashes: str) -> Line2D:
    """Draw one quantity of one network; return the line of the mean."""
    # Seeds that train for a time, not for so many steps, need not end in the same epoch.
    numbers = np.full((len(lines), max(map(len, lines))), np.nan)
    for row, values in zip(numbers, lines, strict=True):
        row[: len(values)] = np.where(np.isfinite(values), values, np.nan)
    epochs = np.arange(1, numbers.shape[1] + 1)
    for row in numbers if len(lines) > 1 else ():
        known = ~np.isnan(row)
        axes.plot(epochs[known], row[known], color=colour, ls=dashes, lw=0.6, alpha=0.5)
    known = ~np.isnan(numbers).all(axis=0)
    mean = np.nanmean(numbers[:, known], axis=0)
    return axes.plot(epochs[known], mean, color=colour, ls=dashes)[0]


def overlays(path: Path, pictures: Mapping[str, np.ndarray], legend: Mapping[str, str]) -> None:
    """Draw pictures side by side, with what their colours mean.

    Args:
        path: of the picture.
        pictures: `(H, W, 3)` uint8, by the words above them.
        legend: colours by what they mean.
    """
    figure = Figure(figsize=(5.2 * len(pictures), 5.9), layout="constrained")
    panels = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axes, (title, picture) in zip(panels, pictures.items(), strict=True):
        axes.imshow(picture)
        _picture(axes, title)
    patches = [Patch(color=colour, label=words) for words, colour in legend.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(legend), frameon=False)
    save(figure, path)


def errors_by_epoch(path: Path, lines: Mapping[str, Sequence[float]]) -> None:
    """Draw an equivariance error against the epoch, from before training on, by line."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, errors), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        axes.plot(range(len(errors)), errors, color=colour, marker=marker, ms=4, label=name)
    _frame(axes, "epoch", "relative error of the logits at 45°")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save(figure, path)


def filters(path: Path, kernels: np.ndarray, degrees: Sequence[float]) -> None:
    """Draw one learned filter in all its orientations: `(|G|, k, k)`."""
    figure = Figure(figsize=(1.25 * len(kernels) + 0.6, 1.9), layout="constrained")
    panels = figure.subplots(1, len(kernels), squeeze=False)[0]
    limit = float(np.max(np.abs(kernels)))
    for axes, kernel, angle in zip(panels, kernels, degrees, strict=True):
        axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
        _picture(axes, f"{angle:g}°")
    figure.colorbar(panels[0].images[0], ax=panels, shrink=0.8, pad=0.01)
    figure.suptitle("One learned filter of the first layer in all its orientations", fontsize=11)
    save(figure, path)


def feature_field(path: Path, rows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw images beside the feature fields that belong to them, a row each.

    Args:
        path: of the picture.
        rows: by label: an image `(H, W)` and one channel of a field `(H', W', |G|)`, which stays
            white where it is NaN.
    """
    order = next(iter(rows.values()))[1].shape[-1]
    figure = Figure(figsize=(1.15 * (order + 1) + 1, 1.2 * len(rows) + 0.3), layout="constrained")
    panels = np.atleast_2d(figure.subplots(len(rows), order + 1))
    limit = max(float(np.nanmax(field)) for _, field in rows.values())
    for row, (label, (image, field)) in zip(panels, rows.items(), strict=True):
        row[0].imshow(image, cmap="gray_r", vmin=0, vmax=1)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        _picture(row[0], "input")
        for g in range(order):
            row[1 + g].imshow(field[..., g], cmap="viridis", vmin=0, vmax=limit)
            _picture(row[1 + g], f"field, {360 * g / order:g}°")
    for axes in panels[1:].ravel():
        axes.set_title("")
    save(figure, path)


def convergence(
    path: Path, panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]
) -> None:
    """Draw errors against mesh sizes on logarithmic axes: by panel and line, `(meshes, errors)`."""
    figure = Figure(figsize=(4.4 * len(panels), 5.4), layout="constrained")
    for axes, (title, lines) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
        for i, (name, (meshes, errors)) in enumerate(lines.items()):
            axes.loglog(meshes, errors, label=name, ms=4, **_line(i))
        _frame(axes, "mesh size", "relative equivariance error")
        meshes = [mesh for line, _ in lines.values() for mesh in line]
        ticks = [tick for tick in (0.05, 0.1, 0.2, 0.4) if min(meshes) <= tick <= max(meshes)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    save(figure, path)


def error_by_angle(
    path: Path, degrees: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """Draw errors against the angle, by panel and line; the last angle is exact and left out."""
    columns = -(-len(panels) // 2)
    figure = Figure(figsize=(3.2 * columns, 6.2), layout="constrained")
    grid = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False).ravel()
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        for name, errors in lines.items():
            axes.semilogy(degrees[1:-1], errors[1:-1], label=name, ms=4, **_line(names.index(name)))
        _frame(axes, "angle, degrees", "relative error")
        axes.set_xticks(list(degrees[1:-1]))
        axes.set_title(title, fontsize=10)
    for axes in grid[len(panels) :]:
        axes.remove()
    found = {str(line.get_label()): line for axes in grid for line in axes.get_lines()}
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=4, frameon=False
    )
    save(figure, path)


def error_points(path: Path, rows: Mapping[str, Mapping[str, float]], label: str) -> None:
    """Draw numbers as points on a logarithmic axis, by row and name."""
    figure = Figure(figsize=(7.5, 0.32 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(dict.fromkeys(name for row in rows.values() for name in row)):
        places = [(row[name], j) for j, row in enumerate(rows.values()) if name in row]
        axes.semilogx(*zip(*places, strict=True), label=name, **_line(i) | {"ls": ""})
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)


def _line(i: int) -> dict[str, str]:
    """Return colour, marker and dashes of the i-th line of a plot with many."""
    return {
        "color": MORE_COLOURS[i % len(MORE_COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "ls": ("-", "--", ":")[i // len(MORE_COLOURS) % 3],
    }


def _picture(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _frame(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def amounts(
    path: Path, curves: Mapping[str, Sequence[Curve]], parts: Sequence[str], axis: str = "epoch"
) -> None:
    """Draw how much symmetry every relaxed layer gives up over a training, by task and part.

    Args:
        path: of the picture.
        curves: by task, the curve of every seed, with "amount/LAYER/PART" among its quantities.
        parts: of the pose, a row of panels each.
        axis: the words below.
    """
    figure = Figure(figsize=(2.6 * len(curves) + 1, 2.2 * len(parts) + 0.6), layout="constrained")
    panels = figure.subplots(len(parts), len(curves), squeeze=False, sharex=True, sharey="row")
    handles: dict[str, Line2D] = {}
    for line, part in zip(panels, parts, strict=True):
        line[0].set_ylabel(f"amount of {part}")
        for axes, seeds in zip(line, curves.values(), strict=True):
            names = [n for n in seeds[0] if n.startswith("amount/") and n.endswith(f"/{part}")]
            for name, colour in zip(names, MORE_COLOURS, strict=False):
                values = np.array([curve[name] for curve in seeds])
                epochs = np.arange(1, values.shape[1] + 1)
                axes.plot(epochs, values.T, color=colour, lw=0.6, alpha=0.5)
                (mean,) = axes.plot(epochs, values.mean(0), color=colour, lw=2)
                handles[name.split("/")[1]] = mean
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylim(bottom=0)  # of the row, after its last panel: this ends autoscaling
    for axes, task in zip(panels[0], curves, strict=True):
        axes.set_title(task, fontsize=11)
    for axes in panels[-1]:
        axes.set_xlabel(axis)
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    save(figure, path)
