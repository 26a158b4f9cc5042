"""The runner: `python -m benchmarks NAME [options]` measures one entry and leaves one JSON."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import tyro

from benchmarks.entry import Common, Report
from benchmarks.timing import Spread, Timing
from experiments.results import Result, commit, write_json

ENTRIES = (
    "expansion",
    "layer",
    "demo_network",
    "epoch",
    "construction",
    "equivariance",
    "drift",
    "budget",
    "training",
    "distance",
    "pde_equivariance",
    "versus_lietorch",
    "relaxed",
    "costs",
    "versus_dense",
    "scaling",
    "steps",
    "compile",
    "large",
)
RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str]) -> None:
    """Run one entry: parse its options, prepare the process, measure, print, write."""
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in ENTRIES}
    config: Common = tyro.extras.subcommand_cli_from_dict(
        {name: module.Config for name, module in modules.items()},
        prog="python -m benchmarks",
        description="Measure one entry; print a table and write one JSON.",
        args=arguments,
    )
    (name,) = (name for name, module in modules.items() if module.Config is type(config))
    out = config.out or RESULTS / f"{config.stem or name}.json"
    if out.exists() and not config.overwrite:
        sys.exit(f"{out} exists; pass --overwrite to replace it, or another file as --out.")
    if config.cores:
        pin(config.cores)

    start, revision = time.perf_counter(), commit()  # before the run's own plots change the tree
    report = modules[name].run(config)
    result = record(config.stem or name, config, report, arguments, time.perf_counter() - start)
    result = dataclasses.replace(result, commit=revision)
    print("\n".join(table(report)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    print(f"\nwritten to {out}")


def pin(cores: int) -> None:
    """Keep this process on so many CPU cores, and JAX on one thread if it is one.

    JAX reads both when it starts its backend, so it must not have been used before.
    """
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[-cores:])
    if cores == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    # Compile times would be those of reading a file.
    jax.config.update("jax_enable_compilation_cache", False)


def record(
    name: str, config: Common, report: Report, arguments: Sequence[str], seconds: float
) -> Result:
    """Return the record: a list over the cases for each quantity, and the headline numbers."""
    timings = [timing for case in report.cases for timing in case.get("times", {}).values()]
    return Result.of(
        name,
        command=shlex.join(["python", "-m", "benchmarks", *arguments]),
        config=config,
        seeds=config.seeds,
        curve={key: [case[key] for case in report.cases] for key in report.cases[0]},
        metrics=report.metrics,
        seconds={"total": seconds, "compile": sum(timing.compile_seconds for timing in timings)},
    )


def table(report: Report) -> list[str]:
    """Return a report as lines to read: what every case is, its times, its ratios."""
    lines = list(report.lines)
    for case in report.cases if not lines else ():
        words = (f"{key} {value}" for key, value in case.items() if not isinstance(value, dict))
        lines += ["", ", ".join(words)]
        lines += [f"  {k:42s}{_describe(v)}" for k, v in (case["times"] | case["ratios"]).items()]
    return [*lines, "", *(f"{key:66s}{value:12.5g}" for key, value in report.metrics.items())]


def _describe(value: Spread) -> str:
    if not isinstance(value, Timing):
        return f"{value.median:10.3f}     ({value.lower:.3f} to {value.upper:.3f})"
    ms = [f"{1e3 * t:.3f}" for t in (value.median, value.lower, value.upper)]
    text = f"{ms[0]:>10s} ms  ({ms[1]} to {ms[2]}), compiled in {value.compile_seconds:.2f} s"
    if value.temporary_bytes is not None:
        text += f", {value.temporary_bytes / 2**20:.2f} MiB"
    if value.flops:
        text += f", {value.flops / value.median / 1e9:.1f} GFLOP/s"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
