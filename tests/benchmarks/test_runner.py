"""The runner: what it writes, what it refuses, and that every entry can be started by its name."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import ENTRIES, RESULTS, main
from benchmarks.entry import Common
from experiments.results import Result

ROOT = Path(__file__).parents[2]
SCHEMA = {field.name for field in dataclasses.fields(Result)}
# The entries that take time; those that measure errors have tests of their own.
TINY = {
    "expansion": "--groups p4 --fields 1 2 --pixels 4 --batch 1",
    "layer": "--group p4 --cases 1 4 2 3 --batch 1",
    "demo_network": "--families rotated_digits --modes inference --batch 1",
    "construction": "--group p4 --fields 2",
    "large": "--networks resnet8 --pixels 9",
}


def arguments(name, out):
    return [name, *TINY[name].split(), *f"--cores 0 --repeats 2 --warmup 1 --out {out}".split()]


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_entry_writes_a_record(name, tmp_path, capsys):
    out = tmp_path / "new" / "result.json"
    main(arguments(name, out))
    record = json.loads(out.read_text())
    assert set(record) == SCHEMA
    assert record["name"] == name
    assert record["command"] == f"python -m benchmarks {' '.join(arguments(name, out))}"
    assert record["seeds"] == [0]
    assert record["config"]["repeats"] == 2
    assert record["metrics"] and record["seconds"]["compile"] < record["seconds"]["total"]
    cases = 2 if name in ("expansion", "layer") else 1
    assert {len(column) for column in record["curve"].values()} == {cases}
    for times, ratios in zip(record["curve"]["times"], record["curve"]["ratios"], strict=True):
        assert len(times) > 1 and ratios
        for timing in times.values():
            assert len(timing["samples"]) == 2
            assert {"compile_seconds", "temporary_bytes", "flops"} < set(timing)
        for numbers in (*times.values(), *ratios.values()):
            assert numbers["lower"] <= numbers["median"] <= numbers["upper"]
    printed = capsys.readouterr().out
    assert all(key in printed for key in record["metrics"])


@pytest.mark.slow
def test_results_are_not_overwritten_unasked(tmp_path):
    out = tmp_path / "result.json"
    out.write_text("old")
    with pytest.raises(SystemExit, match="exists; pass --overwrite"):
        main(arguments("expansion", out))
    assert out.read_text() == "old"
    main([*arguments("expansion", out), "--overwrite"])
    assert json.loads(out.read_text())["name"] == "expansion"


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_says_what_it_is(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert issubclass(module.Config, Common)
    assert module.Config.__doc__.count("\n") == 0
    assert module.__doc__


@pytest.mark.parametrize("name", sorted(TINY))
def test_committed_result_is_of_the_default_command(name):
    record = json.loads((RESULTS / f"{name}.json").read_text())
    assert set(record) == SCHEMA
    assert record["command"].removesuffix(" --overwrite") == f"python -m benchmarks {name}"


def run(*command):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_help_lists_the_entries():
    output = run("-m", "benchmarks", "--help")
    assert all(name in output for name in ENTRIES)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are pinned on Linux alone")
@pytest.mark.slow
def test_pinning_comes_before_jax_starts():
    output = run(
        "-c",
        "import os; from importlib import import_module; from jax._src import xla_bridge;"
        "from benchmarks.__main__ import ENTRIES, pin;"
        "[import_module(f'benchmarks.{name}') for name in ENTRIES];"
        "pin(1); assert not xla_bridge.backends_are_initialized();"
        "print(len(os.sched_getaffinity(0)), os.environ['XLA_FLAGS'])",
    )
    assert output.split()[0] == "1"
    assert "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" in output
