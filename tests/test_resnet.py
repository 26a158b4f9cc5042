"""Residual networks: parameters, structure, plain convolutions as an oracle, quarter turns."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax import windows
from pdo_jax.models.invariant import SIZES
from tests import laws
from tests.test_export import random

ROOT = Path(__file__).parents[1]
OPTIONS = dict(num_classes=3, in_features=1)


def size(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def shapes(make, **options):
    """Make a network without its numbers."""
    return nnx.eval_shape(lambda: make(**options, rngs=nnx.Rngs(0)))


def tiny(group, blocks=(1, 1), **variant):
    """Return a network of two stages with random parameters, in evaluation mode."""
    options = OPTIONS | dict(group=group) | variant
    return random(lambda: pdo.models.ResNet((2, 3), blocks, **options, rngs=nnx.Rngs(0)))


def images(*size, dtype="float32"):
    return np.random.default_rng(0).normal(size=(2, *size, 1)).astype(dtype)


# -------------------------------------------------------------------------------------- parameters


def formula(fields, blocks, order, classes):
    """Count the parameters of a published network from its description."""
    first, *_, last = fields
    pairs = list(zip((first, *fields[:-1]), fields, strict=True))
    convs = 9 * 3 * first
    convs += sum(9 * order * (i + (2 * blocks - 1) * o) * o for i, o in pairs)
    shortcuts = sum(order * i * o for i, o in pairs if i != o)
    norms = sum(i + (2 * blocks - 1) * o for i, o in pairs) + last
    return convs + shortcuts + 2 * norms + (order * last + 1) * classes


@pytest.mark.parametrize(
    ("make", "group", "classes", "fields", "blocks", "count"),
    [
        (pdo.models.resnet44, "p8", 10, (11, 23, 45), 7, 2_621_693),
        (pdo.models.resnet44, "p8", 100, (11, 23, 45), 7, 2_654_183),
        (pdo.models.resnet44, None, 10, (32, 64, 128), 7, 2_636_074),
        (pdo.models.resnet8, "p8", 10, (4, 8, 17), 1, 42_762),
        (pdo.models.resnet8, None, 10, (12, 24, 48), 1, 44_086),
        (pdo.models.resnet26, "p6", 10, (6, 13, 26), 4, 362_386),
        (pdo.models.resnet26, "p6m", 10, (5, 10, 18), 4, 372_587),
        (pdo.models.resnet26, None, 10, (16, 32, 64), 4, 369_498),
        (pdo.models.wide_resnet26, "p8", 10, (20, 40, 80), 4, 4_591_630),
        (pdo.models.wide_resnet26, None, 10, (57, 113, 226), 4, 4_586_212),
    ],
)
def test_parameters_are_those_of_the_paper(make, group, classes, fields, blocks, count):
    model = shapes(make, group=group, num_classes=classes)
    order = pdo.group(group or "p1").order
    assert [b.conv2.out_features for b in model.blocks] == [
        f for f in fields for _ in range(blocks)
    ]
    assert size(model) == formula(fields, blocks, order, classes) == count
    assert model.stem.basis.orientation == (np.pi / 8 if group else 0)
    assert model.stem.basis.size == (5 if group else 3)  # a plain 3x3 convolution


@pytest.mark.parametrize(
    ("name", "budget", "counts"),
    [
        ("small", 27_000, (26_522, 26_618)),
        ("medium", 250_000, (244_074, 244_170)),
        ("large", 2_620_000, (2_560_826, 2_561_042)),
    ],
)
def test_parameters_of_the_invariant_networks(name, budget, counts):
    made = [shapes(pdo.models.invariant_resnet, size=name, in_features=c) for c in (1, 3)]
    assert tuple(map(size, made)) == counts
    assert max(counts) <= budget


def multiply_adds(fields, blocks, invariants, order=8, pixels=32 * 32, classes=10):
    """Count those of an invariant network for an image of one channel from its description."""
    total = 9 * order * fields[0] * pixels
    for before, after, number in zip((fields[0], *fields[:-1]), fields, blocks, strict=True):
        if before != after:  # a shortcut, and the first convolution on a quarter of the pixels
            pixels //= 4
            total += order**2 * before * after * pixels
        if number:
            convs = before * after + (2 * number - 1) * after**2
            total += 9 * order**2 * convs * pixels
    return total + order**2 * after * invariants * pixels + invariants * classes


def test_the_docs_tell_the_multiply_adds():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+, .*) \| (\d, .*) \| (\d+) \| (.*illion) \|$", text, re.M)
    assert [name for name, *_ in rows] == ["small", "medium", "large"]
    for name, *numbers, told in rows:
        fields, blocks, (invariants,) = (tuple(map(int, n.split(", "))) for n in numbers)
        made = SIZES[name]
        assert (made["features"], made["blocks"], made["invariants"]) == (
            fields,
            blocks,
            invariants,
        )
        count = multiply_adds(fields, blocks, invariants)
        assert told in (f"{count / 1e6:.0f} million", f"{count / 1e9:.1f} billion")
        assert told in pdo.models.invariant_resnet.__doc__


def test_structure():
    model = shapes(pdo.models.resnet44)
    assert [i for i, b in enumerate(model.blocks) if b.shortcut is not None] == [7, 14]
    strided = [b.conv1.strides == (2, 2) == b.shortcut.strides for b in model.blocks if b.shortcut]
    assert strided == [True, True]
    assert sum(b.conv1.strides == (2, 2) for b in model.blocks) == 2
    assert all(b.conv2.strides == (1, 1) for b in model.blocks)
    state = nnx.to_flat_state(nnx.state(model))
    assert {type(leaf) for _, leaf in state} == {nnx.Param, nnx.BatchStat}  # no keys: no dropout
    biases = [path for path, _ in state if path[-1] == "bias"]
    assert all("norm" in path[-2] or path[-2] == "head" for path in biases)
    means = [leaf.shape for path, leaf in state if path[-1] == "mean"]
    assert sorted(set(means)) == [(11,), (23,), (45,)]


# -------------------------------------------------------------------------------------- the oracle


def plain(x, kernel, strides=1):
    """Convolve as everyone does, with zeros around the image."""
    side = kernel.shape[0] // 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (strides, strides), [(side, side)] * 2, dimension_numbers=dimensions
    )


def activated(norm, x):
    """Normalise by the statistics that are kept, scale, shift and cut off."""
    x = (x - norm.mean[...]) / jnp.sqrt(norm.var[...] + norm.epsilon)
    return jnp.maximum(x * norm.scale[...] + norm.bias[...], 0)


def ordinary(model, x):
    """Apply a ResNet of one block a stage with the parameters of ours over the trivial group."""

    def filters(conv):
        return conv.kernel[...].reshape(3, 3, conv.in_features, conv.out_features)

    y = plain(x, filters(model.stem))
    for block, strides in zip(model.blocks, (1, 2), strict=True):
        z = activated(block.norm1, y)
        shortcut = y if block.shortcut is None else plain(z, block.shortcut.kernel[...][None], 2)
        z = activated(block.norm2, plain(z, filters(block.conv1), strides))
        y = shortcut + plain(z, filters(block.conv2))
    means = jnp.mean(activated(model.norm, y), axis=(1, 2))
    return means @ model.head.kernel[...] + model.head.bias[...]


@pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")
def test_the_plain_network_is_an_ordinary_resnet():
    model, rng = tiny(None), np.random.default_rng(1)

    def draw(leaf):
        return jnp.asarray(rng.uniform(0.5, 2, leaf.shape) * rng.choice([-1, 1]), "float64")

    nnx.update(model, jax.tree.map(draw, nnx.state(model, nnx.Param)))
    nnx.update(model, jax.tree.map(lambda v: jnp.abs(draw(v)), nnx.state(model, nnx.BatchStat)))
    x = images(6, 8, dtype="float64")
    ours, theirs = (nnx.jit(f)(model, x) for f in (lambda m, x: m(x), ordinary))
    assert laws.distance(ours, theirs) <= 1e-12


# ------------------------------------------------------------------------------------ quarter turns


def change(size, **variant):
    """Return how much a quarter turn changes the logits of images, against their spread."""
    x = images(size, size, dtype="float64")
    turned = jnp.asarray(np.concatenate([x, np.rot90(x, axes=(1, 2))]))
    model = tiny("p4", (0, 1), dtype=jnp.float64, **variant)
    logits = np.asarray(nnx.jit(lambda m, x: m(x))(model, turned))
    return np.max(np.abs(logits[2:] - logits[:2])) / np.max(np.abs(logits[1] - logits[0]))


def test_quarter_turns_change_the_logits_unless_the_network_is_invariant():
    """With a blur they never do, which is a law; with strides sizes must fit."""
    assert change(5) > 1e-3  # as published: the classifier sees the direction
    assert change(5, invariants=3) < 1e-9
    windows._warn_once.cache_clear()
    with pytest.warns(pdo.EquivarianceWarning, match="sizes that keep them exact"):
        assert change(6, invariants=3) > 1e-3


# ---------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_one_step_of_training_in_half_precision():
    variant = dict(invariants=3, downsampling="blur", activation="gelu", dropout_rate=0.2)
    model = tiny("p1m", (0, 1), dtype=jnp.bfloat16, **variant)
    x, labels = jnp.asarray(images(5, 5)), jnp.asarray([0, 2])

    def tree(model):
        leaves = nnx.to_flat_state(nnx.state(model))
        return {path: (leaf.shape, leaf.dtype) for path, leaf in leaves}

    def loss(model):
        logits = model(x)
        assert logits.dtype == jnp.bfloat16
        logs = jax.nn.log_softmax(logits.astype(jnp.float32))
        return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], 1))

    @nnx.jit
    def step(model):
        value, slopes = nnx.value_and_grad(loss)(model)
        parameters = nnx.state(model, nnx.Param)
        nnx.update(model, jax.tree.map(lambda p, s: p - 0.1 * s, parameters, slopes))
        return value

    before, kernel = tree(model), np.asarray(model.stem.kernel[...])
    mean = np.asarray(model.norm.mean[...])
    model.train()
    with jax.numpy_dtype_promotion("standard"):  # Flax's norms add float32 to half precision
        assert np.isfinite(step(model))
    assert np.any(np.asarray(model.stem.kernel[...]) != kernel)
    assert np.any(np.asarray(model.norm.mean[...]) != mean)
    model.eval()
    run = nnx.jit(lambda m, x: m(x))
    logits = np.asarray(run(model, x), np.float32)
    np.testing.assert_array_equal(logits, np.asarray(run(model, x), np.float32))  # no dropout
    assert np.all(np.isfinite(logits)) and tree(model) == before
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))}
    assert dtypes == {jnp.dtype("float32")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")
@pytest.mark.parametrize("name", ["resnet26", "wide_resnet26", "invariant_resnet"])
def test_whole_networks_can_be_made_and_trained(name):
    make = getattr(pdo.models, name)
    model = make(in_features=3, rngs=nnx.Rngs(0))
    model.train()

    @jax.jit
    def slopes(state, x):
        model = nnx.merge(graph, state)
        return nnx.grad(lambda model: jnp.sum(model(x) ** 2))(model)

    graph, state = nnx.split(model)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), "float32")
    leaves = jax.tree.leaves(slopes(state, x))
    assert all(np.all(np.isfinite(leaf)) and np.any(np.asarray(leaf) != 0) for leaf in leaves)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny("p4", downsampling="pool"), r"downsampling \(='pool'\).*'stride', 'blur'"),
        (lambda: tiny("p4", activation="sine"), r"activation \(='sine'\).*'relu', 'gelu'"),
        (lambda: tiny("p4", num_classes=0), r"num_classes \(=0\) must be at least 1"),
        (lambda: tiny("T"), r"group \(=T\) acts on 3 dimensions.* pass 'p8'"),
        (
            lambda: pdo.models.ResNet((2, 3), (1,), group="p4", **OPTIONS, rngs=nnx.Rngs(0)),
            r"blocks \(=\(1,\)\) must hold one number for each of features \(=\(2, 3\)\)",
        ),
        (
            lambda: pdo.models.ResNet((2, 3), (1, 0), group="p4", **OPTIONS, rngs=nnx.Rngs(0)),
            r"blocks \(=\(1, 0\)\) .* the first alone may be 0",
        ),
        (
            lambda: pdo.models.invariant_resnet("huge", rngs=nnx.Rngs(0)),
            r"size \(='huge'\).*'small', 'medium', 'large'",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("unhooked")
def test_images_are_checked():
    model = shapes(lambda rngs: pdo.models.ResNet((2,), (1,), group="p4", **OPTIONS, rngs=rngs))
    with pytest.raises(ValueError, match=r"x has shape \(8, 8, 1\).*\(N, H, W, in_features\)"):
        model(np.zeros((8, 8, 1), "float32"))
