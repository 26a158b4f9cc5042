"""Initial weights in closed form: a PDO layer starts with the gain of a He-initialised convolution.

On white noise of variance 1 the output of an element g of a lifting layer with iid weights of
variance v has the variance v C_in sum_m |basis[g, m]|^2. He's rule for a plain convolution gives 2.
Equality on average over the group fixes v; a group convolution sums over |G| times as many inputs.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import Initializer

from pdo_jax import _check
from pdo_jax.basis import FilterBasis


def he_normal(basis: FilterBasis, fan_in: float) -> Initializer:
    """Return an initialiser that gives a layer the gain of a He-initialised plain convolution.

        var(w) = 2 |G| / (fan_in sum_{g, m} |basis[g, m]|^2)

    Args:
        basis: the `FilterBasis` of the layer.
        fan_in: the number of input channels summed at one output: C_in for a lifting layer,
            |G| C_in for a group convolution, divided by the number of feature groups.

    Returns:
        A normal initialiser in the form of `jax.nn.initializers`.

    Raises:
        TypeError, ValueError: if `fan_in` is not a number above 0.

    Example:
        >>> import jax, pdo_jax as pdo
        >>> init = he_normal(pdo.filter_basis("p8"), fan_in=3)
        >>> init(jax.random.key(0), (9, 3, 16)).shape
        (9, 3, 16)

    References:
        He, Zhang, Ren, Sun: Delving deep into rectifiers (ICCV 2015), equation 10.
    """
    fan_in = _check.real("fan_in", fan_in)
    if fan_in <= 0:
        raise ValueError(
            f"fan_in (={fan_in}) must be above 0; pass the number of channels summed at an output."
        )
    power = np.sum(basis.values**2) / basis.group.order
    return flat(nnx.initializers.normal(math.sqrt(2 / (fan_in * power))))


def flat(init: Initializer) -> Initializer:
    """Return an initialiser that draws matrices: the same numbers from a smaller program.

    XLA takes more than a second on CPU to compile a generator of random numbers with four axes, and
    a quarter of that with one or two, anew for every shape.

    Args:
        init: an initialiser of matrices, with outputs along the last axis.

    Returns:
        An initialiser of arrays with any number of axes.
    """

    def drawn(key, shape, dtype=jnp.float32, out_sharding=None):
        return init(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    return drawn
