"""Stencils against the textbook's coefficients, polynomials, and the paper's fifteen."""

import math
from fractions import Fraction

import numpy as np
import pytest

from pdo_jax import stencils

# Fornberg: Generation of finite difference formulas on arbitrarily spaced grids (Math. Comp. 51,
# 1988), table 1: the right half, beginning at the centre; the left half follows by symmetry.
FORNBERG = {
    (1, 2): "0 1/2",
    (1, 4): "0 2/3 -1/12",
    (1, 6): "0 3/4 -3/20 1/60",
    (2, 2): "-2 1",
    (2, 4): "-5/2 4/3 -1/12",
    (2, 6): "-49/18 3/2 -3/20 1/90",
    (3, 2): "0 -1 1/2",
    (3, 4): "0 -13/8 1 -1/8",
    (3, 6): "0 -61/30 169/120 -3/10 7/240",
    (4, 2): "6 -4 1",
    (4, 4): "28/3 -13/2 2 -1/6",
    (4, 6): "91/8 -122/15 169/60 -2/5 7/240",
}
ORDERS = [(d, p) for d in range(7) for p in (2, 4, 6, 8)]

# The stencils of the official code of PDO-eConvs (Shen, He, Lin, Ma, ICML 2020), rows from top to
# bottom, centred on 5x5 pixels there.
PAPER = {
    (0, 0): [[1]],
    (1, 0): [[-1 / 2, 0, 1 / 2]],
    (0, 1): [[1 / 2], [0], [-1 / 2]],
    (2, 0): [[1, -2, 1]],
    (1, 1): [[-1 / 4, 0, 1 / 4], [0, 0, 0], [1 / 4, 0, -1 / 4]],
    (0, 2): [[1], [-2], [1]],
    (3, 0): [[-1 / 2, 1, 0, -1, 1 / 2]],
    (2, 1): [[1 / 2, -1, 1 / 2], [0, 0, 0], [-1 / 2, 1, -1 / 2]],
    (1, 2): [[-1 / 2, 0, 1 / 2], [1, 0, -1], [-1 / 2, 0, 1 / 2]],
    (0, 3): [[1 / 2], [-1], [0], [1], [-1 / 2]],
    (4, 0): [[1, -4, 6, -4, 1]],
    (3, 1): [[-1 / 4, 1 / 2, 0, -1 / 2, 1 / 4], [0] * 5, [1 / 4, -1 / 2, 0, 1 / 2, -1 / 4]],
    (2, 2): [[1, -2, 1], [-2, 4, -2], [1, -2, 1]],
    (1, 3): [[-1 / 4, 0, 1 / 4], [1 / 2, 0, -1 / 2], [0, 0, 0], [-1 / 2, 0, 1 / 2],
             [1 / 4, 0, -1 / 4]],
    (0, 4): [[1], [-4], [6], [-4], [1]],
}  # fmt: skip


@pytest.mark.parametrize(("derivative", "accuracy"), FORNBERG)
def test_textbook(derivative, accuracy):
    right = [float(Fraction(c)) for c in FORNBERG[derivative, accuracy].split()]
    left = [(-1) ** derivative * c for c in right[:0:-1]]
    taps = stencils.central_difference(derivative, accuracy)
    np.testing.assert_array_equal(taps, left + right)  # correctly rounded: equal to the last bit


@pytest.mark.parametrize(("derivative", "accuracy"), ORDERS)
def test_moments(derivative, accuracy):
    """Exact for polynomials of degree below derivative + accuracy, and wrong at that degree."""
    taps = stencils.central_difference(derivative, accuracy)
    offsets = np.arange(len(taps)) - len(taps) // 2
    for degree in range(derivative + accuracy):
        terms = taps * offsets.astype(float) ** degree
        exact = math.factorial(degree) * (degree == derivative)
        assert math.fsum(terms) == pytest.approx(exact, abs=1e-14 * np.abs(terms).sum())
    degree = derivative + accuracy
    assert derivative == 0 or abs(math.fsum(taps * offsets.astype(float) ** degree)) > 0.1


