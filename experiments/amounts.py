"""How much symmetry every relaxed layer of a network has kept, as numbers for a curve."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from flax import nnx

from pdo_jax.nn import equivariance_amounts


def flat(model: nnx.Module) -> dict[str, float]:
    """Return the amount of every relaxed layer, by the layer's place and the part of the pose.

    Args:
        model: any network; compiled once for all those of one structure.

    Returns:
        By "amount/PLACE/PART" a number from 0 (strict) to 1; empty without relaxed layers.

    Example:
        >>> from pdo_jax.nn import RelaxedConv
        >>> layer = RelaxedConv(2, 2, "p4", relaxation="weights", rngs=nnx.Rngs(0))
        >>> flat(nnx.Dict(conv=layer))
        {'amount/conv/orientation': 0.0, 'amount/conv/position': 0.0}
    """
    found = _amounts(*nnx.split(model))
    return {
        f"amount/{place}/{part}": float(amount)
        for place, parts in found.items()
        for part, amount in parts.items()
    }


@partial(jax.jit, static_argnums=0)
def _amounts(graph: Any, state: nnx.State) -> dict[str, dict[str, jax.Array]]:
    return equivariance_amounts(nnx.merge(graph, state))
