"""A training that was stopped at any moment ends in the same bits as one that was not.

Stopped by an error, by Ctrl-C, by a loss that is no number, and by `kill -9`.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import runs, trainer
from experiments.augment import Augmentation
from experiments.checkpoints import Checkpoints
from experiments.recipes import Recipe
from tests.experiments import small_run

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "experiments" / "small_run.py"
EVERYTHING = dataclasses.replace(small_run.RECIPE, epochs=3, checkpoint_every=0.5)  # 3 steps
PLAIN = Recipe(epochs=2, batch_size=8, optimizer="sgd", learning_rate=0.02, checkpoint_every=0.5)


class Killed(Exception):
    pass


def train(folder, recipe=EVERYTHING, **options):
    return trainer.train(
        small_run.Net(),
        *small_run.data(),
        recipe,
        seed=0,
        folder=folder,
        **{"augment": Augmentation(flip=True), **options},
    )


def same(a, b):
    a, b = (t if isinstance(t, dict) else small_run.arrays(t.model) | t.curve for t in (a, b))
    return set(a) == set(b) and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted training gives."""
    return train(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    train_until(9, folder)
    return folder


@pytest.fixture
def stopped(half, tmp_path):
    """The folder of a training that came as far as the step 9 and has saved 3, 6 and 9."""
    return shutil.copytree(half, tmp_path / "run")


def train_until(last, folder, *args, **options):
    save = Checkpoints.save

    def stop(self, step, *args):
        save(self, step, *args)
        if step >= last:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", stop)
        train(folder, *args, **options)


@pytest.fixture(scope="module")
def resumed(half, tmp_path_factory):
    """The folder of a training that was stopped and went on, and what it gave."""
    folder = shutil.copytree(half, tmp_path_factory.mktemp("resumed") / "run")
    return folder, train(folder, resume=True)


def test_it_goes_on_in_the_middle_of_an_epoch(half, resumed, whole):
    assert newest(half) == 9  # of 6 an epoch
    assert same(resumed[1], whole)


@pytest.mark.slow
def test_plain_recipe_goes_on_as_well(tmp_path):
    expected = train(tmp_path / "whole", PLAIN, augment=None)
    train_until(3, tmp_path / "run", PLAIN, augment=None)
    assert same(train(tmp_path / "run", PLAIN, augment=None, resume=True), expected)


def test_finished_training_is_read(resumed, whole):
    folder, _ = resumed
    before = sorted(folder.rglob("*"))
    assert same(train(folder, resume=True), whole)
    assert sorted(folder.rglob("*")) == before


def test_a_damaged_last_checkpoint_is_saved_anew(resumed, whole, tmp_path):
    folder = shutil.copytree(resumed[0], tmp_path / "run")
    last = newest(folder)
    file = max((folder / str(last) / "state").rglob("*"), key=lambda f: f.stat().st_size)
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.warns(UserWarning, match="is damaged"):
        assert same(train(folder, resume=True), whole)
    restored = trainer.restore(small_run.Net(), folder, EVERYTHING)  # without a warning
    assert same(small_run.arrays(restored), small_run.arrays(whole.model))


def test_a_shorter_training_does_not_go_on_with_a_longer_one(stopped):
    shorter = dataclasses.replace(EVERYTHING, epochs=1)
    with pytest.raises(ValueError, match=r"training of 9 steps, more than the 6 of this recipe"):
        train(stopped, shorter, resume=True)


def test_logs_show_every_epoch_once(resumed):
    rows = (resumed[0] / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("epoch")
    assert [float(row.split(",")[column]) for row in rows[1:]] == [1, 2, 3]


def reset_optimiser(state):
    return state._replace(net=jax.tree_util.tree_map_with_path(_zero_moments, state.net))


def _zero_moments(path, leaf):
    return jnp.zeros_like(leaf) if "opt_state" in jax.tree_util.keystr(path) else leaf


def reset_average(state):
    return state._replace(ema=jax.tree.map(jnp.zeros_like, state.ema))


def other_key(state):
    return state._replace(key=jax.random.key(1))


def other_dropout(state):
    def change(path, leaf):
        return leaf + 1 if jax.tree_util.keystr(path).endswith("['count'].value") else leaf

    return state._replace(net=jax.tree_util.tree_map_with_path(change, state.net))


def other_statistics(state):
    def change(path, leaf):
        return leaf + 1 if "['mean']" in jax.tree_util.keystr(path) else leaf

    return state._replace(net=jax.tree_util.tree_map_with_path(change, state.net))


@pytest.mark.parametrize(
    "forget", [reset_optimiser, reset_average, other_key, other_dropout, other_statistics]
)
@pytest.mark.slow
def test_whatever_is_forgotten_shows(stopped, whole, monkeypatch, forget):
    """Negative control."""
    restore = Checkpoints.restore

    def forgetful(self, template):
        step, state, meta = restore(self, template)
        return step, forget(state), meta

    monkeypatch.setattr(Checkpoints, "restore", forgetful)
    assert not same(train(stopped, resume=True), whole)


@pytest.mark.slow
def test_ctrl_c_saves_and_goes_on(tmp_path):
    recipe = dataclasses.replace(EVERYTHING, checkpoint_every=0.0)
    asked = []

    def evaluate(model):
        if not asked:
            asked.append(signal.raise_signal(signal.SIGINT))
        return {"again": 1.0}

    expected = train(tmp_path / "whole", recipe, evaluate=lambda model: {"again": 1.0})
    with pytest.raises(trainer.Interrupted, match=rf"after step 6 of 18.*{tmp_path}/run"):
        train(tmp_path / "run", recipe, evaluate=evaluate)
    assert newest(tmp_path / "run") == 6
    assert same(train(tmp_path / "run", recipe, evaluate=evaluate, resume=True), expected)


def test_ctrl_c_at_the_end_of_a_seed_stops_before_the_next(tmp_path):
    """The request must not be lost between two trainings."""
    recipe, asked = dataclasses.replace(PLAIN, epochs=1, checkpoint_every=0.0), []

    def evaluate(model):
        asked.append(signal.raise_signal(signal.SIGINT) if not asked else None)
        return {}

    def both(**options):
        return trainer.train_seeds(
            lambda seed: small_run.Net(),
            *small_run.data(),
            recipe,
            seeds=(0, 1),
            folder=tmp_path,
            execution=trainer.Execution(together=False),
            evaluate=evaluate,
            **options,
        )

    with pytest.raises(trainer.Interrupted, match="after step 6 of 6"):
        both()
    assert not (tmp_path / "seed-1").exists()
    assert [trained.steps for trained in both(resume=True)] == [6, 6] and len(asked) == 2


class Bad:
    """Images that stop being numbers when the key says so; hashable, part of the step."""

    def __call__(self, key, images):
        return jnp.where(jax.random.bernoulli(key, 0.2), jnp.nan, images)


@pytest.fixture
def nans():
    jax.config.update("jax_debug_nans", False)  # as for users
    yield
    jax.config.update("jax_debug_nans", True)


def test_loss_that_is_no_number_stops(tmp_path, nans):
    message = r"the loss is nan at step \d+; the last good checkpoint is .*learning_rate"
    with pytest.raises(trainer.Diverged, match=message) as caught:
        train(tmp_path, augment=Bad())
    assert f"step {newest(tmp_path)} in {tmp_path}" in str(caught.value)
    restored = trainer.restore(small_run.Net(), tmp_path, EVERYTHING)
    assert all(np.isfinite(array).all() for array in small_run.arrays(restored).values())


class Explodes(nnx.Module):
    """Finite values, infinite gradient: the loss is fine once more while the weights are not."""

    def __init__(self):
        self.weight = nnx.Param(jnp.zeros((3,), np.float32))

    def __call__(self, x):
        return jnp.sqrt(self.weight[...]) + jnp.zeros((len(x), 3), np.float32)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, nans):
    recipe = Recipe(epochs=2, batch_size=8, checkpoint_every=1 / 6)
    with pytest.raises(trainer.Diverged, match="weights or moments .* after step 1; there is no"):
        trainer.train(Explodes(), *small_run.data(), recipe, seed=0, folder=tmp_path)
    assert newest(tmp_path) == 0


def test_no_room_is_reported_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(trainer.Loop, "_train", lambda *_: pytest.fail("it trains"))
    with pytest.raises(OSError, match=r"folder \(=.*file/run\)"):
        train(tmp_path / "file" / "run")


def test_checkpoints_of_another_training_are_not_mixed_in(half, monkeypatch):
    monkeypatch.setattr(trainer.Loop, "_train", lambda *_: pytest.fail("it trains"))
    with pytest.raises(
        FileExistsError, match=rf"folder \(={half}\) holds checkpoints.*resume=True"
    ):
        train(half)


@dataclasses.dataclass(frozen=True)
class Inner:
    epochs: int = 3
    factors: tuple[float, ...] = (1.0, 0.1)


@dataclasses.dataclass(frozen=True)
class Options:
    recipe: Inner = Inner()
    seeds: tuple[int, ...] = (0,)
    out: Path | None = None
    resume: Path | None = None


def test_run_goes_on_with_its_own_options(tmp_path):
    runs.save_config(tmp_path, Options(out=tmp_path))
    (tmp_path / runs.CHECKPOINTS).mkdir()
    assert runs.resume_run(tmp_path, Options(resume=tmp_path)) == tmp_path
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoints", "config.json"]


def test_other_options_are_named(tmp_path):
    runs.save_config(tmp_path, Options())
    other = Options(Inner(epochs=4), seeds=(0, 1))
    message = r"recipe.epochs was 3 and is 4; seeds was \[0\] and is \[0, 1\]: leave them"
    with pytest.raises(ValueError, match=message):
        runs.resume_run(tmp_path, other)


def test_options_of_another_version_are_named(tmp_path):
    config = json.loads(json.dumps(runs.plain(Options())))
    del config["recipe"]["epochs"]
    (tmp_path / runs.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="recipe.epochs was not there and is 3"):
        runs.resume_run(tmp_path, Options())


def test_finished_run_has_nothing_left_to_do(tmp_path):
    runs.save_config(tmp_path, Options())
    (tmp_path / runs.RESULT).write_text("{}")
    with pytest.raises(FileExistsError, match=rf"{tmp_path}\) is a finished run"):
        runs.resume_run(tmp_path, Options())


def test_only_runs_go_on(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}\) is not the folder of a run: it has no"
    ):
        runs.resume_run(tmp_path, Options())


