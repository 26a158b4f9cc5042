"""The max-plus convolution in Triton: interpreted against NumPy, and lowered for CUDA."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdo_jax.pde import morphology, pallas, windows
from pdo_jax.pde.windows import Shape


def padded(rng, shape, size, dtype):
    """Return a padded field of small whole numbers, among which there are many ties."""
    x = rng.integers(-1, 2, (*size, shape.orientations, shape.channels))
    return windows.pad(jnp.asarray(x, dtype), shape, float(jnp.finfo(dtype).min))


def differences(padded, kernel, shape):
    """Return what each tap gives, in float64, the first axis that of the taps."""
    x, k = (np.asarray(a).astype(np.float64) for a in (padded, kernel))
    height, width = (n - m + 1 for n, m in zip(x.shape[1:3], shape.window[:2], strict=True))
    lanes = np.arange(shape.lanes)
    return np.stack(
        [
            x[:, i : i + height, j : j + width, turn * shape.channels + lanes] - k[i, j, turn]
            for i, j, turn in np.ndindex(*shape.window)
        ]
    )


@pytest.mark.parametrize(
    ("window", "orientations", "channels", "size", "dtype"),
    [
        ((5, 1, 3), 8, 3, (2, 5, 7), "float32"),  # lanes and pixels that no block divides
        ((3, 3, 1), 3, 1, (1, 1, 40), "float64"),
        ((1, 3, 1), 1, 33, (2, 9, 4), "bfloat16"),
        ((129, 1, 3), 4, 2, (1, 3, 3), "float32"),  # numbers of taps above 255
    ],
)
def test_maximum_and_first_winner(window, orientations, channels, size, dtype):
    shape, rng = Shape(window, orientations, channels), np.random.default_rng(0)
    x = padded(rng, shape, size, dtype)
    # Halves: their differences are exact in every dtype, and so ties are ties.
    kernel = jnp.asarray(rng.integers(0, 3, (*window, shape.lanes)) / 2, jnp.float32)
    y, winner = jax.jit(lambda x, k: pallas.max_plus(x, k, shape, interpret=True))(x, kernel)
    values = differences(x, kernel, shape)
    maximum = np.max(values, axis=0)
    assert np.mean(np.sum(values == maximum, axis=0) > 1) > 0.1
    assert y.shape == winner.shape == (*size, shape.lanes)
    assert y.dtype == dtype and winner.dtype == shape.tap_dtype
    np.testing.assert_array_equal(np.asarray(y).astype(np.float64), maximum)
    np.testing.assert_array_equal(winner, np.argmax(values, axis=0))


def test_differences_are_taken_in_float32():
    """1 - 2^-10 is no bfloat16: rounded before they are compared, both taps would tie."""
    shape = Shape((1, 3, 1), 1, 1)
    x = jnp.ones((1, 1, 3, 1), jnp.bfloat16)
    kernel = jnp.array([2.0, 2.0**-10, 0.0], jnp.float32).reshape(1, 3, 1, 1)
    y, winner = pallas.max_plus(x, kernel, shape, interpret=True)
    assert (y.item(), winner.item()) == (1, 2)


def test_a_nan_goes_on():
    shape = Shape((1, 3, 1), 1, 1)
    x = np.array([1.0, 2.0, np.nan, 4.0, 3.0, 2.0, 1.0], np.float32).reshape(1, 1, -1, 1)
    with jax.debug_nans(False):
        y, winner = pallas.max_plus(jnp.asarray(x), jnp.zeros((1, 3, 1, 1)), shape, interpret=True)
    assert np.isnan(np.asarray(y)[0, 0, :, 0]).tolist() == [True, True, True, False, False]
    assert winner[0, 0, :, 0].tolist() == [2, 1, 0, 0, 0]


def on_cuda():
    """Let JAX lower for a GPU where there is none: later versions ask what kind it is."""
    if jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice("NVIDIA H200", num_cores=None, platform="gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_lowers_to_triton(dtype):
    shape = Shape((5, 5, 5), 8, 12)
    x = jax.ShapeDtypeStruct((4, 32, 32, 144), dtype)
    kernel = jax.ShapeDtypeStruct((5, 5, 5, 96), "float32")
    with on_cuda():
        traced = jax.jit(lambda x, k: pallas.max_plus(x, k, shape)).trace(x, kernel)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "__gpu$xla.gpu.triton" in text


def lowered(function, *shapes):
    with on_cuda():
        traced = jax.jit(function).trace(*(jax.ShapeDtypeStruct(s, "float32") for s in shapes))
        return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_only_the_algorithm_pallas_is_triton():
    shapes = (2, 5, 7, 4, 3), (4, 3, 3, 3, 3)

    def slope(algorithm):
        def loss(x, kernel):
            return jnp.sum(morphology.morphological_conv(x, kernel, algorithm=algorithm))

        return jax.grad(loss, (0, 1))

    assert lowered(slope("pallas"), *shapes).count("__gpu$xla.gpu.triton") == 1
    assert "triton" not in lowered(slope("xla"), *shapes)


def test_pallas_is_the_loop_elsewhere():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 4, 3, 2)), rng.normal(size=(3, 1, 3, 1, 2))
    y = morphology.morphological_conv(x, kernel, algorithm="pallas")
    np.testing.assert_array_equal(y, morphology.morphological_conv(x, kernel))
