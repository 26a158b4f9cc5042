"""What holds for every pair of primitives: derivatives of every order, vmap, 16 bits, devices."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from tests.test_harmonic import FEW_TAPS, arguments, gradients, group_conv
from tests.test_stencil_conv import QUICK, error, normal

algorithms = pytest.mark.parametrize(
    "algorithm", ["stencils", pytest.param("harmonic", marks=pytest.mark.slow)]
)


@algorithms
def test_second_derivatives_in_either_mode(algorithm):
    B = pdo.filter_basis("p3", **FEW_TAPS)
    x, w = normal(1, 3, 2, 3, 1), normal(3, 3, 1, 1, seed=1)
    v = normal(*x.shape, seed=2), normal(*w.shape, seed=3)

    def run(algorithm):
        def slopes(x, w):
            loss = lambda x, w: jnp.sum(jnp.sin(pdo.group_conv(x, w, B, algorithm=algorithm)))  # noqa: E731
            return jax.grad(loss, (0, 1))(x, w)

        def along(x, w):
            return sum(jnp.vdot(a, b) for a, b in zip(slopes(x, w), v, strict=True))

        return *jax.jvp(slopes, (x, w), v)[1], *jax.grad(along, (0, 1))(x, w)

    exact, found = (
        jax.jit(lambda a=a: run(a), compiler_options=QUICK)() for a in ("direct", algorithm)
    )
    for a, b in zip(found, exact, strict=True):
        assert error(a, b) < 1e-12


@algorithms
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (2, -1)], ids=str)
def test_vmap_of_gradients_is_a_loop(algorithm, axes):
    B = pdo.filter_basis("p3", **FEW_TAPS)
    xs, ws = normal(3, 2, 4, 5, 3, 2), normal(3, 3, 3, 2, 1, seed=1)
    cotangent = normal(2, 4, 5, 3, 1, seed=2)
    run = gradients(group_conv(B), algorithm)
    expected = [run(xs[b if axes[0] is not None else 0], ws[b if axes[1] is not None else 0],
                    cotangent) for b in range(3)]  # fmt: skip
    x = xs[0] if axes[0] is None else np.moveaxis(xs, 0, axes[0])
    w = ws[0] if axes[1] is None else np.moveaxis(ws, 0, axes[1])
    mapped = jax.vmap(run, in_axes=(*axes, None))(x, w, cotangent)
    for a, *b in zip(mapped, *expected, strict=True):
        assert error(a, np.stack(b)) < 1e-12


@algorithms
def test_half_precision_sums_in_float32(algorithm):
    B = pdo.filter_basis("p4", operators="total", orientation=0.3)
    given = arguments(group_conv(B), B, (6, 6), channels=(32, 2))
    given = [jnp.asarray(a, "bfloat16") for a in given]
    results = gradients(group_conv(B), algorithm)(*given)
    exact = gradients(group_conv(B), "direct")(*(a.astype("float64") for a in given))
    for a, b in zip(results, exact, strict=True):
        assert a.dtype == jnp.bfloat16
        assert error(a, b) < 6e-3  # rounded once before the products, and once after


@pytest.mark.slow
def test_calls_without_jit():
    B = pdo.filter_basis("p4", operators="total")
    x, w, metric = normal(1, 4, 4, 4, 1), normal(6, 4, 1, 1, seed=1), jnp.ones((1, 3))
    calls = [
        *(partial(pdo.group_conv, x, w, B, algorithm=a) for a in ("stencils", "harmonic")),
        partial(pdo.pde.dilation, x, metric, (3, 3, 3)),
        partial(pdo.pde.diffusion, x, metric, (3, 3, 3)),
        partial(pdo.pde.convection, x, metric),
    ]
    for call in calls:
        y = call()
        with jax.disable_jit():
            assert error(call(), y) < 1e-12


SHARDED = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import pdo_jax as pdo
from pdo_jax import harmonic_conv, stencil_conv
stencil_conv.SLICE_BYTES = 1 << 14
harmonic_conv.BLOCK_BYTES = 1 << 13
assert len(jax.devices()) == 4
B = pdo.filter_basis("p3", operators="total", order=1)
x = jax.random.normal(jax.random.key(0), (16, 6, 6, 3, 2))
w = jax.random.normal(jax.random.key(1), (3, 3, 2, 2))
def run(x, w):
    loss = lambda x, w: jnp.sum(jnp.sin(pdo.group_conv(x, w, B, algorithm=sys.argv[1])))
    return jax.value_and_grad(loss, (0, 1))(x, w)
mesh = Mesh(np.array(jax.devices()), ("data",))
split = jax.device_put(x, NamedSharding(mesh, P("data")))
whole, parts = jax.jit(run)(x, w), jax.jit(run)(split, jax.device_put(w, NamedSharding(mesh, P())))
for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["stencils", "harmonic"])
def test_a_batch_over_several_devices(algorithm):
    flags = "--xla_force_host_platform_device_count=4"
    command = [sys.executable, "-c", SHARDED, algorithm]
    subprocess.run(command, env={"XLA_FLAGS": flags}, check=True)


MAPPED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
import pdo_jax as pdo
from pdo_jax import harmonic_conv, stencil_conv
stencil_conv.SLICE_BYTES = harmonic_conv.BLOCK_BYTES = 1 << 13
B = pdo.filter_basis("p4", operators="total", order=1)
key = jax.random.key
x, w = jax.random.normal(key(0), (8, 6, 6, 4, 2)), jax.random.normal(key(1), (3, 4, 2, 2))
metric = 0.5 + jax.random.uniform(key(2), (2, 3))
def conv(algorithm):
    return lambda x, w: pdo.group_conv(x, w, B, algorithm=algorithm)
cases = [
    (conv("stencils"), w),
    (conv("harmonic"), w),
    (lambda x, m: pdo.pde.dilation(x, m, (3, 3, 3)), metric),
    (lambda x, m: pdo.pde.diffusion(x, m, (3, 3, 3)), metric),
    (pdo.pde.convection, metric),
]
mesh = Mesh(np.array(jax.devices()), ("data",))
for fn, weights in cases:
    loss = lambda *args: jnp.sum(jnp.sin(fn(*args)))
    def local(*args):
        return fn(*args), *jax.grad(loss, (0, 1))(*args)
    outputs = P("data"), P("data"), P()
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(P("data"), P()), out_specs=outputs)
    for a, b in zip(jax.jit(mapped)(x, weights), jax.jit(local)(x, weights)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.slow
def test_a_map_over_several_devices():  # its gradients are summed over them
    flags = "--xla_force_host_platform_device_count=2"
    subprocess.run([sys.executable, "-c", MAPPED], env={"XLA_FLAGS": flags}, check=True)
