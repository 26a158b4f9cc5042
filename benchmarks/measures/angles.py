"""Part "angles": the error of random layers against the angle, for every scheme and kernel size.

The group has an element for every angle, so that its action on the output is exact. Measured are
the lift and lift, ReLU, group convolution, at the centres of patches of photographs and digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pdo_jax as pdo
from benchmarks.measures import layers, patches, signals
from benchmarks.measures.variants import Variant, sharpness, variants

LAYERS = ("lift", "lift, ReLU, conv")
FIELDS = 2


def measure(
    pictures: Sequence[str],
    group: str,
    schemes: Sequence[str],
    sizes: Sequence[int],
    points: int,
    seeds: Sequence[int],
    data: Path | None,
) -> list[dict[str, Any]]:
    """Return a case for every picture, discretisation and layer."""
    G = pdo.group(group)
    elements = patches.first_quarter(G)
    largest = 2 * max(sizes) - 1
    sets = signals.load(pictures, points, margin=largest, data=data)
    samples = {k: patches.image_patches(p, G, elements, largest) for k, p in sets.items()}
    cases = []
    for variant in variants(group, schemes, sizes, ("total", "box")):
        basis = variant.basis(group)
        for name, x in samples.items():
            found: dict[str, list[np.ndarray]] = {layer: [] for layer in LAYERS}
            for seed in seeds:
                outputs = _outputs(basis, x, seed)
                for layer, y in outputs.items():
                    found[layer].append(patches.errors(y, G, elements))
            cases += [
                {"picture": name, "layer": layer} | _case(variant, basis, elements, errors)
                for layer, errors in found.items()
            ]
    return cases


def _outputs(basis: pdo.FilterBasis, x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    order, k = basis.group.order, basis.size
    rng = np.random.default_rng(seed)
    lift = pdo.lift_kernel(layers.weights(rng, basis, 1, FIELDS), basis)
    conv = pdo.group_kernel(layers.weights(rng, basis, order, FIELDS, FIELDS), basis)
    one = layers.apply(layers.centre, patches.crop(x, k), order, lift)
    two = layers.apply(layers.two_layers, patches.crop(x, 2 * k - 1), order, lift, conv)
    return dict(zip(LAYERS, (one, two), strict=True))


def _case(
    variant: Variant, basis: pdo.FilterBasis, elements: Sequence[int], errors: list[np.ndarray]
) -> dict[str, Any]:
    mean = np.mean(errors, axis=0)
    return {
        "operators": variant.operators,
        "size": variant.size,
        "scheme": variant.name,
        "sharpness": sharpness(basis.values),
        "degrees": [360 * g / basis.group.order for g in elements],
        "error": mean.tolist(),
        "standard error": (np.std(errors, axis=0, ddof=1) / np.sqrt(len(errors))).tolist(),
        "mean error": float(np.mean(mean[1:-1])),
    }


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of the best variant of every scheme, the winner of each row in bold.

    A cell holds the mean error, and in brackets accuracy, width and sharpness.
    """
    schemes = list(dict.fromkeys(_scheme(case) for case in cases))
    rows = [
        f"| layer | kernel | operators | pictures | {' | '.join(schemes)} |",
        f"|---|---|---|---|{'---|' * len(schemes)}",
    ]
    keys = ("layer", "size", "operators", "picture")
    for key in dict.fromkeys(tuple(case[k] for k in keys) for case in cases):
        peers = [case for case in cases if tuple(case[k] for k in keys) == key]
        winner = min(peers, key=_mean)
        cells = [key[0], f"{key[1]}x{key[1]}", *key[2:]]
        for scheme in schemes:
            best = min((c for c in peers if _scheme(c) == scheme), key=_mean, default=None)
            cells.append(_cell(best, best is winner) if best else "-")
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _scheme(case: dict[str, Any]) -> str:
    return case["scheme"].split(" ")[0]


def _mean(case: dict[str, Any]) -> float:
    return case["mean error"]


def _cell(case: dict[str, Any], bold: bool) -> str:
    options = case["scheme"].split(" ", 1)[1]
    stars = "**" if bold else ""
    return f"{stars}{_mean(case):.2g}{stars} ({options}; {case['sharpness']:.2f})"


def winners_by_angle(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of the best scheme of each kernel size at every angle, for both operators.

    Only the lift: the columns are the angles between the quarter turns.
    """
    degrees = cases[0]["degrees"][1:-1]
    rows = [
        f"| pictures | kernel | {' | '.join(f'{d:g}°' for d in degrees)} |",
        f"|---|---|{'---|' * len(degrees)}",
    ]
    lifts = [case for case in cases if case["layer"] == "lift"]
    for key in dict.fromkeys((case["picture"], case["size"]) for case in lifts):
        peers = [case for case in lifts if (case["picture"], case["size"]) == key]
        cells = []
        for i in range(len(degrees)):
            best = min(peers, key=lambda case: case["error"][1 + i])
            error = best["error"][1 + i]
            cells.append(f"{error:.2g} ({best['scheme']}, {best['operators']})")
        rows.append(f"| {key[0]} | {key[1]}x{key[1]} | {' | '.join(cells)} |")
    return rows


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the mean error between the quarter turns of the best scheme and of the default one."""
    numbers = {}
    lifts = [case for case in cases if case["layer"] == "lift"]
    for key in dict.fromkeys((case["picture"], case["size"]) for case in lifts):
        peers = [case for case in lifts if (case["picture"], case["size"]) == key]
        usual = [case for case in peers if _scheme(case) == "finite-difference"]
        numbers[f"lift, {key[0]}, {key[1]}x{key[1]}, best"] = min(map(_mean, peers))
        if usual:
            numbers[f"lift, {key[0]}, {key[1]}x{key[1]}, finite differences"] = min(
                map(_mean, usual)
            )
    exact = max(case["error"][-1] for case in cases)
    return numbers | {"largest error at 90 degrees": exact}


def curves(cases: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return what is drawn, by panel and line: the best of every scheme's variants for the lift."""
    panels: dict[str, dict[str, list[float]]] = {}
    for case in sorted(cases, key=_mean):
        panel = f"{case['picture']}, {case['size']}x{case['size']}"
        if case["layer"] == "lift":
            panels.setdefault(panel, {}).setdefault(_scheme(case), case["error"])
    return dict(sorted(panels.items()))
