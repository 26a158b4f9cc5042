"""The ways to take steps that are compared do the same work."""

import numpy as np
import pytest

from benchmarks import training


@pytest.mark.slow  # three compilations of a network
def test_all_ways_take_the_same_steps():
    config = training.Config(batch=4, steps=2, number=2)
    called = {
        name: program.call() for name, program in training.programs(config, "mnist_cnn").items()
    }
    (together,) = called["together"][0]
    assert together.step.tolist() == [2, 2]
    last = float(called["together"][1]["loss"][-1])  # of the second seed's second step
    for name in ("one by one", "fused"):
        states, numbers = called[name]
        assert [int(state.step) for state in states] == [2, 2]
        assert np.ravel(numbers["loss"])[-1] == pytest.approx(last, rel=1e-3)
