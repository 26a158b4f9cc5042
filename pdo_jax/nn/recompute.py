"""Computing again for the gradient what would take much memory to keep.

    forward     y = f(modules, x)          the modules and x are kept, and nothing from inside f
    backward    f once more, then its gradients

It is `jax.checkpoint` on modules. They move on once a call: running statistics take one step, and
dropout draws one mask, which the second run sees again. (`nnx.remat` would write to all variables,
those that stay as they are too, which fails for a module from outside of a transformation.)
docs/large.md says what is saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


def call(function: Callable[..., Any], *arguments: Any, checkpoint: bool) -> Any:
    """Call a function of modules and arrays.

    Args:
        function: a function; what it is a method of must be among the arguments.
        arguments: modules and arrays.
        checkpoint: whether nothing but the arguments is kept for the gradient.

    Returns:
        What the function returns.

    Example:
        >>> import jax.numpy as jnp
        >>> layer, x = nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jnp.ones((4, 2))
        >>> call(lambda layer, x: nnx.relu(layer(x)), layer, x, checkpoint=True).shape
        (4, 3)
    """
    if not checkpoint:
        return function(*arguments)
    definition, state = nnx.split(arguments)

    @jax.checkpoint
    def pure(state: Any) -> tuple[Any, Any]:
        inner = nnx.merge(definition, state, copy=True)
        result = function(*inner)
        pairs = zip(nnx.to_flat_state(state), nnx.to_flat_state(nnx.state(inner)), strict=True)
        moved = [after for before, after in pairs if not _same(before[1], after[1])]
        return result, nnx.from_flat_state(moved)

    result, moved = pure(state)
    nnx.update(arguments, moved)
    return result


def _same(before: Any, after: Any) -> bool:
    """Return whether nothing was written to a variable."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all(one is other for one, other in pairs)


def layer(module: nnx.Module, x: Any, checkpoint: bool) -> Any:
    """Call a module of one array, as `call` does."""
    return call(_of_one, module, x, checkpoint=checkpoint)


def _of_one(module: Any, x: Any) -> Any:
    return module(x)
