"""Relaxed equivariance: kernels that depend on the absolute pose, by as much as is learned.

    y(v) = sum_u k(v^-1 u, v) x(u)        k(r, v) = sum_f a_f(v) k_f(r)        v = (position p, g)

If k ignores v the layer is a strict group convolution; if it ignores r as well, over the whole
domain, it is an invariant; if it depends freely on both it is any linear map. A few filters k_f are
convolved as ever, and gains a_f(v) weigh them, so that nothing is stored for a position:

    fourier_gains       random Fourier features of the pose, with a bandwidth for each of its parts
    partial_gains       a window over the rotations, whose width is learned
    continuous_kernel   filters k_f that are features of r themselves, with a bandwidth of their own
    amounts             how much of a kernel depends on the pose, from 0 to 1

A bandwidth is an inverse length: of half an image for positions, of the radius of the unit circle
for orientations. It may be 0, where nothing varies any more, and has a gradient there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group

# Amounts are means over these many positions an axis, whatever the images: layers compare.
_REFERENCE = {2: 8, 3: 4}


class Frequencies(NamedTuple):
    """Random frequencies of J features of a pose; they are drawn once and never trained.

        feature_j = sqrt 2 cos(bandwidth (position_j . p + element_j . A_g) + phase_j)

    Attributes:
        position: `(J, ndim)`, for positions (x, y) or (x, y, z).
        element: `(J, ndim^2)`, for the entries of matrices, which have norm 1.
        phase: `(J,)`, in [0, 2 pi).
    """

    position: np.ndarray
    element: np.ndarray
    phase: np.ndarray


@functools.lru_cache(maxsize=64, typed=True)  # 17.0 is no number of features
def frequencies(ndim: int, count: int, seed: int = 0) -> Frequencies:
    """Return normal frequencies, always the same ones for the same arguments.

    Features with them have a Gaussian kernel as their inner product, in the mean:

        E feature(v) feature(w) = exp(-bandwidth^2 |v - w|^2 / 2)

    Args:
        ndim: 2 or 3.
        count: the number J of features.
        seed: of the draw.

    Returns:
        The `Frequencies`, float64 and read-only.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> [part.shape for part in frequencies(2, 16)]
        [(16, 2), (16, 4), (16,)]

    References:
        Rahimi, Recht: Random features for large-scale kernel machines (NeurIPS 2007).
    """
    _dimensions(ndim)
    count, seed = _check.integer("count", count, 1), _check.integer("seed", seed, 0)
    if seed >= 2**32:
        raise ValueError(f"seed (={seed}) must be below 2**32; pass e.g. 0.")
    # The legacy generator is the one whose draws NumPy promises never to change.
    rng = np.random.RandomState([seed, ndim, count])
    result = Frequencies(
        rng.normal(size=(count, ndim)),
        rng.normal(size=(count, ndim**2)),
        rng.uniform(0, 2 * np.pi, count),
    )
    for array in result:
        array.flags.writeable = False
    return result


def _dimensions(ndim: int) -> int:
    if ndim not in (2, 3):
        raise ValueError(f"ndim (={ndim}) must be 2 or 3, the plane or space; pass one of these.")
    return ndim


def positions(sizes: Sequence[int]) -> np.ndarray:
    """Return where pixels are, in units of half the image: x to the right, y up, z in depth.

    Args:
        sizes: (H, W) or (D, H, W).

    Returns:
        `(H, W, 2)` or `(D, H, W, 3)` float64 in (-1, 1), symmetric about 0.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> positions((2, 4))[0].tolist()  # the upper row
        [[-0.75, 0.5], [-0.25, 0.5], [0.25, 0.5], [0.75, 0.5]]
    """
    ndim = 3 if isinstance(sizes, Sequence) and len(sizes) == 3 else 2
    sizes = _check.per_axis("sizes", sizes, ndim)
    centres = [(2 * np.arange(n) + 1) / n - 1 for n in sizes]
    centres[-2] = -centres[-2]
    return np.stack(np.meshgrid(*centres, indexing="ij")[::-1], axis=-1)


def _elements(group: Group) -> np.ndarray:
    """Return group elements as points of the unit sphere, `(|G|, ndim^2)`: a circle for p{n}."""
    return group.matrices.reshape(group.order, -1) / math.sqrt(group.ndim)


def _check_frequencies(frequencies: Frequencies, group: Group) -> None:
    found = frequencies.position.shape[-1]
    if found != group.ndim:
        raise ValueError(
            f"frequencies are for {found} dimensions, but {group.name} acts on {group.ndim}; pass "
            f"frequencies({group.ndim}, {len(frequencies.phase)})."
        )


def _number(name: str, value: Any, dtype: Any) -> jax.Array:
    """Return a number that may be traced."""
    if not isinstance(value, _check.Array):
        value = _check.real(name, value)
    elif value.ndim or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"{name} has shape {value.shape} and dtype {value.dtype}, but one floating number is "
            "needed; pass e.g. 0.5."
        )
    return jnp.asarray(value, dtype)


def fourier_gains(
    mean: Float[_check.Array, " f"],
    weights: Float[_check.Array, "j f"],
    position: _check.Array | float,
    orientation: _check.Array | float,
    group: Group | str,
    sizes: Sequence[int],
    frequencies: Frequencies,
) -> Float[jax.Array, "... g f"]:
    """Return gains that vary with the pose as fast as their bandwidths allow.

        a_f(p, g) = mean_f + sum_j weights[j, f] sqrt 2 (cos(t_j(p, g) + phase_j) - cos phase_j)
        t_j(p, g) = position omega_j . p + orientation eta_j . A_g / sqrt ndim

    omega, eta and phase are `frequencies`. Where a bandwidth is 0 nothing varies along its part of
    the pose, to the last bit, and the derivative with respect to it is not 0. Group elements enter
    by their matrices, so the gains are periodic in the angle and serve every group.

    Args:
        mean: `(F,)`, the gains where both bandwidths are 0.
        weights: `(J, F)`, of the features.
        position: the bandwidth of positions, a number: radians per half an image, at a frequency
            of 1.
        orientation: the bandwidth of orientations, a number: radians per radian of rotation.
        group: the `Group` or its name.
        sizes: (H, W) or (D, H, W), of the output whose poses are meant.
        frequencies: as `frequencies` draws them.

    Returns:
        `(H, W, |G|, F)`, one more axis in space, in the dtype of `weights` or float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> weights = jnp.ones((16, 2))
        >>> a = fourier_gains(jnp.ones(2), weights, 0.0, 0.5, "p8", (5, 5), frequencies(2, 16))
        >>> a.shape, bool(jnp.all(a == a[0, 0]))
        ((5, 5, 8, 2), True)

    References:
        That the kernel of a convolution may depend on the pose, and that the amount is learned,
        is from van der Ouderaa, Romero, van der Wilk (NeurIPS 2022); the construction is ours.
    """
    group = as_group(group)
    weights = _check.floating("weights", weights, "(J, F)", 2, exact=True)
    _check.axis("weights", weights, 0, len(frequencies.phase), "the number of frequencies")
    mean = _check.floating("mean", mean, "(F,)", 1, exact=True)
    _check.axis("mean", mean, 0, weights.shape[1], "the number F of filters of the weights")
    sizes = _check.per_axis("sizes", sizes, group.ndim)
    _check_frequencies(frequencies, group)
    dtype = np.promote_types(weights.dtype, np.float32)
    position = _number("position", position, dtype)
    orientation = _number("orientation", orientation, dtype)
    # cos(t + s) from the cosines and sines of t and s: positions and elements meet in one product.
    over_positions = jnp.asarray(positions(sizes) @ frequencies.position.T, dtype)
    over_elements = jnp.asarray(_elements(group) @ frequencies.element.T, dtype)
    phase = jnp.asarray(frequencies.phase, dtype)
    t = position * over_positions  # (H, W, J)
    s = orientation * over_elements + phase  # (|G|, J)
    scaled = math.sqrt(2) * weights.astype(dtype)
    products = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    # cos t - 1 = -2 sin^2(t / 2) is exact near t = 0, and 0 there.
    change = products("...j,gj,jf->...gf", -2 * jnp.sin(t / 2) ** 2, jnp.cos(s), scaled)
    change -= products("...j,gj,jf->...gf", jnp.sin(t), jnp.sin(s), scaled)
    turned = products("gj,jf->gf", jnp.cos(s) - jnp.cos(phase), scaled)
    return change + turned + mean.astype(dtype)


def partial_gains(
    extent: _check.Array | float, group: Group | str, dtype: jax.typing.DTypeLike = jnp.float32
) -> Float[jax.Array, "g 1"]:
    """Return gains that keep the orientations within a range, and drop the others.

        a(g) = min(1, max(0, 1 + (extent - d(g)) / step))

    d(g) is the angle of rotation of g in units of the largest in the group; what mirrors has 1.
    `step` is the largest gap between these distances: at least one element is always on its way
    in or out, so that the extent has a gradient.

    Args:
        extent: from 0 (the identity alone) to 1 (the whole group: strictly equivariant). What is
            below or above counts as 0 or 1, with the gradient there.
        group: the `Group` or its name.
        dtype: of the gains.

    Returns:
        `(|G|, 1)`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> partial_gains(0.5, "p8")[:, 0].tolist()  # a quarter turn to both sides
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]

    References:
        Romero, Lohit: Learning partial equivariances from data (NeurIPS 2022). They sample
        rotations from the range; on a group of few elements a window over all of them is the same
        range, without the noise.
    """
    distance = _distances(as_group(group))
    extent = _number("extent", extent, _check.floating_dtype("dtype", dtype))
    # A step of training may lead out of the range; a gradient leads back.
    extent = lax.stop_gradient(jnp.clip(extent, 0, 1)) + (extent - lax.stop_gradient(extent))
    # Rounded, so that at both ends something is just about to change, and has a gradient.
    scale = float(np.round(1 / (np.max(np.diff(np.sort(distance)), initial=0.0) or 1.0), 9))
    levels = np.round(distance * scale, 9)
    levels = np.where(levels == 0, -1, levels)  # the identity is always in, and has no slope
    ramp = 1 + extent * scale - jnp.asarray(levels, dtype)
    return jnp.minimum(1, jnp.maximum(0, ramp))[:, None]


def _distances(group: Group) -> np.ndarray:
    """Return how far every element turns, from 0 to 1; 1 for what mirrors."""
    ndim, traces = group.ndim, np.trace(group.matrices, axis1=1, axis2=2)
    cosines = traces / 2 if ndim == 2 else (traces - 1) / 2
    proper = np.linalg.det(group.matrices) > 0
    angles = np.where(proper, np.arccos(np.clip(cosines, -1, 1)), 0)
    largest = np.max(angles) or 1.0
    return np.where(proper, angles / largest, 1.0)


def weigh(
    fields: Float[_check.Array, "... g fc"], gains: Float[_check.Array, "... g f"]
) -> Float[jax.Array, "... g c"]:
    """Return the sum of the outputs of F filters, weighed by their gains at every pose.

        y(v, c) = sum_f a_f(v) fields(v, f C + c)

    Args:
        fields: `(..., H, W, |G|, F C)`, what the filters put out.
        gains: `(H, W, |G|, F)`, or `(|G|, F)` for gains that are the same everywhere.

    Returns:
        `(..., H, W, |G|, C)` in the dtype of `fields`.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> weigh(jnp.ones((2, 5, 5, 8, 6)), jnp.ones((5, 5, 8, 2))).shape
        (2, 5, 5, 8, 3)
    """
    fields = _check.floating("fields", fields, "(..., |G|, F C)", 2)
    gains = _check.floating("gains", gains, "(..., |G|, F)", 2)
    filters = gains.shape[-1]
    poses = fields.shape[:-1]
    if filters == 0 or gains.shape[:-1] != poses[len(poses) - gains.ndim + 1 :]:
        raise ValueError(
            f"gains has shape {gains.shape}, but the last axes of fields, {poses} without its "
            "channels, and one of filters at least are needed; pass (|G|, F) or (H, W, |G|, F)."
        )
    if fields.shape[-1] % filters:
        raise ValueError(
            f"fields has shape {fields.shape}: its last axis must be a multiple of {filters}, the "
            "number of filters of the gains; pass F C channels."
        )
    gains = gains.astype(fields.dtype)
    # Filter by filter: a sum over an axis beside that of the channels takes XLA ten times as long.
    parts = jnp.split(fields, filters, axis=-1)
    weighed = [part * gains[..., f : f + 1] for f, part in enumerate(parts)]
    return sum(weighed[1:], start=weighed[0])


def continuous_kernel(
    weights: Float[_check.Array, "m i o"],
    bandwidth: _check.Array | float,
    group: Group | str,
    taps: Sequence[int],
    frequencies: Frequencies,
    *,
    unit: float | None = None,
    field: bool = True,
) -> Float[jax.Array, "... hi go"]:
    """Return the kernel of a strict group convolution whose filters are features of r = v^-1 u.

        k(r) = n^(-1/2) sum_m w[m] sqrt 2 cos(bandwidth (omega_m . q + eta_m . A_t) + phase_m)
        r = (q, t),    q = A_g^-1 (offset) / unit,    t = g^-1 h

    n is the number of taps and orientations. At bandwidth 0 the kernel is one number for each pair
    of channels. Rotated offsets are evaluated as they are: nothing is interpolated.

    Args:
        weights: `(M, C_in, C_out)`.
        bandwidth: a number.
        group: the `Group` or its name.
        taps: the number of taps along every axis, odd.
        frequencies: M of them.
        unit: the number of pixels that counts as 1; by default half the largest number of taps.
        field: whether the input is a field; images have no orientation h.

    Returns:
        `(k, k, |G| C_in, |G| C_out)` correlation kernel in the dtype of `weights`, float32 at
        least, or `(k, k, C_in, |G| C_out)`; one more k in space.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> continuous_kernel(jnp.ones((32, 3, 2)), 1.0, "p4", (5, 5), frequencies(2, 32)).shape
        (5, 5, 12, 8)
    """
    group = as_group(group)
    weights = _check.floating("weights", weights, "(M, C_in, C_out)", 3, exact=True)
    _check.axis("weights", weights, 0, len(frequencies.phase), "the number of frequencies")
    _check_frequencies(frequencies, group)
    taps = _check.per_axis("taps", taps, group.ndim)
    if not all(k % 2 for k in taps):
        raise ValueError(f"taps (={taps}) must be odd; pass e.g. {tuple(k | 1 for k in taps)}.")
    if unit is not None and _check.real("unit", unit) <= 0:
        raise ValueError(f"unit (={unit}) must be a number of pixels above 0; pass e.g. 1.0.")
    dtype, order = np.promote_types(weights.dtype, np.float32), group.order
    offsets = positions(taps) * np.array(taps[::-1]) / 2  # in pixels
    offsets = offsets / (max(taps) / 2 if unit is None else unit)
    rotated = np.einsum("...a,gab->...gb", offsets, group.matrices)  # A_g^-1 is A_g^T
    relative = _elements(group) if field else np.zeros((1, group.ndim**2))
    over_taps = jnp.asarray(rotated @ frequencies.position.T, dtype)  # (k, k, G, M)
    over_elements = jnp.asarray(relative @ frequencies.element.T, dtype)  # (T, M)
    angles = over_taps[..., None, :] + over_elements
    features = jnp.cos(
        _number("bandwidth", bandwidth, dtype) * angles + jnp.asarray(frequencies.phase, dtype)
    )
    size = math.prod(taps) * len(relative)
    blocks = jnp.einsum(
        "...gtm,mio->...gtio",
        features * math.sqrt(2 / size),
        weights.astype(dtype),
        precision=lax.Precision.HIGHEST,
    )
    if field:  # from [g, t] to [h, g], t = g^-1 h
        elements = np.arange(order)
        copies = group.product[group.inverse]  # [g, h] -> g^-1 h
        blocks = blocks[..., elements[None, :], copies.T, :, :]
    else:
        blocks = jnp.swapaxes(blocks, -3, -4)
    kernel = jnp.swapaxes(blocks, -2, -3)  # (k, k, H, C_in, G, C_out)
    channels_in, channels_out = weights.shape[1:]
    return kernel.reshape(*taps, len(relative) * channels_in, order * channels_out)


def amounts(
    gains: Float[_check.Array, "... g f"], weights: Float[_check.Array, "n f o"]
) -> dict[str, jax.Array]:
    """Return how much of a kernel varies with the position and with the orientation.

        amount = (mean_v |k(., v) - mean of k(., v) along the axis|^2 / mean_v |k(., v)|^2)^(1/2)

    Both are 0 where the layer is strict, and at most 1, where nothing is left of the kernel that
    all positions (orientations) share; layers of any size compare. Where an amount is 0 its
    derivative is taken to be 0: it has a kink there, like |x|.

    Args:
        gains: `(..., |G|, F)`: at a grid of positions, or nothing before the group.
        weights: `(n, F, C_out)`, the F filters as any numbers whose sum of squares is their size.

    Returns:
        "position" and "orientation", each one number, float32 at least.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> gains = jnp.asarray([[1.0], [0.0], [0.0], [0.0]])  # of p4, the identity alone
        >>> {k: round(float(v), 3) for k, v in amounts(gains, jnp.ones((9, 1, 2))).items()}
        {'position': 0.0, 'orientation': 0.866}
    """
    gains = _check.floating("gains", gains, "(..., |G|, F)", 2)
    weights = _check.floating("weights", weights, "(n, F, C_out)", 3, exact=True)
    _check.axis("weights", weights, 1, gains.shape[-1], "the number of filters of the gains")
    dtype = functools.reduce(np.promote_types, (gains.dtype, weights.dtype), np.float32)
    gains = gains.reshape(-1, *gains.shape[-2:]).astype(dtype)
    weights = weights.astype(dtype)
    gram = jnp.einsum("nfo,nho->fh", weights, weights, precision=lax.Precision.HIGHEST)

    def size(gains: jax.Array) -> jax.Array:
        return jnp.mean(jnp.einsum("pgf,fh,pgh->pg", gains, gram, gains, precision="highest"))

    whole = size(gains)
    found = {}
    for name, axis in (("position", 0), ("orientation", 1)):
        change = gains - lax.slice_in_dim(gains, 0, 1, axis=axis)  # exactly 0 for constant gains
        part = size(change - jnp.mean(change, axis=axis, keepdims=True))
        found[name] = ratio(part, whole)
    return found


def ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Return (part / whole)^(1/2), and 0 with the derivative 0 where `part` is 0."""
    none = part <= 0  # what is no number stays none
    return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, part) / jnp.where(none, 1, whole)))


def reference_positions(ndim: int) -> tuple[int, ...]:
    """Return the sizes of the grid of positions over which amounts are means."""
    return (_REFERENCE[_dimensions(ndim)],) * ndim
