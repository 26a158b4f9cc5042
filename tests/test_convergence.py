"""Orders of convergence: of every rotated operator against its analytic derivative, and of layers.

The mesh sizes stay above rounding: the fourth derivatives of accuracy 6 lose h^-4 of it.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo

MESHES = {
    2: (0.2, 0.14, 0.1, 0.07, 0.05),
    4: (0.3, 0.2, 0.15, 0.1),
    6: (0.3, 0.2, 0.15, 0.1, 0.075),
}


def slope(meshes, errors):
    """Least-squares slope of log error against log mesh, over the first axis of `errors`."""
    return np.polynomial.polynomial.polyfit(np.log(meshes), np.log(errors), 1)[1]


# ------------------------------------------------------------------------------ operators


def plane_waves(count=8):
    """Wave vectors in all directions, of length 1 to 1.5."""
    rng = np.random.default_rng(0)
    angles, lengths = rng.uniform(0, 2 * np.pi, count), rng.uniform(1.0, 1.5, count)
    return lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)


def samples(vectors, size, mesh):
    """Real and imaginary parts of exp(i k.x) about the origin: `(2 n, size, size, 1)`."""
    steps = mesh * (np.arange(size) - size // 2)
    x, y = np.meshgrid(steps, -steps)  # the first row is the highest
    waves = np.exp(1j * (vectors[:, 0, None, None] * x + vectors[:, 1, None, None] * y))
    return np.concatenate([waves.real, waves.imag])[..., None]


def exact(vectors, element, count, mirror=False, orientation=0.0):
    """All derivatives d_x^i d_y^j of exp(i k.x) at the origin, in a frame turned by an angle.

    Element 0 .. n-1 of p{n} is the angle 2 pi element / n; the derivative along a turned axis u is
    i k.u, whatever the order: no matrix of the library and no expansion takes part.
    """
    angle = 2 * math.pi * element / count
    if mirror:  # the element maps the direction t to angle - t
        along = angle - orientation
        across = angle - (orientation + math.pi / 2)
    else:
        along = angle + orientation
        across = along + math.pi / 2
    u = 1j * (vectors @ [math.cos(along), math.sin(along)])
    v = 1j * (vectors @ [math.cos(across), math.sin(across)])
    pairs = [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (2, 1), (1, 2), (2, 2)]
    return np.stack([u**i * v**j for i, j in pairs], -1)


@functools.cache
def operator_errors(group, accuracy, orientation=0.0, assumed=0.0):
    """`(meshes, |G|, 8)` errors of the eight non-constant operators, for every element."""
    B = pdo.filter_basis(group, accuracy=accuracy, orientation=orientation)
    vectors, n = plane_waves(), int(group.strip("pm"))
    expected = np.stack(
        [exact(vectors, g % n, n, g >= n, assumed) for g in range(B.group.order)], 1
    )
    errors = []
    for mesh in MESHES[accuracy]:
        weights = B.weights(np.eye(9)[:, None, 1:], mesh)  # one operator an output channel
        patches = jnp.asarray(samples(vectors, B.size, mesh))
        y = np.asarray(pdo.lift_conv(patches, weights, B, padding="VALID"))[:, 0, 0]
        y = y[: len(vectors)] + 1j * y[len(vectors) :]
        errors.append(np.sqrt(np.mean(np.abs(y - expected) ** 2, axis=0)))
    return np.array(errors)


@pytest.mark.parametrize("accuracy", [2, 4, 6])
@pytest.mark.parametrize("group", ["p7", "p8"])
def test_every_operator_of_every_element_has_its_order(group, accuracy):
    errors = operator_errors(group, accuracy)
    assert errors.shape == (len(MESHES[accuracy]), int(group[1:]), 8)
    slopes = slope(MESHES[accuracy], errors.reshape(len(errors), -1))
    np.testing.assert_allclose(slopes, accuracy, rtol=0, atol=0.1)


@pytest.mark.parametrize(("group", "orientation"), [("p3m", 0.3), ("p8m", 0.0), ("p12", np.pi / 8)])
def test_operators_of_mirrors_and_in_turned_frames(group, orientation):
    slopes = slope(MESHES[2], operator_errors(group, 2, orientation, orientation).reshape(5, -1))
    np.testing.assert_allclose(slopes, 2, rtol=0, atol=0.1)


def test_operators_in_the_wrong_frame_do_not_converge():
    errors = operator_errors("p8", 2, 0.0, 0.05)
    assert errors[-1].min() > 0.01
    assert np.all(np.abs(slope(MESHES[2], errors.reshape(5, -1))) < 0.5)


# ------------------------------------------------------------------------------ layers


def lifting(basis, mesh_of_weights=None):
    """A lifting layer whose operator is fixed in physical units, or whose weights are in pixels."""
    c = np.random.default_rng(1).normal(size=(9, 1, 2))
    apply = jax.jit(lambda x, weights: pdo.lift_conv(x, weights, basis, padding="VALID"))
    return lambda x, mesh: apply(x, basis.weights(c, mesh_of_weights or mesh))


def convolving(basis):
    order = basis.group.order
    c = np.random.default_rng(1).normal(size=(9, order, 1, 2)) / order
    apply = jax.jit(lambda x, weights: pdo.group_conv(x, weights, basis, padding="VALID"))
    return lambda x, mesh: apply(x, basis.weights(c, mesh))


@pytest.mark.parametrize("accuracy", [2, 4, 6])
@pytest.mark.parametrize("group", ["p7", "p8", "p8m", "p16"])
def test_lift_layer(group, accuracy):
    B = pdo.filter_basis(group, accuracy=accuracy)
    order = pdo.convergence_order(lifting(B), group, size=B.size, meshes=MESHES[accuracy])
    assert order == pytest.approx(accuracy, abs=0.1)


SLOW = [pytest.param(group, 2, marks=pytest.mark.slow) for group in ("p7", "p8m", "p16")]


@pytest.mark.parametrize(("group", "accuracy"), [("p8", 2), ("p8", 4), ("p8", 6), *SLOW])
def test_group_convolution(group, accuracy):
    B = pdo.filter_basis(group, accuracy=accuracy)
    order = pdo.convergence_order(
        convolving(B), group, size=B.size, input_kind="field", meshes=MESHES[accuracy]
    )
    assert order == pytest.approx(accuracy, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["p3", "p6", "p12", "p3m", "p6m"])
@pytest.mark.parametrize("orientation", [0.0, 0.3, np.pi / 8])
def test_lift_layer_in_turned_frames(group, orientation):
    B = pdo.filter_basis(group, orientation=orientation)
    order = pdo.convergence_order(lifting(B), group, size=B.size, meshes=(0.2, 0.1, 0.05))
    assert order == pytest.approx(2, abs=0.1)


def test_total_operators():
    B = pdo.filter_basis("p8", operators="total")
    c = np.random.default_rng(1).normal(size=(6, 1, 2))
    order = pdo.convergence_order(
        lambda x, mesh: pdo.lift_conv(x, B.weights(c, mesh), B), "p8", size=B.size
    )
    assert order == pytest.approx(2, abs=0.1)


def test_weights_fixed_in_pixels_have_another_order():
    """The trap: in pixels the operator itself changes with the mesh, and the error falls as h^3."""
    B = pdo.filter_basis("p8")
    order = pdo.convergence_order(lifting(B, mesh_of_weights=1.0), "p8", size=B.size)
    assert order == pytest.approx(3, abs=0.2)


def test_two_layers_with_a_smooth_activation():
    B = pdo.filter_basis("p8", orientation=np.pi / 8)
    rng = np.random.default_rng(1)
    c1, c2 = 0.3 * rng.normal(size=(9, 1, 2)), 0.1 * rng.normal(size=(9, 8, 2, 2))

    @jax.jit
    def network(x, w1, w2):
        y = jnp.tanh(pdo.lift_conv(x, w1, B, padding="VALID"))
        return jnp.tanh(pdo.group_conv(y, w2, B, padding="VALID"))

    def fn(x, mesh):
        return network(x, B.weights(c1, mesh), B.weights(c2, mesh))

    order = pdo.convergence_order(fn, "p8", size=9, meshes=(0.14, 0.1, 0.07, 0.05))
    assert order == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda layer, x, mesh: layer(x, mesh)[..., ::-1, :], id="reversed"),
        pytest.param(
            lambda layer, x, mesh: layer(x, mesh) * (1 + jnp.arange(8.0)[:, None]), id="scaled"
        ),
    ],
)
def test_what_is_not_equivariant_has_no_order(wrong):
    B = pdo.filter_basis("p8")
    layer = lifting(B)
    order = pdo.convergence_order(
        lambda x, mesh: wrong(layer, x, mesh), "p8", size=B.size, meshes=(0.1, 0.05)
    )
    assert order == pytest.approx(0, abs=0.2)


def test_a_window_off_centre_has_order_one():
    B = pdo.filter_basis("p8")
    c = np.eye(9)[0][:, None, None]  # the identity, read a pixel away: its shift is turned too
    shift = jax.jit(lambda x, w: pdo.lift_conv(jnp.roll(x, 1, 2), w, B, padding="VALID"))
    order = pdo.convergence_order(
        lambda x, mesh: shift(x, B.weights(c, mesh)), "p8", size=B.size, meshes=(0.1, 0.05)
    )
    assert order == pytest.approx(1, abs=0.1)


def test_errors_of_each_element():
    B = pdo.filter_basis("p8")
    errors = pdo.convergence_errors(lifting(B), "p8", size=B.size, meshes=(0.2, 0.1), points=16)
    assert errors.shape == (2, 8) and errors.dtype == np.float64
    assert np.all(errors[:, ::2] < 1e-11)  # quarter turns: rounding, of weights as large as mesh^-4
    np.testing.assert_allclose(errors[0, 1::2] / errors[1, 1::2], 4, rtol=0.02)


def test_a_signal_of_ones_own():
    """A quadratic polynomial: central differences are exact, and so is every rotation of them."""
    B = pdo.filter_basis("p8")

    def quadratic(p):
        return (1 + p[..., :1] - 2 * p[..., 1:] + p[..., :1] * p[..., 1:]) * np.ones(1)

    def cubic(p):
        return p[..., :1] ** 3

    fn = lifting(B)
    options = dict(size=B.size, meshes=(0.2, 0.1), points=8)
    assert pdo.convergence_errors(fn, "p8", signal=quadratic, **options).max() < 1e-11
    assert pdo.convergence_errors(fn, "p8", signal=cubic, **options).max() > 1e-4


@pytest.mark.parametrize("group", ["p4", "p4m", "p2", "p1"])
def test_groups_without_an_error_to_measure(group):
    B = pdo.filter_basis(group)
    with pytest.raises(ValueError, match="permutes the pixels with every element"):
        pdo.convergence_order(lifting(B), group, size=B.size)
