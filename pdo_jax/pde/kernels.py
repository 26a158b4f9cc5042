"""The kernels that solve the equations, sampled on the grid for every orientation.

    dilation, erosion    k(c) = (2 alpha - 1) (2 alpha)^-b rho(c)^b,     b = 2 alpha / (2 alpha - 1)
    diffusion            k(c) = exp(-rho(c)^2) / sum

The evolution to a time t other than 1 is that of the metric m t^(-1 / alpha), squares of lengths.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.pde import geometry


def coordinates(kernel_size: Sequence[int], orientations: int | None) -> np.ndarray:
    """Return `log_coordinates` for three numbers, `offsets` for two."""
    sizes = geometry.check_kernel_size(kernel_size)
    if len(sizes) == 2:
        return geometry.offsets(sizes)
    if orientations is None:
        raise ValueError(
            f"orientations must be given for a kernel_size (={sizes}) of three numbers; pass the "
            "number of orientations of the field, e.g. 8."
        )
    return geometry.log_coordinates(sizes, orientations)


def morphological_kernel(
    metric: geometry.Metric,
    kernel_size: Sequence[int] = (5, 5, 5),
    orientations: int | None = None,
    alpha: float = 0.65,
    *,
    distance: str = "log",
) -> Float[jax.Array, "*taps c"]:
    """Return what a dilation subtracts, and an erosion adds.

        k(c) = (2 alpha - 1) (2 alpha)^-b rho(c)^b,        b = 2 alpha / (2 alpha - 1)

    The solution of u_t = |grad u|^(2 alpha) at time 1 is max_h u(h) - k(g^-1 h).

    Args:
        metric: as in `pdo_jax.pde.geometry`.
        kernel_size: `(kH, kW, kOr)`, or `(kH, kW)` on the plane; odd.
        orientations: Or, on SE(2).
        alpha: above 1/2 and at most 1: flat structuring elements are the limit 1/2, quadratic ones
            are 1.
        distance: one of `geometry.DISTANCES`.

    Returns:
        `(Or, kH, kW, kOr, C)` or `(kH, kW, C)`, not negative, 0 in the middle, in the dtype of the
        metric, float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> import jax.numpy as jnp
        >>> k = morphological_kernel(jnp.array([[1.0, 4.0, 1.0]]), (3, 3, 3), 8, alpha=1.0)
        >>> k.shape, k[0, 1, :, 1, 0].tolist()  # along the orientation, no turn
        ((8, 3, 3, 3, 1), [0.25, 0.0, 0.25])

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022). LieTorch has rho^b / b on the plane: scale a matrix M by (b c)^(-1/b), with
        c = (2 alpha - 1) (2 alpha)^-b, to have the same.
    """
    alpha = check_alpha(alpha)
    where = coordinates(kernel_size, orientations)
    b = 2 * alpha / (2 * alpha - 1)
    squares = geometry.squared_distance(where, metric, distance)
    # Near alpha = 1/2 powers of far taps are no numbers any more, nor are their slopes.
    squares = jnp.minimum(squares, (float(jnp.finfo(squares.dtype).max) / b) ** (1.9 / b))
    return (2 * alpha - 1) / (2 * alpha) ** b * squares ** (b / 2)


def diffusion_kernel(
    metric: geometry.Metric,
    kernel_size: Sequence[int] = (5, 5, 5),
    orientations: int | None = None,
    *,
    distance: str = "log",
) -> Float[jax.Array, "*taps c"]:
    """Return the Gaussian that a diffusion convolves with.

        k(c) = exp(-rho(c)^2) / sum of it over the window

    Args:
        metric: as in `pdo_jax.pde.geometry`; 1 / (2 m) is the variance.
        kernel_size: `(kH, kW, kOr)`, or `(kH, kW)` on the plane; odd.
        orientations: Or, on SE(2).
        distance: one of `geometry.DISTANCES`.

    Returns:
        `(Or, kH, kW, kOr, C)` or `(kH, kW, C)`; the sum is 1 for every orientation and channel. In
        the dtype of the metric, float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> import jax.numpy as jnp
        >>> k = diffusion_kernel(jnp.ones((2, 3)), (5, 5, 3), 8)
        >>> k.shape, jnp.sum(k[3, ..., 0]).round(6).item()
        ((8, 5, 5, 3, 2), 1.0)

    References:
        Smets et al. (JMIV 2022): an estimate of the heat kernel of SE(2) from the logarithmic
        distance, as in LieTorch.
    """
    where = coordinates(kernel_size, orientations)
    squares = geometry.squared_distance(where, metric, distance)
    axes = (-4, -3, -2) if squares.ndim == 5 else (-3, -2)
    return jax.nn.softmax(-squares, axes)


def check_alpha(alpha: float) -> float:
    """Return `alpha` if it lies above 1/2 and at most at 1."""
    alpha = _check.real("alpha", alpha)
    if not 0.5 < alpha <= 1:
        raise ValueError(
            f"alpha (={alpha}) must lie above 1/2, where kernels become flat, and at most at 1; "
            "pass e.g. 0.65."
        )
    return alpha
