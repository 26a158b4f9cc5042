"""Pools over space and over the group, against NumPy loops."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import pdo_jax as pdo
from pdo_jax import windows
from tests import laws


@pytest.fixture(autouse=True)
def forget_warnings():
    """Let every test see the warnings that are given once only."""
    windows._warn_once.cache_clear()


def normal(*shape, seed=0):
    """Draw float64 noise."""
    return np.random.default_rng(seed).normal(size=shape)


def largest(patch, weights):
    return patch.max(axis=(0, 1))


def weighted(patch, weights):
    return np.tensordot(weights, np.where(np.isfinite(patch), patch, 0), axes=2)


def flat(n):
    return np.full(n, 1 / n)


def binomial(n):
    """Row n - 1 of Pascal's triangle by convolution, not by factorials."""
    row = np.ones(1)
    for _ in range(n - 1):
        row = np.convolve(row, [0.5, 0.5])
    return row


# name: (the pool, what it does to a patch, the weights of its taps along an axis)
POOLS = {
    "max": (pdo.nn.max_pool, largest, flat),
    "avg": (pdo.nn.avg_pool, weighted, flat),
    "blur": (pdo.nn.blur_pool, weighted, binomial),
}
pools = pytest.mark.parametrize(("pool", "combine", "taps"), POOLS.values(), ids=POOLS.keys())


def oracle(x, combine, taps, window, strides, padding):
    """Pool (H, W, ...) with loops; pixels outside are -inf."""
    pairs = [(p, p) if isinstance(p, int) else p for p in padding]
    x = np.pad(x, [*pairs, *[(0, 0)] * (x.ndim - 2)], constant_values=-np.inf)
    rows, columns = (
        range(0, n - w + 1, s) for n, w, s in zip(x.shape, window, strides, strict=False)
    )
    weights = np.outer(taps(window[0]), taps(window[1]))
    return np.stack(
        [
            np.stack([combine(x[i : i + window[0], j : j + window[1]], weights) for j in columns])
            for i in rows
        ]
    )


GEOMETRIES = {
    "2 by 2": ((2, 2), (2, 2), (0, 0)),
    "3 by 3": ((3, 3), (2, 2), (0, 0)),
    "3 by 3 padded": ((3, 3), (2, 2), (1, 1)),
    "5 by 2": ((5, 2), (1, 2), (2, 0)),
    "pairs": ((3, 4), (3, 1), ((0, 2), (1, 0))),
    "1 by 1": ((1, 1), (2, 1), (0, 0)),
}


@pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")
@pools
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_pools_are_loops(pool, combine, taps, geometry):
    window, strides, padding = geometry
    field = normal(2, 7, 6, 4, 3)
    expected = np.stack([oracle(x, combine, taps, *geometry) for x in field])
    call = jax.jit(lambda x: pool(x, window, strides, padding))
    np.testing.assert_allclose(call(field), expected, rtol=1e-12)
    np.testing.assert_allclose(call(field[:, :, :, 0]), expected[:, :, :, 0], rtol=1e-12)


@pools
@pytest.mark.parametrize(
    ("padding", "mode"), [("SAME", None), ("CIRCULAR", "wrap"), ("REFLECT", "reflect")]
)
@pytest.mark.parametrize("window", [3, 4, 5])
def test_words_for_padding(pool, combine, taps, padding, mode, window):
    x = normal(6, 8, 2)
    side = (window - 1) // 2
    around = np.pad(x, [(side, side)] * 2 + [(0, 0)], mode=mode) if mode else x
    outside = (0, 0) if mode else (side, side)
    expected = oracle(around, combine, taps, (window, window), (1, 1), outside)
    y = jax.jit(lambda x: pool(x, window, 1, padding))(x)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-15)


def test_defaults_are_those_of_flax_but_for_blur_pool():
    x = normal(1, 8, 8, 2)
    with jax.numpy_dtype_promotion("standard"):  # for Flax's avg_pool
        for mine, theirs in ((pdo.nn.max_pool, nnx.max_pool), (pdo.nn.avg_pool, nnx.avg_pool)):
            np.testing.assert_array_equal(mine(x, 2), theirs(jnp.asarray(x), (2, 2)))  # stride 1
    blurred = pdo.nn.blur_pool(x)  # 6 taps on 8 pixels
    expected = oracle(x[0], weighted, binomial, (6, 6), (2, 2), (2, 2))
    np.testing.assert_allclose(blurred[0], expected, rtol=1e-12)
    # That is a 5-tap blur, then 2x2 mean pooling.
    two_steps = pdo.nn.avg_pool(pdo.nn.blur_pool(np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)]), 5, 1,
                                                 "VALID"), 2, 2)  # fmt: skip
    np.testing.assert_allclose(blurred, two_steps, rtol=1e-12)


