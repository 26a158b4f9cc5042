"""What a program holds: layers of the same shapes share their constants."""

import re

import jax
import jax.numpy as jnp
import pytest

import pdo_jax as pdo


def constants(orientations, algorithm):
    """Return how many bases are in the program of a gradient through layers in a row."""
    bases = [pdo.filter_basis("p4", orientation=angle, scheme="gaussian") for angle in orientations]
    shape = jax.ShapeDtypeStruct((9, 4, 2, 2), jnp.float32)
    x = jax.ShapeDtypeStruct((1, 5, 5, 4, 2), jnp.float32)

    def loss(weights, x):
        for w, basis in zip(weights, bases, strict=True):
            x = jnp.sin(pdo.group_conv(x, w, basis, algorithm=algorithm))
        return jnp.sum(x)

    text = jax.jit(jax.grad(loss)).lower([shape] * len(bases), x).as_text()
    # The basis as numbers, written in hexadecimal; those of the transposed map are a second array.
    return len(re.findall(r'stablehlo.constant dense<"0x\w{1000,}">', text))


@pytest.mark.parametrize("algorithm", ["direct", pytest.param("stencils", marks=pytest.mark.slow)])
def test_equal_layers_share_their_constants(algorithm):
    one = constants([0.1], algorithm)
    assert one > 0
    assert constants([0.1, 0.1, 0.1], algorithm) == one
    assert constants([0.1, 0.2], algorithm) == 2 * one