def test_start_that_was_killed_leaves_the_folder_free(tmp_path):
    (tmp_path / ".probe").touch()
    assert runs.open_run(tmp_path, Path("unused")) == tmp_path


def start(folder, cache, *options):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, *map(str, options)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*args):
    process = start(*args)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return dict(np.load(args[0] / "final.npz"))


def newest(folder):
    return Checkpoints(folder).latest() or 0


def saving(folder):
    return any(folder.glob("*.orbax-checkpoint-tmp"))


def until(process, condition):
    while process.poll() is None and not condition():
        time.sleep(0.001)


def kill(process, folder, moment, rng, starting):
    """Kill a training at a random moment of its start, between two steps or while it saves.

    Returns:
        The seconds until it had saved something, or until it was killed.
    """
    before, begin, most = newest(folder), time.perf_counter(), np.inf
    if moment == "starting":
        most = rng.uniform(0, starting)
    until(process, lambda: newest(folder) > before or time.perf_counter() - begin > most)
    seconds = time.perf_counter() - begin
    if moment == "saving":
        until(process, lambda: saving(folder))
    if moment != "starting":
        time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, moment
    return seconds


@pytest.mark.slow  # twenty starts of Python
def test_killed_at_twenty_moments(tmp_path):
    cache, folder, options = tmp_path / "cache", tmp_path / "run", ("--epochs", 24)
    expected = finish(tmp_path / "whole", cache, *options)
    rng = random.Random(0)
    moments = ["starting"] * 5 + ["stepping"] * 6 + ["saving"] * 8
    rng.shuffle(moments)
    steps, seconds = [], 0.0
    for moment in ["stepping", *moments]:
        process = start(folder, cache, *options, "--resume")
        lasted = kill(process, folder, moment, rng, seconds)
        seconds = seconds if moment == "starting" else lasted
        steps.append(newest(folder))
    assert len(set(steps)) > 10 and steps[-1] < 24 * 6  # it came further, and not to the end
    assert same(finish(folder, cache, *options, "--resume"), expected)
    assert (folder / "metrics.csv").read_text() == (tmp_path / "whole/metrics.csv").read_text()


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(tmp_path):
    options = (tmp_path / "run", tmp_path / "cache", "--epochs", 24, "--every", 0)
    expected = finish(tmp_path / "whole", *options[1:])
    process = start(*options)
    until(process, lambda: (tmp_path / "run" / "metrics.csv").is_file())
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Stopping after this step" in output and "--resume" in output
    assert 0 < newest(tmp_path / "run") < 24 * 6
    assert same(finish(*options, "--resume"), expected)
