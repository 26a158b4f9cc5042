"""Space: the facts of its bases, and that functions written for the plane hold there as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import pdo_jax as pdo
from pdo_jax import operators
from tests import laws
from tests.laws import Case, function, layer

CUBE = ("T", "O", "Oh")


# --------------------------------------------------------------------------------- groups x bases


def test_numbers_of_operators():
    assert len(operators.monomials(3, 2)) == 27
    assert len(operators.monomials(3, 2, "total")) == 10
    assert len(operators.monomials(3, 6, "total")) == 84  # what box order 2 expands in


@pytest.mark.parametrize(
    ("group", "family", "size"),
    [*((g, "box", 3) for g in CUBE), *((g, "total", 3) for g in (*CUBE, "I")), ("I", "box", 7)],
)
def test_sizes_of_kernels(group, family, size):
    B = pdo.filter_basis(group, operators=family)
    count = 27 if family == "box" else 10
    assert B.values.shape == (B.group.order, count, size, size, size)


@pytest.mark.parametrize("group", CUBE)
def test_the_rotations_of_the_cube_move_the_taps(group):
    """Box order 2 at angle 0: weights are taps (z, y, x), and the elements move them."""
    B = pdo.filter_basis(group)
    filters = np.eye(27).reshape(27, 3, 3, 3)
    for g in range(B.group.order):
        moved = laws.move(filters[..., None], B.group, g, "image")[..., 0]
        np.testing.assert_allclose(B.values[g], moved, atol=1e-14)


def test_monomials_of_the_axes():
    """d_x, d_y, d_z differ along x (last axis), up (second, reversed) and depth (first)."""
    B = pdo.filter_basis("T")
    for m, (axis, sign) in {(1, 0, 0): (2, 1), (0, 1, 0): (1, -1), (0, 0, 1): (0, 1)}.items():
        taps = B.weights(np.eye(27)[B.monomials.index(m)]).reshape(3, 3, 3)
        expected = np.zeros((3, 3, 3))
        expected[1, 1, 1] = 0
        line = np.moveaxis(expected, axis, 0)  # a view
        line[0, 1, 1], line[2, 1, 1] = -sign / 2, sign / 2
        np.testing.assert_allclose(taps, expected, atol=1e-15)


def test_the_orientation_is_a_rotation_matrix():
    fifth = pdo.group("I").matrices[12]
    B = pdo.filter_basis("O", orientation=fifth, operators="total")
    plain = pdo.filter_basis("I", operators="total")
    np.testing.assert_allclose(B.values[0], plain.values[12], atol=1e-14)  # A_1 = R(phi)
    filters = B.values[0][..., None]
    for g in range(24):  # A_g = g R(phi)
        moved = np.moveaxis(
            laws.move(np.moveaxis(filters, 0, 3)[..., 0], B.group, g, "image"), 3, 0
        )
        np.testing.assert_allclose(B.values[g], moved, atol=1e-13)


# ------------------------------------------------------------------- what laws.CASES has not, there

ODD, EVEN, TINY = (3, 5, 3), (2, 4, 2), (2, 3, 1)
CASES = (
    (Case("conv-stride", layer(pdo.nn.PDOConv, 1, 1, strides=2)), "T", ODD),
    (Case("conv-circular", layer(pdo.nn.PDOConv, 1, 1, padding="CIRCULAR")), "T", TINY),
    (Case("conv-groups", layer(pdo.nn.PDOConv, 2, 2, feature_group_count=2)), "T", TINY),
    (Case("lift-dilated", layer(pdo.nn.PDOLift, 1, 1, kernel_dilation=2), "image"), "Oh", ODD),
    (Case("transpose", layer(pdo.nn.PDOConvTranspose, 1, 1, strides=2)), "T", TINY),
    (Case("max-pool", function(pdo.nn.max_pool, (2, 2, 2), 2, kind="field")), "O", EVEN),
    (Case("avg-pool", function(pdo.nn.avg_pool, (3, 3, 3), 2, kind="image"), "image", "image"),
     "Oh", ODD),
    (Case("group-mean", function(pdo.nn.group_pool, "mean"), output="image"), "Oh", TINY),
    (Case("icosahedral", layer(pdo.nn.PDOConv, 1, 1, operators="total")), "I", TINY),
)  # fmt: skip


@pytest.mark.parametrize(
    ("case", "group", "size"),
    [pytest.param(c._replace(channels=2 if c.name == "conv-groups" else 1), g, s, id=c.name)
     for c, g, s in CASES],
)  # fmt: skip
def test_equivariant(case, group, size):
    laws.check_equivariant(case, group, "float64", size)


def test_a_pool_that_does_not_fit_is_not_exact():
    x = np.random.default_rng(0).normal(size=(5, 5, 5, 12, 1))
    with pytest.warns(pdo.EquivarianceWarning, match="sizes that keep them exact: 4, 6"):
        y = pdo.nn.max_pool(x, (2, 2, 2), 2, kind="field")
    G = pdo.group("T")
    moved = pdo.nn.max_pool(laws.move(x, G, 1, "field"), (2, 2, 2), 2, kind="field")
    assert laws.distance(moved, laws.move(y, G, 1, "field")) > 0.1


def test_wrong_layers_are_found():
    """The measure of a user's tests in space, on what is exact and on what is not."""
    B = pdo.filter_basis("T", operators="total")
    w = np.random.default_rng(0).normal(size=(10, 1, 1))
    x = np.random.default_rng(1).normal(size=(3, 3, 3, 1))
    wrong = pdo.group("T").inverse

    @jax.jit
    def layers(x):
        y = pdo.lift_conv(x, w, B)
        return jnp.concatenate([y, y[..., wrong, :]], axis=-1)

    with pytest.raises(AssertionError, match="not equivariant to T"):
        pdo.assert_equivariant(layers, x, "T")
    pdo.assert_equivariant(lambda x: layers(x)[..., :1], x, "T")


