"""Arrays in a `jax.shard_map`: over which axes of the mesh they vary."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax


def alike(*arrays: Any) -> tuple[Any, ...]:
    """Return arrays that vary over the same axes, as the operands of one primitive must.

    What is the same on all devices is declared to vary; its gradient is then summed over them. For
    an array of zeros with which a loop begins that is the only way to become what the loop makes.
    """
    varies = [jax.typeof(a).manual_axis_type.varying for a in arrays]
    union = frozenset().union(*varies)
    return tuple(
        lax.pcast(a, tuple(union - of), to="varying") if union - of else a
        for a, of in zip(arrays, varies, strict=True)
    )
