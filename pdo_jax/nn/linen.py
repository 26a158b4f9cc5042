"""The layers of `pdo_jax.nn` for `flax.linen`: the same options, parameters and functions.

A Linen layer builds the NNX layer of the same name, without its numbers, asks Linen for the
parameters that it names (`kernel`, and `bias` unless `use_bias=False`; dicts of them for the parts
of relaxed layers) and calls it. Nothing but these is ever in a collection, so that parameters go
from one to the other as they are:

    params = nnx.to_pure_dict(nnx.state(layer))      # of an NNX layer, for linen_layer.apply
    nnx.update(layer, variables["params"])           # of linen_layer.init, into an NNX layer
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import linen, nnx
from jaxtyping import Float

from pdo_jax import _check
from pdo_jax.nn import layers, relaxed


class _Layer(linen.Module):
    """What all layers share: their call. Their fields are made by `_of`."""

    _options: ClassVar[tuple[str, ...]]
    _nnx: ClassVar[Callable[..., nnx.Module]]

    @linen.compact
    def __call__(self, x: Float[_check.Array, "... c"]) -> Float[jax.Array, "... g o"]:
        """Apply the layer, as that of `pdo_jax.nn` with the same name."""
        options = {name: getattr(self, name) for name in self._options}

        def build(seed: Any) -> nnx.Module:
            return type(self)._nnx(**options, rngs=nnx.Rngs(params=seed))

        layer = nnx.eval_shape(lambda: build(0))
        params = {
            name: self.param(name, lambda key, name=name: _params(build(key))[name])
            for name in _params(layer)
        }
        nnx.update(layer, params)
        if nnx.state(layer, nnx.Not(nnx.Param)):  # what is not learned follows from the options
            nnx.update(layer, nnx.state(build(0), nnx.Not(nnx.Param)))
        return layer(x)  # pyright: ignore


def _params(layer: nnx.Module) -> dict[str, Any]:
    return nnx.to_pure_dict(nnx.state(layer, nnx.Param))


def _of(layer: type[nnx.Module]) -> Callable[[type], type[Any]]:
    """Return what turns a name and a docstring into the Linen class of an NNX layer.

    Its fields are the arguments of the NNX layer's constructor but `rngs`.
    """

    def transform(cls: type) -> type[Any]:
        parameters = list(inspect.signature(layer.__init__).parameters.values())[1:-1]
        body: dict[str, Any] = {
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__annotations__": {p.name: p.annotation for p in parameters},
            "_options": tuple(p.name for p in parameters),
            "_nnx": layer,
        }
        for p in parameters:
            if p.kind is p.KEYWORD_ONLY:
                body[p.name] = dataclasses.field(default=p.default, kw_only=True)
        return type(cls.__name__, (_Layer,), body)

    return transform


@_of(layers.PDOLift)
class PDOLift:
    """A Linen layer from images to fields: `pdo_jax.nn.PDOLift` without `rngs`.

        y(., g) = kernel_g * x + bias

    Args:
        in_features: the number of channels of the image.
        out_features: the number of fields.
        group: the `Group` or its name.
        strides: this and all other options are those of `pdo_jax.nn.PDOLift`.

    Raises:
        TypeError, ValueError: when it is called, if an argument breaks its rule.

    Example:
        >>> layer = PDOLift(1, 6, "p8")
        >>> y, variables = layer.init_with_output(jax.random.key(0), jax.numpy.ones((2, 28, 28, 1)))
        >>> y.shape, variables["params"]["kernel"].shape
        ((2, 28, 28, 8, 6), (9, 1, 6))
    """


@_of(layers.PDOConv)
class PDOConv:
    """A Linen layer from fields to fields: `pdo_jax.nn.PDOConv` without `rngs`.

        y(., g) = sum_h kernel_g[w(g^-1 h)] * x(., h) + bias

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name.
        strides: this and all other options are those of `pdo_jax.nn.PDOConv`.

    Raises:
        TypeError, ValueError: when it is called, if an argument breaks its rule.

    Example:
        >>> class Net(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, x):
        ...         x = linen.relu(PDOLift(1, 6, "p8", name="lift")(x))
        ...         return PDOConv(6, 4, "p8", use_bias=False)(x)
        >>> x = jax.numpy.ones((2, 28, 28, 1))
        >>> y, variables = Net().init_with_output(jax.random.key(0), x)
        >>> y.shape, sorted(variables["params"])
        ((2, 28, 28, 8, 4), ['PDOConv_0', 'lift'])
    """


@_of(layers.PDOConvTranspose)
class PDOConvTranspose:
    """A Linen layer that enlarges fields: `pdo_jax.nn.PDOConvTranspose` without `rngs`.

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name.
        strides: this and all other options are those of `pdo_jax.nn.PDOConvTranspose`.

    Raises:
        TypeError, ValueError: when it is called, if an argument breaks its rule.

    Example:
        >>> layer = PDOConvTranspose(6, 4, "p8", strides=2)
        >>> x = jax.numpy.ones((2, 14, 14, 8, 6))
        >>> layer.init_with_output(jax.random.key(0), x)[0].shape
        (2, 27, 27, 8, 4)
    """


@_of(layers.PointwiseConv)
class PointwiseConv:
    """A 1x1 Linen layer from fields to fields: `pdo_jax.nn.PointwiseConv` without `rngs`.

        y(., g) = sum_h w(g^-1 h) x(., h) + bias

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name.
        strides: this and all other options are those of `pdo_jax.nn.PointwiseConv`.

    Raises:
        TypeError, ValueError: when it is called, if an argument breaks its rule.

    Example:
        >>> layer = PointwiseConv(6, 4, "p8")
        >>> x = jax.numpy.ones((2, 28, 28, 8, 6))
        >>> layer.init_with_output(jax.random.key(0), x)[0].shape
        (2, 28, 28, 8, 4)
    """


@_of(relaxed.RelaxedLift)
class RelaxedLift:
    """A Linen layer from images to fields: `pdo_jax.nn.RelaxedLift` without `rngs`.

    Args:
        in_features: the number of channels of the image.
        out_features: the number of fields.
        group: the `Group` or its name.
        relaxation: this and all other options are those of `pdo_jax.nn.RelaxedLift`.

    Raises:
        TypeError, ValueError: when it is called, if an argument breaks its rule.

    Example:
        >>> layer = RelaxedLift(1, 6, "p8", relaxation="partial", extent=0.5)
        >>> y, variables = layer.init_with_output(jax.random.key(0), jax.numpy.ones((2, 28, 28, 1)))
        >>> y.shape, float(variables["params"]["relaxation"]["extent"])
        ((2, 28, 28, 8, 6), 0.5)
    """


@_of(relaxed.RelaxedConv)
class RelaxedConv:
    """A Linen layer from fields to fields: `pdo_jax.nn.RelaxedConv` without `rngs`.

        y(v) = sum_f a_f(v) (k_f * x)(v) + bias,     v = (position, g)

    Args:
        in_features: the number of fields of the input.
        out_features: the number of fields of the output.
        group: the `Group` or its name.
        relaxation: this and all other options are those of `pdo_jax.nn.RelaxedConv`.

    Raises:
        TypeError, ValueError: when it is called, if an argument breaks its rule.

    Example:
        >>> layer = RelaxedConv(6, 4, "p8")
        >>> x = jax.numpy.ones((2, 28, 28, 8, 6))
        >>> y, variables = layer.init_with_output(jax.random.key(0), x)
        >>> y.shape, variables["params"]["strict"]["kernel"].shape
        ((2, 28, 28, 8, 4), (9, 8, 6, 8))
    """