@pytest.mark.parametrize("group", CUBE)
@pytest.mark.parametrize("kind", ["image", "field"])
def test_act_permutes_the_voxels(group, kind):
    G = pdo.group(group)
    shape = (2, 3, 4, G.order, 2) if kind == "field" else (2, 3, 4, 2)
    x = np.random.default_rng(0).normal(size=shape)
    for g in (4, G.order - 1):
        np.testing.assert_array_equal(pdo.act(G, g, x, kind), laws.move(x, G, g, kind))


def test_act_interpolates_between():
    """A fifth of a turn moves a blob to where its matrix says."""
    steps = np.arange(11) - 5.0
    z, y, x = np.meshgrid(steps, -steps, steps, indexing="ij")

    def blob(centre):
        squares = sum((a - c) ** 2 for a, c in zip((x, y, z), centre, strict=True))
        return np.exp(-squares / 3)[..., None]

    centre = np.array([1.0, 0.5, -1.0])
    moved = pdo.act("I", 12, blob(centre))
    expected = blob(pdo.group("I").matrices[12] @ centre)
    assert np.abs(moved - expected).max() < 0.02
    assert np.abs(moved - blob(centre)).max() > 0.2


# ------------------------------------------------------------------------ the group off the grid


def layer_over_the_icosahedral_group(family):
    B = pdo.filter_basis("I", operators=family)
    c = np.random.default_rng(0).normal(size=(B.num_operators, 1, 2))
    run = jax.jit(lambda x, w: pdo.lift_conv(x, w, B, padding="VALID"))
    return B, lambda x, mesh: run(x, B.weights(c, mesh))


@pytest.mark.parametrize("family", ["total", "box"])
def test_icosahedral_layers_are_of_second_order(family):
    B, physical = layer_over_the_icosahedral_group(family)
    options = dict(size=B.size, meshes=(0.14, 0.07), points=4)
    assert pdo.convergence_order(physical, "I", **options) == pytest.approx(2, abs=0.15)


def test_the_error_is_that_of_the_elements_off_the_grid():
    B, physical = layer_over_the_icosahedral_group("total")
    errors = pdo.convergence_errors(physical, "I", size=3, meshes=(0.1,), points=4)[0]
    on_grid = pdo.group("I").on_grid
    assert np.max(errors[on_grid]) < 1e-10  # rounding, divided by the square of the mesh
    assert np.min(errors[~on_grid]) > 1e-5 and np.max(errors) < 1e-2


# ---------------------------------------------------------------------------------- the small print


def test_a_field_in_space_is_not_read_off_its_axes():
    """Two spatial axes are the rule of pools: a volume needs a window with three entries."""
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 2))
    assert pdo.nn.max_pool(x, (2, 2, 2), 2).shape == (1, 2, 2, 2, 2)
    assert pdo.nn.max_pool(x, 2, 2).shape == (1, 2, 2, 4, 2)  # a field on a group of four


def test_box_order_2_over_the_identity_is_a_plain_convolution():
    identity = pdo.Group("identity", np.eye(3)[None])
    net = pdo.nn.PDOLift(2, 3, identity, param_dtype="float64", rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)))
    taps = net.kernel[...].reshape(3, 3, 3, 2, 3)
    plain = lax.conv_general_dilated(
        x, taps, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(net(x)[..., 0, :], plain, atol=1e-13)
