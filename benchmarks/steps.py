"""Whole training steps: images per second by algorithm, against a plain CNN, and against escnn.

    mnist_rot    26,747 parameters, 28 x 28 pixels, with dropout
    resnet44     2.6 million parameters, 32 x 32 pixels, three colours

A step is forward, backward, Adam and the running statistics; in JAX it is one compiled program. The
plain CNN has |G| channels for every field, so that its features are as many, and convolutions of
3 x 3 taps by XLA. escnn's network has an `R2Conv` with regular fields, 5 x 5 taps and as many
fields for every convolution of ours; it takes its turns in a process of its own on the same cores.

"stencils" do not serve strides: the two strided convolutions of resnet44 are direct there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import nnx

import pdo_jax as pdo
from benchmarks import demo_network, entry, timing
from benchmarks.measures import escnn_process
from benchmarks.versus_dense import ESCNN, plain
from experiments.networks import count_parameters
from experiments.results import ROOT
from pdo_jax.algorithms import ALGORITHMS

AUTO, PLAIN = "auto", "plain CNN"


class Network(NamedTuple):
    """What is peculiar to a network."""

    shape: tuple[int, int, int]
    """Of an image."""
    batch: int
    """The number of images in a step."""
    repeats: int
    """The number of rounds that a CPU allows."""


NETWORKS = {"mnist_rot": Network((28, 28, 1), 128, 7), "resnet44": Network((32, 32, 3), 16, 3)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(entry.Options):
    """Training steps of whole networks: images per second by algorithm, and of escnn."""

    network: Literal["mnist_rot", "resnet44"]
    """Which one."""
    group: str = "p8"
    """A group C_n."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """How the convolutions are computed."""
    plain: bool = True
    """Measure the plain CNN, too."""
    batch: int = 0
    """The number of images in a step; 0 for 128 of mnist_rot and 16 of resnet44."""
    escnn: Path = Path(".venv-escnn/bin/python")
    """The Python that has escnn, from the project's folder; without it ours run alone."""
    cores: int = 2
    """Pin the process to so many CPU cores; 0 leaves it free."""
    repeats: int = 0
    """The number of rounds; 0 for 7 of mnist_rot and 3 of resnet44."""
    warmup: int = 1
    """The number of calls of every program before the first round."""

    @property
    def stem(self) -> str:
        """The name of the result."""
        return f"steps_{self.network}"


def run(config: Config) -> entry.Report:
    """Measure one network."""
    network = NETWORKS[config.network]
    batch, repeats = config.batch or network.batch, config.repeats or network.repeats
    (images,) = entry.normal(config.seed, "float32", (batch, *network.shape))
    labels = jnp.arange(batch) % 10
    programs, parameters = {}, {}
    for name in (*config.algorithms, *([PLAIN] if config.plain else [])):
        model = build(config, name)
        parameters[name] = count_parameters(model)
        programs[name] = demo_network.training(model, images, labels)
    with escnn_process.start(ROOT / config.escnn) as peer:
        if peer.program:
            order = pdo.group(config.group).order
            task = dict(task=config.network, order=order, batch=batch)
            programs[ESCNN], parameters[ESCNN] = peer.program(**task)
        times = timing.measure(programs, repeats=repeats, warmup=config.warmup)
    ratios = {
        f"{name} / {other}": timing.ratio(times[name], times[other])
        for name in config.algorithms
        for other in (PLAIN, ESCNN)
        if other in times
    }
    case = {"network": config.network, "group": config.group, "batch": batch, "peer": peer.about}
    case |= {"parameters": parameters, "times": times, "ratios": ratios}
    return entry.Report([case], metrics(plain([case])))


def build(config: Config, name: str) -> Any:
    """Return the network with the algorithm of that name, or the plain CNN."""
    rngs, order = nnx.Rngs(config.seed), pdo.group(config.group).order
    if name != PLAIN:
        model = getattr(pdo.models, config.network)(group=config.group, rngs=rngs)
        return select(model, name)
    if config.network == "mnist_rot":
        return demo_network.PlainCNN(features=7 * order, last=7 * order, rngs=rngs)
    equivariant = nnx.eval_shape(lambda: build(config, AUTO))
    stages = equivariant.blocks[0], equivariant.blocks[7], equivariant.blocks[14]
    widths = tuple(order * block.conv2.out_features for block in stages)
    model = pdo.models.ResNet(
        widths, (7, 7, 7), group=None, num_classes=10, in_features=3, rngs=rngs
    )
    return select(model, "direct")


def select(model: nnx.Module, algorithm: str) -> nnx.Module:
    """Return the model with an algorithm for all of its convolutions that it serves."""
    for _, layer in nnx.iter_graph(model):
        if isinstance(layer, pdo.nn.PDOLift | pdo.nn.PDOConv):
            served = algorithm != "stencils" or max(layer.strides) == 1
            layer.algorithm = algorithm if served else "direct"
    return model


def metrics(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return images per second, and ratios of the times."""
    (case,) = cases
    found = {
        f"{name}, images/s": case["batch"] / timed["median"]
        for name, timed in case["times"].items()
    }
    return found | {key: value["median"] for key, value in case["ratios"].items()}


def lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of a record."""
    (case,) = cases
    rows = [
        f"| {case['network']}, {case['group']}, batch {case['batch']} | parameters | images/s "
        "| seconds a step | quartiles | / plain CNN | / escnn | compiled in |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, timed in case["times"].items():
        others = (case["ratios"].get(f"{name} / {other}") for other in (PLAIN, ESCNN))
        cells = [format(ratio["median"], ".2f") if ratio else "" for ratio in others]
        seconds = "" if name == ESCNN else f"{timed['compile_seconds']:.0f} s"
        rows.append(
            f"| {name} | {case['parameters'][name]:,} | {case['batch'] / timed['median']:.1f} "
            f"| {timed['median']:.3f} | {timed['lower']:.3f} to {timed['upper']:.3f} "
            f"| {' | '.join(cells)} | {seconds} |"
        )
    return [*rows, "", f"escnn: {case['peer']}."]
