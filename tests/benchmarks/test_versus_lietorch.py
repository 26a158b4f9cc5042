"""The comparison with LieTorch: what is compared, the process of the other library, the table."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import pdo_jax as pdo
from benchmarks import versus_lietorch
from benchmarks.__main__ import RESULTS, main
from benchmarks.measures import lietorch_process as lietorch
from experiments.results import ROOT, Result

SCHEMA = {field.name for field in dataclasses.fields(Result)}
WINDOW = (1, 3, 3)
TINY = versus_lietorch.Config(shape=(1, 4, 5, 4, 2), repeats=1, warmup=1)
OPTIONS = "--shape 1 4 5 4 2 --kernel-sizes 1 3 3 --repeats 1 --warmup 1 --cores 0"
# Speaks as the worker does, but computes nothing.
SPEAKER = """
import sys
import numpy as np
given = dict(np.load(sys.argv[1]))
values = {}
for name in ("dilation", "morphological_conv", "linear_conv", "convection"):
    values[name + "_y"] = values[name + "_x"] = given["compared_x"]
    values[name + "_parameter"] = given["compared_kernel"]
np.savez(sys.argv[2], version="LieTorch 0", **values)
print("ready", flush=True)
for line in sys.stdin:
    if "convection, forward +" in line:
        sys.exit("no more")
    print("done", flush=True)
"""


def cases(record):
    columns = record["curve"]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.slow
def test_without_lietorch_ours_run_alone(tmp_path, capsys):
    out = tmp_path / "result.json"
    where = f"--operators morphological_conv --lietorch {tmp_path}/python --out {out}"
    main(f"versus_lietorch {OPTIONS} {where}".split())
    record = json.loads(out.read_text())
    assert set(record) == SCHEMA
    (case,) = cases(record)
    assert case["peer"] == f"none: there is no Python at {tmp_path}/python"
    assert case["difference"] is None and "ours, forward" in case["times"]
    assert not any("LieTorch" in name for name in (*case["times"], *case["ratios"]))
    assert "temporary memory / input, morphological_conv 1x3x3" in record["metrics"]
    printed = capsys.readouterr().out
    assert "pip install -r benchmarks/lietorch.txt" in printed
    assert (ROOT / "benchmarks/lietorch.txt").exists()
    table = versus_lietorch.lines([case])
    assert len(table) == 2 + 2
    assert table[2].startswith("| morphological_conv | 1x3x3 | forward | - | ")
    assert versus_lietorch.lines([]) == ["No run is on record yet."]


def test_plain_loop_is_the_convolution():
    found = versus_lietorch.arrays(TINY, WINDOW)
    y = versus_lietorch.plain(found["x"], found["kernel"])
    np.testing.assert_array_equal(y, pdo.pde.morphological_conv(found["x"], found["kernel"]))


@pytest.mark.parametrize("operator", ["dilation", "morphological_conv"])
def test_committed_record_is_of_the_default_command_and_within_the_limit(operator):
    record = json.loads((RESULTS / "versus_lietorch.json").read_text())
    assert record["command"].removesuffix(" --overwrite") == "python -m benchmarks versus_lietorch"
    of = [case for case in cases(record) if case["operator"] == operator]
    assert [case["window"] for case in of] == list(map(list, TINY.kernel_sizes))
    for case in of:
        ours, theirs = (
            case["times"][f"{name}, forward + backward"]["median"] for name in ("ours", "LieTorch")
        )
        assert ours / theirs <= 0.6
        key = " ".join([operator, *versus_lietorch.window(case)])
        assert record["metrics"][f"ours / LieTorch, forward + backward, {key}"] <= 0.6


def test_another_python_has_no_lietorch():
    folder, reason = lietorch.library(ROOT / sys.executable)
    assert folder is None and reason.endswith("has no LieTorch with compiled code")


def test_the_process_takes_its_turns(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(SPEAKER)
    monkeypatch.setattr(lietorch, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(lietorch, "library", lambda python: (tmp_path, ""))
    given = versus_lietorch.given(TINY, WINDOW)
    with (
        pytest.raises(RuntimeError, match="(?s)LieTorch failed in .*no more"),
        lietorch.start(ROOT / sys.executable, lambda: given) as peer,
    ):
        assert peer.about == "LieTorch 0" and peer.program
        peer.program("convection, forward").call()
        np.testing.assert_array_equal(peer.values["dilation_y"], given["compared_x"])
        peer.program("convection, forward + backward").call()


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / TINY.lietorch).exists(), reason="there is no LieTorch")
def test_values_are_lietorchs(tmp_path):
    out = tmp_path / "result.json"
    main(f"versus_lietorch {OPTIONS} --out {out}".split())
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["largest difference, four orientations"] < 1e-6
    assert metrics["largest difference of gradients, four orientations"] < 1e-5
    assert metrics["ours / LieTorch, forward + backward, dilation 1x3x3"] > 0
