"""The PDE layer: LieTorch's values and parameters, its options, and what a gradient costs."""

import importlib
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax import nn, pde
from pdo_jax.pde import morphology, transport
from tests.laws import distance

linear = importlib.import_module("pdo_jax.pde.diffusion")  # the function has the file's name

ROOT = Path(__file__).parents[1]
GOLDENS = np.load(ROOT / "tests" / "goldens" / "pde_lietorch.npz")
WINDOW = tuple(int(n) for n in GOLDENS["kernel_size"])


def ours(alpha):
    """LieTorch's matrices of the plane in our normalisation of kernels."""
    b = 2 * alpha / (2 * alpha - 1)
    c = (2 * alpha - 1) / (2 * alpha) ** b
    return GOLDENS["r2_metric"] * (b * c) ** (-1 / b)


# ---------------------------------------------------------------------------------------- LieTorch


@pytest.mark.parametrize("alpha", ["0.65", "0.8", "1.0"])
@pytest.mark.parametrize("name", ["dilation", "erosion"])
def test_values_on_se2(name, alpha):
    x, metric = (GOLDENS[f"se2_{k}"].astype(np.float32) for k in ("x", "metric"))
    y = getattr(pde, name)(x, metric, WINDOW, float(alpha))
    np.testing.assert_allclose(y, GOLDENS[f"se2_{name}_{alpha}"], atol=1e-5)
    other = getattr(pde, name)(x, metric[:, ::-1], WINDOW, float(alpha))
    assert distance(other, y) > 1e-2


@pytest.mark.parametrize("alpha", ["0.65", "1.0"])
@pytest.mark.parametrize("name", ["dilation", "erosion"])
def test_values_on_the_plane(name, alpha):
    y = getattr(pde, name)(GOLDENS["r2_x"], ours(float(alpha)), WINDOW[:2], float(alpha))
    np.testing.assert_allclose(y, GOLDENS[f"r2_{name}_{alpha}"], atol=1e-5)


def test_diffusion_on_the_plane():
    y = pde.diffusion(GOLDENS["r2_x"], GOLDENS["r2_metric"], WINDOW[:2])
    np.testing.assert_allclose(y, GOLDENS["r2_diffusion"], atol=1e-5)


def rows():
    """The rows of the table of layers in docs/lietorch.md: class, call, number of parameters."""
    text = (ROOT / "docs" / "lietorch.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w*PdeLayer\w*)`.* \| `(PDELayer\(.*\))` \| (\d+) \|$", text, re.M)


def test_the_table_has_every_layer():
    names = {name for name, *_ in rows()}
    kinds = {"M2": ["", "NonDiag"], "R2": ["", "Isotropic", "Finslerian"]}
    terms = {"CDE", "DE", "DDE", "CDDE", "DS", "CDS"}
    every = {f"{t}PdeLayer{m}{k}" for t in terms for m, ks in kinds.items() for k in ks}
    # LieTorch has full matrices on M2 for CDE alone, and DE on M2 and with Finsler norms alone.
    absent = {f"{t}PdeLayerM2NonDiag" for t in terms - {"CDE"}}
    absent |= {"DEPdeLayerR2", "DEPdeLayerR2Isotropic"}
    assert names == every - absent


@pytest.mark.parametrize(("name", "call", "parameters"), rows())
def test_layer_of_the_table(name, call, parameters):
    def build():
        return eval(call[:-1] + ", rngs=rngs)", {"PDELayer": nn.PDELayer, "rngs": nnx.Rngs(0)})

    layer = nnx.eval_shape(build)
    leaves = jax.tree.leaves(nnx.state(layer, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == int(parameters), name
    x = jax.ShapeDtypeStruct((2, 6, 6, *((8,) if "M2" in name else ()), 3), np.float32)
    y = nnx.eval_shape(lambda layer, x: layer(x), layer, x)
    assert y.shape == (*x.shape[:-1], 4)


# --------------------------------------------------------------------------------------- the layer


def test_terms_are_applied_in_order_and_repeated():
    layer = nn.PDELayer(
        2, 3, ("dilation", "diffusion"), kernel_size=(3, 3, 3), iterations=2, use_norm=False,
        param_dtype=np.float64, rngs=nnx.Rngs(0),
    )  # fmt: skip
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 8, 2)))
    y = x
    for _ in range(2):
        y = pde.dilation(y, layer.terms[0].metric[...], (3, 3, 3))
        y = pde.diffusion(y, layer.terms[1].metric[...], (3, 3, 3))
    assert distance(layer(x), y @ layer.mix.kernel[...]) < 1e-14


