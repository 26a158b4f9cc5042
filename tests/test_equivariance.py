"""The measures of equivariance, on functions whose error is known, and stacks of layers by them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from pdo_jax import fields
from tests import laws


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def smooth(size, channels=1):
    """A few blobs of 2.5 pixels, all well inside."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    centres = rng.uniform(-size / 5, size / 5, (4, channels, 2))
    blobs = np.exp(
        -((x[..., None, None] - centres[..., 0]) ** 2 + (y[..., None, None] - centres[..., 1]) ** 2)
        / (2 * 2.5**2)
    )
    return jnp.asarray(np.einsum("yxbc,bc->yxc", blobs, rng.normal(size=(4, channels))))


# ------------------------------------------------------------------------------ stacks of layers


@functools.partial(jax.jit, static_argnames="basis")
def stack(x, w1, w2, basis):
    """Lift, a smooth activation, and a group convolution."""
    return pdo.group_conv(jnp.tanh(pdo.lift_conv(x, w1, basis)), w2, basis)


def weights(basis, features=(1, 2, 1)):
    a, b, c = features
    order = basis.group.order
    return noise(9, a, b, seed=1), noise(9, order, b, c, seed=2) / order


SIZES = {"odd": (7, 7), "even": (6, 6), "not-square": (5, 8)}
ORIENTATIONS = {"0": 0.0, "0.3": 0.3, "pi/8": np.pi / 8}
# Everything with mirrors; without them (the same rotations) each orientation at one size.
STACKS = [
    pytest.param(group, ORIENTATIONS[angle], SIZES[size], id=f"{group}-{angle}-{size}")
    for group in ("p4", "p8", "p4m", "p8m")
    for i, angle in enumerate(ORIENTATIONS)
    for j, size in enumerate(SIZES)
    if group.endswith("m") or (i + j) % 3 == 0
]


@pytest.mark.parametrize(("group", "orientation", "size"), STACKS)
def test_stacks_are_exact_on_the_grid(group, orientation, size):
    B = pdo.filter_basis(group, orientation=orientation)
    w1, w2 = weights(B)

    def fn(x):
        return stack(x, w1, w2, B)

    assert laws.equivariance(fn, noise(*size, 1), group, "image", "field") <= 1e-12


@pytest.mark.parametrize("orientation", [0.0, 0.3])
def test_stacks_with_a_mirror_on_the_wrong_side_are_not(orientation):
    """The control: R(phi) g in the place of g R(phi) breaks mirrors, unless phi is 0."""
    right = pdo.filter_basis("p4m", orientation=orientation)
    other = pdo.filter_basis("p4m", orientation=-orientation)
    values = np.concatenate([right.values[:4], other.values[4:]])
    w = noise(9, 1, 1)

    def lift(x):
        kernel = np.einsum("gmij,mo->ijog", values, w[:, 0])
        y = jax.lax.conv_general_dilated(
            x, jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y[..., None]

    error = laws.equivariance(lift, noise(7, 7, 1), "p4m", "image", "field")
    assert error < 1e-12 if orientation == 0 else error > 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda x, w1, w2, B: stack(jnp.cumsum(x, -2), w1, w2, B), id="cumsum"),
        pytest.param(
            lambda x, w1, w2, B: pdo.lift_conv(x, w1, B, padding=[(3, 1), (2, 2)]),
            id="asymmetric padding",
        ),
        pytest.param(
            lambda x, w1, w2, B: stack(x, w1, w2, B)[..., B.group.inverse, :],
            id="elements inverted",
        ),
        pytest.param(
            lambda x, w1, w2, B: pdo.group_conv(
                pdo.lift_conv(x, w1, B)[..., B.group.inverse, :], w2, B
            ),
            id="elements inverted between",
        ),
    ],
)
def test_stacks_that_must_fail(wrong):
    B = pdo.filter_basis("p8m")
    w1, w2 = weights(B)
    x = noise(6, 6, 1)
    assert laws.equivariance(lambda x: wrong(x, w1, w2, B), x, "p8m", "image", "field") > 0.1
    with pytest.raises(AssertionError, match="fn is not equivariant to p4m"):
        pdo.assert_equivariant(
            jax.jit(lambda x: wrong(x, w1, w2, B)[..., fields_of_p4m(), :]), x, "p4m"
        )


