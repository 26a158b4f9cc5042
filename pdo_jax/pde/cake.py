"""Cake wavelets: an image as a sum of oriented images, one for each slice of the frequency plane.

    W_k(f) = M(|f|) B((angle(f) - t_k - pi / 2) / step),        t_k = k step,  step = 2 pi / Or

is the Fourier transform of wavelet k. The slices B sum to 1 over all orientations, M is 1 up to
near its inflection point and falls to 0 from there on, so that the wavelets sum to a delta but for
the finest details, and their scores sum to the image. Wavelet k answers to lines along t_k.
"""

from __future__ import annotations

import functools
import math

import jax
import numpy as np
from jax import lax
from jaxtyping import Complex, Float

from pdo_jax import _check, conv, windows
from pdo_jax.basis import FilterBasis
from pdo_jax.groups import cyclic
from pdo_jax.pde.splines import bspline

PARTS = {"real": np.real, "imaginary": np.imag}


def cake_wavelets(
    size: int,
    orientations: int,
    *,
    spline_order: int = 3,
    inflection: float = 0.8,
    radial_order: int = 8,
) -> Complex[np.ndarray, "t h w"]:
    """Return the cake wavelets of an image of size x size pixels, centred.

        sum_k W_k(f) = M(|f|),    M(r) = exp(-q) sum_{j <= n} q^j / j!,
        q = (n + 1 / 2) (r / (inflection Nyquist))^2

    Args:
        size: the odd number of taps along an axis.
        orientations: Or, above `spline_order`.
        spline_order: of the B-splines over the angle, at least 1.
        inflection: where M falls fastest, as a fraction of the Nyquist frequency, above 0 and at
            most 1.
        radial_order: n: how steeply it falls.

    Returns:
        `(Or, size, size)` complex128 correlation kernels: the real parts detect lines, and are the
        same half a turn on; the imaginary parts detect edges.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> kernels = cake_wavelets(15, 8)
        >>> kernels.shape, round(float(np.sum(kernels.real)), 12)
        ((8, 15, 15), 1.0)

    References:
        Duits: Perceptual organization in image analysis (2005), equation 4.41 and section 4.6.
        LieTorch 0.8.2 gives the mean of the image, which has no direction, to some orientations;
        here all have the same share of it, or quarter turns would not be exact.
    """
    size = _check.odd("size", size, ", so that the frequencies are symmetric")
    order = _check.integer("spline_order", spline_order, 1)
    orientations = _check.integer("orientations", orientations, 1)
    if orientations <= order:
        raise ValueError(
            f"orientations (={orientations}) must be above spline_order (={order}), or a slice "
            f"would meet itself; pass {order + 1} or more, or a lower spline_order."
        )
    inflection = _check.real("inflection", inflection)
    if not 0 < inflection <= 1:
        raise ValueError(
            f"inflection (={inflection}) must be above 0 and at most 1, the Nyquist frequency; "
            "pass e.g. 0.8."
        )
    n = _check.integer("radial_order", radial_order, 0)

    ticks = np.arange(size) - size // 2
    x, y = np.meshgrid(ticks, -ticks)
    squares = (n + 0.5) * (x**2 + y**2) * (2 / (size * inflection)) ** 2
    window = np.exp(-squares) * sum(squares**j / math.factorial(j) for j in range(n + 1))
    step = 2 * np.pi / orientations
    turns = np.arctan2(y, x) / step - np.arange(orientations)[:, None, None] - orientations / 4
    slices = bspline(order, np.mod(turns + orientations / 2, orientations) - orientations / 2)
    slices[:, size // 2, size // 2] = 1 / orientations  # the frequency 0 has no angle
    return _centred_inverse(slices * window)


def _centred_inverse(transform: np.ndarray) -> np.ndarray:
    """Return the kernels that correlation takes, with the frequency and the pixel 0 in the middle.

    Correlation with k multiplies by the transform of k(-p), hence the forward transform.
    """
    axes = (-2, -1)
    kernels = np.fft.fft2(np.fft.ifftshift(transform, axes), norm="forward")
    return np.fft.fftshift(kernels, axes)


@functools.lru_cache(maxsize=64, typed=True)  # 8.0 is no number of orientations
def cake_basis(
    orientations: int,
    size: int,
    *,
    part: str = "real",
    spline_order: int = 3,
    inflection: float = 0.8,
    radial_order: int = 8,
) -> FilterBasis:
    """Return cake wavelets as a basis of one filter, for layers that train nothing but channels.

    `pdo_jax.nn.PDOLift(3, 16, cake_basis(8, 15), use_bias=False)` has one weight for a pair of
    channels: LieTorch's `LiftM2Cakewavelets` followed by its `LinearM2`.

    Args:
        orientations: Or, a multiple of 4 for exact quarter turns; the group is p{Or}.
        size: the odd number of taps along an axis.
        part: "real" or "imaginary".
        spline_order: as in `cake_wavelets`.
        inflection: as in `cake_wavelets`.
        radial_order: as in `cake_wavelets`.

    Returns:
        A `FilterBasis` with M = 1.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> cake_basis(8, 15).values.shape
        (8, 1, 15, 15)
    """
    part = _check.choice("part", part, tuple(PARTS))
    kernels = cake_wavelets(
        size,
        orientations,
        spline_order=spline_order,
        inflection=inflection,
        radial_order=radial_order,
    )
    return FilterBasis(cyclic(orientations), PARTS[part](kernels)[:, None])


def cake_lift(
    x: Float[_check.Array, "*lead h w c"],
    orientations: int = 8,
    size: int = 15,
    *,
    part: str = "real",
    spline_order: int = 3,
    inflection: float = 0.8,
    radial_order: int = 8,
    padding: windows.Padding = "REFLECT",
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "*lead h w t c"]:
    """Lift an image to its orientation scores: every channel with every wavelet, nothing trained.

        y(., k) = Re(wavelet_k) * x            sum_k y(., k) = x, but for its finest details

    Args:
        x: `(..., H, W, C)` image.
        orientations: Or; angles 2 pi k / Or.
        size: the odd number of taps of a wavelet.
        part: "real" (lines) or "imaginary" (edges).
        spline_order: as in `cake_wavelets`.
        inflection: as in `cake_wavelets`.
        radial_order: as in `cake_wavelets`.
        padding: as in `pdo_jax.lift_conv`.
        precision: of the convolution.

    Returns:
        `(..., H, W, Or, C)` field in the dtype of `x`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> cake_lift(np.ones((2, 28, 28, 1), np.float32)).shape
        (2, 28, 28, 8, 1)

    References:
        Duits, Felsberg, Granlund, ter Haar Romeny: Image analysis and reconstruction using a
        wavelet transform constructed from a reducible representation of the Euclidean motion group
        (IJCV 2007).
    """
    basis = cake_basis(
        orientations,
        size,
        part=part,
        spline_order=spline_order,
        inflection=inflection,
        radial_order=radial_order,
    )
    x = _check.floating("x", x, "(..., H, W, C)", 3)
    channels = x.shape[-1]
    weights = np.ones((1, 1, channels), x.dtype)
    return conv.lift_conv(
        x, weights, basis, padding=padding, feature_group_count=channels, precision=precision
    )
