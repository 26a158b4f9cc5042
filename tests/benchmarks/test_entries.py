"""The programs that are compared compute the same thing, or are of the same size."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from benchmarks import demo_network, entry, expansion, layer


@pytest.mark.slow
@pytest.mark.parametrize("group", ["p4", "p8", "p3m"])
def test_naive_kernel_is_the_kernel(group):
    basis = pdo.filter_basis(group)
    order = basis.group.order
    side = basis.size
    shapes = (9, order, 2, 3), (side, side, order * 2, order * 3)
    weights, cotangent = entry.normal(0, "float64", *shapes)
    ours, naive = (
        jax.jit(expansion.there_and_back(partial(kernel, basis=basis)))(weights, cotangent)
        for kernel in (pdo.group_kernel, expansion.naive_kernel)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, naive)


@pytest.mark.slow
def test_gradients_in_context_agree():
    basis = pdo.filter_basis("p4")
    x, weights = entry.normal(0, "float64", (2, 5, 5, 4, 3), (9, 4, 3, 3))
    flat = x.reshape(2, 5, 5, 12)
    ours = jax.jit(expansion.gradient(lambda x, w: pdo.group_conv(x, w, basis)))(x, weights)
    naive = jax.jit(
        expansion.gradient(lambda x, w: expansion.convolve(x, expansion.naive_kernel(w, basis)))
    )(flat, weights)
    np.testing.assert_allclose(ours[0].reshape(flat.shape), naive[0], atol=1e-12)
    np.testing.assert_allclose(ours[1], naive[1], atol=1e-11)


def test_split_layer_is_the_layer():
    module = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0))
    (x,) = entry.normal(0, "float32", (1, 4, 4, 2))
    function, state = layer.split(module)
    np.testing.assert_array_equal(function(state, x), module(x))
    slope = jax.tree.leaves(layer.backward(function)(state, x))
    assert {leaf.shape for leaf in slope} == {(3, 3, 2, 3), (3,), x.shape}


@pytest.mark.parametrize("family", demo_network.FAMILIES)
def test_networks_have_equally_many_parameters(family):
    _, build = demo_network.FAMILIES[family]
    models = nnx.eval_shape(lambda: build(0))
    counts = [demo_network.count_parameters(model) for model in models.values()]
    assert max(counts) / min(counts) < 1.05


class Tiny(nnx.Module):
    """A classifier with everything that a training step has to carry."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(1, rngs=rngs)
        self.linear = nnx.Linear(4, 10, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(self.norm(x).reshape(len(x), -1)))


def test_training_step_moves_everything():
    model, labels = Tiny(), jnp.arange(3)
    (images,) = entry.normal(0, "float32", (3, 2, 2, 1))
    before = {
        "kernel": np.asarray(model.linear.kernel[...]),
        "mean": np.asarray(model.norm.mean[...]),
    }
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        loss, (weights, rest, _) = demo_network.training(model, images, labels).call()
    assert loss > 0
    assert np.any(weights["linear"]["kernel"][...] != before["kernel"])
    assert np.any(rest["norm"]["mean"][...] != before["mean"])


def test_inference_is_the_model_in_evaluation_mode():
    model, labels = Tiny(), jnp.arange(3)
    (images,) = entry.normal(0, "float32", (3, 2, 2, 1))
    logits = demo_network.inference(model, images, labels).call()
    expected = model.linear(model.norm(images).reshape(3, -1))
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