def fields_of_p4m():
    """The elements of p8m that are those of p4m, in the order of p4m."""
    return pdo.group("p8m").index(pdo.group("p4m").matrices)


@pytest.mark.parametrize(
    "group", ["p8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("p3", "p6m"))]
)
def test_layers_are_nearly_equivariant_between(group):
    """Other elements on a smooth image, with derivatives of all orders alike: a tenth, not zero."""
    B = pdo.filter_basis(group, orientation=np.pi / 8)
    c = np.random.default_rng(0).normal(size=(9, 1, 2))
    w = B.weights(c)

    @functools.partial(jax.jit, static_argnames="order")
    def measure(x, order):
        return pdo.equivariance_error(
            lambda x: pdo.lift_conv(x, w, B)[..., np.array(order), :], x, group
        )

    right, wrong = tuple(range(B.group.order)), tuple(B.group.inverse.tolist())
    error = measure(smooth(21), right)
    assert error.shape == (B.group.order,)
    assert np.all(error[~B.group.on_grid] < 0.25) and np.all(error[~B.group.on_grid] > 1e-6)
    assert np.all(error[B.group.on_grid] < 1e-12)
    assert np.max(measure(smooth(21), wrong)) > 0.5


# ------------------------------------------------------------------------------ equivariance_error


def test_error_is_the_relative_l2_norm():
    """f adds a constant image b: f(L x) - L f(x) = b - L b, for all to compute."""
    b = noise(6, 6, 1, seed=1)
    x = noise(6, 6, 1)
    error = pdo.equivariance_error(lambda x: x + b, x, "p4", output_kind="image")
    disc = fields.inscribed_disc((6, 6))
    for g in range(4):
        turned = np.rot90(b, g)
        expected = np.rot90(x, g) + turned
        norms = [np.linalg.norm(a[disc]) for a in (np.asarray(b) - turned, expected)]
        assert error[g] == pytest.approx(norms[0] / norms[1], rel=1e-12)


def test_error_is_taken_over_examples_and_channels_together():
    b = noise(1, 5, 5, 3, seed=1) * jnp.array([1.0, 10.0, 0.0])
    x = noise(4, 5, 5, 3)
    error = pdo.equivariance_error(lambda x: x + b, x, "p2", output_kind="image")
    disc = fields.inscribed_disc((5, 5))
    turned = np.rot90(b, 2, axes=(1, 2))
    difference = np.broadcast_to(np.asarray(b) - turned, x.shape)[:, disc]
    expected = (np.rot90(x, 2, axes=(1, 2)) + turned)[:, disc]
    assert error[1] == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(expected))


@pytest.mark.parametrize("group", ["p1", "p4", "p6m"])
def test_error_has_one_entry_an_element(group):
    error = pdo.equivariance_error(jnp.square, noise(5, 5, 1), group, output_kind="image")
    assert error.shape == (pdo.group(group).order,)


def test_error_of_zeros():
    """0 where both sides are 0, infinite where only the reference is."""
    x = noise(5, 5, 1)
    zero = pdo.equivariance_error(lambda x: 0 * x, x, "p4", output_kind="image")
    np.testing.assert_array_equal(zero, 0)

    first = jnp.zeros((5, 5, 1)).at[1, 2].set(1.0)  # x has nothing there; x turned has
    x = jnp.zeros((5, 5, 1)).at[2, 1].set(1.0)
    error = pdo.equivariance_error(lambda x: first * x, x, "p4", output_kind="image")
    assert error[0] == 0 and error[1] == 0 and error[2] == 0
    assert np.isinf(error[3])  # only a clockwise quarter turn moves the left pixel to the top


