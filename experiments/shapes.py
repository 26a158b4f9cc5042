"""Polycubes as volumes: eight made shapes at any rotation, place and size, with noise.

A polycube is a few cubes glued face to face. A voxel at p holds the share of the shape around it,
weighted by a Gaussian of standard deviation b voxels:

    v(p) = sum over cubes c of prod over axes i of Phi((u_i + 1/2) e / b) - Phi((u_i - 1/2) e / b)
    u    = R^T (p - shift) / e - c,      e the edge in voxels, Phi the normal distribution function

A Gaussian is the same in every direction and a product over the axes of every frame, so this is the
exact convolution of the rotated shape: it is rendered from geometry, no voxel is interpolated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

Cubes = tuple[tuple[int, int, int], ...]

SIZE = 12  # voxels along an axis
EDGE = 2.0  # of a cube, in voxels
BLUR = 1.0  # the Gaussian's standard deviation, in voxels
SHIFT = 1.0  # voxels, the largest along every axis
SCALE = 0.05  # the largest relative change of the edge
NOISE = 0.05  # its standard deviation; a voxel deep inside a shape is 1

VALIDATION, TEST = 1, 2  # seeds of two sets; training shapes are drawn anew at every step

_SQUARE = tuple((x, y, 0) for x in range(3) for y in range(3))

# The centres of the cubes, in edges: x to the right, y up, z in depth. All are their own mirror
# images.
POLYCUBES: dict[str, Cubes] = {
    "bar": ((0, 0, 0), (1, 0, 0), (2, 0, 0)),
    "plate": _SQUARE,
    "ring": tuple(cube for cube in _SQUARE if cube != (1, 1, 0)),
    "block": tuple((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)),
    "jack": ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)),
    "T": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 2, 0)),
    "tripod": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "plus": ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)),
}
CLASSES = tuple(POLYCUBES)


class Shapes(NamedTuple):
    """Volumes `(N, 12, 12, 12, 1)` float32 and labels `(N,)` int32, the index in `CLASSES`."""

    volumes: np.ndarray
    labels: np.ndarray


def make(count: int, seed: int, *, rotations: np.ndarray | None = None) -> Shapes:
    """Return shapes of all classes in equal shares, each at a place and of a size of its own.

    Places, sizes and noise depend on the seed alone: with other rotations the same shapes are seen,
    turned about the middle of the volume under the same noise.

    Args:
        count: the number of shapes; the classes take turns.
        seed: of places, sizes and noise.
        rotations: `(count, 3, 3)` rotation matrices; None for upright shapes.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % len(CLASSES)
    shifts = rng.uniform(-SHIFT, SHIFT, (count, 3))
    edges = EDGE * rng.uniform(1 - SCALE, 1 + SCALE, count)
    turns = np.broadcast_to(np.eye(3), (count, 3, 3)) if rotations is None else rotations
    volumes = [
        render(POLYCUBES[CLASSES[label]], turn, turn @ shift, edge)
        for label, turn, shift, edge in zip(labels, turns, shifts, edges, strict=True)
    ]
    noisy = np.stack(volumes) + rng.normal(0, NOISE, (count, SIZE, SIZE, SIZE))
    return Shapes(noisy.astype(np.float32)[..., None], labels)


def draw(key: jax.Array, classes: jax.Array) -> jax.Array:
    """Return upright shapes as `make` does, each drawn anew, inside a jitted step of training.

    Args:
        key: a random key; the shape at an index of the batch depends on the two alone.
        classes: `(B,)` the class of each, an index in `CLASSES`.

    Returns:
        `(B, 12, 12, 12, 1)` float32.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(classes)))
    return jax.vmap(_draw)(keys, classes)


def _draw(key: jax.Array, class_: jax.Array) -> jax.Array:
    place, size, rest = jax.random.split(key, 3)
    shift = jax.random.uniform(place, (3,), np.float32, -SHIFT, SHIFT)
    edge = EDGE * jax.random.uniform(size, (), np.float32, 1 - SCALE, 1 + SCALE)
    steps = jnp.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    axes = jnp.stack([steps, -steps, steps])  # x, y (downwards) and z
    centres, present = (jnp.asarray(table, np.float32)[class_] for table in _tables())
    inside = (axes - shift[:, None]) / edge - centres[..., None]  # (cube, axis, voxel)
    ends = jnp.stack([inside + 0.5, inside - 0.5]) * edge / BLUR
    above, below = jax.scipy.special.ndtr(ends)
    x, y, z = jnp.moveaxis(above - below, 1, 0)
    volume = jnp.einsum("c,cz,cy,cx->zyx", present, z, y, x, precision="highest")
    noise = jax.random.normal(rest, volume.shape, np.float32)
    return (volume + NOISE * noise)[..., None]


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Return centres `(class, cube, 3)`, and which of these cubes a class has `(class, cube)`."""
    most = max(map(len, POLYCUBES.values()))
    centres, present = np.zeros((len(CLASSES), most, 3)), np.zeros((len(CLASSES), most))
    for i, cubes in enumerate(POLYCUBES.values()):
        centres[i, : len(cubes)] = np.array(cubes) - np.mean(cubes, axis=0)
        present[i, : len(cubes)] = 1
    return centres, present


def random_rotations(count: int, seed: int) -> np.ndarray:
    """Return `(count, 3, 3)` rotation matrices, uniform on SO(3): random unit quaternions."""
    quaternions = np.random.default_rng(seed).normal(size=(count, 4))
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def render(cubes: Cubes, rotation: np.ndarray, shift: np.ndarray, edge: float) -> np.ndarray:
    """Return a shape without noise: `(12, 12, 12)` float64, axes z, y (downwards) and x.

    Args:
        cubes: the centres of the cubes, in edges; the shape's centre of mass is put at `shift`.
        rotation: `(3, 3)` matrix R, about that centre.
        shift: `(3,)` voxels x, y, z from the middle of the volume.
        edge: of a cube, in voxels.
    """
    steps = np.arange(SIZE) - (SIZE - 1) / 2
    z, y, x = np.meshgrid(steps, -steps, steps, indexing="ij")
    frame = (np.stack([x, y, z], axis=-1) - shift) @ rotation / edge  # rows: R^T p
    centres = np.array(cubes) - np.mean(cubes, axis=0)
    inside = frame[..., None, :] - centres
    shares = ndtr((inside + 0.5) * edge / BLUR) - ndtr((inside - 0.5) * edge / BLUR)
    return np.sum(np.prod(shares, axis=-1), axis=-1)
