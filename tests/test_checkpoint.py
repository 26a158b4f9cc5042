"""Checkpointing: the same numbers, the same parameters, and less that is kept for the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from tests.test_export import random

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
models = pdo.models


def resnet(**options):
    variant = dict(invariants=4, downsampling="blur", dropout_rate=0.3, algorithm="direct")
    return models.ResNet(
        (2, 3), (1, 1), group="p4", num_classes=3, in_features=2, **variant, **options
    )


def volumes(**options):
    return models.volume_classifier((1, 2), group="T", in_features=2, **options)


def relaxed(**options):
    return models.relaxed_classifier((2, 3), pool_after=(0,), in_features=2, **options)


def pdes(make, **options):
    windows = ((3, 3, 3), (3, 3, 3))
    return make((2, 2, 3), windows, ("convection", "dilation"), in_features=2, **options)


def mnist(**options):
    return models.mnist_rot(invariant=True, group="p4", in_features=2, dropout_rate=0.0, **options)


def conv(**options):
    return pdo.nn.PDOConv(2, 3, "p4", padding="REFLECT", algorithm="direct", **options)


def layer(make, *arguments, **given):
    return lambda **options: make(2, 3, *arguments, **given, **options)


# What is made, and the shape of its input: 2 channels, as many images.
PICTURE, FIELD = (2, 8, 9, 2), (2, 5, 6, 4, 2)
CASES = [
    ("PDOConv", conv, FIELD),
    slow("ResNet", resnet, PICTURE),
    slow("mnist_rot", mnist, (1, 22, 22, 2)),
    slow("volume_classifier", volumes, (2, 4, 4, 4, 2)),
    slow("relaxed_classifier", relaxed, PICTURE),
    slow("pde_classifier", functools.partial(pdes, models.pde_classifier), PICTURE),
    slow("pde_segmenter", functools.partial(pdes, models.pde_segmenter), PICTURE),
    slow("vessel_pde", functools.partial(models.vessel_pde, in_features=2), PICTURE),
    slow("vessel_gcnn", functools.partial(models.vessel_gcnn, in_features=2), PICTURE),
    slow("vessel_cnn", functools.partial(models.vessel_cnn, in_features=2), PICTURE),
    slow("PDOLift", layer(pdo.nn.PDOLift, "p4", padding="REFLECT"), PICTURE),
    slow("PDOConvTranspose", layer(pdo.nn.PDOConvTranspose, "p4", strides=2), FIELD),
    slow("PDELayer", layer(pdo.nn.PDELayer, kernel_size=(3, 3, 3)), FIELD),
    slow("RelaxedConv", layer(pdo.nn.RelaxedConv, "p4"), FIELD),
    slow("RelaxedLift", layer(pdo.nn.RelaxedLift, "p4"), PICTURE),
]
cases = pytest.mark.parametrize(("name", "make", "shape"), CASES)
REST = [case.values for case in CASES[1:]]


@pytest.fixture(autouse=True)
def flax_mixes_dtypes():
    """Flax's norms name float32 in training, whatever they are given."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def both(make):
    """Return what keeps everything and what computes again, with the same numbers, in float64."""
    made = []
    for checkpoint in (False, True):
        options = dict(checkpoint=checkpoint, dtype=jnp.float64)
        model = random(lambda options=options: make(**options, rngs=nnx.Rngs(0)))
        nnx.update(model, jax.tree.map(double, nnx.state(model)))
        model.train()
        made.append(model)
    return made


def double(leaf):
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, jnp.float64 if floating else leaf.dtype)


def draw(shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def scored(model):
    """Return a loss of weights and input that also gives what a step leaves behind, and weights."""
    definition, weights, rest = nnx.split(model, nnx.Param, ...)

    def loss(weights, x):
        model = nnx.merge(definition, weights, rest, copy=True)
        y = model(x)
        return jnp.sum(jnp.sin(y)), (y, nnx.state(model, nnx.Not(nnx.Param)))

    return loss, weights


def numbers(tree):
    """Return the leaves of a tree as arrays of numbers, random keys too."""
    leaves = jax.tree.leaves(tree)
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        jax.random.key_data(leaf) if is_key else leaf
        for leaf, is_key in zip(leaves, keys, strict=True)
    ]


