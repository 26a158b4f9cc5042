"""The tables of tasks with a known symmetry."""

from benchmarks import tasks


def numbers(*seeds):
    return {"seeds": list(seeds)}


def record(strength, *learned):
    return {
        "seeds": [0, 1],
        "config": {"tasks": ["turned"], "recipe": {"penalty": strength}},
        "metrics": {
            "turned": {
                "amounts": {"position": numbers(0.1, 0.3), "orientation": numbers(0.0, 0.0)},
                "learned": {"test": numbers(*learned)},
            }
        },
    }


FIRST, SECOND = record(0.03, 0.9, 0.9), record(0.01, 0.7, 0.7)
FIRST["metrics"]["turned"] |= {
    "strict": {"test": numbers(0.8, 0.9)},
    "free": {"test": numbers(0.5, 0.5)},
    "best fixed": {"test": numbers(0.9, 0.9), "bandwidths": [0.0, 1.5]},
}


def test_a_task_is_a_row():
    assert tasks.accuracies([FIRST, SECOND])[2:] == [
        "| turned | 90.0 +- 0.0 | 70.0 +- 0.0 | 85.0 +- 7.1 | 50.0 +- 0.0 | 90.0 +- 0.0 "
        "| 0 and 1.5 |"
    ]


def test_a_seed_is_a_row():
    assert tasks.amounts([FIRST, SECOND]) == [
        "| strength | seed | turned, position | turned, orientation |",
        "|---|---|---|---|",
        "| 0.03 | 0 | 0.1000 | 0.0000 |",
        "| 0.03 | 1 | 0.3000 | 0.0000 |",
        "| 0.01 | 0 | 0.1000 | 0.0000 |",
        "| 0.01 | 1 | 0.3000 | 0.0000 |",
    ]


def test_the_record_with_fixed_bandwidths_comes_first():
    found = tasks.records()
    assert found and found[0]["config"]["grid"]
