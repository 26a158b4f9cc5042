"""The published networks: their parameters, their symmetry, and that training leaves their tree."""

import inspect
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo

# Parameters by layer. A lift has 9 M C_out, a group convolution 9 |G| C_in C_out, no biases.
CONVS = [9 * 1 * 7, *[9 * 8 * 7 * 7] * 4]
COUNTS = {
    False: CONVS + [9 * 8 * 7 * 7] + [2 * 7] * 6 + [4 * 4 * 8 * 7 * 10],
    True: CONVS + [9 * 8 * 7 * 24] + [2 * 7] * 5 + [2 * 24] + [24 * 10 + 10],
}
TOTALS = {False: 26747, True: 26639}


def size(state):
    return sum(leaf.size for leaf in jax.tree.leaves(state))


@pytest.fixture(scope="module", params=[False, True], ids=["published", "invariant"])
def model(request):
    return pdo.models.mnist_rot(invariant=request.param, rngs=nnx.Rngs(0))


def test_parameters_are_those_of_the_paper(model):
    layers = [*model.convs, *model.norms, model.head]
    counts = [size(nnx.state(layer, nnx.Param)) for layer in layers]
    assert counts == COUNTS[model.invariant]
    assert size(nnx.state(model, nnx.Param)) == sum(counts) == TOTALS[model.invariant]


# Every network of the table in docs/models.md: one or two calls, and a count for each of them.
DOC = (Path(__file__).parents[1] / "docs/models.md").read_text(encoding="utf-8")
ROWS = [
    pair
    for calls, counts in re.findall(r"^\| (`\w+\(.*?\)`) \| (\d[\d, ]*) \|", DOC, re.M)
    for pair in zip(calls.strip("`").split("`, `"), counts.split(", "), strict=True)
]
QUICK = ("mnist", "relaxed", "volume")
MAKERS = {name: make for name, make in vars(pdo.models).items() if inspect.isfunction(make)}
COLOURED = ("resnet", "wide", "vessel", "pde_segmenter")  # the others are counted for one channel


@pytest.mark.parametrize(
    ("call", "count"),
    # Counted every time: here, and the others in test_resnet.py and test_pde_models.py.
    [
        pytest.param(*row, marks=() if row[0].startswith(QUICK) else pytest.mark.slow)
        for row in ROWS
    ],
)
def test_the_docs_tell_the_parameters(call, count):
    channels = 3 if call.startswith(COLOURED) else 1

    def build():
        options = dict(in_features=channels, rngs=nnx.Rngs(0))
        return eval(call, {name: partial(make, **options) for name, make in MAKERS.items()})

    assert f"{size(nnx.state(nnx.eval_shape(build), nnx.Param)):,}" == count


def test_the_docs_tell_of_every_network():
    assert {call.partition("(")[0] for call, _ in ROWS} == MAKERS.keys()


def test_nothing_but_parameters_statistics_and_keys_is_in_the_state(model):
    state = nnx.state(model)
    kinds = {type(leaf) for _, leaf in nnx.to_flat_state(state)}
    assert kinds <= {nnx.Param, nnx.BatchStat, nnx.RngCount, nnx.RngKey}
    names = {path[-1] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert names == {"kernel", "bias", "scale"}  # bias and scale are those of norms and the head
    assert all(conv.bias is None for conv in model.convs)


def test_batch_statistics_are_one_number_a_field(model):
    widths = [norm.mean.shape for norm in model.norms]
    assert widths == [(conv.out_features,) for conv in model.convs]
    assert [norm.var.shape for norm in model.norms] == widths


@pytest.mark.slow
def test_train_and_eval_have_the_same_tree(model):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 28, 28, 1)), jnp.float32)

    def tree(m):
        return {
            path: (leaf.shape, str(leaf.dtype)) for path, leaf in nnx.to_flat_state(nnx.state(m))
        }

    fresh = pdo.models.mnist_rot(invariant=model.invariant, rngs=nnx.Rngs(0))
    before = tree(fresh)
    kernel = np.asarray(fresh.convs[0].kernel[...])
    mean = np.asarray(fresh.norms[0].mean[...])
    train, evaluate = nnx.jit(lambda m, x: m(x)), nnx.jit(lambda m, x: m(x))
    fresh.train()
    train(fresh, x)
    assert tree(fresh) == before
    assert not np.array_equal(mean, fresh.norms[0].mean[...])  # training it was
    mean = np.asarray(fresh.norms[0].mean[...])
    fresh.eval()
    first, second = evaluate(fresh, x), evaluate(fresh, x)
    assert tree(fresh) == before
    np.testing.assert_array_equal(first, second)  # no dropout
    np.testing.assert_array_equal(mean, fresh.norms[0].mean[...])
    np.testing.assert_array_equal(kernel, fresh.convs[0].kernel[...])


