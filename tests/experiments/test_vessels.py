"""Segmentation of vessels: scores, splits, tuning, a whole run, and going on with one."""

import dataclasses
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats
from sklearn import metrics

from benchmarks import vessels as documents
from experiments import (
    classification,
    loop,
    recipes,
    runs,
    segmentation,
    specs,
    trainer,
    vessels,
    zoo,
)
from experiments.augment import Lighting
from experiments.checkpoints import Checkpoints
from experiments.datasets import drive

slow = pytest.mark.slow

HEIGHT, WIDTH = 24, 20
NAMES = ("pde_6", "cnn_6")
RECIPE = recipes.Recipe(epochs=2, batch_size=4, learning_rate=0.05, checkpoint_every=1)


class Net(nnx.Module):
    """Two convolutions and a norm."""

    def __init__(self, features, *, in_features, dtype, rngs):
        options: Any = dict(kernel_init=nnx.initializers.normal(0.3), dtype=dtype, rngs=rngs)
        self.conv = nnx.Conv(in_features, features, (3, 3), **options)
        self.norm = nnx.BatchNorm(features, dtype=dtype, rngs=rngs)
        self.head = nnx.Conv(features, 1, (1, 1), **options)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))))


def retinas(count, seed):
    """Return dark lines on noise, in a round field of view."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    inside = (row - 11.5) ** 2 + (column - 9.5) ** 2 < 90
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    vessels = np.abs(np.sin(angle) * (row - 11) + np.cos(angle) * (column - 9)) < 1.5
    images = rng.integers(120, 200, (count, HEIGHT, WIDTH, 3)) - 70 * vessels[..., None]
    images[:, ~inside] = 0
    return drive.Retinas(images.astype(np.uint8), vessels, np.stack([inside] * count))


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        for features, name in enumerate(NAMES, 2):
            patch.setitem(zoo.SEGMENTERS, name, lambda f=features, **options: Net(f, **options))
        patch.setattr(drive, "load", lambda *_: (retinas(6, 0), retinas(3, 1)))
        yield patch


@pytest.fixture(scope="module")
def config(patch):
    return vessels.Config(training=RECIPE, steps=6, patch=12, held_out=2, pictures=1)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, vessels.main(dataclasses.replace(config, out=folder, seeds=(3, 5)))


# ------------------------------------------------------------------------------------------ scores


@pytest.fixture(scope="module")
def said():
    rng = np.random.default_rng(2)
    truth, inside = retinas(3, 1)[1:]
    probability = np.clip(0.3 * truth + rng.uniform(0, 0.7, truth.shape), 0, 1)
    return probability, truth, inside


def test_scores_are_those_of_scikit_learn(said):
    probability, truth, inside = (array[0] for array in said)
    found = segmentation.scores(probability, truth, inside)
    answers, right = probability[inside] > 0.5, truth[inside]
    assert set(found) == set(segmentation.SCORES)
    assert found["dice"] == pytest.approx(metrics.f1_score(right, answers))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(right, answers))
    assert found["sensitivity"] == pytest.approx(metrics.recall_score(right, answers))
    assert found["specificity"] == pytest.approx(metrics.recall_score(~right, ~answers))
    higher = (probability[inside & truth][:, None] > probability[inside & ~truth]).mean()
    assert found["auc"] == pytest.approx(higher)


def test_scores_do_not_see_what_is_outside(said):
    probability, truth, inside = said
    other = np.where(inside, probability, 1 - probability)
    assert segmentation.report(other, truth, inside) == segmentation.report(*said)
    everywhere = np.ones_like(inside)
    first, second = (segmentation.report(p, truth, everywhere) for p in (probability, other))
    assert first != second  # the control


def test_means_of_images_and_pooled_pixels(said):
    report = segmentation.report(*said)
    each = [segmentation.scores(*one) for one in zip(*said, strict=True)]
    assert report["images"] == each
    for name in segmentation.SCORES:
        assert report["mean"][name] == pytest.approx(np.mean([one[name] for one in each]))
    flat = [array.ravel() for array in said]
    assert report["pooled"] == segmentation.scores(*flat)


def test_an_image_without_vessels_is_refused(said):
    with pytest.raises(ValueError, match="vessels must be marked at some of the pixels"):
        segmentation.scores(said[0][0], np.zeros_like(said[1][0]), said[2][0])


def test_probabilities_of_images_one_at_a_time():
    shapes = []

    class Looks(nnx.Module):
        def __call__(self, x):
            shapes.append(x.shape)
            return x[..., :1]

    images = np.random.default_rng(0).integers(0, 256, (2, 7, 10, 3), np.uint8)
    found = segmentation.probabilities(Looks(), images, normalise=_doubled)
    assert shapes == [(1, 7, 10, 3)] and found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(images[..., 0] / -127.5)), rtol=1e-6)


def _doubled(images):
    return 2 * images


def test_overlay_colours_what_was_found(said):
    probability, truth, inside = (array[0] for array in said)
    image = retinas(1, 1).images[0]
    found = segmentation.overlay(image, probability, truth, inside)
    answers = probability > 0.5
    for name, region in (
        ("found", answers & truth),
        ("false", answers & ~truth),
        ("missed", ~answers & truth),
    ):
        colour = tuple(bytes.fromhex(segmentation.COLOURS[name][1:]))
        region &= inside
        assert region.any()
        np.testing.assert_array_equal(np.all(found == colour, axis=-1), region)
    rest = ~(inside & (answers | truth))
    assert np.all(np.ptp(found[rest].astype(int), axis=-1) == 0)


# ------------------------------------------------------------------------------------------- parts


def test_held_out_photographs_are_always_the_same(config):
    numbered = retinas(6, 0)
    numbered.images[:, 0, 0, 0] = np.arange(6)
    whole = vessels.parts(config, numbered, retinas(3, 1))
    assert len(whole[0].images) == 6 and len(whole[1].images) == 3
    some = dataclasses.replace(config, validate=True, seeds=(8,), limit_test=1)
    stay, measured = vessels.parts(some, numbered, retinas(3, 1))
    again, held_out = vessels.split(numbered, 2)
    np.testing.assert_array_equal(stay.images, again.images)
    np.testing.assert_array_equal(measured.images, held_out.images[:1])
    seen = np.concatenate([part.images[:, 0, 0, 0] for part in (stay, held_out)])
    assert sorted(seen) == list(range(6))


def test_too_many_are_held_out():
    with pytest.raises(ValueError, match=r"held_out \(=6\) must be below the 6 photographs"):
        vessels.split(retinas(6, 0), 6)


def test_normalisation_is_that_of_what_is_inside():
    some = retinas(6, 0)
    pixels = some.images[some.field_of_view] / 255
    found = vessels.normalisation(some)
    np.testing.assert_allclose(found.mean, pixels.mean(0))
    np.testing.assert_allclose(found.std, pixels.std(0))


# -------------------------------------------------------------------------------------------- runs


def test_record(run, config):
    folder, result = run
    found = json.loads((folder / runs.RESULT).read_text())
    assert found["name"] == "vessels" and found["seeds"] == [3, 5]
    assert set(found["metrics"]) == {"pde_6", "differences", "data"}
    assert found["metrics"]["data"] == {"name": "DRIVE", "measured on": "test", "photographs": 3}
    of = found["metrics"]["pde_6"]
    assert of["parameters"] == 27 * 2 + 2 + 4 + 3
    assert of["steps"] == [6, 6] and of["planned steps"] == 6
    assert of["learning rate"] == 0.05 and of["tried"] == {}
    for name in segmentation.SCORES:
        rows = np.array(of["photographs"][name])
        assert rows.shape == (2, 3)
        np.testing.assert_allclose(of["mean of photographs"][name]["seeds"], rows.mean(1))
        assert of["mean of photographs"][name]["worst"] == pytest.approx(rows.mean(1).min())
        assert len(of["pooled"][name]["seeds"]) == 2
    assert set(of["seconds"]) == {"train", "compile", "test"}
    for curve in found["curve"]["pde_6"]:
        assert set(curve) == {"loss", "dice", "learning_rate"} and len(curve["loss"]) == 2


def test_the_docs_show_what_a_record_holds(run):
    found = json.loads((run[0] / runs.RESULT).read_text())
    dice = found["metrics"]["pde_6"]["mean of photographs"]["dice"]
    how, _, *rows, _ = documents.lines([found])
    assert how.startswith("**Equal steps**, 4 patches of 12 pixels a step, 2 seeds; 3 test phot")
    assert rows[0] == "|  | pde_6 |" and "| parameters | 63 |" in rows
    words = "{mean:.4f} +- {std:.4f} (worst {worst:.4f})".format(**dice)
    assert f"| Dice | {words} |" in rows
    timed = found | {"config": found["config"] | {"seconds": 60.0, "tune": [0.01], "patch": None}}
    how = documents.lines([timed])[0]
    assert how.startswith("**Equal time, 60 seconds of training a seed**, 4 whole photographs a s")
    assert "learning rates tuned among 0.01 in 200 steps each" in how


def test_files(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.json", "networks.json", "result.json", "training.png", "checkpoints"),
        "overlay-01.png",
    }


def test_scores_are_those_of_the_stored_network_on_the_test_set(run):
    folder, result = run
    stored = specs.find(folder)[1]
    tests, train = retinas(3, 1), retinas(6, 0)
    pixels = train.images[train.field_of_view] / 255
    x = jnp.asarray((tests.images / 255 - pixels.mean(0)) / pixels.std(0), jnp.float32)
    logits = np.asarray(stored.restore()(x))[..., 0]
    dice = [
        metrics.f1_score(truth[inside], one[inside] > 0)
        for one, truth, inside in zip(logits, *tests[1:], strict=True)
    ]
    assert stored.seed == 5
    np.testing.assert_allclose(result.metrics["pde_6"]["photographs"]["dice"][1], dice)


def stopped_at(patch, step, config):
    """Run until a checkpoint of this step is saved, and then fail."""
    save = Checkpoints.save

    def fails(self, at, *args):
        save(self, at, *args)
        if at == step:
            raise RuntimeError("the power is off")

    with patch.context() as inner, pytest.raises(RuntimeError, match="power"):
        inner.setattr(Checkpoints, "save", fails)
        vessels.main(config)


@slow
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(config, patch, run, tmp_path):
    folder = tmp_path / "run"
    stopped = dataclasses.replace(config, out=folder, seeds=(3, 5))
    stopped_at(patch, 3, stopped)
    assert not (folder / runs.RESULT).exists()
    result = vessels.main(dataclasses.replace(stopped, resume=folder))
    whole = run[1]
    assert result.curve == whole.curve
    for key in ("photographs", "pooled", "steps"):
        assert result.metrics["pde_6"][key] == whole.metrics["pde_6"][key]


@slow
def test_networks_are_tuned_and_compared(config, patch, tmp_path):
    options = dict(compare=("cnn_6",), tune=(1e-3, 0.05), tune_steps=3, seeds=(0, 1, 2))
    tried = []
    train = trainer.train

    def watch(model, images, *args, **options):
        tried.append((type(model), len(images), args[1].learning_rate, options["seed"]))
        return train(model, images, *args, **options)

    folder = tmp_path / "run"
    with patch.context() as inner:
        inner.setattr(trainer, "train", watch)
        result = vessels.main(dataclasses.replace(config, out=folder, **options))
    assert tried == [(Net, 4, rate, 0) for rate in (1e-3, 0.05)] * 2
    for name in NAMES:
        found = result.metrics[name]
        assert set(found["tried"]) == {"0.001", "0.05"}
        best = max(found["tried"], key=found["tried"].get)
        assert found["learning rate"] == float(best)
        assert specs.read(dict[str, specs.Spec], folder / specs.FILE)[
            name
        ].recipe.learning_rate == float(best)
    first, second = (result.metrics[n]["mean of photographs"]["auc"]["seeds"] for n in NAMES)
    difference = result.metrics["differences"]["cnn_6"]["auc"]
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    np.testing.assert_allclose(difference["interval"], expected)
    rows = vessels.difference_rows(result.metrics, NAMES)
    low, high = expected
    mean = np.mean(np.subtract(first, second))
    assert rows[0] == ["pde_6 minus", "cnn_6"]
    assert rows[2] == ["AUC", f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"]
    given = dataclasses.replace(
        config,
        rates=tuple(result.metrics[name]["learning rate"] for name in NAMES),
        **{**options, "tune": ()},
        out=tmp_path / "given",
    )
    again = vessels.main(given)
    assert again.metrics["cnn_6"]["photographs"] == result.metrics["cnn_6"]["photographs"]


def test_the_best_rate_is_chosen_and_read_again(config, patch, tmp_path):
    scores = {0.1: 0.6, 0.01: 0.8, 10.0: None}
    asked = []

    def train(model, images, targets, recipe, **options):
        asked.append(recipe.learning_rate)
        if recipe.learning_rate == 10:
            raise trainer.Diverged("the loss is nan")
        return trainer.Trained(model, {}, {}, trainer.Execution(), 3)

    def report(*_):
        return {"mean": {"dice": scores[asked[-1]]}}

    tuned = dataclasses.replace(config, tune=tuple(scores), tune_steps=3)
    path = tmp_path / "decided.json"
    with patch.context() as inner:
        inner.setattr(trainer, "train", train)
        inner.setattr(segmentation, "report", report)
        inner.setattr(segmentation, "probabilities", lambda *_: None)
        for _ in range(2):
            described = vessels.describe(tuned, retinas(6, 0), vessels.Decided(path))
            assert described["pde_6"].recipe.learning_rate == 0.01
        assert asked == list(scores)  # once
        assert json.loads(path.read_text()) == {
            f"pde_6, learning rate {rate:g}, dice": dice for rate, dice in scores.items()
        }
        alone = dataclasses.replace(tuned, tune=(10.0,))
        with pytest.raises(trainer.Diverged, match=r"pde_6 diverges at all .* \(=\(10.0,\)\)"):
            vessels.describe(alone, retinas(6, 0), vessels.Decided(path))


class Clock:
    """Moves by a second at every look at it, of which the loop takes two a step."""

    def __init__(self):
        self.seconds = 0.0

    def perf_counter(self):
        self.seconds += 1
        return self.seconds


def test_seconds_end_a_training(monkeypatch, tmp_path):
    class Mean(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones((3, 2), np.float32))

        def __call__(self, x):
            return jnp.mean(x, (1, 2)) @ self.weight[...]

    monkeypatch.setattr(loop, "time", Clock())
    images, labels = np.ones((12, 1, 1, 3), np.float32), np.zeros(12, np.int32)
    recipe = recipes.Recipe(epochs=3, batch_size=4, schedule="constant")

    def train(seconds, folder, **options):
        given: Any = dict(seed=0, seconds=seconds, folder=folder, **options)
        return trainer.train(Mean(), images, labels, recipe, **given)

    whole = train(100.0, None)  # the steps come to their end before
    assert whole.steps == 9 and whole.seconds["train"] == 9
    short = train(5.0, tmp_path)
    assert short.steps == 5 and short.seconds["train"] == 5
    assert len(short.curve["loss"]) == 2  # the second epoch has two steps of three
    assert short.curve["loss"][0] == whole.curve["loss"][0] > short.curve["loss"][1]
    assert train(5.0, tmp_path, resume=True).steps == 5
    longer = train(7.0, tmp_path, resume=True)
    assert longer.steps == 7 and longer.seconds["train"] == 7


@slow
def test_a_run_of_seconds(config, patch, tmp_path):
    with patch.context() as inner:
        inner.setattr(loop, "time", Clock())
        inner.setattr(vessels.Work, "pace", lambda *_: 0.25)
        timed = dataclasses.replace(config, seconds=5.0, out=tmp_path / "run")
        result = vessels.main(timed)
    of = result.metrics["pde_6"]
    assert of["planned steps"] == 20 and of["steps"] == [5]
    assert of["seconds"]["train"]["mean"] == 5
    (curve,) = result.curve["pde_6"]
    assert len(curve["loss"]) == 1 and np.isfinite(curve["loss"][0])
    assert specs.find(tmp_path / "run")[0].restore() is not None
    # it is finished: there is nothing to go on with, and nothing is trained when asked again
    (tmp_path / "run" / runs.RESULT).unlink()
    again = vessels.main(dataclasses.replace(timed, resume=tmp_path / "run"))
    assert again.metrics["pde_6"]["photographs"] == of["photographs"]
    assert again.metrics["pde_6"]["steps"] == [5]


@slow
def test_it_learns_on_whole_photographs(config, tmp_path):
    training = dataclasses.replace(RECIPE, epochs=4, batch_size=2)
    some = dataclasses.replace(
        config,
        training=training,
        steps=80,
        patch=None,
        validate=True,
        out=tmp_path / "run",
    )
    result = vessels.main(some)
    assert result.metrics["data"]["measured on"] == "held-out"
    assert result.metrics["pde_6"]["mean of photographs"]["dice"]["mean"] > 0.8


def test_a_request_to_stop_is_answered_with_the_command_that_goes_on(config, patch, tmp_path):
    def stop(*_, **__):
        raise trainer.Interrupted("stopped after step 3 of 6, which is saved.")

    with patch.context() as inner:
        inner.setattr(trainer, "train_seeds", stop)
        with pytest.raises(trainer.Interrupted, match=r"vessels --resume .*/run$"):
            vessels.main(dataclasses.replace(config, out=tmp_path / "run"))


@pytest.mark.parametrize("name", vessels.RECIPES)
def test_options_are_read_back_as_they_were(name, tmp_path, monkeypatch):
    given = dataclasses.replace(
        vessels.RECIPES[name], compare=("cnn_6", "gcnn_6"), rates=(1e-3, 3e-3, 0.01), limit_test=2
    )
    runs.save_config(tmp_path, given)
    assert specs.read(vessels.Config, tmp_path / runs.CONFIG) == given
    monkeypatch.setattr(sys, "argv", ["vessels", "--resume", str(tmp_path)])
    assert classification.starting_options(vessels.Config, vessels.RECIPES) == given
    monkeypatch.setattr(sys, "argv", ["vessels", "--recipe", name, "--steps", "40"])
    assert classification.starting_options(vessels.Config, vessels.RECIPES) == vessels.RECIPES[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare": ("pde_6",)}, r"compare \(=\('pde_6',\)\) must name networks that differ"),
        ({"seeds": (1, 1)}, r"seeds \(=\(1, 1\)\) must be different numbers"),
        ({"held_out": 0}, r"held_out \(=0\) must be at least 1"),
        ({"steps": 30}, r"steps \(=30\) must be a multiple of recipe.epochs \(=20\)"),
        ({"seconds": 0.0}, r"seconds \(=0.0\) must be above 0"),
        (
            {"seconds": 1.0, "execution": trainer.Execution()},
            r"execution.together \(=None\) must be False",
        ),
        ({"training": recipes.Recipe(epochs=1, label_smoothing=0.1)}, "is for classes; pass 0"),
        ({"tune": (0.0,)}, r"tune \(=\(0.0,\)\) .* must be above 0"),
        ({"rates": (0.1, 0.1)}, r"rates \(=\(0.1, 0.1\)\) must be one for each"),
        ({"rates": (0.1,), "tune": (0.1,)}, "go without tune"),
    ],
)
def test_options_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        vessels.Config(**options)


# ---------------------------------------------------------------------------------------- lighting


def test_lighting_is_a_factor_and_a_sum_for_each_image():
    images = np.random.default_rng(0).uniform(size=(40, 3, 4, 3))
    found = np.asarray(Lighting(0.3, 0.1)(jax.random.key(0), jnp.asarray(images)))
    factors, sums = [], []
    for before, after in zip(images, found, strict=True):
        factor, add = np.polyfit(before.ravel(), after.ravel(), 1)
        np.testing.assert_allclose(after, factor * before + add, atol=1e-12)
        factors.append(factor)
        sums.append(add)
    assert 0.7 <= min(factors) < 0.8 and 1.2 < max(factors) <= 1.3
    assert -0.1 <= min(sums) < -0.05 and 0.05 < max(sums) <= 0.1
    assert abs(np.corrcoef(factors, sums)[0, 1]) < 0.5
    np.testing.assert_array_equal(Lighting()(jax.random.key(0), jnp.asarray(images)), images)


@pytest.mark.parametrize("name", ["contrast", "brightness"])
def test_lighting_checks_itself(name):
    with pytest.raises(ValueError, match=rf"{name} \(=1.0\) must lie in"):
        Lighting(**{name: 1.0})
