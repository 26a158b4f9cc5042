"""Polynomials of derivatives and what a matrix does to them, against direct evaluation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdo_jax import operators


def rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def evaluate(monomials, vector):
    """All monomials at a vector, straight from their definition."""
    return np.array([math.prod(v**e for v, e in zip(vector, m, strict=True)) for m in monomials])


def matrices(ndim, kind, count=5):
    rng = np.random.default_rng(ndim)
    drawn = rng.normal(size=(count, ndim, ndim))
    return drawn if kind == "any" else np.linalg.qr(drawn)[0]


@pytest.mark.parametrize(
    ("ndim", "order", "family", "count"),
    [(2, 2, "box", 9), (2, 2, "total", 6), (2, 4, "total", 15), (2, 1, "box", 4), (2, 3, "box", 16),
     (2, 0, "box", 1), (3, 2, "box", 27), (3, 2, "total", 10), (3, 6, "total", 84)],
)  # fmt: skip
def test_counts(ndim, order, family, count):
    found = operators.monomials(ndim, order, family)
    assert len(set(found)) == len(found) == count
    assert all(max(m) <= order for m in found)
    assert family == "box" or all(sum(m) <= order for m in found)
    assert [sum(m) for m in found] == sorted(sum(m) for m in found)


def test_order_of_monomials():
    assert operators.monomials(2, 2) == (
        (0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (2, 1), (1, 2), (2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["orthogonal", "any"])
@pytest.mark.parametrize(("ndim", "order"), [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)])
def test_transform_is_evaluation_at_the_inverse(ndim, order, kind):
    """H_m(A^-1 v) = sum_t R[A, m, t] v^t at random vectors v."""
    sources = operators.monomials(ndim, order)
    targets = operators.monomials(ndim, ndim * order, "total")
    A = matrices(ndim, kind)
    R = operators.transform(A, sources, targets)
    assert R.shape == (len(A), len(sources), len(targets))
    for vector in np.random.default_rng(1).normal(size=(4, ndim)):
        for a, r in zip(A, R, strict=True):
            expected = evaluate(sources, np.linalg.solve(a, vector))
            actual = r @ evaluate(targets, vector)
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("ndim", "degree"), [(2, 4), (3, 3)])
def test_identity(ndim, degree):
    family = operators.monomials(ndim, degree, "total")
    R = operators.transform(np.eye(ndim)[None], family, family)
    np.testing.assert_array_equal(R[0], np.eye(len(family)))


@pytest.mark.parametrize(("ndim", "degree"), [(2, 4), (3, 3)])
def test_transforms_compose(ndim, degree):
    """Rows of coefficients are multiplied from the right, so R[A B] = R[B] R[A]."""
    family = operators.monomials(ndim, degree, "total")
    A, B = matrices(ndim, "any", 2)
    RA, RB, RAB = operators.transform(np.stack([A, B, A @ B]), family, family)
    scale = np.abs(RAB).max()
    np.testing.assert_allclose(RB @ RA, RAB, rtol=0, atol=1e-12 * scale)
    assert np.abs(RA @ RB - RAB).max() > 1e-2 * scale  # the other order is another matrix


def test_box_family_needs_the_total_family_around_it():
    box, total = operators.monomials(2, 2), operators.monomials(2, 4, "total")
    R = operators.transform(rotation(math.pi / 8)[None], box, total)[0]
    outside = [i for i, m in enumerate(total) if m not in box]
    assert len(outside) == 6 and np.all(np.any(R[:, outside], axis=0))


T = 0.4
C, S = math.cos(T), math.sin(T)


@pytest.mark.parametrize(
    ("angle", "source", "expected"),
    [
        pytest.param(T, (1, 0), {(1, 0): C, (0, 1): S}, id="dx"),
        pytest.param(T, (0, 1), {(1, 0): -S, (0, 1): C}, id="dy"),
        pytest.param(T, (2, 0), {(2, 0): C**2, (1, 1): 2 * C * S, (0, 2): S**2}, id="dxx"),
        pytest.param(T, (1, 1), {(2, 0): -C * S, (1, 1): C**2 - S**2, (0, 2): C * S}, id="dxy"),
        pytest.param(math.pi / 4, (2, 0), {(2, 0): 0.5, (1, 1): 1, (0, 2): 0.5}, id="dxx at 45"),
        pytest.param(math.pi / 2, (1, 0), {(0, 1): 1}, id="dx at 90"),
        pytest.param(math.pi / 2, (0, 1), {(1, 0): -1}, id="dy at 90"),
        pytest.param(math.pi, (2, 1), {(2, 1): -1}, id="dxxy at 180"),
        pytest.param(math.pi / 2, (2, 2), {(2, 2): 1}, id="dxxyy at 90"),
    ],
)
def test_known_rotations(angle, source, expected):
    targets = operators.monomials(2, 4, "total")
    R = operators.transform(rotation(angle)[None], (source,), targets)[0, 0]
    np.testing.assert_allclose(R, [expected.get(m, 0.0) for m in targets], atol=1e-15)


def test_laplacian_does_not_turn():
    family = operators.monomials(2, 2, "total")
    laplacian = np.array([float(m in ((2, 0), (0, 2))) for m in family])
    for R in operators.transform(matrices(2, "orthogonal"), family, family):
        np.testing.assert_allclose(laplacian @ R, laplacian, atol=1e-14)
    R = operators.transform(2 * np.eye(2)[None], family, family)[0]
    np.testing.assert_allclose(laplacian @ R, laplacian / 4)  # twice as large, a quarter as curved


def test_transform_is_the_derivative_in_the_moved_frame():
    """H(A^-1 d) f at A y is H(d) of f(A .) at y: JAX differentiates both."""

    def f(p):
        return jnp.sin(1.1 * p[0] + 0.3 * p[1]) * jnp.exp(0.4 * p[1] - 0.2 * p[0] * p[1])

    def derivatives(function, point):
        gradient, hessian = jax.grad(function)(point), jax.hessian(function)(point)
        return np.array([function(point), *gradient, hessian[0, 0], hessian[0, 1], hessian[1, 1]])

    A, y = rotation(0.7), jnp.array([0.2, -0.5])
    family = operators.monomials(2, 2, "total")  # 1, x, y, xx, xy, yy
    still = derivatives(f, A @ y)
    moved = derivatives(lambda p: f(A @ p), y)
    R = operators.transform(A[None], family, family)[0]
    np.testing.assert_allclose(R @ still, moved, rtol=1e-12, atol=1e-13)
    assert np.abs(R.T @ still - moved).max() > 0.01  # the transpose turns the other way
