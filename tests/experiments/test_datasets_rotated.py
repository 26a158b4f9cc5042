"""Rotated MNIST made from MNIST: the protocol, and the rotation against scipy's own pieces."""

import numpy as np
import pytest
from scipy import ndimage, stats

from experiments.datasets import rotated

COUNT = 70_000
ORDER = [38636, 44088, 42448, 60646]
DEGREES = [64.5856114928345, 109.99608487330465, 97.12590522165854, 165.14901761060236]


def test_digits_are_disjoint_and_angles_uniform():
    order, degrees = rotated.protocol(COUNT, rotated.SEED)
    assert len(order) == len(degrees) == 62_000
    assert len(np.unique(order)) == len(order)
    assert order.min() >= 0 and order.max() < COUNT
    assert degrees.min() >= 0 and degrees.max() < 360
    for part in (slice(rotated.TRAIN), slice(rotated.TRAIN, None)):
        assert stats.kstest(degrees[part] / 360, "uniform").pvalue > 0.01
        assert stats.kstest(order[part] / COUNT, "uniform").pvalue > 0.01
    narrow = degrees * 0.97  # the test can tell
    assert stats.kstest(narrow / 360, "uniform").pvalue < 1e-6


def test_the_seed_is_the_data_set():
    """Another choice would make every published number incomparable: bump the version then."""
    order, degrees = rotated.protocol(COUNT, rotated.SEED)
    assert order[:4].tolist() == ORDER
    np.testing.assert_allclose(degrees[:4], DEGREES, atol=1e-9)
    assert rotated.protocol(COUNT, rotated.SEED + 1)[0][:4].tolist() != ORDER


def blob():
    """Something like a digit, without symmetry: 28 x 28 uint8, empty near the border."""
    rng = np.random.default_rng(0)
    image = np.zeros((28, 28))
    image[8:20, 8:20] = rng.uniform(0, 1, (12, 12))
    image = ndimage.gaussian_filter(image, 1.0)
    return np.round(255 * image / image.max()).astype(np.uint8)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 123.4, 301.0])
def test_rotation_is_enlarge_turn_reduce(degrees):
    """The same from scipy: the spline's coefficients, its values at turned places, their mean."""
    image = blob()
    coefficients = ndimage.spline_filter(image.astype(np.float64), order=3, mode="mirror")
    fine = (np.arange(84) - 83 / 2) / 3  # pixels from the centre
    x, y = fine[None, :], -fine[:, None]  # y up
    source = (x + 1j * y) * np.exp(-1j * np.radians(degrees))
    places = np.stack([13.5 - source.imag, 13.5 + source.real])
    values = ndimage.map_coordinates(coefficients, places, order=3, prefilter=False)
    mean = ndimage.uniform_filter(values, 3)[1::3, 1::3]
    expected = np.clip(mean, 0, 255)
    found = rotated.rotate(image, degrees).astype(np.float64)
    assert np.max(np.abs(found - expected)) <= 0.5 + 1e-9
    wrong_way = rotated.rotate(image, -degrees).astype(np.float64)
    assert degrees == 0 or np.max(np.abs(wrong_way - expected)) > 20


def test_quarter_turns_are_exact():
    image = blob()
    turned = rotated.rotate(image, 30.0)
    for quarter in range(1, 4):
        found = rotated.rotate(image, 30.0 + 90 * quarter).astype(int)
        assert np.max(np.abs(found - np.rot90(turned, quarter))) <= 1  # rounding


def test_detail_tells_less_of_the_angle_than_it_does_pixel_by_pixel():
    fine = np.zeros((28, 28), np.uint8)
    fine[8:20, 8:20] = 255 * (np.random.default_rng(1).uniform(size=(12, 12)) > 0.5)

    def spread(rotate):
        detail = [np.sum(np.square(rotate(a).astype(np.float64))) for a in (0, 10, 25, 45)]
        return np.ptp(detail) / np.mean(detail)

    ours = spread(lambda a: rotated.rotate(fine, a))
    plain = spread(lambda a: ndimage.rotate(fine.astype(np.float64), a, reshape=False, order=3))
    assert ours < 0.75 * plain, (ours, plain)


def test_make(monkeypatch):
    monkeypatch.setattr(rotated, "TRAIN", 3)
    monkeypatch.setattr(rotated, "TEST", 5)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 28, 28, 1), np.uint8)
    labels = np.arange(9, dtype=np.uint8)
    parts = rotated.make(images, labels)
    order, degrees = rotated.protocol(9, rotated.SEED)
    found = np.concatenate([part[1] for part in parts.values()])
    np.testing.assert_array_equal(found, order)  # label i is that of digit i
    pixels = np.concatenate([part[0] for part in parts.values()])
    assert (pixels.shape, pixels.dtype) == ((8, 28, 28, 1), np.uint8)
    for image, i, angle in zip(pixels, order, degrees, strict=True):
        np.testing.assert_array_equal(image[..., 0], rotated.rotate(images[i, ..., 0], angle))
    again = rotated.make(images, labels)
    np.testing.assert_array_equal(again["test"][0], parts["test"][0])
    other = rotated.make(images, labels, seed=1)
    assert not np.array_equal(other["test"][0], parts["test"][0])
    with pytest.raises(ValueError, match="images has 7 digits, but 8 are needed: 3 to train and 5"):
        rotated.make(images[:7], labels[:7])
