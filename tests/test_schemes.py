"""Every scheme of discretisation against what defines it, by other means than its own."""

import itertools
import math
import pickle

import numpy as np
import pytest

import pdo_jax as pdo
from pdo_jax import operators, stencils
from pdo_jax.stencils.moments import extent
from pdo_jax.stencils.radial import rbf_fd

SCHEMES = tuple(stencils.SCHEMES)
FILLING = tuple(name for name in SCHEMES if name != "finite-difference")


def make(scheme, exponents, accuracy=2, size=None, width=None):
    """A stencil of a scheme, in its default width and smallest size unless told otherwise."""
    value = stencils.SCHEMES[scheme]
    width = value.default if width is None else width
    size = value.extent(exponents, accuracy) if size is None else size
    return stencils.centred(value.stencil(exponents, accuracy, size, width), size)


def grid(shape):
    """Positions of the taps of a stencil in an array: x right, y up, z in depth."""
    axes = [np.arange(n) - n // 2 for n in shape]
    positions = np.meshgrid(*axes, indexing="ij")[::-1]
    return np.stack([-p if i == 1 else p for i, p in enumerate(positions)], -1).astype(float)


def exponents_of(ndim, degree):
    return [t for t in itertools.product(range(degree + 1), repeat=ndim) if sum(t) <= degree]


# ------------------------------------------------------------------------------- all schemes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("ndim", "accuracy", "larger"), [(2, 2, 0), (2, 4, 2), (3, 2, 0)])
def test_stencils_differentiate_polynomials(scheme, ndim, accuracy, larger):
    for t in exponents_of(ndim, 4 if ndim == 2 else 3):
        size = stencils.SCHEMES[scheme].extent(t, accuracy) + larger
        stencil = make(scheme, t, accuracy, size)
        positions = grid(stencil.shape)
        for a in exponents_of(ndim, sum(t) + accuracy - 1):
            value = np.sum(stencil * np.prod(positions ** np.array(a), axis=-1))
            expected = math.prod(map(math.factorial, t)) if a == t else 0.0
            scale = np.sum(np.abs(stencil)) * max(1, size // 2) ** sum(a)
            assert abs(value - expected) <= 1e-11 * scale, (t, a)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_stencils_have_the_symmetry_of_the_grid(scheme, ndim):
    """An exchange of axes, or a sign, maps stencils to stencils."""
    for t in exponents_of(ndim, 4 if ndim == 2 else 3):
        stencil = make(scheme, t, size=5)
        for axis in range(ndim):
            variable = ndim - 1 - axis
            np.testing.assert_array_equal(np.flip(stencil, axis), (-1) ** t[variable] * stencil)
        rounding = 1e-14 * np.abs(stencil).max()
        for axes in itertools.permutations(range(ndim)):
            other = make(scheme, tuple(t[i] for i in axes), size=5)
            # In coordinates (x, y up, z) the exchange is a plain transposition.
            turned, plain = (np.flip(s, -2).transpose() for s in (other, stencil))
            np.testing.assert_allclose(turned, plain.transpose(axes), rtol=0, atol=rounding)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("group", ["p8", "p6m"])
def test_layers_converge_with_the_accuracy(scheme, group):
    c = np.random.default_rng(0).normal(size=(9, 1, 2))
    for accuracy, meshes in ((2, (0.1, 0.07, 0.05, 0.035)), (4, (0.2, 0.14, 0.1, 0.07))):
        B = pdo.filter_basis(group, scheme=scheme, accuracy=accuracy)
        order = pdo.convergence_order(
            lambda x, mesh, B=B: pdo.lift_conv(x, B.weights(c, mesh), B, padding="VALID"),
            group,
            size=B.size,
            meshes=meshes,
        )
        assert abs(order - accuracy) < 0.15


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("group", ["p4m", "p8"])
@pytest.mark.parametrize("family", ["box", "total"])
def test_kernels_turn_with_the_grid(scheme, group, family):
    B = pdo.filter_basis(group, orientation=0.3, scheme=scheme, operators=family, size=7)
    quarter = B.group.index(np.array([[0.0, -1.0], [1.0, 0.0]]))
    turned = B.values[B.group.product[quarter]]
    expected = np.rot90(B.values, axes=(-2, -1))
    np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert np.abs(np.rot90(B.values, -1, axes=(-2, -1)) - turned).max() > 0.1 * np.abs(turned).max()


@pytest.mark.parametrize("scheme", FILLING)
def test_options_make_the_basis(scheme):
    option, default = stencils.SCHEMES[scheme].option, stencils.SCHEMES[scheme].default
    B = pdo.filter_basis("p8", scheme=scheme)
    assert (B.size, B.scheme) == (5, scheme)
    assert pickle.loads(pickle.dumps(B)) == B
    assert not np.allclose(B.values, pdo.filter_basis("p8").values, atol=1e-3)
    if option is not None:
        assert getattr(B, option) == default
        assert pdo.filter_basis("p8", scheme=scheme, **{option: default}) == B
        other = pdo.filter_basis("p8", scheme=scheme, **{option: 0.8 * default})
        assert other != B
        assert not np.allclose(other.values, B.values, atol=1e-3)


def test_a_wide_gaussian_asks_for_more_taps():
    sizes = [pdo.filter_basis("p8", scheme="gaussian", sigma=s).size for s in (0.7, 1, 1.5, 2)]
    assert sizes == [5, 5, 7, 9]
    assert pdo.filter_basis("p8", scheme="gaussian", sigma=2, size=5).size == 5


# --------------------------------------------------------------------------------- gaussian


def hermite(order, sigma, steps):
    """The derivative of a Gaussian, as a correlation kernel, by Hermite's polynomials."""
    u = steps / sigma
    polynomial = [np.ones_like(u), u, u**2 - 1, u**3 - 3 * u, u**4 - 6 * u**2 + 3][order]
    return polynomial * np.exp(-(u**2) / 2) / (np.sqrt(2 * np.pi) * sigma ** (order + 1))


@pytest.mark.parametrize("order", range(5))
def test_a_sampled_gaussian_that_is_not_cut_off(order):
    steps = np.arange(-12, 13.0)
    taps = make("gaussian", (order,), size=25, width=1.6)
    expected = hermite(order, 1.6, steps)
    np.testing.assert_allclose(taps, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_sigma_is_the_standard_deviation_in_pixels():
    taps, steps = make("gaussian", (0,), size=25, width=1.6), np.arange(-12, 13.0)
    assert math.sqrt(np.sum(taps * steps**2)) == pytest.approx(1.6, rel=1e-6)
    smoothing = 1.5  # of e2cnn: exp(-(r / smoothing^2)^2), normalised here
    theirs = np.exp(-((steps / smoothing**2) ** 2))
    ours = make("gaussian", (0,), size=25, width=smoothing**2 / math.sqrt(2))
    np.testing.assert_allclose(ours, theirs / theirs.sum(), rtol=0, atol=1e-12)


# ----------------------------------------------------------------------------------- rbf-fd


@pytest.mark.parametrize("t", [(1, 0), (2, 0), (1, 1), (2, 1), (2, 2), (4, 0)])
def test_rbf_fd_is_exact_on_its_splines(t):
    """On sum_j w_j |x - j|^m with w orthogonal to polynomials, differentiated on a fine grid."""
    rng, size = np.random.default_rng(0), 7
    nodes = grid((size, size)).reshape(-1, 2)
    powers = [np.prod(nodes ** np.array(a), axis=1) for a in exponents_of(2, sum(t) + 1)]
    basis = np.linalg.qr(np.stack(powers, 1))[0]
    w = rng.normal(size=len(nodes))
    w -= basis @ (basis.T @ w)
    m = sum(t) + 5 + sum(t) % 2

    def spline(x):
        return np.linalg.norm(x[..., None, :] - nodes, axis=-1) ** m @ w

    fine = stencils.finite_difference(t, 6)
    h = 0.03
    expected = np.sum(fine * spline(h * grid(fine.shape))) / h ** sum(t)
    value = np.sum(rbf_fd(t, 2, size) * spline(grid((size, size))))
    scale = np.max(np.abs(spline(grid((size, size)))))
    assert abs(value - expected) <= 2e-5 * max(abs(expected), 0.01 * scale)


def test_rbf_fd_is_a_finite_difference_where_nothing_is_left_to_choose():
    for order in range(1, 5):
        size = extent((order,), 2)
        np.testing.assert_allclose(
            rbf_fd((order,), 2, size), stencils.finite_difference((order,)), atol=1e-12
        )


# ---------------------------------------------------------------------------------- optimal


def equivariance_objective(cubes, exponents, band):
    """Mean over rotations of the integral of |S(R w) - R S(w)|^2, with rotations done as such.

    A quadrature of its own: midpoints in the radius, equidistant angles and rotations.
    """
    degree = sum(exponents[0])
    norms = [math.factorial(degree) / math.prod(map(math.factorial, t)) for t in exponents]
    radii = (np.arange(20) + 0.5) / 20 * band
    angles = np.arange(20) * 2 * np.pi / 20
    waves = radii[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    positions = grid(cubes[exponents[0]].shape)
    total = 0.0
    for turn in np.arange(16) * 2 * np.pi / 16 + 0.05:
        R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        # H(A^-1 d): the derivative along the rotated axes, at w, is that of R^-1 w.
        mixing = operators.transform(R[None], tuple(exponents), tuple(exponents))[0]
        symbols = [
            np.stack(
                [np.einsum("...p,p", np.exp(1j * v @ positions.reshape(-1, 2).T), c.ravel())
                 for c in (cubes[t] for t in exponents)]
            )
            for v in (waves, waves @ R)
        ]  # fmt: skip
        difference = np.tensordot(mixing, symbols[0], 1) - symbols[1]
        weighted = np.abs(difference) ** 2 * np.array(norms)[:, None, None]
        total += np.sum(weighted.sum(0) * radii[:, None])
    return total


@pytest.mark.parametrize(("degree", "size", "band"), [(1, 3, np.pi), (2, 5, 2.0), (4, 5, np.pi)])
def test_no_other_stencil_is_more_equivariant(degree, size, band):
    exponents = [t for t in exponents_of(2, degree) if sum(t) == degree]
    best = {t: make("optimal", t, size=size, width=band) for t in exponents}
    error = equivariance_objective(best, exponents, band)
    for scheme in ("finite-difference", "gaussian", "rbf-fd"):
        others = {t: make(scheme, t, size=size) for t in exponents}
        assert equivariance_objective(others, exponents, band) > 1.05 * error
    # A random step that keeps all moments, here and back: the objective is flat, and curves up.
    positions = grid((size, size)).reshape(-1, 2)
    powers = [np.prod(positions ** np.array(a), axis=1) for a in exponents_of(2, degree + 1)]
    basis = np.linalg.svd(np.stack(powers, 1), full_matrices=False)
    basis = basis.U[:, basis.S / basis.S[0] > 1e-10]
    rng = np.random.default_rng(0)
    scale = 0.3 * np.mean([np.linalg.norm(c) for c in best.values()]) / size
    for _ in range(3):
        step = {t: rng.normal(size=size**2) for t in exponents}
        step = {t: (s - basis @ (basis.T @ s)).reshape(size, size) for t, s in step.items()}
        ahead, back = (
            equivariance_objective(
                {t: best[t] + sign * scale * step[t] for t in exponents}, exponents, band
            )
            for sign in (1, -1)
        )
        assert min(ahead, back) > error
        assert abs(ahead - back) < 0.02 * (ahead + back - 2 * error)


def test_the_quadrature_of_the_objective_is_fine_enough(monkeypatch):
    from pdo_jax.stencils import optimal

    coarse = {t: optimal.optimal_stencil(t, 2, 7, np.pi) for t in ((4, 0), (2, 2), (1, 2))}
    monkeypatch.setattr(optimal, "_RADII", 40)
    monkeypatch.setattr(optimal, "_ANGLES", 32)
    fine = {t: optimal._of_degree.__wrapped__(sum(t), 2, 2, 7, np.pi)[t] for t in coarse}
    for t in coarse:
        assert np.abs(fine[t] - coarse[t]).max() < 1e-4 * np.abs(fine[t]).max()


def test_optimal_stencils_beat_the_others_on_a_wave():
    """The same in words of a layer: pi / 2 radians a pixel, one eighth of a turn."""
    errors = {}
    c = np.random.default_rng(3).normal(size=(9, 1, 4))
    for scheme in SCHEMES:
        B = pdo.filter_basis("p8", scheme=scheme, size=5)
        errors[scheme] = pdo.convergence_errors(
            lambda x, mesh, B=B: pdo.lift_conv(x, B.weights(c), B, padding="VALID"),
            "p8",
            size=5,
            meshes=(1.5,),
        )[0, 1]
    assert errors["optimal"] < 0.5 * min(e for s, e in errors.items() if s != "optimal"), errors