def test_error_counts_the_inscribed_disc_alone():
    inside = jnp.asarray(fields.inscribed_disc((8, 8))[..., None])
    dirt = noise(8, 8, 1, seed=1)
    x = noise(8, 8, 1)
    corners, middle = jnp.where(inside, 0.0, dirt), jnp.where(inside, dirt, 0.0)
    clean = pdo.equivariance_error(lambda x: x + corners, x, "p4", output_kind="image")
    np.testing.assert_array_equal(clean, 0)
    dirty = pdo.equivariance_error(lambda x: x + middle, x, "p4", output_kind="image")
    assert np.all(dirty[1:] > 0.5)


def test_error_of_invariants():
    x = noise(2, 5, 7, 1)
    options = dict(output_kind="invariant")
    total = pdo.equivariance_error(lambda x: jnp.sum(x**2, (-3, -2)), x, "p4m", **options)
    np.testing.assert_allclose(total, 0, atol=1e-14)
    top = pdo.equivariance_error(lambda x: jnp.sum(x[..., 0, :, :] ** 2, -2), x, "p4m", **options)
    assert top[4] > 0.1


def test_error_of_fields():
    x = noise(4, 6, 8, 2)
    options = dict(input_kind="field")
    error = pdo.equivariance_error(jnp.tanh, x, "p4m", **options)
    np.testing.assert_array_equal(error, 0)
    error = pdo.equivariance_error(lambda x: x[..., ::-1, :], x, "p4m", **options)
    assert error.max() > 1
    pooled = pdo.equivariance_error(
        lambda x: jnp.max(x, -2), x, "p4m", output_kind="image", **options
    )
    np.testing.assert_array_equal(pooled, 0)


def test_error_of_fields_on_cosets():
    """Every kind is a subgroup: of a "field" it is {e}, and of an "image" with one more axis G."""
    G, H = pdo.group("p4m"), pdo.group("p1m")
    x = noise(4, 4, 8, 1)
    mean = jax.jit(lambda x: pdo.nn.group_pool(x, "mean", G, H))
    error = pdo.equivariance_error(mean, x, G, input_kind=pdo.group("p1"), output_kind=H)
    assert error.shape == (8,) and np.all(error < 1e-15)
    total = jax.jit(lambda x: jnp.sum(x, -2, keepdims=True))
    assert np.all(pdo.equivariance_error(total, x, G, input_kind="field", output_kind=G) < 1e-14)
    pdo.assert_equivariant(mean, x, G, input_kind="field", output_kind=H)
    with pytest.raises(AssertionError, match="fn is not equivariant to p4m"):  # other cosets
        pdo.assert_equivariant(mean, x, G, input_kind="field", output_kind=pdo.group("p2"))


@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_error_in_low_precision(dtype):
    """Sums of squares are taken in at least float32: 16 bits would overflow or round them away."""
    x = (100 * noise(16, 16, 4)).astype(dtype)
    same = pdo.equivariance_error(jnp.square, x, "p4", output_kind="image")
    np.testing.assert_array_equal(same, 0)
    b = noise(16, 16, 4, seed=1).astype(dtype)
    error = pdo.equivariance_error(lambda x: x + 100 * b, x, "p4", output_kind="image")
    precise = pdo.equivariance_error(
        lambda x: x + 100 * b.astype("float64"), x.astype("float64"), "p4", output_kind="image"
    )
    np.testing.assert_allclose(error, precise, rtol=2e-2)


def test_error_refuses_an_output_of_the_wrong_shape():
    with pytest.raises(ValueError, match="moves its output to .*check output_kind"):
        pdo.equivariance_error(
            lambda x: x[..., :2, :, :], noise(4, 4, 1), "p4", output_kind="image"
        )


# ------------------------------------------------------------------------------ assert_equivariant


