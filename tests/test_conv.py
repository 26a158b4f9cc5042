"""The convolutions against their formulas, written out in NumPy float64 loops.

kernel_g = sum_m w[m] basis[g, m]          y(., g) = sum_h kernel_g[w(g^-1 h)] * x(., h)
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.signal import correlate2d

import pdo_jax as pdo

TIGHT = dict(rtol=1e-12, atol=1e-12)


def normal(*shape, seed=0):
    """Draw float64 noise."""
    return np.random.default_rng(seed).normal(size=shape)


@functools.cache
def quotients(group):
    """Table [g, h] -> g^-1 h, found by comparing matrices."""
    matrices = pdo.group(group).matrices
    products = np.einsum("gji,hjk->ghik", matrices, matrices)  # g^-1 is the transpose of g
    distance = np.abs(products[:, :, None] - matrices).max(axis=(-1, -2))
    assert np.all(np.sort(distance, axis=-1)[..., 0] < 1e-9)
    return np.argmin(distance, axis=-1)


def padded(x, padding, size, dilation):
    """Put the pixels around an image (H, W, ...) that a padding asks for."""
    same = [(size // 2) * d for d in dilation]
    words = {"SAME": "constant", "CIRCULAR": "wrap", "REFLECT": "reflect"}
    match padding:
        case "VALID":
            return x
        case str():
            pairs, mode = [(p, p) for p in same], words[padding]
        case int():
            pairs, mode = [(padding, padding)] * 2, "constant"
        case _:
            pairs = [(p, p) if isinstance(p, int) else p for p in padding]
            mode = "constant"
    return np.pad(x, [*pairs, *[(0, 0)] * (x.ndim - 2)], mode=mode)


def spread(array, steps):
    """Insert step - 1 zeros between every two entries of the first two axes."""
    sizes = [(n - 1) * s + 1 for n, s in zip(array.shape, steps, strict=False)]
    out = np.zeros((*sizes, *array.shape[2:]))
    out[:: steps[0], :: steps[1]] = array
    return out


def oracle(x, w, basis, strides=1, padding="SAME", kernel_dilation=1, feature_group_count=1, up=1):
    """Convolve (H, W, C_in) or (H, W, G, C_in) with free weights, tap by tap and pair by pair."""
    strides, kernel_dilation, up = (
        (v, v) if isinstance(v, int) else v for v in (strides, kernel_dilation, up)
    )
    lift = w.ndim == 3
    if lift:
        x, w = x[:, :, None], w[:, None]
    x = padded(spread(x, up), padding, basis.size, kernel_dilation)
    order, table = basis.group.order, quotients(basis.group)
    inputs, outputs = w.shape[2], w.shape[3]
    result = []
    for g in range(order):
        for o in range(outputs):
            block = o // (outputs // feature_group_count)
            total = 0
            for h in range(x.shape[2]):
                for i in range(inputs):
                    weights = w[:, 0 if lift else table[g, h], i, o]
                    kernel = sum(weights[m] * basis.values[g, m] for m in range(len(weights)))
                    image = x[:, :, h, block * inputs + i]
                    total = total + correlate2d(image, spread(kernel, kernel_dilation), "valid")
            result.append(total[:: strides[0], :: strides[1]])
    return np.stack(result, -1).reshape(*result[0].shape, order, outputs)


# The grids of an odd and an even size; strides that do not fit them warn (see test_windows.py).
UNEVEN = pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")

OPTIONS = {
    "plain": {},
    "stride 2": dict(strides=2),
    "stride 3": dict(strides=3),
    "strides (1, 2)": dict(strides=(1, 2)),
    "stride 2 VALID": dict(strides=2, padding="VALID"),
    "VALID": dict(padding="VALID"),
    "padding 0": dict(padding=0),
    "padding 3": dict(padding=3),
    "pairs": dict(padding=[(0, 2), (3, 1)]),
    "an integer an axis": dict(padding=(2, 0)),
    "CIRCULAR": dict(padding="CIRCULAR"),
    "REFLECT": dict(padding="REFLECT"),
    "stride 2 CIRCULAR": dict(padding="CIRCULAR", strides=2),
    "stride 3 REFLECT": dict(padding="REFLECT", strides=3),
    "dilation 2": dict(kernel_dilation=2),
    "dilation 2 stride 2": dict(kernel_dilation=2, strides=2),
    "dilation (1, 2) REFLECT": dict(kernel_dilation=(1, 2), padding="REFLECT"),
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


@UNEVEN
@options
def test_lift_conv_is_its_formula(options):
    basis = pdo.filter_basis("p8", orientation=0.3)
    x, w = normal(7, 6, 2), normal(9, 2, 3, seed=1)
    np.testing.assert_allclose(
        pdo.lift_conv(x, w, basis, **options), oracle(x, w, basis, **options), **TIGHT
    )


@UNEVEN
@options
def test_group_conv_is_its_formula(options):
    basis = pdo.filter_basis("p3m", orientation=0.3)  # not commutative: g^-1 h is not h g^-1
    x, w = normal(7, 6, 6, 2), normal(9, 6, 2, 1, seed=1)
    np.testing.assert_allclose(
        pdo.group_conv(x, w, basis, **options), oracle(x, w, basis, **options), **TIGHT
    )


BASES = {
    "p1": dict(group="p1"),
    "p4": dict(group="p4"),
    "p8 accuracy 4": dict(group="p8", accuracy=4),
    "p6 total": dict(group="p6", operators="total"),
    "p4m order 1": dict(group="p4m", order=1),
    "p2m size 7": dict(group="p2m", size=7),
}


@pytest.mark.parametrize("basis", BASES.values(), ids=BASES.keys())
def test_group_conv_on_every_kind_of_basis(basis):
    basis = pdo.filter_basis(**basis)
    order, count = basis.group.order, basis.num_operators
    x, w = normal(5, 4, order, 1), normal(count, order, 1, 2, seed=1)
    np.testing.assert_allclose(pdo.group_conv(x, w, basis), oracle(x, w, basis), **TIGHT)


@UNEVEN
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_has_xlas_sizes_and_is_symmetric(stride, dilation):
    basis = pdo.filter_basis("p8")
    call = functools.partial(
        pdo.lift_conv,
        weights=normal(9, 1, 1),
        basis=basis,
        strides=stride,
        kernel_dilation=dilation,
    )
    for n in range(1, 9):
        y = jax.eval_shape(call, jnp.zeros((n, n, 1)))
        assert y.shape == (math.ceil(n / stride),) * 2 + (8, 1)
    # Symmetric: the first output pixel is centred on the first input pixel, at every stride.
    x = np.zeros((8, 8, 1))
    x[0, 0] = 1
    y = call(x)
    centre = np.einsum("gm,mo->go", basis.values[:, :, 2, 2], normal(9, 1, 1)[:, 0])
    np.testing.assert_allclose(y[0, 0], centre, **TIGHT)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 3)])
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR", "REFLECT"])
def test_images_smaller_than_the_kernel(shape, padding):
    basis = pdo.filter_basis("p8")
    x, w = normal(*shape, 8, 1), normal(9, 8, 1, 1, seed=1)
    np.testing.assert_allclose(
        pdo.group_conv(x, w, basis, padding=padding), oracle(x, w, basis, padding=padding), **TIGHT
    )


@pytest.mark.parametrize("lead", [(), (2,), (0,), (2, 1, 3), (2, 0)], ids=str)
def test_leading_axes_are_a_loop(lead):
    basis = pdo.filter_basis("p4")
    x, w = normal(*lead, 4, 5, 4, 2), normal(9, 4, 2, 3, seed=1)
    y = pdo.group_conv(x, w, basis, padding="REFLECT")
    assert y.shape == (*lead, 4, 5, 4, 3)
    for index in np.ndindex(lead):
        np.testing.assert_allclose(y[index], oracle(x[index], w, basis, padding="REFLECT"), **TIGHT)
    image = normal(*lead, 4, 5, 2)
    z = pdo.lift_conv(image, w[:, 0], basis)
    assert z.shape == (*lead, 4, 5, 4, 3)
    for index in np.ndindex(lead):
        np.testing.assert_allclose(z[index], oracle(image[index], w[:, 0], basis), **TIGHT)


@UNEVEN
@pytest.mark.parametrize(
    "options",
    [{}, dict(strides=2, padding="CIRCULAR"), dict(kernel_dilation=2)],
    ids=["plain", "strided CIRCULAR", "dilated"],
)
@pytest.mark.parametrize("count", [2, 4])
def test_feature_groups_are_separate_convolutions(options, count):
    basis = pdo.filter_basis("p4m")
    x, w = normal(5, 6, 8, 4), normal(9, 8, 4 // count, 2 * count, seed=1)
    y = pdo.group_conv(x, w, basis, feature_group_count=count, **options)
    parts = [
        oracle(a, b, basis, **options)
        for a, b in zip(np.split(x, count, -1), np.split(w, count, -1), strict=True)
    ]
    np.testing.assert_allclose(y, np.concatenate(parts, -1), **TIGHT)
    image = x[:, :, 0]
    z = pdo.lift_conv(image, w[:, 0], basis, feature_group_count=count, **options)
    np.testing.assert_allclose(
        z, oracle(image, w[:, 0], basis, feature_group_count=count, **options), **TIGHT
    )


@pytest.mark.parametrize("group", ["p1", "p8", "p3m"])
@pytest.mark.parametrize("lead", [(), (3, 2)], ids=str)
def test_pointwise_group_conv_is_its_formula(group, lead):
    table = quotients(group)
    order = len(table)
    x, w = normal(*lead, order, 2), normal(order, 2, 3, seed=1)
    expected = np.zeros((*lead, order, 3))
    for g in range(order):
        for h in range(order):
            expected[..., g, :] += x[..., h, :] @ w[table[g, h]]
    np.testing.assert_allclose(pdo.pointwise_group_conv(x, w, pdo.group(group)), expected, **TIGHT)


# ---------------------------------------------------------------- transposed

TRANSPOSED = {
    "stride 1": {},
    "stride 2": dict(strides=2),
    "stride 3": dict(strides=3),
    "strides (2, 1)": dict(strides=(2, 1)),
    "stride 2 dilation 2": dict(strides=2, kernel_dilation=2),
    "stride 2 VALID": dict(strides=2, padding="VALID"),
    "stride 2 dilation 2 VALID": dict(strides=2, kernel_dilation=2, padding="VALID"),
    "stride 2 pairs": dict(strides=2, padding=[(2, 1), 3]),
    "stride 2 groups": dict(strides=2, feature_group_count=2),
}


@pytest.mark.parametrize("options", TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_transposed_convolution_inserts_zeros(options):
    basis = pdo.filter_basis("p3m")
    groups = options.get("feature_group_count", 1)
    x, w = normal(4, 3, 6, 2), normal(9, 6, 2 // groups, 2, seed=1)
    rest = {k: v for k, v in options.items() if k not in ("strides", "padding")}
    dilation = options.get("kernel_dilation", 1)
    padding = options.get("padding", "SAME")
    around = (basis.size - 1) * dilation if padding == "VALID" else padding
    expected = oracle(x, w, basis, padding=around, up=options.get("strides", 1), **rest)
    np.testing.assert_allclose(pdo.group_conv_transpose(x, w, basis, **options), expected, **TIGHT)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_sizes(stride):
    basis = pdo.filter_basis("p4")
    options = dict(weights=normal(9, 4, 1, 1), basis=basis, strides=stride)
    for n in (1, 2, 5):
        small = jnp.zeros((n, n + 1, 4, 1))
        large = jax.eval_shape(functools.partial(pdo.group_conv_transpose, **options), small)
        assert large.shape == ((n - 1) * stride + 1, n * stride + 1, 4, 1)
        # It undoes a strided convolution at the sizes that keep that one exact: no warning here.
        again = jax.eval_shape(functools.partial(pdo.group_conv, **options), large)
        assert again.shape == small.shape


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolution_is_adjoint_to_a_convolution(stride):
    # <conv(x; w), y> = <x, convT(y; w')> with w'(t) the filter w(t^-1), turned by t, transposed and
    # reflected through its centre. In p4m at orientation 0 the weights are the taps.
    basis = pdo.filter_basis("p4m")
    n = 2 * stride + 1
    x, y, w = normal(n, n, 8, 2), normal(3, 3, 8, 3, seed=1), normal(9, 8, 2, 3, seed=2)
    inverse = quotients("p4m")[:, 0]
    taps = np.einsum("mtio,tmyx->yxtoi", w[:, inverse], basis.values)
    turned = taps[::-1, ::-1].reshape(9, 8, 3, 2)
    for_y = np.vdot(pdo.group_conv(x, w, basis, stride), y)
    for_x = np.vdot(x, pdo.group_conv_transpose(y, turned, basis, stride))
    np.testing.assert_allclose(for_y, for_x, rtol=1e-12)


# ---------------------------------------------------------------- dtypes and precision


@pytest.mark.parametrize("weights_dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_output_has_the_dtype_of_the_input(dtype, weights_dtype):
    basis = pdo.filter_basis("p4")
    x = jnp.asarray(normal(4, 4, 4, 2), dtype)
    w = jnp.asarray(normal(9, 4, 2, 2, seed=1), weights_dtype)
    group = pdo.group("p4")
    outputs = (
        pdo.group_conv(x, w, basis),
        pdo.group_conv_transpose(x, w, basis),
        pdo.lift_conv(x[:, :, 0], w[:, 0], basis),
        pdo.pointwise_group_conv(x, w[0], group),
    )
    assert {y.dtype for y in outputs} == {jnp.dtype(dtype)}
    exact = oracle(np.asarray(x, np.float64), np.asarray(w, np.float64), basis)
    unit = max(float(jnp.finfo(dtype).eps), 1e-7 if weights_dtype != "float64" else 0)
    # Rounding of 72 products, of the kernel and of the result, against the size of the output.
    assert np.abs(np.asarray(outputs[0], np.float64) - exact).max() < 4 * unit * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_weights_are_expanded_in_float32(dtype):
    # One rounding at the end, where expanding in bfloat16 would round the basis and every product.
    basis = pdo.filter_basis("p8", orientation=0.3)
    w = jnp.asarray(normal(9, 2, 3, seed=1), dtype)
    kernel = pdo.lift_kernel(w, basis)
    exact = np.einsum("gmyx,mio->yxigo", basis.values, np.asarray(w, np.float64))
    exact = exact.reshape(kernel.shape)
    half_unit = float(jnp.finfo(dtype).eps) / 2
    error = np.abs(np.asarray(kernel, np.float64) - exact)
    assert kernel.dtype == jnp.dtype(dtype)
    assert np.all(error <= half_unit * np.abs(exact) * 1.01 + 1e-6)
    rounded = np.asarray(jnp.asarray(basis.values, dtype), np.float64)  # the negative control
    coarse = np.einsum("gmyx,mio->yxigo", rounded, np.asarray(w, np.float64)).reshape(kernel.shape)
    assert not np.all(np.abs(coarse - exact) <= half_unit * np.abs(exact) * 1.01 + 1e-6)


def test_a_kernel_is_cast_down_after_its_expansion():
    basis = pdo.filter_basis("p8", orientation=0.3)
    w = jnp.asarray(normal(9, 2, 3, seed=1), jnp.float32)
    x = jnp.asarray(normal(1, 7, 7, 2), jnp.bfloat16)
    exact = np.einsum("gmyx,mio->yxigo", basis.values, np.asarray(w, np.float64))
    kernel = jnp.asarray(exact.reshape(5, 5, 2, 24), jnp.float32).astype(jnp.bfloat16)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(2, 2)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = pdo.lift_conv(x, w, basis).reshape(expected.shape)
    agree = np.asarray(y == expected)
    assert np.mean(agree) > 0.98  # all but the taps whose float32 sums round the other way


CALLS = {
    "lift": lambda x, w, B, **k: pdo.lift_conv(x[:, :, 0], w[:, 0], B, **k),
    "group": lambda x, w, B, **k: pdo.group_conv(x, w, B, **k),
    "transposed": lambda x, w, B, **k: pdo.group_conv_transpose(x, w, B, 2, **k),
}


def precisions(call, precision, dtype, algorithm="direct"):
    """Precisions of the matrix products and of the convolutions in a gradient's program."""
    basis = pdo.filter_basis("p4")
    x, w = jnp.zeros((4, 4, 4, 2), dtype), jnp.zeros((9, 4, 2, 2), dtype)

    def loss(x, w):
        return jnp.sum(jnp.sin(call(x, w, basis, precision=precision, algorithm=algorithm)))

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, w).as_text()
    dots = re.findall(r"stablehlo\.dot_general.*?precision = \[(.*?)\]", text)
    assert len(dots) == len(re.findall(r"stablehlo\.dot_general", text))  # none without a word
    convs = re.findall(r"stablehlo\.convolution.*?precision_config = \[(.*?)\]", text)
    return dots, [set(re.findall(r"precision (\w+)", c)) for c in convs]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("precision", [None, "default", "highest"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_precision_reaches_the_convolution_alone(call, precision, dtype):
    dots, convs = precisions(call, precision, dtype)
    assert dots == ["HIGHEST, HIGHEST"] * 2  # the expansion, and its transpose for the gradient
    assert convs == [{(precision or "default").upper()}] * len(convs)
    assert len(convs) == 3  # forward, and the gradients to both sides


def test_the_configured_default_precision_does_not_reach_the_expansion():
    with jax.default_matmul_precision("bfloat16"):
        dots, convs = precisions(CALLS["group"], None, "float32")
    assert set(dots) == {"HIGHEST, HIGHEST"}
    assert convs == [{"DEFAULT"}] * 3


@pytest.mark.parametrize("precision", [None, "default", "high"])
def test_precision_reaches_the_product_alone(precision):
    dots, convs = precisions(CALLS["group"], precision, "float32", algorithm="stencils")
    word = (precision or "default").upper()
    assert sorted(dots) == sorted(["HIGHEST, HIGHEST"] * 2 + [f"{word}, {word}"] * 3)
    assert not convs


# ---------------------------------------------------------------- transformations


def test_jit_changes_nothing():
    basis = pdo.filter_basis("p8")
    x, w = normal(5, 5, 8, 2), normal(9, 8, 2, 1, seed=1)
    call = functools.partial(pdo.group_conv, basis=basis, padding="CIRCULAR")
    np.testing.assert_allclose(jax.jit(call)(x, w), call(x, w), **TIGHT)
    assert jax.jit(call)(x, w).dtype == jnp.float64


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (2, -1)], ids=str)
def test_vmap_is_a_loop(call, axes):
    basis = pdo.filter_basis("p3m")
    one = functools.partial(call, B=basis)
    xs, ws = normal(3, 4, 5, 6, 2), normal(3, 9, 6, 2, 1, seed=1)
    expected = [one(xs[b if axes[0] is not None else 0], ws[b if axes[1] is not None else 0])
                for b in range(3)]  # fmt: skip
    x = xs[0] if axes[0] is None else np.moveaxis(xs, 0, axes[0])
    w = ws[0] if axes[1] is None else np.moveaxis(ws, 0, axes[1])
    mapped = jax.vmap(lambda x, w: one(x, w), in_axes=axes)(x, w)
    np.testing.assert_allclose(mapped, np.stack(expected), **TIGHT)