def test_initial_metrics_fit_the_window():
    layer = nn.PDELayer(500, 1, rngs=nnx.Rngs(0))
    metric = layer.terms[1].metric[...]
    assert metric.shape == (500, 3) and metric.min() >= 0.28 and metric.max() <= 3.5
    assert not np.any(layer.terms[0].shift[...])


def test_the_distance_is_passed_on():
    layer = nn.PDELayer(
        1, 1, ("erosion",), distance="paths", use_norm=False, param_dtype=np.float64,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    layer.mix.kernel[...] = jnp.ones((1, 1))
    metric = layer.terms[0].metric[...] = jnp.array([[1.0, 64.0, 1.0]])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5, 8, 1)))
    assert distance(layer(x), pde.erosion(x, metric, distance="paths")) < 1e-14
    assert distance(layer(x), pde.erosion(x, metric)) > 1e-3


# ----------------------------------------------------------------------------------- what it costs


def temporary_bytes(function, *arrays):
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def test_memory_of_the_gradient():
    """At most three times the input for 5x5x5 taps, where a mask a tap would be 125 times it."""
    x = jax.ShapeDtypeStruct((4, 28, 28, 8, 12), np.float32)
    kernel = jax.ShapeDtypeStruct((8, 5, 5, 5, 12), np.float32)
    nbytes = x.size * 4

    def pull_back(x, kernel, dy):
        y, back = jax.vjp(pde.morphological_conv, x, kernel)
        return y, back(dy)

    def gradient(x, kernel):
        loss = lambda x, kernel: jnp.sum(jnp.sin(pde.morphological_conv(x, kernel)))  # noqa: E731
        return jax.grad(loss, (0, 1))(x, kernel)

    assert temporary_bytes(pull_back, x, kernel, x) <= 3 * nbytes
    assert temporary_bytes(gradient, x, kernel) <= 3 * nbytes


def test_one_byte_is_kept_of_an_output():
    x, kernel = np.zeros((2, 9, 9, 8, 3)), np.zeros((8, 5, 5, 5, 3))
    _, back = jax.vjp(lambda x: pde.morphological_conv(x, kernel), x)
    kept = [leaf for leaf in jax.tree.leaves(back) if leaf.size >= x.size]
    assert [leaf.dtype for leaf in kept] == [np.uint8]


def test_one_winner_takes_the_gradient():
    """Of equal values the first tap wins, and takes all."""
    x, kernel = jnp.ones((5, 5, 1)), jnp.zeros((3, 3, 1))
    dx, dk = jax.grad(lambda x, k: jnp.sum(pde.morphological_conv(x, k)), (0, 1))(x, kernel)
    assert jnp.sum(dx) == 25 and jnp.sum(dk) == -25
    assert dx[0, 0, 0] == 4 and dx[3, 3, 0] == 1 and dx[4, 4, 0] == 0  # the corner of four windows
    assert dk[0, 0, 0] == -16  # all windows whose first tap is inside


