"""Linear convolution channel by channel, and the diffusion that is made of it.

    y(g) = sum_h k_g(h) x(h)          over the window of g

Two primitives in the form of `windows`, each other's transposes in both arguments:

    conv    y = k * x                 gram    dk(tap) = sum over pixels of x(shifted by tap) dy

so that derivatives of every order and in either mode are sums of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax._varying import alike
from pdo_jax.pde import geometry, kernels, windows
from pdo_jax.pde.windows import TAPS_TOGETHER, Shape, Window

BORDERS = ("SAME", "REFLECT")


def linear_conv(
    x: Float[_check.Array, "..."],
    kernel: windows.Kernel,
    kernel_size: Sequence[int] | None = None,
    *,
    padding: str = "SAME",
) -> Float[jax.Array, "..."]:
    """Convolve every channel with its own kernel.

        y(g) = sum_h k_g(h) x(h)

    The angle is periodic. Linear, and differentiable any number of times, in both arguments.

    Args:
        x: `(..., H, W, Or, C)` field, or `(..., H, W, C)` image on the plane.
        kernel: `(Or, kH, kW, kOr, C)`, already rotated, or `(kH, kW, C)` on the plane, or a
            function that is sampled: as in `morphological_conv`.
        kernel_size: the window of a kernel that is a function.
        padding: "SAME" for zeros outside of the image, or "REFLECT" for the image mirrored at its
            first and last pixels.

    Returns:
        An array of the shape and dtype of `x`. Sums are taken in float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> x = jnp.zeros((5, 5, 1)).at[2, 2].set(4.0)
        >>> linear_conv(x, jnp.full((1, 3, 1), 0.25))[2, :, 0].tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    _check.choice("padding", padding, BORDERS)
    field, kernel, shape = windows.check(x, kernel, kernel_size)
    padded = windows.pad(field, shape, 0.0 if padding == "SAME" else padding)
    y = _conv_p.bind(padded, windows.lanes(kernel).astype(x.dtype), channels=shape.channels)
    return y.reshape(x.shape)


def diffusion(
    x: Float[_check.Array, "..."],
    metric: geometry.Metric,
    kernel_size: Sequence[int] = (5, 5, 5),
    *,
    distance: str = "log",
) -> Float[jax.Array, "..."]:
    """Diffuse: solve the heat equation u_t = (Laplacian of u) / 4 up to time 1, nearly.

        y(g) = sum_h k(g^-1 h) x(h),        k from `diffusion_kernel`

    The image is mirrored at its first and last pixels, so that constants stay as they are.

    Args:
        x: `(..., H, W, Or, C)` field, or `(..., H, W, C)` image on the plane.
        metric: `(C, 3)` or `(C, 3, 3)` on SE(2); `(C,)`, `(C, 2, 2)` or `Finsler` on the plane; see
            `pdo_jax.pde.geometry`.
        kernel_size: `(kH, kW, kOr)`, or `(kH, kW)` on the plane; odd.
        distance: the estimate of distances on SE(2).

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> y = diffusion(jnp.ones((9, 9, 8, 2)), jnp.ones((2, 3)), (5, 5, 3))
        >>> y[0, 0, 0].round(6).tolist()
        [1.0, 1.0]

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022). The border is LieTorch's.
    """
    sizes, orientations = windows.check_metric(x, metric, kernel_size)
    k = kernels.diffusion_kernel(metric, sizes, orientations, distance=distance)
    return linear_conv(x, k, padding="REFLECT")


# -------------------------------------------------------------------------------- the primitives


