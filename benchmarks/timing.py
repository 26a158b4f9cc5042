"""How time is taken.

A program is compiled before anything is timed, and the seconds that takes are kept apart. Then
every round times every program once, in a fixed order, waiting for the result:

    A B C   A B C   A B C   ...

so that whatever slows the machine down for a while slows down all of them. Times are medians over
the rounds; two programs are compared by the median of the ratios within a round.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

MIN_SECONDS = 0.01  # a sample of less is several calls


@dataclasses.dataclass(frozen=True)
class Program:
    """A call that is ready to be timed, and what its compilation said.

    Attributes:
        call: starts the computation and returns its result, which need not be ready.
        compile_seconds: of tracing and compiling.
        temporary_bytes: the memory for what is neither argument nor result; None if unknown.
        flops: the number of floating-point operations as written; None if unknown.
    """

    call: Callable[[], Any]
    compile_seconds: float = 0.0
    temporary_bytes: int | None = None
    flops: float | None = None


@dataclasses.dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class Timing(Spread):
    """The seconds of one call over all rounds, and what the compilation said, as in `Program`."""

    samples: list[float]
    compile_seconds: float
    temporary_bytes: int | None
    flops: float | None


def prepare(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> Program:
    """Compile a function of arrays.

    Args:
        function: a pure function.
        arguments: the arrays, or trees of arrays, that every call gets.
        options: of the compiler.

    Returns:
        The `Program`. Its operations are counted before the compiler rewrites them, so that the
        count does not depend on the device.
    """
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    compiled = lowered.compile(compiler_options=options)
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    cost = lowered.cost_analysis() or {}
    return Program(
        call=lambda: compiled(*arguments),
        compile_seconds=seconds,
        temporary_bytes=None if memory is None else int(memory.temp_size_in_bytes),
        flops=cost.get("flops"),
    )


def measure(programs: Mapping[str, Program], *, repeats: int, warmup: int = 2) -> dict[str, Timing]:
    """Time programs in turns.

    Args:
        programs: the programs by name, in the order in which every round runs them.
        repeats: the number of rounds, at least 1.
        warmup: the number of calls before the first round, at least 1.

    Returns:
        The `Timing` of every program.
    """
    if repeats < 1 or warmup < 1:
        raise ValueError(
            f"repeats (={repeats}) and warmup (={warmup}) must be at least 1; pass larger numbers."
        )
    calls = {}
    for name, program in programs.items():
        seconds = [_sample(program, 1) for _ in range(warmup)]
        calls[name] = math.ceil(MIN_SECONDS / max(seconds[-1], 1e-6))
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            samples[name].append(_sample(program, calls[name]))
    return {
        name: Timing(
            **vars(spread(samples[name])),
            samples=samples[name],
            compile_seconds=program.compile_seconds,
            temporary_bytes=program.temporary_bytes,
            flops=program.flops,
        )
        for name, program in programs.items()
    }


def _sample(program: Program, calls: int) -> float:
    """Return the seconds of one call, from so many of them."""
    start = time.perf_counter()
    result = None
    for _ in range(calls):
        result = program.call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / calls


def ratio(one: Timing, other: Timing) -> Spread:
    """Compare two programs of one run: the median of their ratios within a round."""
    return spread(np.asarray(one.samples) / np.asarray(other.samples))


def excess(one: Timing, other: Timing) -> Spread:
    """Return by what share of the other's time one program takes longer: `ratio` - 1."""
    return Spread(*(value - 1 for value in vars(ratio(one, other)).values()))


def spread(samples: Any) -> Spread:
    """Return the median and the quartiles of some numbers."""
    lower, median, upper = np.percentile(samples, (25, 50, 75))
    return Spread(float(median), float(lower), float(upper))