# Of one run of taps, of groups of rows with some left over, of rows that are cut; the largest has
# more taps than a byte has numbers.
WINDOWS = [(1, 1, 1), (3, 1, 5), (5, 5, 3), (7, 7, 1), (7, 9, 3), (3, 7, 7), (9, 7, 7)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_of_any_size(window, ties):
    rng = np.random.default_rng(0)
    draw = partial(rng.integers, 0, 3) if ties else rng.normal
    x, kernel = (draw(size=n).astype(float) for n in ((1, 4, 5, 8, 1), (8, *window, 1)))
    y, back = jax.vjp(pde.morphological_conv, x, kernel)
    dx, dk = back(jnp.ones_like(y))
    best, gain = np.full(x.shape, -np.inf), np.zeros(x.shape)
    taken = np.zeros(kernel.shape)
    h, w, t = np.meshgrid(*map(np.arange, (4, 5, 8)), indexing="ij")
    winners = np.zeros((4, 5, 8, 3), int)
    for tap in np.ndindex(window):
        source = [p + d - n // 2 for p, d, n in zip((h, w, t), tap, window, strict=True)]
        inside = (source[0] >= 0) & (source[0] < 4) & (source[1] >= 0) & (source[1] < 5)
        at = np.clip(source[0], 0, 3), np.clip(source[1], 0, 4), source[2] % 8
        value = np.where(inside, x[0][at][..., 0] - kernel[t, *tap, 0], -np.inf)
        better = value > best[0, ..., 0]
        best[0, ..., 0] = np.where(better, value, best[0, ..., 0])
        winners[better] = tap
    for place in np.ndindex(4, 5, 8):
        tap = winners[place]
        source = [p + d - n // 2 for p, d, n in zip(place, tap, window, strict=True)]
        gain[0, source[0], source[1], source[2] % 8, 0] += 1
        taken[place[2], *tap, 0] -= 1
    np.testing.assert_array_equal(y, best)
    np.testing.assert_array_equal(dx, gain)
    np.testing.assert_array_equal(dk, taken)


@pytest.mark.parametrize("window", WINDOWS)
def test_sums_over_windows_of_any_size(window):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 8, 9, 8, 1)), rng.normal(size=(8, *window, 1))
    sides = [(n // 2, n // 2) for n in window[:2]]
    padded = np.pad(x[0, ..., 0], [*sides, (0, 0)], mode="reflect")
    y = np.zeros((8, 9, 8))
    for i, j, turn in np.ndindex(window):
        part = np.roll(padded[i : i + 8, j : j + 9], window[2] // 2 - turn, axis=2)
        y += part * kernel[:, i, j, turn, 0]
    assert distance(pde.linear_conv(x, kernel, padding="REFLECT")[0, ..., 0], y) < 1e-13


@pytest.mark.parametrize("window", WINDOWS)
def test_no_loop_over_pixels_looks_up_where_its_slices_start(window):
    """XLA makes no vector instructions of one that does: it takes six times as long on a CPU."""
    arrays = jnp.zeros((2, 16, 16, 8, 4)), jnp.zeros((8, *window, 4))
    program = jax.jit(pde.morphological_conv).lower(*arrays).compile().as_text()
    fused = re.findall(r"^%[\w.-]+ \(.*?\n}", program, re.MULTILINE | re.DOTALL)
    maxima = [text for text in fused if text.count(" maximum(") > 1]
    assert bool(maxima) == (window != (1, 1, 1))
    assert not [text for text in maxima if " dynamic-slice(" in text]


RNG = np.random.default_rng(0)
FIELD, KERNEL = RNG.normal(size=(2, 4, 5, 4, 2)), RNG.normal(size=(4, 3, 3, 3, 2))
WINNERS = RNG.integers(0, 27, size=FIELD.shape).astype(np.uint8)
LANES = dict(channels=2, window=(3, 3, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "arrays", "options"),
    [
        (morphology._search, (FIELD, KERNEL), dict(winners=True, algorithm="xla")),
        (morphology._at_winners, (FIELD, WINNERS), dict(window=(3, 3, 3))),
        (morphology._to_winners, (FIELD, WINNERS), dict(window=(3, 3, 3))),
        (morphology._at_taps, (KERNEL, WINNERS), dict(window=(3, 3, 3))),
        (morphology._to_taps, (FIELD, WINNERS), dict(window=(3, 3, 3))),
        (linear._conv, (RNG.normal(size=(2, 6, 7, 12)), KERNEL[0].repeat(4, -1)),
         dict(channels=2)),
        (linear._gram, (RNG.normal(size=(2, 6, 7, 12)), FIELD.reshape(2, 4, 5, 8)), LANES),
        *((transport._pass, (FIELD, 3 * KERNEL[:, 0, 0, 0]), dict(axis=a, weights=w))
          for a in (1, 2, 3) for w in transport._WEIGHTS),
    ],
)  # fmt: skip
def test_one_by_one_or_all_at_once(function, arrays, options):
    """A CPU takes examples one by one, other devices take all at once: the same comes out."""
    arrays = [jnp.asarray(a) for a in arrays]
    one, other = (function(*arrays, **options, one_by_one=b) for b in (True, False))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_function_is_a_kernel():
    rng = np.random.default_rng(0)
    x, metric = rng.normal(size=(2, 4, 5, 8, 3)), rng.uniform(0.5, 2, size=(3, 3))

    def cost(c1, c2, c3):
        m = jnp.asarray(metric)
        return (m[:, 0] * c1**2 + m[:, 1] * c2**2 + m[:, 2] * c3**2) / 4

    y = pde.morphological_conv(x, cost, (3, 3, 3))
    assert distance(y, pde.dilation(x, metric, (3, 3, 3), alpha=1.0)) < 1e-14
    blurred = pde.linear_conv(x, lambda x, y: jnp.exp(-(x**2) - y**2), (3, 3))
    kernel = np.exp(-np.sum(pde.geometry.offsets((3, 3)) ** 2, -1))[..., None]
    assert distance(blurred, pde.linear_conv(x, np.repeat(kernel, 3, -1))) < 1e-14


@pytest.mark.parametrize("operator", [pde.dilation, pde.diffusion])
def test_half_precision(operator):
    """Sums and differences of bfloat16 are taken in float32, and rounded once."""
    rng = np.random.default_rng(0)
    x, metric = jnp.asarray(rng.normal(size=(5, 5, 8, 2)), "bfloat16"), np.ones((2, 3), np.float32)
    y = operator(x, metric, (3, 3, 3))
    assert y.dtype == jnp.bfloat16
    assert distance(y, operator(x.astype("float64"), metric.astype("float64"), (3, 3, 3))) < 1e-2


@pytest.mark.slow
def test_shock_filter_sharpens_a_blurred_edge():
    """It is steeper after than before, keeps its place, and goes beyond neither of its sides."""
    x = jnp.tanh(jnp.linspace(-2, 2, 17))[None, :, None] * jnp.ones((9, 1, 1))
    m, one = jnp.ones(1), jnp.full(1, 0.05)
    y = x
    for _ in range(4):
        y = pde.diffusion_shock(y, m, m, pde.Switch(m, one), pde.Switch(m, one), (3, 3))
    assert jnp.max(jnp.abs(jnp.diff(y, axis=1))) > 1.5 * jnp.max(jnp.abs(jnp.diff(x, axis=1)))
    assert jnp.all(jnp.abs(y) <= jnp.max(jnp.abs(x)) + 1e-12)
    assert distance(y, -y[:, ::-1]) < 1e-12


@pytest.mark.slow
def test_exact_at_quarter_turns_but_not_with_an_open_angle():
    """The negative control of the laws: orientations that do not close break it."""
    G = pdo.group("p8")
    x = np.random.default_rng(0).normal(size=(7, 7, 8, 1))
    metric = np.array([[1.0, 0.3, 2.0]])
    good = pdo.equivariance_error(
        lambda x: pde.dilation(x, metric, (5, 5, 3)), x, G, input_kind="field"
    )
    assert good[2] < 1e-12

    def open_angle(x):
        wide = jnp.pad(x, [(0, 0), (0, 0), (0, 1), (0, 0)], constant_values=-1e3)
        kernel = pde.morphological_kernel(metric, (5, 5, 3), 8)
        return pde.morphological_conv(wide, jnp.concatenate([kernel, kernel[:1]]))[..., :8, :]

    bad = pdo.equivariance_error(open_angle, x, G, input_kind="field")
    assert bad[2] > 1e-3
