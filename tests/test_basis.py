"""The constant tensor: what it is at simple angles, its size and norms, and how it is kept."""

import dataclasses
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from pdo_jax import stencils
from tests import laws
from tests.test_stencils import PAPER


def signed_permutations(ndim, determinant=1):
    """The symmetries of the square or cube with one determinant, the identity first."""
    found = []
    for order in itertools.permutations(range(ndim)):
        for signs in itertools.product((1, -1), repeat=ndim):
            matrix = np.diag(signs)[list(order)].astype(float)
            if round(np.linalg.det(matrix)) == determinant:
                found.append(matrix)
    return np.array(sorted(found, key=lambda m: -np.trace(m)))


@pytest.fixture(scope="module")
def octahedral():
    return pdo.Group("O by hand", signed_permutations(3))


def rms(basis):
    """Root mean square of each kernel's norm over iid weights of variance 1."""
    return np.sqrt(np.sum(basis.values**2, axis=tuple(range(1, basis.values.ndim))))


# ------------------------------------------------------------------------------ values


@pytest.mark.parametrize("group", ["p1", "p4", "p8", "p6m", "p7"])
def test_at_angle_zero_the_kernel_is_the_filter(group):
    B = pdo.filter_basis(group)
    edge = (B.size - 3) // 2
    inner = B.values[0, :, edge : edge + 3, edge : edge + 3]
    np.testing.assert_allclose(inner.reshape(9, 9), np.eye(9), rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.abs(B.values[0]).sum(), 9, rtol=1e-13)  # and nothing outside


@pytest.mark.parametrize("group", ["p4", "p8", "p4m", "p8m", "p12m"])
@pytest.mark.parametrize("orientation", [0.0, 0.3, np.pi / 8])
def test_exact_elements_turn_the_kernel(group, orientation):
    """Kernels of g and t g differ by the quarter turn or mirror t, at every orientation."""
    B = pdo.filter_basis(group, orientation=orientation)
    G, n = B.group, int(group.strip("pm"))
    quarter, mirror = n // 4, n  # the indices of R(pi / 2) and, if there is one, diag(1, -1)
    turned = np.rot90(B.values, 1, axes=(-2, -1))
    np.testing.assert_allclose(B.values[G.product[quarter]], turned, rtol=0, atol=1e-13)
    if G.order > n:
        flipped = B.values[:, :, ::-1]
        np.testing.assert_allclose(B.values[G.product[mirror]], flipped, rtol=0, atol=1e-13)
    if orientation:  # the other side of the frame would be wrong: kernels do not turn from g to g t
        assert G.order == n or not np.allclose(B.values[G.product[:, mirror]], flipped)


def test_rotated_derivative():
    """d_x in the frame of the fourth of pi is (d_x + d_y) / sqrt 2, by hand."""
    B = pdo.filter_basis("p8")
    weights = B.weights(np.eye(9)[1])
    kernel = np.einsum("m,mij->ij", weights, B.values[1])
    expected = np.zeros((5, 5))
    expected[2, [1, 3]] = [-0.5, 0.5]
    expected[[1, 3], 2] = [0.5, -0.5]
    np.testing.assert_allclose(kernel, expected / np.sqrt(2), rtol=0, atol=1e-15)


