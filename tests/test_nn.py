"""The layers: public format, initial gain, dtypes, and Flax's machinery on them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.nnx import bridge

import pdo_jax as pdo

WITH_BASIS = (pdo.nn.PDOLift, pdo.nn.PDOConv, pdo.nn.PDOConvTranspose)
LAYERS = (*WITH_BASIS, pdo.nn.PointwiseConv)
layers = pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)


def tree(module):
    """Paths and shapes of everything in a module's state."""
    return {".".join(path): leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(module))}


def abstract(cls, *features, **options):
    """Make a layer without drawing its parameters."""
    return nnx.eval_shape(lambda: cls(*features, **options, rngs=nnx.Rngs(0)))


def sample(cls, shape=(2, 5, 5), order=4, channels=2, dtype=np.float32):
    """Draw an input for a layer of a group with so many elements."""
    copies = () if cls is pdo.nn.PDOLift else (order,)
    return np.random.default_rng(0).normal(size=(*shape, *copies, channels)).astype(dtype)


# ---------------------------------------------------------------- the public format


@pytest.mark.parametrize(
    ("cls", "options", "kernel"),
    [
        (pdo.nn.PDOLift, {}, (9, 4, 6)),
        (pdo.nn.PDOLift, dict(feature_group_count=2), (9, 2, 6)),
        (pdo.nn.PDOLift, dict(operators="total"), (6, 4, 6)),
        (pdo.nn.PDOLift, dict(order=1), (4, 4, 6)),
        (pdo.nn.PDOLift, dict(order=3, operators="total"), (10, 4, 6)),
        (pdo.nn.PDOConv, {}, (9, 8, 4, 6)),
        (pdo.nn.PDOConv, dict(feature_group_count=2), (9, 8, 2, 6)),
        (pdo.nn.PDOConv, dict(accuracy=4, orientation=0.3), (9, 8, 4, 6)),
        (pdo.nn.PDOConvTranspose, dict(strides=2), (9, 8, 4, 6)),
        (pdo.nn.PointwiseConv, {}, (8, 4, 6)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_names_and_shapes_of_parameters_are_public(cls, options, kernel):
    layer = abstract(cls, 4, 6, group="p4m", **options)
    assert tree(layer) == {"kernel": kernel, "bias": (6,)}
    bare = abstract(cls, 4, 6, group="p4m", use_bias=False, **options)
    assert tree(bare) == {"kernel": kernel}
    assert bare.bias is None
    for module in (layer, bare):
        assert {type(leaf) for _, leaf in nnx.to_flat_state(nnx.state(module))} == {nnx.Param}


@layers
def test_the_bias_is_one_number_a_field(cls):
    layer = cls(2, 3, "p4", rngs=nnx.Rngs(0))
    x = sample(cls)
    still = layer(x)
    layer.bias[...] = jnp.asarray([1.0, 2.0, 4.0], jnp.float32)
    np.testing.assert_allclose(layer(x) - still, np.broadcast_to([1, 2, 4], still.shape), atol=1e-5)


@layers
def test_a_layer_is_its_function(cls):
    layer = cls(2, 3, "p4", strides=2, use_bias=False, rngs=nnx.Rngs(0))
    x, kernel, basis = sample(cls), layer.kernel[...], pdo.filter_basis("p4")
    expected = {
        pdo.nn.PDOLift: lambda: pdo.lift_conv(x, kernel, basis, 2),
        pdo.nn.PDOConv: lambda: pdo.group_conv(x, kernel, basis, 2),
        pdo.nn.PDOConvTranspose: lambda: pdo.group_conv_transpose(x, kernel, basis, 2),
        pdo.nn.PointwiseConv: lambda: pdo.pointwise_group_conv(x[:, ::2, ::2], kernel, "p4"),
    }[cls]()
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6, atol=1e-6)


def test_options_reach_the_function():
    options = dict(padding=((1, 2), (0, 1)), kernel_dilation=2, feature_group_count=2)
    basis = dict(order=1, orientation=0.3, accuracy=4, operators="box", size=7)
    layer = pdo.nn.PDOConv(4, 2, "p3m", strides=(1, 1), **options, **basis, rngs=nnx.Rngs(0))
    x = sample(pdo.nn.PDOConv, (14, 14), 6, 4)
    expected = pdo.group_conv(x, layer.kernel[...], pdo.filter_basis("p3m", **basis), **options)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_initialisers_are_called_as_flax_calls_its_own():
    calls = []

    def init(key, shape, dtype):
        calls.append((shape, jnp.dtype(dtype)))
        return jnp.full(shape, 2, dtype)

    options = dict(kernel_init=init, bias_init=init, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer = pdo.nn.PDOConv(2, 3, "p4", **options)
    point = pdo.nn.PointwiseConv(2, 3, "p4", **options)
    assert calls == [(s, jnp.dtype("float64")) for s in ((9, 4, 2, 3), (3,), (4, 2, 3), (3,))]
    for module in (layer, point):
        assert all(np.all(leaf[...] == 2) for _, leaf in nnx.to_flat_state(nnx.state(module)))


@layers
def test_keys_decide_the_parameters(cls):
    def kernel(seed):
        return np.asarray(cls(2, 3, "p4", rngs=nnx.Rngs(seed)).kernel[...])

    np.testing.assert_array_equal(kernel(0), kernel(0))
    assert not np.array_equal(kernel(0), kernel(1))
    rngs = nnx.Rngs(params=0)
    first, second = cls(2, 3, "p4", rngs=rngs), cls(2, 3, "p4", rngs=rngs)
    assert not np.array_equal(first.kernel[...], second.kernel[...])


# ---------------------------------------------------------------- the initial gain


INITS = {
    "p4": dict(group="p4"),
    "p8": dict(group="p8"),
    "p8 at pi/8": dict(group="p8", orientation=math.pi / 8),
    "p4 at pi/8": dict(group="p4", orientation=math.pi / 8),
    "p6m accuracy 4": dict(group="p6m", accuracy=4),
    "p3 total": dict(group="p3", operators="total"),
    "p5 order 1": dict(group="p5", order=1),
    "p4 order 3 total": dict(group="p4", order=3, operators="total"),
    "p12 size 9": dict(group="p12", size=9),
}
every_init = pytest.mark.parametrize("options", INITS.values(), ids=INITS.keys())


def deviation_of_init(init_of, shape):
    """Standard deviation that an initialiser asks of its normal distribution, without sampling.

    Every draw of a normal initialiser is its deviation times a draw of unit deviation.
    """
    key = jax.random.key(0)
    ours = np.asarray(init_of(key, shape, jnp.float64))
    unit = np.asarray(nnx.initializers.normal(1.0)(key, shape, jnp.float64))
    ratio = ours / unit
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-12)  # so it is normal, and iid
    return float(ratio.flat[0])


def gains(options):
    """Variance of a lift's output for every element, on white noise, from unit-variance weights.

    Independent weights of variance 1 on operators with stencils b[g, m] give sum_m |b[g, m]|^2; the
    stencils come from the lift of an impulse, one operator at a time.
    """
    basis = pdo.filter_basis(**options)
    count, k = basis.num_operators, basis.size
    impulse = np.zeros((2 * k - 1, 2 * k - 1, 1))
    impulse[k - 1, k - 1] = 1
    responses = pdo.lift_conv(impulse, np.eye(count).reshape(count, 1, count), basis)
    return basis, np.sum(np.asarray(responses) ** 2, axis=(0, 1, 3))


@every_init
def test_the_initial_variance_is_hes_in_closed_form(options):
    basis, gain = gains(options)
    for channels in (1, 3):
        deviation = deviation_of_init(pdo.nn.he_normal(basis, channels), (basis.num_operators, 64))
        variances = channels * deviation**2 * gain
        np.testing.assert_allclose(variances.mean(), 2, rtol=1e-9)  # He: the variance doubles
    if options.get("orientation"):  # p4 and p8 at pi/8
        np.testing.assert_allclose(variances, 2, rtol=1e-9)
    if options == dict(group="p8"):  # and this is why: at 0 the kernels alternate
        assert variances.max() > 1.9 * variances.min()


@pytest.mark.parametrize("group", ["p4", "p8"])
@pytest.mark.parametrize("channels", [1, 6])
def test_layers_ask_for_the_variance_of_their_inputs(group, channels, monkeypatch):
    basis, gain = gains(dict(group=group))
    asked = []
    original = pdo.nn.layers.he_normal

    def spy(basis, fan_in):
        asked.append(fan_in)
        return original(basis, fan_in)

    monkeypatch.setattr(pdo.nn.layers, "he_normal", spy)
    order = basis.group.order
    for cls, options, inputs in (
        (pdo.nn.PDOLift, {}, channels),
        (pdo.nn.PDOConv, {}, channels * order),
        (pdo.nn.PDOConv, dict(strides=2, kernel_dilation=3), channels * order),
        (pdo.nn.PDOConvTranspose, dict(strides=(3, 2)), channels * order / 6),
    ):
        abstract(cls, channels, 6, group=group, **options)
        assert asked.pop() == pytest.approx(inputs)
    if channels == 6:
        abstract(pdo.nn.PDOLift, 6, 6, group=group, feature_group_count=3)
        assert asked.pop() == 2
        abstract(pdo.nn.PDOConv, 6, 6, group=group, feature_group_count=2)
        assert asked.pop() == 3 * order


# Variances that are measured: layer, features, options, size of the image. Each is an average over
# at least 60,000 outputs which share 600 weights or more, so that 10 % is over four deviations.
SAMPLED = {
    "lift": (pdo.nn.PDOLift, (3, 256), dict(group="p8"), 9),
    "lift pi/8": (pdo.nn.PDOLift, (3, 256), dict(group="p8", orientation=math.pi / 8), 9),
    "conv": (pdo.nn.PDOConv, (3, 128), dict(group="p4m"), 9),
    "conv total": (pdo.nn.PDOConv, (3, 128), dict(group="p6", operators="total"), 9),
    "conv groups": (pdo.nn.PDOConv, (4, 128), dict(group="p4", feature_group_count=2), 9),
    "conv dilated": (pdo.nn.PDOConv, (3, 128), dict(group="p4", kernel_dilation=2), 9),
    "transposed": (pdo.nn.PDOConvTranspose, (3, 128), dict(group="p8", strides=2), 7),
    "pointwise": (pdo.nn.PointwiseConv, (8, 128), dict(group="p8"), 5),
}


@pytest.mark.parametrize(("cls", "features", "options", "n"), SAMPLED.values(), ids=SAMPLED.keys())
def test_the_initial_variance_is_hes_when_it_is_sampled(cls, features, options, n):
    layer = cls(*features, **options, use_bias=False, rngs=nnx.Rngs(1))
    order = pdo.group(options["group"]).order
    x = sample(cls, (16, n, n), order, features[0])
    y = np.asarray(jax.jit(lambda x: layer(x))(x), np.float64)
    inner = y[:, 3:-3, 3:-3] if cls is not pdo.nn.PointwiseConv else y
    if cls is pdo.nn.PDOConvTranspose:  # its pixels alternate, and the mean over all is what counts
        inner = y[:, 3:-4, 3:-4]
        assert inner.shape[1] % 2 == 0
    assert np.mean(inner**2) == pytest.approx(2, rel=0.1)


def test_the_variance_of_a_plain_convolution_is_two():
    # The yardstick of the two tests above, with Flax's own convolution and He's rule.
    layer = nnx.Conv(3, 256, (3, 3), kernel_init=nnx.initializers.he_normal(), use_bias=False,
                     padding="VALID", rngs=nnx.Rngs(0))  # fmt: skip
    y = np.asarray(layer(jnp.asarray(sample(pdo.nn.PDOLift, (16, 9, 9), channels=3))), np.float64)
    assert np.mean(y**2) == pytest.approx(2, rel=0.1)


# ---------------------------------------------------------------- dtypes, as in Flax


@pytest.mark.parametrize(
    ("dtype", "param_dtype", "x_dtype", "expected"),
    [
        (None, "float32", "float32", "float32"),
        (None, "float64", "float64", "float64"),
        (None, "bfloat16", "float32", "float32"),
        (None, "float32", "bfloat16", "float32"),
        ("bfloat16", "float32", "float32", "bfloat16"),
        ("float16", "float32", "float64", "float16"),
        ("float32", "bfloat16", "bfloat16", "float32"),
        ("float64", "float32", "float32", "float64"),
    ],
)
@layers
def test_dtypes_are_those_of_flax(cls, dtype, param_dtype, x_dtype, expected):
    with jax.numpy_dtype_promotion("standard"):
        options = dict(dtype=dtype, param_dtype=param_dtype)
        layer = abstract(cls, 2, 3, group="p4", **options)
        theirs = abstract(nnx.Linear, 2, 3, **options)
        x = jnp.asarray(sample(cls), x_dtype)
        state = nnx.state(layer)
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(param_dtype)}
        assert nnx.eval_shape(lambda m, x: m(x), layer, x).dtype == jnp.dtype(expected)
        assert nnx.eval_shape(lambda m, x: m(x), theirs, x).dtype == jnp.dtype(expected)


def test_half_precision_expands_float32_parameters_in_float32():
    layer = pdo.nn.PDOLift(2, 3, "p8", dtype=jnp.bfloat16, orientation=0.3, rngs=nnx.Rngs(0))
    x = jnp.asarray(sample(pdo.nn.PDOLift), jnp.bfloat16)
    expected = pdo.lift_conv(x, layer.kernel[...], pdo.filter_basis("p8", orientation=0.3))
    np.testing.assert_array_equal(layer(x), expected)  # the kernel goes in as float32


# ---------------------------------------------------------------- Flax's machinery


@layers
def test_split_and_merge_and_jit_and_vmap_over_seeds(cls):
    layer = cls(2, 3, "p4", rngs=nnx.Rngs(0))
    x = jnp.asarray(sample(cls))
    graphdef, state = nnx.split(layer)
    call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    np.testing.assert_allclose(call(state, x), layer(x), rtol=1e-6, atol=1e-6)
    other = nnx.state(cls(2, 3, "p4", rngs=nnx.Rngs(1)))
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), state, other)
    mapped = jax.vmap(call, in_axes=(0, None))(both, x)
    for y, one in zip(mapped, (state, other), strict=True):
        np.testing.assert_allclose(y, call(one, x), rtol=1e-5, atol=1e-5)


