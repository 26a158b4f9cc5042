"""The numbers of README and docs are those of the records, and the records meet what was asked."""

import json

import numpy as np
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


# ------------------------------------------------------------------------------ beside the tables


def words(page):
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def record_of(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())


def test_the_readme_shows_the_speed():
    dense, grows = (record_of(name)["metrics"] for name in ("versus_dense", "scaling"))
    steps = {name: record_of(f"steps_{name}")["metrics"] for name in ("resnet44", "mnist_rot")}

    def auto(other, case):
        return f"{dense[f'auto / {other}, forward + backward, p8, {case}']:.2f}"

    many, few = "45 fields, 16 x 8 x 8", "7 fields, 32 x 14 x 14"
    slopes = {a: f"{grows[f'slope of seconds in |G|, {a}']:.1f}" for a in ("harmonic", "direct")}
    readme = words("README.md")
    for text in (
        f"takes {auto('XLA', many)} of the time of XLA's dense convolution with a ready kernel, "
        f"and {auto('escnn', many)} of that of escnn's `R2Conv`",
        f"with 7 fields it is {auto('XLA', few)} and {auto('escnn', few)}",
        f"takes {steps['resnet44']['auto / escnn']:.2f} of the time of escnn's",
        f"one of `mnist_rot`, with 7 fields, {steps['mnist_rot']['auto / escnn']:.2f}",
        f"the power of {slopes['harmonic']}, that of the dense convolution to {slopes['direct']}",
    ):
        assert text in readme


def test_the_docs_show_the_choice_of_algorithms():
    found, page = record_of("costs")["metrics"], words("docs/speed.md")
    assert found["median regret, held out"] == 0
    faster = found["harmonic faster by more than 10 %, held out"]
    for text in (
        f"{100 * found['mean regret, held out']:.1f} % longer in the mean",
        f"{100 * found['95th percentile of the regret, held out']:.0f} % longer at the 95th",
        f"largest regret is {100 * found['largest regret, held out']:.0f} %",
        f"taken {faster - found['of which not taken, held out']} times of {faster}",
    ):
        assert text in page


def test_the_docs_show_equal_fields_of_p16():
    record, page = record_of("versus_dense_p16"), words("docs/speed.md")
    for other in ("XLA", "escnn"):
        ratios = [v for k, v in record["metrics"].items() if k.startswith(f"auto / {other}")]
        one, two, three = (f"{ratio:.2f}" for ratio in ratios)
        assert f"{one}, {two} and {three} of {other}'s" in page.replace("of XLA's time", "of XLA's")
    assert record["command"] in page.replace("\\ ", "")


def test_the_docs_show_how_far_slopes_fall_short():
    columns = record_of("equivariance_order")["curve"]
    rows = zip(*(columns[key] for key in ("what", "accuracy", "slope")), strict=True)
    linear = [(p, slope) for what, p, slope in rows if "layers" not in what and p > 2]
    short = [100 * (1 - slope / p) for p, slope in linear]
    text = f"{min(short):.2f} to {max(short):.2f} % short of 4 and 6"
    assert text in words("docs/equivariance.md")


def test_the_docs_show_how_dilations_turn():
    columns = record_of("pde_equivariance")["curve"]
    cases = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    metrics, page = record_of("pde_equivariance")["metrics"], words("docs/pde.md")
    told = {}
    for band in (0.5, 1):
        some = [c for c in cases if c["band"] == band and c["operator"].startswith("dilation")]
        near = [c for c in some if max(c["metric"][:2]) <= 1.2 * min(c["metric"][:2])]
        factors = [c["nearest"] / c[name] for c in near for name in ("log", "paths")]
        key = "dilation, alpha {}, nearly isotropic, waves to {}, log"
        told[band] = (
            *(f"{metrics[key.format(alpha, band)]:.1f}" for alpha in (0.65, 1)),
            *(f"{factor:.1f}" for factor in (min(factors), max(factors))),
        )
    first, second, low, high = told[0.5]
    assert f"{first} times (alpha 0.65) and {second} times (alpha 1) below" in page
    assert f"single factors are between {low} and {high}" in page
    assert "these are {} and {}, single ones {} to {}".format(*told[1]) in page


def test_the_docs_show_what_is_left_with_all_ideals():
    columns, page = record_of("budget_p8")["curve"], words("docs/budget.md")
    for name in ("gaussian, total", "finite-difference, box"):
        of = columns["discretisation"].index(name)
        at, errors = columns["degrees"][of].index(45.0), columns["errors"][of]
        left, whole = (errors[kind][at] for kind in ("the group alone", "as it is"))
        assert f"{left:.3f} of {whole:.3f}" in page


@pytest.mark.parametrize("name, orders", [("relaxed_tasks_mnist", 14), ("relaxed_tasks_torus", 15)])
def test_learned_amounts_are_as_good_as_fixed_ones(name, orders):
    metrics = record_of(name)["metrics"]
    for task in ("turned", "six-or-nine", "halves", "upright"):
        learned, best, strict, free = (
            metrics[task][kind]["test"]["mean"]
            for kind in ("learned", "best fixed", "strict", "free")
        )
        assert learned >= max(best, strict, free) - 0.01
    seeds = [right for claim in metrics["ordered"].values() for right in claim]
    assert (sum(seeds), len(seeds)) == (orders, 15)
    assert f"in {orders} of 15 cases" in words("docs/relaxed.md")


def test_on_a_torus_amounts_differ_by_factors():
    def amounts(part, task):
        return np.array(metrics[task]["amounts"][part]["seeds"])

    metrics = record_of("relaxed_tasks_torus")["metrics"]
    tasks = {"turned", "six-or-nine", "halves", "upright"}
    others = [amounts("position", task) for task in tasks - {"halves"}]
    position = np.min(amounts("position", "halves") / np.max(others, axis=0))
    others = [amounts("orientation", task) for task in tasks - {"turned"}]
    orientation = np.min(np.min(others, axis=0) / amounts("orientation", "turned"))
    page = words("docs/relaxed.md")
    assert f'at least {np.floor(position):.0f} times as much in "halves"' in page
    assert f"at least {np.floor(orientation):.0f} times as much in every other task" in page
