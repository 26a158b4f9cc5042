"""What the classification experiments share: parts, measures, runs, and going on with them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import pdo_jax as pdo
from experiments import cifar, classification, images, mnist_rot, runs, specs, trainer
from experiments.augment import Augmentation
from experiments.classification import Probes
from experiments.results import write_json
from tests.experiments import tiny

slow = pytest.mark.slow  # for the tests of one run with two networks, which mostly compiles

SETTINGS = dict(
    training=tiny.RECIPE,
    network=tiny.NETWORK,
    elements="p4",
    seeds=(3, 5),
    execution=trainer.Execution(together=True),  # compiled once
)


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch, tiny.dataset())
        yield patch


@pytest.fixture(scope="module")
def config(patch):
    return mnist_rot.Config(**SETTINGS, augmentation=Augmentation(shift=0.5))


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    whole = dataclasses.replace(
        config, out=folder, compare=tiny.NETWORK, compare_options={"copies": 2}
    )
    return folder, mnist_rot.main(whole)


@slow
def test_record(run):
    folder, result = run
    found = json.loads((folder / runs.RESULT).read_text())
    assert found["seeds"] == [3, 5]
    assert found["config"]["network"] == tiny.NETWORK
    assert set(found["metrics"]) == {"tiny", "tiny-2", "difference", "data"}
    for label, count in (("tiny", 15), ("tiny-2", 27)):
        metrics = found["metrics"][label]
        assert metrics["parameters"] == count
        assert len(metrics["error"]["seeds"]) == 2 and metrics["error"]["mean"] < 40
        assert len(metrics["equivariance_error"]) == 4
        for curve in found["curve"][label]:
            assert set(curve) == {"loss", "accuracy", "learning_rate", "equivariance_error"}
            assert len(curve["loss"]) == 4
    first, second = (found["metrics"][label]["error"]["seeds"] for label in ("tiny", "tiny-2"))
    np.testing.assert_allclose(found["metrics"]["difference"]["seeds"], np.subtract(first, second))
    assert found["metrics"]["data"]["measured on"] == "test"
    assert result.name == "mnist_rot"


@slow
def test_files(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    files = {"config.json", "networks.json", "data.json", "result.json", "training.png"}
    assert names == files | {"checkpoints"}


@slow
def test_error_is_that_of_the_stored_network_on_the_test_set(run):
    folder, result = run
    tests = tiny.dataset().test
    mean, std = (f(tiny.dataset().train.images / 255) for f in (np.mean, np.std))
    for stored in specs.find(folder):
        x = jnp.asarray((tests.images / 255 - mean) / std, jnp.float32)
        wrong = np.argmax(np.asarray(stored.restore()(x)), -1) != tests.labels
        at = result.seeds.index(stored.seed)
        assert result.metrics[stored.label]["error"]["seeds"][at] == pytest.approx(
            100 * np.mean(wrong)
        )


def test_parts_are_disjoint_and_classes_have_equal_shares(config):
    numbered = tiny.dataset()
    numbered.train.images[:, 0, 0, 0] = np.arange(90)
    whole = classification.parts(config, numbered)
    assert whole[0] is numbered.train and whole[1] is numbered.test
    some = dataclasses.replace(config, validate=True, held_out=30, limit=30)
    train, held_out = classification.parts(some, numbered)
    again, _ = classification.parts(dataclasses.replace(some, seeds=(8,)), numbered)
    np.testing.assert_array_equal(train.images, again.images)
    seen = np.concatenate([part.images[:, 0, 0, 0] for part in (train, held_out)])
    assert len(set(seen)) == 60
    for part in (train, held_out):
        np.testing.assert_array_equal(np.bincount(part.labels), [10, 10, 10])


@pytest.mark.parametrize("options", [{"limit": 90}, {"limit": 60, "validate": True}])
def test_all_images_are_a_limit(config, options):
    some = dataclasses.replace(config, **{"held_out": 30, **options})
    assert len(classification.parts(some, tiny.dataset())[0].labels) == options["limit"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 91}, r"limit \(=91\) must be from 3 to 87: of the 90 images"),
        ({"limit": 2}, r"limit \(=2\) must be from 3 to 87"),
        ({"validate": True, "held_out": 90}, r"held_out \(=90\) must be from 3 to 87"),
    ],
)
def test_more_images_than_there_are(config, options, message):
    with pytest.raises(ValueError, match=message):
        classification.parts(dataclasses.replace(config, **options), tiny.dataset())


def test_probes_measure_the_equivariance_error(config):
    spec = classification.describe(config, tiny.CLASSES, tiny.part(30).images)[tiny.NETWORK]
    model = spec.build(0)
    model.eval()
    some = tiny.part(5)
    found = Probes.of(some.images, "p8").error(model, spec.normalisation)
    x = jnp.asarray(some.images / 255, jnp.float32)
    whole = jax.jit(lambda x: model(spec.normalisation(x)))
    expected = pdo.equivariance_error(whole, x, "p8", output_kind="invariant")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found[0] == 0 and found[2] > 1e-3


def test_probes_are_moved_in_the_plane():
    with pytest.raises(ValueError, match=r"elements \(='O'\) must be a group of the plane"):
        Probes.of(tiny.part(5).images, "O")


def test_a_run_is_replaced_only_by_one_that_begins(config, tmp_path):
    """What options and data do not allow is found before anything of the old run is removed."""
    runs.save_config(tmp_path, config)
    (tmp_path / runs.RESULT).write_text("{}")
    for wrong in ({"limit": 1000}, {"network_options": {"copies": -1}}):
        with pytest.raises((ValueError, TypeError)):
            mnist_rot.main(dataclasses.replace(config, out=tmp_path, overwrite=True, **wrong))
        assert (tmp_path / runs.RESULT).exists()


def test_difference_is_students_interval():
    first, second = [2.0, 2.3, 2.1], [2.6, 2.5, 2.9]
    found = classification.difference(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    np.testing.assert_allclose(found["interval"], expected)
    assert found["mean"] == pytest.approx(np.mean(first) - np.mean(second))
    assert classification.difference([1.0], [2.0])["interval"] is None


# --------------------------------------------------------------------------------------- going on


@slow
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(config, patch, run, tmp_path):
    calls = iter(range(100))
    error = Probes.error

    def fails(self, *args):
        if next(calls) == 2 * (4 + 1) + 4:  # seeds, epochs and the end; the second network's third
            raise RuntimeError("the power is off")
        return error(self, *args)

    folder = tmp_path / "run"
    options = dict(out=folder, compare=tiny.NETWORK, compare_options={"copies": 2})
    stopped = dataclasses.replace(config, **options)
    with patch.context() as inner:
        inner.setattr(Probes, "error", fails)
        with pytest.raises(RuntimeError, match="power"):
            mnist_rot.main(stopped)
    assert not (folder / runs.RESULT).exists()
    result = mnist_rot.main(dataclasses.replace(stopped, resume=folder))
    _, whole = run
    assert result.curve == whole.curve
    for label in ("tiny", "tiny-2"):
        assert result.metrics[label]["error"] == whole.metrics[label]["error"]


@slow
def test_going_on_keeps_the_options(config, run):
    folder, _ = run
    with pytest.raises(ValueError, match=r"goes on with .* training.epochs was 4 and is 9;"):
        changed = dataclasses.replace(tiny.RECIPE, epochs=9)
        mnist_rot.main(dataclasses.replace(config, out=folder, resume=folder, training=changed))


def test_going_on_with_what_is_no_run(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not the folder of a run: it has no config"):
        mnist_rot.main(dataclasses.replace(config, resume=tmp_path))


def test_a_request_to_stop_is_answered_with_the_command_that_goes_on(config, patch, tmp_path):
    def stop(*_, **__):
        raise trainer.Interrupted("stopped after step 3 of 36, which is saved.")

    with patch.context() as inner:
        inner.setattr(trainer, "train_seeds", stop)
        with pytest.raises(trainer.Interrupted, match=r"mnist_rot --resume .*/run$"):
            mnist_rot.main(dataclasses.replace(config, out=tmp_path / "run"))


@pytest.mark.parametrize(
    "given",
    [
        *mnist_rot.RECIPES.values(),
        *cifar.RECIPES.values(),
        images.Config(folder="there", network_options={"group": "p4", "size": "large"}),
    ],
    ids=lambda given: f"{given.experiment}-{getattr(given, 'recipe', '')}",
)
def test_options_are_read_back_as_they_were(given, tmp_path):
    write_json(tmp_path / "config.json", given)
    again = specs.read(type(given), tmp_path / "config.json")
    assert dataclasses.asdict(again) == dataclasses.asdict(
        dataclasses.replace(given, **{"folder": again.folder} if hasattr(given, "folder") else {})
    )


@pytest.mark.parametrize("text", ["{", '{"unknown": 1}'])
def test_options_of_another_version_are_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="written by another version or damaged"):
        specs.read(mnist_rot.Config, tmp_path / "config.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, r"seeds \(=\(\)\) must be different numbers, one at least"),
        ({"seeds": (1, 1)}, r"seeds \(=\(1, 1\)\) must be different numbers"),
        ({"limit": 0}, r"limit \(=0\) must be at least 1"),
        ({"network": "resnet"}, "network 'resnet' is not known; did you mean 'resnet"),
        ({"compare": "mnist_cnn", "compare_options": {"group": "p4"}}, "options of mnist_cnn"),
        ({"elements": "O"}, r"elements \(='O'\) must be a group of the plane"),
    ],
)
def test_options_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        mnist_rot.Config(**options)
