"""The Linen layers: the options, parameters and outputs of the NNX layers of the same names."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import pdo_jax as pdo

NAMES = ("PDOLift", "PDOConv", "PDOConvTranspose", "PointwiseConv", "RelaxedLift", "RelaxedConv")
names = pytest.mark.parametrize("name", NAMES)


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def pair(name, group="p4", **options):
    """Return the Linen layer, the NNX layer, and an input."""
    copies = () if name.endswith("Lift") else (pdo.group(group).order,)
    ours = getattr(pdo.nn.linen, name)(2, 3, group, **options)
    theirs = getattr(pdo.nn, name)(2, 3, group, **options, rngs=nnx.Rngs(0))
    return ours, theirs, noise(1, 3, 4, *copies, 2)


@names
def test_options_are_those_of_the_nnx_layer(name):
    ours = inspect.signature(getattr(pdo.nn.linen, name)).parameters
    theirs = inspect.signature(getattr(pdo.nn, name).__init__).parameters
    assert set(ours) - {"name", "parent"} == set(theirs) - {"self", "rngs"}
    for key in set(ours) & set(theirs):
        assert (ours[key].default, ours[key].kind) == (theirs[key].default, theirs[key].kind), key
    assert f"`pdo_jax.nn.{name}`" in getattr(pdo.nn.linen, name).__doc__


@pytest.mark.parametrize(
    "name", [*NAMES[:4], pytest.param(NAMES[4], marks=pytest.mark.slow), NAMES[5]]
)
def test_parameters_go_both_ways(name):
    """The two lines of the module's docstring."""
    ours, theirs, x = pair(name, strides=2) if name == "PDOConvTranspose" else pair(name)
    variables = jax.jit(ours.init)(jax.random.key(1), x)
    assert set(variables) == {"params"}
    params = nnx.to_pure_dict(nnx.state(theirs))
    shapes = [jax.tree.map(lambda p: (p.shape, p.dtype), p) for p in (params, variables["params"])]
    assert shapes[0] == shapes[1]
    assert set(params) == {"bias"} | (
        {"strict", "relaxation"} if name.startswith("Relaxed") else {"kernel"}
    )

    apply, call = jax.jit(ours.apply), nnx.jit(lambda layer, x: layer(x))
    np.testing.assert_array_equal(apply({"params": params}, x), call(theirs, x))
    assert np.any(np.asarray(apply(variables, x)) != np.asarray(call(theirs, x)))
    nnx.update(theirs, variables["params"])
    np.testing.assert_array_equal(apply(variables, x), call(theirs, x))


def test_options_are_used():
    options = dict(use_bias=False, orientation=0.3, dtype=jnp.bfloat16, param_dtype=jnp.float16)
    ours, theirs, x = pair("PDOConv", padding=((2, 1), 2), **options)
    params = nnx.to_pure_dict(nnx.state(theirs))
    assert jax.tree.map(lambda p: p.dtype, ours.init(jax.random.key(0), x)) == {
        "params": {"kernel": jnp.float16}
    }
    y = ours.apply({"params": params}, x)
    assert y.dtype == jnp.bfloat16 and y.shape == theirs(x).shape
    np.testing.assert_array_equal(y, theirs(x))


def test_what_is_not_learned_is_no_parameter():
    ours, theirs, x = pair("RelaxedConv", learn=False, position_bandwidth=0.9)
    params = nnx.to_pure_dict(nnx.state(theirs, nnx.Param))
    variables = jax.eval_shape(ours.init, jax.random.key(1), x)
    assert jax.tree.structure(variables) == jax.tree.structure({"params": params})
    assert "position" not in params["relaxation"]
    y = jax.jit(ours.apply)({"params": params}, x)
    np.testing.assert_allclose(y, nnx.jit(lambda layer, x: layer(x))(theirs, x), rtol=1e-5)


class Compact(linen.Module):
    """A network as Linen's users write it; the convolution is called twice."""

    @linen.compact
    def __call__(self, x):
        x = jnp.tanh(pdo.nn.linen.PDOLift(1, 2, "p4")(x))
        conv = pdo.nn.linen.PDOConv(2, 2, "p4", use_bias=False, name="shared")
        return pdo.nn.group_pool(conv(jnp.tanh(conv(x))))