def test_assert_passes():
    pdo.assert_equivariant(jnp.square, noise(4, 5, 1), "p4m", output_kind="image")


def test_assert_names_the_worst_element():
    """Only one element is wrong: a dot where the others are right."""

    def fn(x):  # differs for the image whose brightest pixel is at the bottom
        marked = jnp.argmax(jnp.max(x[..., 0], -1)) == 4
        return x + jnp.where(marked, 0.25, 0.0)

    x = jnp.zeros((5, 5, 1)).at[2, 0].set(1.0)  # at the left; a quarter turn puts it at the bottom
    message = r"not equivariant to p4: element 1, which permutes the pixels, .*\n?.*1 of 4 elements"
    with pytest.raises(AssertionError, match=message) as caught:
        pdo.assert_equivariant(fn, x, "p4", output_kind="image")
    assert "[[0.0, -1.0], [1.0, 0.0]]" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "size", "passes"),
    [
        ("float64", 1e-13, True),
        ("float64", 1e-10, False),
        ("float32", 1e-6, True),
        ("float32", 1e-3, False),
        ("bfloat16", 1e-2, True),
        ("bfloat16", 0.3, False),
    ],
)
def test_assert_knows_the_precision(dtype, size, passes):
    x = (2 + noise(6, 6, 1)).astype(dtype)
    b = (size * noise(6, 6, 1, seed=1)).astype(dtype)

    def check():
        pdo.assert_equivariant(lambda x: x * (1 + b), x, "p4", output_kind="image")

    if passes:
        check()
    else:
        with pytest.raises(AssertionError, match="not equivariant"):
            check()


def test_assert_takes_tolerances():
    x = smooth(15)
    assert_near = functools.partial(pdo.assert_equivariant, jnp.sin, x, output_kind="image")
    assert_near("p8", approximate_tolerance=0.1)
    assert_near("p8")  # the elements between are left out
    with pytest.raises(AssertionError, match="element [1357], which is interpolated"):
        assert_near("p8", approximate_tolerance=1e-9)
    crooked = functools.partial(
        pdo.assert_equivariant, lambda x: x + 1e-3 * noise(15, 15, 1), x, output_kind="image"
    )
    crooked("p4", tolerance=0.1)
    with pytest.raises(AssertionError, match="permutes the pixels"):
        crooked("p4", tolerance=1e-6)


def test_assert_does_not_pass_nan():
    x = noise(4, 4, 1)
    with jax.debug_nans(False), pytest.raises(AssertionError, match="relative error nan"):
        pdo.assert_equivariant(lambda x: x * jnp.nan, x, "p4", output_kind="image")


@pytest.mark.parametrize("group", ["p3", "p5", "p7"])
def test_assert_refuses_to_check_nothing(group):
    with pytest.raises(ValueError, match="leaves out every element"):
        pdo.assert_equivariant(jnp.square, noise(4, 4, 1), group, output_kind="image")


@pytest.mark.parametrize("options", [dict(tolerance=0.0), dict(tolerance=1e-9)], ids=str)
def test_no_tolerance_lets_a_shift_pass(options):
    with pytest.raises(AssertionError, match="3 of 4 elements fail"):
        pdo.assert_equivariant(
            lambda x: jnp.roll(x, 1, 0), noise(6, 6, 1), "p4", output_kind="image", **options
        )
    pdo.assert_equivariant(jnp.square, noise(6, 6, 1), "p4", output_kind="image", **options)


def test_what_is_left_out_hides_nothing():
    def fn(x):  # no number wherever the input was interpolated, and wrong where it was not
        whole = jnp.all(x == jnp.round(x))
        return jnp.where(whole, jnp.roll(x, 1, 0), jnp.nan)

    x = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (6, 6, 1)), float)
    failure = pytest.raises(AssertionError, match="permutes the pixels.*3 of 8 elements fail")
    with jax.debug_nans(False), failure:
        pdo.assert_equivariant(fn, x, "p8", output_kind="image")
