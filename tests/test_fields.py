"""How groups act on images and fields, against index arithmetic and SciPy, and restriction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import pdo_jax as pdo
from pdo_jax import fields
from tests import laws


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.partial(jax.jit, static_argnames=("group", "element", "kind"))
def act(x, group, element, kind="image"):
    """`pdo.act`, compiled once a shape: eager interpolation is a hundred small programs."""
    return pdo.act(group, element, x, kind)


# ------------------------------------------------------------------------------ exact elements


@pytest.mark.parametrize("size", [(3, 3), (4, 4), (3, 4), (1, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["image", "field"])
def test_exact_elements_permute_pixels(kind, size):
    G = pdo.group("p4m")
    x = noise(*size, *([8] if kind == "field" else []), 2)
    for g in range(G.order):
        y = pdo.act(G, g, x, kind)
        np.testing.assert_array_equal(y, laws.move(x, G, g, kind))
        assert y.shape[:2] == (size if g % 2 == 0 else size[::-1])


def test_a_quarter_turn_is_counter_clockwise():
    x = noise(2, 3, 5, 1)
    np.testing.assert_array_equal(pdo.act("p4", 1, x), np.rot90(x, 1, axes=(1, 2)))
    np.testing.assert_array_equal(pdo.act("p1m", 1, x), x[:, ::-1])  # diag(1, -1): y is flipped


@pytest.mark.parametrize("kind", ["image", "field"])
def test_action_of_a_product(kind):
    """act(g) act(h) = act(g h), on the grid exactly."""
    G = pdo.group("p4m")
    x = noise(3, 4, *([8] if kind == "field" else []), 1)
    np.testing.assert_array_equal(pdo.act(G, 0, x, kind), x)
    for g in range(G.order):
        for h in range(G.order):
            y = pdo.act(G, g, pdo.act(G, h, x, kind), kind)
            np.testing.assert_array_equal(y, pdo.act(G, int(G.product[g, h]), x, kind))
    wrong = pdo.act(G, int(G.product[5, 1]), x, kind)  # the product the other way round
    assert not np.array_equal(pdo.act(G, 1, pdo.act(G, 5, x, kind), kind), wrong)


def blob(size, centre=(2.0, 1.0)):
    """A smooth blob at (x, y), and the positions of the pixels, y up."""
    x, y = np.meshgrid(np.arange(size) - (size - 1) / 2, (size - 1) / 2 - np.arange(size))
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 2.5**2))[..., None]


@pytest.mark.parametrize("group", ["p8", "p6m"])
def test_other_elements_move_a_blob(group):
    """(L_g x)(p) = x(g^-1 p): a round blob at c is moved to g c. The wrong way is far off."""
    G = pdo.group(group)
    for g in range(G.order):
        moved = act(jnp.asarray(blob(21)), group, g)
        there, back = blob(21, G.matrices[g] @ [2.0, 1.0]), blob(21, G.matrices[g].T @ [2.0, 1.0])
        np.testing.assert_allclose(moved, there, rtol=0, atol=5e-3)
        assert G.inverse[g] == g or np.abs(moved - back).max() > 0.1


def test_other_elements_permute_the_group_axis():
    """A field that is the same everywhere in the disc only shows what happens to its group axis."""
    G = pdo.group("p6m")
    values = np.arange(1.0, 13.0)
    x = jnp.ones((9, 9, 12, 1)) * values[:, None]
    for g in range(G.order):
        y = np.asarray(act(x, "p6m", g, "field"))[4, 4, :, 0]
        expected = np.zeros(12)
        expected[G.product[g]] = values  # what was at h goes to g h
        np.testing.assert_allclose(y, expected, rtol=1e-12)


# ------------------------------------------------------------------------------ interpolation


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9), (1, 4), (2, 2)], ids=str)
@pytest.mark.parametrize("group", ["p8", "p12", "p3m"])
def test_spline_is_that_of_scipy(group, size):
    G = pdo.group(group)
    x = np.random.default_rng(0).normal(size=(*size, 2))
    centre = (np.array(size) - 1) / 2
    for g in [int(np.flatnonzero(~G.on_grid)[i]) for i in (0, -1)]:
        # Output rows and columns to input rows and columns: rows run against y.
        c, s = G.matrices[g][0, 0], G.matrices[g][1, 0]
        sign = np.linalg.det(G.matrices[g])
        inverse = np.array([[c, s], [-sign * s, sign * c]])  # (x, y) -> g^-1 (x, y)
        rows = np.array([[inverse[1, 1], -inverse[1, 0]], [-inverse[0, 1], inverse[0, 0]]])
        expected = np.stack(
            [
                scipy.ndimage.affine_transform(
                    channel, rows, centre - rows @ centre, order=3, mode="constant"
                )
                for channel in np.moveaxis(x, -1, 0)
            ],
            -1,
        )
        actual = act(jnp.asarray(x), group, g)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_interpolation_of_smooth_and_of_rough_images():
    """There and back between the grid's own elements: little is lost of blobs, much of noise."""
    there_and_back = [
        np.abs(act(act(x, "p8", 1), "p8", 7) - x)[8:13, 8:13].max() / np.abs(x).max()
        for x in (jnp.asarray(blob(21)), noise(21, 21, 1))
    ]
    assert there_and_back[0] < 1e-3 and there_and_back[1] > 0.05


