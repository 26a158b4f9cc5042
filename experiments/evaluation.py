"""What a trained classifier says of images: logits in batches, and the share that is right.

The last batch is filled up with zeros, so that one compiled function serves all of them, and what
they give is cut off again: every example counts once, on one device or on several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import devices

Map = Callable[[jax.Array], jax.Array]
Augment = Callable[[jax.Array, jax.Array], jax.Array]
BATCH = 256


@dataclasses.dataclass(frozen=True)
class Prepare:
    """From stored images to what a network sees, inside the compiled function.

    uint8 pixels are divided by 255; then come the augmentation, if there is a key, and the
    normalisation. All of it is hashable, a constant of the program.
    """

    normalise: Map | None = None
    augment: Augment | None = None

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / 255
        if key is not None and self.augment is not None:
            images = self.augment(key, images)
        return images if self.normalise is None else self.normalise(images)


def accuracy(
    model: nnx.Module,
    images: np.ndarray,
    labels: np.ndarray,
    batch: int = BATCH,
    normalise: Map | None = None,
) -> float:
    """Return the share of images that a model, in evaluation mode, classifies correctly."""
    return float(np.mean(np.argmax(logits(model, images, batch, normalise), -1) == labels))


def logits(
    model: nnx.Module, images: np.ndarray, batch: int = BATCH, normalise: Map | None = None
) -> np.ndarray:
    """Return what a model, in evaluation mode, says of all images.

    Args:
        model: maps images to logits.
        images: `(N, ..., C)` uint8 or floating.
        batch: how many go through the model at once; rounded up to a multiple of the devices.
        normalise: what training applied.

    Returns:
        `(N, classes)`.
    """
    if not len(images):
        raise ValueError("images are empty; pass one at least.")
    graph, state = nnx.split(model)
    mesh = devices.mesh()
    batch = -(-min(batch, len(images)) // mesh.size) * mesh.size
    state = devices.replicate(state, mesh)
    found = []
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        full = np.zeros((batch, *images.shape[1:]), images.dtype)
        full[: len(some)] = some
        said = _apply(graph, Prepare(normalise), mesh, state, devices.replicate(full, mesh))
        found.append(np.asarray(said)[: len(some)])
    return np.concatenate(found)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _apply(graph: Any, prepare: Prepare, mesh: Any, state: Any, images: jax.Array) -> jax.Array:
    model = nnx.merge(graph, state)
    some = devices.split_batch(images, mesh)
    return devices.gather(jnp.asarray(model(prepare(some))), mesh)
