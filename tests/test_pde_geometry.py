"""Coordinates, metrics, distances and kernels of the plane and of SE(2), against oracles."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import logm

import pdo_jax as pdo
from benchmarks.measures import geodesics
from pdo_jax.pde import geometry

TAU = 2 * np.pi
WINDOW = (3, 3, 3)
METRICS = [(1.0, 1.0, 1.0), (1.0, 4.0, 0.5), (1.0, 64.0, 1.0), (16.0, 1.0, 3.0)]


def points(window=(5, 5, 5), orientations=8):
    """Return all points of a window but its middle, seen from two orientations."""
    c = geometry.log_coordinates(window, orientations)[:2].reshape(-1, 3)
    return c[np.any(c != 0, axis=-1)]


def squared(c, metric, distance: Any = "log"):
    metric = metric if isinstance(metric, pdo.pde.Finsler) else jnp.asarray(metric)
    return np.asarray(jax.jit(partial(geometry.squared_distance, c, distance=distance))(metric))


def paths(c, metric):
    return squared(c, np.array([metric], np.float64), "paths")[..., 0]


# ------------------------------------------------------------------------------------ coordinates


def pose(x, y, t):
    return np.array([[np.cos(t), -np.sin(t), x], [np.sin(t), np.cos(t), y], [0, 0, 1]])


@pytest.mark.parametrize(
    ("orientations", "window"), [(8, (1, 3, 3)), (5, (1, 1, 5)), (1, (3, 3, 1))]
)
def test_coordinates_are_the_matrix_logarithm(orientations, window):
    found = geometry.log_coordinates(window, orientations)
    assert found.shape == (orientations, *window, 3) and found.dtype == np.float64
    for t, i, j, k in np.ndindex(found.shape[:-1]):
        right, up, turn = j - window[1] // 2, window[0] // 2 - i, k - window[2] // 2
        here = pose(0.3, -1.2, TAU * t / orientations)
        there = pose(0.3 + right, -1.2 + up, TAU * (t + turn) / orientations)
        log = np.real(logm(np.linalg.inv(here) @ there))
        expected = [log[0, 2], log[1, 2], log[1, 0]]
        np.testing.assert_allclose(found[t, i, j, k], expected, atol=1e-12)


def test_offsets_are_right_and_up():
    right, up = np.moveaxis(geometry.offsets((3, 5)), -1, 0)
    np.testing.assert_array_equal(right[0], [-2, -1, 0, 1, 2])
    np.testing.assert_array_equal(up[:, 0], [1, 0, -1])


@pytest.mark.parametrize("orientations", [4, 8, 12])
def test_quarter_turns_permute_the_coordinates(orientations):
    c = geometry.log_coordinates((5, 5, 3), orientations)
    turned = np.rot90(c, axes=(1, 2))
    np.testing.assert_allclose(np.roll(c, -orientations // 4, axis=0), turned, atol=1e-14)
    assert np.abs(np.roll(c, orientations // 4, axis=0) - turned).max() > 1  # the other way


# ---------------------------------------------------------------------------------------- metrics


def test_metrics_of_se2_are_quadratic_forms():
    rng, c = np.random.default_rng(0), points()
    diagonal, full = rng.uniform(0.3, 3, (4, 3)), rng.normal(size=(4, 3, 3))
    expected = np.einsum("cd,nd,nd->nc", diagonal, c, c)
    np.testing.assert_allclose(squared(c, diagonal), expected, rtol=1e-13)
    expected = np.sum(np.einsum("cij,nj->nci", full, c) ** 2, axis=-1)
    np.testing.assert_allclose(squared(c, full), expected, rtol=1e-12)


def test_metrics_of_the_plane_are_norms():
    v, full = geometry.offsets((5, 7)), np.random.default_rng(0).normal(size=(3, 2, 2))
    expected = np.sum(v**2, -1)[..., None] * [2.0, 0.5]
    np.testing.assert_allclose(squared(v, np.array([2.0, 0.5])), expected, rtol=1e-13)
    expected = np.sum(np.einsum("cij,hwj->hwci", full, v) ** 2, axis=-1)
    np.testing.assert_allclose(squared(v, full), expected, rtol=1e-12)


def test_finsler_norms_follow_their_waves():
    p, v = np.random.default_rng(0).normal(size=(2, 11)) / 4, geometry.offsets((5, 3))
    found = squared(v, pdo.pde.Finsler(jnp.asarray(p)))
    for i, j in np.ndindex(5, 3):
        angle = np.angle(complex(*v[i, j]))
        waves = [wave(k * angle) for k in range(1, 6) for wave in (np.cos, np.sin)]
        exponent = p @ np.array([1.0, *waves])
        expected = np.sum(v[i, j] ** 2) * np.exp(-2 * exponent)
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-12)
    assert np.abs(found - found[::-1, ::-1]).max() > 0.1  # not symmetric
    euclidean = squared(v, pdo.pde.Finsler(jnp.zeros((1, 1))))
    np.testing.assert_array_equal(euclidean, squared(v, np.ones(1)))


@pytest.mark.parametrize("distance", geometry.DISTANCES)
def test_negative_weights_count_as_zero(distance):
    c = points()
    for negative, zero in (((-3, 2, 1), (0, 2, 1)), ((1, 2, -1), (1, 2, 0))):
        found, expected = (squared(c, np.array([m], float), distance) for m in (negative, zero))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(squared(geometry.offsets((3, 3)), np.array([-1.0]), distance), 0)


# -------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("metric", METRICS[1:3])
def test_no_way_is_shorter_than_the_distance(metric):
    c = points((3, 3, 3))
    exact, log = geodesics.distance(c, np.array(metric)) ** 2, squared(c, np.array([metric]))[:, 0]
    found = paths(c, metric)
    assert np.all(found >= exact * (1 - 1e-3))  # what the oracle may be too long
    assert np.all(found <= exact * 1.1**2) and np.all(found <= log * (1 + 1e-12))
    assert np.max(log / exact) > 1.2**2  # which says that the bound above is not an easy one


def test_flat_metrics_are_exact():
    c = points()
    b = geodesics.half_angle(c)
    expected = 0.7 * np.sum(b[:, :2] ** 2, -1) + 1.3 * b[:, 2] ** 2
    np.testing.assert_allclose(paths(c, (0.7, 0.7, 1.3)), expected, rtol=1e-13)
    exact = geodesics.distance(c[::9], np.array([0.7, 0.7, 1.3])) ** 2
    np.testing.assert_allclose(exact, expected[::9], rtol=1e-13)


def test_driving_ahead_and_turning_on_the_spot_are_exact():
    ahead, turn = np.array([[2.0, 0, 0]]), np.array([[0, 0, TAU / 8]])
    for metric in METRICS[:3]:
        np.testing.assert_allclose(paths(ahead, metric), 4 * metric[0], rtol=1e-13)
        np.testing.assert_allclose(paths(turn, metric), (TAU / 8) ** 2 * metric[2], rtol=1e-13)


def test_ways_back_and_mirrored_ways_are_as_long():
    metric = METRICS[1]
    c, found = points(), paths(points(), metric)
    assert np.all(found > 0) and paths(np.zeros((1, 3)), metric) == 0
    for signs in ((-1, -1, -1), (1, -1, -1), (-1, 1, -1), (1, 1, -1)):
        np.testing.assert_allclose(paths(c * signs, metric), found, rtol=1e-12)
    sideways = c[:, [1, 0, 2]] * (-1, 1, 1)  # seen by one who faces left
    swapped = (metric[1], metric[0], metric[2])
    np.testing.assert_allclose(paths(sideways, swapped), found, rtol=1e-12)
    np.testing.assert_allclose(paths(c, tuple(3 * m for m in metric)), 3 * found, rtol=1e-12)
    longer = paths(c, (1.1 * metric[0], 1.2 * metric[1], 1.3 * metric[2]))
    assert np.all(longer > found)


def test_the_whole_circle_has_its_ends():
    c = geometry.log_coordinates((3, 3, 3), 3)
    assert np.all(np.isfinite(paths(c, METRICS[2])))
    half = paths(np.array([[1.0, 0.5, -np.pi]]), METRICS[1])
    np.testing.assert_allclose(half, paths(np.array([[1.0, 0.5, np.pi]]), METRICS[1]))


@pytest.mark.slow
@pytest.mark.parametrize("metric", [(1.0, 4.0, 0.3), (1.0, 64.0, 3.0)])
def test_the_oracle_beats_the_shortest_ways_on_a_graph(metric):
    orientations, side, step = 24, 25, 0.25
    on_graph = geodesics.on_a_graph(np.array(metric), orientations, side, step, reach=3)
    x = step * (np.arange(side) - side // 2)
    turn = (TAU * np.arange(orientations) / orientations + np.pi) % TAU - np.pi
    near, sharp = np.abs(x) < 2.01, np.abs(turn) < TAU / 4 + 0.01
    grid = np.meshgrid(x[near], x[near], turn[sharp], indexing="ij")
    dx, dy, dt = (axis.reshape(-1)[::29] for axis in grid)
    s = dt / 2
    b = np.stack([np.cos(s) * dx + np.sin(s) * dy, np.cos(s) * dy - np.sin(s) * dx, dt], -1)
    c = b / np.stack([np.sinc(s / np.pi)] * 2 + [np.ones_like(s)], -1)
    exact = geodesics.distance(c, np.array(metric))
    more = geodesics.distance(c, np.array(metric), 2 * geodesics.WAVES)
    found = on_graph[np.ix_(near, near, sharp)].reshape(-1)[::29]
    assert np.all(exact <= found * (1 + 1e-9))  # no shorter way was missed
    away = exact > 0
    assert np.mean(found[away] / exact[away]) < 1.1  # and the graph would know one
    np.testing.assert_allclose(exact, more, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("anisotropy", [4.0, 64.0])
def test_paths_stay_within_their_bounds(anisotropy):
    for turn in (0.3, 1.0, 3.0):
        metric = (1.0, anisotropy, turn)
        error = np.sqrt(paths(points(), metric)) / geodesics.distance(points(), np.array(metric))
        assert error.mean() < 1.025 and error.max() < 1.11


# ---------------------------------------------------------------------------------------- kernels

EXTREME = [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0), (-1, 1, 1), (2, 2, 2), (1e9, 1e-9, 1)]


@pytest.mark.parametrize(
    ("distance", "dtype"),
    [
        pytest.param("log", "float32", marks=pytest.mark.slow),
        pytest.param("paths", "float64", marks=pytest.mark.slow),
        ("paths", "float32"),
    ],
)
def test_gradients_are_finite(distance, dtype):
    def total(metric):
        found = (
            pdo.pde.diffusion_kernel(metric, WINDOW, 8, distance=distance),
            pdo.pde.morphological_kernel(metric, WINDOW, 8, 1.0, distance=distance),
            pdo.pde.morphological_kernel(metric, WINDOW, 8, 0.65, distance=distance),
        )
        return sum(jnp.sum(k[:4]) for k in found)  # half of the orientations: not the constant 8

    slope = jax.jit(jax.grad(total))(jnp.array(EXTREME, dtype))
    assert slope.dtype == dtype and np.all(np.isfinite(slope))


def test_gradients_of_paths_are_differences():
    metric = METRICS[1]

    def mean(metric):
        return jnp.mean(geometry.squared_distance(points(), metric[None], "paths"))

    slope = jax.jit(jax.grad(mean))(jnp.array(metric))
    here = np.array(metric)
    for i, step in enumerate(1e-6 * np.eye(3)):
        difference = (paths(points(), here + step) - paths(points(), here - step)) / 2e-6
        np.testing.assert_allclose(slope[i], difference.mean(), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.55, 0.65, 1.0])
def test_morphological_kernels_are_powers_of_the_distance(alpha):
    metric = np.array([METRICS[1], METRICS[3]])
    found = pdo.pde.morphological_kernel(jnp.asarray(metric), (3, 3, 3), 8, alpha)
    rho = np.sqrt(squared(geometry.log_coordinates((3, 3, 3), 8), metric))
    expected = (2 * alpha - 1) * (rho / (2 * alpha)) ** (2 * alpha / (2 * alpha - 1))
    # c rho^b = (2 alpha - 1) (rho / 2 alpha)^b is the Legendre transform of |p|^(2 alpha).
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    r = rho[1, 0, 1, 2, 0]
    p = np.linspace(0, 2, 100001) * (r / (2 * alpha)) ** (1 / (2 * alpha - 1))
    np.testing.assert_allclose(found[1, 0, 1, 2, 0], np.max(p * r - p ** (2 * alpha)), rtol=1e-6)


@pytest.mark.parametrize(("orientations", "distance"), [(4, "log"), (8, "log"), (8, "paths")])
def test_kernels_turn_with_the_grid(orientations, distance):
    metric = jnp.array([METRICS[1], METRICS[2]])
    for kernel in (pdo.pde.morphological_kernel, pdo.pde.diffusion_kernel):
        options = dict(orientations=orientations, distance=distance)
        k = np.asarray(jax.jit(partial(kernel, kernel_size=(5, 5, 3), **options))(metric))
        next_quarter = np.roll(k, -orientations // 4, axis=0)
        np.testing.assert_allclose(next_quarter, np.rot90(k, axes=(1, 2)), rtol=1e-12, atol=1e-15)
        assert np.abs(np.roll(next_quarter, 1, axis=0) - np.rot90(k, axes=(1, 2))).max() > 1e-3


def test_diffusion_kernels_are_normalised_gaussians():
    metric = np.array(METRICS)
    k = np.asarray(pdo.pde.diffusion_kernel(jnp.asarray(metric), (5, 3, 3), 8))
    np.testing.assert_allclose(k.sum((1, 2, 3)), 1, rtol=1e-13)
    ratio = k / k[:, 2:3, 1:2, 1:2]
    rho = squared(geometry.log_coordinates((5, 3, 3), 8), metric)
    np.testing.assert_allclose(ratio, np.exp(-rho), rtol=1e-11)


def test_half_precision_is_computed_in_single():
    metric = jnp.ones((2, 3), jnp.bfloat16)
    assert pdo.pde.morphological_kernel(metric, (3, 3, 3), 8).dtype == jnp.float32
    assert squared(points(), np.ones((1, 3), np.float32), "paths").dtype == np.float32


# ----------------------------------------------------------------------------------------- errors

FIELD, ONES, PLANE = points(), np.ones((1, 3)), geometry.offsets((3, 3))


def finsler(width):
    return pdo.pde.Finsler(jnp.ones((1, width)))


def morphological(*args):
    return pdo.pde.morphological_kernel(jnp.ones((1, 3)), WINDOW, *args)


def diffusion(metric, window):
    return pdo.pde.diffusion_kernel(jnp.asarray(metric), window, 8)


def log(window, orientations=8):
    return geometry.log_coordinates(window, orientations)


ERRORS = [
    (lambda: log((3, 3)), ValueError, r"kernel_size .* must be \(kH, kW, kOr\); pass"),
    (lambda: log(3), TypeError, r"kernel_size \(=3\) must be .*pass e.g."),
    (lambda: log((3, 4, 3)), ValueError, r"kernel_size\[1\] \(=4\) must be odd.*pass 5"),
    (lambda: log((3, 3, 0)), ValueError, r"kernel_size\[2\] \(=0\) must be at least 1"),
    (lambda: log((3, 3, 2.0)), TypeError, r"kernel_size\[2\] \(=2.0\) must be an integer"),
    (lambda: log((3, 3, 5), 4), ValueError, r"counted twice; pass an odd last entry of at most 4"),
    (lambda: log((3, 3, 1), 0), ValueError, r"orientations \(=0\) must be at least 1"),
    (lambda: squared(FIELD, ONES, "far"), ValueError,
     r"distance \(='far'\).*choose one of 'log', 'paths'"),
    (lambda: squared(FIELD, ONES, None), TypeError, r"distance \(=None\) must be a string"),
    (lambda: squared(FIELD, np.ones((1, 3, 3)), "paths"), ValueError,
     r"distance \(='paths'\) is for diagonal metrics \(C, 3\), but .*pass distance='log'"),
    (lambda: squared(FIELD, np.ones((1, 2))), ValueError,
     r"metric has shape \(1, 2\), but \(C, 3\) or"),
    (lambda: squared(FIELD, np.ones(3)), ValueError, r"metric has shape \(3,\), but \(C, 3\) or"),
    (lambda: squared(PLANE, ONES), ValueError, r"metric has shape \(1, 3\), but \(C,\),"),
    (lambda: squared(FIELD, np.ones((1, 3), int)), TypeError, r"metric has dtype int.*convert it"),
    (lambda: squared(FIELD, finsler(3)), ValueError, r"metric is a Finsler.*plane alone; pass"),
    (lambda: squared(PLANE, finsler(4)), ValueError,
     r"metric.coefficients has shape \(1, 4\): its last axis must be odd"),
    (lambda: morphological(), ValueError, r"orientations must be given .*pass"),
    (lambda: morphological(8, 0.5), ValueError, r"alpha \(=0.5\) must lie above 1/2.*pass e.g."),
    (lambda: morphological(8, 1.5), ValueError, r"alpha \(=1.5\) must lie"),
    (lambda: morphological(8, "1"), TypeError, r"alpha \(='1'\) must be a real"),
    (lambda: diffusion(np.ones(1), WINDOW), ValueError, r"metric has shape \(1,\), but \(C, 3\)"),
    (lambda: diffusion(ONES, (3,) * 4), ValueError, r"\(kH, kW\) or \(kH, kW, kOr\); pass"),
]  # fmt: skip


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[m for *_, m in ERRORS])
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
