"""Derivatives of derivatives, of what is not linear, and where numbers end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdo_jax import nn, pde

X = jax.random.normal(jax.random.key(0), (5, 4, 8, 2))
METRIC = jnp.array([[1.0, 1.7, 0.8], [0.9, 2.0, 1.1]])
OPERATORS = {
    "dilation": lambda x, scale: pde.dilation(x, scale * METRIC, (3, 3, 3)),
    "erosion": lambda x, scale: pde.erosion(x, scale * METRIC, (3, 3, 3)),
    "projection": lambda x, scale: pde.dilated_projection(scale * x),
    "convection": lambda x, scale: pde.convection(x, scale * METRIC / 7),
    "diffusion": lambda x, scale: pde.diffusion(x, scale * METRIC, (3, 3, 3)),
}


SLOW = {"erosion", "projection", "convection", "diffusion"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in OPERATORS]
)
def test_second_derivatives(name):
    """Forward over forward, reverse over reverse and forward over reverse: finite differences."""

    def f(scale):
        return jnp.sum(jnp.sin(OPERATORS[name](X, scale)))

    first, step = jax.jit(jax.grad(f)), 1e-6
    expected = (first(1.3 + step) - first(1.3 - step)) / (2 * step)
    assert abs(expected) > 1e-2
    for derivative in (jax.grad(first), jax.jacfwd(first), jax.jacfwd(jax.jacfwd(f))):
        np.testing.assert_allclose(jax.jit(derivative)(1.3), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("terms", [("dilation", "erosion"), ("shock",)])
def test_layers_have_hessian_vector_products(terms):
    options = dict(kernel_size=(3, 3, 3), use_norm=False, param_dtype=jnp.float64)
    layer = nn.PDELayer(2, 2, terms, **options, rngs=nnx.Rngs(0))
    v = jax.random.normal(jax.random.key(1), X.shape)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(layer(x)))))
    step = 1e-6
    expected = (gradient(X + step * v) - gradient(X - step * v)) / (2 * step)
    found = jax.jvp(gradient, (X,), (v,))[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found).max() > 1e-2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_minus_infinity_is_the_zero_of_this_algebra(dtype):
    """Where a window holds nothing else, at a border too, that is the maximum."""
    point = jnp.full((7, 7, 1), -jnp.inf, dtype).at[3, 3].set(0)
    y = np.asarray(pde.dilation(point, jnp.ones(1), (3, 3)))[..., 0]
    inside = np.zeros((7, 7), bool)
    inside[2:5, 2:5] = True
    assert np.all(np.isfinite(y) == inside) and np.all(y[~inside] == -np.inf)
    np.testing.assert_array_equal(pde.erosion(-point, jnp.ones(1), (3, 3))[..., 0], -y)


@pytest.mark.parametrize("alpha", [0.502, 0.501, 0.5001, 0.500001])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_gradients_are_numbers_near_one_half(alpha, dtype):
    x, metric = X.astype(dtype), METRIC.astype(dtype)
    found = jax.grad(lambda m: jnp.sum(pde.dilation(x, m, (5, 3, 3), alpha)))(metric)
    assert np.all(np.isfinite(found))
