"""The layer of PDE-G-CNNs: a few equations solved one after the other, then channels are mixed.

    x -> term -> term -> ... -> mix of channels -> norm

A term is a module with the parameters of one equation; `TERMS` lists them. On SE(2) and on the
plane they are the same: the number of entries of `kernel_size` says which of the two is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from pdo_jax import _check, pde
from pdo_jax.nn import recompute
from pdo_jax.nn.layers import _dtypes, _key
from pdo_jax.pde import geometry
from pdo_jax.pde.kernels import check_alpha
from pdo_jax.pde.windows import check_field

METRICS = {2: ("isotropic", "full", "finsler"), 3: ("diagonal", "full")}


class Setting(NamedTuple):
    """What all terms of a layer share; hashable."""

    channels: int
    kernel_size: tuple[int, ...]
    metric: str
    finsler_order: int
    alpha: float
    distance: str
    param_dtype: Any

    @property
    def window(self) -> dict[str, Any]:
        """The options that the functions of `pdo_jax.pde` share."""
        return dict(kernel_size=self.kernel_size, distance=self.distance)

    @property
    def symmetric(self) -> str:
        """The kind of metric where a Finsler norm will not do."""
        return "full" if self.metric == "finsler" else self.metric

    def metric_of(self, parameter: nnx.Param) -> geometry.Metric:
        """Return a parameter as the metric that it stands for."""
        value = parameter[...]
        finsler = self.metric == "finsler" and value.ndim == 2
        return pde.Finsler(value) if finsler else value


class New:
    """What makes the parameters of a layer, one after the other."""

    def __init__(self, setting: Setting, init: Initializer | None, rngs: nnx.Rngs):
        self.setting, self.init, self.rngs = setting, init, rngs

    def __call__(self, init: Callable[..., jax.Array], *last: int) -> nnx.Param:
        """Return a parameter with one entry, of shape `last`, for each channel."""
        shape = self.setting.channels, *last
        return nnx.Param(init(_key(self.rngs), shape, self.setting.param_dtype))

    def metric(self, kind: str) -> nnx.Param:
        """Return a metric of one of the kinds of `METRICS`."""
        ndim = len(self.setting.kernel_size)
        last = {
            "isotropic": (),
            "diagonal": (ndim,),
            "full": (ndim, ndim),
            "finsler": (self.setting.finsler_order,),
        }
        if self.init is not None:
            return self(self.init, *last[kind])
        return self(partial(_INITIALIZERS[kind], kernel_size=self.setting.kernel_size), *last[kind])


class Convection(nnx.Module):
    """`pdo_jax.pde.convection` with its `shift`, zero at first."""

    def __init__(self, setting: Setting, new: New):
        self.shift = new(nnx.initializers.zeros, len(setting.kernel_size))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Carry `x` along."""
        return pde.convection(x, self.shift[...])


class Diffusion(nnx.Module):
    """`pdo_jax.pde.diffusion` with its `metric`, a full one where others are Finsler."""

    def __init__(self, setting: Setting, new: New):
        self.setting, self.metric = setting, new.metric(setting.symmetric)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Diffuse `x`."""
        return pde.diffusion(x, self.metric[...], **self.setting.window)


class Morphology(nnx.Module):
    """`pdo_jax.pde.dilation` or `erosion` with its `metric`."""

    def __init__(self, function: Callable[..., jax.Array], setting: Setting, new: New):
        self.function, self.setting = function, setting
        self.metric = new.metric(setting.metric)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Dilate or erode `x`."""
        s = self.setting
        return self.function(x, s.metric_of(self.metric), alpha=s.alpha, **s.window)


