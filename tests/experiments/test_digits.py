"""The digits: a fixed split without overlap, nothing lost by rotation, angles counter-clockwise."""

import numpy as np
import pytest

import pdo_jax as pdo
from experiments import datasets, digits


@pytest.fixture(scope="module")
def parts():
    return digits.load()


def test_sizes(parts):
    train, test = parts
    assert train.images.shape == (1257, 24, 24, 1)
    assert test.images.shape == (540, 24, 24, 1)
    assert train.images.dtype == np.float32
    assert train.labels.dtype == np.int32


def test_split_is_disjoint_and_complete(parts):
    seen = np.concatenate([part.images for part in parts]).reshape(1797, -1)
    assert len(np.unique(seen, axis=0)) == 1797


def test_split_is_always_the_same(parts):
    # The first test digits: another split would make earlier results incomparable.
    assert parts[1].labels[:12].tolist() == digits.load()[1].labels[:12].tolist()
    shares = [np.bincount(part.labels) / len(part.labels) for part in parts]
    np.testing.assert_allclose(*shares, atol=0.002)


def test_digits_fit_into_the_inscribed_circle(parts):
    images = np.concatenate([part.images for part in parts])[..., 0]
    outside = ~pdo.fields.inscribed_disc((digits.SIZE, digits.SIZE))
    assert np.sum((images * outside) ** 2) < 1e-4 * np.sum(images**2)


@pytest.mark.parametrize("degrees", [15.0, 45.0, 100.0])
def test_rotation_loses_nothing(parts, degrees):
    images = parts[1].images[:100]
    rotated = digits.rotate(images, degrees)
    np.testing.assert_allclose(rotated.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=0.01)
    back = digits.rotate(rotated, -degrees)
    assert np.linalg.norm(back - images) < 0.02 * np.linalg.norm(images)


@pytest.mark.parametrize(("degrees", "element"), [(45.0, 1), (90.0, 2), (225.0, 5)])
def test_rotation_is_that_of_the_group(parts, degrees, element):
    images = parts[1].images[:5]
    expected = pdo.act("p8", element, images)
    np.testing.assert_allclose(digits.rotate(images, degrees), expected, atol=1e-5)


def test_digits_that_are_enlarged_at_an_angle(parts):
    upright, at_an_angle = parts[1], digits.load(30.0)[1]
    np.testing.assert_array_equal(at_an_angle.labels, upright.labels)
    few = slice(50)
    twice = digits.rotate(upright.images[few], 30.0)  # interpolated a second time
    difference = np.linalg.norm(at_an_angle.images[few] - twice) / np.linalg.norm(twice)
    assert 1e-4 < difference < 0.02
    quarter = digits.load(90.0)[1]
    np.testing.assert_array_equal(quarter.images, np.rot90(upright.images, axes=(1, 2)))


def test_random_rotations_are_always_the_same(parts):
    few = datasets.take(parts[1], slice(6))
    once, twice = digits.randomly_rotated(few), digits.randomly_rotated(few, copies=2)
    assert twice.images.shape == (12, 24, 24, 1)
    np.testing.assert_array_equal(once.images, twice.images[:6])
    assert not np.allclose(twice.images[:6], twice.images[6:], atol=0.1)
