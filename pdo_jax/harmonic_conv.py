"""The same convolution after a Fourier transform over the group: cost grows with |G|, not |G|^2.

With the stencils D_sj of `harmonic`, X(mu) = sum_a e^{-2 pi i mu a / n} x(c^a r_d), and W_sj(mu)
that of sum_m c_sj[e, m] w[m, r_e^-1 c^t r_d] with the other sign, sum_h kernel_g[w(g^-1 h)] x(h)
becomes

    Y(nu) = sum_sj D_sj X(nu - s) W_sj(nu - s)

one matrix product for each of the n / 2 + 1 frequencies that a real field has, where the direct one
has n^2 blocks. Both gradients are maps of the same kind: that of x has the stencils mirrored, the
weights transposed and turned, that of w is a product of what the stencils made of x with dy.

Inside, the pixels of all images lie in one line, with the zeros around an image between one row and
the next; a tap is then a shift of the whole line, whatever the sizes. Stencils, their sums and the
transforms over the group are long runs of equal operations, in blocks that stay in the cache.
`docs/speed.md` says what that gains, and where.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from pdo_jax._bilinear import primitive_pair
from pdo_jax._varying import alike
from pdo_jax.basis import FilterBasis
from pdo_jax.groups import Group
from pdo_jax.harmonic import harmonics, natural, rotations
from pdo_jax.stencil_conv import Stencil, fixed

HIGHEST = lax.Precision.HIGHEST


class Harmonic(NamedTuple):
    """A complex stencil that turns by the phase s; real if `imaginary` is None."""

    turn: int
    real: Stencil
    imaginary: Stencil | None


class Placement(NamedTuple):
    """How harmonics are put on a field; hashable, as the options of a primitive must be.

    Attributes:
        harmonics: the K complex stencils, their taps in pixels (dilation included).
        order: n, of the cyclic group.
        extents: the extent of the windows along every axis.
        pads: the zeros before and after every axis; negative numbers crop.
        strides: the step of the windows.
        enlargement: the distance of two pixels of the input, with zeros between them.
        precision: of the matrix products.
    """

    harmonics: tuple[Harmonic, ...]
    order: int
    extents: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    enlargement: tuple[int, ...]
    precision: Any

    def transposed(self, sizes: Sequence[int]) -> Placement:
        """Return what gives every pixel of the output back to those that it came from.

        Args:
            sizes: the numbers of pixels of the input, along every axis.
        """
        pads = []
        for n, e, (low, high), stride, factor in zip(
            sizes, self.extents, self.pads, self.strides, self.enlargement, strict=True
        ):
            left_over = ((n - 1) * factor + 1 + low + high - e) % stride
            pads.append((e - 1 - low, e - 1 - high + left_over))
        turned = (
            Harmonic(
                h.turn,
                h.real.mirrored(self.extents),
                h.imaginary and h.imaginary.mirrored(self.extents),
            )
            for h in self.harmonics
        )
        return self._replace(
            harmonics=tuple(turned),
            pads=tuple(pads),
            strides=self.enlargement,
            enlargement=self.strides,
        )


def place(
    basis: FilterBasis,
    strides: Sequence[int],
    enlargement: Sequence[int],
    dilation: Sequence[int],
    pads: tuple[tuple[int, int], ...],
    precision: lax.PrecisionLike,
) -> Placement:
    """Return the harmonics of a basis as `convolve` takes them.

    Args:
        basis: the `FilterBasis`.
        strides: the step of the windows along every axis.
        enlargement: the distance of two pixels of the input along every axis.
        dilation: the distance of two taps in pixels along every axis.
        pads: the zeros before and after every axis.
        precision: of the matrix products.
    """
    stencil = partial(Stencil.of, dilation=dilation)
    found = tuple(
        Harmonic(s, stencil(np.real(d)), stencil(np.imag(d)) if np.iscomplexobj(d) else None)
        for s, d in harmonics(basis)[0]
    )
    extents = tuple((basis.size - 1) * d + 1 for d in dilation)
    order = rotations(basis.group).order
    steps = tuple(strides), tuple(enlargement)
    return Placement(found, order, extents, pads, *steps, fixed(precision))


def convolve(
    x: Float[jax.Array, "n *space fields_in"],
    weights: Float[jax.Array, "r t i o"],
    placement: Placement,
    group: Group,
) -> Float[jax.Array, "n *moved fields_out"]:
    """Convolve fields on a group.

    Linear in both arguments, and differentiable any number of times in either mode.

    Args:
        x: `(N, H, W, |G| C_in)` fields (`(N, D, H, W, |G| C_in)` in space).
        weights: `(R, n, cosets C_in, cosets C_out)`, as `expand` makes them, in the dtype of `x`.
        placement: the harmonics and where they are put.
        group: the `Group`.

    Returns:
        `(N, H', W', |G| C_out)` fields in the dtype of `x`.
    """
    elements = rotations(group).elements
    cosets, order = elements.shape
    inputs, outputs = weights.shape[-2] // cosets, weights.shape[-1] // cosets
    # Rotations first, cosets beside the channels.
    x = x.reshape(*x.shape[:-1], group.order, inputs)
    if not natural(group):
        x = x[..., elements.ravel(), :]
    x = jnp.swapaxes(x.reshape(*x.shape[:-2], cosets, order, inputs), -3, -2)
    x, weights = alike(x.reshape(*x.shape[:-2], cosets * inputs), weights)
    y = _conv_p.bind(x, weights, placement=placement)
    y = jnp.swapaxes(y.reshape(*y.shape[:-1], cosets, outputs), -3, -2)
    y = y.reshape(*y.shape[:-3], group.order, outputs)
    if not natural(group):
        y = y[..., np.argsort(elements.ravel()), :]
    return y.reshape(*y.shape[:-2], group.order * outputs)


class Counts(NamedTuple):
    """How much one convolution does.

    Attributes:
        products: multiplications of the matrix products.
        taps: terms of all the sums of stencils.
        numbers: numbers that are transformed over the rotations, those beside blocks included.
        weights: numbers of the weights.
    """

    products: int
    taps: int
    numbers: int
    weights: int


@functools.lru_cache(maxsize=1024)
def counts(
    placement: Placement,
    batch: int,
    sizes: tuple[int, ...],
    group: Group,
    inputs: int,
    outputs: int,
) -> Counts:
    """Return what `convolve` does on a CPU, in blocks.

    Args:
        placement: the harmonics and where they are put.
        batch: the number of images.
        sizes: of the images.
        group: the group.
        inputs: C_in.
        outputs: C_out.
    """
    order, cosets = placement.order, len(rotations(group).elements)
    inputs, outputs = cosets * inputs, cosets * outputs
    inner, edges = len(_inner(order)), len(_edges(order))
    of_inner, of_edges = _per_frequency(placement)
    taps = 0
    for harmonic in placement.harmonics:
        parts = (2 * inner + edges) if harmonic.imaginary is None else (4 * inner + 2 * edges)
        taps += parts * sum(1 for _ in _all_shifts(placement, harmonic))
    line = _line(placement, sizes)
    pixels = batch * line.length
    block = _block(pixels, inputs, placement, line, 64) or pixels
    beside = -(-pixels // block) * (line.before + line.after)
    phases = math.prod(placement.enlargement)
    return Counts(
        products=(2 * of_inner * inner + of_edges * edges) * inputs * outputs * pixels * phases,
        taps=taps * inputs * pixels,
        numbers=(pixels + beside) * math.prod(placement.strides) * order * inputs,
        weights=of_edges * order * inputs * outputs,
    )


def _per_frequency(placement: Placement) -> tuple[int, int]:
    """Return the columns of an inner frequency and of an edge, for a channel."""
    real = len(placement.harmonics) + len(_complex_ones(placement))
    return 2 * len(_slots(placement)), real


# ---------------------------------------------------------------- frequencies, and what meets where
#
# A real field has the frequencies 0 to n / 2. Those between, `inner`, are complex; 0, and n / 2 if
# n is even, are real, `edges`. As `_rows` has them they are n numbers: real and imaginary part of
# every inner one, then the edges.


def _inner(order: int) -> range:
    """Return the frequencies that are complex."""
    return range(1, (order + 1) // 2)


def _edges(order: int) -> tuple[int, ...]:
    """Return the frequencies that are real."""
    return (0, order // 2) if order % 2 == 0 else (0,)


def _waves(frequencies: Sequence[int], order: int) -> np.ndarray:
    """Return e^{-2 pi i mu a / n}, `(frequencies, n)`."""
    return np.exp(-2j * np.pi * np.outer(frequencies, np.arange(order)) / order)


@functools.lru_cache(maxsize=64)
def _rows(order: int) -> np.ndarray:
    """Return the matrix that makes the n rows of a field, `(n, n)`."""
    inner, edges = _waves(_inner(order), order), _waves(_edges(order), order)
    return np.concatenate(
        [np.stack([np.real(inner), np.imag(inner)], 1).reshape(-1, order), np.real(edges)]
    )


class Slot(NamedTuple):
    """A column of the products: for every frequency nu of the output, something of a harmonic.

    P = D X W of turn s and frequency mu adds to nu = mu + s, and its conjugate to -nu. So nu gets
    P(nu - s), and if the harmonic is complex the conjugate of P(-nu - s), which is that of the
    conjugate of D, of turn -s.
    """

    k: int
    turn: int
    conjugate: bool


def _slots(placement: Placement) -> list[Slot]:
    found = []
    for k, harmonic in enumerate(placement.harmonics):
        found.append(Slot(k, harmonic.turn, False))
        if harmonic.imaginary is not None:
            found.append(Slot(k, -harmonic.turn, True))
    return found


def _frequency_weights(weights: jax.Array, placement: Placement) -> tuple[jax.Array, jax.Array]:
    """Return real and imaginary parts of W_k(mu) = sum_t e^{2 pi i mu t / n} W_k[t].

    Each is `(K, n, C_in, C_out)`.
    """
    order, count = placement.order, len(placement.harmonics)
    product = partial(jnp.einsum, "ut,ktio->kuio", precision=HIGHEST)
    waves = _waves(range(order), order).conj()
    cos, sin = (jnp.asarray(part, weights.dtype) for part in (np.real(waves), np.imag(waves)))
    real, imaginary = product(cos, weights[:count]), product(sin, weights[:count])
    complex_ones = _complex_ones(placement)
    if complex_ones.size:
        real = real.at[complex_ones].add(-product(sin, weights[count:]))
        imaginary = imaginary.at[complex_ones].add(product(cos, weights[count:]))
    return real, imaginary


def _complex_ones(placement: Placement) -> np.ndarray:
    return np.flatnonzero([h.imaginary is not None for h in placement.harmonics])


def _matrices(weights: jax.Array, placement: Placement) -> list[jax.Array]:
    """Return the matrices of the products: for the inner frequencies, if any, and for the edges.

    `(inner, 2 C_out, columns)` and `(edges, C_out, columns)`, in the order of `_columns`.
    """
    order = placement.order
    real, imaginary = _frequency_weights(weights, placement)
    slots = _slots(placement)
    matrices = []
    if len(_inner(order)):
        ks = np.array([slot.k for slot in slots])[:, None]
        sign = np.array([-1 if slot.conjugate else 1 for slot in slots])
        # W of the conjugate of D at mu is the conjugate of that of D at -mu.
        frequencies = [[(nu - slot.turn) for nu in _inner(order)] for slot in slots]
        frequencies = np.array(frequencies) * sign[:, None] % order
        u, v = real[ks, frequencies], imaginary[ks, frequencies]  # (slots, inner, C_in, C_out)
        v = v * jnp.asarray(sign, weights.dtype)[:, None, None, None]
        # (a + i b)(u + i v), a above b
        blocks = jnp.stack([jnp.stack([u, v], -2), jnp.stack([-v, u], -2)], 1)
        blocks = blocks.transpose(2, 4, 5, 0, 1, 3)  # (inner, 2, C_out, slots, 2, C_in)
        matrices.append(blocks.reshape(blocks.shape[0], 2 * weights.shape[-1], -1))
    columns = []
    for k, harmonic in enumerate(placement.harmonics):
        frequencies = (np.array(_edges(order)) - harmonic.turn) % order
        u, v = real[k, frequencies], imaginary[k, frequencies]  # (edges, C_in, C_out)
        # With its conjugate, a complex one gives twice the real part.
        columns += [u] if harmonic.imaginary is None else [2 * u, -2 * v]
    matrices.append(jnp.swapaxes(jnp.concatenate(columns, 1), 1, 2))
    return matrices


# ---------------------------------------------------------------- all pixels in one line


class Axis(NamedTuple):
    """An axis of the images, in steps of the windows (input) and of the enlargement (output).

    Output f q + p takes input s m + a at a tap, where m = q + shift: every axis has s phases a of
    the input and f phases p of the output.

    Attributes:
        inputs: s.
        outputs: f.
        size: the pixels of the output.
        pitch: the numbers m of a line: those of the input, and zeros.
    """

    inputs: int
    outputs: int
    size: int
    pitch: int


def _tap(placement: Placement, axis: int, phase: int, tap: int) -> tuple[int, int] | None:
    """Return the phase of the input and the shift at which an output phase takes a tap, if any."""
    stride, factor = placement.strides[axis], placement.enlargement[axis]
    place = phase * stride + tap - placement.pads[axis][0]
    if place % factor:
        return None
    return (place // factor) % stride, (place // factor) // stride


def _axes(placement: Placement, sizes: Sequence[int]) -> tuple[Axis, ...]:
    found = []
    for axis, (n, e, (low, high), stride, factor) in enumerate(
        zip(
            sizes, placement.extents, placement.pads, placement.strides, placement.enlargement,
            strict=True,
        )
    ):  # fmt: skip
        size = ((n - 1) * factor + 1 + low + high - e) // stride + 1
        taken = [_tap(placement, axis, p, t) for p in range(factor) for t in range(e)]
        shifts = [tap[1] for tap in taken if tap is not None]
        steps, pixels = -(-size // factor), -(-n // stride)
        # A shift beyond either end must meet zeros, before the next line begins.
        pitch = max(steps, pixels, steps + max(shifts), pixels - min(shifts))
        found.append(Axis(stride, factor, size, pitch))
    return tuple(found)


class Line(NamedTuple):
    """The pixels of a batch, with zeros between the rows: what shifts mean there.

    Attributes:
        axes: of the images.
        before: the zeros before the first pixel.
        after: those that the last one needs behind it.
        length: the pixels of one image.
    """

    axes: tuple[Axis, ...]
    before: int
    after: int
    length: int

    def shift(self, shifts: Sequence[int]) -> int:
        """Return the shift of the line, from its first zero, that is one along every axis."""
        return self.before + _flat(shifts, self.axes)


def _flat(shifts: Sequence[int], axes: Sequence[Axis]) -> int:
    total = 0
    for shift, axis in zip(shifts, axes, strict=True):
        total = total * axis.pitch + shift
    return total


def _line(placement: Placement, sizes: Sequence[int]) -> Line:
    axes = _axes(placement, sizes)
    shifts = [
        _flat(shift, axes) for h in placement.harmonics for shift in _all_shifts(placement, h)
    ]
    length = math.prod(axis.pitch for axis in axes)
    return Line(axes, max(0, -min(shifts)), max(0, max(shifts)), length)


def _all_shifts(placement: Placement, harmonic: Harmonic) -> Iterator[tuple[int, ...]]:
    for phases in itertools.product(*map(range, placement.enlargement)):
        for stencil in harmonic[1:]:
            for _, _, shifts in _shifted(placement, stencil, phases):
                yield shifts


Shifted = tuple[float, tuple[int, ...], tuple[int, ...]]


def _shifted(
    placement: Placement, stencil: Stencil | None, phases: Sequence[int]
) -> Iterator[Shifted]:
    """Yield the value, the phases of the input and the shifts of what an output phase takes."""
    if stencil is None:
        return
    for tap, value in zip(stencil.taps, stencil.values, strict=True):
        taken = [
            _tap(placement, axis, p, t) for axis, (p, t) in enumerate(zip(phases, tap, strict=True))
        ]
        if None not in taken:
            inputs, shifts = zip(*taken, strict=True)  # pyright: ignore
            yield value, inputs, shifts


def _lined(x: jax.Array, axes: Sequence[Axis], factors: Sequence[int]) -> jax.Array:
    """Lay images `(N, H, W, n, C)` out in lines, one for each phase: `(phases, pixels, n, C)`."""
    sizes = zip(x.shape[1:], axes, factors, strict=False)
    pads = [(0, 0, 0), *((0, a.pitch * f - n, 0) for n, a, f in sizes), (0, 0, 0), (0, 0, 0)]
    x = lax.pad(x, np.zeros((), x.dtype), pads)
    split = [n for a, f in zip(axes, factors, strict=True) for n in (a.pitch, f)]
    x = x.reshape(x.shape[0], *split, *x.shape[-2:])
    ndim = len(axes)
    steps, phases = range(1, 2 * ndim, 2), range(2, 2 * ndim + 1, 2)
    x = x.transpose(*phases, 0, *steps, 2 * ndim + 1, 2 * ndim + 2)
    return x.reshape(math.prod(factors), -1, *x.shape[-2:])


def _imaged(y: jax.Array, batch: int, axes: Sequence[Axis]) -> jax.Array:
    """Make images of lines `(phases, pixels, n, C)`: `(N, H, W, n, C)`."""
    ndim = len(axes)
    y = y.reshape(*(a.outputs for a in axes), batch, *(a.pitch for a in axes), *y.shape[-2:])
    order = [n for axis in range(ndim) for n in (ndim + 1 + axis, axis)]
    y = y.transpose(ndim, *order, 2 * ndim + 1, 2 * ndim + 2)
    y = y.reshape(batch, *(a.pitch * a.outputs for a in axes), *y.shape[-2:])
    return y[(slice(None), *(slice(a.size) for a in axes))]


# ---------------------------------------------------------------- the maps, on a block of the line


def _columns(x: jax.Array, pixels: Any, placement: Placement, line: Line) -> list[jax.Array]:
    """Return what the products take: `(inner, columns, pixels)`, `(edges, columns, pixels)`.

    Args:
        x: `(phases, before + pixels + after, n, C_in)`, of at least 32 bits.
        pixels: how many the block has, in every phase of the output.
        placement: the harmonics and where they are put.
        line: how the pixels lie.
    """
    order, slots = placement.order, _slots(placement)
    inner, edges = _inner(order), _edges(order)
    wanted = [nu - slot.turn for slot in slots for nu in inner]
    wanted += [nu - h.turn for h in placement.harmonics for nu in edges]
    lowest = min(wanted)
    waves = _waves(range(lowest, max(wanted) + 1), order)
    # X as (re, im) are the last two of these, i X the first two.
    waves = jnp.asarray(np.stack([-np.imag(waves), np.real(waves), np.imag(waves)], 1), x.dtype)
    x = x.transpose(2, 0, 3, 1)  # (n, phases, C, pixels)
    parts = jnp.tensordot(waves, x, 1, precision=HIGHEST)  # (mu, 3, phases, C, pixels)

    def product(k: int, sign: int, frequencies: slice) -> jax.Array:
        """Return D X, or that with the conjugate of D: `(frequencies, re and im, C, pixels)`."""
        harmonic, found = placement.harmonics[k], []
        # Real harmonics are wanted as a whole where X is complex, and their real part where not.
        last = 3 if harmonic.imaginary is not None or frequencies.step is None else 2
        for phases in itertools.product(*map(range, placement.enlargement)):
            terms = []
            for stencil, kinds, factor in (
                (harmonic.real, slice(1, last), 1),
                (harmonic.imaginary, slice(0, last - 1), sign),
            ):
                for value, inputs, shifts in _shifted(placement, stencil, phases):
                    first = line.shift(shifts)
                    phase = int(np.ravel_multi_index(inputs, placement.strides))
                    term = parts[frequencies, kinds, phase, :, first : first + pixels]
                    value = np.asarray(factor * value, x.dtype)
                    terms.append(term if value == 1 else term * value)
            if not terms:
                shape = parts[frequencies, 1:last, 0].shape[:-1]
                terms = [jnp.zeros((*shape, pixels), x.dtype)]
            found.append(functools.reduce(jnp.add, terms))
        joined = found[0] if len(found) == 1 else jnp.concatenate(found, -1)
        return joined.reshape(joined.shape[0], math.prod(joined.shape[1:-1]), joined.shape[-1])

    columns = []
    if len(inner):
        pieces = []
        for slot in slots:
            first = inner[0] - slot.turn - lowest
            taken = slice(first, first + len(inner))
            pieces.append(product(slot.k, -1 if slot.conjugate else 1, taken))
        columns.append(jnp.concatenate(pieces, 1))
    pieces = []
    for k, harmonic in enumerate(placement.harmonics):
        first = edges[0] - harmonic.turn - lowest
        taken = slice(first, first + edges[-1] + 1, max(1, edges[-1]))
        pieces.append(product(k, 1, taken))
    columns.append(jnp.concatenate(pieces, 1))
    return columns


def _precise(x: jax.Array) -> Any:
    return np.promote_types(x.dtype, np.float32)


def _conv_block(
    x: jax.Array, pixels: Any, matrices: list[jax.Array], placement: Placement, line: Line
) -> jax.Array:
    """Return `(phases, pixels, n, C_out)`."""
    order, outputs = placement.order, matrices[-1].shape[1]
    precise = _precise(x)
    product = partial(jnp.matmul, precision=placement.precision, preferred_element_type=precise)
    columns = _columns(x.astype(precise), pixels, placement, line)
    y = [product(m, c.astype(x.dtype)) for m, c in zip(matrices, columns, strict=True)]
    rows = [
        part.reshape(len(part) * part.shape[1] // outputs, outputs, part.shape[-1]) for part in y
    ]
    rows = jnp.concatenate(rows, 0)
    inverse = jnp.asarray(np.linalg.inv(_rows(order)), precise)
    y = jnp.tensordot(inverse, rows, 1, precision=HIGHEST)
    y = y.reshape(order, outputs, math.prod(placement.enlargement), -1)
    return y.transpose(2, 3, 0, 1).astype(x.dtype)


def _gram_block(x: jax.Array, y: jax.Array, placement: Placement, line: Line) -> list[jax.Array]:
    """Return the gradients of the matrices, dY columns^T."""
    order, outputs, pixels = placement.order, y.shape[-1], y.shape[1]
    precise = _precise(x)
    columns = _columns(x.astype(precise), pixels, placement, line)
    adjoint = jnp.asarray(np.linalg.inv(_rows(order)).T, precise)
    y = y.astype(precise).transpose(2, 3, 0, 1).reshape(order, outputs, -1)
    rows = jnp.tensordot(adjoint, y, 1, precision=HIGHEST)
    split = 2 * len(_inner(order))
    parts = [rows[split:]]
    if split:
        parts.insert(0, rows[:split].reshape(split // 2, 2 * outputs, -1))
    product = partial(
        jnp.einsum,
        "kop,kcp->koc",
        precision=placement.precision,
        preferred_element_type=precise,
    )
    return [
        product(part.astype(x.dtype), column.astype(x.dtype))
        for part, column in zip(parts, columns, strict=True)
    ]


# ---------------------------------------------------------------- over the whole batch

BLOCK_BYTES = 2**20  # of what lies between stencils and products


def _block(pixels: Any, channels: int, placement: Placement, line: Line, least: int) -> int | None:
    """Return how many pixels of the line make a block; None for all of them."""
    if not isinstance(pixels, int):  # a free batch cannot be cut
        return None
    order, (inner, edges) = placement.order, _per_frequency(placement)
    columns = inner * len(_inner(order)) + edges * len(_edges(order))
    numbers = columns * channels * math.prod(placement.enlargement)
    # What lies beside a block is transformed again for every one that needs it.
    block = max(least, BLOCK_BYTES // (4 * numbers), (line.before + line.after) // 2)
    if block >= pixels:
        return None
    count = -(-pixels // block)
    return -(-pixels // (16 * count)) * 16


def _cut(x: jax.Array, before: int, after: int) -> jax.Array:
    """Add zeros to a line, `(phases, pixels, n, C)`."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (before, after, 0), (0, 0, 0), (0, 0, 0)])


