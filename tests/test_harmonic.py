"""The convolution after a Fourier transform over the group, against the one by kernels.

Equal outputs and gradients over groups and geometries; then what is new: the harmonics themselves,
the blocks of the line of pixels, free batches, memory.
"""

import jax
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax import harmonic, harmonic_conv
from pdo_jax.span import span
from tests.test_stencil_conv import QUICK, error, normal

CYCLIC = tuple(f"p{n}" for n in range(1, 17))
DIHEDRAL = ("p1m", "p2m", "p3m", "p4m", "p6m", "p8m")
SPACE = ("T", "O", "Oh")
FEW_TAPS = dict(operators="total", order=1, orientation=0.3)  # all turns that there are: 0 and 1


def gradients(call, algorithm):
    """Return a compiled function with the output of a convolution and both its gradients."""

    def run(x, w, cotangent):
        y, back = jax.vjp(lambda x, w: call(x, w, algorithm=algorithm), x, w)
        return y, *back(cotangent)

    return jax.jit(run, compiler_options=QUICK)


def group_conv(basis, **options):
    """Return a group convolution as a function of x, w and the algorithm."""
    return lambda x, w, algorithm: pdo.group_conv(x, w, basis, **options, algorithm=algorithm)


def arguments(call, basis, space, lead=(2,), channels=(1, 2)):
    """Return x, w and a cotangent of a convolution of fields."""
    order = basis.group.order
    x = normal(*lead, *space, order, channels[0])
    w = normal(basis.num_operators, order, *channels, seed=1)
    shape = jax.eval_shape(lambda x, w: call(x, w, algorithm="direct"), x, w).shape
    return x, w, normal(*shape, seed=2)


def check(call, basis, space, lead=(2,), dtypes=("float64",)):
    """Hold output and gradients against those of the dense convolution in float64."""
    given = arguments(call, basis, space, lead)
    exact, compiled = gradients(call, "direct")(*given), gradients(call, "harmonic")
    for dtype in dtypes:
        results = compiled(*(a.astype(dtype) for a in given))
        for a, b in zip(results, exact, strict=True):
            assert a.dtype == dtype
            assert error(a, b) < {"float64": 1e-12, "float32": 2e-5}[dtype]


# ---------------------------------------------------------------- the same function


@pytest.mark.slow
@pytest.mark.parametrize("group", (*CYCLIC, *DIHEDRAL, *SPACE))
def test_every_group(group):
    # Few operators compile in a quarter of the time; the published ones turn by more.
    box = group in ("p2", "p5", "p8", "p4m")
    B = pdo.filter_basis(group, operators="box" if box else "total")
    short = ("float32",) if box or group in ("p3", "p16", "O") else ()
    check(group_conv(B), B, (3, 4, 2)[: B.group.ndim], dtypes=("float64", *short))


# group, size of the image, options
GEOMETRIES = {
    "SAME": ("p4", (5, 4), {}),
    "VALID": ("p4", (4, 6), dict(padding="VALID")),
    "CIRCULAR": ("p3", (5, 6), dict(padding="CIRCULAR")),
    "REFLECT": ("p4", (4, 6), dict(padding="REFLECT")),
    "pixels": ("p4", (4, 3), dict(padding=2)),
    "pixels beyond the stencil": ("p4", (3, 4), dict(padding=4)),
    "pairs": ("p3", (6, 5), dict(padding=[(0, 3), (1, 0)])),
    "dilation": ("p4", (5, 6), dict(kernel_dilation=(1, 2))),
    "dilation, CIRCULAR": ("p4", (5, 6), dict(kernel_dilation=2, padding="CIRCULAR")),
    "stride": ("p4", (5, 6), dict(strides=2)),
    "strides": ("p3", (7, 5), dict(strides=(3, 1), padding="VALID")),
    "stride, dilation": ("p4", (6, 7), dict(strides=2, kernel_dilation=2, padding=[(1, 2), 0])),
    "stride, REFLECT": ("p4", (5, 4), dict(strides=(1, 2), padding="REFLECT")),
    "stride beyond the image": ("p4", (3, 4), dict(strides=7)),
    "mirrors, stride": ("p4m", (3, 4), dict(strides=(2, 1))),
    "volume, stride": ("O", (3, 2, 3), dict(strides=(1, 1, 2))),
    "one pixel": ("p4", (1, 1), {}),
    "one row": ("p4", (1, 6), {}),
    "a wide stencil on few pixels": ("p4", (2, 1), dict(kernel_dilation=3)),
    "up": ("p4", (3, 4), dict(up=2)),
    "up, VALID": ("p3", (3, 2), dict(up=(3, 1), padding="VALID")),
    "up, dilation": ("p4", (3, 4), dict(up=3, kernel_dilation=2)),
    "up, pairs": ("p4", (3, 4), dict(up=2, padding=[(0, 2), 3])),
    "mirrors, up": ("p3m", (3, 2), dict(up=(1, 2))),
}  # fmt: skip
FAST = "mirrors, stride"


@pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != FAST)) for n in GEOMETRIES]
)
def test_every_geometry(name):
    group, space, options = GEOMETRIES[name]
    B = pdo.filter_basis(group, **FEW_TAPS | dict(orientation=0))
    up, options = options.get("up"), {k: v for k, v in options.items() if k != "up"}

    def call(x, w, algorithm):
        if up is None:
            return pdo.group_conv(x, w, B, **options, algorithm=algorithm)
        return pdo.group_conv_transpose(x, w, B, up, **options, algorithm=algorithm)

    check(call, B, space)


@pytest.mark.slow
@pytest.mark.parametrize("lead", [(), (0,), (2, 1, 2)], ids=str)
def test_leading_axes(lead):
    B = pdo.filter_basis("p3", **FEW_TAPS)
    if lead != (0,):
        check(group_conv(B), B, (3, 4), lead)
        return
    results = gradients(group_conv(B), "harmonic")(*arguments(group_conv(B), B, (3, 4), lead))
    assert [r.size for r in results] == [0, 0, 3 * 3 * 1 * 2]
    assert not np.any(results[2])


def test_images_have_no_frequencies():
    """On images "harmonic" is one of the other two."""
    B = pdo.filter_basis("p4", **FEW_TAPS)
    x, w = normal(1, 4, 5, 1), normal(3, 1, 2, seed=1)

    for other, options in (("stencils", {}), ("direct", dict(strides=(1, 4)))):
        calls = [
            lambda x, w, a=a: pdo.lift_conv(x, w, B, **options, algorithm=a)  # noqa: B023
            for a in ("harmonic", other)
        ]
        one, same = (str(jax.make_jaxpr(call)(x, w)) for call in calls)
        assert one == same


# ---------------------------------------------------------------- harmonics


@pytest.mark.parametrize("group", ("p1", "p5", "p8", "p1m", "p3m", "p8m", *SPACE))
def test_rotations_are_a_largest_cyclic_subgroup(group):
    G = pdo.group(group)
    elements, between = harmonic.rotations(G)
    assert sorted(elements.ravel()) == list(range(G.order))
    matrices = G.matrices[elements]  # (cosets, n)
    np.testing.assert_allclose(np.linalg.det(matrices[0]), 1)
    generator = matrices[0, 1 % elements.shape[1]]
    for a, matrix in enumerate(matrices[0]):
        np.testing.assert_allclose(matrix, np.linalg.matrix_power(generator, a), atol=1e-12)
    np.testing.assert_allclose(matrices, matrices[:1] @ matrices[:, :1], atol=1e-12)
    # No element has a larger order: none of its powers up to n is the identity.
    proper = G.matrices[np.linalg.det(G.matrices) > 0]
    powers = [np.linalg.matrix_power(proper, a + 1) for a in range(elements.shape[1])]
    returned = np.abs(np.array(powers) - np.eye(G.ndim)).max((-1, -2)) < 1e-9
    assert returned.any(axis=0).all()
    # r_e^-1 c^t r_d
    middle = np.einsum("eji,dtjk->etdik", matrices[:, 0], matrices)
    np.testing.assert_allclose(G.matrices[between], middle, atol=1e-12)


BASES = {
    "p8": ("p8", {}),
    "p8, published": ("p8", dict(orientation=np.pi / 8)),
    "p4": ("p4", {}),
    "p5, accuracy 4": ("p5", dict(accuracy=4)),
    "p7": ("p7", dict(operators="total", scheme="optimal")),
    "p16": ("p16", dict(orientation=0.1)),
    "p6m": ("p6m", dict(orientation=0.3)),
    "p1m": ("p1m", {}),
    "p8m, gaussian": ("p8m", dict(scheme="gaussian")),
    "O": ("O", dict(operators="total")),
}


