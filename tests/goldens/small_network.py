"""The small network whose checkpoint and export lie in this folder, and what wrote them.

    python -m tests.goldens.small_network

`small_network.npz` holds the parameters and the running statistics, `small_network.pdo` the network
as `pdo_jax.export.save` wrote it. Every later version has to read both and to give the output that
is recorded in the first: do not write them anew because a test fails. (The one good reason is that
JAX itself has stopped to read a program so old.)
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

import pdo_jax as pdo

CHECKPOINT = Path(__file__).with_suffix(".npz")
PROGRAM = Path(__file__).with_suffix(".pdo")
SAVED = nnx.Any(nnx.Param, nnx.BatchStat)


class SmallNetwork(nnx.Module):
    """One layer of every kind, on 13 x 13 pixels."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.lift = pdo.nn.PDOLift(1, 3, "p4", orientation=0.3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.conv = pdo.nn.PDOConv(3, 4, "p4", strides=2, orientation=0.3, rngs=rngs)
        self.mix = pdo.nn.PointwiseConv(4, 3, "p4", use_bias=False, rngs=rngs)
        self.up = pdo.nn.PDOConvTranspose(3, 2, "p4", strides=2, rngs=rngs)
        self.head = nnx.Linear(2, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.lift(x)))
        x = nnx.silu(self.mix(self.conv(x)))
        return self.head(pdo.nn.group_pool(self.up(x), "max").mean((1, 2)))


def arrays(model: nnx.Module) -> dict[str, np.ndarray]:
    """Return what is saved of a model, by the path of its attributes: "lift/kernel" and so on."""
    flat = nnx.to_flat_state(nnx.state(model, SAVED))
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}


def load(model: nnx.Module, saved: dict[str, np.ndarray]) -> None:
    """Put saved arrays into a model, all of them and no others."""
    flat = nnx.to_flat_state(nnx.state(model, SAVED))
    named = {"/".join(map(str, path)): (path, leaf) for path, leaf in flat}
    if named.keys() != saved.keys():
        raise ValueError(f"names differ: {sorted(named.keys() ^ saved.keys())}")
    leaves = [
        (path, leaf.replace(jnp.asarray(saved[name]))) for name, (path, leaf) in named.items()
    ]
    nnx.update(model, nnx.from_flat_state(leaves))


def main() -> None:
    """Draw all parameters and statistics, and write both files."""
    rng = np.random.default_rng(0)
    model = SmallNetwork(rngs=nnx.Rngs(0))
    drawn = {
        name: 0.4 * rng.normal(size=array.shape).astype(array.dtype)
        for name, array in arrays(model).items()
    }
    drawn["norm/var"] = np.exp(drawn["norm/var"])
    load(model, drawn)
    model.eval()
    x = rng.normal(size=(3, 13, 13, 1)).astype(np.float32)
    y = np.asarray(model(jnp.asarray(x)))
    np.savez_compressed(CHECKPOINT, input=x, output=y, **drawn)
    pdo.export.save(model, PROGRAM, (None, 13, 13, 1), overwrite=True)


if __name__ == "__main__":
    main()
