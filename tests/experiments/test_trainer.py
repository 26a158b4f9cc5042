"""The loop: it learns, repeats, leaves the given model alone, and keeps what it saves."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import recipes, step, trainer

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
    assert set(trained.curve) == {"loss", "accuracy", "learning_rate", "again"}
    assert [len(values) for values in trained.curve.values()] == [4, 4, 4, 4]
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


def test_images_are_prepared_inside_the_step(data):
    """uint8 pixels come as shares of 255; every step has a key of its own; then they are scaled."""
    pixels = np.full((16, 2, 2, 3), 51, np.uint8)
    seen = []

    def augment(key, images):
        jax.debug.callback(lambda *a: seen.append([np.asarray(v) for v in a]), key, images)
        return images

    def normalise(images):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), images)
        return images - 1

    recipe = dataclasses.replace(RECIPE, epochs=2)
    labels = np.arange(16, dtype=np.int32) % 3
    trainer.train(Net(), pixels, labels, recipe, seed=0, augment=augment, normalise=normalise)
    jax.effects_barrier()
    keys = [str(one[0]) for one in seen if isinstance(one, list)]
    assert len(set(keys)) == len(keys) == 4
    images = [one[1] if isinstance(one, list) else one for one in seen]
    for image in images:
        np.testing.assert_allclose(image, 0.2, rtol=1e-6)


def test_nothing_is_learned_from_nothing(data):
    zeros = trainer.train(Net(), *data, RECIPE, seed=0, augment=lambda _, images: 0 * images)
    assert zeros.curve["accuracy"][-1] < 0.6  # no more than the commonest class


def test_every_image_is_seen_once_an_epoch(data):
    images = np.arange(48, dtype=np.float32).reshape(48, 1, 1, 1) * np.ones(
        (1, 2, 2, 3), np.float32
    )
    seen = []

    def augment(_, some):
        jax.debug.callback(lambda x: seen.extend(np.asarray(x)[:, 0, 0, 0].tolist()), some)
        return some

    recipe = dataclasses.replace(RECIPE, epochs=2)
    trainer.train(Net(), images, data[1][:48], recipe, seed=0, augment=augment)
    jax.effects_barrier()
    first, second = seen[:48], seen[48:]
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second and first != sorted(first)


def test_given_model_stays_as_it_was(data):
    model = Net()
    before = jax.tree.map(np.array, nnx.state(model, (nnx.Param, nnx.BatchStat)))
    trainer.train(model, *data, RECIPE, seed=0)
    after = nnx.state(model, (nnx.Param, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_checkpoint_round_trip(data, trained, folder):
    restored = trainer.restore(Net(seed=5), folder, RECIPE)
    np.testing.assert_array_equal(restored(data[0]), trained.model(data[0]))


def test_checkpoints_at_the_asked_epochs(folder, trained):
    """Every third epoch of six steps, and the end."""
    assert sorted(entry.name for entry in folder.iterdir() if entry.name.isdigit()) == ["18", "24"]


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere: train first"):
        trainer.restore(Net(), tmp_path / "nowhere", RECIPE)
    assert not (tmp_path / "nowhere").exists()


def test_numbers_that_are_not_measured_every_epoch(data):
    answers = iter([{}, {"odd": 1.0}, {}, {"odd": 2.0}])
    curve = trainer.train(Net(), *data, RECIPE, seed=0, evaluate=lambda _: next(answers)).curve
    np.testing.assert_array_equal(curve["odd"], [np.nan, 1, np.nan, 2])


def test_the_average_of_the_weights_is_what_is_evaluated(data):
    recipe = dataclasses.replace(RECIPE, ema=0.9)
    averaged = trainer.train(Net(), *data, recipe, seed=0)
    plain = trainer.train(Net(), *data, RECIPE, seed=0)
    assert averaged.curve["loss"] == plain.curve["loss"]  # it takes no part in training
    assert np.any(averaged.model.head.kernel[...] != plain.model.head.kernel[...])


@pytest.mark.parametrize(("together", "fused"), [(True, None), (False, 4)])
def test_seeds_together_or_apart(data, trained, tmp_path, together, fused):
    """Seed i of several is what it would be alone, and can be restored alone."""
    execution = trainer.Execution(together=together, fused=fused)
    several = trainer.train_seeds(
        Net, *data, RECIPE, seeds=[3, 0], folder=tmp_path, execution=execution
    )
    one = several[1]
    np.testing.assert_allclose(one.curve["loss"], trained.curve["loss"], rtol=2e-5)
    assert np.abs(np.subtract(several[0].curve["loss"], trained.curve["loss"])).max() > 0.01
    logits = trainer.logits(one.model, data[0])
    np.testing.assert_allclose(logits, trained.model(data[0]), atol=2e-5)
    restored = trainer.restore(Net(9), trainer.seed_folder(tmp_path, 0), RECIPE)
    np.testing.assert_array_equal(trainer.logits(restored, data[0]), logits)
    assert one.execution == trainer.Execution(together=together, fused=fused or 1)


@pytest.mark.slow
def test_what_was_chosen_for_several_seeds_is_kept(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    first = trainer.train_seeds(Net, *data, recipe, seeds=[0, 1], folder=tmp_path)
    chosen = json.loads((tmp_path / "choices.json").read_text())["together"]
    assert first[0].execution.together is chosen
    (tmp_path / "choices.json").write_text(json.dumps({"together": not chosen, "fused": 1}))
    again = trainer.train_seeds(Net, *data, recipe, seeds=[0, 1], folder=tmp_path, resume=True)
    assert again[0].execution.together is not chosen


def test_seeds_apart_share_a_program(data, monkeypatch):
    compiled = []
    whole = step.Program.compile
    monkeypatch.setattr(
        step.Program, "compile", lambda self, *a: compiled.append(self) or whole(self, *a)
    )
    execution = trainer.Execution(together=False)
    recipe = dataclasses.replace(RECIPE, epochs=1)
    trainer.train_seeds(Net, *data, recipe, seeds=[0, 1], execution=execution)
    assert len(compiled) == 1


@pytest.mark.parametrize("together", [True, False])
def test_what_seeds_have_left_is_not_replaced_or_mixed_in(data, tmp_path, together):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    options = dict(seeds=[0, 1], folder=tmp_path)
    first, second = (trainer.Execution(together=t) for t in (together, not together))
    trainer.train_seeds(Net, *data, recipe, execution=first, **options)
    with pytest.raises(FileExistsError, match="seed-0.*holds checkpoints of an earlier training"):
        trainer.train_seeds(Net, *data, recipe, execution=second, **options)


def test_images_and_targets_are_as_many(data):
    with pytest.raises(ValueError, match=r"there are 24 images and 8 targets"):
        trainer.train(Net(), data[0][:24], data[1][:8], RECIPE, seed=0)


def test_seeds_must_differ(data):
    with pytest.raises(ValueError, match=r"seeds \(=\(1, 1\)\) must be one at least"):
        trainer.train_seeds(Net, *data, RECIPE, seeds=[1, 1])


def test_a_loss_that_is_no_number_stops_the_training(data, tmp_path):
    images = data[0].copy()
    images[7] = np.nan
    recipe = dataclasses.replace(RECIPE, checkpoint_every=0.5)
    with pytest.raises(trainer.Diverged, match=r"the loss is nan at step \d; .*learning_rate"):
        trainer.train(Net(), images, data[1], recipe, seed=0, folder=tmp_path)


def test_last_batches_count_every_image_once(data, trained):
    whole = trainer.logits(trained.model, data[0], batch=50)
    np.testing.assert_allclose(trainer.logits(trained.model, data[0], batch=7), whole, atol=1e-6)
    right = np.mean(np.argmax(whole, -1) == data[1])
    assert trainer.accuracy(trained.model, *data, batch=7) == right
    with pytest.raises(ValueError, match="images are empty"):
        trainer.logits(trained.model, data[0][:0])


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
        ({"ema": 1.0}, r"ema \(=1.0\) must lie in"),
        ({"accumulate": 0}, r"accumulate \(=0\) must be at least 1"),
        ({"weight_decay": -1.0}, r"weight_decay \(=-1.0\) must not be negative"),
        ({"milestones": (3.0, 1.0), "factors": (1, 1, 1)}, "must be increasing"),
        ({"milestones": (3.0,)}, r"factors \(=\(1.0,\)\) must be one more than the 1"),
    ],
)
def test_recipes_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        recipes.Recipe(**options)