# ------------------------------------------------------------------------------ derivatives


@pytest.mark.parametrize(
    ("group", "element", "kind"),
    [("p8", 1, "image"), ("p4", 1, "field"), ("p6m", 8, "field")],
)
def test_gradient_is_the_adjoint(group, element, kind):
    order = pdo.group(group).order
    x = noise(2, 5, 6, *([order] if kind == "field" else []), 1)
    y, pull = jax.vjp(lambda x: act(x, group, element, kind), x)
    cotangent = noise(*y.shape, seed=1)
    (back,) = pull(cotangent)
    assert np.all(np.isfinite(back))
    assert float(jnp.vdot(y, cotangent)) == pytest.approx(float(jnp.vdot(x, back)), rel=1e-12)
    # For an element that permutes pixels the adjoint is the inverse.
    inverse = act(cotangent, group, int(pdo.group(group).inverse[element]), kind)
    if pdo.group(group).on_grid[element]:
        np.testing.assert_array_equal(back, inverse)
    else:
        assert np.abs(back - inverse).max() > 1e-3  # interpolation is not orthogonal


def test_gradient_at_zero_is_finite():
    gradient = jax.grad(lambda x: jnp.sum(act(x, "p8", 1) ** 2))(jnp.zeros((4, 4, 1)))
    np.testing.assert_array_equal(gradient, 0)


# ------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize("dtype", laws.DTYPES)
@pytest.mark.parametrize("element", [1, 2])
def test_dtype_is_kept(element, dtype):
    x = noise(6, 6, 1)
    y = act(x.astype(dtype), "p8", element)
    assert y.dtype == dtype
    expected = act(x.astype(dtype).astype("float64"), "p8", element)
    assert laws.distance(y, expected) < laws.ROUNDING[dtype]


@pytest.mark.parametrize("element", [1, 2])
def test_leading_axes(element):
    x = noise(2, 1, 3, 4, 5, 8, 2)
    y = act(x, "p8", element, "field")
    for i in range(2):
        for j in range(3):
            one = act(x[i, 0, j], "p8", element, "field")
            np.testing.assert_allclose(y[i, 0, j], one, rtol=0, atol=1e-14)


def test_invariants_stay():
    x = noise(3)
    np.testing.assert_array_equal(pdo.act("p8", 3, x, "invariant"), x)


def test_numpy_arrays_and_groups_by_value():
    x = np.arange(6.0).reshape(2, 3, 1)
    np.testing.assert_array_equal(pdo.act(pdo.cyclic(4), 2, x), x[::-1, ::-1])


# ------------------------------------------------------------------------------ the disc


@pytest.mark.parametrize("shape", [(5, 5), (6, 6), (4, 7), (1, 1), (3, 4, 5)], ids=str)
def test_inscribed_disc(shape):
    disc = fields.inscribed_disc(shape)
    radius = min(shape) / 2
    for index in np.ndindex(*shape):
        centred = np.array(index) - (np.array(shape) - 1) / 2
        assert disc[index] == (np.linalg.norm(centred) <= radius)


# ------------------------------------------------------------------------------ restriction

PAIRS = [("p8", "p4"), ("p8m", "p8"), ("p8m", "p4m"), ("p6m", "p3"), ("p8", "p1"), ("p4", "p4")]


