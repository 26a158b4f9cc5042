"""Diffusion-shock filtering: blur where the field is smooth, sharpen where it has edges.

    y = q D(x) + (1 - q) (|s| M(x) + (1 - |s|) x)

    q = 1 / (1 + |grad u|^2 / contrast^2)                    1 where smooth, 0 at edges
    s = 2 / pi atan(laplace u / softness^2)                  the side of the edge
    M = erosion where s > 0 (valleys), dilation elsewhere    D = diffusion

u is the diffused field; every one of q, s has its own metric W for diffusion, gradient and
Laplacian: |grad u|^2 = sum W_ij d_i u d_j u, laplace u = sum W_ij d_i d_j u.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.fields import mirror
from pdo_jax.pde import geometry, windows
from pdo_jax.pde.diffusion import diffusion
from pdo_jax.pde.morphology import dilation, erosion

_TINY = float(np.finfo(np.float32).eps)  # contrast and softness may be 0


class Switch(NamedTuple):
    """Where one of two things happens, in `diffusion_shock`.

    Args:
        metric: `(C, 3)` on SE(2), and `(C,)` or `(C, 2, 2)` on the plane: in which a slope or a
            curvature is measured.
        scale: `(C,)`: where the transition is; its sign does not matter.

    Example:
        >>> Switch(jnp.ones((2, 3)), jnp.ones(2)).scale.shape
        (2,)
    """

    metric: _check.Array
    scale: _check.Array


def diffusion_shock(
    x: Float[_check.Array, "..."],
    diffused: geometry.Metric,
    dilated: geometry.Metric,
    edges: Switch,
    sides: Switch,
    kernel_size: Sequence[int] = (5, 5, 5),
    alpha: float = 0.65,
    *,
    eroded: geometry.Metric | None = None,
    distance: str = "log",
) -> Float[jax.Array, "..."]:
    """Diffuse where the field is smooth, dilate and erode at its edges.

        y = q D(x) + (1 - q) (|s| M(x) + (1 - |s|) x)        see the head of this file

    Args:
        x: `(..., H, W, Or, C)` field, or `(..., H, W, C)` image on the plane.
        diffused: the metric of the diffusion, as in `diffusion`.
        dilated: the metric of the dilation, as in `dilation`.
        edges: metric and contrast of q.
        sides: metric and softness of s. The metrics of both are `(C, 3)` on SE(2), and `(C,)` or
            `(C, 2, 2)` on the plane; scales are squared, so that their sign does not matter.
        kernel_size: `(kH, kW, kOr)`, or `(kH, kW)` on the plane; odd.
        alpha: of dilation and erosion, above 1/2 and at most 1.
        eroded: the metric of the erosion; by default that of the dilation.
        distance: the estimate of distances on SE(2).

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> m, one = jnp.ones((2, 3)), jnp.ones(2)
        >>> x = jnp.ones((7, 7, 8, 2))
        >>> y = diffusion_shock(x, m, m, Switch(m, one), Switch(m, one), (3, 3, 3))
        >>> bool(jnp.allclose(y, x))  # constants stay
        True

    References:
        The layers of LieTorch 0.8.2 that end in DS, with these differences: the second part is
        added, where LieTorch subtracts it, so that y = x where q = s = 0; the angle is periodic;
        derivatives are those of the rotated frame, and on the plane those of the metric.
    """
    sizes = geometry.check_kernel_size(kernel_size)
    x = windows.check_field(x, len(sizes))
    dtype = np.promote_types(x.dtype, np.float32)
    for name, switch in (("edges", edges), ("sides", sides)):
        _check_switch(name, switch, len(sizes))
    options: dict[str, Any] = dict(kernel_size=sizes, distance=distance)
    smooth = diffusion(x, diffused, **options)
    rising = dilation(x, dilated, alpha=alpha, **options)
    falling = erosion(x, dilated if eroded is None else eroded, alpha=alpha, **options)

    u = diffusion(x, edges.metric, **options).astype(dtype)
    contrast = _scale("edges", edges, x).astype(dtype)
    q = 1 / (1 + _slope(u, edges.metric, len(sizes)) / contrast)
    v = diffusion(x, sides.metric, **options).astype(dtype)
    softness = _scale("sides", sides, x).astype(dtype)
    s = 2 / np.pi * jnp.arctan2(_curvature(v, sides.metric, len(sizes)), softness)

    shocked = jnp.where(s > 0, falling, rising).astype(dtype)
    kept = jnp.abs(s) * shocked + (1 - jnp.abs(s)) * x.astype(dtype)
    return (q * smooth.astype(dtype) + (1 - q) * kept).astype(x.dtype)


def _check_switch(name: str, switch: Any, ndim: int) -> None:
    if not isinstance(switch, Switch):
        raise TypeError(
            f"{name} must be a Switch, got {type(switch).__name__}; pass "
            "pdo_jax.pde.Switch(metric, scale)."
        )
    metric = geometry.check_metric(switch.metric, ndim)
    if isinstance(metric, geometry.Finsler) or metric.shape[1:] == (3, 3):
        finsler = isinstance(metric, geometry.Finsler)
        what = "is a Finsler norm" if finsler else f"has shape {metric.shape}"
        raise ValueError(
            f"{name}.metric {what}, but (C, 3) is needed on SE(2), and (C,) or (C, 2, 2) on the "
            "plane; a gradient and a Laplacian have no others here: pass one of these."
        )


def _scale(name: str, switch: Switch, x: jax.Array) -> jax.Array:
    scale = _check.floating(f"{name}.scale", switch.scale, "(C,)", 1, exact=True)
    _check.axis(f"{name}.scale", scale, 0, x.shape[-1], "the number of channels of x")
    return scale**2 + _TINY


def _form(metric: _check.Array, ndim: int) -> jax.Array:
    """Return a metric as the matrix W of every channel, `(C, ndim, ndim)`."""
    array: Any = geometry.check_metric(metric, ndim)
    if array.shape[1:] == (2, 2):
        return jnp.sum(array[:, :, :, None] * array[:, :, None, :], axis=1)
    weights = jax.nn.relu(array if array.ndim == 2 else jnp.stack([array] * ndim, -1))
    return weights[:, :, None] * np.eye(ndim, dtype=weights.dtype)


def _slope(u: jax.Array, metric: _check.Array, ndim: int) -> jax.Array:
    """Return |grad u|^2."""
    form = _form(metric, ndim).astype(u.dtype)
    right, up = _central(u, -ndim, 1), _central(u, -ndim - 1, -1)
    if ndim == 2:
        gradient = [right, up]
    else:
        cos, sin, step = _frame(u)
        turning = (jnp.roll(u, -1, -2) - jnp.roll(u, 1, -2)) / (2 * step)
        gradient = [cos * right + sin * up, cos * up - sin * right, turning]
    flow = jnp.stack(gradient, -1)
    return jnp.sum(flow * jnp.sum(form * flow[..., None, :], -1), -1)


def _curvature(u: jax.Array, metric: _check.Array, ndim: int) -> jax.Array:
    """Return the Laplacian of u."""
    form = _form(metric, ndim).astype(u.dtype)
    right, down = -ndim, -ndim - 1
    xx, yy, xy = _second(u, right), _second(u, down), _central(_central(u, right, 1), down, -1)
    if ndim == 2:
        return form[:, 0, 0] * xx + 2 * form[:, 0, 1] * xy + form[:, 1, 1] * yy
    cos, sin, step = _frame(u)
    turning = (jnp.roll(u, -1, -2) - 2 * u + jnp.roll(u, 1, -2)) / step**2
    along = cos**2 * xx + 2 * cos * sin * xy + sin**2 * yy
    across = sin**2 * xx - 2 * cos * sin * xy + cos**2 * yy
    return form[:, 0, 0] * along + form[:, 1, 1] * across + form[:, 2, 2] * turning


def _frame(u: jax.Array) -> tuple[jax.Array, jax.Array, float]:
    """Return cosine and sine of every orientation, `(Or, 1)`, and the step between two of them."""
    step = 2 * np.pi / u.shape[-2]
    t = step * np.arange(u.shape[-2])[:, None]
    return jnp.asarray(np.cos(t), u.dtype), jnp.asarray(np.sin(t), u.dtype), step


def _central(u: jax.Array, axis: int, sign: int) -> jax.Array:
    """Return the central difference along a spatial axis, mirrored at its ends."""
    before, _, after = _neighbours(u, axis)
    return (after - before) * (sign / 2)


def _second(u: jax.Array, axis: int) -> jax.Array:
    before, here, after = _neighbours(u, axis)
    return before - 2 * here + after


def _neighbours(u: jax.Array, axis: int) -> list[jax.Array]:
    n = u.shape[axis]
    places = mirror(np.arange(-1, n + 1), n)
    return [jnp.take(u, places[i : i + n], axis) for i in range(3)]
