"""The made volumes: what is rendered is the shape, at any rotation; classes are distinct."""

import itertools

import jax
import numpy as np
import pytest

import pdo_jax as pdo
from experiments import shapes

CUBE = pdo.group("O").matrices
UPRIGHT = np.eye(3)


def forms(cubes, matrices):
    """A polycube at every rotation, as sets of cubes counted from their lowest corner."""
    found = set()
    for matrix in matrices:
        moved = np.array(cubes) @ matrix.T
        found.add(frozenset(map(tuple, (moved - moved.min(0)).astype(int).tolist())))
    return found


def test_polycubes_are_glued_together_and_distinct():
    assert len(shapes.CLASSES) == 8
    for cubes in shapes.POLYCUBES.values():
        assert len(set(cubes)) == len(cubes)
        reached, edge = {cubes[0]}, {cubes[0]}
        while edge:
            pairs = itertools.product(edge, cubes)
            edge = {b for a, b in pairs if np.abs(np.subtract(a, b)).sum() == 1} - reached
            reached |= edge
        assert reached == set(cubes)
    kinds = [frozenset(forms(cubes, CUBE)) for cubes in shapes.POLYCUBES.values()]
    assert len(set(kinds)) == 8  # no rotation makes one of another


def test_every_shape_is_its_own_mirror_image():
    """So that a network over Oh can name them all; a screw of four cubes is not."""
    for cubes in shapes.POLYCUBES.values():
        assert forms(cubes, -CUBE) == forms(cubes, CUBE)
    screw = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1))
    assert forms(screw, -CUBE).isdisjoint(forms(screw, CUBE))


def test_a_volume_is_the_shape_blurred():
    """Against a sum over fine points inside the shape, each spread by the Gaussian."""
    rng = np.random.default_rng(0)
    rotation = shapes.random_rotations(1, seed=0)[0]
    shift, edge, cubes = rng.uniform(-1, 1, 3), 2.1, shapes.POLYCUBES["T"]
    steps = (np.arange(12) + 0.5) / 12 - 0.5
    fine = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    centres = np.array(cubes) - np.mean(cubes, axis=0)
    points = (fine[:, None] + centres).reshape(-1, 3) * edge @ rotation.T + shift
    volume = shapes.render(cubes, rotation, shift, edge)
    for z, y, x in ((5, 6, 7), (6, 4, 6), (8, 8, 3), (0, 0, 0)):
        p = np.array([x, y, z]) - 5.5
        p[1] *= -1  # y is up
        squares = np.sum((points - p) ** 2, axis=1) / shapes.BLUR**2
        density = np.exp(-squares / 2).sum() / (2 * np.pi * shapes.BLUR**2) ** 1.5
        assert volume[z, y, x] == pytest.approx(density * (edge / 12) ** 3, abs=2e-3)
    assert volume.sum() == pytest.approx(len(cubes) * edge**3, rel=0.02)  # little is cut off
    assert volume.max() > 0.5


@pytest.mark.parametrize("element", [1, 5, 13, 22])
def test_rotations_of_the_cube_move_the_voxels(element):
    cubes, shift = shapes.POLYCUBES["tripod"], np.array([0.4, -0.7, 0.2])
    turn = CUBE[element]
    upright = shapes.render(cubes, UPRIGHT, shift, 2.0)[..., None]
    turned = shapes.render(cubes, turn, turn @ shift, 2.0)[..., None]
    np.testing.assert_allclose(pdo.act("O", element, upright), turned, atol=1e-14)
    assert np.abs(turned - upright).max() > 0.1


def test_sets_are_made_anew_from_their_seed():
    first, again, other = shapes.make(16, 5), shapes.make(16, 5), shapes.make(16, 6)
    np.testing.assert_array_equal(first.volumes, again.volumes)
    assert not np.any(np.all(first.volumes == other.volumes, axis=(1, 2, 3, 4)))
    assert first.volumes.shape == (16, 12, 12, 12, 1) and first.volumes.dtype == np.float32
    assert first.labels.tolist() == [*range(8), *range(8)] and first.labels.dtype == np.int32
    assert shapes.VALIDATION != shapes.TEST


def test_rotated_sets_hold_the_same_shapes_under_the_same_noise():
    turn = CUBE[14]
    upright = shapes.make(8, 1)
    turned = shapes.make(8, 1, rotations=np.broadcast_to(turn, (8, 3, 3)))
    noise = np.random.default_rng(1)
    noise.uniform(size=(8, 3)), noise.uniform(size=8)
    noise = noise.normal(0, shapes.NOISE, (8, 12, 12, 12, 1)).astype(np.float32)
    clean = np.asarray(pdo.act("O", 14, upright.volumes - noise))
    np.testing.assert_allclose(turned.volumes - noise, clean, atol=1e-6)


@pytest.mark.slow
def test_training_shapes_are_rendered_alike(monkeypatch):
    """What a step draws is what `render` makes of the place and the edge that it drew."""
    drawn = []

    def uniform(key, shape, dtype, low, high):
        value = rng.uniform(low, high, shape)
        drawn.append(value)
        return np.asarray(value, dtype)

    rng = np.random.default_rng(0)
    monkeypatch.setattr(jax.random, "uniform", uniform)
    monkeypatch.setattr(shapes, "NOISE", 0.0)
    found = np.asarray(jax.jit(shapes.draw)(jax.random.key(0), np.arange(8)))
    shift, scale = drawn
    assert np.max(np.abs(shift)) <= shapes.SHIFT and abs(scale - 1) <= shapes.SCALE
    for volume, cubes in zip(found[..., 0], shapes.POLYCUBES.values(), strict=True):
        expected = shapes.render(cubes, UPRIGHT, shift, shapes.EDGE * scale)
        np.testing.assert_allclose(volume, expected, atol=2e-6)


@pytest.mark.slow
def test_training_shapes_are_distributed_as_those_of_tests():
    classes = np.arange(240) % 8
    drawn = np.asarray(jax.jit(shapes.draw)(jax.random.key(0), classes))
    made = shapes.make(240, 9).volumes
    assert drawn.shape == made.shape and drawn.dtype == made.dtype
    assert len(np.unique(drawn, axis=0)) == 240
    np.testing.assert_allclose(_class_means(drawn), _class_means(made), atol=0.2)
    noise = drawn[:, 0, 0, 0], made[:, 0, 0, 0]  # far from any shape
    assert [values.std() for values in noise] == pytest.approx([shapes.NOISE] * 2, rel=0.15)
    spread = [_class_means((v - v.mean(0)) ** 2).sum() for v in (drawn, made)]
    assert spread[0] == pytest.approx(spread[1], rel=0.05)


def _class_means(volumes):
    return volumes.reshape(-1, 8, 12, 12, 12).mean(axis=0)


def test_random_rotations_are_uniform():
    """Rotations, with the mean trace 0 and mean square trace 1 of the uniform distribution."""
    R = shapes.random_rotations(4000, seed=0)
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(UPRIGHT, (4000, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(R), 1)
    traces = np.trace(R, axis1=1, axis2=2)
    assert abs(np.mean(traces)) < 4 / 4000**0.5
    assert np.mean(traces**2) == pytest.approx(1, abs=0.1)
    assert np.abs(R.mean(0)).max() < 0.04