def test_blur_weights_are_binomial():
    x = np.zeros((9, 9, 1))
    x[4, 4] = 1
    response = np.asarray(pdo.nn.blur_pool(x, 5, 1))[2:7, 2:7, 0]
    np.testing.assert_array_equal(response * 256, np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]))
    ones = pdo.nn.blur_pool(np.ones((10, 10, 1)), 6, 2, "VALID")
    np.testing.assert_allclose(ones, 1, rtol=1e-15)


def test_padded_pixels_never_win_but_count_as_zeros_in_the_mean():
    x = np.full((4, 4, 1), -3.0)
    np.testing.assert_array_equal(pdo.nn.max_pool(x, 3, 1, "SAME"), x)
    means = np.asarray(pdo.nn.avg_pool(x, 3, 1, "SAME"))[..., 0]
    np.testing.assert_allclose(means[0], [-3 * 4 / 9, -2, -2, -3 * 4 / 9])


@pools
@pytest.mark.parametrize("lead", [(), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("kind", ["image", "field"])
def test_leading_axes_are_a_loop(pool, combine, taps, lead, kind):
    tail = (3,) if kind == "image" else (4, 3)
    x = normal(*lead, 4, 6, *tail)
    y = jax.jit(lambda x: pool(x, 2, 2, "VALID", kind=kind))(x)
    assert y.shape == (*lead, 2, 3, *tail)
    for index in np.ndindex(lead):
        expected = oracle(x[index], combine, taps, (2, 2), (2, 2), (0, 0))
        np.testing.assert_allclose(y[index], expected, rtol=1e-12)


@pools
def test_the_kind_is_read_off_the_number_of_axes(pool, combine, taps):
    call = jax.eval_shape
    options = dict(window=2, strides=2, padding="VALID")
    for lead, tail, kind in (((), (3,), "image"), ((2,), (3,), "image"), ((2,), (4, 3), "field")):
        x = jnp.zeros((*lead, 6, 4, *tail))
        said = call(lambda x, kind=kind: pool(x, **options, kind=kind), x)
        assert call(lambda x: pool(x, **options), x).shape == said.shape == (*lead, 3, 2, *tail)
    # A field without a batch axis has the axes of a batch of images, and needs the word.
    x = jnp.zeros((6, 4, 4, 3))
    assert call(lambda x: pool(x, **options), x).shape == (6, 2, 2, 3)
    assert call(lambda x: pool(x, **options, kind="field"), x).shape == (3, 2, 4, 3)


@pools
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_pools_keep_the_dtype(pool, combine, taps, dtype):
    x = jnp.asarray(normal(4, 4, 2), dtype)
    y = pool(x, 2, 2, "VALID")
    assert y.dtype == x.dtype
    expected = oracle(np.asarray(x, np.float64), combine, taps, (2, 2), (2, 2), (0, 0))
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=4 * jnp.finfo(dtype).eps)


@pools
def test_volumes(pool, combine, taps):
    x = normal(1, 4, 4, 4, 3, 2)
    y = pool(x, (2, 2, 2), 2, "VALID", kind="field")
    halves = x.reshape(1, 2, 2, 2, 2, 2, 2, 3, 2)
    expected = (halves.max if combine is largest else halves.mean)(axis=(2, 4, 6))
    np.testing.assert_allclose(y, expected, rtol=1e-12)


@pools
def test_gradients_agree_with_finite_differences(pool, combine, taps):
    x = normal(1, 4, 5, 2, 1)
    check_grads(
        jax.jit(lambda x: pool(x, 3, (1, 2), "SAME", kind="field")),
        (x,), order=1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7, eps=1e-5,
    )  # fmt: skip


def test_the_gradient_of_a_maximum_goes_to_its_first_winner():
    x = jnp.asarray([[3.0, 3, 1, 2, 9], [3, 0, 5, 5, 9], [7, 7, 7, 7, 9]])[..., None]
    expected = np.zeros((3, 5, 1))
    expected[0, 0] = expected[1, 2] = 1  # row 2 and column 4 are in no window
    with pytest.warns(pdo.EquivarianceWarning):
        gradient = jax.grad(lambda x: jnp.sum(pdo.nn.max_pool(x, 2, 2)))(x)
    np.testing.assert_array_equal(gradient, expected)
    overlapping = jax.grad(lambda x: jnp.sum(pdo.nn.max_pool(x, 2, 1)))(x[:2, :2])
    np.testing.assert_array_equal(overlapping, expected[:2, :2])  # as XLA's own


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_not_a_number_wins(place):
    x = np.ones((2, 2, 1))
    x[place] = np.nan
    with jax.debug_nans(False):
        assert np.isnan(pdo.nn.max_pool(jnp.asarray(x), 2, 2)).all()


# ---------------------------------------------------------------- equivariance


def turning_error(pool, n, kind):
    """Relative error of pooling a quarter turn against turning what was pooled."""

    def turn(x):
        turned = np.rot90(x, axes=(1, 2))
        return np.roll(turned, 1, axis=3) if kind == "field" else turned

    x = normal(2, n, n, *((4,) if kind == "field" else ()), 2)
    expected, moved = turn(pool(x)), pool(turn(x))
    return np.linalg.norm(moved - expected) / np.linalg.norm(expected)


# pool, window, stride, padding: a size that is not exact, and the next that are
EXACT = [
    ("max", 2, 2, "VALID", 5, (4, 6)),
    ("max", 3, 2, "SAME", 6, (5, 7)),
    ("avg", 3, 3, "VALID", 7, (6, 9)),
    ("blur", 6, 2, "SAME", 5, (4, 6)),
    ("blur", 5, 2, "SAME", 6, (5, 7)),
]


@pytest.mark.parametrize("kind", ["image", "field"])
@pytest.mark.parametrize(("name", "window", "stride", "padding", "bad", "good"), EXACT)
def test_quarter_turns_are_exact_at_the_documented_sizes(
    name, window, stride, padding, bad, good, kind
):
    pool = jax.jit(lambda x: POOLS[name][0](x, window, stride, padding, kind=kind))
    for n in good:
        assert turning_error(pool, n, kind) < 1e-14  # and no warning, which would be an error
    with pytest.warns(pdo.EquivarianceWarning) as caught:
        error = turning_error(pool, bad, kind)
    assert error > 0.1
    (message,) = (str(w.message) for w in caught)  # two calls, two axes, one warning
    assert message.startswith(f"{name}_pool: a window of {window} with stride {stride}")
    assert message.endswith(f"exact: {', '.join(map(str, good))}.")
    said = jax.jit(lambda x: POOLS[name][0](x, window, stride, padding, kind=kind))
    turning_error(said, bad, kind)  # traced again, and not said again


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", ["image", "field"])
def test_blur_pool_fits_every_size(n, kind):
    """By default quarter turns are exact on even and on odd sizes, which both are halved."""
    blur = jax.jit(lambda x: pdo.nn.blur_pool(x, kind=kind))
    assert turning_error(blur, n, kind) < 1e-14
    shape = (1, n, n, 4, 1) if kind == "field" else (1, n, n, 1)
    assert jax.eval_shape(blur, jnp.zeros(shape)).shape[1:3] == ((n + 1) // 2,) * 2


def test_the_default_window_of_the_blur():
    x = normal(6, 9, 2)
    expected = oracle(x, weighted, binomial, (6, 5), (2, 2), (2, 2))
    np.testing.assert_allclose(jax.jit(pdo.nn.blur_pool)(x), expected, rtol=1e-12)

    def same(x, window, **options):
        """Compare the programs of the default and of a window."""
        default, explicit = (
            str(jax.make_jaxpr(lambda x, w=w: pdo.nn.blur_pool(x, w, **options))(x))
            for w in (None, window)
        )
        return default == explicit

    assert same(x, (6, 5)) and not same(x, (6, 7))
    assert same(x, 5, strides=1)
    assert same(x, (6, 5), padding="VALID")
    assert same(normal(7, 8, 1), (5, 6), strides=3)
    assert same(normal(4, 5, 6, 1), (6, 5, 6), strides=(2, 2, 2))  # a volume
    with pytest.warns(pdo.EquivarianceWarning, match="blur_pool: a window of 6 with stride 3"):
        assert same(x, 6, strides=3)  # 5 taps want 1 mod 3, and 6 want 2 mod 3


def test_flaxs_bare_pool_pools_the_group_axis():
    # The negative control: what a user gets who calls Flax's pool on a field as on an image.
    x = jnp.asarray(normal(2, 6, 6, 4, 3))
    ours = pdo.nn.max_pool(x, 2, 2)
    assert ours.shape == (2, 3, 3, 4, 3)
    bare = nnx.max_pool(x, (2, 2), (2, 2))
    assert bare.shape == (2, 6, 3, 2, 3)  # W and G are gone by half, H is whole
    np.testing.assert_array_equal(ours, nnx.max_pool(x, (2, 2, 1), (2, 2, 1)))


def test_the_group_axis_is_untouched():
    # Each element of the group on its own: a pool that mixed them would see the other elements.
    x = normal(1, 6, 6, 4, 1)
    for pool, _, _ in POOLS.values():
        whole = pool(x, 2, 2, "VALID")
        for g in range(4):
            alone = np.where(np.arange(4)[:, None] == g, x, 0)
            np.testing.assert_array_equal(pool(alone, 2, 2, "VALID")[..., g, :], whole[..., g, :])


# ---------------------------------------------------------------- resizing


def triangles(old, new):
    """Weights (new, old) of linear interpolation between the centres of pixels.

    Both images cover [0, 1]; where the image shrinks, the triangle is as wide as two new pixels.
    """
    centres = [(np.arange(n) + 0.5) / n for n in (new, old)]
    distance = np.abs(centres[0][:, None] - centres[1]) * min(old, new)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(7, 10), (9, 3), (1, 1), (5, 6)], ids=str)
