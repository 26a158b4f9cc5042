"""The command `python -m experiments.cifar`: its recipes and what they make of pictures."""

import typing

import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from experiments import amounts, datasets, recipes, zoo
from experiments.augment import Augmentation
from experiments.cifar import RECIPES, Config
from experiments.networks import count_parameters

PUBLISHED = [name for name, config in RECIPES.items() if config.network == name]


def test_recipes_have_the_names_of_the_option():
    assert set(RECIPES) == set(typing.get_args(typing.get_type_hints(Config)["recipe"]))
    assert all(config.recipe == name for name, config in RECIPES.items())
    assert len(PUBLISHED) == 6


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe(name):
    training = RECIPES[name].training
    steps = 50_000 // 128
    rate = recipes.learning_rate(training, steps)
    found = [float(rate(int(epoch * steps))) for epoch in (0, 149.99, 150, 224.99, 225, 299)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)
    assert (training.optimizer, training.decay, training.weight_decay) == ("sgd", "coupled", 1e-3)
    assert RECIPES[name].augmentation == Augmentation(crop=4, flip=True)
    assert RECIPES[name].held_out == 5000


def test_small_is_a_comparison_of_equal_budgets():
    small = RECIPES["small"]
    assert (small.compare, small.limit) == ("resnet8", 5000)


def test_relaxed_networks_have_equal_parameters_and_tell_their_amounts():
    config = RECIPES["relaxed"]
    given = dict(num_classes=10, in_features=3, dtype="float32", seed=0)
    names = [name for name in zoo.NETWORKS if name.startswith("relaxed_")]
    assert config.network in names and config.training.penalty > 0
    for name in names:
        model = nnx.eval_shape(lambda name=name: zoo.build(name, config.network_options, **given))
        assert abs(count_parameters(model) / 30_000 - 1) < 0.03
        places = list(nnx.eval_shape(pdo.nn.equivariance_amounts, model))
        relaxed = name not in ("relaxed_strict", "relaxed_free")
        assert places == ([f"convs.{i}" for i in range(4)] if relaxed else [])


def test_amounts_are_flat_numbers():
    layer = pdo.nn.RelaxedConv(1, 1, "p4", relaxation="weights", filters=1, rngs=nnx.Rngs(0))
    layer.relaxation.gains[...] = np.array([[1], [0], [0], [0]], np.float32)  # the identity alone
    found = amounts.flat(nnx.Dict(conv=layer, norm=nnx.BatchNorm(1, rngs=nnx.Rngs(0))))
    places = "amount/conv/position", "amount/conv/orientation"
    assert found == pytest.approx(dict(zip(places, (0, 0.75**0.5), strict=True)))


def test_data_are_loaded_as_asked(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(datasets, "load", lambda *args: asked.append(args))
    Config(data="cifar100", data_folder=tmp_path, verify=False).load()
    assert asked == [("cifar100", tmp_path, False)]
