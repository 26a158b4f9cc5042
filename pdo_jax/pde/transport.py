"""Convection: a field carried along a vector of the group, the same one at every point.

    y(g) = x(g c^-1)

On SE(2) the shift of the position depends on the orientation of the output alone, so that linear
interpolation is three passes, each of two entries along one axis.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.pde import windows


def convection(
    x: Float[_check.Array, "..."], shift: Float[_check.Array, "c d"]
) -> Float[jax.Array, "..."]:
    """Carry a field along: solve u_t = -c u up to time 1, for left-invariant vector fields c.

        SE(2):  y(p, t) = x(p - R(t - r) (m, l), t - r),     shift (m, l, r)
        plane:  y(p) = x(p - (a, b)),                        shift (a, b)

    Between pixels and between orientations x is interpolated linearly; outside of the image it is
    zero, and the angle is periodic.

    Args:
        x: `(..., H, W, Or, C)` field, or `(..., H, W, C)` image on the plane.
        shift: `(C, 3)`: along the orientation and across it (to the left) in pixels, and the turn
            in radians; on the plane `(C, 2)`: to the right and up in pixels.

    Returns:
        An array of the shape and dtype of `x`. Differentiable in both arguments (but for shifts by
        whole pixels, where the interpolant has a kink).

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> x = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
        >>> convection(x, jnp.array([[0.25, 0.0]]))[1, :, 0].tolist()
        [0.0, 0.75, 0.25]

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022).
    """
    shift = _check.floating("shift", shift, "(C, 3) or (C, 2)", 2, exact=True)
    if shift.shape[1] not in (2, 3):
        raise ValueError(
            f"shift has shape {shift.shape}, but (C, 3) is needed on SE(2), or (C, 2) on the "
            "plane; pass one row for each channel."
        )
    x = windows.check_field(x, shift.shape[1])
    _check.axis("shift", shift, 0, x.shape[-1], "the number of channels of x")
    dtype = np.promote_types(np.promote_types(x.dtype, shift.dtype), np.float32)
    shift = shift.astype(dtype)
    if shift.shape[1] == 2:
        field, right, up = x[..., None, :], shift[None, :, 0], shift[None, :, 1]
    else:
        field, (right, up) = x, _rotated(shift, x.shape[-2])
    y = field.astype(dtype)
    if shift.shape[1] == 3:
        y = _turned(y, shift[:, 2])
    y = _moved(y, -4, -up)  # rows count downwards
    y = _moved(y, -3, right)
    return y.reshape(x.shape).astype(x.dtype)


def _rotated(shift: jax.Array, orientations: int) -> tuple[jax.Array, jax.Array]:
    """Return by how much every orientation of the output moves right and up, `(Or, C)` each."""
    t = 2 * np.pi / orientations * np.arange(orientations)
    # R(t) (R(-r) (m, l)), R(t) from NumPy: exact permutations at quarter turns but for rounding.
    main, lateral, turn = shift.T
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    u, v = cos * main + sin * lateral, cos * lateral - sin * main
    of = [jnp.asarray(f(t)[:, None], shift.dtype) for f in (np.cos, np.sin)]
    return of[0] * u - of[1] * v, of[1] * u + of[0] * v


def _turned(x: jax.Array, turn: jax.Array) -> jax.Array:
    """Return x(., t - turn), `turn` `(C,)` in radians."""
    orientations = x.shape[-2]
    steps = turn * (orientations / (2 * np.pi))
    whole = jnp.floor(steps)
    part = steps - whole
    t = np.arange(orientations, dtype=np.int32)[:, None]
    near, far = (t - whole.astype(np.int32) - n for n in (np.int32(0), np.int32(1)))
    return (1 - part) * _take(x, near % orientations, -2) + part * _take(x, far % orientations, -2)


def _moved(x: jax.Array, axis: int, by: jax.Array) -> jax.Array:
    """Return x shifted along a spatial axis by `by` `(Or, C)` pixels, zeros coming in."""
    n = x.shape[axis]
    # Whatever moves further is outside: integers stay small, and the gradient stays zero.
    by = jnp.clip(by, -n - 1, n + 1)
    whole = jnp.floor(by)
    part = by - whole
    places = np.arange(n, dtype=np.int32).reshape(-1, *(1,) * (-axis - 1))
    y = jnp.zeros_like(x)
    for step, weight in ((np.int32(0), 1 - part), (np.int32(1), part)):
        source = places - whole.astype(np.int32) - step
        inside = (source >= 0) & (source < n)
        values = _take(x, jnp.clip(source, 0, n - 1), axis)
        y += jnp.where(inside, weight, 0) * values
    return y


def _take(x: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    """Return the entries along an axis that `index`, of as many last axes, says."""
    full = index.reshape((1,) * (x.ndim - index.ndim) + index.shape)
    return jnp.take_along_axis(x, full, axis=axis, mode="promise_in_bounds")
