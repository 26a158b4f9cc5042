"""Discretisations: from a partial derivative to the taps of a stencil.

Every stencil satisfies the moment conditions of `moments`, which make it the derivative up to an
error of order `accuracy` in the mesh size. The schemes differ in what they do with further taps.
A scheme is a value of `SCHEMES`: a new one is a file with a function, and a line here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from pdo_jax import _check
from pdo_jax.operators import Monomial
from pdo_jax.stencils.central import central_difference as central_difference
from pdo_jax.stencils.central import finite_difference as finite_difference
from pdo_jax.stencils.gaussian import gaussian_derivative as gaussian_derivative
from pdo_jax.stencils.moments import check_accuracy as check_accuracy
from pdo_jax.stencils.moments import check_moments as check_moments
from pdo_jax.stencils.moments import extent as extent
from pdo_jax.stencils.optimal import optimal_extent as optimal_extent
from pdo_jax.stencils.optimal import optimal_stencil as optimal_stencil
from pdo_jax.stencils.radial import rbf_fd as rbf_fd
from pdo_jax.stencils.taps import centred as centred


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A discretisation, as a value.

    Attributes:
        stencil: `stencil(exponents, accuracy, size, width)`: the taps of a derivative, at most
            `size` along every axis.
        extent: `extent(exponents, accuracy)`: the smallest size on which there is one.
        option: the name of the option of `filter_basis` that sets the width, or None.
        default: the width if none is given.
        smallest: the bound of the width from below.
        largest: the bound of the width from above.
        reach: `reach(width)`: the size that the width asks for, if the user asks for none.
    """

    stencil: Callable[[Monomial, int, int, float], np.ndarray]
    extent: Callable[[Monomial, int], int]
    option: str | None = None
    default: float = 0.0
    smallest: float = 0.0
    largest: float = math.inf
    reach: Callable[[float], int] = lambda width: 1

    def width(self, options: Mapping[str, float | None]) -> float:
        """Return the width that the options give, checked; those of other schemes must be None."""
        for name, value in options.items():
            if value is not None and name != self.option:
                raise ValueError(
                    f"{name} (={value!r}) is the width of another scheme; pass {name}=None, or the "
                    f"scheme that it belongs to ({_owner(name)!r})."
                )
        if self.option is None or options[self.option] is None:
            return self.default
        width = _check.real(self.option, options[self.option])
        if not self.smallest <= width <= self.largest:
            above = "" if self.largest == math.inf else f" and at most {self.largest:.6g}"
            raise ValueError(
                f"{self.option} (={width}) must be at least {self.smallest:.3g}{above}; pass e.g. "
                f"{self.default:.6g}."
            )
        return width


def _owner(option: str) -> str:
    return next(name for name, scheme in SCHEMES.items() if scheme.option == option)


SCHEMES = {
    "finite-difference": Scheme(
        lambda t, accuracy, size, width: finite_difference(t, accuracy),
        lambda t, accuracy: max(finite_difference(t, accuracy).shape),
    ),
    "gaussian": Scheme(
        gaussian_derivative,
        lambda t, accuracy: 2 * ((max(t) + accuracy - 1) // 2) + 1,
        option="sigma",  # pixels
        default=1.0,
        smallest=0.3,  # below it, taps beside the centre vanish in rounding
        reach=lambda sigma: 2 * math.ceil(2 * sigma) + 1,
    ),
    "rbf-fd": Scheme(lambda t, accuracy, size, width: rbf_fd(t, accuracy, size), extent),
    "optimal": Scheme(
        optimal_stencil,
        optimal_extent,
        option="band",  # radians per pixel
        default=math.pi,
        smallest=0.1,
        largest=math.pi,  # the grid holds no higher frequency in every direction
    ),
}