def _conv(
    x: Float[jax.Array, "n *space t i"],
    weights: Float[jax.Array, "r t i o"],
    *,
    placement: Placement,
    sliced: bool,
) -> Float[jax.Array, "n *moved t o"]:
    """Return the convolution."""
    batch, precise = x.shape[0], _precise(x)
    matrices = [m.astype(x.dtype) for m in _matrices(weights.astype(precise), placement)]
    matrices = lax.optimization_barrier(matrices)
    line = _line(placement, x.shape[1:-2])
    pixels = batch * line.length
    block = _block(pixels, x.shape[-1], placement, line, 64) if sliced else None
    x = _lined(x, line.axes, placement.strides)
    if block is None:
        x = _cut(x, line.before, line.after)
        return _imaged(_conv_block(x, pixels, matrices, placement, line), batch, line.axes)
    count = -(-pixels // block)
    x = _cut(x, line.before, line.after + count * block - pixels)
    extent = line.before + block + line.after

    def body(i: jax.Array, y: jax.Array) -> jax.Array:
        part = lax.dynamic_slice_in_dim(x, i * block, extent, 1)
        part = _conv_block(part, block, matrices, placement, line)
        return lax.dynamic_update_slice_in_dim(y, part, i * block, 1)

    shape = math.prod(placement.enlargement), count * block, placement.order, weights.shape[-1]
    y = lax.fori_loop(0, count, body, alike(jnp.zeros(shape, x.dtype), x)[0])
    return _imaged(y[:, :pixels], batch, line.axes)


def _gram(
    x: Float[jax.Array, "n *space t i"],
    y: Float[jax.Array, "n *moved t o"],
    *,
    placement: Placement,
    sliced: bool,
) -> Float[jax.Array, "r t i o"]:
    """Return the gradient of the weights where y is that of the output."""
    batch, precise, dtype = x.shape[0], _precise(x), x.dtype
    _, stencils = _per_frequency(placement)
    shape = stencils, placement.order, x.shape[-1], y.shape[-1]
    weights, _ = alike(jnp.zeros(shape, precise), x)
    back = jax.linear_transpose(lambda weights: _matrices(weights, placement), weights)
    line = _line(placement, x.shape[1:-2])
    pixels = batch * line.length
    block = _block(pixels, x.shape[-1], placement, line, 128) if sliced else None
    x = _lined(x, line.axes, placement.strides)
    y = _lined(y, line.axes, placement.enlargement)
    if block is None:
        totals = _gram_block(_cut(x, line.before, line.after), y, placement, line)
    else:
        count = -(-pixels // block)
        x = _cut(x, line.before, line.after + count * block - pixels)
        y = _cut(y, 0, count * block - pixels)
        extent = line.before + block + line.after

        def body(i: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
            one = lax.dynamic_slice_in_dim(x, i * block, extent, 1)
            other = lax.dynamic_slice_in_dim(y, i * block, block, 1)
            parts = _gram_block(one, other, placement, line)
            return [total + part for total, part in zip(totals, parts, strict=True)]

        shapes = jax.eval_shape(lambda w: _matrices(w, placement), weights)
        zeros = [alike(jnp.zeros(s.shape, precise), x)[0] for s in shapes]
        totals = lax.fori_loop(0, count, body, zeros)
    (result,) = back(lax.optimization_barrier(totals))
    return result.astype(dtype)


def _transpose(
    weights: jax.Array, placement: Placement, shape: Sequence[int]
) -> tuple[jax.Array, Placement]:
    """Return weights and placement of the convolution that maps dy to dx.

    W'_k[t] = e^{2 pi i s_k t / n} W_k[-t]^T
    """
    order, count = placement.order, len(placement.harmonics)
    mirrored = jnp.swapaxes(weights[:, -np.arange(order) % order], -1, -2)
    waves = _waves([h.turn for h in placement.harmonics], order).conj()
    waves = [
        jnp.asarray(part, weights.dtype)[..., None, None]
        for part in (np.real(waves), np.imag(waves))
    ]
    cos, sin = waves
    complex_ones = _complex_ones(placement)
    real, imaginary = mirrored[:count], mirrored[count:]
    turned = cos * real
    if complex_ones.size:
        turned = turned.at[complex_ones].add(-sin[complex_ones] * imaginary)
        imaginary = cos[complex_ones] * imaginary + sin[complex_ones] * real[complex_ones]
    return jnp.concatenate([turned, imaginary]), placement.transposed(shape[1:-2])


_conv_p, _gram_p = primitive_pair("pdo_harmonic_conv", _conv, _gram, _transpose)