class Shock(nnx.Module):
    """`pdo_jax.pde.diffusion_shock` with its metrics and scales."""

    def __init__(self, setting: Setting, new: New):
        if len(setting.kernel_size) == 3 and setting.metric != "diagonal":
            raise ValueError(
                f"metric (={setting.metric!r}) must be 'diagonal' with the term 'shock' on SE(2); "
                "pass that, or another term."
            )
        self.setting = setting
        self.diffused = new.metric(setting.symmetric)
        self.dilated = new.metric(setting.metric)
        # A Finsler norm is not symmetric: dilation and erosion have one each.
        self.eroded = new.metric(setting.metric) if setting.metric == "finsler" else None
        self.edges, self.contrast = new.metric(setting.symmetric), new(nnx.initializers.ones)
        self.sides, self.softness = new.metric(setting.symmetric), new(nnx.initializers.ones)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Diffuse or sharpen `x`."""
        s = self.setting
        return pde.diffusion_shock(
            x,
            self.diffused[...],
            s.metric_of(self.dilated),
            pde.Switch(self.edges[...], self.contrast[...]),
            pde.Switch(self.sides[...], self.softness[...]),
            alpha=s.alpha,
            eroded=None if self.eroded is None else s.metric_of(self.eroded),
            **s.window,
        )


TERMS: dict[str, Callable[[Setting, New], nnx.Module]] = {
    "convection": Convection,
    "dilation": partial(Morphology, pde.dilation),
    "erosion": partial(Morphology, pde.erosion),
    "diffusion": Diffusion,
    "shock": Shock,
}


class PDELayer(nnx.Module):
    """A layer that solves equations: its terms in order, then a mix of channels, then a norm.

        u_t = -c u + |grad u|^(2 alpha) - |grad u|^(2 alpha) + ...       by operator splitting
        y = norm(u W)

    Args:
        in_features: the number of channels of the input.
        out_features: the number of channels of the output.
        terms: some of "convection", "dilation", "erosion", "diffusion" and "shock", in the order
            in which they are applied; each has its own parameters.
        metric: "diagonal" (three numbers a channel: along the orientation, across it, turning) or
            "full" (a 3x3 matrix) on SE(2); "isotropic" (one number), "full" (a 2x2 matrix) or
            "finsler" on the plane, where diffusion is "full".
        alpha: of dilations and erosions, above 1/2 and at most 1.
        kernel_size: `(kH, kW, kOr)` on SE(2), `(kH, kW)` on the plane; odd.
        iterations: how often the terms are applied one after the other.
        distance: the estimate of distances on SE(2): "log", or one that is better where a metric
            is strongly anisotropic, see `pdo_jax.pde.geometry`.
        finsler_order: the number of circular harmonics of a Finsler norm, odd.
        use_norm: whether an `nnx.BatchNorm` comes last.
        dtype: of the computation; by default the promoted dtype of input and parameters.
        param_dtype: of the parameters.
        precision: of the mix of channels.
        kernel_init: of the mix.
        metric_init: of all metrics; by default positive ones that fit the window.
        checkpoint: whether the gradient solves the equations again in place of keeping what each
            of them gives; less memory, more time.
        rngs: the random keys; `params` is used.

    Attributes:
        terms: the modules of the terms, each with `shift`, `metric`, or more for "shock".
        mix: `nnx.Linear` without bias; its `kernel` is `(in_features, out_features)`.
        norm: `nnx.BatchNorm`, or None.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.

    Example:
        >>> layer = PDELayer(6, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 14, 14, 8, 6))).shape
        (2, 14, 14, 8, 4)
        >>> options = dict(metric="full", kernel_size=(5, 5), rngs=nnx.Rngs(0))
        >>> PDELayer(3, 4, ("diffusion",), **options)(jnp.ones((2, 14, 14, 3))).shape
        (2, 14, 14, 4)

    References:
        Smets, Portegies, Bekkers, Duits: PDE-based group equivariant convolutional neural networks
        (JMIV 2022). docs/lietorch.md maps every layer of LieTorch to one call.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        terms: Sequence[str] = ("convection", "dilation", "erosion"),
        *,
        metric: str = "diagonal",
        alpha: float = 0.65,
        kernel_size: Sequence[int] = (5, 5, 5),
        iterations: int = 1,
        distance: str = "log",
        finsler_order: int = 5,
        use_norm: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer | None = None,
        metric_init: Initializer | None = None,
        checkpoint: bool = False,
        rngs: nnx.Rngs,
    ):
        self.in_features = _check.integer("in_features", in_features, 1)
        self.out_features = _check.integer("out_features", out_features, 1)
        self.iterations = _check.integer("iterations", iterations, 1)
        self.dtype, self.param_dtype = _dtypes(dtype, param_dtype)
        self.checkpoint = checkpoint
        self.kernel_size = geometry.check_kernel_size(kernel_size)
        if distance == "paths" and metric == "full" and len(self.kernel_size) == 3:
            raise ValueError(
                "distance (='paths') on SE(2) is for metric='diagonal', but metric is 'full'; pass "
                "distance='log', or that metric."
            )
        setting = Setting(
            channels=self.in_features,
            kernel_size=self.kernel_size,
            metric=_check.choice("metric", metric, METRICS[len(self.kernel_size)]),
            finsler_order=_check.odd(
                "finsler_order", finsler_order, ": a constant, and pairs of cosine and sine"
            ),
            alpha=check_alpha(alpha),
            distance=_check.choice("distance", distance, geometry.DISTANCES),
            param_dtype=param_dtype,
        )
        new = New(setting, metric_init, rngs)
        self.terms = nnx.List([TERMS[name](setting, new) for name in _names(terms)])
        options: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.mix = nnx.Linear(
            self.in_features,
            self.out_features,
            use_bias=False,
            precision=precision,  # pyright: ignore
            kernel_init=kernel_init
            or nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            **options,
        )
        self.norm = nnx.BatchNorm(self.out_features, momentum=0.9, **options) if use_norm else None

    def __call__(self, x: Float[_check.Array, "... c"]) -> Float[jax.Array, "... o"]:
        """Apply the layer.

        Args:
            x: `(..., H, W, Or, in_features)` field, or `(..., H, W, in_features)` on the plane.

        Returns:
            An array with `out_features` on the last axis.
        """
        y = check_field(x, len(self.kernel_size))
        _check.axis("x", y, -1, self.in_features, "the in_features of the layer")
        y = y.astype(self.dtype or jnp.result_type(y.dtype, self.param_dtype))
        return recompute.call(PDELayer._apply, self, y, checkpoint=self.checkpoint)

    def _apply(self, y: jax.Array) -> jax.Array:
        """Solve the equations, mix and normalise."""
        for _ in range(self.iterations):
            for term in self.terms:
                y = term(y)
        y = self.mix(y)
        return y if self.norm is None else self.norm(y)


