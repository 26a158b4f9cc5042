"""Convection: a field carried along a vector of the group, the same one at every point.

    y(g) = x(g c^-1)

On SE(2) the shift of a position depends on the orientation of the output alone, so that linear
interpolation is three passes along one axis each, with a shift s for every orientation and channel:

    y(i) = sum_d hat(s - d) x(i - d),        hat(u) = max(0, 1 - |u|)

The sum runs over the whole shifts that occur, few where the shifts are small: on CPU a loop over
them is several times as fast as looking up two entries for every output. A pass is linear in x, and
its transpose is the pass by -s: nothing is ever scattered.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad
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
    y = field.reshape(-1, *field.shape[-4:]).astype(dtype)
    if shift.shape[1] == 3:
        steps = shift[:, 2] * (x.shape[-2] / (2 * np.pi))
        y = _moved(y, jnp.broadcast_to(steps, y.shape[-2:]), 3)
    y = _moved(y, -up, 1)  # rows count downwards
    y = _moved(y, right, 2)
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


# ------------------------------------------------------------------------------------- one pass


def _moved(x: Float[jax.Array, "n h w t c"], by: Float[jax.Array, "t c"], axis: int) -> jax.Array:
    """Return `x` moved along an axis: 1 for rows, 2 for columns, 3 for the angle, periodic."""
    n = x.shape[axis]
    # Shifts that do the same and are small.
    by = by - n * jnp.round(by / n) if axis == 3 else jnp.clip(by, -n - 1, n + 1)
    return _pass_p.bind(x, by, axis=axis, weights="hat")


# The weight of x(i - d) in y(i) for u = s - d: of the pass, and of its derivative by s from either
# side (it has a kink where s is whole, as shifts are at first).
_WEIGHTS = {
    "hat": lambda u: jnp.maximum(1 - jnp.abs(u), 0),
    "right": lambda u: jnp.where((u >= 0) & (u < 1), -1, jnp.where((u >= -1) & (u < 0), 1, 0)),
    "left": lambda u: jnp.where((u > 0) & (u <= 1), -1, jnp.where((u > -1) & (u <= 0), 1, 0)),
}
_TRANSPOSED = {"hat": (1, "hat"), "right": (-1, "left"), "left": (-1, "right")}


def _pass(x: jax.Array, by: jax.Array, *, axis: int, weights: str, one_by_one: bool) -> jax.Array:
    """Return y(i) = sum_d h(s - d) x(i - d) along an axis, h one of `_WEIGHTS`."""
    weigh = _WEIGHTS[weights]
    if not one_by_one:
        near = jnp.floor(by) if weights != "left" else jnp.ceil(by) - 1
        first, second = (
            _looked_up(x, d, axis) * weigh(by - d).astype(x.dtype) for d in (near, near + 1)
        )
        return first + second
    orientations, channels = x.shape[-2:]
    # Orientation and channel as one axis, as in `windows`; an angle is a step of C along it.
    along, n, stride = (3, orientations, channels) if axis == 3 else (axis, x.shape[axis], 1)
    by = by.reshape(-1)
    # A number that is none must not decide how long a loop is.
    finite = jnp.where(jnp.isnan(by), 0, by)
    first = jnp.ceil(jnp.min(finite)).astype(np.int32) - 1
    last = jnp.floor(jnp.max(finite)).astype(np.int32) + 1

    def one(part: jax.Array) -> jax.Array:
        around = part if axis == 3 else jnp.zeros_like(part)
        wide = lax.optimization_barrier(jnp.concatenate([around, part, around], along))

        def add(d: jax.Array, y: jax.Array) -> jax.Array:
            start = stride * jnp.clip(np.int32(n) - d, 0, 2 * n)
            moved = lax.dynamic_slice_in_dim(wide, start, part.shape[along], along)
            return y + moved * weigh(by - d.astype(by.dtype)).astype(x.dtype)

        return lax.fori_loop(first, last + 1, add, jnp.zeros_like(part))

    flat = x.reshape(*x.shape[:3], orientations * channels)
    # Rows that move sideways know nothing of each other, nor do columns that move upwards.
    return windows.over_bands(one, flat, 2 if axis == 1 else 1).reshape(x.shape)


def _looked_up(x: jax.Array, d: jax.Array, axis: int) -> jax.Array:
    """Return x(i - d) along an axis."""
    n = x.shape[axis]
    places = np.arange(n, dtype=np.int32).reshape(-1, *(1,) * (4 - axis))
    source = (places if axis < 3 else places.reshape(-1, 1)) - d.astype(np.int32)
    inside = (source >= 0) & (source < n)
    index = jnp.clip(source, 0, n - 1) if axis < 3 else source % n
    full = index.reshape((1,) * (x.ndim - index.ndim) + index.shape)
    values = jnp.take_along_axis(x, full, axis=axis, mode="promise_in_bounds")
    return values if axis == 3 else jnp.where(inside, values, 0)


def _transpose(dy: jax.Array, x: Any, by: jax.Array, *, axis: int, weights: str) -> tuple:
    sign, weights = _TRANSPOSED[weights]
    return sign * _pass_p.bind(dy, -by, axis=axis, weights=weights), None


def _derivative(dby: jax.Array, x: jax.Array, by: jax.Array, *, axis: int, weights: str) -> Any:
    if weights != "hat":  # piecewise constant
        return jnp.zeros_like(x)
    return dby * _pass_p.bind(x, by, axis=axis, weights="right")


_pass_p = windows.primitive("pdo_shift", _pass)
windows.batched(_pass_p, of_examples=1)
ad.primitive_transposes[_pass_p] = _transpose
ad.defjvp(_pass_p, lambda dx, x, by, **options: _pass_p.bind(dx, by, **options), _derivative)
