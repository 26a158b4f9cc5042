"""The networks of the command line: their names, their options, their arithmetic."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments import zoo
from experiments.networks import count_parameters

COUNTS = {
    "mnist_rot": 26_747,
    "mnist_rot_invariant": 26_639,
    "resnet44_p8": 2_621_693,
    "wide_resnet26_p8": 4_591_630,
    "pde_classifier": 8_982,
    "rotnist_cde": 2_542,
    "rotnist_de": 2_488,
    "rotnist_plane": 2_518,
    "rotnist_gcnn": 12_700,
    "lenet5": 44_426,
}


def shapes_of(name, options=None, dtype="float32", in_features=3):
    given = dict(num_classes=10, in_features=in_features, dtype=dtype, seed=0)
    return nnx.eval_shape(lambda: zoo.build(name, options or {}, **given))


@pytest.mark.parametrize("name", ["mnist_rot", "mnist_rot_invariant"])
def test_published_networks_have_their_parameters(name):
    assert count_parameters(shapes_of(name, in_features=1)) == COUNTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_network_is_built(name):
    coloured = name.startswith(("resnet", "wide", "invariant"))
    count = count_parameters(shapes_of(name, in_features=3 if coloured else 1))
    assert count == COUNTS.get(name, count) > 2_000


def test_options_reach_the_network():
    upright = shapes_of("mnist_rot", {"group": "p4", "dropout_rate": 0.5}, in_features=1)
    assert upright.convs[0].basis.group.order == 4
    assert upright.dropout.rate == 0.5


def test_arithmetic_is_that_of_the_dtype_and_parameters_stay_float32():
    def both():
        options = dict(num_classes=3, in_features=1, seed=0)
        model = zoo.build("mnist_cnn", {}, dtype="bfloat16", **options)
        model.eval()
        return nnx.state(model, nnx.Param), model(jnp.zeros((1, 28, 28, 1), jnp.float32))

    parameters, logits = nnx.eval_shape(both)
    assert logits.dtype == jnp.bfloat16 and logits.shape == (1, 3)
    assert {p.dtype for p in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist_rott", {}, r"network 'mnist_rott' is not known; did you mean 'mnist_rot'\?"),
        ("nothing", {}, "network 'nothing' is not known; it must be one of 'mnist_rot', "),
        ("mnist_rot", {"grup": "p4"}, "network_options of mnist_rot: 'grup' .* mean 'group'"),
        ("mnist_rot", {"rngs": 0}, "network_options of mnist_rot: 'rngs' is not known"),
    ],
)
def test_unknown_names_are_answered_with_known_ones(name, options, message):
    with pytest.raises(ValueError, match=message):
        zoo.check(name, options)


def test_a_value_of_the_wrong_type_is_an_error_of_the_user(unhooked):
    with pytest.raises(ValueError, match=r"network_options \(=\{'group': 3\}\) do not fit mnist"):
        shapes_of("mnist_rot", {"group": 3}, in_features=1)
