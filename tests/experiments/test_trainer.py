"""The loop: it learns, repeats, leaves the given model alone, and keeps what it saves."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import checkpoints, recipes, trainer

RECIPE = recipes.Recipe(epochs=4, batch_size=8, learning_rate=0.05)


class Net(nnx.Module):
    """A norm and dropout: states that are no parameters must survive as well."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.hidden = nnx.Linear(12, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.hidden(x.reshape(len(x), -1))
        return self.head(self.dropout(nnx.relu(self.norm(x))))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50).astype(np.int32)
    means = rng.normal(size=(3, 2, 2, 3))
    images = means[labels] + 0.3 * rng.normal(size=(50, 2, 2, 3))
    return images.astype(np.float32), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "checkpoints"


@pytest.fixture(scope="module")
def trained(data, folder):
    def evaluate(model):
        return {"again": trainer.accuracy(model, *data)}

    recipe = dataclasses.replace(RECIPE, checkpoint_every=3)
    return trainer.train(Net(), *data, recipe, seed=0, evaluate=evaluate, folder=folder)


def test_it_learns(data, trained):
    assert set(trained.curve) == {"loss", "accuracy", "again"}
    assert [len(values) for values in trained.curve.values()] == [4, 4, 4]
    assert trained.curve["loss"][-1] < 0.5 * trained.curve["loss"][0]
    assert trainer.accuracy(trained.model, *data) > 0.9


def test_the_last_epoch_is_returned(data, trained):
    assert trained.curve["again"][-1] == trainer.accuracy(trained.model, *data)


def test_seconds_tell_compilation_apart(trained):
    assert set(trained.seconds) == {"compile", "train", "evaluate"}
    assert all(seconds > 0 for seconds in trained.seconds.values())


def test_same_seed_same_curve(data, trained):
    again = trainer.train(Net(), *data, RECIPE, seed=0)
    other = trainer.train(Net(), *data, RECIPE, seed=1)
    assert again.curve["loss"] == trained.curve["loss"]
    assert other.curve["loss"] != trained.curve["loss"]


def test_images_can_change_with_the_epoch(data):
    seen = []

    def augment(images, rng):
        seen.append(rng.normal())
        return np.zeros_like(images)

    zeros = trainer.train(Net(), *data, RECIPE, seed=0, augment=augment)
    assert len(set(seen)) == RECIPE.epochs
    assert zeros.curve["accuracy"][-1] < 0.6  # nothing to see: no more than the commonest class


def test_given_model_stays_as_it_was(data):
    model = Net()
    before = jax.tree.map(np.array, nnx.state(model, (nnx.Param, nnx.BatchStat)))
    trainer.train(model, *data, RECIPE, seed=0)
    after = nnx.state(model, (nnx.Param, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_checkpoint_round_trip(data, trained, folder):
    restored = trainer.restore(Net(seed=5), folder, RECIPE, steps=6)
    np.testing.assert_array_equal(restored(data[0]), trained.model(data[0]))


def test_checkpoints_at_the_asked_epochs(folder, trained):
    assert sorted(entry.name for entry in folder.iterdir() if entry.name.isdigit()) == ["3", "4"]


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere: train first"):
        checkpoints.restore(tmp_path / "nowhere", nnx.state(Net()))
    assert not (tmp_path / "nowhere").exists()


def test_too_few_images(data):
    with pytest.raises(ValueError, match=r"batch_size \(=8\) must not exceed the 5 training"):
        trainer.train(Net(), data[0][:5], data[1][:5], RECIPE, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"epochs \(=0\) must be at least 1"),
        ({"batch_size": 0}, r"batch_size \(=0\) must be at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate \(=0.0\) must be above 0"),
        ({"warmup": 1.0}, r"warmup \(=1.0\) must lie in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing \(=-0.1\) must lie in"),
    ],
)
def test_recipes_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        recipes.Recipe(**options)
