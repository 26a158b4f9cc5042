"""One step of training as a pure function of arrays, and its compiled forms.

    batch -> its examples -> augment, normalise -> loss -> gradients -> weights -> average

The data lie on the device as a whole, in the form in which they are stored; a step takes its share
of the epoch's order, and the objective says what an example is and what its loss is. All that is
random follows from the seed and the number of the step, so that a run can go on from any step as if
it had never stopped. `trainer` calls it in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from experiments import devices
from experiments.evaluation import Prepare
from experiments.objectives import Numbers, Objective
from experiments.recipes import Recipe, optimizer
from pdo_jax.nn import equivariance_penalty


class State(NamedTuple):
    """Everything that a step changes, and the key that it draws from."""

    net: nnx.State
    """Of the model (parameters, statistics, dropout's keys) and of the optimiser."""
    ema: nnx.State | None
    """The moving average of the parameters."""
    key: jax.Array
    """Of the seed; it stays as it is."""
    step: jax.Array
    """How many steps were taken."""


def start(model: nnx.Module, recipe: Recipe, steps: int, seed: int) -> tuple[Any, State]:
    """Return the structure of a model with its optimiser, and the state before the first step.

    Args:
        model: it is left as it was.
        recipe: which optimiser, and whether weights are averaged.
        steps: in an epoch.
        seed: of everything random in training.
    """
    model = nnx.clone(model)
    model.train()
    optimiser = nnx.Optimizer(model, optimizer(recipe, steps), wrt=nnx.Param)
    graph, net = nnx.split((model, optimiser))
    net = jax.tree.map(jnp.copy, net)  # steps donate their arrays; the caller keeps his
    ema = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param)) if recipe.ema else None
    return graph, State(net, ema, jax.random.key(seed), jnp.zeros((), np.int32))


def trained_model(graph: Any, state: State) -> nnx.Module:
    """Return the model in evaluation mode, with averaged weights if there are such."""
    model, _ = nnx.merge(graph, jax.tree.map(jnp.copy, state.net))
    if state.ema is not None:
        nnx.update(model, jax.tree.map(jnp.copy, state.ema))
    model.eval()
    return model


@jax.jit
def is_finite(state: State) -> jax.Array:
    """Return whether all floating numbers of a state are finite."""
    floating = [a for a in jax.tree.leaves(state) if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in floating]))


def stack(states: Sequence[State]) -> State:
    """Return several states as one, the seeds along a new first axis."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def unstack(state: State, seeds: int) -> list[State]:
    """Return the states that `stack` made one of."""
    return [jax.tree.map(lambda array, i=i: array[i], state) for i in range(seeds)]


class Program:
    """The compiled functions of a training.

    Args:
        graph: the structure from `start`.
        recipe: how to train.
        objective: what is lowered.
        prepare: what happens to the images.
        count: examples in an epoch.
        mesh: the devices; each takes its share of every batch.
        together: whether states are stacked: all seeds take each step at once.
        fused: the steps of one call.
    """

    def __init__(
        self,
        graph: Any,
        recipe: Recipe,
        objective: Objective,
        prepare: Prepare,
        count: int,
        mesh: jax.sharding.Mesh,
        *,
        together: bool,
        fused: int = 1,
    ):
        self.fused = fused
        step = partial(_step, graph, recipe, objective, prepare, mesh)
        order = partial(_order, count)
        if together:
            step, order = jax.vmap(step, (0, None, 0, None)), jax.vmap(order, (0, None))
        everywhere = NamedSharding(mesh, PartitionSpec())
        jit = partial(jax.jit, out_shardings=everywhere)
        self._order = jit(order)
        self._one = jit(step, donate_argnums=0)
        self._many = jit(partial(_several, step, fused), donate_argnums=0)
        self._compiled: dict[bool, Callable[..., Any]] = {}

    def order(self, state: State, epoch: int) -> jax.Array:
        """Return the order in which an epoch sees the examples."""
        return self._order(state.key, np.int32(epoch))

    def compile(self, state: State, data: tuple, order: jax.Array) -> None:
        """Compile what `run` calls, before the clock starts."""
        for many in {False, self.fused > 1}:
            function = self._many if many else self._one
            self._compiled[many] = function.lower(state, data, order, np.int32(0)).compile()

    def run(
        self, state: State, data: tuple, order: jax.Array, position: int, left: int
    ) -> tuple[State, Numbers, int]:
        """Take the steps of one call, at most `left`; return the state, numbers, and how many."""
        many = self.fused > 1 and left >= self.fused
        state, numbers = self._compiled[many](state, data, order, np.int32(position))
        return state, numbers, self.fused if many else 1


def _order(count: int, key: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.random.permutation(_key(key, 0, epoch), count)


def _key(key: jax.Array, use: int, number: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, use), number)


def _several(
    step: Callable, count: int, state: State, data: tuple, order: jax.Array, position: jax.Array
) -> tuple[State, Numbers]:
    def one(state: State, i: jax.Array) -> tuple[State, Numbers]:
        return step(state, data, order, i)

    return lax.scan(one, state, position + np.arange(count, dtype=np.int32))


def _step(
    graph: Any,
    recipe: Recipe,
    objective: Objective,
    prepare: Prepare,
    mesh: jax.sharding.Mesh,
    state: State,
    data: tuple[jax.Array, jax.Array],
    order: jax.Array,
    position: jax.Array,
) -> tuple[State, Numbers]:
    """Take one step, on the batch that comes at `position` (in batches) of the epoch's order."""
    size = recipe.batch_size
    batch = devices.split_batch(lax.dynamic_slice(order, (position * size,), (size,)), mesh)
    images, targets = objective.draw(_key(state.key, 2, state.step), data, batch)
    images = devices.split_batch(prepare(images, _key(state.key, 1, state.step)), mesh)
    model, optimiser = nnx.merge(graph, state.net)
    differentiate = nnx.value_and_grad(_loss, has_aux=True)
    (loss, numbers), gradient = differentiate(model, objective, recipe.penalty, images, targets)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with its integer counter
        optimiser.update(model, gradient)
        ema = _average(state, nnx.state(model, nnx.Param), recipe.ema)
    net = nnx.state((model, optimiser))
    return State(net, ema, state.key, state.step + 1), {"loss": loss, **numbers}


def _average(state: State, parameters: nnx.State, keep: float) -> nnx.State | None:
    """Return the next moving average; in the first steps it keeps less, to forget the start."""
    if state.ema is None:
        return None
    steps = state.step.astype(np.float32)
    kept = jnp.minimum(keep, (1 + steps) / (10 + steps))
    return jax.tree.map(lambda old, new: new + kept * (old - new), state.ema, parameters)


def _loss(
    model: Any, objective: Objective, strength: float, images: jax.Array, targets: jax.Array
) -> tuple[jax.Array, Numbers]:
    """Return the loss of what the model says, in float32 at least, and the other numbers."""
    logits = model(images)
    logits = logits.astype(jnp.promote_types(logits.dtype, np.float32))
    loss, numbers = objective(logits, targets)
    if not strength:
        return loss, numbers
    penalty = equivariance_penalty(model).astype(loss.dtype)
    return loss + strength * penalty, {**numbers, "penalty": penalty}
