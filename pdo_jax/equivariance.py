"""Measure how equivariant a function is, and how fast its error vanishes with the mesh.

A function f is equivariant to g if moving its input moves its output: f(L_g x) = L_g f(x). Elements
that permute the pixels can and should be exact. All others are approximate, and their error holds
that of the interpolation too: use smooth input, since on white noise interpolation alone errs by
half. `convergence_order` avoids interpolation altogether and reads off the order of the scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pdo_jax import _check, fields
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group

Function = Callable[[jax.Array], jax.Array]


def equivariance_error(
    fn: Function,
    x: Float[_check.Array, "..."],
    group: Group | str,
    *,
    input_kind: fields.Kind = "image",
    output_kind: fields.Kind = "field",
) -> Float[jax.Array, " elements"]:
    """Return the relative equivariance error of a function for every element of a group.

        error[g] = |f(L_g x) - L_g f(x)| / |L_g f(x)|        over the inscribed disc

    `fn` is mapped over the elements with `jax.vmap`; elements that exchange H and W of an image
    that is not square are mapped apart.

    Args:
        fn: the function; it must be one that `jax.vmap` can map (call a model's `eval()` first:
            statistics and random keys cannot change under vmap).
        x: its input, any number of leading axes.
        group: the `Group` or its name.
        input_kind: how the group acts on `x`: "image", "field", "invariant", or the subgroup H, a
            `Group`, of a field on the cosets G/H.
        output_kind: the same for the output.

    Returns:
        `(|G|,)` relative L2 errors over all examples, pixels of the output's inscribed disc and
        channels; 0 where the difference and the output are 0.

    Raises:
        TypeError, ValueError: if a kind is unknown or does not fit the arrays.

    Example:
        >>> import pdo_jax as pdo
        >>> G = pdo.group("p4")
        >>> x = jax.random.normal(jax.random.key(0), (9, 9, 1))
        >>> bool(jnp.all(equivariance_error(jnp.square, x, G, output_kind="image") < 1e-6))
        True
        >>> shifted = equivariance_error(lambda x: jnp.roll(x, 1, 0), x, G, output_kind="image")
        >>> bool(shifted[1] > 0.5)
        True
    """
    group = as_group(group)
    for name, kind in (("input_kind", input_kind), ("output_kind", output_kind)):
        fields.check_kind(name, kind, group)
    moved = [fields.act(group, g, x, input_kind) for g in range(group.order)]
    still = fn(jnp.asarray(x))
    expected = [fields.act(group, g, still, output_kind) for g in range(group.order)]

    squares: list[jax.Array] = [jnp.zeros(2)] * group.order
    for shape in {m.shape for m in moved}:
        members = [g for g in range(group.order) if moved[g].shape == shape]
        outputs = jax.vmap(fn)(jnp.stack([moved[g] for g in members]))
        for g, output in zip(members, outputs, strict=True):
            if output.shape != expected[g].shape:
                raise ValueError(
                    f"fn maps shape {shape} to {output.shape}, but element {g} of {group.name} "
                    f"moves its output to {expected[g].shape}; check output_kind "
                    f"(={output_kind!r}) and that fn treats both spatial axes alike."
                )
            squares[g] = _squares(output, expected[g], group.ndim, output_kind)
    difference, size = jnp.stack(squares).T
    relative = jnp.sqrt(difference / jnp.where(size == 0, 1, size))
    return jnp.where(difference == 0, 0, jnp.where(size == 0, jnp.inf, relative))


def _squares(output: jax.Array, expected: jax.Array, ndim: int, kind: fields.Kind) -> jax.Array:
    """Return the sums of squares of the difference and of the expected output over the disc."""
    precise = np.promote_types(output.dtype, np.float32)
    output, expected = output.astype(precise), expected.astype(precise)
    if kind != "invariant":
        last = -1 if kind == "image" else -2
        disc = fields.inscribed_disc(output.shape[last - ndim : last])
        mask = jnp.asarray(disc.reshape(*disc.shape, *(1,) * -last), precise)
        output, expected = mask * output, mask * expected
    return jnp.stack([jnp.sum((output - expected) ** 2), jnp.sum(expected**2)])


# Above these, in the units of the relative error, an exact element is not exact.
_EXACT = {"float64": 1e-12, "float32": 1e-5, "float16": 5e-3, "bfloat16": 5e-2}


def assert_equivariant(
    fn: Function,
    x: Float[_check.Array, "..."],
    group: Group | str,
    *,
    input_kind: fields.Kind = "image",
    output_kind: fields.Kind = "field",
    tolerance: float | None = None,
    approximate_tolerance: float | None = None,
) -> None:
    """Raise unless a function is equivariant: exactly where the grid allows, nearly elsewhere.

    Args:
        fn: the function; it must be one that `jax.vmap` can map (call a model's `eval()` first:
            statistics and random keys cannot change under vmap).
        x: its input. Use noise for the exact elements; smooth input for the others.
        group: the `Group` or its name.
        input_kind: "image", "field", "invariant", or the subgroup of a field on its cosets.
        output_kind: the same for the output.
        tolerance: the largest relative error allowed for elements that permute the pixels; by
            default 1e-12 in float64, 1e-5 in float32, 5e-3 in float16 and 5e-2 in bfloat16.
        approximate_tolerance: the largest allowed for all other elements; None leaves them out,
            since what can be expected there depends on the smoothness of `x`.

    Raises:
        AssertionError: naming the worst element, its matrix and its error.
        ValueError: if nothing but the identity would be checked.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (8, 8, 1))
        >>> assert_equivariant(jax.nn.relu, x, "p4m", output_kind="image")
        >>> assert_equivariant(lambda x: jnp.cumsum(x, 0), x, "p4m", output_kind="image")
        Traceback (most recent call last):
        ...
        AssertionError: fn is not equivariant to p4m: ...
    """
    group = as_group(group)
    if approximate_tolerance is None and group.on_grid.sum() == 1 < group.order:
        raise ValueError(
            f"approximate_tolerance (=None) leaves out every element of {group.name} but the "
            "identity; pass a number, such as 0.1, and smooth input."
        )
    error = np.asarray(
        equivariance_error(fn, x, group, input_kind=input_kind, output_kind=output_kind)
    )
    if tolerance is None:
        tolerance = _EXACT[jax.eval_shape(fn, x).dtype.name]
    loose = np.inf if approximate_tolerance is None else approximate_tolerance
    allowed = np.where(group.on_grid, tolerance, loose)
    left_out = ~group.on_grid & (approximate_tolerance is None)
    fails = ~(error <= allowed) & ~left_out  # an error that is no number fails
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(fails, np.nan_to_num(error / allowed, nan=np.inf), -1)
    worst = int(np.argmax(excess))
    if fails[worst]:
        kind = "permutes the pixels" if group.on_grid[worst] else "is interpolated"
        raise AssertionError(
            f"fn is not equivariant to {group.name}: element {worst}, which {kind}, has relative "
            f"error {error[worst]:.3g}, but {allowed[worst]:.3g} is allowed; its matrix is "
            f"{group.matrices[worst].round(4).tolist()}. {int(np.sum(fails))} of "
            f"{group.order} elements fail."
        )


# Fine enough to be in the asymptotic range of accuracy 2, coarse enough to stay above rounding.
MESHES = (0.2, 0.14, 0.1, 0.07, 0.05)


def convergence_errors(
    fn: Callable[[jax.Array, float], jax.Array],
    group: Group | str,
    *,
    size: int,
    meshes: Sequence[float] = MESHES,
    signal: Callable[[np.ndarray], np.ndarray] | None = None,
    channels: int = 1,
    points: int = 64,
    input_kind: str = "image",
    output_kind: str = "field",
    seed: int = 0,
) -> Float[np.ndarray, "meshes elements"]:
    """Return relative equivariance errors without any interpolation, for several mesh sizes.

    An analytic signal is sampled in float64 on a patch around each of many points, once as it is
    and once moved by g, so that the centres of both outputs should agree:

        f on s + mesh o          against          L_g f on g s + mesh o,    o the patch's offsets

    Args:
        fn: `fn(patches, mesh)`: the function at a mesh size, its operators fixed in physical units
            (`FilterBasis.weights(coefficients, mesh)`). Only the centre of its output is read, so
            that borders take no part if the patch is as large as the receptive field.
        group: the `Group` or its name.
        size: the odd number of pixels of a patch along every axis.
        meshes: the distances of two pixels.
        signal: an analytic function of positions: `(..., ndim)` float64, x first, to `(..., C)`,
            or `(..., |G|, C)` for fields. By default a sum of plane waves of unit length scale.
        channels: the number of channels of the default signal.
        points: the number of random points.
        input_kind: "image" or "field".
        output_kind: "image" or "field".
        seed: of the points and of the default signal.

    Returns:
        `(len(meshes), |G|)` float64 relative L2 errors over points and channels.

    Raises:
        TypeError, ValueError: if an argument breaks its rule, or 64-bit mode is off.

    Example:
        >>> import pdo_jax as pdo
        >>> B = pdo.filter_basis("p8")
        >>> def d_x(x, mesh):
        ...     return pdo.lift_conv(x, B.weights(np.eye(9)[1].reshape(9, 1, 1), mesh), B)
        >>> with jax.enable_x64(True):
        ...     errors = convergence_errors(d_x, "p8", size=B.size, meshes=(0.2, 0.1))
        >>> np.round(errors[0, 1] / errors[1, 1]).tolist()  # half the mesh, a quarter of the error
        4.0
    """
    group = as_group(group)
    for name, kind in (("input_kind", input_kind), ("output_kind", output_kind)):
        _check.choice(name, kind, ("image", "field"))
    size = _check.odd("size", size, ", to have a centre")
    points = _check.integer("points", points, 1)
    channels = _check.integer("channels", channels, 1)
    for mesh in meshes:
        if _check.real("meshes", mesh) <= 0:
            raise ValueError(
                f"meshes (={tuple(meshes)}) must be above 0; pass distances of two pixels."
            )
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-3, 3, (points, group.ndim))
    if signal is None:
        copies = (group.order,) if input_kind == "field" else ()
        signal = _plane_waves(rng, group.ndim, (*copies, channels))
    # Offsets on the array's axes (z, y, x; y downwards), as vectors (x, y, z).
    steps = np.arange(size) - size // 2
    axes = [-steps if i == 1 else steps for i in reversed(range(group.ndim))]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1).astype(np.float64)

    def centre_of(mesh: float, frame: np.ndarray, order: np.ndarray) -> np.ndarray:
        around = centres.reshape(-1, *(1,) * group.ndim, group.ndim)
        samples = signal(around + mesh * offsets @ frame.T)
        samples = samples[..., order, :] if input_kind == "field" else samples
        y = fn(_check.floating("signal", samples, "(..., C)", group.ndim + 2), mesh)
        return np.asarray(y[(slice(None), *(n // 2 for n in y.shape[1 : 1 + group.ndim]))])

    errors = np.zeros((len(meshes), group.order))
    for row, mesh in enumerate(meshes):
        still = centre_of(mesh, group.matrices[0], group.product[0])
        for g in range(group.order):
            order = group.product[group.inverse[g]]
            moved = centre_of(mesh, group.matrices[group.inverse[g]], order)
            expected = still[..., order, :] if output_kind == "field" else still
            errors[row, g] = np.linalg.norm(moved - expected) / np.linalg.norm(expected)
    return errors


def convergence_order(
    fn: Callable[[jax.Array, float], jax.Array],
    group: Group | str,
    *,
    meshes: Sequence[float] = MESHES,
    **options: Any,
) -> float:
    """Return the order with which the equivariance error vanishes as the mesh is refined.

    The slope of log error against log mesh size, by least squares over `convergence_errors`, of the
    root mean square over all elements that do not permute the pixels.

    Args:
        fn: `fn(patches, mesh)`, as in `convergence_errors`.
        group: the `Group` or its name.
        meshes: the distances of two pixels, at least two.
        **options: all others of `convergence_errors`; `size` is needed.

    Returns:
        The order: 2 for a PDO-eConv of accuracy 2, whatever the group.

    Raises:
        ValueError: if every element permutes the pixels, so that there is no error to measure.

    Example:
        >>> import pdo_jax as pdo
        >>> B = pdo.filter_basis("p8")
        >>> c = np.random.default_rng(1).normal(size=(9, 1, 2))
        >>> def layer(x, mesh):
        ...     return pdo.lift_conv(x, B.weights(c, mesh), B)
        >>> with jax.enable_x64(True):
        ...     order = convergence_order(layer, "p8", size=B.size)
        >>> bool(abs(order - 2.0) < 0.1)
        True

    References:
        Shen, He, Lin, Ma: PDO-eConvs (ICML 2020): "the approximation error is of the quadratic
        order".
    """
    group = as_group(group)
    if group.on_grid.all():
        raise ValueError(
            f"group (={group.name}) permutes the pixels with every element, so that there is no "
            "error to measure; pass a group such as 'p8'."
        )
    if len(set(meshes)) < 2:
        raise ValueError(
            f"meshes (={tuple(meshes)}) must hold two different numbers at least, to have a slope; "
            "pass e.g. (0.2, 0.1, 0.05)."
        )
    errors = convergence_errors(fn, group, meshes=meshes, **options)[:, ~group.on_grid]
    return float(np.polyfit(np.log(meshes), np.log(np.sqrt(np.mean(errors**2, axis=1))), 1)[0])


def _plane_waves(
    rng: np.random.Generator, ndim: int, shape: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a smooth random signal: sixteen plane waves with wave numbers of at most 1."""
    vectors = rng.normal(size=(16, ndim))
    vectors *= rng.uniform(0.5, 1.0, (16, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    amplitudes, phases = rng.normal(size=(16, *shape)), rng.uniform(0, 2 * np.pi, (16, *shape))

    def signal(positions: np.ndarray) -> np.ndarray:
        angles = (positions @ vectors.T).reshape(*positions.shape[:-1], 16, *(1,) * len(shape))
        return (amplitudes * np.cos(angles + phases)).sum(axis=positions.ndim - 1)

    return signal