def kept(loss, *arguments):
    """Return the bytes of float64 that wait between the forward and the backward pass."""
    residuals = jax.eval_shape(lambda *a: jax.vjp(loss, *a, has_aux=True)[1], *arguments)
    sizes = (leaf.size for leaf in jax.tree.leaves(residuals) if leaf.dtype == jnp.float64)
    return 8 * sum(sizes)


@cases
def test_a_step_is_the_same(name, make, shape):
    """Outputs, gradients, running statistics and random keys; the paths of all of them."""
    del name
    x, results = draw(shape), []
    for model in both(make):
        loss, weights = scored(model)
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        results.append(step(weights, x))
    agree(*results)


def agree(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(numbers(one), numbers(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("make", "shape"), [(conv, FIELD), *(slow(*case[1:]) for case in REST)])
def test_less_is_kept(make, shape):
    everything, less = (kept(*scored(model), draw(shape)) for model in both(make))
    assert less < everything


def step_of(model):
    """Return the module after a step of a Flax user, and the gradients."""

    def loss(model, x):
        return jnp.sum(jnp.sin(model(x)))

    slope = nnx.jit(nnx.grad(loss))(model, draw(PICTURE))
    return slope, nnx.state(model, nnx.Not(nnx.Param))


@pytest.mark.slow
def test_flax_takes_the_same_step():
    """By `nnx.grad` under `nnx.jit`, which carry what a step leaves behind into the module."""
    results = []
    for model in both(resnet):
        means = np.asarray(model.norm.mean[...])
        results.append(step_of(model))
        assert np.any(means != np.asarray(model.norm.mean[...]))
    agree(*results)


def test_it_goes_with_vmap_and_forward_mode():
    """Also with a module from outside of the transformation, to which nothing is written."""
    fields, results = draw((3, *FIELD)), []
    for model in both(conv):
        mapped = jax.vmap(model)
        results.append(jax.jit(lambda x, f=mapped: jax.jvp(f, (x,), (x + 1,)))(fields))
    agree(*results)


@pytest.mark.slow
@pytest.mark.parametrize("fold", [False, True])
def test_programs_are_the_same(fold, tmp_path, unhooked):
    """A file holds the forward pass alone, in which nothing is computed twice."""
    x, outputs = np.asarray(draw(PICTURE), np.float32), []
    for i, checkpoint in enumerate((False, True)):
        model = random(lambda c=checkpoint: resnet(checkpoint=c, rngs=nnx.Rngs(0)))
        path = tmp_path / f"{i}.pdo"
        pdo.export.save(model, path, (None, *PICTURE[1:]), fold=fold)
        outputs.append(pdo.export.load(path)(x))
    np.testing.assert_allclose(*outputs, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PDOConv", "RelaxedConv"])
def test_linen_has_the_option(name):
    x, results = draw(FIELD), []
    for checkpoint in (False, True):
        options = dict(dtype=jnp.float64, param_dtype=jnp.float64, checkpoint=checkpoint)
        module = getattr(pdo.nn.linen, name)(2, 3, "p4", **options)
        variables = jax.jit(module.init)(jax.random.key(0), x)

        def loss(variables, module=module):
            return jnp.sum(jnp.sin(module.apply(variables, x)))

        results.append((variables, jax.jit(jax.grad(loss))(variables)))
    agree(*results)


@pytest.mark.slow
def test_compiled_programs_take_less_memory():
    """Temporary memory of a step. XLA before JAX 0.11 needs to be told on a CPU."""
    options = {}
    if jax.default_backend() == "cpu" and jax.version.__version_info__ < (0, 11):
        options["xla_disable_hlo_passes"] = "cse_barrier_expander"
    sizes = []
    for checkpoint in (False, True):
        model = models.resnet8(checkpoint=checkpoint, rngs=nnx.Rngs(0))
        for block in model.blocks:
            block.conv1.algorithm = block.conv2.algorithm = "direct"
        loss, weights = scored(model)
        x = jax.ShapeDtypeStruct((1, 129, 129, 3), jnp.float32)
        lowered = jax.jit(jax.grad(loss, has_aux=True)).lower(weights, x)
        memory = lowered.compile(compiler_options=options).memory_analysis()
        sizes.append(memory.temp_size_in_bytes)
    assert sizes[1] < 0.75 * sizes[0]