def test_quarter_turns_change_the_logits_of_the_published_network_alone(model):
    model.eval()
    x = np.random.default_rng(1).normal(size=(28, 28, 1)).astype(np.float32)
    turned = jnp.asarray(np.stack([np.rot90(x, k) for k in range(4)]))
    logits = np.asarray(nnx.jit(lambda m, x: m(x))(model, turned))
    assert logits.shape == (4, 10)
    error = np.abs(logits[1:] - logits[0]).max() / np.abs(logits[0]).max()
    assert (error < 1e-5) if model.invariant else (error > 0.1)


@pytest.mark.parametrize("invariant", [False, True])
def test_other_groups_classes_and_channels(invariant):
    model = pdo.models.mnist_rot(
        invariant=invariant,
        group="p4",
        num_classes=3,
        in_features=2,
        orientation=0.0,  # needs 3x3 pixels alone, and still takes 2 off
        rngs=nnx.Rngs(0),
    )
    model.eval()
    logits = jax.eval_shape(model.__call__, jnp.zeros((5, 28, 28, 2), jnp.float32))
    assert logits.shape == (5, 3)


def test_the_dtype_is_that_of_the_computation():
    model = pdo.models.mnist_rot(invariant=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model.eval()
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))}
    assert dtypes == {jnp.dtype("float32")}
    logits = jax.eval_shape(model.__call__, jnp.zeros((1, 28, 28, 1), jnp.float32))
    assert logits.dtype == jnp.bfloat16


# ----------------------------------------------------------------------------------------- volumes


def test_parameters_of_the_volume_classifier():
    model = nnx.eval_shape(lambda: pdo.models.volume_classifier(rngs=nnx.Rngs(0)))
    layers = [*model.convs, *model.norms, model.head]
    counts = [size(nnx.state(layer, nnx.Param)) for layer in layers]
    convs = [10 * 2, 10 * 24 * 2 * 4, 10 * 24 * 4 * 16]
    assert counts == [*convs, 2 * 2, 2 * 4, 2 * 16, 2 * 16, 17 * 8]
    assert size(nnx.state(model, nnx.Param)) == sum(counts) == 17512


@pytest.mark.parametrize(("group", "mirrors"), [("O", False), ("Oh", True)])
def test_mirrored_volumes_are_told_apart_by_rotations_alone(group, mirrors):
    """O sees the difference of a screw and its mirror image; Oh cannot, whatever it learns."""
    model = pdo.models.volume_classifier((1, 1), group=group, rngs=nnx.Rngs(0))
    model.eval()
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 1)).astype(np.float32)
    turned = np.rot90(x, axes=(1, 2))
    logits = np.asarray(nnx.jit(lambda m, x: m(x))(model, jnp.concatenate([x, turned, x[:, ::-1]])))
    changes = np.abs(logits[1:] - logits[0]).max(1) / np.abs(logits[0]).max()
    assert changes[0] < 1e-5
    assert (changes[1] < 1e-5) == mirrors and (mirrors or changes[1] > 1e-3)


def test_volumes_are_checked():
    with pytest.raises(ValueError, match=r"group \(=p8\) acts on 2 dimensions.* pass 'T'"):
        pdo.models.volume_classifier(group="p8", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"features \(=\(\)\) must hold one number at least"):
        pdo.models.volume_classifier((), rngs=nnx.Rngs(0))