@pytest.mark.parametrize(("group", "subgroup"), PAIRS)
def test_restriction_commutes_with_the_subgroup(group, subgroup):
    """Restrict the moved field, or move the restricted field, for all elements of K.

    Restriction leaves pixels alone, so a field without space tells everything: an element k
    permutes the group axis, found here by comparing matrices.
    """
    G, K = pdo.group(group), pdo.group(subgroup)
    x = noise(2, G.order, 3)
    y = pdo.restrict(x, G, K)
    assert y.shape == (2, K.order, G.order // K.order * 3)
    np.testing.assert_array_equal(np.sort(y.ravel()), np.sort(x.ravel()))  # nothing is lost

    def permutation(H, matrix):  # [h] -> matrix^-1 h
        return np.array(
            [np.argmin(np.abs(H.matrices - matrix.T @ h).sum((1, 2))) for h in H.matrices]
        )

    for matrix in K.matrices:
        moved = pdo.restrict(x[:, permutation(G, matrix)], G, K)
        np.testing.assert_array_equal(moved, y[:, permutation(K, matrix)])


def test_restriction_commutes_with_act():
    x = noise(1, 5, 6, 16, 2)
    for k, g in enumerate(pdo.group("p8m").index(pdo.group("p4m").matrices)):
        moved = pdo.restrict(pdo.act("p8m", int(g), x, "field"), "p8m", "p4m")
        expected = pdo.act("p4m", k, pdo.restrict(x, "p8m", "p4m"), "field")
        np.testing.assert_array_equal(moved, expected)


def test_a_plain_reshape_is_no_restriction():
    """The control: consecutive blocks of the group axis do not commute with the subgroup."""
    x = noise(3, 3, 8, 1)

    def halves(x):
        return jnp.swapaxes(x.reshape(3, 3, 2, 4, 1), -2, -3).reshape(3, 3, 4, 2)

    moved = halves(pdo.act("p8", 2, x, "field"))
    assert not np.array_equal(moved, pdo.act("p4", 1, halves(x), "field"))


def test_channels_of_a_restriction():
    """y(k, coset C + c) = x(k t, c), t the first element of its coset."""
    x = noise(8, 3)
    y = pdo.restrict(x, "p8", "p4")
    for k in range(4):
        for t in range(2):
            np.testing.assert_array_equal(y[k, 3 * t : 3 * t + 3], x[2 * k + t])


def test_a_network_gives_up_symmetry_with_depth():
    """From p8m to p8 to p4 to p1: equivariant to the last group, and from there on to no other."""
    x = noise(5, 5, 1)
    for last in laws.Descent.chain[1:]:
        net = jax.jit(laws.Descent(last, "float64"))
        assert laws.equivariance(net, x, last, "image", "field") <= 1e-12
    for lost in ("p4", "p1m"):  # what p1 has given up
        assert laws.equivariance(net, x, lost, "image", "invariant") > 1e-3


@pytest.mark.parametrize("last", ["p8", "p4"])
def test_a_network_with_the_wrong_cosets_is_not_equivariant(last):
    def wrong(x, group, subgroup):
        """k t in the place of t k, on fields: left cosets, which are no fields on the subgroup."""
        G = pdo.group(group)
        inside = G.index(pdo.group(subgroup).matrices)
        first = np.flatnonzero(np.min(G.product[:, inside], 1) == np.arange(G.order))
        y = x[..., G.product[np.ix_(first, inside)].T, :]
        return y.reshape(*x.shape[:-2], len(inside), -1)

    def shifted(x, group, subgroup):
        return pdo.restrict(jnp.roll(x, 1, -2), group, subgroup)

    x = noise(5, 5, 1)
    for restrict in (wrong, shifted):
        if last == "p8" or restrict is shifted:  # p8 is commutative: its cosets are the same
            net = jax.jit(laws.Descent(last, "float64", restrict))
            assert laws.equivariance(net, x, last, "image", "field") > 1e-3


@pytest.mark.parametrize("subgroup", ["p3", "p8m", "p1m"])
def test_what_is_not_a_subgroup_is_refused(subgroup):
    with pytest.raises(ValueError, match="not an element of the group 'p8'"):
        pdo.restrict(noise(8, 1), "p8", subgroup)


# ------------------------------------------------------------------------------ quotients

QUOTIENTS = [
    ("p8", "p2"),
    ("p4m", "p1m"),
    ("p4m", "p2"),
    ("p3m", "p1m"),
    ("p4", "p1"),
    ("p4", "p4"),
]
quotients = pytest.mark.parametrize(("group", "subgroup"), QUOTIENTS)


@quotients
def test_cosets_are_left_cosets(group, subgroup):
    G, H = pdo.group(group), pdo.group(subgroup)
    first, coset_of = fields.cosets(G, H)
    expected = laws.left_cosets(G, H)  # by comparing matrices
    np.testing.assert_array_equal(coset_of == np.arange(len(first))[:, None], expected)
    np.testing.assert_array_equal(first, np.argmax(expected, axis=1))
    assert np.all(np.diff(first) > 0) and first[0] == 0


@quotients
def test_action_on_cosets(group, subgroup):
    """Against index arithmetic; the cosets of {e} are the group, those of G an image."""
    G, H = pdo.group(group), pdo.group(subgroup)
    x = noise(3, 4, G.order // H.order, 2)
    for g in np.flatnonzero(G.on_grid).tolist():
        y = pdo.act(G, g, x, H)
        np.testing.assert_array_equal(y, laws.move(x, G, g, H))
        if subgroup == "p1":
            np.testing.assert_array_equal(y, pdo.act(G, g, x, "field"))
        if subgroup == group:
            np.testing.assert_array_equal(y[..., 0, :], pdo.act(G, g, x[..., 0, :]))


def test_orientations_modulo_a_half_turn():
    """A quarter turn moves p8 / p2 by two of its four places, a half turn by none."""
    x = noise(1, 1, 4, 1)
    H = pdo.group("p2")
    np.testing.assert_array_equal(pdo.act("p8", 2, x, H), np.roll(x, 2, axis=2))
    np.testing.assert_array_equal(pdo.act("p8", 4, x, H), x)


@quotients
def test_pullback_and_mean(group, subgroup):
    """Elements permute the axis before or after; pooling over the cosets undoes the pullback."""
    G, H = pdo.group(group), pdo.group(subgroup)
    q, x = noise(G.order // H.order, 2), noise(G.order, 2)
    pulled, pooled = pdo.pullback(q, G, H), pdo.nn.group_pool(x, "mean", G, H)
    assert pulled.shape == (G.order, 2) and pooled.shape == q.shape
    for kind in ("mean", "max"):
        np.testing.assert_allclose(pdo.nn.group_pool(pulled, kind, G, H), q, rtol=1e-15)
    for g in range(G.order):
        on_field = G.product[G.inverse[g]]
        on_cosets = np.argmax(laws.left_cosets(G, H)[:, on_field], axis=0)  # of g^-1 h, for all h
        on_cosets = on_cosets[fields.cosets(G, H)[0]]
        np.testing.assert_array_equal(pulled[on_field], pdo.pullback(q[on_cosets], G, H))
        moved = pdo.nn.group_pool(x[on_field], "mean", G, H)
        np.testing.assert_allclose(moved, pooled[on_cosets], rtol=1e-14)


def test_right_cosets_are_no_field_on_a_quotient():
    """The control: pooled over Hg, not over gH, the rotations of p4m go wrong."""
    G, H = pdo.group("p4m"), pdo.group("p1m")
    inside = fields.members(G, H)
    x = noise(4, 5, 8, 1)

    def pool(members_of):  # (|G|, |H|): the coset of every element
        first = np.unique(members_of.min(axis=1))
        return jax.jit(lambda x: jnp.mean(x[..., members_of[first], :], -2))

    left, right = pool(G.product[:, inside]), pool(G.product[inside].T)
    assert laws.equivariance(left, x, "p4m", "field", H) < 1e-14
    assert laws.equivariance(right, x, "p4m", "field", H) > 0.1


@pytest.mark.parametrize("h", ["p1", "p1m", "p2", "p4m"])
@pytest.mark.parametrize("k", ["p1", "p1m", "p4"])
def test_every_linear_map_between_quotients_is_a_group_convolution(h, k):
    """Pull back, convolve, pool: as many independent maps as there are double cosets K g H.

    That is the dimension of all linear equivariant maps from functions on G/H to those on G/K.
    """
    G, H, K = pdo.group("p4m"), pdo.group(h), pdo.group(k)

    @jax.jit
    def apply(q, w):
        y = pdo.pointwise_group_conv(pdo.pullback(q[:, None], G, H), w[:, None, None], G)
        return pdo.nn.group_pool(y, "mean", G, K)[:, 0]

    columns = jax.vmap(jax.vmap(apply, (0, None)), (None, 0))
    maps = columns(jnp.eye(G.order // H.order), jnp.eye(G.order))  # [weight, input, output]
    left, right = G.index(K.matrices), G.index(H.matrices)
    double = {frozenset(G.product[np.ix_(left, G.product[g, right])].flat) for g in range(G.order)}
    assert np.linalg.matrix_rank(maps.reshape(G.order, -1)) == len(double)
