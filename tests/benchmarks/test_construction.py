"""The network that is built has the size that it claims, and its state is its parameters."""

import json

import jax
import pytest
from flax import nnx

from benchmarks import construction
from benchmarks.__main__ import RESULTS


@pytest.fixture(scope="module")
def networks():
    """Both networks at their full size, without numbers."""
    config = construction.Config()
    return {
        family: nnx.eval_shape(lambda family=family: construction.build(family, config))
        for family in construction.FAMILIES
    }


@pytest.mark.parametrize("family", construction.FAMILIES)
def test_networks_have_36_million_parameters(family, networks):
    leaves = jax.tree.leaves(nnx.state(networks[family], nnx.Param))
    assert sum(leaf.size for leaf in leaves) == pytest.approx(36.5e6, rel=0.01)


def test_the_layers_are_those_of_a_wide_resnet_28_10():
    layers = list(construction.layers(construction.Config()))
    kinds = [layer.kind for layer in layers]
    assert kinds.count("lift") + kinds.count("conv") + kinds.count("linear") == 28 - 2
    assert kinds.count("pointwise") == 3
    assert [layer.stride for layer in layers].count(2) == 4  # two stages, conv and shortcut
    sizes = {layer.out_features for layer in layers if layer.kind == "conv"}
    assert sizes == {40, 80, 160}  # 160, 320 and 640 over the root of 16


def test_nothing_of_bases_is_in_the_state(networks):
    """A checkpoint holds kernels, the numbers of the norms, and one linear bias."""
    state = nnx.to_flat_state(nnx.state(networks["pdo_jax"]))
    layers = list(construction.layers(construction.Config()))
    expected = {"norm": {"scale", "bias", "mean", "var"}, "linear": {"kernel", "bias"}}
    for i, layer in enumerate(layers):
        leaves = {path[-1]: leaf for path, leaf in state if path[0] == i}
        assert set(leaves) == expected.get(layer.kind, {"kernel"})
        if layer.kind == "conv":
            assert leaves["kernel"].shape == (9, 16, layer.in_features, layer.out_features)
    numbers = sum(leaf.size for _, leaf in state)
    norms = sum(layer.in_features for layer in layers if layer.kind == "norm")
    parameters = jax.tree.leaves(nnx.state(networks["pdo_jax"], nnx.Param))
    assert numbers == sum(leaf.size for leaf in parameters) + 2 * norms


def test_memory_is_counted():
    before = construction.memory("VmRSS")
    held = b"x" * 2**26
    assert construction.memory("VmRSS") - before > 0.9 * len(held)
    del held
    assert construction.memory("VmHWM") - before > 0.9 * 2**26


def test_the_record_says_what_was_built():
    metrics = json.loads((RESULTS / "construction.json").read_text())["metrics"]
    assert metrics["parameters, pdo_jax"] == pytest.approx(36.5e6, rel=0.01)
    assert metrics["megabytes beyond the parameters"] < 1000
