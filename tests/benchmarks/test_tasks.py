"""The tables of tasks with a known symmetry."""

from benchmarks import tasks


def numbers(*seeds):
    return {"seeds": list(seeds)}


RECORD = {
    "seeds": [0, 1],
    "config": {"tasks": ["turned"]},
    "metrics": {
        "turned": {
            "amounts": {"position": numbers(0.1, 0.3), "orientation": numbers(0.0, 0.0)},
            "learned": {"test": numbers(0.9, 0.9)},
            "strict": {"test": numbers(0.8, 0.9)},
            "free": {"test": numbers(0.5, 0.5)},
            "best fixed": {"test": numbers(0.9, 0.9), "bandwidths": [0.0, 1.5]},
        }
    },
}


def test_a_task_is_a_row():
    assert tasks.accuracies(RECORD)[2:] == [
        "| turned | 90.0 +- 0.0 | 85.0 +- 7.1 | 50.0 +- 0.0 | 90.0 +- 0.0 | 0 and 1.5 |"
    ]


def test_differences_are_paired_over_the_seeds():
    """Of 10 and 0 points the mean is 5, the standard error 5, and t is 12.706."""
    assert tasks.differences(RECORD)[2:] == [
        "| turned | +5.0 (-58.5 to +68.5) | +40.0 (+40.0 to +40.0) | +0.0 (+0.0 to +0.0) |"
    ]


def test_a_seed_is_a_row():
    assert tasks.amounts(RECORD) == [
        "| seed | turned, position | turned, orientation |",
        "|---|---|---|",
        "| 0 | 0.1000 | 0.0000 |",
        "| 1 | 0.3000 | 0.0000 |",
    ]


def test_the_record_has_everything_that_the_tables_say():
    found = tasks.record()
    assert len(tasks.accuracies(found)) == len(tasks.differences(found)) == 2 + 4
    assert len(tasks.amounts(found)) == 2 + 5