def _names(terms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(terms, str) or not isinstance(terms, Sequence):
        raise TypeError(
            f"terms (={terms!r}) must be a sequence of names; pass e.g. ('dilation', 'erosion')."
        )
    if not terms:
        raise ValueError("terms (=()) must be one at least; pass e.g. ('dilation', 'erosion').")
    return tuple(_check.choice(f"terms[{i}]", t, tuple(TERMS)) for i, t in enumerate(terms))


# ----------------------------------------------------------------------------------- initial values


def _positive(key: jax.Array, shape: Any, dtype: Any, kernel_size: tuple[int, ...]) -> jax.Array:
    """Draw weights for which a point a few steps away costs about 1: those of LieTorch."""
    low, high = 1.4 / max(kernel_size), 0.7 * min(kernel_size)
    return jax.random.uniform(key, shape, dtype, low, max(high, low))


def _full(key: jax.Array, shape: Any, dtype: Any, kernel_size: tuple[int, ...]) -> jax.Array:
    """Draw the roots of such weights on the diagonal, and small numbers beside it."""
    diagonal, beside = jax.random.split(key)
    roots = jnp.sqrt(_positive(diagonal, shape[:-1], dtype, kernel_size))
    small = jax.random.uniform(beside, shape, dtype, -0.2, 0.2)
    return small + roots[..., None] * jnp.eye(shape[-1], dtype=dtype)


def _round(key: jax.Array, shape: Any, dtype: Any, kernel_size: tuple[int, ...]) -> jax.Array:
    """Draw coefficients of Finsler norms that are not far from round."""
    del kernel_size
    return jax.random.uniform(key, shape, dtype, -0.5, 0.5)


_INITIALIZERS = {
    "isotropic": _positive,
    "diagonal": _positive,
    "full": _full,
    "finsler": _round,
}
