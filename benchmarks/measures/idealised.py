"""A network of the demo with its sources of error taken away, one by one.

Between the quarter turns an invariant network errs for five reasons. Four have an ideal, the
operation of the plane that the one on the grid stands for:

    stencils      taps on the grid           the reference stencil, its taps exactly turned
    nonlinearity  activation of the samples  the same on a finer grid, then a low-pass
    pooling       binomial blur, every       isotropic blur of the same width and a low-pass, every
                  second pixel               second pixel
    border        zeros beyond the frame     no frame: the sum over the plane of what differs from
                                             the background
    group         |G| directions             what is left when all others are ideal

Everything is computed by Fourier transforms on a canvas larger than the frame, so that each can be
exchanged alone. A low-pass keeps the frequencies inside the disc of the grid's Nyquist frequency,
because a rotation does not keep the corners of the square. With nothing ideal the logits are those
of the network itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pdo_jax as pdo
from experiments import networks
from pdo_jax.basis import OperatorBasis

SOURCES = ("stencils", "nonlinearity", "pooling", "border")
FINER = 2  # how many times finer the grid is on which an ideal activation is computed
MARGIN = 20  # pixels of canvas on every side of the frame


def logits(model: networks.Classifier, images: jax.Array, ideal: Collection[str] = ()) -> jax.Array:
    """Return a network's logits with some sources of error taken away.

    Args:
        model: an invariant network of `experiments.networks`, in evaluation mode.
        images: `(N, H, H, 1)`, H a multiple of 4.
        ideal: those of `SOURCES` that are taken away.

    Returns:
        `(N, 10)` logits.

    Raises:
        ValueError: if `ideal` names another source.
    """
    unknown = set(ideal) - set(SOURCES)
    if unknown:
        raise ValueError(f"ideal (={sorted(unknown)}) must be among {SOURCES}.")
    frame = images.shape[1]
    x = jnp.pad(images, [(0, 1), (MARGIN,) * 2, (MARGIN,) * 2, (0, 0)])  # the last image is empty
    layers: Any = zip(model.convs, model.norms, strict=True)
    for i, (conv, norm) in enumerate(layers):
        x = _convolve(x, conv, exact="stencils" in ideal)
        frame -= conv.basis.size - 1 if conv.padding == "VALID" else 0
        x = norm(x.reshape(*x.shape[:3], conv.basis.group.order, -1)).reshape(x.shape)
        x = _activate(x, ideal="nonlinearity" in ideal)
        x = x if "border" in ideal else _cut(x, frame)
        if i in networks.POOL_AFTER:
            x = _pool(x, ideal="pooling" in ideal)
            frame //= 2
            x = x if "border" in ideal else _cut(x, frame)
    x = jnp.mean(x.reshape(*x.shape[:3], -1, model.head.in_features), axis=-2)
    background = x[-1, 0, 0] if "border" in ideal else jnp.zeros_like(x[0, 0, 0])
    means = background + jnp.sum(x[:-1] - background, axis=(1, 2)) / frame**2
    return model.head(means)


def _cut(x: jax.Array, frame: int) -> jax.Array:
    """Put zeros beyond the frame in the middle of the canvas."""
    around = (x.shape[1] - frame) // 2
    inside = np.zeros(x.shape[1:3])
    inside[around : around + frame, around : around + frame] = 1
    return x * jnp.asarray(inside[..., None], x.dtype)


def _convolve(x: jax.Array, conv: Any, exact: bool) -> jax.Array:
    """Apply a lifting layer or a group convolution; channels are flat, group element first."""
    basis: OperatorBasis = conv.basis
    weights = conv.kernel[...]
    waves = np.einsum("guvt,gmt->guvm", *_taps(basis, exact, x.shape[1]), optimize=True)
    waves = jnp.asarray(waves, _complex(x.dtype))
    if weights.ndim == 3:  # from an image: (M, C_in, C_out)
        symbol = jnp.einsum("guvm,mio->uvigo", waves, weights.astype(waves.dtype))
    else:
        turned = weights[:, basis.group.product[basis.group.inverse]]  # (M, g, h, C_in, C_out)
        symbol = jnp.einsum("guvm,mghio->uvhigo", waves, turned.astype(waves.dtype))
    symbol = symbol.reshape(*symbol.shape[:2], x.shape[-1], -1)
    return _inverse(jnp.einsum("nuvi,uvio->nuvo", _forward(x), symbol), x.shape[1])


@functools.lru_cache(maxsize=8)
def _taps(basis: OperatorBasis, exact: bool, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the waves exp(i w t) at all taps, `(|G|, U, V, T)`, and the taps, `(|G|, M, T)`.

    Those of the grid lie on the pixels. The exact ones are the taps of the reference stencil, which
    has not been turned by anything, at places that have.
    """
    taps, matrices = basis.values, np.broadcast_to(np.eye(2), (basis.group.order, 2, 2))
    if exact:
        taps = np.broadcast_to(reference(basis).values, (basis.group.order, *taps.shape[1:]))
        cos, sin = np.cos(basis.orientation), np.sin(basis.orientation)
        matrices = basis.group.matrices @ np.array([[cos, -sin], [sin, cos]])
    steps = np.arange(basis.size) - basis.size // 2
    y, x = np.meshgrid(-steps, steps, indexing="ij")  # y points up, against the rows
    places = np.einsum("gij,jt->git", matrices, np.stack([x.ravel(), y.ravel()]))
    columns = _waves(np.fft.rfftfreq(size), places[:, 0])
    rows = _waves(np.fft.fftfreq(size), -places[:, 1])
    waves = rows[:, :, None] * columns[:, None]
    return waves, taps.reshape(*taps.shape[:2], -1)