def test_resize_interpolates(size):
    field = normal(2, 5, 6, 4, 3)
    expected = np.einsum("ai,bj,nijgc->nabgc", *map(triangles, (5, 6), size), field)
    resized = jax.jit(lambda x: pdo.nn.resize(x, size))(field)
    np.testing.assert_allclose(resized, expected, rtol=1e-12, atol=1e-15)
    image = pdo.nn.resize(field[:, :, :, 0], size, kind="image")
    np.testing.assert_allclose(image, expected[:, :, :, 0], rtol=1e-12, atol=1e-15)
    alone = pdo.nn.resize(field[0], size, kind="field")
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12, atol=1e-15)


def test_resize_volumes():
    x = normal(2, 3, 4, 1)
    expected = np.einsum("ai,bj,ck,ijkl->abcl", *map(triangles, (2, 3, 4), (4, 3, 5)), x)
    np.testing.assert_allclose(pdo.nn.resize(x, (4, 3, 5)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["image", "field"])
@pytest.mark.parametrize(("n", "size"), [(4, 7), (5, 10), (8, 3), (7, 7), (1, 4)])
def test_resize_is_exact_at_all_sizes(n, size, kind):
    resize = jax.jit(lambda x: pdo.nn.resize(x, size, kind=kind))
    assert turning_error(resize, n, kind) < 1e-14


def test_corner_aligned_sampling_with_one_border_is_not_exact():
    """The control: new pixels counted from the first one, as `x[::2]` counts them."""

    def repeat(x):
        fine = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        return (fine + jnp.roll(jnp.roll(fine, 1, 1), 1, 2)) / 2

    assert turning_error(repeat, 4, "image") > 0.1


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_resize_keeps_the_dtype(dtype):
    x = jnp.asarray(normal(4, 4, 2), dtype)
    y = pdo.nn.resize(x, 7)
    assert y.dtype == x.dtype
    expected = pdo.nn.resize(x.astype("float64"), 7)
    error = np.asarray(y, np.float64) - np.asarray(expected)
    assert np.abs(error).max() <= 4 * jnp.finfo(dtype).eps


# ---------------------------------------------------------------- over the group


@pytest.mark.parametrize("shape", [(4, 3), (5, 5, 8, 2), (2, 3, 5, 5, 1, 2)], ids=str)
def test_group_pools(shape):
    x = normal(*shape)
    np.testing.assert_array_equal(pdo.nn.group_pool(x), x.max(axis=-2))
    np.testing.assert_array_equal(pdo.nn.group_pool(x, "max"), x.max(axis=-2))
    np.testing.assert_allclose(
        pdo.nn.group_pool(x, "mean"), x.mean(axis=-2), rtol=1e-12, atol=1e-15
    )
    order = shape[-2]
    norms = [
        [math.hypot(*row) / math.sqrt(order) for row in matrix.T]
        for matrix in x.reshape(-1, *shape[-2:])
    ]
    expected = np.reshape(norms, (*shape[:-2], shape[-1]))
    np.testing.assert_allclose(pdo.nn.group_pool(x, "norm"), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["max", "mean", "norm"])
@pytest.mark.parametrize("group", ["p4", "p3m", "p8"])
def test_group_pools_ignore_the_order_of_elements(kind, group):
    group = pdo.group(group)
    x = normal(5, group.order, 2)
    pooled = pdo.nn.group_pool(x, kind)
    for g in range(group.order):
        shuffled = x[:, group.product[g]]
        np.testing.assert_allclose(pdo.nn.group_pool(shuffled, kind), pooled, rtol=1e-12)


@pytest.mark.parametrize("kind", ["max", "mean", "norm"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_group_pools_keep_the_dtype(kind, dtype):
    assert pdo.nn.group_pool(jnp.ones((3, 4, 2), dtype), kind).dtype == jnp.dtype(dtype)


def test_the_gradient_of_the_norm_at_zero_is_zero():
    def total(x):
        return jnp.sum(pdo.nn.group_pool(x, "norm"))

    x = normal(3, 4, 2)
    x[1] = 0
    gradient = jax.grad(total)(jnp.asarray(x))
    expected = x / 4 / np.where((x == 0).all(1), 1, np.sqrt((x**2).mean(axis=1)))[:, None]
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    np.testing.assert_array_equal(gradient[1], 0)
    np.testing.assert_array_equal(jax.jvp(total, (jnp.zeros((4, 2)),), (jnp.ones((4, 2)),))[1], 0)
    second = jax.jacfwd(jax.grad(total))(jnp.zeros((4, 2)))
    assert np.all(np.isfinite(second))


@pytest.mark.parametrize(("group", "subgroup"), [("p8", "p2"), ("p4m", "p1m"), ("p3", "p3")])
def test_group_pools_over_cosets(group, subgroup):
    G, H = pdo.group(group), pdo.group(subgroup)
    x = normal(3, G.order, 2)
    pools = {"max": np.max, "mean": np.mean, "norm": lambda y, axis: np.sqrt(np.mean(y**2, axis))}
    for kind, pool in pools.items():
        pooled = pdo.nn.group_pool(x, kind, group, H)
        expected = [pool(x[:, coset], axis=1) for coset in laws.left_cosets(G, H)]
        np.testing.assert_allclose(pooled, np.stack(expected, 1), rtol=1e-12)
    np.testing.assert_array_equal(
        pdo.nn.group_pool(x, "max", group, group)[:, 0], pdo.nn.group_pool(x, "max")
    )


@pytest.mark.parametrize("kind", ["max", "mean", "norm"])
def test_gradients_of_group_pools_agree_with_finite_differences(kind):
    check_grads(
        jax.jit(lambda x: pdo.nn.group_pool(x, kind)),
        (normal(2, 3, 2),), order=1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7, eps=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["max", "mean", "norm"])
def test_what_is_no_number_stays_none(kind):
    x = np.ones((2, 8, 3))
    x[0, 4, 1] = np.nan
    with jax.debug_nans(False):
        found = np.isnan(pdo.nn.group_pool(x, kind))
    np.testing.assert_array_equal(found, np.isnan(x).any(1))


def test_max_and_mean_and_norm_differ():
    pooled = [np.asarray(pdo.nn.group_pool(normal(4, 3), kind)) for kind in ("max", "mean", "norm")]
    for a, b in itertools.combinations(pooled, 2):
        assert not np.allclose(a, b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_of_16_bits_are_of_32(dtype):
    ones = jnp.ones((1, 32, 32, 1), dtype)
    assert pdo.nn.avg_pool(ones, 32, 32).item() == 1  # a sum of 1024 ones is 256 in bfloat16
    large = jnp.full((4, 4, 1), 3e4, dtype)
    assert jnp.all(pdo.nn.avg_pool(large, 2, 2, kind="image") == large[:2, :2])
    fields = jnp.stack([large, large / 3e8])  # their squares are beyond float16
    norms = pdo.nn.group_pool(fields[..., None, :], "norm")
    np.testing.assert_allclose(np.float64(norms), np.float64(fields), rtol=1e-2)
