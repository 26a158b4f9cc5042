"""The entry for relaxed layers: what its layers have, and what it makes of times and memory."""

import json

import numpy as np
import pytest
from flax import nnx

from benchmarks import relaxed, timing
from benchmarks.__main__ import RESULTS, main
from benchmarks.documents import cases

TINY = "--cases p4 2 4 1 --filters 1 2 --cores 0 --repeats 2 --warmup 1"


def test_parameters_do_not_know_the_positions():
    inputs, features = 9 * 4 * 3, 16
    found = nnx.eval_shape(lambda: nnx.Dict(relaxed.layers(relaxed.Config(), "p4", 3)))
    counts = {name: relaxed.parameters(module) for name, module in found.items()}
    gains = {f: f + features * f + 2 for f in (1, 2, 3, 4)}
    assert counts == {
        "strict": inputs * 3 + 3,
        **{f"non-stationary, {f}": inputs * 3 * f + gains[f] + 3 for f in gains},
        "orientation, 2": inputs * 6 + gains[2] - 1 + 3,
        "weights, 2": inputs * 6 + 4 * 2 + 3,
        "partial, 1": inputs * 3 + 1 + 3,
        "residual, 1": inputs * 3 + 9 * 12 * 12 + 3,
    }


def test_metrics_hold_times_to_the_filters_and_memory_to_a_line():
    def timed(seconds, size):
        samples = [seconds, seconds]
        return timing.Timing(seconds, seconds, seconds, samples, 0.0, size, None)

    times = {"strict": timed(2.0, 10), "non-stationary, 1": timed(2.2, 12)}
    times |= {"non-stationary, 2": timed(5.0, 20), "non-stationary, 3": timed(6.0, 28)}
    times |= {"weights, 2": timed(9.0, 99)}  # the limit is for the gains of all poses
    ratios = {f"{k} / strict": timing.ratio(v, times["strict"]) for k, v in times.items()}
    case = {"group": "p4", "fields": 1, "pixels": 4, "times": times, "ratios": ratios}
    found = relaxed.metrics([case])
    assert found["largest ratio - F"] == pytest.approx(0.5)
    assert found["memory of one more filter / strict, p4, 1 fields, 4 pixels"] == pytest.approx(0.8)
    assert found["memory off a straight line, p4, 1 fields, 4 pixels"] == pytest.approx(0, abs=1e-9)


def test_committed_record_is_of_the_default_command_and_within_the_limit():
    record = json.loads((RESULTS / "relaxed.json").read_text())
    assert record["command"].removesuffix(" --overwrite") == "python -m benchmarks relaxed"
    assert record["metrics"]["largest ratio - F"] <= 0.3


def test_committed_record_says_that_memory_is_linear_in_the_filters():
    record = json.loads((RESULTS / "relaxed.json").read_text())
    found = cases(record)
    assert len(found) >= 2
    for case in found:
        counts = range(1, 5)
        sizes = [case["times"][f"non-stationary, {f}"]["temporary_bytes"] for f in counts]
        line = np.polyval(np.polyfit(counts, sizes, 1), counts)
        assert np.max(np.abs(line / sizes - 1)) <= 0.1
        assert 0.5 <= (sizes[3] - sizes[0]) / 3 / case["times"]["strict"]["temporary_bytes"] <= 1
    off = [v for name, v in record["metrics"].items() if "off a straight line" in name]
    assert len(off) == len(found) and max(off) <= 0.1


@pytest.mark.slow
def test_entry_writes_a_record_and_a_table(tmp_path):
    out = tmp_path / "result.json"
    main(["relaxed", *TINY.split(), "--out", str(out)])
    record = json.loads(out.read_text())
    (case,) = cases(record)
    assert len(case["times"]) == 7 and len(relaxed.lines([case])) == 2 + 7
    assert "memory of one more filter / strict, p4, 2 fields, 4 pixels" in record["metrics"]
