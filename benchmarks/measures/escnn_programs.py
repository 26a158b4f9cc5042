"""A program of its own: escnn's regular layers and networks over C_n, run when asked to.

    PYTHON escnn_programs.py

PYTHON has escnn, which needs NumPy 1; this file imports neither pdo_jax nor JAX. It says which
version it has. Every line that it reads is a task and its options as JSON; the first time it is
built. It runs once, and the answer is the number of parameters as JSON.

    {"task": "layer", "forward": ..., "order": ..., "fields": ..., "pixels": ..., "batch": ...}
    {"task": "mnist_rot" or "resnet44", "order": ..., "batch": ...}

A layer is in training mode, so that every call expands the filters. A network does one step of
Adam. The networks are those of `pdo_jax.models` with an `R2Conv` for every convolution.
"""

import functools
import json
import os
import sys
import warnings
from importlib.metadata import version

import torch  # pyright: ignore[reportMissingImports]

warnings.filterwarnings("ignore")
from escnn import gspaces, nn  # noqa: E402  # pyright: ignore[reportMissingImports]

SIZE = 5  # taps on either axis, as the layers of pdo_jax have


def field_type(order, fields):
    """Return so many regular fields over C_n."""
    space = gspaces.rot2dOnR2(order)
    return nn.FieldType(space, fields * [space.regular_repr])


def image_type(order, channels):
    """Return so many channels of an image."""
    space = gspaces.rot2dOnR2(order)
    return nn.FieldType(space, channels * [space.trivial_repr])


def convolve(before, after, size=SIZE, **options):
    """Return a convolution with random weights; it takes escnn minutes to find their best scale."""
    convolution = nn.R2Conv(before, after, size, bias=False, initialize=False, **options)
    torch.nn.init.normal_(convolution.weights, std=0.1)
    return convolution


def layer(forward, order, fields, pixels, batch):
    """Return a convolution of fields, or that and both gradients, and its parameters."""
    fields = field_type(order, fields)
    convolution = convolve(fields, fields, padding=SIZE // 2).train()
    x = torch.randn(batch, fields.size, pixels, pixels, requires_grad=True)
    cotangent = torch.randn(x.shape)

    def call():
        with torch.set_grad_enabled(not forward):
            y = convolution(nn.GeometricTensor(x, fields)).tensor
        if not forward:
            torch.autograd.grad(y, (x, convolution.weights), cotangent)

    return call, list(convolution.parameters())


class MnistRot(torch.nn.Module):
    """The network of `pdo_jax.models.mnist_rot`."""

    pixels, channels = 28, 1

    def __init__(self, order):
        super().__init__()
        self.images, fields = image_type(order, self.channels), field_type(order, 7)
        layers = []
        for i in range(6):
            before = fields if i else self.images
            layers += [convolve(before, fields, padding=1)]
            layers += [nn.InnerBatchNorm(fields), nn.ReLU(fields)]
            pooled = i == 1
            layers += [nn.PointwiseMaxPool2D(fields, 2, 2) if pooled else dropout(fields)]
        self.layers = torch.nn.Sequential(*layers)
        self.head = torch.nn.Conv2d(fields.size, 10, 4, bias=False)

    def forward(self, x):
        """Classify images."""
        return self.head(self.layers(nn.GeometricTensor(x, self.images)).tensor).flatten(1)


def dropout(fields):
    """Return the dropout of rotated MNIST."""
    return nn.PointwiseDropout(fields, p=0.2)


class Block(torch.nn.Module):
    """The block of `pdo_jax.models.ResNet`."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.first = torch.nn.Sequential(nn.InnerBatchNorm(before), nn.ReLU(before))
        self.second = torch.nn.Sequential(
            convolve(before, after, padding=SIZE // 2, stride=stride),
            nn.InnerBatchNorm(after),
            nn.ReLU(after),
            convolve(after, after, padding=SIZE // 2),
        )
        changes = before != after or stride > 1
        self.shortcut = convolve(before, after, 1, stride=stride) if changes else None

    def forward(self, x):
        """Map a field to a field."""
        y = self.first(x)
        if self.shortcut is not None:
            x = self.shortcut(y)
        return x + self.second(y)


class ResNet44(torch.nn.Module):
    """The network of `pdo_jax.models.resnet44`."""

    pixels, channels = 32, 3

    def __init__(self, order):
        super().__init__()
        self.images = image_type(order, self.channels)
        stages = [field_type(order, round(width / order**0.5)) for width in (32, 64, 128)]
        before, blocks = stages[0], []
        for stage, after in enumerate(stages):
            for i in range(7):
                blocks.append(Block(before, after, 2 if stage and not i else 1))
                before = after
        self.layers = torch.nn.Sequential(
            convolve(self.images, stages[0], padding=SIZE // 2),
            *blocks,
            nn.InnerBatchNorm(before),
            nn.ReLU(before),
        )
        self.head = torch.nn.Linear(before.size, 10)

    def forward(self, x):
        """Classify images."""
        y = self.layers(nn.GeometricTensor(x, self.images)).tensor
        return self.head(y.mean((2, 3)))


def step(network, order, batch):
    """Return a training step of a network, and its parameters."""
    model = network(order).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    images = torch.randn(batch, network.channels, network.pixels, network.pixels)
    labels = torch.arange(batch) % 10

    def call():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return call, parameters


TASKS = {
    "layer": layer,
    "mnist_rot": functools.partial(step, MnistRot),
    "resnet44": functools.partial(step, ResNet44),
}


@functools.cache
def built(line):
    """Return what a line asks for, and the number of its parameters."""
    options = json.loads(line)
    call, parameters = TASKS[options.pop("task")](**options)
    return call, sum(parameter.numel() for parameter in parameters)


def main():
    """Run what is asked for until nothing more is."""
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"escnn {version('escnn')}, PyTorch {version('torch')}", flush=True)
    for line in sys.stdin:
        call, parameters = built(line)
        call()
        print(parameters, flush=True)


if __name__ == "__main__":
    main()
