"""The demo in small: its command line, its networks, its files."""

import json
import shlex
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import tyro
from flax import nnx

import pdo_jax as pdo
from experiments import digits, networks, recipes, rotated_digits, runs
from experiments.rotated_digits import INVARIANT, PLAIN, Config

TINY = recipes.Recipe(epochs=2, batch_size=8)


slow = pytest.mark.slow  # for the tests that share one run of the whole, which mostly compiles


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = Config(TINY, (3,), "p4", (1, 1, 1, 2), limit=16, out=folder)
    return folder, rotated_digits.main(config)


@slow
def test_files_of_a_run(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    pictures = {"accuracy_by_angle.png", "training.png", "filters.png", "feature_field.png"}
    assert names == {"config.json", "result.json", "checkpoints"} | pictures
    assert len(list((folder / "checkpoints").iterdir())) == 2


@slow
def test_result(run):
    folder, result = run
    found = json.loads((folder / runs.RESULT).read_text())
    assert found["seeds"] == [3]
    assert found["config"]["group"] == "p4"
    for name in (INVARIANT, PLAIN):
        metrics = found["metrics"][name]
        assert len(metrics["by_angle"]) == 24
        assert len(metrics["equivariance_error"]) == 4
        for key in rotated_digits.ACCURACIES:
            assert set(metrics[key]) == {"mean", "std", "worst", "seeds"}
            assert metrics[key]["worst"] == min(metrics[key]["seeds"])
        assert [len(curve["loss"]) for curve in found["curve"][name]] == [2]
    assert found["seconds"]["in all"] > 0


@slow
def test_invariant_network_is_exact_at_quarter_turns(run):
    _, result = run
    assert max(result.metrics[INVARIANT]["equivariance_error"]) < 1e-5  # p4 has no others
    assert max(result.metrics[PLAIN]["equivariance_error"]) > 1e-2


@slow
def test_named_run_is_refused_before_training(run):
    folder, _ = run
    with pytest.raises(FileExistsError, match="--overwrite"):
        rotated_digits.main(Config(out=folder))


def test_networks_have_as_many_parameters():
    models = nnx.eval_shape(lambda: rotated_digits.build(Config(), 0))
    counts = [networks.count_parameters(model) for model in models.values()]
    assert abs(counts[1] / counts[0] - 1) < 0.05


def test_options_reach_the_layers():
    model: Any = nnx.eval_shape(lambda: rotated_digits.build(Config(), 0))[INVARIANT]
    expected = pdo.filter_basis(Config().group, **Config().basis)
    assert {conv.basis for conv in model.convs} == {expected}


@pytest.mark.slow
def test_features_turn_with_the_image():
    network = networks.invariant_network((2, 2, 2, 4), "p8", **Config().basis, rngs=nnx.Rngs(0))
    network.eval()
    x = jnp.asarray(digits.load()[0].images[:4])
    one_layer = jax.jit(lambda x: network.features(x, 1))
    errors = pdo.equivariance_error(one_layer, x, "p8")
    assert float(max(errors[::2])) < 1e-5
    assert 1e-3 < float(max(errors[1::2])) < 0.2


def test_command_line():
    arguments = "--seeds 1 2 --recipe.epochs 3 --out there --overwrite --features 4 4 4 8"
    config = tyro.cli(Config, args=shlex.split(arguments))
    assert config == Config(
        recipes.Recipe(epochs=3), (1, 2), features=(4, 4, 4, 8), out=Path("there"), overwrite=True
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, r"seeds \(=\(\)\) must be different numbers, one at least"),
        ({"seeds": (0, 0)}, r"seeds \(=\(0, 0\)\) must be different"),
        ({"group": "p1"}, r"group \(='p1'\) must be rotations by less than a full turn"),
        ({"group": "p4m"}, r"group \(='p4m'\) must be rotations"),
        ({"features": (1, 2)}, r"features \(=\(1, 2\)\) must be four numbers"),
        ({"features": (1, 2, 0, 1)}, "must be four numbers of at least 1"),
        ({"group": "q8"}, "group .*'q8'.* is not known"),
        ({"shift": -1.0}, r"shift \(=-1.0\) must not be negative"),
        ({"scheme": "spectral", "sigma": None}, "scheme .*'spectral'"),
        ({"limit": 0}, r"limit \(=0\) must be at least 1"),
    ],
)
def test_options_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)
