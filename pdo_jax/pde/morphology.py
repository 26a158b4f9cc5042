"""Max-plus convolution, and the dilations and erosions that are made of it.

    y(g) = max_h x(h) - k_g(h)          over the window of g, inside the image

The derivative goes to one winner: of every output only the tap that reached the maximum is kept, a
number of one byte for windows of up to 255 points. With w(g) the winner,

    dy(g) = dx(w(g)) - dk_g(w(g))

so that forward mode gathers, and reverse mode gives each dy(g) back to one x(h) and one k_g(h).
Between winners that tie, the first tap in the order (row, column, angle) wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax._varying import alike
from pdo_jax.pde import geometry, kernels, windows
from pdo_jax.pde.windows import Shape, Window

Algorithm = Literal["xla", "pallas"]


def morphological_conv(
    x: Float[_check.Array, "..."],
    kernel: windows.Kernel,
    kernel_size: Sequence[int] | None = None,
    *,
    algorithm: Algorithm = "xla",
) -> Float[jax.Array, "..."]:
    """Convolve in the algebra of maxima and sums.

        y(g) = max_h x(h) - k_g(h)

    Positions outside the image do not take part; the angle is periodic. Differentiable in `x` and
    in the kernel: see the head of this file.

    Args:
        x: `(..., H, W, Or, C)` field, or `(..., H, W, C)` image on the plane.
        kernel: `(Or, kH, kW, kOr, C)`, already rotated: entry (t, i, j, l) belongs to the pixel i
            rows below the first row of the window, j columns to the right, and to the orientation
            t + l - kOr // 2. On the plane `(kH, kW, C)`. Or a function of (c1, c2, c3), or of
            (x, y) on the plane, that is sampled at `geometry.log_coordinates` or
            `geometry.offsets`; its arguments have a last axis of length 1 for channels.
        kernel_size: the window of a kernel that is a function: three numbers, or two on the plane.
        algorithm: "xla", a loop over the taps; or "pallas", which on Nvidia's GPUs is one Triton
            kernel, and the same loop elsewhere. The kernel has not been timed on a GPU, so nothing
            takes it unless it is asked for; exported programs cannot hold it.

    Returns:
        An array of the shape and dtype of `x`. Differences are taken in float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> x = jnp.zeros((5, 5, 1)).at[2, 2].set(1.0)
        >>> morphological_conv(x, lambda x, y: (x**2 + y**2) / 4, (3, 3))[1:4, 1:4, 0].tolist()
        [[0.5, 0.75, 0.5], [0.75, 1.0, 0.75], [0.5, 0.75, 0.5]]

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022), whose k box f is minus ours of -f.
    """
    _check.choice("algorithm", algorithm, get_args(Algorithm))
    field, kernel, _ = windows.check(x, kernel, kernel_size)
    (y,) = _max_plus_p.bind(field, kernel, winners=False, algorithm=algorithm)
    return y.reshape(x.shape)


def dilation(
    x: Float[_check.Array, "..."],
    metric: geometry.Metric,
    kernel_size: Sequence[int] = (5, 5, 5),
    alpha: float = 0.65,
    *,
    distance: str = "log",
) -> Float[jax.Array, "..."]:
    """Dilate: solve u_t = |grad u|^(2 alpha) up to time 1.

        y(g) = max_h x(h) - k(g^-1 h),        k from `morphological_kernel`

    Args:
        x: `(..., H, W, Or, C)` field, or `(..., H, W, C)` image on the plane.
        metric: `(C, 3)` or `(C, 3, 3)` on SE(2); `(C,)`, `(C, 2, 2)` or `Finsler` on the plane; see
            `pdo_jax.pde.geometry`.
        kernel_size: `(kH, kW, kOr)`, or `(kH, kW)` on the plane; odd.
        alpha: above 1/2 and at most 1.
        distance: the estimate of distances on SE(2).

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> x = jnp.zeros((9, 9, 8, 2))
        >>> dilation(x, jnp.ones((2, 3)), (5, 5, 3)).shape
        (9, 9, 8, 2)

    References:
        Smets et al. (JMIV 2022). Exact quarter turns need Or in multiples of 4 and kH = kW.
    """
    sizes, orientations = windows.check_metric(x, metric, kernel_size)
    k = kernels.morphological_kernel(metric, sizes, orientations, alpha, distance=distance)
    return morphological_conv(x, k)


def erosion(
    x: Float[_check.Array, "..."],
    metric: geometry.Metric,
    kernel_size: Sequence[int] = (5, 5, 5),
    alpha: float = 0.65,
    *,
    distance: str = "log",
) -> Float[jax.Array, "..."]:
    """Erode: solve u_t = -|grad u|^(2 alpha) up to time 1.

        y(g) = min_h x(h) + k(g^-1 h) = -dilation(-x)

    Args:
        x: as in `dilation`, like everything else.
        metric: see `dilation`.
        kernel_size: see `dilation`.
        alpha: see `dilation`.
        distance: see `dilation`.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> erosion(jnp.ones((9, 9, 2)), jnp.ones(2), (3, 3))[0, 0].tolist()
        [1.0, 1.0]
    """
    x = _check.floating("x", x, "(..., H, W, C) or (..., H, W, Or, C)", 3)
    return -dilation(-x, metric, kernel_size, alpha, distance=distance)


# ------------------------------------------------------------------------- the maximum, its winner


def _derivative(
    primals: tuple, tangents: tuple, *, winners: bool, algorithm: Algorithm
) -> tuple[list, list]:
    """Return values and tangents of `_search`; the winners themselves have no derivative."""
    (x, kernel), (dx, dk) = primals, tangents
    y, at = _max_plus_p.bind(x, kernel, winners=True, algorithm=algorithm)
    window, dy = kernel.shape[1:4], jnp.zeros_like(y)
    if not isinstance(dx, ad.Zero):
        dy = _at_winners_p.bind(dx, at, window=window)
    if not isinstance(dk, ad.Zero):
        # The sign goes to the kernel, which is small: on the way back it would be one more field.
        dy += _at_taps_p.bind(-dk, at, window=window).astype(dy.dtype)
    return ([y, at], [dy, ad.Zero(jax.typeof(at).to_tangent_aval())]) if winners else ([y], [dy])


def _search(
    x: jax.Array, kernel: jax.Array, *, winners: bool, algorithm: Algorithm, one_by_one: bool
) -> tuple[jax.Array, ...]:
    """Return the maximum and, if asked, the first tap that reaches it, `(N, H, W, Or, C)`."""
    del algorithm  # see `_search_on_cuda`
    shape = Shape(kernel.shape[1:4], x.shape[-2], x.shape[-1])  # pyright: ignore
    dtype = np.promote_types(np.promote_types(x.dtype, kernel.dtype), np.float32)
    taps = windows.lanes(kernel).astype(dtype)

    def one(x: jax.Array) -> tuple[jax.Array, ...]:
        # A finite number: no difference of it is infinite or no number.
        outside = float(jnp.finfo(dtype).min)
        padded = windows.pad(x.astype(dtype), shape, outside)
        # What both passes compare must be one number: nothing may be fused into one of them.
        padded, kernel = lax.optimization_barrier((padded, taps))
        precise = _maximum(shape, padded, kernel)
        y = _inside(precise, outside).reshape(x.shape).astype(x.dtype)
        if not winners:
            return (y,)
        return y, _winner(shape, padded, kernel, precise).reshape(x.shape)

    return windows.over_examples(one, one_by_one, x)


def _maximum(shape: Shape, padded: jax.Array, taps: jax.Array) -> jax.Array:
    height, width = (n - k + 1 for n, k in zip(padded.shape[:2], shape.window[:2], strict=True))
    start = jnp.full((height, width, shape.lanes), -jnp.inf, padded.dtype)

    def higher(y: jax.Array, part: jax.Array, cost: jax.Array, _: jax.Array) -> jax.Array:
        return jnp.maximum(y, part - cost)

    return windows.fold(shape, padded, taps, start, higher)


def _inside(y: jax.Array, outside: float) -> jax.Array:
    """Return maxima over what is inside: where nothing there is above it, that was all -inf."""
    return jnp.where(y == outside, -jnp.inf, y)


def _winner(shape: Shape, padded: jax.Array, taps: jax.Array, y: jax.Array) -> jax.Array:
    """Return the first tap that reaches the maximum.

    A second pass: a loop that carried both would do all the work once for each of its two results.
    """
    dtype = shape.tap_dtype
    none = np.iinfo(dtype).max  # no tap's number, as windows are odd

    def reached(winner: jax.Array, part: jax.Array, cost: jax.Array, tap: jax.Array) -> jax.Array:
        return jnp.minimum(winner, jnp.where(part - cost == y, tap.astype(dtype), dtype(none)))

    winner = windows.fold(shape, padded, taps, jnp.full(y.shape, none, dtype), reached)
    return jnp.where(winner == none, dtype(shape.taps // 2), winner)  # at a NaN: any tap inside


def _search_on_cuda(
    x: jax.Array, kernel: jax.Array, *, winners: bool, algorithm: Algorithm
) -> tuple[jax.Array, ...]:
    if algorithm == "xla":
        return _search(x, kernel, winners=winners, algorithm=algorithm, one_by_one=False)
    from pdo_jax.pde import pallas  # slow to import, and seldom used

    shape = Shape(kernel.shape[1:4], x.shape[-2], x.shape[-1])  # pyright: ignore
    outside = float(jnp.finfo(x.dtype).min)
    padded = windows.pad(x, shape, outside)
    y, *at = pallas.max_plus(padded, windows.lanes(kernel), shape)
    found = (_inside(y, outside), *at) if winners else (_inside(y, outside),)
    return tuple(a.reshape(x.shape) for a in found)


# Four linear maps as primitives of JAX, in pairs that are each other's transposes:
#
#     at_winners   dy(g) = dx(w(g))             to_winners   dx(h) = sum of dy(g), w(g) = h
#     at_taps      dy(g) = dk_g(w(g))           to_taps      dk_t(i) = sum of dy(g), w(g) = i
#
# JAX's own derivatives of the same gathers would keep the positions, four bytes each, and more.


def _at_winners(
    dx: jax.Array, winners: jax.Array, *, window: Window, one_by_one: bool
) -> jax.Array:
    def one(dx: jax.Array, winner: jax.Array) -> jax.Array:
        return dx.reshape(-1).at[_positions(winner, window)].get(mode="promise_in_bounds")

    return windows.over_examples(one, one_by_one, dx, winners)


def _to_winners(
    dy: jax.Array, winners: jax.Array, *, window: Window, one_by_one: bool
) -> jax.Array:
    precise = np.promote_types(dy.dtype, np.float32)

    def one(dy: jax.Array, winner: jax.Array) -> jax.Array:
        where, parts = _positions(winner, window).reshape(-1), dy.reshape(-1).astype(precise)
        total = jnp.zeros(dy.size, precise).at[where].add(parts, mode="promise_in_bounds")
        return total.reshape(dy.shape).astype(dy.dtype)

    return windows.over_examples(one, one_by_one, dy, winners)


def _at_taps(dk: jax.Array, winners: jax.Array, *, window: Window, one_by_one: bool) -> jax.Array:
    def one(winner: jax.Array) -> jax.Array:
        return dk.reshape(-1).at[_taps(winner, window)].get(mode="promise_in_bounds")

    return windows.over_examples(one, one_by_one, winners)


def _to_taps(dy: jax.Array, winners: jax.Array, *, window: Window, one_by_one: bool) -> jax.Array:
    precise = np.promote_types(dy.dtype, np.float32)
    orientations, channels = dy.shape[-2:]
    total = jnp.zeros(orientations * math.prod(window) * channels, precise)

    def add(total: jax.Array, dy: jax.Array, winners: jax.Array) -> jax.Array:
        where = _taps(winners, window).reshape(-1)
        return total.at[where].add(dy.reshape(-1).astype(precise), mode="promise_in_bounds")

    if one_by_one and isinstance(dy.shape[0], int) and dy.shape[0]:

        def add_one(i: jax.Array, total: jax.Array) -> jax.Array:
            return add(
                total, *(lax.dynamic_index_in_dim(a, i, keepdims=False) for a in (dy, winners))
            )

        total = lax.fori_loop(0, dy.shape[0], add_one, alike(total, dy)[0])
    else:
        total = add(total, dy, winners)
    return total.reshape(orientations, *window, channels).astype(dy.dtype)


def _positions(winner: jax.Array, window: Window) -> jax.Array:
    """Return where the winners of one example lie in the flat field."""
    height, width, orientations, channels = winner.shape
    tap = winner.astype(np.int32)
    rows, columns, turns = window
    h, w, t, c = (lax.broadcasted_iota(np.int32, winner.shape, axis) for axis in range(4))
    # Only where all that is inside a window is -inf can a winner be outside.
    h = jnp.clip(h + tap // (columns * turns) - rows // 2, 0, height - 1)
    w = jnp.clip(w + tap // turns % columns - columns // 2, 0, width - 1)
    t = (t + tap % turns + orientations - turns // 2) % orientations
    return ((h * width + w) * orientations + t) * channels + c


def _taps(winner: jax.Array, window: Window) -> jax.Array:
    """Return where the winners, of one example or of many, lie in the flat kernel."""
    channels, last = winner.shape[-1], winner.ndim - 1
    t, c = (lax.broadcasted_iota(np.int32, winner.shape, axis) for axis in (last - 1, last))
    return (t * math.prod(window) + winner.astype(np.int32)) * channels + c


# ------------------------------------------------------------------------------- the primitives


def _linear(name: str, function: Callable[..., jax.Array], of_examples: int) -> Primitive:
    """Return a primitive that is linear in its first array; the second one, winners, says how."""
    primitive = windows.primitive(name, function)
    windows.batched(primitive, of_examples)

    def derivative(
        tangent: jax.Array, _: jax.Array, winners: jax.Array, **options: Any
    ) -> jax.Array:
        return primitive.bind(tangent, winners, **options)

    ad.defjvp(primitive, derivative, None)
    return primitive


def _transposes(one: Primitive, other: Primitive) -> None:
    for primitive, transpose in ((one, other), (other, one)):
        ad.primitive_transposes[primitive] = lambda ct, _, winners, transpose=transpose, **o: (
            transpose.bind(ct, winners, **o),
            None,
        )


_max_plus_p = windows.primitive("pdo_max_plus", _search, results=True)
mlir.register_lowering(
    _max_plus_p, mlir.lower_fun(_search_on_cuda, multiple_results=True), platform="cuda"
)
windows.batched(_max_plus_p, of_examples=1)
ad.primitive_jvps[_max_plus_p] = _derivative
_at_winners_p = _linear("pdo_at_winners", _at_winners, of_examples=2)
_to_winners_p = _linear("pdo_to_winners", _to_winners, of_examples=2)
_at_taps_p = _linear("pdo_at_taps", _at_taps, of_examples=0)
_to_taps_p = _linear("pdo_to_taps", _to_taps, of_examples=0)
_transposes(_at_winners_p, _to_winners_p)
_transposes(_at_taps_p, _to_taps_p)
