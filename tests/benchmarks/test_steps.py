"""Training steps: the networks that are compared, and a record."""

import json

import jax
import pytest
from flax import nnx

import pdo_jax as pdo
from benchmarks import steps
from benchmarks.__main__ import main
from benchmarks.documents import cases
from experiments.networks import count_parameters


def build(network, name, group="p8"):
    config = steps.Config(network=network, group=group)
    return nnx.eval_shape(lambda: steps.build(config, name))


def layers(model):
    return [m for _, m in nnx.iter_graph(model) if isinstance(m, pdo.nn.PDOLift | pdo.nn.PDOConv)]


def test_every_convolution_has_the_algorithm_that_serves_it():
    model = build("mnist_rot", "harmonic")
    assert [layer.algorithm for layer in layers(model)] == ["harmonic"] * 6
    assert count_parameters(model) == 26_747


@pytest.mark.slow  # builds large networks
def test_strided_convolutions_are_direct():
    model = build("resnet44", "stencils")
    found = {max(layer.strides): layer.algorithm for layer in layers(model)}
    assert found == {1: "stencils", 2: "direct"}
    assert count_parameters(model) == 2_621_693


def test_plain_networks_are_as_wide():
    plain = build("mnist_rot", steps.PLAIN, "p4")
    assert [conv.out_features for conv in plain.convs] == [28] * 6


@pytest.mark.slow  # builds large networks
def test_plain_residual_networks_are_as_wide():
    plain = build("resnet44", steps.PLAIN)
    assert [block.conv2.out_features for block in plain.blocks[::7]] == [88, 184, 360]
    assert {layer.algorithm for layer in layers(plain)} == {"direct"}
    assert plain.stem.basis.size == 3


def test_metrics_are_images_per_second():
    case = {"batch": 10, "times": {"auto": {"median": 0.5}}}
    case |= {"ratios": {"auto / escnn": {"median": 0.3}}}
    assert steps.metrics([case]) == {"auto, images/s": 20, "auto / escnn": 0.3}


@pytest.mark.slow
def test_entry_writes_a_record_and_a_table(tmp_path):
    out = tmp_path / "result.json"
    options = f"--escnn {tmp_path}/python --out {out} --cores 0"
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        main(f"steps --network mnist_rot --batch 2 --repeats 1 --algorithms auto {options}".split())
    record = json.loads(out.read_text())
    assert record["name"] == "steps_mnist_rot"
    (case,) = cases(record)
    assert set(case["times"]) == {"auto", steps.PLAIN} and case["peer"].startswith("none")
    assert case["parameters"]["auto"] == 26_747
    assert record["metrics"]["auto, images/s"] == 2 / case["times"]["auto"]["median"]
    assert len(steps.lines([case])) == 2 + 2 + 2
