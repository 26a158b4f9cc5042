"""The experiment on learned amounts in small: its tasks, its options, one run of the whole."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import datasets, plots, poses, relaxed, runs, trainer
from experiments.poses import TASKS
from experiments.relaxed import LEARNED, Config


def centres(images):
    """Return the centres of mass, (x, y) from the middle, y up."""
    mass = images[..., 0].sum((1, 2))
    along = np.arange(poses.SIZE) - (poses.SIZE - 1) / 2
    x = np.einsum("nhw,w->n", images[..., 0], along) / mass
    y = -np.einsum("nhw,h->n", images[..., 0], along) / mass
    return np.stack([x, y], 1)


@pytest.fixture(scope="module")
def tasks():
    return {name: poses.load(task) for name, task in TASKS.items()}


def test_tasks_have_their_classes_and_as_many_images(tasks):
    for name, parts in tasks.items():
        assert set(parts) == {"train", "validation", "test"}
        for part in parts.values():
            assert part.images.shape == (len(part.labels), 16, 16, 1)
            assert set(part.labels) == set(range(TASKS[name].classes))
        assert abs(len(parts["train"].labels) / 3828 - 1) < 0.02


def test_tasks_are_the_same_every_time(tasks):
    again = poses.load(TASKS["upright"])["test"]
    np.testing.assert_array_equal(again.images, tasks["upright"]["test"].images)


def test_digits_lie_in_both_halves_and_nothing_is_cut_off(tasks):
    for parts in tasks.values():
        images = parts["test"].images
        x, y = centres(images).T
        assert np.mean(x > 0) == pytest.approx(0.5, abs=0.06)
        assert np.std(y) > 1
        edge = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
        assert np.mean(edge) < 1e-3 < np.mean(images)


def test_labels_of_halves_say_the_half_and_those_of_others_do_not(tasks):
    part = tasks["halves"]["test"]
    right = centres(part.images)[:, 0] > 0
    assert np.mean(right == (part.labels >= 10)) > 0.98
    part = tasks["turned"]["test"]
    right = centres(part.images)[:, 0] > 0
    assert abs(np.corrcoef(right, part.labels)[0, 1]) < 0.1


def test_angles(tasks):
    """The main axis of a 1 is upright, or anywhere."""

    def slopes(part):
        images = part.images[part.labels == 1][..., 0]
        rows, columns = np.indices(images.shape[1:]) - (poses.SIZE - 1) / 2
        found = []
        for image, (x, y) in zip(images, centres(images[..., None]), strict=True):
            dx, dy = columns - x, -rows - y
            covariance = np.cov(np.stack([dx.ravel(), dy.ravel()]), aweights=image.ravel().clip(0))
            axis = np.linalg.eigh(covariance)[1][:, -1]
            found.append(np.degrees(np.arctan2(*axis)) % 180)  # 0 is upright
        return np.minimum(found, 180 - np.array(found))

    assert np.median(slopes(tasks["upright"]["test"])) < 20
    assert 35 < np.median(slopes(tasks["turned"]["test"])) < 55


def test_every_scan_is_in_one_part(monkeypatch):
    """Scans are told apart by their pixels, in place of images that would hide them."""
    monkeypatch.setattr(poses, "_place", lambda scan, *pose: scan)
    parts = poses.load(TASKS["upright"])
    scans = {name: {scan.tobytes() for scan in part.images} for name, part in parts.items()}
    assert sum(map(len, scans.values())) == len(set.union(*scans.values())) == 1797


def test_digits_of_mnist_are_as_many_and_are_none_of_them_copies(monkeypatch):
    """Every digit is a ramp of its own; those of the test set are in the test part alone."""
    counts = {"train": 10_600, "test": 8700}
    ramp = np.arange(28, dtype=np.uint8)[:, None, None]

    def part(count, brightness):
        numbers = np.arange(count)
        images = np.zeros((count, 28, 28, 1), np.uint8) + ramp
        images[:, 6, 6, 0], images[:, 12, 12, 0] = numbers % 256, numbers // 256
        images[:, 20, 20, 0] = brightness
        return datasets.Part(images, (numbers % 10).astype(np.int32))

    made = datasets.Dataset(
        "mnist", part(counts["train"], 0), part(counts["test"], 90), tuple("0123456789")
    )
    monkeypatch.setattr(datasets, "load", lambda name, folder: made)
    monkeypatch.setattr(poses, "_place", lambda scan, *pose: scan)
    parts = poses.load(TASKS["upright"], "mnist")
    found = {name: part.images[..., 0] for name, part in parts.items()}
    assert {name: len(images) for name, images in found.items()} == {
        "train": 3828, "validation": 2400, "test": 4320,
    }  # fmt: skip
    for fold in (1, 2):
        others = poses.load(TASKS["upright"], "mnist", fold=fold)
        for name in ("train", "validation"):
            np.testing.assert_array_equal(others[name].images, parts[name].images)
        found[f"{fold}, test"] = others["test"].images[..., 0]
    scans = {image.tobytes() for images in found.values() for image in images}
    assert len(scans) == 3828 + 2400 + 3 * 4320
    # The means over 3 x 3 pixels, without the margin: rows 2, 3, 4 are the first.
    assert found["test"][:, 0, 0] == pytest.approx(3 / 255)
    for name, images in found.items():
        of_the_test_set = name in ("test", "1, test")
        assert np.all(images[:, 6, 6] > images[:, 6, 5]) == of_the_test_set


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tasks=("turned", "sixes")), "tasks .*'sixes' is not known"),
        (dict(tasks=()), "tasks .* must be different names"),
        (dict(tasks=("turned", "turned")), "tasks .* must be different names"),
        (dict(seeds=()), "seeds .* must be different numbers, one at least"),
        (dict(grid=(0.5, 1.0)), "grid .* must be increasing bandwidths from 0"),
        (dict(grid=(0.0, 1.0, 0.5)), "grid .* must be increasing"),
        (dict(limit=0), "limit .* at least 1"),
        (dict(fold=1), "fold .* must be 0, or with --digits mnist one of 0, 1, 2"),
        (dict(digits="mnist", fold=3), "fold .* must be 0, or with --digits mnist one of 0, 1, 2"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_order_is_told_seed_by_seed():
    def of(position, orientation):
        return {"amounts": {"position": {"seeds": position}, "orientation": {"seeds": orientation}}}

    metrics = {
        "turned": of([0.0, 0.0], [0.0, 0.2]),
        "upright": of([0.1, 0.1], [0.5, 0.5]),
        "halves": of([0.3, 0.0], [0.1, 0.1]),
    }
    assert relaxed.ordered(metrics) == {
        "orientation least: turned": [True, False],
        "orientation most: upright": [True, True],
        "position most: halves": [True, False],
    }


def test_table_without_fixed_bandwidths():
    numbers = {"seeds": [0.5]}
    report = {
        "amounts": {"position": numbers, "orientation": numbers},
        LEARNED: {"test": numbers},
    }
    assert relaxed.table({"turned": report}).splitlines()[-1].split() == [
        "test", "accuracy,", "learned,", "%", "50.0",
    ]  # fmt: skip


def test_picture(tmp_path):
    curve = {"loss": [1.0, 0.5], "amount/convs.0/position": [0.1, 0.0]}
    plots.amounts(tmp_path / "a.png", {"turned": [curve, curve]}, ["position"])
    assert (tmp_path / "a.png").stat().st_size > 1000


def small(folder):
    recipe = dataclasses.replace(Config().recipe, epochs=2, batch_size=8)
    return Config(
        recipe, (0, 1), ("turned",), grid=(0.0, 1.0), features=(1, 1, 2), limit=24, out=folder
    )


def outcome(share):
    """What is kept of a training whose accuracies are a share."""
    numbers = {"mean": share, "seeds": [share, share]}
    return {
        "parameters": 1,
        "accuracies": {"validation": numbers, "test": numbers},
        "amounts": dict.fromkeys(relaxed.PARTS, numbers),
        "curves": [{"loss": [1.0], "amount/layer/position": [0.0]}] * 2,
        "seconds": 1.0,
    }


def test_a_stopped_run_goes_on_with_the_next_training(tmp_path, monkeypatch):
    calls = []

    def stopped(config, task, pair, parts, learn):
        calls.append(pair)
        if len(calls) == 3:
            raise trainer.Interrupted("Stopped.")
        return outcome(0.1 * len(calls))

    monkeypatch.setattr(relaxed, "_outcome", stopped)
    config = small(tmp_path / "run")
    with pytest.raises(trainer.Interrupted, match=r"python -m experiments.relaxed --resume .*run"):
        relaxed.main(config)
    assert calls == [(0.5, 0.5), (0.0, 0.0), (0.0, 1.0)]
    assert not (tmp_path / "run" / runs.RESULT).exists()
    result = relaxed.main(dataclasses.replace(config, out=None, resume=tmp_path / "run"))
    assert calls[3:] == [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    found = [of["test"]["mean"] for of in result.metrics["turned"]["fixed"].values()]
    assert found == pytest.approx([0.2, 0.4, 0.5, 0.6])
    assert result.metrics["turned"]["best fixed"]["bandwidths"] == [1.0, 1.0]
    assert result.seconds == {"turned": 5.0}


@pytest.mark.slow
def test_run(tmp_path):
    relaxed.main(small(tmp_path / "run"))
    found = json.loads((tmp_path / "run" / runs.RESULT).read_text())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "result.json", "amounts.png", "checkpoints",
    }  # fmt: skip
    report = found["metrics"]["turned"]
    assert set(report["fixed"]) == {"0, 0", "0, 1", "1, 0", "1, 1"}
    assert report["strict"] == report["fixed"]["0, 0"]
    assert report["free"] == report["fixed"]["1, 1"]
    assert len(report[LEARNED]["test"]["seeds"]) == 2
    best = max(report["fixed"].values(), key=lambda of: of["validation"]["mean"])
    assert report["best fixed"]["validation"] == best["validation"]
    for curve in found["curve"]["turned"]:
        assert len(curve["amount/convs.2/orientation"]) == 2
        assert len(curve["penalty"]) == 2
