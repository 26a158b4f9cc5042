"""Every layer of the list in `laws.py` against every law there."""

import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import pdo_jax as pdo
from pdo_jax import windows
from tests import laws

EXACT = tuple(name for name in laws.GROUPS if name not in ("p1", "p3"))  # more than the identity
LAYERS = {case.name: case for case in laws.CASES}


def ids(values):
    return "-".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)


def param(case, *values):
    marks = [pytest.mark.slow] if case.slow else []
    return pytest.param(case, *values, id=ids((case.name, *values)), marks=marks)


def pairings(groups, start):
    """Every case at every size, with groups and dtypes taken in turn: a covering set."""
    found = []
    for i, case in enumerate(laws.CASES):
        ring = [name for name in case.groups if name in groups]
        for j, size in enumerate(case.sizes):
            group = ring[(start * i + 3 * j) % len(ring)]
            dtype = ("float64", "bfloat16", "float64", "float32")[j % 4]
            found.append(param(case, group, dtype, size))
    return found


def once(start, groups=laws.GROUPS):
    """Every case once, with the groups taken in turn, at its first size."""
    found = []
    for i, case in enumerate(laws.CASES):
        ring = [name for name in case.groups if name in groups]
        group = ring[(i + start) % len(ring)]
        found.append(param(case, group, case.sizes[0]))
    return found


@pytest.mark.parametrize(("case", "group", "dtype", "size"), pairings(EXACT, 7))
def test_equivariant(case, group, dtype, size):
    laws.check_equivariant(case, group, dtype, size)


@pytest.mark.parametrize(
    "group",
    [pytest.param(g, marks=[pytest.mark.slow] * (g in ("O", "Oh"))) for g in EXACT],
)
@pytest.mark.parametrize("name", ["lift", "conv", "pointwise"])
def test_equivariant_to_every_group(name, group):
    size = (4, 5, 3)[: pdo.group(group).ndim]
    laws.check_equivariant(LAYERS[name], group, "float64", size)


@pytest.mark.parametrize(
    ("case", "group", "dtype", "size"),
    [
        param(case, group, dtype, size)
        for (case, group, size), dtype in zip(
            (p.values for p in once(4)), itertools.cycle(laws.DTYPES[:2])
        )
    ],
)
def test_dtype(case, group, dtype, size):
    laws.check_dtype(case, group, dtype, size)


@pytest.mark.parametrize(("case", "group", "size"), once(5))
def test_jit(case, group, size):
    laws.check_jit(case, group, "float64", size)


@pytest.mark.parametrize(("case", "group", "size"), once(1))
def test_gradients(case, group, size):
    laws.check_gradients(case, group, size)


@pytest.mark.parametrize(("case", "group", "size"), once(2))
def test_vmap(case, group, size):
    laws.check_vmap(case, group, size)


@pytest.mark.parametrize(("case", "group", "size"), once(3))
def test_leading_axes(case, group, size):
    laws.check_leading_axes(case, group, size)


@pytest.mark.parametrize(("case", "group", "size"), once(6))
def test_pickle(case, group, size):
    laws.check_pickle(case, group, size)


@pytest.mark.parametrize(("case", "group", "size"), once(8))
def test_tree(case, group, size):
    laws.check_tree(case, group, size)


def test_the_list_covers_groups_and_dtypes():
    used = [p.values for p in pairings(EXACT, 7)]
    assert {group for _, group, *_ in used} == set(EXACT)
    assert {dtype for *_, dtype, _ in used} == set(laws.DTYPES)
    for tests in (once(start) for start in (1, 2, 3, 4, 5, 6, 8)):
        assert {group for _, group, _ in (p.values for p in tests)} == set(laws.GROUPS)
    assert len(LAYERS) == len(laws.CASES)


# ------------------------------------------------------------------------------ kernel expansion

KINDS = {"lift": ((9, 2, 3), pdo.lift_kernel), "group": ((9, 4, 1, 2), pdo.group_kernel)}


@pytest.fixture(params=KINDS)
def expansion(request):
    """Free weights, and the linear map to kernels: a primitive of the library's own."""
    shape, expand = KINDS[request.param]
    B = pdo.filter_basis("p4", orientation=0.3)
    return jnp.asarray(np.random.default_rng(0).normal(size=shape)), lambda w: expand(w, B)