def test_kernels_of_other_elements_sum_up_monomials():
    """basis[g] = T^-1 R_g D: entry by entry, for one element, from the stencils of the paper."""
    B = pdo.filter_basis("p8", orientation=np.pi / 8)
    c = np.random.default_rng(0).normal(size=9)
    t = 3 * np.pi / 4 + np.pi / 8  # element 3
    C, S = np.cos(t), np.sin(t)
    # A polynomial of d_x, d_y as {(i, j): coefficient}.
    x, y = {(1, 0): C, (0, 1): S}, {(1, 0): -S, (0, 1): C}

    def times(p, q):
        product = {}
        for (a, b), u in p.items():
            for (d, e), v in q.items():
                product[a + d, b + e] = product.get((a + d, b + e), 0) + u * v
        return product

    kernel = np.zeros((5, 5))
    for coefficient, (i, j) in zip(c, B.monomials, strict=True):
        polynomial = {(0, 0): 1.0}
        for factor in (x,) * i + (y,) * j:
            polynomial = times(polynomial, factor)
        for monomial, value in polynomial.items():
            stencil = np.array(PAPER[monomial], float)
            r, s = ((5 - n) // 2 for n in stencil.shape)
            kernel[r : 5 - r, s : 5 - s] += coefficient * value * stencil
    actual = np.einsum("m,mij->ij", B.weights(c), B.values[3])
    np.testing.assert_allclose(actual, kernel, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("group", "accuracy", "size"),
    [("p4", 2, 3), ("p4m", 2, 3), ("p8", 2, 5), ("p8", 4, 7), ("p8", 6, 9), ("p6", 2, 5),
     ("p2", 2, 3), ("p2", 4, 5), ("p1", 6, 7)],
)  # fmt: skip
def test_sizes(group, accuracy, size):
    B = pdo.filter_basis(group, accuracy=accuracy)
    assert B.size == size
    assert B.values.shape == (B.group.order, 9, size, size)
    border = np.ones((size, size), bool)
    border[1:-1, 1:-1] = False
    assert np.any(B.values[..., border])  # no smaller size would do
    assert B.num_operators == len(B.monomials) == 9


def test_a_larger_size_adds_zeros():
    small, large = pdo.filter_basis("p8"), pdo.filter_basis("p8", size=9)
    np.testing.assert_array_equal(large.values[..., 2:-2, 2:-2], small.values)
    assert np.abs(large.values).sum() == pytest.approx(np.abs(small.values).sum())


def test_norms_of_p8():
    np.testing.assert_allclose(rms(pdo.filter_basis("p8")), [3.00, 4.42] * 4, atol=5e-3)
    turned = rms(pdo.filter_basis("p8", orientation=np.pi / 8))
    np.testing.assert_allclose(turned, 3.49, atol=5e-3)
    np.testing.assert_allclose(turned, turned[0], rtol=1e-13)


@pytest.mark.parametrize("group", ["p5", "p6", "p12", "p16"])
def test_no_orientation_makes_other_groups_equal(group):
    turned = rms(pdo.filter_basis(group, orientation=np.pi / 8))
    assert turned.max() / turned.min() > 1.05


# ------------------------------------------------------------------------------ other operators


@pytest.mark.parametrize("operators", ["box", "total"])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_other_orders(order, operators):
    """(S S^T)^(1/2) takes the place of T: element 0 is an isometry, so that iid weights stay so."""
    B = pdo.filter_basis("p4", order, operators=operators)
    count = (order + 1) ** 2 if operators == "box" else (order + 1) * (order + 2) // 2
    assert B.num_operators == count
    gram = np.einsum("mij,nij->mn", B.values[0], B.values[0])
    np.testing.assert_allclose(gram, np.eye(count), rtol=0, atol=1e-10)
    # The element 0 of monomial i is the stencil of monomial i.
    for i, monomial in enumerate(B.monomials):
        kernel = np.einsum("m,mij->ij", B.weights(np.eye(count)[i]), B.values[0])
        expected = stencils.centred(stencils.finite_difference(monomial, 2), B.size)
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-10)


def rank(values):
    return np.linalg.matrix_rank(values.reshape(-1, values.shape[-1] ** 2), tol=1e-9)


def test_total_operators_are_closed_under_rotation():
    total = pdo.filter_basis("p7", operators="total")
    assert (total.size, total.num_operators) == (3, 6)
    assert rank(total.values) == rank(total.values[0]) == 6
    # Turns of x^2 y^2 reach 3 of the 5 quartics only, those of frequency 0 and +-4: 15 - 2.
    box = pdo.filter_basis("p7")
    assert rank(box.values[0]) == 9 and rank(box.values) == 13


# ------------------------------------------------------------------------------ mesh, options


def test_weights_scale_with_the_mesh():
    B = pdo.filter_basis("p8", orientation=0.3, accuracy=4)
    c = np.random.default_rng(0).normal(size=(9, 2, 3))
    scaled = np.stack([c[i] * 0.1 ** -sum(m) for i, m in enumerate(B.monomials)])
    np.testing.assert_allclose(B.weights(c, 0.1), B.weights(scaled), rtol=1e-13)
    np.testing.assert_allclose(B.weights(c)[:, 1, 2], B.weights(c[:, 1, 2]))
    assert not np.allclose(B.weights(c, 0.1), B.weights(c))


