"""How time is taken: the order of the calls and the statistics, on a clock of our own."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import Program, Spread, excess, measure, prepare, ratio, spread


@pytest.fixture
def clock(monkeypatch):
    """Stop the clock of `timing`: it moves only when a program is called."""

    class Clock:
        now = 0.0
        log = []

        def program(self, name, seconds):
            seconds = iter(seconds)

            def call():
                self.log.append(name)
                self.now += next(seconds)
                return jnp.zeros(())

            return Program(call, compile_seconds=5.0)

    clock = Clock()
    clock.log = []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_rounds_interleave_the_programs(clock):
    programs = {name: clock.program(name, [1.0] * 5) for name in "AB"}
    measure(programs, repeats=3, warmup=2)
    assert "".join(clock.log) == "AABB" + "AB" * 3


def test_medians_leave_out_warm_up_and_compilation(clock):
    programs = {"A": clock.program("A", [90.0, 1.0, 4.0, 2.0])}
    times = measure(programs, repeats=3, warmup=1)
    assert times["A"].samples == [1.0, 4.0, 2.0]
    assert (times["A"].median, times["A"].lower, times["A"].upper) == (2.0, 1.5, 3.0)
    assert times["A"].compile_seconds == 5.0


def test_ratios_are_taken_within_rounds(clock):
    # The machine is ten times slower in the second round: the ratio of medians would be 4.
    programs = {
        "A": clock.program("A", [1.0, 2.0, 20.0, 4.0]),
        "B": clock.program("B", [1.0, 1.0, 10.0, 1.0]),
    }
    times = measure(programs, repeats=3, warmup=1)
    assert times["A"].median / times["B"].median == 4.0
    assert ratio(times["A"], times["B"]) == Spread(2.0, 2.0, 3.0)
    assert excess(times["A"], times["B"]) == Spread(1.0, 1.0, 2.0)


def test_short_programs_are_called_several_times_a_sample(clock):
    programs = {"A": clock.program("A", [timing.MIN_SECONDS / 4] * 9)}
    times = measure(programs, repeats=2, warmup=1)
    assert len(clock.log) == 1 + 2 * 4
    np.testing.assert_allclose(times["A"].median, timing.MIN_SECONDS / 4)


@pytest.mark.parametrize("options", [{"repeats": 0}, {"repeats": 1, "warmup": 0}])
def test_too_few_calls(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        measure({}, **options)


def test_spread():
    assert spread([1, 2, 3, 4, 100]) == Spread(3.0, 2.0, 4.0)


def test_prepare_compiles_and_counts():
    a = jnp.ones((3, 4), jnp.float32)
    program = prepare(lambda a, b: a @ b, a, a.T)
    np.testing.assert_array_equal(program.call(), np.full((3, 3), 4.0))
    assert program.flops == 2 * 3 * 4 * 3
    assert program.compile_seconds > 0
    assert program.temporary_bytes is not None
