"""The command `python -m experiments.cifar`: its recipes and what they make of pictures."""

import typing

import numpy as np
import pytest

from experiments import datasets, recipes
from experiments.augment import Augmentation
from experiments.cifar import RECIPES, Config

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


def test_data_are_loaded_as_asked(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(datasets, "load", lambda *args: asked.append(args))
    Config(data="cifar100", data_folder=tmp_path, verify=False).load()
    assert asked == [("cifar100", tmp_path, False)]
