"""The command `python -m experiments.mnist_rot`: its recipes, its options, its errors."""

import shlex
import subprocess
import sys
import typing

import numpy as np
import pytest

from experiments import classification, mnist_rot, recipes, runs
from experiments.mnist_rot import RECIPES, Config
from experiments.results import ROOT

RATE = RECIPES["ours"].training.learning_rate


@pytest.fixture
def command(monkeypatch):
    """Return what a command line makes of the options, without running it."""

    def parsed(*arguments):
        seen = []
        monkeypatch.setattr("sys.argv", ["mnist_rot", *arguments])
        monkeypatch.setattr(classification, "run", seen.append)
        classification.command(Config, mnist_rot.__doc__, RECIPES)
        return seen[0]

    return parsed


def test_recipes_have_the_names_of_the_option():
    assert set(RECIPES) == set(typing.get_args(typing.get_type_hints(Config)["recipe"]))
    assert all(config.recipe == name for name, config in RECIPES.items())


def test_published_learning_rate():
    steps = 12_000 // 128
    rate = recipes.learning_rate(RECIPES["published"].training, steps)
    epochs = np.array([0, 4.99, 5, 99.99, 100, 149.99, 150, 199.99])
    found = [float(rate(int(epoch * steps))) for epoch in epochs]
    np.testing.assert_allclose(found, [1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-6)


def test_first_recipe_is_taken_where_none_is_named(command):
    assert command() == RECIPES["ours"]


def test_options_change_the_recipe_that_is_named(command):
    found = command(
        *shlex.split(
            "--recipe published --recipe.epochs 3 --network mnist_rot_invariant --seeds 1 2 "
            "--network-options group p4 dropout_rate 0.1 --augmentation.rotation 90 "
            "--data mnist_rot_made --no-verify"
        )
    )
    published = RECIPES["published"].training
    assert found.training.milestones == published.milestones
    assert found.training.decay == "coupled"
    assert found.training.epochs == 3
    assert found.network_options == {"group": "p4", "dropout_rate": 0.1}
    assert (found.network, found.augmentation.rotation) == ("mnist_rot_invariant", 90.0)
    assert (found.seeds, found.data, found.verify) == ((1, 2), "mnist_rot_made", False)


def test_resuming_takes_the_options_of_the_run(command, tmp_path):
    stored = command("--recipe", "invariant", "--seeds", "7", "--recipe.epochs", "5")
    runs.save_config(tmp_path, stored)
    found = command("--resume", str(tmp_path))
    assert found.resume == tmp_path
    assert (found.recipe, found.seeds, found.training.epochs) == ("invariant", (7,), 5)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {}),
        ("group p4 dropout_rate 1e-2", {"group": "p4", "dropout_rate": 0.01}),
        ("invariant True orientation 0", {"invariant": True, "orientation": 0}),
    ],
)
def test_options_of_the_network_take_the_place_of_the_recipes(command, words, options):
    assert RECIPES["ours"].network_options
    assert command("--network-options", *words.split()).network_options == options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network-options", "group"], "'group' must be names and values in turn, as in"),
        (["--recipe.epochs", "0"], "epochs (=0) must be at least 1."),
        (["--seeds"], "seeds (=()) must be different numbers, one at least; pass --seeds 0."),
        (["--network-options", "grop", "p4"], "'grop' is not known; did you mean 'group'?"),
    ],
)
def test_values_that_do_not_fit(command, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        command(*arguments)
    assert error.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_a_run_that_is_not_there_is_one_line(command):
    with pytest.raises(SystemExit, match="^error: nowhere is not the folder of a run: .*json.$"):
        command("--resume", "nowhere")


@pytest.mark.parametrize("option", ["--resume", "--recipe"])
def test_options_without_their_value_are_named(command, capsys, option):
    with pytest.raises(SystemExit) as error:
        command(option)
    assert error.value.code == 2 and option in capsys.readouterr().err


def test_stopping_is_no_error(command, monkeypatch, capsys):
    def stop(_):
        raise classification.trainer.Interrupted("stopped; go on with --resume x")

    monkeypatch.setattr("sys.argv", ["mnist_rot"])
    monkeypatch.setattr(classification, "run", stop)
    with pytest.raises(SystemExit) as error:
        classification.command(Config, None, RECIPES)
    assert error.value.code == 130
    assert capsys.readouterr().err == "stopped; go on with --resume x\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, ["--model {ours,invariant,pde,published,", f"(default: {RATE})"]),
        (["--recipe", "published", "--help"], 0, ["(default: 5 100 150)"]),
        (["--recipe.epoch", "3"], 2, ["Perhaps you meant", "--recipe.epochs"]),
        (["--netwrok", "mnist_cnn"], 2, ["Perhaps you meant", "--network"]),
        (["--recipe", "publishd"], 2, ["invalid choice 'publishd'", "published_cnn"]),
    ],
)
def test_program(arguments, code, words):
    program = [sys.executable, "-m", "experiments.mnist_rot", *arguments]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code
    text = " ".join((done.stdout + done.stderr).replace("│", "").split())
    for word in words:
        assert word in text
    assert "Traceback" not in text
