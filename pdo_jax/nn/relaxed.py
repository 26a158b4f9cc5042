"""Layers that learn how much symmetry to keep: filters of a strict layer, and how they are relaxed.

    x -> F C filters, strictly equivariant -> relaxation -> + bias

A relaxation is a module with a few parameters; `RELAXATIONS` lists them. Each says how much of the
kernel depends on the pose, and what `equivariance_penalty` sums is that.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn.initializers import Initializer, zeros
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check, conv, relaxed, windows
from pdo_jax.basis import FilterBasis
from pdo_jax.groups import Group
from pdo_jax.groups import group as as_group
from pdo_jax.nn import recompute
from pdo_jax.nn.initializers import flat
from pdo_jax.nn.layers import PDOConv, PDOLift, _bias, _cast, _dtypes, _key


class Fixed(nnx.Variable):
    """A bandwidth that is part of the state of a layer but is not trained."""


class Setting(NamedTuple):
    """What a relaxation has to know of its layer; hashable."""

    group: Group
    filters: int
    channels: int
    """C_out, after the filters are summed."""
    inputs: int
    """Channels that one output of a plain convolution sums: C_in, times |G| on fields."""
    taps: int
    geometry: conv.Geometry
    bandwidths: tuple[float | None, float | None]
    features: int
    seed: int
    learn: bool
    extent: float
    param_dtype: Any
    precision: Any

    def variable(self, value: float) -> nnx.Variable:
        """Return a number that is trained, or kept."""
        array = jnp.asarray(value, self.param_dtype)
        return nnx.Param(array) if self.learn else Fixed(array)


class NonStationary(nnx.Module):
    """Gains that vary with position and orientation: `pdo_jax.relaxed.fourier_gains`.

    Attributes:
        mean: `nnx.Param`, `(F,)`: the gains of the strict layer.
        weights: `nnx.Param`, `(J, F)`: of the J features of the pose.
        position, orientation: the bandwidths, one number each: `nnx.Param`, `Fixed` where they are
            not learned, or None where nothing depends on that part of the pose.
    """

    filters = 2

    def __init__(self, setting: Setting, rngs: nnx.Rngs):
        self.setting = setting
        shape = setting.features, setting.filters
        scale = 1 / math.sqrt(setting.filters)  # the sum over filters has the gain of one layer
        self.mean = nnx.Param(jnp.full(setting.filters, scale, setting.param_dtype))
        normal = nnx.initializers.normal(scale / math.sqrt(setting.features))
        self.weights = nnx.Param(normal(_key(rngs), shape, setting.param_dtype))
        self.position, self.orientation = (
            None if b is None else setting.variable(b) for b in setting.bandwidths
        )

    def gains(self, sizes: tuple[int, ...]) -> jax.Array:
        """Return the gains at every pose of a field of these sizes."""
        setting = self.setting
        position = 0.0 if self.position is None else self.position[...]
        orientation = 0.0 if self.orientation is None else self.orientation[...]
        drawn = relaxed.frequencies(setting.group.ndim, setting.features, setting.seed)
        return relaxed.fourier_gains(
            self.mean[...],
            self.weights[...],
            position,
            orientation,
            setting.group,
            sizes,
            drawn,
        )

    def __call__(self, x: jax.Array, fields: jax.Array) -> jax.Array:
        """Weigh the outputs of the filters."""
        ndim = self.setting.group.ndim
        return relaxed.weigh(fields, self.gains(fields.shape[-2 - ndim : -2]))

    def amount(self, weights: jax.Array) -> dict[str, jax.Array]:
        """Return what `relaxed.amounts` says, over a grid of positions of fixed size."""
        sizes = relaxed.reference_positions(self.setting.group.ndim)
        return relaxed.amounts(self.gains(sizes), weights)


class Partial(nnx.Module):
    """A window over the rotations: `pdo_jax.relaxed.partial_gains`.

    Attributes:
        extent: the range that is kept, 1 for all rotations: `nnx.Param`, or `Fixed`.
    """

    filters = 1

    def __init__(self, setting: Setting, rngs: nnx.Rngs):
        self.setting = setting
        self.extent = setting.variable(setting.extent)

    def gains(self) -> jax.Array:
        """Return the gains of every orientation."""
        extent = self.extent[...]
        return relaxed.partial_gains(extent, self.setting.group, extent.dtype)

    def __call__(self, x: jax.Array, fields: jax.Array) -> jax.Array:
        """Keep the orientations within the range."""
        return relaxed.weigh(fields, self.gains())

    def amount(self, weights: jax.Array) -> dict[str, jax.Array]:
        """Return what `relaxed.amounts` says."""
        return relaxed.amounts(self.gains(), weights)


class Weights(nnx.Module):
    """Gains that are free numbers for every orientation: a relaxed group convolution.

    Attributes:
        gains: `nnx.Param`, `(|G|, F)`; equal rows are strict.
    """

    filters = 2

    def __init__(self, setting: Setting, rngs: nnx.Rngs):
        shape = setting.group.order, setting.filters
        self.gains = nnx.Param(jnp.full(shape, 1 / math.sqrt(setting.filters), setting.param_dtype))

    def __call__(self, x: jax.Array, fields: jax.Array) -> jax.Array:
        """Weigh the outputs of the filters."""
        return relaxed.weigh(fields, self.gains[...])

    def amount(self, weights: jax.Array) -> dict[str, jax.Array]:
        """Return what `relaxed.amounts` says."""
        return relaxed.amounts(self.gains[...], weights)


class Residual(nnx.Module):
    """A plain convolution beside the strict one: a residual pathway prior.

    Attributes:
        kernel: `nnx.Param`, `(k, k, |G| C_in, |G| C_out)`, or `(k, k, C_in, |G| C_out)` for a
            lift; zero at first.
    """

    filters = 1

    def __init__(self, setting: Setting, rngs: nnx.Rngs):
        self.setting = setting
        outputs = setting.group.order * setting.channels
        shape = *(setting.taps,) * setting.group.ndim, setting.inputs, outputs
        self.kernel = nnx.Param(jnp.zeros(shape, setting.param_dtype))

    def __call__(self, x: jax.Array, fields: jax.Array) -> jax.Array:
        """Add the plain convolution of `x`."""
        setting = self.setting
        return fields + conv.convolve(
            "RelaxedConv",
            x,
            jnp.asarray(self.kernel[...], x.dtype),
            setting.geometry,
            1,
            setting.precision,
            order=setting.group.order,
            field=x.ndim == fields.ndim,
        )

    def amount(self, weights: jax.Array) -> dict[str, jax.Array]:
        """Return the share of the plain kernel in the whole, as a root of sums of squares.

        It may contain an equivariant part, so this is an upper bound.
        """
        plain = jnp.sum(self.kernel[...] ** 2) / self.setting.group.order
        strict = jnp.sum(weights**2)
        share = relaxed.ratio(plain, plain + strict)
        return {"position": jnp.zeros_like(share), "orientation": share}


RELAXATIONS: dict[str, Callable[[Setting, nnx.Rngs], nnx.Module]] = {
    "non-stationary": NonStationary,
    "partial": Partial,
    "weights": Weights,
    "residual": Residual,
}


class Continuous(nnx.Module):
    """Strict filters that are features of the relative pose: `pdo_jax.relaxed.continuous_kernel`.

    Attributes:
        kernel: `nnx.Param`, `(M, C_in, F C_out)`.
        bandwidth: of the relative pose: `nnx.Param`, or `Fixed`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group,
        field: bool,
        *,
        bandwidth: float,
        kernel_size: int | None,
        features: int,
        seed: int,
        learn: bool,
        place: tuple[Any, Any, Any],
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        precision: lax.PrecisionLike,
        kernel_init: Initializer | None,
        rngs: nnx.Rngs,
    ):
        self.in_features, self.out_features = in_features, out_features
        self.group, self.field, self.kernel_size, self.place = group, field, kernel_size, place
        self.features, self.seed = features, seed
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision
        # The kernel is divided by the root of the number of taps and orientations: He's rule.
        init = kernel_init or flat(nnx.initializers.normal(math.sqrt(2 / (features * in_features))))
        shape = features, in_features, out_features
        self.kernel = nnx.Param(init(_key(rngs), shape, param_dtype))
        value = jnp.asarray(bandwidth, param_dtype)
        self.bandwidth = nnx.Param(value) if learn else Fixed(value)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve an image or a field."""
        x = _cast(x, self.kernel, self.dtype)
        ndim, order = self.group.ndim, self.group.order
        axes = "(..., H, W, |G|, C_in)" if self.field else "(..., H, W, C_in)"
        x = _check.floating("x", x, axes, ndim + 1 + self.field)
        _check.nonempty("x", x, -ndim - 1 - self.field, "the pixels, the group and the channels")
        if self.field:
            _check.axis("x", x, -2, order, f"the order of {self.group.name}")
        sizes = x.shape[-1 - ndim - self.field : -1 - self.field]
        if self.kernel_size is None:  # every pixel sees every other
            taps, unit = tuple(2 * n - 1 for n in sizes), max(sizes) / 2
        else:
            taps, unit = (self.kernel_size,) * ndim, None
        kernel = self.expanded(taps, unit).astype(x.dtype)
        strides, padding, dilation = self.place
        geometry = conv.Geometry(strides, 1, padding, dilation)
        options: Any = dict(order=order, field=self.field)
        return conv.convolve("RelaxedConv", x, kernel, geometry, 1, self.precision, **options)

    def expanded(self, taps: tuple[int, ...], unit: float | None) -> jax.Array:
        """Return the kernel on so many taps."""
        return relaxed.continuous_kernel(
            self.kernel[...],
            self.bandwidth[...],
            self.group,
            taps,
            relaxed.frequencies(self.group.ndim, self.features, self.seed),
            unit=unit,
            field=self.field,
        )


class _RelaxedLayer(nnx.Module):
    """What both layers share: their constructor, their call, and what they say of themselves."""

    _strict: Callable[..., Any]
    _on_fields = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group | str | FilterBasis,
        *,
        relaxation: str = "non-stationary",
        filters: int | None = None,
        position_bandwidth: float | None = 0.5,
        orientation_bandwidth: float | None = 0.5,
        features: int = 16,
        seed: int = 0,
        extent: float = 1.0,
        learn: bool = True,
        relative_bandwidth: float | None = None,
        kernel_size: int | None = None,
        kernel_features: int = 32,
        strides: conv.PerAxis = 1,
        padding: windows.Padding = "SAME",
        kernel_dilation: conv.PerAxis = 1,
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer | None = None,
        bias_init: Initializer = zeros,
        order: int = 2,
        orientation: Any = 0.0,
        scheme: str = "finite-difference",
        accuracy: int = 2,
        operators: str = "box",
        sigma: float | None = None,
        band: float | None = None,
        size: int | None = None,
        algorithm: str = "auto",
        checkpoint: bool = False,
        rngs: nnx.Rngs,
    ):
        self.in_features = _check.integer("in_features", in_features, 1)
        self.out_features = _check.integer("out_features", out_features, 1)
        _check.choice("relaxation", relaxation, tuple(RELAXATIONS))
        owned: dict[str, dict[str, Any]] = {
            "non-stationary": dict(
                position_bandwidth=position_bandwidth,
                orientation_bandwidth=orientation_bandwidth,
                features=features,
            ),
            "partial": dict(extent=extent),
        }
        for owner in owned.keys() - {relaxation}:
            _refuse(
                owned[owner],
                f"relaxation={owner!r}, but relaxation is {relaxation!r}; leave it out, or pass "
                "that relaxation",
            )
        self.filters = _filters(filters, relaxation)
        self.dtype, self.param_dtype = _dtypes(dtype, param_dtype)
        self.checkpoint = checkpoint
        outputs = self.filters * self.out_features
        common: dict[str, Any] = dict(
            dtype=dtype, param_dtype=param_dtype, precision=precision, kernel_init=kernel_init
        )
        basis: dict[str, Any] = dict(
            order=order,
            orientation=orientation,
            scheme=scheme,
            accuracy=accuracy,
            operators=operators,
            sigma=sigma,
            band=band,
            size=size,
            algorithm=algorithm,
        )
        ndim = (group.group if isinstance(group, FilterBasis) else as_group(group)).ndim
        strides = _check.per_axis("strides", strides, ndim)
        kernel_dilation = _check.per_axis("kernel_dilation", kernel_dilation, ndim)
        if not isinstance(padding, str):
            padding = windows.resolve_padding(padding, (1,) * ndim).pairs
        if relative_bandwidth is None:
            _refuse(
                dict(kernel_size=kernel_size, kernel_features=kernel_features),
                "continuous filters, but relative_bandwidth is None; leave it out (the filters of "
                "a basis have a size), or pass a relative_bandwidth",
            )
            self.strict: Any = self._strict(
                self.in_features,
                outputs,
                group,
                strides=strides,
                padding=padding,
                kernel_dilation=kernel_dilation,
                use_bias=False,
                **basis,
                **common,
                rngs=rngs,
            )
            found, taps = self.strict.basis.group, self.strict.basis.size
        else:
            if isinstance(group, FilterBasis) or relaxation == "residual":
                raise ValueError(
                    f"relative_bandwidth (={relative_bandwidth}) makes filters without a basis, "
                    "which neither a FilterBasis as group nor relaxation='residual' goes with; "
                    "pass None."
                )
            _refuse(
                basis,
                f"a basis, but relative_bandwidth (={relative_bandwidth}) makes filters without "
                "one; leave either out",
            )
            found, taps = as_group(group), 0
            if kernel_size is None and (padding != "SAME" or max(kernel_dilation) > 1):
                raise ValueError(
                    f"padding (={padding!r}) and kernel_dilation (={kernel_dilation}) must be "
                    "'SAME' and 1 with kernel_size=None, where every pixel sees every other; "
                    "leave them out, or pass a kernel_size."
                )
            self.strict = Continuous(
                self.in_features,
                outputs,
                found,
                self._on_fields,
                bandwidth=_check.real("relative_bandwidth", relative_bandwidth),
                kernel_size=None if kernel_size is None else _check.odd("kernel_size", kernel_size),
                features=_check.integer("kernel_features", kernel_features, 1),
                seed=_check.integer("seed", seed, 0),
                learn=learn,
                place=(strides, padding, kernel_dilation),
                **common,
                rngs=rngs,
            )
        self.relaxation: Any = RELAXATIONS[relaxation](
            Setting(
                group=found,
                filters=self.filters,
                channels=self.out_features,
                inputs=self.in_features * (found.order if self._on_fields else 1),
                taps=taps,
                geometry=conv.Geometry(strides, 1, padding, kernel_dilation),
                bandwidths=(
                    _bandwidth("position_bandwidth", position_bandwidth),
                    _bandwidth("orientation_bandwidth", orientation_bandwidth),
                ),
                features=_check.integer("features", features, 1),
                seed=_check.integer("seed", seed, 0),
                learn=learn,
                extent=_extent(extent),
                param_dtype=param_dtype,
                precision=precision,
            ),
            rngs,
        )
        self.bias = _bias(use_bias, bias_init, self.out_features, param_dtype, rngs)

    def __call__(self, x: Float[_check.Array, "... c"]) -> Float[jax.Array, "... g o"]:
        """Apply the layer.

        Args:
            x: `(..., H, W, in_features)` image or `(..., H, W, |G|, in_features)` field.

        Returns:
            `(..., H', W', |G|, out_features)` field.
        """
        x = _check.floating("x", x, "(..., C)", 1)
        x = x.astype(self.dtype or jnp.result_type(x.dtype, self.param_dtype))
        return recompute.call(_RelaxedLayer._apply, self, x, checkpoint=self.checkpoint)

    def _apply(self, x: jax.Array) -> jax.Array:
        """Convolve, weigh the filters, and add the bias."""
        y = self.relaxation(x, self.strict(x))
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)

    @property
    def amount(self) -> dict[str, jax.Array]:
        """How much of the kernel depends on the pose, from 0 (strict) to 1: see `relaxed.amounts`.

        "position" and "orientation", each one number.
        """
        kernel = self.strict.kernel[...]
        weights = kernel.reshape(-1, self.filters, self.out_features)
        return self.relaxation.amount(weights)

    def penalty(self) -> jax.Array:
        """Return the sum of the amounts: minus the logarithm of an exponential prior on each."""
        amount = self.amount
        return amount["position"] + amount["orientation"]


class RelaxedConv(_RelaxedLayer):
    """A layer from fields to fields that learns how much of its symmetry to keep.

        y(v) = sum_f a_f(v) (k_f * x)(v) + bias,     v = (position, g)

    The k_f are the filters of a strict group convolution, the gains a_f depend on the pose. With
    constant gains the layer is `PDOConv` with the kernel sum_f a_f k_f.

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name, or a `FilterBasis`.
        relaxation: "non-stationary": gains from random Fourier features of the pose. "partial": a
            window over the rotations, with a learned range. "weights": free gains for every
            orientation (relaxed group convolution). "residual": a plain convolution beside the
            strict one (residual pathway prior).
        filters: the number F of filters; None for 2, or 1 where more would be the same. The layer
            costs about F strict ones.
        position_bandwidth: of "non-stationary": where it starts, in radians per half an image; 0
            does not depend on the position but may learn to, None never does.
        orientation_bandwidth: likewise, in radians per radian of rotation.
        features: the number J of random features.
        seed: of their frequencies, which are made anew from it and not saved.
        extent: of "partial": where the range starts, 1 for all rotations.
        learn: whether the bandwidths (and `extent`) are trained.
        relative_bandwidth: None for filters from a PDO basis; a number for continuous filters,
            random features of the relative pose, with this bandwidth to start with. 0 sees means
            alone.
        kernel_size: taps of continuous filters along an axis, odd; None for the whole input.
        kernel_features: the number M of their features.
        strides, padding, kernel_dilation: as in `PDOLift`.
        use_bias, dtype, param_dtype, precision, kernel_init, bias_init: as in `PDOLift`.
        order, orientation, scheme, accuracy, operators, sigma, band, size: as in `PDOLift`.
        algorithm: as in `PDOLift`.
        checkpoint: whether the gradient computes what the filters give again in place of keeping
            it; less memory, more time.
        rngs: the random keys; `params` is used.

    Attributes:
        strict: the `PDOConv` with F C_out fields, filters first; its `kernel` is
            `(M, |G|, in_features, F out_features)`. With `relative_bandwidth` a layer whose
            `kernel` is `(M, in_features, F out_features)`, with a `bandwidth`.
        relaxation: the module with the parameters of the relaxation: `mean`, `weights`, `position`
            and `orientation`; `extent`; `gains`; or `kernel`.
        bias: `nnx.Param`, `(out_features,)`, or None.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = RelaxedConv(6, 4, "p8", orientation_bandwidth=0.0, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 28, 28, 8, 6))).shape
        (2, 28, 28, 8, 4)
        >>> float(layer.amount["orientation"]), bool(layer.amount["position"] > 0)
        (0.0, True)

    References:
        van der Ouderaa, Romero, van der Wilk: Relaxing equivariance constraints with non-stationary
        continuous filters (NeurIPS 2022), for kernels k(v^-1 u, v) and a learned amount; how they
        are made of gains, features and bandwidths here is ours. "partial": Romero, Lohit (NeurIPS
        2022). "weights": Wang, Walters, Yu (ICML 2022). "residual": Finzi, Benton, Wilson (NeurIPS
        2021). docs/relaxed.md says where we differ.
    """

    _strict = PDOConv


class RelaxedLift(_RelaxedLayer):
    """A layer from images to fields that learns how much of its symmetry to keep.

        y(v) = sum_f a_f(v) (k_f * x)(v) + bias,     v = (position, g)

    Args:
        in_features: the number of channels of the image.
        out_features: the number of fields.
        group: the `Group` or its name, or a `FilterBasis`.
        relaxation, filters, position_bandwidth, orientation_bandwidth: as in `RelaxedConv`.
        features, seed, extent, learn: as in `RelaxedConv`.
        relative_bandwidth, kernel_size, kernel_features: as in `RelaxedConv`.
        strides, padding, kernel_dilation: as in `PDOLift`.
        use_bias, dtype, param_dtype, precision, kernel_init, bias_init: as in `PDOLift`.
        order, orientation, scheme, accuracy, operators, sigma, band, size: as in `PDOLift`.
        algorithm: as in `PDOLift`.
        checkpoint: as in `RelaxedConv`.
        rngs: the random keys; `params` is used.

    Attributes:
        strict: the `PDOLift` with F C_out fields, filters first.
        relaxation: the module with the parameters of the relaxation, as in `RelaxedConv`.
        bias: `nnx.Param`, `(out_features,)`, or None.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = RelaxedLift(1, 6, "p8", relaxation="partial", extent=0.5, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.ones((2, 28, 28, 1)))
        >>> y.shape, bool(jnp.all(y[..., 4, :] == 0))  # the half turn is out of range
        ((2, 28, 28, 8, 6), True)
    """

    _strict = PDOLift
    _on_fields = False


def equivariance_penalty(model: nnx.Module) -> jax.Array:
    """Return the sum of the amounts of all relaxed layers of a network: what a loss is added to.

        loss + strength * equivariance_penalty(model)

    That is the prior under which every amount has the density strength exp(-strength amount): a
    layer gives up symmetry where the data pay for it, and not where they do not care.

    Args:
        model: the network, or a single layer.

    Returns:
        One number; 0 for a network without relaxed layers.

    Raises:
        TypeError: if `model` is not an `nnx.Module`.

    Example:
        >>> layer = RelaxedConv(2, 2, "p4", relaxation="weights", rngs=nnx.Rngs(0))
        >>> float(equivariance_penalty(layer))
        0.0
    """
    penalties = [layer.penalty() for _, layer in _layers(model)]
    return sum(penalties[1:], start=penalties[0]) if penalties else jnp.zeros(())


def equivariance_amounts(model: nnx.Module) -> dict[str, dict[str, jax.Array]]:
    """Return the amount of every relaxed layer of a network, by its place.

    Args:
        model: the network, or a single layer.

    Returns:
        By the layer's path in the network, such as "convs.1", its `amount`.

    Raises:
        TypeError: if `model` is not an `nnx.Module`.

    Example:
        >>> layer = RelaxedConv(2, 2, "p4", relaxation="weights", rngs=nnx.Rngs(0))
        >>> {k: float(v) for k, v in equivariance_amounts(layer)[""].items()}
        {'position': 0.0, 'orientation': 0.0}
    """
    return {".".join(map(str, path)): layer.amount for path, layer in _layers(model)}


def _layers(model: nnx.Module) -> list[tuple[tuple, _RelaxedLayer]]:
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model must be an nnx.Module, got {type(model).__name__}; pass the network itself."
        )
    return [(path, node) for path, node in nnx.iter_graph(model) if isinstance(node, _RelaxedLayer)]


def _filters(filters: int | None, relaxation: str) -> int:
    """Return the number of filters of a relaxation, which may allow but one."""
    usual: int = RELAXATIONS[relaxation].filters  # pyright: ignore
    if filters is None:
        return usual
    filters = _check.integer("filters", filters, 1)
    if usual == 1 and filters > 1:
        raise ValueError(
            f"filters (={filters}) must be 1 with relaxation={relaxation!r}, where more filters "
            "are the same as one; pass None."
        )
    return filters


def _bandwidth(name: str, value: float | None) -> float | None:
    return None if value is None else _check.real(name, value)


def _extent(value: float) -> float:
    extent = _check.real("extent", value)
    if not 0 <= extent <= 1:
        raise ValueError(f"extent (={value}) must be from 0 to 1; pass 1.0 for all rotations.")
    return extent


def _refuse(options: dict[str, Any], why: str) -> None:
    """Raise if one of the options is not what it is by default: it would be ignored."""
    parameters = inspect.signature(_RelaxedLayer.__init__).parameters
    for name, value in options.items():
        if not np.array_equal(value, parameters[name].default):
            raise ValueError(f"{name} (={value!r}) is an option of {why}.")
