"""From fields of orientations to images. `pdo_jax.nn.group_pool` has the plain projections."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.pde.kernels import check_alpha
from pdo_jax.pde.morphology import dilation


def dilated_projection(
    x: Float[_check.Array, "*lead h w t c"],
    longitudinal: float = 5.0,
    lateral: float = 2.5,
    alpha: float = 2 / 3,
) -> Float[jax.Array, "*lead h w c"]:
    """Project on the largest orientation after a dilation along it: an anisotropic maximum.

        y(p) = max_{q, t} x(q, t) - ((2 u / longitudinal)^2 + (2 v / lateral)^2)^(b / 2)
        (u, v) = R(-t) (q - p),    b = 2 alpha / (2 alpha - 1)

    over the square window of 2 floor(max(longitudinal, lateral) / 2) + 1 pixels about p. Lines grow
    along themselves more than across. Differentiable in `x`.

    Args:
        x: `(..., H, W, Or, C)` field; angles 2 pi k / Or.
        longitudinal: the length in pixels, along the orientation, at whose ends 1 is subtracted.
        lateral: that across it.
        alpha: above 1/2 and at most 1; the nearer to 1/2, the flatter inside and steeper outside.

    Returns:
        `(..., H, W, C)` image in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> dilated_projection(jnp.ones((2, 28, 28, 8, 3))).shape
        (2, 28, 28, 3)

    References:
        LieTorch 0.6.2, `AnisotropicDilatedProjectM2`, where orientation k is pi k / Or; in its
        other operators, and in ours, it is 2 pi k / Or.
    """
    lengths = _length("longitudinal", longitudinal), _length("lateral", lateral)
    alpha = check_alpha(alpha)
    x = _check.floating("x", x, "(..., H, W, Or, C)", 4)
    _check.nonempty("x", x, -4, "(H, W, Or, C)")
    b = 2 * alpha / (2 * alpha - 1)
    # A dilation subtracts c rho^b; the metric takes the factor away.
    unit = ((2 * alpha - 1) / (2 * alpha) ** b) ** (-2 / b)
    metric = [unit * (2 / length) ** 2 for length in lengths]
    size = 2 * int(max(lengths) // 2) + 1
    precise = np.promote_types(x.dtype, np.float32)
    metrics = jnp.broadcast_to(jnp.asarray([*metric, 0.0], precise), (x.shape[-1], 3))
    return jnp.max(dilation(x, metrics, (size, size, 1), alpha), axis=-2)


def _length(name: str, value: float) -> float:
    value = _check.real(name, value)
    if value <= 0:
        raise ValueError(f"{name} (={value}) must be above 0; pass a length in pixels, e.g. 5.0.")
    return value
