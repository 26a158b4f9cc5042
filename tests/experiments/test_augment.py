"""Augmentation: the spline is SciPy's, what is random is uniform, images keep to themselves."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

import pdo_jax as pdo
from experiments import augment
from experiments.augment import Augmentation

KEY = jax.random.key(7)
ALL = Augmentation(rotation=180.0, shift=1.5, crop=2, flip=True, cutout=3)
resample = jax.jit(augment.resample)


@functools.cache
def compiled(augmentation):
    return jax.jit(augmentation)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(size=(9, 12, 2))


def by_scipy(image, degrees, shift):
    """Return one spline of order 3 for rotation and shift, zeros outside."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[cos, sin], [-sin, cos]])  # of (row, column), rows down
    centre = (np.array(image.shape[:2]) - 1) / 2
    offset = centre - matrix @ (centre + np.array([-shift[1], shift[0]]))
    channels = np.moveaxis(image, -1, 0)
    return np.stack([ndimage.affine_transform(c, matrix, offset, order=3) for c in channels], -1)


@pytest.mark.parametrize(
    ("degrees", "shift"), [(33.0, (0.0, 0.0)), (0.0, (0.3, -0.6)), (-101.5, (1.2, -2.3))]
)
def test_spline_is_that_of_scipy(image, degrees, shift):
    found = resample(image, np.float64(degrees), np.array(shift))
    np.testing.assert_allclose(found, by_scipy(image, degrees, shift), atol=1e-13)
    if shift == (0.0, 0.0):
        by_name = ndimage.rotate(image, degrees, reshape=False, order=3)
        np.testing.assert_allclose(found, by_name, atol=1e-13)
    elif degrees == 0.0:
        by_name = ndimage.shift(image, (-shift[1], shift[0], 0), order=3)
        np.testing.assert_allclose(found, by_name, atol=1e-13)
    else:  # a second interpolation is something else
        turned = resample(image, np.float64(degrees), np.zeros(2))
        twice = resample(turned, np.float64(0), np.array(shift))
        assert np.max(np.abs(found - twice)) > 0.1


def test_float32_keeps_the_border(image):
    # Half a turn puts border pixels on the border, but for rounding.
    square = image[:, :9].astype(np.float32)
    found = resample(square, np.float32(180), np.zeros(2, np.float32))
    np.testing.assert_allclose(found, square[::-1, ::-1], atol=1e-5)


@pytest.mark.parametrize(("element", "degrees"), [(1, 45.0), (6, 270.0)])
def test_rotation_is_that_of_the_group(image, element, degrees):
    found = resample(image[:, :9], np.float64(degrees), np.zeros(2))
    np.testing.assert_allclose(found, pdo.act("p8", element, image[:, :9]), atol=1e-12)


def test_by_default_nothing_happens(image):
    np.testing.assert_array_equal(Augmentation()(KEY, image[None]), image[None])


def spots(count, size=17, offset=4.0):
    """Return images of two channels: a spot in the middle, and one to the right of it."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    both = [np.exp(-((x - place) ** 2 + y**2) / 2) for place in (0.0, offset)]
    return np.broadcast_to(np.stack(both, -1), (count, size, size, 2))


def centres(images):
    """Return where the spots are, from the centre: x to the right and y up, `(B, C)` each."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]] - (images.shape[1] - 1) / 2
    mass = np.asarray(images)
    total = mass.sum((1, 2))
    right, down = (np.einsum("bijc,ij->bc", mass, axis) / total for axis in (x, y))
    return right, -down


