"""Part "order": how fast the equivariance error vanishes with the mesh size.

Coefficients are fixed in physical units: an operator of degree d is divided by mesh^d. Signals are
plane waves with wave numbers of at most 1, sampled at turned and at unturned positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import pdo_jax as pdo
from benchmarks.measures.signals import plane_waves
from pdo_jax.basis import OperatorBasis

ACCURACIES = (2, 4, 6)
# Fine enough for the asymptotic range, coarse enough for rounding: a fourth derivative loses
# mesh^-4 of it.
MESHES = {
    2: (0.14, 0.1, 0.07, 0.05, 0.035),
    4: (0.2, 0.14, 0.1, 0.07),
    6: (0.28, 0.2, 0.14, 0.1),
}
# Four layers of second derivatives lose mesh^-8 of it.
NETWORK_MESHES = {
    2: (0.28, 0.2, 0.14, 0.1, 0.07),
    4: (0.4, 0.28, 0.2, 0.17, 0.14, 0.12),
    6: (0.4, 0.34, 0.28, 0.24, 0.2, 0.17),
}
FITTED = 3  # meshes: the finest, at which rounding is no more than this share of the error
ROUNDING = 0.03
DEPTH = 4
BAND = 0.5  # the largest wave number of its input
LEVEL = 0.2  # the standard deviation of what an activation gets
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "GELU": lambda x: jax.nn.gelu(x, approximate=False),
    "ReLU": jax.nn.relu,
}
Fn = Callable[[jax.Array, float], jax.Array]


def measure(
    groups: Sequence[str],
    schemes: Sequence[str],
    accuracies: Sequence[int],
    networks: Sequence[str],
    points: int,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Return a case for every layer and group, every scheme on p8, and every network."""
    cases = []
    for accuracy in accuracies:
        for group in groups:
            for kind in ("lift", "group convolution"):
                cases.append(layer(kind, group, "finite-difference", accuracy, points, seeds))
    for scheme in schemes:
        for kind in ("lift", "group convolution"):
            if scheme != "finite-difference":
                cases.append(layer(kind, "p8", scheme, 2, points, seeds))
    for activation in networks:
        for accuracy in accuracies:
            cases.append(network(activation, accuracy, min(points, 8), seeds))
    return cases


def layer(
    kind: str, group: str, scheme: str, accuracy: int, points: int, seeds: Sequence[int]
) -> dict[str, Any]:
    """Return the case of one linear layer with random coefficients."""
    B = pdo.filter_basis(group, scheme=scheme, accuracy=accuracy)
    copies = (B.group.order,) if kind == "group convolution" else ()
    convolve = pdo.group_conv if copies else pdo.lift_conv
    compiled = jax.jit(lambda x, weights: convolve(x, weights, B, padding="VALID"))

    def of(seed: int) -> Fn:
        c = np.random.default_rng(seed).normal(size=(B.num_operators, *copies, 1, 2))
        return lambda x, mesh: compiled(x, B.weights(c, mesh))

    meshes = MESHES[accuracy]
    errors = [_errors(of(seed), B.group, B.size, meshes, copies, points, seed) for seed in seeds]
    what = {"what": kind, "group": B.group.name, "scheme": scheme, "operators": "box"}
    return what | _fit(accuracy, meshes, len(meshes), errors)