def _conv(padded: jax.Array, kernel: jax.Array, *, channels: int, one_by_one: bool) -> jax.Array:
    """Return `(N, H, W, Or C)` of `(N, H + kH - 1, ...)` and `(kH, kW, kOr, Or C)`."""
    shape = Shape(kernel.shape[:3], kernel.shape[3] // channels, channels)  # pyright: ignore
    dtype = np.promote_types(padded.dtype, np.float32)
    weights = kernel.astype(dtype)

    def one(padded: jax.Array) -> jax.Array:
        def add(y: jax.Array, part: jax.Array, weight: jax.Array, _: jax.Array) -> jax.Array:
            return y + part.astype(dtype) * weight

        space = (n - k + 1 for n, k in zip(padded.shape[:2], shape.window[:2], strict=True))
        start = jnp.zeros((*space, shape.lanes), dtype)
        return windows.fold(shape, padded, weights, start, add).astype(padded.dtype)

    return windows.over_examples(one, one_by_one, padded)


def _gram(
    padded: jax.Array, dy: jax.Array, *, window: Window, channels: int, one_by_one: bool
) -> jax.Array:
    """Return `(kH, kW, kOr, Or C)`: for every tap the sum over pixels of `padded` times `dy`."""
    lanes = dy.shape[-1]
    dtype = np.promote_types(dy.dtype, np.float32)
    if not isinstance(dy.shape[0], int):  # free, and not to be worked off one by one
        one_by_one = False
    elif not dy.shape[0]:
        return jnp.zeros((*window, lanes), dy.dtype)
    if not one_by_one:

        def tap(number: jax.Array) -> jax.Array:
            i, j = number // (window[1] * window[2]), number // window[2] % window[1]
            first = number % window[2] * channels
            zero = jnp.zeros_like(i)
            part = lax.dynamic_slice(padded, (zero, i, j, first), dy.shape)
            return jnp.sum(part.astype(dtype) * dy.astype(dtype), (0, 1, 2))

        taps = np.arange(window[0] * window[1] * window[2], dtype=np.int32)
        return lax.map(tap, taps).reshape(*window, lanes).astype(dy.dtype)

    # Sums over pixels in loops whose vectors run along the lanes: reductions of XLA on CPU do not.
    examples, height, width = dy.shape[:3]
    together = min(width, TAPS_TOGETHER)
    missing = -width % together
    sides = [(0, 0, 0), (0, 0, 0), (0, missing, 0), (0, 0, 0)]
    padded, dy = (lax.pad(a, np.zeros((), a.dtype), sides) for a in (padded, dy))
    runs = (width + missing) // together

    def run(step: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        example, row = step // (height * runs), step // runs % height
        first, zero = step % runs * together, jnp.zeros_like(step)
        start = (example, row, first, zero)
        near = (1, window[0], together + window[1] - 1, padded.shape[3])
        strip = lax.dynamic_slice(padded, start, near)[0].astype(dtype)
        weights = lax.dynamic_slice(dy, start, (1, 1, together, lanes))[0, 0].astype(dtype)
        for turn, total in enumerate(totals):
            lane = turn * channels
            for w in range(together):
                total += strip[:, w : w + window[1], lane : lane + lanes] * weights[w]
            totals = (*totals[:turn], total, *totals[turn + 1 :])
        return totals

    total, _ = alike(jnp.zeros((*window[:2], lanes), dtype), dy)
    totals = (total,) * window[2]
    steps = np.int32(examples * height * runs)
    totals = lax.fori_loop(np.int32(0), steps, run, totals)
    return jnp.stack(totals, axis=2).astype(dy.dtype)


def _spread(dy: jax.Array, kernel: jax.Array, channels: int) -> jax.Array:
    """Return what `_conv` gives back to its padded input: itself, with everything mirrored."""
    rows, columns, turns, lanes = kernel.shape
    beyond = (turns - 1) * channels
    sides = [(0, 0, 0), (rows - 1,) * 2 + (0,), (columns - 1,) * 2 + (0,), (beyond,) * 2 + (0,)]
    wide = lax.pad(dy, np.zeros((), dy.dtype), sides)
    # A weight belongs to the lane of the output: seen from the input, to the lane that it reads.
    moved = [
        jnp.pad(kernel[:, :, turn], [(0, 0), (0, 0), (turn * channels, beyond - turn * channels)])
        for turn in range(turns)
    ]
    mirrored = jnp.flip(jnp.stack(moved, 2), (0, 1, 2))
    return _conv_p.bind(wide, mirrored, channels=channels)


_conv_p = windows.primitive("pdo_depthwise_conv", _conv)
_gram_p = windows.primitive("pdo_depthwise_gram", _gram)
windows.batched(_conv_p, of_examples=1)
windows.batched(_gram_p, of_examples=0)  # it sums over them


def _gram_of(x: Any, dy: Any, kernel: Any, channels: int) -> jax.Array:
    return _gram_p.bind(x, dy, window=kernel.aval.shape[:3], channels=channels)


ad.defbilinear(
    _conv_p,
    lambda dy, x, kernel, channels: _spread(dy, kernel, channels),
    lambda dy, x, kernel, channels: _gram_of(x, dy, kernel, channels),
)
ad.defbilinear(
    _gram_p,
    lambda dk, x, y, window, channels: _spread(y, dk, channels),
    lambda dk, x, y, window, channels: _conv_p.bind(x, dk, channels=channels),
)
