"""Statistics: exact, of the images that are given, applied in the images' own dtype."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import Normalisation, normalisation

IMAGES = np.random.default_rng(0).integers(0, 256, (2500, 3, 4, 2), np.uint8)


def test_statistics_are_those_of_the_pixels():
    found = Normalisation.of(IMAGES)
    pixels = IMAGES / 255  # all at once, in float64
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(found.std, pixels.std((0, 1, 2)), rtol=1e-13)
    assert hash(found) == hash(Normalisation.of(IMAGES.copy()))


def test_training_images_are_standard_and_others_are_not():
    found = Normalisation.of(IMAGES)
    standard = found(IMAGES / 255)
    np.testing.assert_allclose(standard.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(standard.std((0, 1, 2)), 1, atol=1e-12)
    darker = found(IMAGES / 510)
    assert np.all(darker.mean((0, 1, 2)) < -0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
def test_dtypes_and_jit(dtype):
    found = Normalisation.of(IMAGES)
    images = (IMAGES[:5] / 255).astype(dtype)
    inside = jax.jit(lambda x: found(x))(jnp.asarray(images))
    assert inside.dtype == found(images).dtype == dtype
    tolerance = {2: 0.05, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    expected = (IMAGES[:5] / 255 - found.mean) / found.std
    np.testing.assert_allclose(np.asarray(inside, np.float64), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (IMAGES / 255, TypeError, "images has dtype float64, but uint8 is needed"),
        (IMAGES[0], ValueError, r"images has shape \(3, 4, 2\), but \(N, H, W, C\) is needed"),
        (IMAGES[:0], ValueError, r"\(0, 3, 4, 2\).*pass at least one image"),
        (
            np.concatenate([IMAGES, np.zeros_like(IMAGES)], -1),
            ValueError,
            "images is constant in channel 2",
        ),
    ],
)
def test_wrong_images(images, error, message):
    with pytest.raises(error, match=message):
        Normalisation.of(images)


def test_example():
    assert doctest.testmod(normalisation).failed == 0


def test_split_and_take():
    labels = np.repeat(np.arange(5, dtype=np.int32), [100, 50, 20, 20, 10])
    part = datasets.Part(np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1), labels)
    stay, leave = datasets.split(part, 40, seed=0)
    assert np.bincount(leave.labels).tolist() == [20, 10, 4, 4, 2]
    assert np.bincount(stay.labels).tolist() == [80, 40, 16, 16, 8]
    everything = np.concatenate([stay.images, leave.images]).ravel()
    assert sorted(everything.tolist()) == list(range(200))
    np.testing.assert_array_equal(labels[leave.images.ravel()], leave.labels)
    again, other = (datasets.split(part, 40, seed)[1] for seed in (0, 1))
    np.testing.assert_array_equal(again.images, leave.images)
    assert not np.array_equal(other.images, leave.images)
    few = datasets.take(part, np.array([3, 1]))
    assert few.images.ravel().tolist() == [3, 1]
    for held_out, rule in ((4, "at least 5"), (196, "at most 195: of 200 images")):
        with pytest.raises(ValueError, match=rf"held_out \(={held_out}\) must be {rule}"):
            datasets.split(part, held_out, seed=0)
