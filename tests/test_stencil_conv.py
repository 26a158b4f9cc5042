"""The convolution by stencils against the convolution by kernels, which has its own oracles.

Equal outputs and gradients over groups and schemes; then what is new: the stencils themselves, the
slices of a batch, and the tiles of large images.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from pdo_jax import stencil_conv
from pdo_jax.span import span

# LLVM's optimisations are not under test, and take half of the time to compile.
QUICK = dict(xla_backend_optimization_level=0, xla_llvm_disable_expensive_passes=True)


def normal(*shape, seed=0):
    """Draw float64 noise."""
    return np.random.default_rng(seed).normal(size=shape)


def error(a, b):
    """Relative difference of two arrays of one shape."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# options of the basis, size of the image, options of the convolution
CASES = {
    "p8": (("p8",), dict(orientation=np.pi / 8), (6, 7), dict(padding=1)),
    "p4": (("p4",), {}, (4, 5), {}),
    "p6m": (("p6m",), {}, (6, 5), dict(padding=[(0, 3), 2])),
    "p5, gaussian": (("p5",), dict(scheme="gaussian"), (5, 5), dict(padding="CIRCULAR")),
    "p8, rbf-fd": (("p8",), dict(scheme="rbf-fd"), (6, 6), dict(kernel_dilation=(1, 2))),
    "p3, optimal": (("p3",), dict(scheme="optimal", operators="total"), (5, 6),
                    dict(padding="CIRCULAR")),
    "p8, accuracy 4": (("p8",), dict(accuracy=4, order=1), (8, 7), dict(padding="VALID")),
    "O": (("O",), dict(operators="total"), (3, 4, 3), {}),
}  # fmt: skip
SLOW = ("p5, gaussian", "p8, rbf-fd", "p8, accuracy 4")  # many taps: seconds to compile
cases = pytest.mark.parametrize(
    ("group", "basis", "space", "options"), CASES.values(), ids=CASES.keys()
)


def gradients(call, cotangent):
    """Return a compiled function with the output of a bilinear map and both its gradients."""

    def run(x, w):
        y, back = jax.vjp(call, x, w)
        return y, *back(cotangent.astype(y.dtype))

    return jax.jit(run, compiler_options=QUICK)


@pytest.mark.parametrize(
    ("case", "lift"),
    [
        *(pytest.param(case, False, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES),
        ("O", True),
    ],
)
def test_stencils_are_the_kernels(case, lift):
    group, basis, space, options = CASES[case]
    B = pdo.filter_basis(*group, **basis)
    function, copies = (pdo.lift_conv, ()) if lift else (pdo.group_conv, (B.group.order,))
    x, w = normal(2, *space, *copies, 1), normal(B.num_operators, *copies, 1, 2, seed=1)

    def run(algorithm):
        def call(x, w):
            return function(x, w, B, **options, algorithm=algorithm)

        shape = jax.eval_shape(call, x, w).shape
        return gradients(call, jnp.asarray(normal(*shape, seed=2)))

    exact, compiled = run("direct")(x, w), run("stencils")
    tolerances = {"float64": 1e-12, "float32": 2e-5}
    for dtype in tolerances if case == "p8" else ("float64",):
        results = compiled(x.astype(dtype), w.astype(dtype))
        for a, b in zip(results, exact, strict=True):
            assert a.dtype == dtype and a.shape == b.shape
            assert error(a, b) < tolerances[dtype]


@cases
def test_the_stencils_span_the_basis(group, basis, space, options):
    B = pdo.filter_basis(*group, **basis)
    stencils, coefficients = span(B)
    filters = B.values.reshape(B.group.order * B.num_operators, -1)
    assert len(stencils) == np.linalg.matrix_rank(filters, tol=1e-9 * np.abs(filters).max())
    product = np.tensordot(coefficients, stencils, axes=1)
    scale = np.abs(B.values).max()
    np.testing.assert_allclose(product, B.values, atol=1e-13 * scale)
    assert np.abs(stencils).max() < 2  # combining them loses no digits
    # The control: one fewer does not do.
    fewer = np.tensordot(coefficients[..., 1:], stencils[1:], axes=1)
    assert np.abs(fewer - B.values).max() > 1e-2 * scale


def test_how_few_stencils_there_are():
    published = pdo.filter_basis("p8", orientation=np.pi / 8)
    assert len(span(published)[0]) == 12  # of 25 taps
    assert np.count_nonzero(span(published)[0]) == 29
    assert len(span(pdo.filter_basis("p4"))[0]) == 9  # the taps themselves
    np.testing.assert_array_equal(
        np.sort(span(pdo.filter_basis("p4"))[0].reshape(9, 9), axis=0)[-1], 1
    )


SLICED = {
    "p4": ("p4", (5, 5), (1, 2), {}),
    "fewer channels": ("p4", (5, 7), (2, 1), dict(padding=[(0, 3), 2], kernel_dilation=(1, 2))),
    "many more": ("p4", (6, 4), (1, 3), dict(padding="VALID")),
    "O": ("O", (3, 4, 2), (1, 1), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("group", "space", "channels", "options"), SLICED.values(), ids=SLICED)
def test_a_batch_in_slices_is_the_batch(monkeypatch, group, space, channels, options):
    B = pdo.filter_basis(group, operators="total")
    order = B.group.order
    x, w = normal(6, *space, order, channels[0]), normal(B.num_operators, order, *channels, seed=1)

    def call(x, w):
        return pdo.group_conv(x, w, B, **options, algorithm="stencils")

    cotangent = normal(*jax.eval_shape(call, x, w).shape, seed=2)
    pixels = np.prod(cotangent.shape[1:-2])
    image = len(span(B)[0]) * order * min(channels) * pixels * x.itemsize
    whole = gradients(call, cotangent)(x, w)
    # Tiles, some with zeros behind the last; slices of one image, and of three.
    for images in (1 / pixels, 0.3, 1, 4):
        monkeypatch.setattr(stencil_conv, "SLICE_BYTES", int(images * image))
        jax.clear_caches()
        for a, b in zip(gradients(call, cotangent)(x, w), whole, strict=True):
            assert error(a, b) < 1e-12
    text = gradients(call, cotangent).lower(x, w).as_text()
    assert text.count("stablehlo.while") >= 3  # or nothing above was sliced
    jax.clear_caches()


@pytest.mark.slow
def test_a_large_image_takes_no_patches(monkeypatch):
    B = pdo.filter_basis("p8")
    x = jax.ShapeDtypeStruct((1, 256, 256, 8, 2), jnp.float32)
    w = jax.ShapeDtypeStruct((B.num_operators, 8, 2, 2), jnp.float32)

    def copies_of_the_image():
        jax.clear_caches()

        def step(x, w, dy):
            return jax.vjp(lambda x, w: pdo.group_conv(x, w, B, algorithm="stencils"), x, w)[1](dy)

        compiled = jax.jit(step, compiler_options=QUICK).lower(x, w, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (x.size * x.dtype.itemsize)

    assert copies_of_the_image() < 4
    monkeypatch.setattr(stencil_conv, "SLICE_BYTES", 2**40)
    assert copies_of_the_image() > 12  # one for each stencil
    jax.clear_caches()
