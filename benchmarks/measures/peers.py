"""Part "peers": the same patches through our layers, escnn's R2Conv and a plain convolution.

All weights are random. Every output channel counts alike (see `patches.errors`), as with equal
output variance. A plain convolution has no field: its output is compared as an image, and next to
it the maxima over the group of the others.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pdo_jax as pdo
from benchmarks.measures import layers, patches, signals
from benchmarks.measures.variants import sharpness, variants

FIELDS = 4  # of every output
WORKER = Path(__file__).with_name("escnn_worker.py")
INSTALL = (
    "Part 'peers' runs escnn in a Python of its own, since escnn needs NumPy 1 (and gfortran to "
    "install); there is none at {python}. Make one and name it:\n"
    "  python -m venv .venv-escnn && .venv-escnn/bin/pip install -r benchmarks/peers.txt\n"
    "  python -m benchmarks equivariance --part peers --escnn .venv-escnn/bin/python"
)
PLAIN = "plain convolution"


def measure(
    pictures: Sequence[str],
    groups: Sequence[str],
    schemes: Sequence[str],
    sizes: Sequence[int],
    points: int,
    seeds: Sequence[int],
    data: Path | None,
    python: Path | None,
) -> list[dict[str, Any]]:
    """Return a case for every group, kernel size, layer, picture and method; None leaves escnn out.

    Raises:
        FileNotFoundError: if there is no such Python, saying what to install.
    """
    if python and not python.exists():
        raise FileNotFoundError(INSTALL.format(python=python))
    sets = signals.load(pictures, points, margin=max(sizes), data=data)
    cases, jobs = [], []
    for group in groups:
        G = pdo.group(group)
        elements = patches.first_quarter(G)
        for name, found in sets.items():
            images = patches.image_patches(found, G, elements, max(sizes))
            fields = patches.field_patches(found, G, elements, max(sizes))
            for size in sizes:
                for layer, x in (("lift", images[..., None, :]), ("group convolution", fields)):
                    x = patches.crop(x, size)
                    x = x / np.sqrt(np.mean(x[0] ** 2, axis=(0, 1, 2, 3)))
                    where = {"group": G.name, "size": size, "picture": name, "layer": layer}
                    cases += _ours(where, x, G, elements, schemes, seeds)
                    cases.append(_plain(where, x, G, elements, seeds))
                    jobs.append((where, x, G, elements))
    return cases + (_escnn(jobs, seeds, python) if python else [])


def _ours(
    where: dict[str, Any],
    x: np.ndarray,
    group: pdo.Group,
    elements: Sequence[int],
    schemes: Sequence[str],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    order, channels = group.order, x.shape[-1]
    lift, cases = where["layer"] == "lift", []
    merged = x.reshape(*x.shape[:4], -1)
    for variant in variants(group.name, schemes, (where["size"],), ("total", "box")):
        basis = variant.basis(group.name)
        outputs = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            if lift:
                kernel = pdo.lift_kernel(layers.weights(rng, basis, 1, FIELDS), basis)
            else:
                w = layers.weights(rng, basis, order, channels, FIELDS)
                kernel = pdo.group_kernel(w, basis)
            outputs.append(layers.apply(layers.centre, merged, order, kernel))
        parameters = basis.num_operators * FIELDS * (1 if lift else order * channels)
        method = {"method": variant.name, "operators": variant.operators}
        numbers = _numbers(outputs, group, elements)
        cases.append(where | method | _size(group, parameters, sharpness(basis.values)) | numbers)
    return cases


def _plain(
    where: dict[str, Any],
    x: np.ndarray,
    group: pdo.Group,
    elements: Sequence[int],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return the case of a plain convolution of the same width: its channels are images."""
    merged = x.reshape(*x.shape[:4], -1)
    shape = (*merged.shape[2:], group.order * FIELDS)
    found = []
    for seed in seeds:
        kernel = np.random.default_rng(seed).normal(size=shape)
        y = layers.apply(layers.centre, merged, 1, kernel)[:, :, 0]
        found.append(patches.errors(y, group, elements, "image"))
    noise = _size(group, int(np.prod(shape)), sharpness(np.ones((1, 1))))
    case = where | {"method": PLAIN, "operators": "-"} | noise
    return case | _between(None, np.array(found), elements, group)


def _escnn(jobs: list[tuple], seeds: Sequence[int], python: Path) -> list[dict[str, Any]]:
    """Return the cases of escnn: jobs are `(where, x, group, elements)`, as `_ours` takes them."""
    rows = [
        (G.order, FIELDS, seeds[0], len(seeds), where["layer"] != "lift") for where, _, G, _ in jobs
    ]
    arrays = {f"patches_{j}": x.reshape(-1, *x.shape[2:]) for j, (_, x, _, _) in enumerate(jobs)}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "patches.npz", Path(folder) / "outputs.npz"
        np.savez(source, jobs=np.array(rows), **arrays)  # pyright: ignore[reportArgumentType]
        done = subprocess.run(
            [python, WORKER, source, target], stderr=subprocess.PIPE, text=True, cwd=folder
        )
        if done.returncode:
            raise RuntimeError(f"escnn failed in {python}:\n{done.stderr}")
        with np.load(target) as archive:
            found = dict(archive)
    method = {"method": f"{found['version']} R2Conv", "operators": "-"}
    cases = []
    for j, (where, x, G, elements) in enumerate(jobs):
        y = found[f"outputs_{j}"]
        outputs = y.reshape(len(y), *x.shape[:2], *y.shape[2:])
        size = _size(G, int(found[f"parameters_{j}"]), sharpness(found[f"kernels_{j}"]))
        cases.append(where | method | size | _numbers(outputs, G, elements))
    return cases