@pytest.mark.parametrize(("group", "options"), BASES.values(), ids=BASES)
def test_harmonics_span_the_basis(group, options):
    B = pdo.filter_basis(group, **options)
    stencils, table = harmonic.harmonics(B)
    elements = harmonic.rotations(B.group).elements
    order = elements.shape[1]
    found = np.zeros_like(B.values[elements])  # (cosets, n, M, k, k)
    parts = []
    for (s, stencil), row in zip(stencils, table, strict=True):
        turned = np.exp(2j * np.pi * s * np.arange(order) / order)
        times = 1 if 2 * s % order == 0 else 2
        assert np.isrealobj(stencil) == (times == 1)
        product = times * np.real(np.multiply.outer(np.einsum("em,a->eam", row, turned), stencil))
        parts.append(product)
        found += product
    scale = np.abs(B.values).max()
    np.testing.assert_allclose(found, B.values[elements], atol=1e-13 * scale)
    # The control: none of them can be left out.
    assert min(np.abs(part).max() for part in parts) > 1e-2 * scale
    # There are as many, counted with their conjugates, as the filters have dimensions.
    filters = B.values.reshape(B.group.order * B.num_operators, -1)
    rank = np.linalg.matrix_rank(filters, tol=1e-9 * np.abs(filters).max())
    assert sum(1 + np.iscomplexobj(stencil) for _, stencil in stencils) == rank
    assert max(np.abs(stencil).max() for _, stencil in stencils) < 2  # no digits are lost


def test_how_few_harmonics_there_are():
    published = pdo.filter_basis("p8", orientation=np.pi / 8)
    stencils, _ = harmonic.harmonics(published)
    assert [s for s, _ in stencils] == [0, 0, 0, 1, 1, 2, 3, 4]  # 12 real ones, as many as `span`'s
    assert len(span(published)[0]) == 12
    taps = [np.count_nonzero(np.real(d)) + np.count_nonzero(np.imag(d)) for _, d in stencils]
    assert harmonic.taps(published) == sum(taps)


# ---------------------------------------------------------------- blocks


@pytest.mark.slow
def test_blocks_of_the_line_are_the_line(monkeypatch):
    B = pdo.filter_basis("p4", **FEW_TAPS)
    call = group_conv(B, strides=(1, 2))
    given = arguments(call, B, (6, 9), lead=(8,))
    whole = gradients(call, "harmonic")(*given)
    monkeypatch.setattr(harmonic_conv, "BLOCK_BYTES", 0)  # the smallest blocks that there are
    jax.clear_caches()
    run = gradients(call, "harmonic")
    assert run.lower(*given).as_text().count("stablehlo.while") == 3
    for a, b in zip(run(*given), whole, strict=True):
        assert error(a, b) < 1e-12
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.parametrize("bytes_", [0, 2**40], ids=["blocks", "whole"])
def test_no_image_of_a_batch_reaches_another(monkeypatch, bytes_):
    monkeypatch.setattr(harmonic_conv, "BLOCK_BYTES", bytes_)
    jax.clear_caches()
    B = pdo.filter_basis("p3", **FEW_TAPS)
    call = group_conv(B, padding=[(0, 2), (2, 1)])
    x, w, cotangent = arguments(call, B, (4, 6), lead=(7,))
    run = gradients(call, "harmonic")
    y, dx, _ = run(x, w, cotangent)
    broken = np.arange(7) % 3 == 1
    x[broken] = cotangent[broken] = np.nan
    with jax.debug_nans(False):
        z, dz, _ = run(x, w, cotangent)
    for a, b in ((z, y), (dz, dx)):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_array_equal(a[~broken], b[~broken])
        assert np.isnan(a[broken]).any(axis=(1, 2, 3, 4)).all()
    jax.clear_caches()


# ---------------------------------------------------------------- transformations


@pytest.mark.slow
def test_a_free_batch_is_exported(tmp_path, unhooked):  # it is no int
    layer = pdo.nn.PDOConv(2, 1, "p3", **FEW_TAPS, algorithm="harmonic", rngs=nnx.Rngs(0))
    pdo.export.save(layer, tmp_path / "layer.pdo", (None, 4, 5, 3, 2), fold=False)
    program = pdo.export.load(tmp_path / "layer.pdo")
    layer.algorithm = "direct"
    for batch in (1, 3):
        x = normal(batch, 4, 5, 3, 2).astype("float32")
        assert error(program(x), layer(x)) < 2e-5


# ---------------------------------------------------------------- memory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "size", "fields"), [(16, 8, 45), (16, 16, 23), (32, 14, 7)], ids=str
)
def test_it_needs_less_memory_than_patches(batch, size, fields):
    """Forward and backward, against the patches of x that a dense product would be made with."""
    B = pdo.filter_basis("p8")
    x = jax.ShapeDtypeStruct((batch, size, size, 8, fields), "float32")
    w = jax.ShapeDtypeStruct((9, 8, fields, fields), "float32")
    run = gradients(group_conv(B), "harmonic").lower(x, w, x).compile()
    patches = B.size**2 * x.size * x.dtype.itemsize
    assert 0 < run.memory_analysis().temp_size_in_bytes < 1.5 * patches