def test_vmap_of_the_gradient_is_a_loop():
    basis = pdo.filter_basis("p3m")
    x, ws = normal(4, 4, 6, 1), normal(2, 9, 6, 1, 1, seed=1)

    @jax.jit
    def gradient(w):
        return jax.grad(lambda w: jnp.sum(jnp.sin(pdo.group_conv(x, w, basis))))(w)

    expected = np.stack([gradient(w) for w in ws])
    np.testing.assert_allclose(jax.vmap(gradient)(ws), expected, **TIGHT)


def check_gradients(call, reference, x, w):
    """Compare derivatives with central differences of an oracle.

    It is linear in both arguments, so they are exact at every step: 1 loses nothing to rounding.
    """
    c = normal(*reference(x, w).shape, seed=2)

    def loss(x, w):
        return jnp.vdot(c, call(x, w))

    gx, gw = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, w)
    for seed in range(3, 6):
        dx, dw = normal(*x.shape, seed=seed), normal(*w.shape, seed=seed + 3)
        difference = np.vdot(c, reference(x + dx, w + dw) - reference(x - dx, w - dw)) / 2
        np.testing.assert_allclose(np.vdot(gx, dx) + np.vdot(gw, dw), difference, rtol=1e-10)
    tangent = jax.jit(lambda: jax.jvp(loss, (x, w), (dx, dw))[1])()
    np.testing.assert_allclose(tangent, difference, rtol=1e-10)


