"""The demo in space: its command line, its networks, its files, and its table in the docs."""

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tyro
from flax import nnx

import pdo_jax as pdo
from experiments import networks, recipes, rotated_volumes, runs, shapes
from experiments.results import ROOT
from experiments.rotated_volumes import ACCURACIES, INVARIANT, PLAIN, Config
from tests import laws

slow = pytest.mark.slow  # for the tests that share one run of the whole, which mostly compiles


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = recipes.Recipe(epochs=2, batch_size=8)
    config = Config(recipe, (3,), "T", (1, 1), train=16, test=24, out=folder)
    return folder, rotated_volumes.main(config)


@slow
def test_files_of_a_run(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "result.json", "checkpoints", "accuracy.png", "shapes.png"}
    assert len(list((folder / "checkpoints").iterdir())) == 2


@slow
def test_result(run):
    folder, result = run
    found = json.loads((folder / runs.RESULT).read_text())
    assert found["seeds"] == [3] and found["config"]["group"] == "T"
    for name in (INVARIANT, PLAIN):
        for key in ACCURACIES:
            assert set(found["metrics"][name][key]) == {"mean", "std", "worst", "seeds"}
        assert [len(curve["loss"]) for curve in found["curve"][name]] == [2]
    assert result.metrics[PLAIN]["equivariance_error"]["worst"] > 1e-2
    errors = found["metrics"]["one layer over I"]
    for family, taps in (("total", 3), ("box", 7)):
        assert errors[family]["taps"] == taps
        assert errors[family]["order"] == pytest.approx(2, abs=0.15)
        by_element = np.array(errors[family]["error_by_element"])
        on_grid = pdo.group("I").on_grid
        assert by_element[on_grid].max() < 1e-6 < by_element[~on_grid].min()


def test_networks_have_as_many_parameters():
    models = nnx.eval_shape(lambda: rotated_volumes.build(Config(), 0))
    counts = [networks.count_parameters(model) for model in models.values()]
    assert counts[0] == 17512
    assert abs(counts[1] / counts[0] - 1) < 0.05
    assert models[PLAIN].convs[0].basis.group.order == 1
    assert models[PLAIN].convs[0].basis.num_operators == 27


@pytest.mark.parametrize("validate", [False, True])
def test_networks_are_tested_on_other_shapes(validate):
    tests = rotated_volumes.held_out(Config(test=16, validate=validate))
    seed = shapes.VALIDATION if validate else shapes.TEST
    np.testing.assert_array_equal(tests["upright"].volumes, shapes.make(16, seed).volumes)
    upright, moved, random = (tests[key].volumes for key in ACCURACIES)
    cube = pdo.group("O")
    for before, after, other in zip(upright, moved, random, strict=True):
        turned = [laws.move(before, cube, g, "image") for g in range(24)]
        assert [np.array_equal(after, copy) for copy in turned].count(True) == 1
        assert not np.array_equal(after, before)
        assert np.abs(other - before).max() > 0.1
    for key in ACCURACIES:
        np.testing.assert_array_equal(tests[key].labels, np.arange(16) % 8)


def test_command_line():
    arguments = "--seeds 1 2 --recipe.epochs 3 --features 1 2 --group Oh --out there --validate"
    config = tyro.cli(Config, args=shlex.split(arguments))
    recipe = dataclasses.replace(Config().recipe, epochs=3)
    assert config == Config(recipe, (1, 2), "Oh", (1, 2), validate=True, out=Path("there"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, r"seeds \(=\(\)\) must be different numbers, one at least"),
        ({"features": (1, 0)}, r"features \(=\(1, 0\)\) must be numbers of at least 1"),
        ({"group": "p8"}, r"group \(='p8'\) must be one of space; pass 'T'"),
        ({"group": "Q"}, "group .*'Q'.* is not known"),
        ({"train": 7}, r"train \(=7\) must be at least 8"),
        ({"test": 0}, r"test \(=0\) must be at least 8"),
    ],
)
def test_options_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


# -------------------------------------------------------------------------- the record and the docs


@pytest.fixture(scope="module")
def metrics():
    record = json.loads((ROOT / "benchmarks/results/rotated_volumes.json").read_text())
    assert not record["config"]["validate"]
    return record["metrics"]


def test_the_docs_show_the_record(metrics):
    text = (ROOT / "docs/volumes.md").read_text(encoding="utf-8")

    def row(words, form, of):
        cells = [form.format(of(metrics[name])) for name in (INVARIANT, PLAIN)]
        return f"| {words} | {' | '.join(cells)} |"

    def percent(words, key):
        return row(
            f"accuracy {words}, % (worst seed)",
            "{0[0]:.1f} ({0[1]:.1f})",
            lambda m: (100 * m[key]["mean"], 100 * m[key]["worst"]),
        )

    lines = [row("parameters", "{:,}", lambda m: m["parameters"])]
    lines += [percent(words, key) for key, words in ACCURACIES.items()]
    for line in lines:
        assert line in text
    for family in ("total", "box"):
        found = metrics["one layer over I"][family]
        errors = np.array(found["error_by_element"])[~pdo.group("I").on_grid]
        cells = f"{found['order']:.2f} | {errors.min():.1e} to {errors.max():.1e}"
        assert f"| `{family}` | {found['taps']} | {cells} |" in text


def test_rotated_volumes_are_recognised(metrics):
    ours, cnn = metrics[INVARIANT], metrics[PLAIN]
    assert abs(ours["parameters"] / cnn["parameters"] - 1) < 0.05
    assert ours["octahedral"] == ours["upright"]
    assert ours["equivariance_error"]["worst"] < 1e-4
    assert ours["octahedral"]["worst"] - max(cnn["octahedral"]["seeds"]) >= 0.3
    assert metrics["margin at random rotations"]["mean"] > 0
