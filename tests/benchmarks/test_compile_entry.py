"""What is compiled and what is measured on large images is what the entries say."""

import jax
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from benchmarks import compile as entry
from benchmarks import large


def test_algorithms_go_where_they_serve():
    model = nnx.eval_shape(lambda: pdo.models.resnet8(rngs=nnx.Rngs(0)))
    entry.choose(model, "stencils")
    assert model.stem.algorithm == "auto"
    chosen = {conv.strides: conv.algorithm for b in model.blocks for conv in (b.conv1, b.conv2)}
    assert chosen == {(1, 1): "stencils", (2, 2): "auto"}


def test_tables_read_measurements_and_records_alike():
    spreads = {part: {"median": 1.5, "lower": 1, "upper": 2} for part in entry.PARTS}
    case = {"network": "n", "algorithm": "a", "seconds": spreads, "processor": spreads["trace"]}
    table = entry.lines([case | {"characters": 2_500_000}])
    assert table[-1] == "| n | a | 1.5 s | 1.5 s | 1.5 s | 4.5 s | 1.5 s | 2.50 MB |"
    case = {"network": "n", "pixels": 9, "memory": {"training": 2**30}, "times": {}}
    assert large.lines([case])[-1] == "| n | 9 x 9 | training | 1,024 | - |"


@pytest.mark.slow
def test_a_step_is_compiled_in_parts():
    report = entry.run(entry.Config(networks=("mnist_rot",), algorithms=("direct",), repeats=1))
    (case,) = report.cases
    assert all(case["seconds"][part].median > 0 for part in entry.PARTS)
    assert report.metrics == {"mnist_rot, direct, seconds": entry.total(case)}
    assert case["characters"] > 10_000


@pytest.mark.slow
def test_the_ways_to_run_a_network_agree():
    """The quickest to compile; that others agree is tested with folding and with checkpoints."""
    config, network = large.Config(), "vessel_gcnn"
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        results = {way: large.program(config, network, 9, way).call() for way in large.WAYS}
    np.testing.assert_allclose(results["folded"], results["as trained"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(results["checkpoint"][0], results["training"][0], rtol=1e-4)


@pytest.mark.slow
def test_what_does_not_fit_is_not_run():
    config = large.Config(ways=("as trained",), limit=0.0)
    case = large.measure(config, "resnet8", 9)
    assert case["memory"]["as trained"] > 0 and not case["times"] and not case["ratios"]