def is_uniform(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_angles_and_shifts_are_uniform_and_independent():
    x, y = centres(compiled(Augmentation(rotation=120.0, shift=1.5))(KEY, spots(400)))
    degrees = np.degrees(np.arctan2(y[:, 1] - y[:, 0], x[:, 1] - x[:, 0]))
    assert is_uniform(degrees, -120, 120)
    assert not is_uniform(degrees, -90, 150)
    for shift in (x[:, 0], y[:, 0]):
        assert is_uniform(shift, -1.5, 1.5)
        assert not is_uniform(shift, -1.1, 1.9)
    correlations = np.corrcoef([degrees, x[:, 0], y[:, 0]])
    assert np.max(np.abs(correlations - np.eye(3))) < 0.15  # three standard deviations


def test_crops_move_by_whole_pixels_and_half_are_mirrored(image):
    images = np.broadcast_to(image, (360, *image.shape))
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    places = np.array([padded[i : i + 9, j : j + 12] for i in range(3) for j in range(3)])
    padded = padded[:, ::-1]
    mirrored = np.array([padded[i : i + 9, j : j + 12] for i in range(3) for j in range(3)])

    def which(found, places):
        same = np.array([np.all(places == one, axis=(1, 2, 3)) for one in np.asarray(found)])
        assert (same.sum(axis=1) == 1).all()
        return np.argmax(same, axis=1)

    alone = which(compiled(Augmentation(crop=1))(KEY, images), places)
    both = compiled(Augmentation(crop=1, flip=True))(KEY, images)
    outcome = which(both, np.concatenate([places, mirrored]))
    assert stats.chisquare(np.bincount(outcome, minlength=18)).pvalue > 0.01
    np.testing.assert_array_equal(outcome % 9, alone)  # one part does not change another


def test_cutout_is_a_square_of_the_mean_colour(image):
    side = 3
    images = np.broadcast_to(image, (300, *image.shape))
    found = np.asarray(compiled(Augmentation(cutout=side))(KEY, images))
    covered = np.any(found != image, axis=-1)
    np.testing.assert_allclose(found[covered], np.tile(image.mean((0, 1)), (covered.sum(), 1)))
    rows, columns = covered.any(axis=2).sum(axis=1), covered.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(rows * columns, covered.sum((1, 2)))  # rectangles
    assert rows.max() == columns.max() == side
    assert rows.min() == columns.min() == side - side // 2  # cut off at the border
    assert covered.any(axis=0).all()  # every pixel has its turn


def test_same_key_same_images(image):
    images = np.stack([image, image, image])
    once, again = compiled(ALL)(KEY, images), compiled(ALL)(KEY, images)
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, compiled(ALL)(jax.random.key(8), images), atol=0.1)
    assert not np.allclose(once[0], once[1], atol=0.1)  # each image is changed in its own way


def test_what_happens_depends_on_the_key_and_the_index_alone(image):
    images = np.stack([image, 0 * image, image + 1])
    whole = compiled(ALL)(KEY, images)
    np.testing.assert_allclose(compiled(ALL)(KEY, images[:2]), whole[:2], atol=1e-12)
    other = images.copy()
    other[0] += 1
    np.testing.assert_array_equal(compiled(ALL)(KEY, other)[1:], whole[1:])


@pytest.mark.slow  # compilation
def test_several_keys_at_once(image):
    keys = jax.random.split(KEY, 2)
    images = np.stack([image, image, image])
    together = jax.jit(jax.vmap(ALL, (0, None)))(keys, images)
    for key, found in zip(keys, together, strict=True):
        np.testing.assert_allclose(found, compiled(ALL)(key, images), atol=1e-12)


def test_dtype_stays(image):
    images = jnp.asarray(image[None], jnp.bfloat16)
    found = jax.eval_shape(ALL, KEY, images)
    assert found.dtype == jnp.bfloat16 and found.shape == images.shape
    turned = resample(images[0], np.float32(33.0), np.zeros(2, np.float32))  # inside in float32
    expected = by_scipy(np.asarray(images[0], np.float64), 33.0, (0.0, 0.0))
    np.testing.assert_allclose(np.asarray(turned, np.float64), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.slow  # another process with devices of its own
def test_all_devices_make_the_images_of_one():
    program = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tests.experiments.test_augment import ALL, KEY
images = np.random.default_rng(0).normal(size=(8, 7, 6, 2)).astype(np.float32)
one = jax.jit(ALL)(KEY, images)
mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
split = jax.jit(ALL).lower(KEY, jax.device_put(images, NamedSharding(mesh, PartitionSpec("batch"))))
split = split.compile()
found = split(KEY, jax.device_put(images, NamedSharding(mesh, PartitionSpec("batch"))))
np.testing.assert_allclose(found, one, atol=1e-6)
assert len(found.sharding.device_set) == 8 and not found.sharding.is_fully_replicated
assert "all-gather" not in split.as_text()  # every device keeps to its images
"""
    devices = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rotation": -1.0}, ValueError, r"rotation \(=-1.0\) must lie in \[0, 180\] degrees"),
        ({"rotation": 360.0}, ValueError, r"rotation \(=360.0\) .* pass 180 for all angles"),
        ({"rotation": float("nan")}, ValueError, r"rotation \(=nan\) must be finite"),
        ({"rotation": "30"}, TypeError, r"rotation \(='30'\) must be a real number"),
        ({"shift": -1.0}, ValueError, r"shift \(=-1.0\) must not be negative"),
        ({"crop": -4}, ValueError, r"crop \(=-4\) must be at least 0"),
        ({"crop": 1.5}, TypeError, r"crop \(=1.5\) must be an integer"),
        ({"cutout": -1}, ValueError, r"cutout \(=-1\) must be at least 0"),
        ({"flip": 0.5}, TypeError, r"flip \(=0.5\) must be a bool"),
    ],
)
def test_options_check_themselves(options, error, message):
    with pytest.raises(error, match=message):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 5, 5, 1), np.uint8), TypeError, "images has dtype uint8"),
        (np.zeros((5, 5, 1)), ValueError, r"images has shape \(5, 5, 1\)"),
    ],
)
def test_images_are_checked(unhooked, images, error, message):
    with pytest.raises(error, match=message):
        ALL(KEY, images)
