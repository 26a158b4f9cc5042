"""Optimisers and learning rates against their definitions, in a few lines of NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import recipes

RECIPE = recipes.Recipe(epochs=10, batch_size=1, learning_rate=0.1, schedule="constant")


def rates(steps=10, **options):
    schedule = recipes.learning_rate(dataclasses.replace(RECIPE, **options), steps)
    return np.array([float(schedule(i)) for i in range(round(10 * steps))])


def test_cosine():
    found = rates(schedule="cosine", warmup=0.2)
    rising, falling = np.arange(20), np.arange(80)
    np.testing.assert_allclose(found[:20], 0.1 * rising / 20, atol=1e-7)
    np.testing.assert_allclose(found[20:], 0.05 * (1 + np.cos(np.pi * falling / 80)), atol=1e-7)


def test_something_is_left_to_fall_after_any_warmup():
    schedule = recipes.learning_rate(
        recipes.Recipe(epochs=1, learning_rate=0.1, schedule="cosine", warmup=0.9), 3
    )
    np.testing.assert_allclose([float(schedule(i)) for i in range(4)], [0, 0.05, 0.1, 0], atol=1e-7)


def test_one_cycle():
    found = rates(schedule="one-cycle", warmup=0.3)
    assert np.argmax(found) == 30 and np.isclose(found[30], 0.1)
    assert np.isclose(found[0], 0.1 / 25) and found[-1] < 1e-4
    assert np.all(np.diff(found[:31]) > 0) and np.all(np.diff(found[30:]) < 0)


def test_step():
    found = rates(schedule="step", milestones=(2.0, 5.0), factors=(0.1, 1.0, 0.01))
    np.testing.assert_allclose(found, np.repeat([0.01, 0.1, 0.001], [20, 30, 50]), rtol=1e-6)


def test_accumulated_steps_are_fewer_updates():
    """The rate follows the updates: at half of them it is where it would be at half the steps."""
    found = rates(schedule="cosine", accumulate=5)[:20]
    np.testing.assert_allclose(found, rates(schedule="cosine", steps=2)[:20], rtol=1e-6)


def minimise(recipe, steps=5):
    """Take steps on a linear loss: the gradients are always the same."""
    parameters = {"layer": {"kernel": jnp.full(2, 3.0), "bias": jnp.full(2, 3.0)}}
    gradient = {"layer": {"kernel": jnp.array([1.0, -1]), "bias": jnp.array([1.0, -1])}}
    optimiser = recipes.optimizer(recipe, 10)
    state = optimiser.init(parameters)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            updates, state = optimiser.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
    return jax.tree.map(np.asarray, parameters["layer"])


def test_sgd_with_an_l2_penalty():
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", decay="coupled", weight_decay=0.5)
    weight, momentum = np.full(2, 3.0), np.zeros(2)
    for _ in range(5):
        gradient = np.array([1.0, -1]) + 0.5 * weight  # of the loss with 0.5 / 2 |w|^2
        momentum = 0.9 * momentum + gradient
        weight = weight - 0.1 * (gradient + 0.9 * momentum)
    found = minimise(recipe)
    np.testing.assert_allclose(found["kernel"], weight, rtol=1e-5)
    bare = minimise(dataclasses.replace(recipe, weight_decay=0.0))
    np.testing.assert_array_equal(found["bias"], bare["bias"])
    np.testing.assert_array_equal(bare["kernel"], bare["bias"])


@pytest.mark.parametrize("decay", ["coupled", "decoupled"])
def test_adam(decay):
    recipe = dataclasses.replace(RECIPE, decay=decay, weight_decay=0.5)
    weight, mean, square = np.full(2, 3.0), np.zeros(2), np.zeros(2)
    for t in range(1, 6):
        coupled = decay == "coupled"
        gradient = np.array([1.0, -1]) + (0.5 * weight if coupled else 0)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        step = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        weight = weight - 0.1 * (step + (0 if coupled else 0.5 * weight))
    np.testing.assert_allclose(minimise(recipe)["kernel"], weight, rtol=1e-5)


def test_accumulated_gradients_are_averaged():
    """Equal gradients: two accumulated steps are one step."""
    alone = minimise(RECIPE, steps=3)
    np.testing.assert_allclose(
        minimise(dataclasses.replace(RECIPE, accumulate=2), steps=7)["kernel"], alone["kernel"]
    )
