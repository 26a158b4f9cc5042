"""Using a trained network: from the folder of its run alone, on one picture and on data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import datasets, evaluate, mnist_rot, predict, specs, trainer, zoo
from tests.experiments import tiny


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch, dataclasses.replace(tiny.dataset(), test=None))  # it stays untouched
        yield patch


@pytest.fixture(scope="module")
def run(patch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    config = mnist_rot.Config(
        training=tiny.RECIPE,
        network=tiny.NETWORK,
        network_options={"copies": 2},
        seeds=(4, 2),
        elements="p4",
        validate=True,
        held_out=30,
        execution=trainer.Execution(together=True),
        out=folder,
    )
    return folder, mnist_rot.main(config)


@pytest.fixture
def picture(tmp_path):
    """Save a light image, four times as large and in colour."""
    image = tiny.part(3).images[2]
    large = image.repeat(4, 0).repeat(4, 1).repeat(3, -1)
    Image.fromarray(large).save(tmp_path / "light.png")
    return tmp_path / "light.png"


def test_validation_reports_on_what_is_held_out(run):
    _, result = run
    assert result.metrics["data"]["measured on"] == "held-out"
    last = [100 * (1 - curve["held_out"][-1]) for curve in result.curve[tiny.NETWORK]]
    np.testing.assert_allclose(result.metrics[tiny.NETWORK]["error"]["seeds"], last)


def test_a_segmenter_is_refused(run, picture, monkeypatch):
    monkeypatch.setitem(zoo.SEGMENTERS, tiny.NETWORK, None)
    with pytest.raises(
        ValueError, match=r"run \(=.*\) holds .*, which says something of every pix"
    ):
        predict.main(predict.Config(run=run[0], picture=picture))


def test_prediction(run, picture, capsys):
    folder, _ = run
    found = predict.main(predict.Config(run=folder, picture=picture, top=2))
    assert list(found)[0] == "light"
    assert sum(found.values()) == pytest.approx(1)
    text = capsys.readouterr().out
    assert "by tiny, seed 4" in text and "light" in text and "dark" not in text


def test_probabilities_are_those_of_the_network(run, picture):
    folder, _ = run
    stored = specs.find(folder)[1]
    place = folder / "checkpoints" / tiny.NETWORK / "seed-2"
    found = predict.main(predict.Config(run=place, picture=picture))
    grey = Image.open(picture).resize((8, 8), Image.Resampling.BICUBIC).convert("L")
    x = stored.spec.normalisation(jnp.asarray(grey, jnp.float32)[None, ..., None] / 255)
    expected = jax.nn.softmax(stored.restore()(x))[0]
    np.testing.assert_allclose([found[name] for name in tiny.CLASSES], expected, atol=2e-3)


def test_inverted(run, picture):
    found = predict.main(predict.Config(run=run[0], picture=picture, invert=True))
    assert list(found)[0] == "dark"


def test_parts_of_a_run_are_found(run):
    folder, _ = run
    assert [(s.label, s.seed) for s in specs.find(folder)] == [("tiny", 4), ("tiny", 2)]
    network = folder / "checkpoints" / tiny.NETWORK
    assert [s.seed for s in specs.find(network)] == [4, 2]
    assert [s.seed for s in specs.find(network / "seed-2")] == [2]
    (network / "seed-9").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*seed-9 yet"):
        specs.find(network / "seed-9")


def test_other_folders_are_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not the folder of a run, nor one in it"):
        specs.find(tmp_path)


def test_evaluation_gives_what_the_run_gave(run, patch, capsys):
    folder, result = run
    found = evaluate.main(evaluate.Config(run=folder, elements="p4"))[tiny.NETWORK]
    assert [f["error"] for f in found] == result.metrics[tiny.NETWORK]["error"]["seeds"]
    expected = result.metrics[tiny.NETWORK]["equivariance_error"]
    np.testing.assert_allclose(np.mean([f["equivariance_error"] for f in found], 0), expected)
    assert "30 images" in (text := capsys.readouterr().out) and "held-out error" in text


def test_evaluation_on_other_data(run, patch):
    folder, _ = run
    dark = dataclasses.replace(
        tiny.dataset(), test=tiny.part(30)._replace(labels=np.zeros(30, int))
    )
    with patch.context() as inner:
        inner.setattr(datasets, "load", lambda *_: dark)
        found = evaluate.main(evaluate.Config(run=folder, data="dark", elements="p4"))
    assert all(f["error"] > 50 for f in found[tiny.NETWORK])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a", "b", "c")}, "has the classes a, b, c, but tiny knows dark, grey, light"),
        ({"test": datasets.Part(np.zeros((2, 9, 9, 1), np.uint8), np.zeros(2, int))}, "of shape"),
    ],
)
def test_data_that_do_not_fit_are_refused(run, patch, change, message):
    other = dataclasses.replace(tiny.dataset(), **change)
    with patch.context() as inner:
        inner.setattr(datasets, "load", lambda *_: other)
        with pytest.raises(ValueError, match=message):
            evaluate.main(evaluate.Config(run=run[0], data="other"))


def test_top_checks_itself():
    with pytest.raises(ValueError, match=r"top \(=0\) must be at least 1"):
        predict.Config(run="r", picture="p", top=0)