def _waves(frequencies: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return exp(i w t), `(|G|, U, T)`, for frequencies in cycles a pixel.

    The grid's Nyquist frequency stands for both signs: their mean keeps real images real.
    """
    phases = 2 * math.pi * frequencies[:, None] * places[:, None]
    nyquist = np.abs(frequencies) == 0.5
    return np.where(nyquist[:, None], np.cos(phases), np.exp(1j * phases))


def reference(basis: OperatorBasis) -> OperatorBasis:
    """Return the basis of the same operators in the frame of the grid, for the identity alone."""
    return pdo.filter_basis(
        "p1",
        basis.order,
        0.0,
        basis.scheme,
        basis.accuracy,
        operators=basis.operators,
        sigma=basis.sigma,
        band=basis.band,
        size=basis.size,
    )


def _activate(x: jax.Array, ideal: bool) -> jax.Array:
    if not ideal:
        return networks.activation(x)
    size = x.shape[1]
    fine = networks.activation(_resample(x, FINER * size))
    return _low_pass(_resample(fine, size), 1.0)


def _resample(x: jax.Array, size: int) -> jax.Array:
    """Return the same trigonometric polynomial, or what a smaller grid holds of it."""
    old = x.shape[1]
    spectrum = jnp.fft.fftshift(jnp.fft.fft2(x, axes=(1, 2)), axes=(1, 2))
    around = (size - old) // 2
    if around >= 0:
        spectrum = jnp.pad(spectrum, [(0, 0), (around,) * 2, (around,) * 2, (0, 0)])
    else:
        spectrum = spectrum[:, -around : size - around, -around : size - around]
    spectrum = jnp.fft.ifftshift(spectrum, axes=(1, 2)) * (size / old) ** 2
    return jnp.fft.ifft2(spectrum, axes=(1, 2)).real


def _low_pass(x: jax.Array, share: float) -> jax.Array:
    """Keep the frequencies below a share of the grid's Nyquist frequency, in all directions."""
    inside = np.hypot(*_frequencies(x.shape[1])) < share * math.pi
    return _inverse(_forward(x) * jnp.asarray(inside[..., None], _complex(x.dtype)), x.shape[1])


def _pool(x: jax.Array, ideal: bool) -> jax.Array:
    """Blur and keep every second pixel; the new pixels lie between two old ones."""
    rows, columns = _frequencies(x.shape[1])
    taps = networks.BLUR - 1  # the symbol of the binomial blur is cos(w / 2)^taps along an axis
    if ideal:
        radius = np.hypot(rows, columns)
        blur = np.where(radius < math.pi / 2, np.cos(np.minimum(radius, math.pi) / 2) ** taps, 0.0)
    else:
        blur = (np.cos(rows / 2) * np.cos(columns / 2)) ** taps
    symbol = blur * np.exp(0.5j * (rows + columns))
    symbol = jnp.asarray(symbol[..., None], _complex(x.dtype))
    return _inverse(_forward(x) * symbol, x.shape[1])[:, ::2, ::2]


def _frequencies(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies along rows and columns of `_forward`, in radians a pixel."""
    rows, columns = np.fft.fftfreq(size), np.fft.rfftfreq(size)
    grid = np.meshgrid(2 * math.pi * rows, 2 * math.pi * columns, indexing="ij")
    return grid[0], grid[1]


def _forward(x: jax.Array) -> jax.Array:
    return jnp.fft.rfft2(x, axes=(1, 2))


def _inverse(spectrum: jax.Array, size: int) -> jax.Array:
    return jnp.fft.irfft2(spectrum, s=(size, size), axes=(1, 2))


def _complex(dtype: jnp.dtype) -> jnp.dtype:
    return np.result_type(dtype, np.complex64)
