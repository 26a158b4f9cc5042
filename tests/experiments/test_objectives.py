"""What a training lowers: losses against sums written out, and patches that keep their targets."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.objectives import CrossEntropy, Dice, Patches

HEIGHT, WIDTH = 14, 11
CUT = Patches(examples=12, size=5)
NUMBERS = np.arange(300) % 12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def data():
    """Images that say which pixel is where, and targets that follow from them, pixel by pixel."""
    number, row, column = np.mgrid[:3, :HEIGHT, :WIDTH]
    images = np.stack([number, row, column], -1).astype(np.uint8)
    inside = (row - 7) ** 2 + (column - 5) ** 2 < 20
    return images, np.stack([mark(images), inside], -1)


def mark(images):
    """Return the vessels that belong to such images."""
    number, row, column = np.moveaxis(images.astype(int), -1, 0)
    return (5 * number + 3 * row + 7 * column) % 4 == 0


@pytest.fixture(scope="module")
def cut(data):
    """Many patches and their targets."""
    return drawn(CUT, 0, data)


def drawn(patches, seed, data, numbers=NUMBERS):
    images, targets = map(jnp.asarray, data)
    found = _draw(patches, jax.random.key(seed), (images, targets), jnp.asarray(numbers))
    return tuple(map(np.asarray, found))


_draw = partial(jax.jit, static_argnums=0)(Patches.__call__)


def test_cross_entropy_of_two_examples():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    labels = np.array([1, 0], np.int32)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = 0.9 * np.eye(3)[labels] + 0.1 / 3
    loss, numbers = CrossEntropy(0.1)(jnp.asarray(logits), jnp.asarray(labels))
    assert float(loss) == pytest.approx(-np.mean(np.sum(wanted * np.log(probability), -1)))
    assert float(numbers["accuracy"]) == 0.5


def test_cross_entropy_draws_the_images_of_the_numbers(data):
    labels = np.arange(3)
    images, targets = CrossEntropy().draw(
        jax.random.key(0), (jnp.asarray(data[0]), jnp.asarray(labels)), jnp.array([2, 0])
    )
    np.testing.assert_array_equal(images, data[0][[2, 0]])
    np.testing.assert_array_equal(targets, [2, 0])


@pytest.mark.parametrize("smooth", [1.0, 0.25])
def test_dice_is_the_sum_written_out(rng, smooth):
    logits = rng.normal(size=(2, 3, 4, 1))
    targets = rng.uniform(size=(2, 3, 4, 2)) < 0.6
    above = below = hits = answers = 0.0
    for p, (vessel, inside) in zip(logits.ravel(), targets.reshape(-1, 2), strict=True):
        if inside:
            share = 1 / (1 + np.exp(-p))
            above += 2 * share * vessel
            below += share + vessel
            hits += 2 * int(p > 0) * int(vessel)
            answers += int(p > 0) + int(vessel)
    loss, numbers = Dice(CUT, smooth)(jnp.asarray(logits), jnp.asarray(targets))
    assert float(loss) == pytest.approx(1 - (above + smooth) / (below + smooth), rel=1e-12)
    assert float(numbers["dice"]) == pytest.approx((hits + smooth) / (answers + smooth), rel=1e-12)


def test_dice_does_not_see_what_is_outside(rng):
    dice = Dice(CUT)
    logits, targets = rng.normal(size=(2, 3, 4, 1)), rng.uniform(size=(2, 3, 4, 2)) < 0.5
    other = np.where(targets[..., 1:], logits, rng.normal(size=logits.shape))
    moved = targets.copy()
    moved[..., 0] ^= ~targets[..., 1]
    first = dice(jnp.asarray(logits), jnp.asarray(targets))[0]
    assert float(dice(jnp.asarray(other), jnp.asarray(moved))[0]) == pytest.approx(float(first))
    whole = moved | [False, True]  # the control: the same, if everything were inside
    assert abs(float(dice(jnp.asarray(other), jnp.asarray(whole))[0]) - float(first)) > 1e-3


def test_dice_has_the_gradient_of_its_differences(rng):
    targets = jnp.asarray(rng.uniform(size=(1, 2, 3, 2)) < 0.7)
    logits, direction = rng.normal(size=(2, 1, 2, 3, 1))

    def loss(x):
        return Dice(CUT)(x, targets)[0]

    found = jnp.vdot(jax.grad(loss)(jnp.asarray(logits)), jnp.asarray(direction))
    step = 1e-6
    above, below = (float(loss(jnp.asarray(logits + s * direction))) for s in (step, -step))
    assert float(found) == pytest.approx((above - below) / (2 * step), rel=1e-6)
    assert abs(float(found)) > 1e-3


def test_dice_of_nothing_is_finite():
    nothing = jnp.zeros((1, 2, 2, 2), bool)
    loss, _ = Dice(CUT)(jnp.zeros((1, 2, 2, 1)), nothing)
    assert float(loss) == 0
    gradient = jax.grad(lambda x: Dice(CUT)(x, nothing)[0])(jnp.zeros((1, 2, 2, 1)))
    assert np.all(np.isfinite(gradient))


def test_dice_wants_a_logit_for_every_pixel():
    with pytest.raises(ValueError, match=r"logits has shape \(1, 2, 2, 1\), but \(1, 4, 4, 1\)"):
        Dice(CUT)(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 4, 4, 2), bool))


# ----------------------------------------------------------------------------------------- patches


def test_targets_are_moved_with_their_images(cut, data):
    """A target is a function of the pixel that it belongs to; so it stays, whatever the pose."""
    images, targets = cut
    assert images.shape == (300, 5, 5, 3) and targets.shape == (300, 5, 5, 2)
    np.testing.assert_array_equal(targets[..., 0], mark(images))
    number, row, column = np.moveaxis(images, -1, 0)
    np.testing.assert_array_equal(targets[..., 1], data[1][number, row, column, 1])


def test_patches_are_windows_in_all_eight_poses(cut):
    images, _ = cut
    places = images[..., 1:].astype(int)
    down = {tuple(np.diff(one, axis=0).reshape(-1, 2)[0]) for one in places}
    assert down == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    poses = {(*np.diff(p, axis=0)[0, 0], *np.diff(p, axis=1)[0, 0]) for p in places}
    assert len(poses) == 8
    for one in places:
        for axis in (0, 1):
            steps = np.diff(one, axis=axis).reshape(-1, 2)
            assert np.all(steps == steps[0]) and np.abs(steps[0]).sum() == 1


def test_patches_hold_some_of_the_field_of_view(cut):
    images, targets = cut
    assert np.all(targets[..., 1].any((1, 2)))
    np.testing.assert_array_equal(images[:, 0, 0, 0], NUMBERS % 3)
    rows = images[..., 1].reshape(300, -1).min(1)
    assert len(set(rows)) > 4  # anywhere in it


def test_the_only_pixel_inside_is_always_there(data):
    images, targets = data
    for row, column in ((0, 0), (HEIGHT - 1, WIDTH - 1), (6, 3)):
        single = targets.copy()
        single[..., 1] = False
        single[:, row, column, 1] = True
        _, found = drawn(CUT, 1, (images, single))
        np.testing.assert_array_equal(found[..., 1].sum((1, 2)), 1)


def test_every_pixel_inside_is_drawn_as_often():
    inside = np.array([[0, 1, 1], [1, 0, 0]], bool)
    targets = np.stack([inside, inside], -1)[None]
    place = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    single = Patches(examples=3000, size=1, poses=False)
    images, _ = drawn(single, 2, (place, targets), np.arange(3000))
    counts = np.bincount(images.ravel(), minlength=6)
    assert np.all(counts[[0, 4, 5]] == 0)
    np.testing.assert_allclose(counts[[1, 2, 3]], 1000, atol=100)  # four deviations


def test_whole_images_are_mirrored_but_not_turned(data):
    whole = dataclasses.replace(CUT, size=None)
    found, maps = drawn(whole, 0, data, np.arange(24))
    assert found.shape == (24, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(maps[..., 0], mark(found))
    corners = {tuple(one[0, 0, 1:].tolist()) for one in found}
    assert corners == {(r, c) for r in (0, HEIGHT - 1) for c in (0, WIDTH - 1)}
    still = dataclasses.replace(whole, poses=False)
    kept, _ = drawn(still, 0, data, np.arange(24))
    np.testing.assert_array_equal(kept, data[0][np.arange(24) % 3])


def test_another_key_makes_other_patches(cut, data):
    again, _ = drawn(CUT, 3, data)
    assert np.mean(np.all(again == cut[0], axis=(1, 2, 3))) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"examples": 0}, r"examples \(=0\)"), ({"examples": 1, "size": 0}, r"size \(=0\)")],
)
def test_patches_check_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        Patches(**options)


def test_patches_must_fit_into_the_images(data):
    large = Patches(examples=1, size=12)
    with pytest.raises(ValueError, match=r"size \(=12\) must not exceed the images, .* 14 x 11"):
        drawn(large, 0, data)


def test_objectives_are_hashable():
    assert hash(Dice(CUT)) == hash(Dice(Patches(12, 5))) != hash(CrossEntropy())