@UNEVEN
@pytest.mark.parametrize(
    "options",
    [
        dict(padding="SAME", strides=2),
        dict(padding="VALID"),
        dict(padding="CIRCULAR", feature_group_count=2),
        dict(padding="REFLECT", kernel_dilation=2),
        dict(padding=1),
        dict(padding=[(0, 1), (2, 0)]),
    ],
    ids=lambda options: str(options["padding"]),
)
@pytest.mark.parametrize("call", [pdo.lift_conv, pdo.group_conv], ids=["lift", "group"])
def test_gradients_agree_with_finite_differences(call, options):
    basis = pdo.filter_basis("p3", orientation=0.3)
    copies = (3,) if call is pdo.group_conv else ()
    x = normal(5, 6, *copies, 2)
    w = normal(9, *copies, 2 // options.get("feature_group_count", 1), 2, seed=1)
    options = dict(basis=basis, **options)
    check_gradients(functools.partial(call, **options), functools.partial(oracle, **options), x, w)


@pytest.mark.parametrize(("padding", "zeros"), [("SAME", "SAME"), ("VALID", 2), (1, 1)], ids=str)
def test_transposed_gradients_agree_with_finite_differences(padding, zeros):
    basis = pdo.filter_basis("p4")
    x, w = normal(3, 4, 4, 1), normal(9, 4, 1, 2, seed=1)
    check_gradients(
        lambda x, w: pdo.group_conv_transpose(x, w, basis, 2, padding),
        lambda x, w: oracle(x, w, basis, padding=zeros, up=2),
        x,
        w,
    )


def test_pointwise_gradients_agree_with_finite_differences():
    x, w = normal(2, 6, 2), normal(6, 2, 3, seed=1)
    check_gradients(
        lambda x, w: pdo.pointwise_group_conv(x, w, "p3m"),
        lambda x, w: np.einsum("phi,ghio->pgo", x, w[quotients("p3m")]),
        x,
        w,
    )


def test_expansion_can_be_differentiated_twice_and_forward_over_reverse():
    basis = pdo.filter_basis("p3")
    x, w = normal(3, 3, 3, 1), normal(9, 3, 1, 1, seed=1)

    @jax.jit
    def loss(w):
        return jnp.sum(jnp.sin(pdo.group_conv(x, w, basis)))

    check_grads(loss, (w,), order=2, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4, eps=1e-4)


@UNEVEN
def test_stride_2_on_an_even_size_breaks_quarter_turns_and_an_odd_size_keeps_them():
    basis = pdo.filter_basis("p4")
    w = normal(9, 1, 2)

    def error(n):
        x = normal(n, n, 1, seed=1)
        turned = pdo.lift_conv(np.rot90(x), w, basis, 2)
        expected = np.roll(np.rot90(pdo.lift_conv(x, w, basis, 2)), 1, axis=-2)
        return np.linalg.norm(turned - expected) / np.linalg.norm(expected)

    assert error(9) < 1e-14
    assert error(8) > 0.5
