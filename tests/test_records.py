"""The numbers of the README are those of the records, and the records meet what was asked."""

import json

import pytest

from experiments.results import ROOT

PDO, CNN = "invariant PDO-eConv", "plain CNN"


@pytest.fixture(scope="module")
def metrics():
    record = json.loads((ROOT / "benchmarks/results/rotated_digits.json").read_text())
    assert len(record["seeds"]) >= 3
    assert "dirty" not in record["commit"]
    return record["metrics"]


def test_the_readme_shows_the_record(metrics):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    def row(words, key):
        cells = [
            f"{100 * metrics[name][key]['mean']:.1f} ({100 * metrics[name][key]['worst']:.1f})"
            for name in (PDO, CNN)
        ]
        return f"| {words} | {' | '.join(cells)} |"

    counts = " | ".join(f"{metrics[name]['parameters']:,}" for name in (PDO, CNN))
    for line in (
        f"| parameters | {counts} |",
        row("upright, %", "upright"),
        row("at random rotations, %", "random"),
        row("at the worst of 24 angles, %", "worst_angle"),
    ):
        assert line in readme


def test_rotated_digits_are_recognised(metrics):
    pdo, cnn = metrics[PDO], metrics[CNN]
    assert abs(pdo["parameters"] / cnn["parameters"] - 1) < 0.05
    assert pdo["random"]["worst"] >= 0.95
    assert pdo["worst_angle"]["worst"] >= 0.97
    assert min(pdo["upright"]["worst"], cnn["upright"]["worst"]) >= 0.97
    assert metrics["margin at random rotations"]["worst"] >= 0.30


def test_the_expansion_is_cheap():
    record = json.loads((ROOT / "benchmarks/results/expansion.json").read_text())
    assert record["metrics"]["isolated, p8, 45 fields"] <= 0.12


def test_the_readme_shows_the_errors():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    peers, order = (
        json.loads((ROOT / f"benchmarks/results/equivariance_{part}.json").read_text())["metrics"]
        for part in ("peers", "order")
    )
    factors = [value for key, value in peers.items() if key.startswith("best / escnn")]
    assert f"{min(factors):.2g} to {max(factors):.2g} times that of escnn's" in readme
    default = [value for key, value in peers.items() if key.startswith("default / escnn")]
    assert f"{min(default):.2g} to {max(default):.2g} times the error of escnn's" in readme
    assert "differ by less than 0.015 from 2, 4 and 6" in readme
    assert max(value for key, value in order.items() if "layers" not in key) < 0.015


def test_a_wide_network_is_built_fast():
    record = json.loads((ROOT / "benchmarks/results/construction.json").read_text())
    assert record["metrics"]["seconds"] < 10
    assert record["metrics"]["megabytes beyond the parameters"] < 1000


def test_the_order_is_that_of_the_accuracy():
    record = json.loads((ROOT / "benchmarks/results/equivariance_order.json").read_text())
    assert all(value < 0.2 for value in record["metrics"].values())


def test_rotated_mnist():
    """The published network learns in an hour on two cores, and the README says what came out."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for file, network in (("mnist_rot_ours", "mnist_rot"), ("mnist_rot_ours_cnn", "mnist_cnn")):
        record = json.loads((ROOT / f"benchmarks/results/{file}.json").read_text())
        assert "dirty" not in record["commit"] and not record["config"]["validate"]
        metrics = record["metrics"][network]
        assert f"{metrics['parameters']:,}" in readme
        assert f"{metrics['error']['mean']:.2f} %" in readme
        if network == "mnist_rot":
            assert metrics["parameters"] == 26_747
            assert metrics["error"]["worst"] <= 2.2
            assert record["seconds"]["in all"] <= 3600


def test_an_epoch_is_fast():
    metrics = json.loads((ROOT / "benchmarks/results/epoch.json").read_text())["metrics"]
    assert metrics["stencils, one whole epoch, seconds"] <= 60
    docs = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert f"takes {metrics['stencils, one whole epoch, seconds']:.1f} s" in docs
    assert f"a step {metrics['stencils, step, seconds an epoch'] / 93:.3f} s" in docs


def test_a_network_over_p8_beside_its_plain_twin():
    """The comparison is kept whichever way it fell: equal sizes, three seeds, an interval."""
    record = json.loads((ROOT / "benchmarks/results/cifar_small.json").read_text())
    counts = [record["metrics"][name]["parameters"] for name in ("resnet8_p8", "resnet8")]
    assert abs(counts[0] / counts[1] - 1) < 0.05
    assert record["config"]["limit"] == 5000 and len(record["seeds"]) == 3
    low, high = record["metrics"]["difference"]["interval"]
    assert low < record["metrics"]["difference"]["mean"] < high
