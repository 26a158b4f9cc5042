"""The networks whose epochs are compared are the one network, and a plain one as wide."""

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import epoch
from experiments.networks import count_parameters


def test_both_algorithms_are_the_published_network():
    models = {
        name: nnx.eval_shape(lambda name=name: epoch.build(epoch.Config(), name))
        for name in ("stencils", "direct")
    }
    for name, model in models.items():
        assert count_parameters(model) == 26_747
        assert {conv.algorithm for conv in model.convs} == {name}
        assert model.dropout.rate == 0.2


def test_the_plain_network_is_as_wide():
    model = nnx.eval_shape(lambda: epoch.build(epoch.Config(group="p4"), "plain CNN", 0.0))
    assert [conv.out_features for conv in model.convs] == [28] * 6
    assert model.dropout.rate == 0


@pytest.mark.slow  # compiles networks
def test_the_entry_measures_what_it_says():
    config = epoch.Config(group="p4", algorithms=("stencils",), batch=2, steps=3, repeats=2)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        report = epoch.run(config)
    (case,) = report.cases
    assert set(case["times"]) == {f"{n}, {p}" for n in ("stencils", "plain CNN")
                                  for p in config.parts}  # fmt: skip
    assert len(report.metrics) == 8 and np.all(np.array(list(report.metrics.values())) > 0)
    seconds = 3 * case["times"]["stencils, step"].median
    assert report.metrics["stencils, step, seconds an epoch"] == seconds