@layers
def test_the_definition_of_a_layer_is_hashable_and_equal(cls):
    # So that a second call with another state of the same layer compiles nothing.
    options = {} if cls is pdo.nn.PointwiseConv else dict(padding=[(1, 1), 1])
    first, second = (
        nnx.split(abstract(cls, 2, 3, group="p4", strides=[2, 1], **options))[0] for _ in range(2)
    )
    assert first == second
    assert hash(first) == hash(second)
    assert first != nnx.split(abstract(cls, 2, 3, group="p4", strides=1, **options))[0]


def test_an_optimiser_trains_a_layer():
    layer = pdo.nn.PDOConv(2, 2, "p4", rngs=nnx.Rngs(0))
    target = pdo.nn.PDOConv(2, 2, "p4", rngs=nnx.Rngs(1))
    x = jnp.asarray(sample(pdo.nn.PDOConv))
    y = target(x)
    optimiser = nnx.Optimizer(layer, optax.adam(0.05), wrt=nnx.Param)

    @nnx.jit
    def step(layer, optimiser):
        loss, gradient = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(layer)
        optimiser.update(layer, gradient)
        return loss

    with jax.numpy_dtype_promotion("standard"):  # for Optax's bias correction
        losses = [float(step(layer, optimiser)) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


@layers
def test_the_bridge_to_linen(cls):
    module = bridge.to_linen(cls, 2, 3, "p4")
    x = jnp.asarray(sample(cls))
    variables = module.init(jax.random.key(0), x)
    assert set(variables["params"]) == {"kernel", "bias"}
    layer = cls(2, 3, "p4", rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(module.apply(variables, x), layer(x), rtol=1e-6, atol=1e-6)


@layers
def test_layers_can_be_printed_and_tabulated(cls):
    layer = cls(2, 3, "p4", rngs=nnx.Rngs(0))
    text = repr(layer)
    assert cls.__name__ in text
    assert "kernel" in text
    table = nnx.tabulate(layer, jnp.asarray(sample(cls)))
    assert cls.__name__ in table