def test_expansion_is_its_formula():
    """kernel[..., h C + i, g C' + o] = sum_m basis[g, m] w[m, g^-1 h, i, o], in plain NumPy."""
    B = pdo.filter_basis("p3m", orientation=0.3)
    G = B.group
    w = np.random.default_rng(0).normal(size=(9, 6, 2, 3))
    kernel = np.zeros((5, 5, 6, 2, 6, 3))
    for g, h in np.ndindex(6, 6):
        (t,) = np.flatnonzero(G.product[g] == h)  # g t = h
        kernel[:, :, h, :, g, :] = np.einsum("mxy,mio->xyio", B.values[g], w[:, t])
    assert laws.distance(pdo.group_kernel(w, B), kernel.reshape(5, 5, 12, 18)) < 1e-14
    lifted = np.einsum("gmxy,mio->xyigo", B.values, w[:, 0]).reshape(5, 5, 2, 18)
    assert laws.distance(pdo.lift_kernel(w[:, 0], B), lifted) < 1e-14


def test_expansion_derivatives(expansion):
    w, expand = expansion
    check_grads(lambda w: jnp.tanh(expand(w)), (w,), 2, modes=("fwd", "rev"))
    value, tangent = jax.jvp(expand, (w,), (2 * w,))
    np.testing.assert_array_equal(tangent, expand(2 * w))
    np.testing.assert_array_equal(value, expand(w))


def test_expansion_has_its_transpose(expansion):
    """<K w, c> = <w, K^T c>, and the transpose of the transpose is the map itself."""
    w, expand = expansion
    transpose = jax.linear_transpose(expand, w)
    c = jnp.asarray(np.random.default_rng(1).normal(size=expand(w).shape))
    (back,) = transpose(c)
    assert laws.distance(jnp.vdot(w, back), jnp.vdot(expand(w), c)) < 1e-12
    (again,) = jax.linear_transpose(lambda c: transpose(c)[0], c)(w)
    assert laws.distance(again, expand(w)) < 1e-14
    assert laws.distance(jax.jit(jax.grad(lambda w: jnp.vdot(expand(w), c)))(w), back) < 1e-14


@pytest.mark.parametrize("axes", [(0, 0), (1, 2), (-1, 3), (2, 0)])
def test_expansion_maps(expansion, axes):
    w, expand = expansion
    source, target = axes
    many = jnp.stack([w, 2 * w, w**2], source)
    mapped = jax.vmap(expand, source, target)(many)
    loop = jnp.stack([expand(w), 2 * expand(w), expand(w**2)], target)
    assert laws.distance(mapped, loop) < 1e-14
    back = jax.vmap(lambda k: jax.linear_transpose(expand, w)(k)[0], target, source)(loop)
    ones = [jax.linear_transpose(expand, w)(k)[0] for k in jnp.moveaxis(loop, target, 0)]
    assert laws.distance(back, jnp.stack(ones, source)) < 1e-14


def test_expansion_maps_within_maps(expansion):
    w, expand = expansion
    many = jnp.stack([jnp.stack([w, 2 * w]), jnp.stack([w**2, -w]), jnp.stack([0 * w, w])])
    nested = jax.jit(jax.vmap(jax.vmap(expand, 0, 1), 0, 2))(many)
    assert laws.distance(nested[:, 1, 2], expand(many[2, 1])) < 1e-14
    assert laws.distance(nested[:, 0, 1], expand(many[1, 0])) < 1e-14


def test_expansion_has_a_hessian(expansion):
    """Of |K w|^2 / 2: the same matrix K^T K at every point, in all four orders of the modes."""
    w, expand = expansion

    def energy(flat):
        return jnp.sum(expand(flat.reshape(w.shape)) ** 2) / 2

    columns = jax.vmap(lambda e: expand(e.reshape(w.shape)).ravel())(jnp.eye(w.size))
    for outer in (jax.jacfwd, jax.jacrev):
        hessian = jax.jit(outer(jax.grad(energy)))(w.ravel())
        assert laws.distance(hessian, columns @ columns.T) < 1e-12


def test_expansion_is_traced_and_exported(expansion):
    w, expand = expansion
    assert "pdo_expand" in str(jax.make_jaxpr(expand)(w))
    exported = jax.export.export(jax.jit(expand))(jax.ShapeDtypeStruct(w.shape, w.dtype))
    np.testing.assert_array_equal(exported.call(w), jax.jit(expand)(w))


@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_expansion_keeps_the_dtype(expansion, dtype):
    w, expand = expansion
    kernel = expand(w.astype(dtype))
    assert kernel.dtype == dtype
    precise = expand(w.astype(dtype).astype("float64"))
    eps = float(jnp.finfo(dtype).eps)  # one rounding at the end, not one a term
    assert laws.distance(kernel, precise) <= 2 * max(eps, 1e-15)


