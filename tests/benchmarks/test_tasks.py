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
        },
        "ordered": {},
    },
}


def test_a_task_is_a_row():
    assert tasks.lines(RECORD)[2:] == [
        "| turned | 0.200 +- 0.141 | 0.000 +- 0.000 | 90.0 +- 0.0 | 85.0 +- 7.1 | 50.0 +- 0.0 "
        "| 90.0 +- 0.0 | 0 and 1.5 |"
    ]


def test_a_seed_is_a_row():
    assert tasks.by_seed(RECORD) == [
        "| seed | turned, position | turned, orientation |",
        "|---|---|---|",
        "| 0 | 0.100 | 0.000 |",
        "| 1 | 0.300 | 0.000 |",
    ]