def network(activation: str, accuracy: int, points: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the case of a network of four layers on p8, two fields wide, of operators of order 2.

    "total" operators: with fourth derivatives in each of four layers, rounding, which grows as
    mesh^-16, meets the error before it has reached its order.
    """
    B = pdo.filter_basis("p8", accuracy=accuracy, operators="total")
    act = ACTIVATIONS[activation]

    @jax.jit
    def compiled(x: jax.Array, weights: list[jax.Array]) -> jax.Array:
        y = act(pdo.lift_conv(x, weights[0], B, padding="VALID"))
        for w in weights[1:]:
            y = act(pdo.group_conv(y, w, B, padding="VALID"))
        return y

    def of(seed: int) -> Fn:
        c = _scaled(B, act, seed)
        return lambda x, mesh: compiled(x, [B.weights(part, mesh) for part in c])

    meshes = NETWORK_MESHES[accuracy]
    size = DEPTH * (B.size - 1) + 1
    errors = [_errors(of(seed), B.group, size, meshes, (), points, seed, BAND) for seed in seeds]
    what = {
        "what": f"{DEPTH} layers, {activation}",
        "group": "p8",
        "scheme": "finite-difference",
        "operators": "total",
    }
    return what | _fit(accuracy, meshes, FITTED, errors)


def _scaled(
    basis: OperatorBasis, act: Callable[[jax.Array], jax.Array], seed: int
) -> list[np.ndarray]:
    """Return random coefficients of a network whose activations all get the variance `LEVEL`^2."""
    rng = np.random.default_rng(seed)
    m, order = basis.num_operators, basis.group.order
    mesh, size = 0.2, 8 * DEPTH + 1
    steps = mesh * np.arange(size)
    grid = np.stack(np.meshgrid(steps, -steps), -1)
    y = jnp.asarray(plane_waves(seed, band=BAND)(grid + rng.uniform(-3, 3, (16, 1, 1, 2))))
    found = []
    for i in range(DEPTH):
        c = rng.normal(size=(m, order, 2, 2) if i else (m, 1, 2))
        convolve = pdo.group_conv if i else pdo.lift_conv
        spread = float(jnp.std(convolve(y, basis.weights(c, mesh), basis, padding="VALID")))
        found.append(LEVEL / spread * c)
        y = act(convolve(y, basis.weights(found[-1], mesh), basis, padding="VALID"))
    return found


def _errors(
    fn: Fn,
    group: pdo.Group,
    size: int,
    meshes: Sequence[float],
    copies: tuple[int, ...],
    points: int,
    seed: int,
    band: float = 1.0,
) -> np.ndarray:
    """Return `(2, meshes)`: the errors, and those that rounding alone makes.

    The first are root mean squares over the elements that do not permute the pixels, the second
    over those that do (0 if none does).
    """
    errors = pdo.convergence_errors(
        fn,
        group,
        size=size,
        meshes=meshes,
        signal=plane_waves(seed, (*copies, 1), band),
        points=points,
        input_kind="field" if copies else "image",
        seed=seed,
    )
    exact = errors[:, group.on_grid]
    return np.sqrt([np.mean(errors[:, ~group.on_grid] ** 2, axis=1), np.mean(exact**2, axis=1)])


def _fit(
    accuracy: int, meshes: Sequence[float], fitted: int, errors: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return the slope with its 95 % t-interval over the seeds.

    Every seed has its own slope, over the finest meshes at which rounding does not count.
    """
    slopes, windows = [], []
    for error, rounding in errors:
        resolved = np.flatnonzero(rounding <= ROUNDING * error)[-fitted:]
        window = np.array(meshes)[resolved]
        slopes.append(float(np.polyfit(np.log(window), np.log(error[resolved]), 1)[0]))
        windows.append(window.tolist())
    half = stats.t.ppf(0.975, len(slopes) - 1) * np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    return {
        "accuracy": accuracy,
        "meshes": list(meshes),
        "fitted meshes": windows,
        "errors": [error.tolist() for error, _ in errors],
        "rounding": [rounding.tolist() for _, rounding in errors],
        "slopes": slopes,
        "slope": float(np.mean(slopes)),
        "half width": float(half),
    }


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of slopes: a row for each layer and group, a column for each accuracy."""
    accuracies = sorted({case["accuracy"] for case in cases})
    rows = [
        f"| what | group | scheme | {' | '.join(f'accuracy {p}' for p in accuracies)} |",
        f"|---|---|---|{'---|' * len(accuracies)}",
    ]
    keys = ("what", "group", "scheme")
    for key in dict.fromkeys(tuple(case[k] for k in keys) for case in cases):
        found = {c["accuracy"]: c for c in cases if tuple(c[k] for k in keys) == key}
        cells = [
            f"{found[p]['slope']:.4f} ± {found[p]['half width']:.4f}" if p in found else ""
            for p in accuracies
        ]
        rows.append(f"| {' | '.join([*key, *cells])} |")
    return rows


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the largest distance of a slope from the expected one, for each kind of case."""
    numbers: dict[str, float] = {}
    for case in cases:
        if "ReLU" in case["what"] or case["scheme"] != "finite-difference":
            continue
        key = f"{case['what']}, accuracy {case['accuracy']}: largest |slope - {case['accuracy']}|"
        distance = abs(case["slope"] - case["accuracy"])
        numbers[key] = max(numbers.get(key, 0.0), distance)
    return numbers


def curves(cases: Sequence[dict[str, Any]]) -> dict[str, dict[str, tuple]]:
    """Return what is drawn, by panel and line: meshes and errors (geometric means over the seeds).

    Linear layers are drawn for p8 where it was measured, and else for the first group.
    """
    groups = [case["group"] for case in cases]
    group = "p8" if "p8" in groups else groups[0]
    panels: dict[str, dict[str, tuple]] = {}
    for case in cases:
        if case["group"] != group:
            continue
        panel = case["what"] if "layers" not in case["what"] else f"{DEPTH} layers"
        name = f"{case['scheme']} {case['accuracy']}"
        if "layers" in case["what"]:
            name = f"{case['what'].split(', ')[1]}, accuracy {case['accuracy']}"
        errors = np.exp(np.mean(np.log(case["errors"]), axis=0))
        label = f"{name}: slope {case['slope']:.2f}"
        panels.setdefault(f"{panel}, {group}", {})[label] = (case["meshes"], errors)
    return panels
