"""The tables of published results, with records and without."""

import copy

import pytest

from benchmarks import published

RECORD = {
    "name": "cifar",
    "seeds": [0, 1],
    "config": {
        "data": "cifar10",
        "recipe": "small",
        "limit": None,
        "validate": False,
        "network_options": {"dropout_rate": 0.1},
        "compare_options": {"invariant": True},
        "training": {"epochs": 30},
    },
    "curve": {"resnet26_p6": [], "resnet26": []},
    "metrics": {
        "resnet26_p6": {
            "parameters": 362_386,
            "error": {"seeds": [10.0, 12.0]},
            "seconds": {"train": {"mean": 600.0}},
        },
        "resnet26": {
            "parameters": 369_498,
            "error": {"seeds": [20.0, 22.0]},
            "seconds": {"train": {"mean": 300.0}},
        },
        "difference": {"mean": -10.0, "interval": [-11.0, -9.0], "seeds": [-10.0, -10.0]},
    },
}


def test_a_record_stands_beside_what_was_published():
    lines = published.lines([RECORD])
    words = "11.00 +- 1.41 (`small`, 30 epochs, 2 seeds, 10 minutes)"
    assert f"| CIFAR-10 | `resnet26_p6` | 0.36M | 5.65 | {words} |" in lines
    assert "| CIFAR-100 | `resnet26_p6` | 0.36M | 27.13 | not yet |" in lines


def test_a_network_with_options_is_not_the_published_one():
    lines = published.lines([RECORD])
    assert "| CIFAR-10 | `resnet26` | 0.37M | 11.5 | not yet |" in lines
    assert lines[-1].startswith("| CIFAR-10 | `resnet26` (invariant True) | 369,498 | - | 21.00")


@pytest.mark.parametrize("change", [{"limit": 5000}, {"validate": True}])
def test_parts_of_the_data_are_not_beside_what_was_published(change):
    record = copy.deepcopy(RECORD)
    record["config"] |= change
    assert published.lines([record]) == published.lines([])


def test_digits_made_here_are_marked():
    record = copy.deepcopy(RECORD)
    record["config"] |= {"data": "mnist_rot_made"}
    record["curve"] = {"mnist_rot": []}
    record["metrics"] = {"mnist_rot": record["metrics"]["resnet26_p6"]}
    row = next(line for line in published.lines([record]) if "`mnist_rot`" in line)
    assert "1.87 | 11.00 +- 1.41 (`small`, made here, 30 epochs" in row


def test_comparisons():
    assert published.comparisons([]) == ["No comparison is on record yet."]
    record = copy.deepcopy(RECORD)
    record["config"]["limit"] = 5000
    assert published.comparisons([record])[-1] == (
        "| CIFAR-10, 5,000 images | `resnet26_p6` against `resnet26` (invariant True) | "
        "362,386, 369,498 | 11.00 +- 1.41, 21.00 +- 1.41 | -10.00 | -11.00 to -9.00, 2 seeds |"
    )
    record["metrics"]["difference"]["interval"] = None
    assert published.comparisons([record])[-1].endswith("| -10.00 | one seed: none |")