def _size(group: pdo.Group, parameters: int, sharp: float) -> dict[str, Any]:
    width = group.order * FIELDS
    return {"parameters": parameters, "channels": width, "sharpness": sharp}


def _numbers(
    outputs: Sequence[np.ndarray] | np.ndarray, group: pdo.Group, elements: Sequence[int]
) -> dict[str, Any]:
    field = np.array([patches.errors(y, group, elements) for y in outputs])
    pooled = [patches.errors(y.max(axis=2), group, elements, "image") for y in outputs]
    return _between(field, np.array(pooled), elements, group)


def _between(
    field: np.ndarray | None, image: np.ndarray, elements: Sequence[int], group: pdo.Group
) -> dict[str, Any]:
    """Return the means of `(seeds, elements)` errors, apart for turns between the quarter turns."""
    off = [i for i, g in enumerate(elements) if not group.on_grid[g]]
    numbers: dict[str, Any] = {}
    for name, errors in (("error", field), ("image error", image)):
        if errors is None:
            numbers |= {name: None, f"{name}, standard error": None, f"{name}, quarter turn": None}
            continue
        each = np.sqrt(np.mean(errors[:, off] ** 2, axis=1))
        numbers[name] = float(np.mean(each))
        numbers[f"{name}, standard error"] = float(np.std(each, ddof=1) / np.sqrt(len(each)))
        numbers[f"{name}, quarter turn"] = float(np.max(errors[:, -1]))
    return numbers


def _comparisons(cases: Sequence[dict[str, Any]]) -> list[tuple[tuple, dict[str, dict[str, Any]]]]:
    """Return, for every group, size, layer and picture, the cases that the tables show."""
    keys = ("group", "size", "layer", "picture")
    found = []
    for key in dict.fromkeys(tuple(case[k] for k in keys) for case in cases):
        peers = [case for case in cases if tuple(case[k] for k in keys) == key]
        ours = [case for case in peers if _owner(case) == "ours"]
        shown = {"best": min(ours, key=lambda case: case["error"])}
        usual = [c for c in ours if c["method"].startswith("finite-difference")]
        box = [c for c in usual if c["operators"] == "box"]
        shown |= {"default": box[0]} if box else {}
        shown |= {_owner(case): case for case in peers if _owner(case) != "ours"}
        found.append((key, shown))
    return found


def _owner(case: dict[str, Any]) -> str:
    """Return whose layer a case is: "ours", "escnn" or `PLAIN`."""
    if case["method"] == PLAIN:
        return PLAIN
    return "escnn" if case["method"].startswith("escnn") else "ours"


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of errors: our best and default scheme, escnn, and a plain convolution."""
    rows = [
        "| layer | group | kernel | pictures | ours, default | ours, best | escnn "
        "| image: ours, best | image: escnn | image: plain |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    columns = [("default", "error"), ("best", "error"), ("escnn", "error")]
    columns += [(role, "image error") for role in ("best", "escnn", PLAIN)]
    for (group, size, layer, picture), shown in _comparisons(cases):
        cells = [layer, group, f"{size}x{size}", picture]
        for role, name in columns:
            cell = _cell(shown[role], name) if role in shown else "-"
            if (role, name) == ("best", "error"):
                cell += f" ({shown[role]['method']}, {shown[role]['operators']})"
            cells.append(cell)
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _cell(case: dict[str, Any], name: str) -> str:
    return f"{case[name]:.2g} ± {case[f'{name}, standard error']:.1g}"


def sizes(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of widths, free weights and sharpness of what `lines` compares."""
    rows = [
        "| layer | group | kernel | method | output channels | free weights | sharpness |",
        "|---|---|---|---|---|---|---|",
    ]
    for (group, size, layer, _), shown in _comparisons(cases):
        for role, case in shown.items():
            method = case["method"]
            if role in ("best", "default"):
                method = f"ours, {method}, {case['operators']}"
            cells = [layer, group, f"{size}x{size}", method, str(case["channels"])]
            cells += [f"{case['parameters']:,}", f"{case['sharpness']:.2f}"]
            rows.append(f"| {' | '.join(cells)} |")
    return list(dict.fromkeys(rows))


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return our errors divided by escnn's, and the largest error of an exact quarter turn."""
    numbers = {}
    for (group, size, layer, picture), shown in _comparisons(cases):
        for role in ("best", "default"):
            if "escnn" in shown and role in shown:
                key = f"{role} / escnn, {group}, {size}x{size}, {layer}, {picture}"
                numbers[key] = shown[role]["error"] / shown["escnn"]["error"]
    for name in ("ours", "escnn"):
        exact = [case["error, quarter turn"] for case in cases if _owner(case) == name]
        if exact:
            numbers[f"largest error at 90 degrees, {name}"] = max(exact)
    return numbers


def summary(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return in words by which factors our errors differ from escnn's, if it was there."""
    factors, words = metrics(cases), []
    for role in ("best", "default"):
        found = [value for key, value in factors.items() if key.startswith(f"{role} / escnn")]
        if found:
            words.append(f"{min(found):.2g} to {max(found):.2g} times with our {role} scheme")
    return [f"The error of the field is {', '.join(words)}, relative to escnn's."] if words else []


def points(cases: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what is drawn: the field errors of our layers and of escnn's, by comparison."""
    found = {}
    for (group, size, layer, picture), shown in _comparisons(cases):
        names = {"default": "ours, default scheme", "best": "ours, best scheme", "escnn": "escnn"}
        found[f"{layer}, {group}, {size}x{size}, {picture}"] = {
            name: shown[role]["error"] for role, name in names.items() if role in shown
        }
    return found
