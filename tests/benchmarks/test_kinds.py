"""The table of one network with layers of several kinds."""

import copy

from benchmarks import kinds


def record(network, errors, amount=None, **options):
    curve = {} if amount is None else {"amount/convs.0/orientation": [9.0, amount]}
    return {
        "name": "cifar",
        "seeds": [0, 1],
        "config": {
            "data": "cifar10",
            "recipe": "relaxed",
            "network": network,
            "limit": 4000,
            "validate": False,
            "network_options": {"parameters": 30_000, **options},
            "training": {"epochs": 4},
        },
        "curve": {network: [curve, curve]},
        "metrics": {
            network: {
                "parameters": 30_383,
                "error": {"seeds": errors},
                "equivariance_error": [0.0, 0.25],
                "seconds": {"train": {"mean": 90.0}},
            }
        },
    }


STRICT = record("relaxed_strict", [50.0, 52.0])
FIXED = record("relaxed_fixed", [47.0, 48.0], 0.25, position_bandwidth=1.0)


def test_rows_are_compared_with_strict_layers_on_the_same_data():
    data = "CIFAR-10, 4,000 images, 4 epochs"
    assert kinds.lines([FIXED, STRICT])[2:] == [
        f"| {data} | `relaxed_strict` | 30,383 | 51.00 +- 1.41 | - | - | - | 0.25 | 1.5 |",
        f"| {data} | `relaxed_fixed` (position_bandwidth 1.0) | 30,383 | 47.50 +- 0.71 | "
        "-3.50 (-9.85 to +2.85) | 0.25 | - | 0.25 | 1.5 |",
    ]


def test_other_data_are_not_compared():
    other = copy.deepcopy(STRICT)
    other["config"]["limit"] = None
    row = kinds.lines([FIXED, other])[-1]
    assert "| 47.50 +- 0.71 | - |" in row
    assert kinds.lines([]) == ["No training is on record yet."]