# ------------------------------------------------------------------------------ negative controls


@pytest.mark.parametrize(
    ("case", "size"),
    [
        pytest.param(case, size, id=ids((case.name, size)))
        for case in laws.CASES
        for size in case.bad_sizes
    ],
)
def test_sizes_that_do_not_fit_warn_and_break_equivariance(case, size):
    windows._warn_once.cache_clear()
    apply, params = laws.pure(case, "p4", "float64")
    x = laws.sample(case, "p4", "float64", size)

    def run(x):
        return apply(params, x)

    with pytest.warns(pdo.EquivarianceWarning, match="are not exact; sizes that keep them exact"):
        error = laws.equivariance(jax.jit(run), x, "p4", case.input, case.output)
    assert error > 1e-3


def test_the_oracle_knows_the_quarter_turn():
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 4, 1))
    y = laws.move(x, pdo.group("p4"), 1, "field")
    np.testing.assert_array_equal(y, np.roll(np.rot90(x, 1, axes=(1, 2)), 1, axis=3))
    G = pdo.group("p4m")
    z = laws.move(x[..., 0], G, 4, "image")  # diag(1, -1): up becomes down
    np.testing.assert_array_equal(z, x[:, ::-1, :, :, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda x, w, B: jnp.cumsum(x, 1), id="cumsum"),
        pytest.param(
            lambda x, w, B: pdo.group_conv(x, w, B, padding=[(1, 2), (2, 1)])[:, 1:, :-1],
            id="asymmetric padding",
        ),
        pytest.param(
            lambda x, w, B: pdo.group_conv(x[..., B.group.inverse, :], w, B),
            id="weights of g^-1 h^-1",
        ),
        pytest.param(
            lambda x, w, B: pdo.group_conv(x[..., ::-1, :], w, B), id="group axis reversed"
        ),
        pytest.param(
            lambda x, w, B: jnp.swapaxes(
                pdo.group_conv(x, w, B).reshape(*x.shape[:3], w.shape[-1], -1), -1, -2
            ),
            id="channels before the group",
        ),
        pytest.param(
            lambda x, w, B: nnx.max_pool(x, (2, 2), padding="SAME"), id="Flax's bare pool"
        ),
    ],
)
def test_equivariance_finds_wrong_layers(wrong):
    B = pdo.filter_basis("p4m")
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 5, 8, 2)), rng.normal(size=(9, 8, 2, 2))
    right = laws.equivariance(lambda x: pdo.group_conv(x, w, B), x, "p4m", "field", "field")
    assert right < 1e-12
    assert laws.equivariance(lambda x: wrong(x, w, B), x, "p4m", "field", "field") > 1e-3


def test_dtype_law_finds_a_layer_that_promotes():
    make = laws.function(lambda x: x.astype(jnp.float32))
    case = laws.Case("promotes", make, "image", "image", channels=1)
    with pytest.raises(AssertionError):
        laws.check_dtype(case, "p4", "bfloat16", (3, 3))


def test_jit_law_finds_a_function_that_compiles_again():
    make = laws.function(lambda x: jax.jit(lambda y: y + 1)(x))
    case = laws.Case("recompiles", make, "image", "image", channels=1)
    with pytest.raises(AssertionError):
        laws.check_jit(case, "p4", "float64", (3, 3))


def test_gradient_law_finds_a_wrong_derivative():
    @jax.custom_jvp
    def square(x):
        return x**2

    square.defjvp(lambda x, t: (x[0] ** 2, x[0] * t[0]))
    case = laws.Case("wrong", laws.function(square), "image", "image", channels=1)
    with pytest.raises(AssertionError):
        laws.check_gradients(case, "p4", (3, 3))


def test_leading_axes_law_finds_a_function_that_mixes_examples():
    make = laws.function(lambda x: x - x.mean(0, keepdims=True))
    case = laws.Case("mixes", make, "image", "image", channels=1, leads=(1,))
    with pytest.raises(AssertionError):
        laws.check_leading_axes(case, "p4", (3, 3))


def test_tree_law_finds_a_module_that_grows():
    class Grows(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(jnp.ones(1, "float32"))

        def __call__(self, x):
            self.expanded = nnx.Param(jnp.ones(5))
            return x * self.kernel[...]

    case = laws.Case("grows", lambda group, dtype: Grows(), "image", "image", channels=1)
    with pytest.raises(AssertionError):
        laws.check_tree(case, "p4", (3, 3))