class Setup(linen.Module):
    """The same, in the other style."""

    def setup(self):
        self.PDOLift_0 = pdo.nn.linen.PDOLift(1, 2, "p4")
        self.shared = linen.remat(pdo.nn.linen.PDOConv)(2, 2, "p4", use_bias=False)

    def __call__(self, x):
        return pdo.nn.group_pool(self.shared(jnp.tanh(self.shared(jnp.tanh(self.PDOLift_0(x))))))


@pytest.mark.slow
def test_networks_in_both_styles():
    x = noise(2, 5, 5, 1)
    variables = jax.jit(Compact().init)(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {
            "PDOLift_0": {"kernel": (9, 1, 2), "bias": (2,)},
            "shared": {"kernel": (9, 4, 2, 2)},
        }
    }
    outputs = []
    for net in (Compact(), Setup()):

        @jax.jit
        def step(variables, x, net=net):
            def loss(variables):
                y = net.apply(variables, x)
                return jnp.sum(y**2), y

            return jax.grad(loss, has_aux=True)(variables)

        slopes, y = step(variables, x)
        outputs.append(y)
        assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(slopes))
    np.testing.assert_allclose(*outputs, rtol=1e-6)
    pdo.assert_equivariant(lambda x: Compact().apply(variables, x), x, "p4", output_kind="image")


def test_tabulate_counts_the_parameters():
    table = Compact().tabulate(jax.random.key(0), noise(2, 5, 5, 1), console_kwargs={"width": 200})
    assert "Total Parameters: 164" in table  # 9 x 2 + 2 and 9 x 4 x 2 x 2


def test_several_seeds_by_linens_vmap():
    mapped = linen.vmap(pdo.nn.linen.PointwiseConv, variable_axes={"params": 0},
                        split_rngs={"params": True})  # fmt: skip
    x = noise(3, 1, 2, 2, 4, 2)
    y, variables = mapped(2, 3, "p4").init_with_output(jax.random.key(0), x)
    kernels = np.asarray(variables["params"]["kernel"])
    assert y.shape == (3, 1, 2, 2, 4, 3) and kernels.shape == (3, 4, 2, 3)
    assert np.all(kernels[0] != kernels[1])


def test_initial_weights_have_the_same_spread():
    ours = pdo.nn.linen.PDOConv(24, 24, "p4")
    variables = jax.jit(ours.init)(jax.random.key(0), noise(1, 1, 1, 4, 24))
    draws = np.asarray(variables["params"]["kernel"])
    theirs = np.asarray(pdo.nn.PDOConv(24, 24, "p4", rngs=nnx.Rngs(0)).kernel[...])
    assert draws.std() == pytest.approx(theirs.std(), rel=0.03)
    assert np.all(np.asarray(variables["params"]["bias"]) == 0)


def test_errors_come_with_the_call():
    layer = pdo.nn.linen.PDOLift(1, 2, "p4", padding="CAUSAL")
    with pytest.raises(ValueError, match="padding .='CAUSAL'. is not known"):
        layer.init(jax.random.key(0), noise(1, 3, 3, 1))
    with pytest.raises(TypeError, match="bogus"):
        pdo.nn.linen.PDOLift(1, 2, "p4", bogus=1)


@pytest.mark.slow
def test_models_are_linen_modules_by_the_bridge():
    def evaluating(rngs):
        options = dict(group="p4", num_classes=3, in_features=1, invariants=2)
        model = pdo.models.ResNet((1, 2), (0, 1), **options, rngs=rngs)
        model.eval()
        return model

    x, theirs = noise(2, 5, 5, 1), nnx.bridge.to_linen(evaluating)
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    assert set(variables) == {"params", "batch_stats"}
    ours = evaluating(nnx.Rngs(1))
    for collection in variables.values():
        nnx.update(ours, collection)
    y = jax.jit(theirs.apply)(variables, x)
    np.testing.assert_array_equal(y, nnx.jit(lambda model, x: model(x))(ours, x))
    assert np.any(np.asarray(y) != 0)
