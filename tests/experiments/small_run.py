"""A training of seconds, for tests that kill it, interrupt it, or spread it over devices.

    python tests/experiments/small_run.py FOLDER [--resume] [--devices 8] ...

It leaves FOLDER/final.npz: the parameters and statistics after the last epoch, and the losses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments import devices, trainer
from experiments.augment import Augmentation
from experiments.recipes import Recipe

RECIPE = Recipe(epochs=5, batch_size=8, learning_rate=0.02, ema=0.9, accumulate=2)


class Net(nnx.Module):
    """A convolution, a norm over the batch, and dropout.

    Args:
        seed: of the parameters.
        parts: how many parts of a batch the norm sees each by itself in training: the statistics
            that so many devices would take if they did not ask each other.
    """

    def __init__(self, seed: int = 0, parts: int = 1):
        self.parts = parts
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs)  # the norm has one
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(4 * 36, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        parts = 1 if self.norm.use_running_average else self.parts
        x = jnp.concatenate([self.norm(part) for part in jnp.split(x, parts)])
        x = nnx.relu(x)
        return self.head(self.dropout(x).reshape(len(x), -1))


def data(count: int = 52) -> tuple[np.ndarray, np.ndarray]:
    """Return blobs in one of three places as uint8 images, and the places."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count).astype(np.int32)
    images = rng.integers(0, 120, (count, 6, 6, 1))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 100
    return images.astype(np.uint8), labels


def arrays(model: nnx.Module) -> dict[str, np.ndarray]:
    """Return parameters and statistics by name."""
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--every", type=float, default=0.5)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)
    hosts = devices.Hosts(options.coordinator, options.processes, options.process)
    with devices.joined(hosts):
        train(options)


def train(options: argparse.Namespace) -> None:
    images, labels = data()
    recipe = Recipe(**{**vars(RECIPE), "epochs": options.epochs, "checkpoint_every": options.every})
    try:
        trained = trainer.train(
            Net(parts=options.parts),
            images,
            labels,
            recipe,
            seed=0,
            augment=Augmentation(rotation=20.0, flip=True),
            evaluate=lambda model: {"again": trainer.accuracy(model, images, labels, batch=20)},
            folder=options.folder,
            resume=options.resume,
        )
    except trainer.Interrupted as stopped:
        print(stopped, "Go on with --resume.", file=sys.stderr)
        raise SystemExit(130) from stopped
    found = arrays(trained.model)  # by all processes
    if devices.is_main():
        np.savez(options.folder / "final.npz", **found, **trained.curve)


if __name__ == "__main__":
    main()