@pytest.mark.parametrize(("derivative", "accuracy"), ORDERS)
def test_symmetry_and_length(derivative, accuracy):
    taps = stencils.central_difference(derivative, accuracy)
    np.testing.assert_array_equal(taps[::-1], (-1) ** derivative * taps)
    assert len(taps) == (1 if derivative == 0 else 2 * ((derivative + 1) // 2) - 1 + accuracy)
    assert taps[0] != 0  # none is longer than it has to be


@pytest.mark.parametrize("exponents", PAPER)
def test_the_fifteen_stencils_of_the_paper(exponents):
    stencil = stencils.centred(stencils.finite_difference(exponents), 5)
    rows = np.array(PAPER[exponents], float)
    expected = np.zeros((5, 5))
    top, left = (5 - rows.shape[0]) // 2, (5 - rows.shape[1]) // 2
    expected[top : top + rows.shape[0], left : left + rows.shape[1]] = rows
    np.testing.assert_array_equal(stencil, expected)


@pytest.mark.parametrize("accuracy", [2, 4])
@pytest.mark.parametrize("exponents", [(0, 1), (2, 1), (1, 3), (1, 0, 2), (0, 1, 1), (2, 3, 1)])
def test_derivatives_of_polynomials_are_exact(exponents, accuracy):
    """At a point off the origin, for every product of powers that the accuracy allows."""
    stencil = stencils.finite_difference(exponents, accuracy)
    ndim = len(exponents)
    steps = [np.arange(n) - n // 2 for n in stencil.shape[::-1]]  # x, y, z
    signs = (1, -1, 1)  # the first row of the array is the highest y
    point = np.array([0.3, -0.7, 0.5])[:ndim]
    rng = np.random.default_rng(0)
    for _ in range(10):
        powers = [int(rng.integers(d + accuracy)) for d in exponents]
        values, exact = np.ones(1), 1.0
        for i in range(ndim):
            axis = (point[i] + signs[i] * steps[i]) ** powers[i]
            values = np.multiply.outer(axis, values)
            falling = math.prod(range(powers[i] - exponents[i] + 1, powers[i] + 1))
            exact *= falling * point[i] ** max(powers[i] - exponents[i], 0)
            exact *= powers[i] >= exponents[i]
        measured = math.fsum((stencil * values[..., 0]).ravel())
        assert measured == pytest.approx(exact, abs=1e-9 * np.abs(values).max())


def test_axes():
    """x to the right, y against the rows, z with increasing index of the first axis in space."""
    assert stencils.finite_difference((1, 0)).tolist() == [[-0.5, 0.0, 0.5]]
    assert stencils.finite_difference((0, 1)).tolist() == [[0.5], [0.0], [-0.5]]
    assert stencils.finite_difference((0, 0, 1)).tolist() == [[[-0.5]], [[0.0]], [[0.5]]]
    assert stencils.finite_difference((0, 1, 0)).tolist() == [[[0.5], [0.0], [-0.5]]]


def test_centred():
    stencil = stencils.centred(np.array([[1.0, 2.0, 3.0]]), 5)
    assert stencil[2].tolist() == [0, 1, 2, 3, 0] and stencil.sum() == 6


def test_stencils_are_read_only():
    for array in (stencils.central_difference(1), stencils.finite_difference((1, 1))):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("taps", "derivative", "accuracy", "moment"),
    [
        pytest.param([0.5, 0.0, -0.5], 1, 2, 1, id="sign"),
        pytest.param([0.0, -1.0, 1.0], 1, 2, 2, id="one-sided"),
        pytest.param([1.0, -2.0, 1.1], 2, 2, 0, id="sum"),
        pytest.param([-0.5, 0.0, 0.5], 1, 4, 3, id="accuracy"),
    ],
)
def test_stencils_check_themselves(taps, derivative, accuracy, moment):
    with pytest.raises(ValueError, match=f"have moment {moment} equal to"):
        stencils.check_moments(np.array(taps), derivative, accuracy)
