"""One convolution against dense ones and escnn: what is compared, the other process, the table."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import timing, versus_dense
from benchmarks.__main__ import main
from benchmarks.documents import cases
from benchmarks.measures import crossover, escnn_process, worker
from experiments.results import ROOT

OPTIONS = "versus_dense --cases p4 1 4 1 --cores 0 --repeats 1 --warmup 1"
# Speaks as the worker does, but computes nothing.
SPEAKER = """
import json, sys
print("escnn 0", flush=True)
for line in sys.stdin:
    if json.loads(line)["task"] == "unknown":
        sys.exit("no such task")
    print(7, flush=True)
"""


def test_patches_times_the_kernel_are_the_convolution():
    @jax.jit
    def both(x, kernel):
        dense = (versus_dense.convolution(x, k) for k in (kernel, kernel[::-1]))
        return versus_dense.im2col(x, kernel), *dense

    rng = np.random.default_rng(0)
    patches, dense, mirrored = both(rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(3, 3, 3, 2)))
    assert versus_dense.difference([patches], [dense]) < 1e-14
    assert versus_dense.difference([patches], [mirrored]) > 0.1


def timed(seconds):
    return timing.Timing(seconds, seconds, seconds, [seconds] * 2, 0.0, 2**20, None)


def test_ratios_are_to_the_dense_convolution_and_to_escnn():
    seconds = {"XLA": 4.0, "harmonic": 1.0, "escnn": 2.0}
    times = {f"{k}, {part}": timed(v) for k, v in seconds.items() for part in versus_dense.PASSES}
    found = versus_dense.ratios(times, "harmonic")
    part = versus_dense.BACKWARD
    assert found[f"auto / XLA, {part}"] == found[f"harmonic / XLA, {part}"]
    assert found[f"auto / XLA, {part}"].median == 0.25
    assert found[f"auto / escnn, {part}"].median == 0.5
    assert found[f"escnn / XLA, {part}"].median == 0.5
    alone = {name: t for name, t in times.items() if "escnn" not in name}
    assert not any("escnn" in name for name in versus_dense.ratios(alone, "harmonic"))


def test_the_process_takes_its_turns(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(SPEAKER)
    monkeypatch.setattr(escnn_process, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(escnn_process, "missing", lambda python: "")
    with (
        pytest.raises(RuntimeError, match="(?s)escnn failed in .*no such task"),
        escnn_process.start(ROOT / sys.executable) as peer,
    ):
        assert peer.about == "escnn 0" and peer.program
        program, parameters = peer.program(task="layer", order=8)
        assert parameters == 7 and program.compile_seconds > 0
        assert timing.measure({"escnn": program}, repeats=2, warmup=1)["escnn"].median > 0
        peer.program(task="unknown")


def test_a_program_that_does_not_start_says_why(tmp_path):
    (tmp_path / "worker.py").write_text("import sys; sys.exit('not today')")
    with (
        pytest.raises(RuntimeError, match="(?s)the other failed in .*not today"),
        worker.start("the other", ROOT / sys.executable, tmp_path / "worker.py"),
    ):
        pass


def test_another_python_has_no_escnn(tmp_path, capsys):
    assert escnn_process.missing(ROOT / sys.executable) == "its Python has no escnn"
    with escnn_process.start(tmp_path / "python") as peer:
        assert peer.program is None and peer.about == "none: there is no Python that has it"
    assert "pip install -r benchmarks/peers.txt" in capsys.readouterr().out


def test_the_fastest_are_counted_by_rotations_and_fields():
    def case(group, fields, **seconds):
        return {"group": group, "fields": fields, "seconds": seconds}

    shapes = [
        case("p8", 20, direct=2.0, harmonic=1.0),
        case("p6", 31, direct=3.0, harmonic=1.0),
        case("p8m", 16, direct=1.0, harmonic=2.0),
        case("p4m", 1, direct=2.0, stencils=1.0),
    ]
    _, _, few, some, many = crossover.lines(shapes)
    assert few == "| 3 to 5 | stencils 1 | - | - | - | - |"
    assert some == "| 6 to 8 | - | - | - | harmonic 2, direct 1 | - |"
    assert many == "| 9 to 16 | - | - | - | - | - |"


@pytest.mark.slow
def test_without_escnn_ours_run_alone(tmp_path):
    out = tmp_path / "result.json"
    main([*OPTIONS.split(), "--escnn", str(tmp_path / "python"), "--out", str(out)])
    record = json.loads(out.read_text())
    (case,) = cases(record)
    assert (tmp_path / "versus_dense.png").exists()
    assert case["peer"].startswith("none") and case["auto"] in versus_dense.OURS
    assert case["im2col bytes"] == 9 * 4 * 4 * 4 * 4
    assert max(case["differences"].values()) < 2e-5
    owners = [owner for owner in versus_dense.OWNERS if owner != "escnn"]
    assert set(case["times"]) == {f"{o}, {part}" for o in owners for part in versus_dense.PASSES}
    table = versus_dense.lines([case])
    assert sum("p4, 1 fields, 1 x 4 x 4" in row for row in table) == 2
    assert "auto / XLA, forward + backward, p4, 1 fields, 1 x 4 x 4" in record["metrics"]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / versus_dense.Config().escnn).exists(), reason="there is no escnn")
def test_escnn_is_there():
    with escnn_process.start(ROOT / versus_dense.Config().escnn) as peer:
        assert peer.program
        task = dict(task="layer", order=8, fields=3, pixels=6, batch=2)
        program, parameters = peer.program(**task, forward=False)
        assert parameters == 88 * 3 * 3  # of 5 x 5 taps, for every pair of fields
        program.call()
        _, same = peer.program(**task, forward=True)
        assert same == parameters
        # With 88 numbers where we have 72, and 11 for a lift where we have 9.
        _, parameters = peer.program(task="mnist_rot", order=8, batch=1)
        assert abs(parameters / 26_747 - 88 / 72) < 0.1
        np.testing.assert_equal(peer.program(task="mnist_rot", order=8, batch=1)[1], parameters)