def test_weights_are_a_filter_in_the_plane():
    """The Laplacian at mesh 1/2 as a 3x3 filter."""
    B = pdo.filter_basis("p1")
    laplacian = np.array([float(m in ((2, 0), (0, 2))) for m in B.monomials])
    expected = 4 * np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    np.testing.assert_allclose(B.weights(laplacian, 0.5).reshape(3, 3), expected)


def test_bases_are_cached_and_equal_by_their_options():
    B = pdo.filter_basis("p8", orientation=np.pi / 8)
    assert pdo.filter_basis(pdo.cyclic(8), 2, np.float64(np.pi / 8), accuracy=2) is B
    others = [
        pdo.filter_basis("p8"),
        pdo.filter_basis("p4", orientation=np.pi / 8),
        pdo.filter_basis("p8", orientation=np.pi / 8, accuracy=4),
        pdo.filter_basis("p8", 1, orientation=np.pi / 8),
        pdo.filter_basis("p8", orientation=np.pi / 8, operators="total"),
        pdo.filter_basis("p8", orientation=np.pi / 8, size=7),
    ]
    assert len({B, *others}) == 7
    copy = pickle.loads(pickle.dumps(B))
    assert copy == B and hash(copy) == hash(B)
    np.testing.assert_array_equal(copy.values, B.values)
    assert copy.monomials == B.monomials


@pytest.mark.parametrize("attribute", ["values", "synthesis"])
def test_bases_are_read_only(attribute):
    B = pdo.filter_basis("p4")
    with pytest.raises(ValueError, match="read-only"):
        getattr(B, attribute)[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(B, attribute, None)


def test_values_are_float64():
    assert pdo.filter_basis("p8").values.dtype == np.float64


# ------------------------------------------------------------------------------ space


def test_octahedral_group(octahedral):
    B = pdo.filter_basis(octahedral)
    assert octahedral.order == 24 and octahedral.on_grid.all()
    assert B.values.shape == (24, 27, 3, 3, 3)
    np.testing.assert_allclose(B.values[0].reshape(27, 27), np.eye(27), atol=1e-13)
    total = pdo.filter_basis(octahedral, operators="total")
    assert total.values.shape == (24, 10, 3, 3, 3)


@pytest.mark.slow
def test_lifting_a_volume_commutes_with_the_cube(octahedral):
    B = pdo.filter_basis(octahedral)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(27, 1, 2))
    lift = jax.jit(lambda x: pdo.lift_conv(x, weights, B))
    for size in ((3, 3, 3), (3, 4, 4)):
        x = rng.normal(size=(*size, 1))
        assert laws.equivariance(lift, x, octahedral, "image", "field") < 1e-12

    def wrong(x):  # elements in another order
        return lift(x)[..., octahedral.inverse, :]

    x = rng.normal(size=(3, 3, 3, 1))
    assert laws.equivariance(wrong, x, octahedral, "image", "field") > 0.1


def test_acting_on_volumes_is_index_arithmetic(octahedral):
    rng = np.random.default_rng(0)
    image, field = rng.normal(size=(2, 3, 4, 1)), rng.normal(size=(2, 3, 4, 24, 1))
    for g in (1, 9, 20):
        for x, kind in ((image, "image"), (field, "field")):
            expected = laws.move(x, octahedral, g, kind)
            np.testing.assert_array_equal(pdo.act(octahedral, g, jnp.asarray(x), kind), expected)


@pytest.mark.slow
def test_orientation_in_space(octahedral):
    c, s = np.cos(0.3), np.sin(0.3)
    frame = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    frame = frame @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turned = pdo.filter_basis(octahedral, orientation=frame)
    assert turned.size == 7 and turned.values.shape == (24, 27, 7, 7, 7)
    assert turned == pickle.loads(pickle.dumps(turned))
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 3, 3, 1)), rng.normal(size=(27, 1, 1))
    lift = jax.jit(lambda x: pdo.lift_conv(x, w, turned))
    assert laws.equivariance(lift, x, octahedral, "image", "field") < 1e-12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 1)), r"values has shape \(4, 1\), but"),
        (
            np.full((4, 1, 3, 3), np.nan),
            "values must be finite and not all 0, but the largest is nan",
        ),
        (np.zeros((4, 1, 3, 3)), "values must be finite and not all 0, but the largest is 0.0"),
    ],
)
def test_values_that_are_no_filters(values, message):
    with pytest.raises(ValueError, match=message):
        pdo.FilterBasis(pdo.group("p4"), values)
