"""Lifting by splines and by cake wavelets, bases of one's own, and projections back to images."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage, special
from scipy.interpolate import BSpline
from sklearn.datasets import load_digits

import pdo_jax as pdo
from pdo_jax.pde.splines import bspline
from tests import laws


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ------------------------------------------------------------------------------- B-splines


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_splines_are_scipys(order):
    x = np.linspace(-4, 4, 401)
    oracle = BSpline.basis_element(np.arange(order + 2) - (order + 1) / 2, extrapolate=False)
    np.testing.assert_allclose(bspline(order, x), np.nan_to_num(oracle(x)), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("group", "element"), [("p8", 1), ("p8", 3), ("p6m", 8)])
def test_a_rotated_filter_is_the_spline_at_rotated_pixels(group, element):
    """Kernel g at p is the spline of the weights at g^-1 p: by SciPy, pixel by pixel."""
    G, size = pdo.group(group), 5
    weights = noise(size, size)
    B = pdo.pde.spline_basis(group, size)
    kernel = np.tensordot(weights.ravel(), B.values[element], axes=(0, 0))
    hat = BSpline.basis_element([-1.5, -0.5, 0.5, 1.5], extrapolate=False)
    for row, column in np.ndindex(size, size):
        x, y = G.matrices[element].T @ (column - 2, 2 - row)
        at = (2 - y - np.arange(size)), (x + 2 - np.arange(size))
        expected = np.nan_to_num(hat(at[0])) @ weights @ np.nan_to_num(hat(at[1]))
        np.testing.assert_allclose(kernel[row, column], expected, rtol=0, atol=1e-14)


def test_quarter_turns_of_spline_filters_are_exact():
    for group, step in (("p4", 1), ("p8", 2)):
        values = pdo.pde.spline_basis(group, 5).values
        turned = np.rot90(values, 1, axes=(-2, -1))
        np.testing.assert_allclose(np.roll(values, -step, axis=0), turned, rtol=0, atol=1e-15)


SPLINES = pdo.pde.spline_basis("p4", 5)


@pytest.mark.slow
def test_spline_layers_are_layers():
    """Exact at quarter turns; folding and Linen give the same."""
    options = dict(use_bias=False, dtype=jnp.float64, param_dtype=jnp.float64)
    lift = pdo.nn.PDOLift(1, 2, SPLINES, **options, rngs=nnx.Rngs(0))
    conv = pdo.nn.PDOConv(2, 3, SPLINES, angular_size=3, **options, rngs=nnx.Rngs(1))
    assert lift.kernel.shape == (25, 1, 2) and conv.kernel.shape == (25, 3, 2, 3)
    layers = nnx.Sequential(lift, jnp.tanh, conv)
    x = noise(4, 5, 5, 1)
    run = jax.jit(lambda x: layers(x))
    assert laws.equivariance(run, x[0], "p4", "image", "field") <= 1e-12
    assert laws.equivariance(run, x[0], "p4", "image", "invariant") > 1e-2

    folded = pdo.export.fold(layers)
    assert laws.distance(jax.jit(lambda x: folded(x))(x), run(x)) <= 1e-12
    linen = pdo.nn.linen.PDOConv(2, 3, SPLINES, angular_size=3, **options)
    kernel = {"params": {"kernel": conv.kernel[...]}}
    other = jax.jit(lambda x: linen.apply(kernel, jnp.tanh(lift(x))))
    assert laws.distance(other(x), run(x)) <= 1e-12


def test_an_angular_size_leaves_the_other_weights_out():
    options = dict(param_dtype=jnp.float64, use_bias=False, rngs=nnx.Rngs(0))
    layer = pdo.nn.PDOConv(1, 1, "p8", angular_size=3, **options)
    x = noise(1, 3, 3, 8, 1)
    weights = np.zeros((9, 8, 1, 1))
    weights[:, [7, 0, 1]] = layer.kernel[...]
    expected = jax.jit(pdo.group_conv, static_argnums=2)(x, weights, pdo.filter_basis("p8"))
    np.testing.assert_allclose(jax.jit(lambda x: layer(x))(x), expected, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match=r"angular_size \(=4\) must be odd and at most 8"):
        pdo.nn.PDOConv(1, 1, "p8", angular_size=4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"but p4m is not cyclic; pass None"):
        pdo.nn.PDOConv(1, 1, "p4m", angular_size=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"but images have none; pass None"):
        pdo.nn.PDOLift(1, 1, "p8", angular_size=3, rngs=nnx.Rngs(0))


# ---------------------------------------------------------------------- bases of one's own


def test_a_basis_of_values_is_a_value():
    copy = pickle.loads(pickle.dumps(SPLINES))
    same, other = pdo.FilterBasis(pdo.group("p4"), SPLINES.values), pdo.pde.spline_basis("p4", 3)
    assert copy == same == SPLINES and hash(copy) == hash(same) == hash(SPLINES)
    assert other != SPLINES and pdo.filter_basis("p4") != SPLINES
    assert pdo.pde.spline_basis("C4", 5) is SPLINES and not SPLINES.values.flags.writeable


def test_a_basis_must_move_with_its_group():
    values = np.array(SPLINES.values)
    values[1] *= -1
    with pytest.raises(ValueError, match=r"values must move with the group, .* element 1 of p4"):
        pdo.FilterBasis(pdo.group("p4"), values)
    with pytest.raises(ValueError, match=r"values has shape \(4, 25, 5, 5\), but .* \|G\| = 8 is"):
        pdo.FilterBasis(pdo.group("p8"), values)
    with pytest.raises(ValueError, match=r"number of taps k \(=4\) must be odd"):
        pdo.FilterBasis(pdo.group("p1"), values[:1, :, 1:, 1:])
    with pytest.raises(ValueError, match=r"orientation \(=0.3\) is an option for .* of a group"):
        pdo.nn.PDOLift(1, 1, SPLINES, orientation=0.3, rngs=nnx.Rngs(0))


# --------------------------------------------------------------------------- cake wavelets


def test_wavelets_sum_to_the_radial_window():
    """One in the middle, the regularised incomplete gamma function everywhere; slices >= 0."""
    kernels = np.fft.ifftshift(pdo.pde.cake_wavelets(21, 8), (-2, -1))
    # Correlation multiplies a frequency by sum_p k(p) e^{+i p f}.
    factors = np.fft.fftshift(np.fft.ifft2(kernels, norm="forward"), (-2, -1))
    assert np.max(np.abs(factors.imag)) < 1e-14 and np.min(factors.real) > -1e-14
    radius = np.hypot(*(np.indices((21, 21)) - 10)) / 10.5  # in units of the Nyquist frequency
    window = special.gammaincc(9, 8.5 * (radius / 0.8) ** 2)
    np.testing.assert_allclose(factors.real.sum(0), window, rtol=0, atol=1e-13)
    assert np.all(window[radius < 0.4] > 0.999)


def test_wavelets_turn():
    kernels = pdo.pde.cake_wavelets(15, 8)
    np.testing.assert_allclose(kernels[2], np.rot90(kernels[0]), rtol=0, atol=1e-15)
    np.testing.assert_allclose(kernels[4].real, kernels[0].real, rtol=0, atol=1e-15)
    np.testing.assert_allclose(kernels[4], np.conj(kernels[0]), rtol=0, atol=1e-15)
    line = np.zeros((31, 31, 1))
    line[15] = 1.0
    score = np.asarray(pdo.pde.cake_lift(line, 8, 15))[15, 15, :, 0]
    assert {int(k) for k in np.flatnonzero(score == score.max())} <= {0, 4}
    assert score[0] > 3 * score[1] > 3 * abs(score[2])


def test_scores_sum_to_the_image():
    """Smooth images to 2e-5; scanned digits three times enlarged to 5 %: their edges are finer."""
    smooth = np.exp(-np.sum((np.indices((33, 33)) - 16) ** 2, axis=0) / 18)[..., None]
    scans = ndimage.zoom(load_digits().images[:4] / 16, (1, 3, 3), order=3)
    digits = np.pad(scans, ((0, 0), (4, 5), (4, 5)))[..., None]
    for image, error in ((smooth, 2e-5), (digits, 0.06)):
        score = np.asarray(jax.jit(pdo.pde.cake_lift)(image))
        assert score.shape == (*image.shape[:-1], 8, 1)
        assert np.linalg.norm(score.sum(-2) - image) < error * np.linalg.norm(image)
        assert np.linalg.norm(score[..., 1:, :].sum(-2) - image) > 0.05 * np.linalg.norm(image)


@pytest.mark.parametrize("part", ["real", "imaginary"])
def test_cake_lifting_is_exact_at_quarter_turns(part):
    x = noise(9, 9, 2)
    run = jax.jit(lambda x: pdo.pde.cake_lift(x, 4, 7, part=part))
    assert laws.equivariance(run, x, "p4", "image", "field") <= 1e-12
    assert laws.equivariance(run, x, "p4", "image", "invariant") > 1e-2


def test_cake_arguments():
    with pytest.raises(ValueError, match=r"size \(=8\) must be odd, so that .*; pass 9"):
        pdo.pde.cake_wavelets(8, 8)
    with pytest.raises(ValueError, match=r"orientations \(=3\) must be above spline_order \(=3\)"):
        pdo.pde.cake_wavelets(9, 3)
    with pytest.raises(ValueError, match=r"inflection \(=1.5\) must be above 0 and at most 1"):
        pdo.pde.cake_wavelets(9, 8, inflection=1.5)
    with pytest.raises(ValueError, match=r"group \(=O\) must be one of the plane"):
        pdo.pde.spline_basis("O", 5)
    with pytest.raises(ValueError, match=r"lateral \(=0.0\) must be above 0"):
        pdo.pde.dilated_projection(np.zeros((3, 3, 4, 1)), 3, 0.0)


# ------------------------------------------------------------------------------ projections


def test_the_dilated_projection_is_its_formula():
    x, length, width, alpha = noise(6, 7, 8, 2), 4.0, 1.5, 0.65
    b, reach = 2 * alpha / (2 * alpha - 1), 2
    expected = np.full((6, 7, 2), -np.inf)
    for i, j, k, u, v in np.ndindex(6, 7, 8, 5, 5):
        row, column, t = i + u - reach, j + v - reach, 2 * math.pi * k / 8
        if 0 <= row < 6 and 0 <= column < 7:
            dx, dy = column - j, i - row
            along, across = dx * math.cos(t) + dy * math.sin(t), dy * math.cos(t) - dx * math.sin(t)
            cost = math.hypot(2 * along / length, 2 * across / width) ** b
            expected[i, j] = np.maximum(expected[i, j], x[row, column, k] - cost)
    project = jax.jit(lambda x: pdo.pde.dilated_projection(x, length, width, alpha))
    np.testing.assert_allclose(project(x), expected, rtol=0, atol=1e-12)
    assert laws.equivariance(project, x, "p8", "field", "image") <= 1e-12
    still = laws.equivariance(project, x[:, :6], "p8", "field", "invariant")
    assert still > 1e-2

    gradient = np.asarray(jax.grad(lambda x: jnp.sum(project(x)))(x))
    step = 1e-7 * noise(*x.shape, seed=1)
    change = np.sum(np.asarray(project(x + step)) - np.asarray(project(x - step))) / 2
    np.testing.assert_allclose(np.sum(gradient * step), change, rtol=1e-5)


def test_the_dilated_projection_has_lietorchs_values():
    """What LieTorch 0.6.2 takes off around a point of orientation 0, for 3, 1.5, 0.65."""
    x = np.full((3, 3, 8, 1), -1e3)
    x[1, 1, 0] = 0.0
    cost = -np.asarray(pdo.pde.dilated_projection(x, 3, 1.5, 0.65))[..., 0]
    side = [5.6412, 3.4786, 5.6412]
    np.testing.assert_allclose(cost, [side, [0.1726, 0, 0.1726], side], rtol=0, atol=5e-5)
