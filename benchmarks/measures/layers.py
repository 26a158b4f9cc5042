"""The layers that are measured, read at the centre of their patches.

Kernels come from the library's `lift_kernel` and `group_kernel`. At the centre of a patch as large
as its receptive field a convolution is one product of the patch and the kernel, so that layers
with kernels of one size share one compiled function, whatever their scheme.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import pdo_jax as pdo


def weights(rng: np.random.Generator, basis: pdo.FilterBasis, *fields: int) -> np.ndarray:
    """Return free weights, independent and normal: of a lift, or of a group convolution.

    Args:
        rng: the source of the numbers.
        basis: the basis.
        *fields: `(1, C_out)`, or `(|G|, C_in, C_out)`.
    """
    return rng.normal(size=(basis.num_operators, *fields))


@jax.jit
def centre(patches: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the response `(n, channels)` of `(k, k, C, channels)` to patches `(n, k, k, C)`."""
    return jnp.tensordot(patches, kernel, axes=((1, 2, 3), (0, 1, 2)))


@jax.jit
def two_layers(patches: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Return the centre of two convolutions with a ReLU between, of patches 2k - 1 pixels wide."""
    numbers = ("NHWC", "HWIO", "NHWC")
    hidden = lax.conv_general_dilated(patches, first, (1, 1), "VALID", dimension_numbers=numbers)
    return centre(jax.nn.relu(hidden), second)


def apply(
    function: Callable[..., jax.Array],
    patches: np.ndarray,
    order: int,
    *kernels: jax.Array | np.ndarray,
) -> np.ndarray:
    """Return the outputs `(elements, points, |G|, C)` for patches `(elements, points, k, k, C)`."""
    y = np.asarray(function(patches.reshape(-1, *patches.shape[2:]), *kernels))
    return y.reshape(*patches.shape[:2], order, -1)
