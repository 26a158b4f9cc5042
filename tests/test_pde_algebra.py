"""Dilation, erosion, diffusion and convection against loops over matrices, and their algebra."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from benchmarks import pde_equivariance
from pdo_jax.pde import windows
from tests import laws

TAU = 2 * np.pi
ALPHA = 0.65
METRIC = np.array([[0.6, 1.7, 0.9], [2.0, 0.4, 1.3]])
SHIFT = np.array([[0.7, -1.3, 0.9], [-0.2, 0.4, -2.0]])
SHAPE, WINDOW = (4, 5, 8, 2), (3, 5, 3)


def random(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def field_operators(window=WINDOW, metric=METRIC, distance="log"):
    """Return the operators as functions of a field alone, by name."""
    options = dict(metric=jnp.asarray(metric), kernel_size=window, distance=distance)
    return {
        "dilation": jax.jit(partial(pdo.pde.dilation, **options)),
        "erosion": jax.jit(partial(pdo.pde.erosion, **options)),
        "diffusion": jax.jit(partial(pdo.pde.diffusion, **options)),
        "convection": jax.jit(partial(pdo.pde.convection, shift=jnp.asarray(SHIFT))),
    }


OPERATORS = field_operators()
MATRICES = np.array([[[1.1, 0.3], [-0.2, 0.7]], [[0.6, -0.4], [0.5, 1.2]]])

# ----------------------------------------------------------- the oracle: matrices, loops and floats


def pose(x, y, t):
    return np.array([[np.cos(t), -np.sin(t), x], [np.sin(t), np.cos(t), y], [0, 0, 1]])


def logarithm(matrix):
    """Return (c1, c2, c3) with exp of their matrix equal to `matrix`."""
    t = np.arctan2(matrix[1, 0], matrix[0, 0])
    # exp maps c to V c, where V is the mean of all rotations up to t.
    sine, cosine = (np.sin(t) / t, (1 - np.cos(t)) / t) if t else (1.0, 0.0)
    spatial = np.linalg.solve([[sine, -cosine], [cosine, sine]], matrix[:2, 2])
    return np.array([*spatial, t])


def squares(orientations, metric):
    """Return rho^2 as a dictionary: by orientation, then right, up and turn, `(C,)` each.

    A metric of matrices is one of the plane, a field of one orientation.
    """
    rows, columns, turns = (range(-(n // 2), n // 2 + 1) for n in WINDOW)
    found = {}
    for t in range(orientations):
        here = np.linalg.inv(pose(0, 0, TAU * t / orientations))
        for right in columns:
            for up in rows:
                for turn in turns if metric.ndim == 2 else (0,):
                    there = pose(right, up, TAU * (t + turn) / orientations)
                    log = logarithm(here @ there)
                    found[t, right, up, turn] = (
                        metric @ log**2
                        if metric.ndim == 2
                        else np.sum((metric @ log[:2]) ** 2, axis=1)
                    )
    return found


def mirrored(n, size):
    return abs(n) if n < size else 2 * (size - 1) - n


def oracle(name, x, metric=METRIC):
    height, width, orientations, channels = x.shape
    rho, y = squares(orientations, metric), np.zeros_like(x)
    b = 2 * ALPHA / (2 * ALPHA - 1)
    for i, j, t in np.ndindex(height, width, orientations):
        values, weights = [], []
        for (of, right, up, turn), square in rho.items():
            row, column = i - up, j + right
            if of != t:
                continue
            inside = 0 <= row < height and 0 <= column < width
            if name == "diffusion":  # the image is mirrored at its border
                row, column = mirrored(row, height), mirrored(column, width)
                values.append(x[row, column, (t + turn) % orientations])
                weights.append(np.exp(-square))
            elif inside:
                k = (2 * ALPHA - 1) / (2 * ALPHA) ** b * square ** (b / 2)
                sign = 1 if name == "dilation" else -1
                values.append(x[row, column, (t + turn) % orientations] - sign * k)
        values = np.array(values)
        if name == "dilation":
            y[i, j, t] = values.max(0)
        elif name == "erosion":
            y[i, j, t] = values.min(0)
        else:
            weights = np.array(weights)
            y[i, j, t] = np.sum(weights * values, 0) / np.sum(weights, 0)
    return y


@pytest.mark.parametrize("orientations", [8, 5])
@pytest.mark.parametrize("name", ["dilation", "erosion", "diffusion"])
def test_operators_are_those_of_the_oracle(name, orientations):
    x = random((4, 5, orientations, 2))
    np.testing.assert_allclose(OPERATORS[name](x), oracle(name, x), rtol=1e-12, atol=1e-12)


def derivatives(u, i, j, t):
    """Return gradient and Hessian along (right, up), and both derivatives along the angle."""
    height, width, orientations, _ = u.shape

    def at(right, up, turn=0):
        row, column = mirrored(i - up, height), mirrored(j + right, width)
        return u[row, column, (t + turn) % orientations]

    here, step = at(0, 0), TAU / orientations
    gradient = np.array([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)]) / 2
    mixed = (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1)) / 4
    hessian = np.array(
        [
            [at(1, 0) - 2 * here + at(-1, 0), mixed],
            [mixed, at(0, 1) - 2 * here + at(0, -1)],
        ]
    )
    turning = (at(0, 0, 1) - at(0, 0, -1)) / (2 * step)
    return gradient, hessian, turning, (at(0, 0, 1) - 2 * here + at(0, 0, -1)) / step**2


def shock_oracle(x, diffused, dilated, edges, sides, contrast, softness):
    """Return the diffusion-shock filter: directional derivatives along the rows of a matrix."""
    smooth, rising = oracle("diffusion", x, diffused), oracle("dilation", x, dilated)
    falling = oracle("erosion", x, dilated)
    u, v = oracle("diffusion", x, edges), oracle("diffusion", x, sides)
    y, found = np.zeros_like(x), []

    def rows(metric, t, c):
        """Return directions whose squared slopes add up to |grad|^2, and the angle's weight."""
        if metric.ndim == 3:
            return metric[c], 0.0
        frame = pose(0, 0, TAU * t / x.shape[2])[:2, :2].T  # along the orientation, to its left
        return np.sqrt(metric[c, :2, None]) * frame, metric[c, 2]

    for i, j, t, c in np.ndindex(x.shape):
        gradient, _, turning, _ = derivatives(u, i, j, t)
        directions, weight = rows(edges, t, c)
        slope = np.sum((directions @ gradient[:, c]) ** 2) + weight * turning[c] ** 2
        _, hessian, _, bending = derivatives(v, i, j, t)
        directions, weight = rows(sides, t, c)
        curvature = sum(d @ hessian[:, :, c] @ d for d in directions) + weight * bending[c]
        q = 1 / (1 + slope / contrast[c] ** 2)
        s = 2 / np.pi * np.arctan(curvature / softness[c] ** 2)
        best = (falling if s > 0 else rising)[i, j, t, c]
        sharp = abs(s) * best + (1 - abs(s)) * x[i, j, t, c]
        y[i, j, t, c] = q * smooth[i, j, t, c] + (1 - q) * sharp
        found.append((q, s))
    q, s = np.array(found).T
    assert q.min() < 0.3 and q.max() > 0.7 and s.min() < -0.3 and s.max() > 0.3
    return y


@pytest.mark.parametrize("space", ["SE(2)", "plane"])
def test_diffusion_shock_is_that_of_the_oracle(space):
    """A tiny number is added to the squares of scales: values agree to no more than 1e-6."""
    if space == "plane":
        x, window = random((4, 5, 1, 2)), WINDOW[:2]
        metrics = MATRICES, MATRICES[::-1], MATRICES.swapaxes(1, 2), 0.8 * MATRICES
    else:
        x, window = random(), WINDOW
        metrics = METRIC, METRIC[::-1], METRIC[:, ::-1], 0.7 * METRIC[:, [1, 2, 0]]
    contrast, softness = np.array([0.25, -0.3]), np.array([0.9, 0.6])  # no sign matters
    expected = shock_oracle(x, *metrics, contrast, softness)
    diffused, dilated, edges, sides = map(jnp.asarray, metrics)
    y = jax.jit(partial(pdo.pde.diffusion_shock, kernel_size=window))(
        x if space == "SE(2)" else x[:, :, 0],
        diffused,
        dilated,
        pdo.pde.Switch(edges, contrast),
        pdo.pde.Switch(sides, softness),
    )
    np.testing.assert_allclose(np.reshape(y, x.shape), expected, atol=1e-6)


def test_convection_is_that_of_the_oracle():
    x = random()
    height, width, orientations, channels = x.shape
    expected = np.zeros_like(x)
    for i, j, t, c in np.ndindex(x.shape):
        source = pose(j, -i, TAU * t / orientations) @ np.linalg.inv(pose(*SHIFT[c]))
        where = -source[1, 2], source[0, 2], np.angle(complex(*source[:2, 0])) * orientations / TAU
        first = np.floor(where).astype(int)
        for corner in np.ndindex(2, 2, 2):
            row, column, turn = first + corner
            if 0 <= row < height and 0 <= column < width:
                weight = np.prod(1 - np.abs(np.array([row, column, turn]) - where))
                expected[i, j, t, c] += weight * x[row, column, turn % orientations, c]
    np.testing.assert_allclose(OPERATORS["convection"](x), expected, atol=1e-12)


def test_convection_on_the_plane_is_that_of_the_oracle():
    """Bilinear, and zero outside; one channel for each pair of signs."""
    shift = np.array([[0.7, 1.3], [-0.2, 0.4], [2.6, -1.8], [-1.5, -0.9]])
    x = random((4, 5, 4))
    expected = np.zeros_like(x)
    for i, j, c in np.ndindex(x.shape):
        where = np.array([i + shift[c, 1], j - shift[c, 0]])  # rows count downwards
        for corner in np.ndindex(2, 2):
            row, column = np.floor(where).astype(int) + corner
            if 0 <= row < 4 and 0 <= column < 5:
                weight = np.prod(1 - np.abs(np.array([row, column]) - where))
                expected[i, j, c] += weight * x[row, column, c]
    y = jax.jit(pdo.pde.convection)(x, shift)
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.502, 0.51, 1.0])
def test_kernels_near_one_half_have_slopes(alpha):
    with jax.enable_x64(False):
        metric = jnp.full(1, 10, jnp.float32)
        kernel, back = jax.vjp(
            lambda m: pdo.pde.morphological_kernel(m, (5, 5), alpha=alpha), metric
        )
        (slope,) = back(jnp.zeros_like(kernel).at[2, 2].set(1))
    assert np.all(np.isfinite(kernel)) and np.all(np.isfinite(slope))
    assert np.min(np.delete(kernel.ravel(), 12)) > 0 == kernel[2, 2, 0]


def test_erosion_refuses_what_dilation_refuses(unhooked):
    with jax.enable_x64(False):
        for operator in (pdo.pde.dilation, pdo.pde.erosion):
            with pytest.raises(
                ValueError, match="x has dtype float64, but JAX's 64-bit mode is off"
            ):
                operator(np.ones((5, 5, 2)), jnp.ones(2), (3, 3))
            with pytest.raises(TypeError, match="x must be an array"):
                operator([[[1.0]]], jnp.ones(1), (3, 3))


@pytest.mark.slow
def test_bands_of_large_fields_are_the_whole(monkeypatch):
    x, dy = random((2, 10, 9, 8, 2)), jnp.asarray(random((2, 10, 9, 8, 2), seed=1))

    def run():
        jax.clear_caches()
        convect = jax.jit(lambda x, shift: jax.vjp(pdo.pde.convection, x, shift)[1](dy))
        return jax.tree.leaves((convect(x, SHIFT), pdo.pde.convection(x, SHIFT)))

    whole = run()
    monkeypatch.setattr(windows, "BAND_BYTES", 2 * x[0].nbytes // 9)  # two rows, or one column
    for a, b in zip(run(), whole, strict=True):
        np.testing.assert_array_equal(a, b)
    jax.clear_caches()


# ---------------------------------------------------------------------------------------- algebra


def test_dilation_is_linear_in_maxima_and_sums():
    dilate, x, y = OPERATORS["dilation"], random(seed=1), random(seed=2)
    largest = np.maximum(dilate(x), dilate(y))
    np.testing.assert_array_equal(dilate(np.maximum(x, y)), largest)
    np.testing.assert_allclose(dilate(x + 1.75), dilate(x) + 1.75, rtol=1e-14)
    erode = OPERATORS["erosion"]
    np.testing.assert_array_equal(erode(np.minimum(x, y)), np.minimum(erode(x), erode(y)))
    assert np.abs(dilate(np.minimum(x, y)) - np.minimum(dilate(x), dilate(y))).max() > 0.1


def test_erosion_is_dual_to_dilation():
    x = random()
    np.testing.assert_array_equal(OPERATORS["erosion"](x), -np.asarray(OPERATORS["dilation"](-x)))
    assert np.all(OPERATORS["erosion"](x) <= x) and np.all(x <= OPERATORS["dilation"](x))


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_monotone(name):
    below = random()
    above = below + np.abs(random(seed=1))
    difference = np.asarray(OPERATORS[name](above)) - np.asarray(OPERATORS[name](below))
    assert difference.min() >= 0 and difference.max() > 0.1


@pytest.mark.parametrize("name", ["dilation", "erosion", "diffusion"])
def test_constants_stay(name):
    np.testing.assert_allclose(OPERATORS[name](np.full(SHAPE, -2.5)), -2.5, rtol=1e-14)


def blob(size, orientations):
    """Return a field that vanishes near the border."""
    x = np.zeros((size, size, orientations, 2))
    x[size // 2 - 1 : size // 2 + 2, size // 2 - 1 : size // 2 + 2] = random(
        (3, 3, orientations, 2)
    )
    return x + (x != 0)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [np.array([0.6, 1.2]), random((2, 2, 2))])
def test_diffusion_keeps_the_mean_on_the_plane(metric):
    x = blob(9, 1)[:, :, 0]
    y = pdo.pde.diffusion(x, jnp.asarray(metric), (5, 5))
    np.testing.assert_allclose(y.mean((0, 1)), x.mean((0, 1)), rtol=1e-13)


# Every orientation has a sum of its own, which is the same at quarter turns.
@pytest.mark.parametrize(
    ("orientations", "tolerance"), [(4, 1e-13), pytest.param(8, 2e-3, marks=pytest.mark.slow)]
)
def test_diffusion_keeps_the_mean(orientations, tolerance):
    x = blob(9, orientations)
    y = pdo.pde.diffusion(x, jnp.array([[0.8, 0.9, 0.7], [1.1, 1.0, 2.0]]), (5, 5, 3))
    np.testing.assert_allclose(y.mean((0, 1, 2)), x.mean((0, 1, 2)), rtol=tolerance)


# --------------------------------------------------------------------------------------- symmetry


@pytest.mark.parametrize(
    ("orientations", "distance"),
    [
        pytest.param(4, "log", marks=pytest.mark.slow),
        (8, "paths"),
        pytest.param(8, "log", marks=pytest.mark.slow),
        pytest.param(12, "log", marks=pytest.mark.slow),
    ],
)
def test_quarter_turns_are_exact(orientations, distance):
    x = random((5, 5, orientations, 2))
    operators = field_operators((3, 3, 3), distance=distance)
    for name, operator in operators.items():
        turned = np.roll(np.rot90(x, axes=(0, 1)), orientations // 4, axis=2)
        expected = np.rot90(operator(x), axes=(0, 1))
        found = np.asarray(operator(turned))
        np.testing.assert_allclose(
            found, np.roll(expected, orientations // 4, axis=2), atol=1e-12, err_msg=name
        )
        # The orientations do not follow, or the other way.
        assert np.abs(found - np.roll(expected, -orientations // 4, axis=2)).max() > 0.1, name


@pytest.mark.parametrize(
    "name", ["dilation", pytest.param("erosion", marks=pytest.mark.slow), "diffusion"]
)
def test_isotropic_operators_turn_and_mirror_images(name):
    """And the control: a metric with directions."""

    def error(metric):
        options = dict(metric=jnp.asarray(metric), kernel_size=(5, 5))
        operator = jax.jit(partial(getattr(pdo.pde, name), **options))
        return laws.equivariance(operator, random((4, 4, 2)), "p4m", "image", "image")

    assert error(np.array([0.6, 1.7])) <= 1e-12
    assert error(MATRICES) > 1e-2


@pytest.mark.parametrize("name", OPERATORS)
def test_a_whole_turn_is_the_identity(name):
    x, y = random(), np.asarray(OPERATORS[name](random()))
    for _ in range(4):
        x, y = (np.roll(np.rot90(z, axes=(0, 1)), 2, axis=2) for z in (x, y))
    np.testing.assert_array_equal(x, random())
    np.testing.assert_array_equal(OPERATORS[name](x), y)


def test_the_angle_is_periodic():
    """A peak at the last orientation reaches the first one."""
    x = np.full((3, 3, 8, 2), -10.0)
    x[1, 1, 7] = 0
    dilated = np.asarray(OPERATORS["dilation"](x))
    np.testing.assert_allclose(dilated[1, 1, 0], dilated[1, 1, 6], rtol=1e-12)
    assert np.all(dilated[1, 1, 0] > -10)


# -------------------------------------------------------------------------------------- semigroup

# Not even, but convex, without which times do not add up: the second derivative of log F by the
# angle is less than 1 in size.
FINSLER = np.array([[-0.1, 0.35, -0.1, 0.05, 0.05]])


def plane_kernel(kind, time, mesh, size, alpha):
    """Return the kernel of the evolution to a time on a grid of some mesh size."""
    if kind == "isotropic":
        metric = jnp.asarray(np.array([0.8]) * mesh**2 * time ** (-1 / alpha))
    elif kind == "full":
        metric = jnp.asarray(MATRICES[:1] * mesh * time ** (-1 / (2 * alpha)))
    else:
        scale = np.log(mesh * time ** (-1 / (2 * alpha)))
        metric = pdo.pde.Finsler(jnp.asarray(FINSLER - scale * np.eye(1, FINSLER.size)))
    return pdo.pde.morphological_kernel(metric, (size, size), alpha=alpha)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.65, 1.0])
def test_times_add_up_on_the_plane(alpha):
    first, second = 1 / 3, 2 / 3  # as far from the grid for every mesh size
    errors, missed = [], []
    for steps in (4, 8, 16):  # to a unit of length
        found = []
        for kind in ("isotropic", "full", "finsler"):
            rest, whole, longer = (
                plane_kernel(kind, time, 1 / steps, 4 * steps + 1, alpha)
                for time in (second, 1.0, 1.1)
            )
            # Minus the kernel, dilated by the other one, up to a unit of length from the middle.
            # It looks back from the end of a way, and Finsler norms are not even: turned round.
            other = plane_kernel(kind, first, 1 / steps, 2 * steps + 1, alpha)
            both = -pdo.pde.morphological_conv(-rest, other[::-1, ::-1])
            middle = slice(steps, 3 * steps + 1)
            found.append([k[middle, middle] for k in (both, whole, longer)])
        both, whole, longer = np.array(found).swapaxes(0, 1)
        assert np.min(both - whole) >= -1e-12  # the grid leaves the best point out, and no more
        errors.append(np.max(both - whole, axis=(1, 2, 3)))
        missed.append(np.max(np.abs(both - longer), axis=(1, 2, 3)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2) < 0.35), orders
    assert np.all(missed[-1] > 10 * errors[-1])  # no other time


# ------------------------------------------------------------------------------------- 45 degrees


def factor(operator, metrics, distance="log"):
    """Return by how much nearest neighbours are worse, as root mean squares over metrics."""
    x = pde_equivariance.fields(0, 0.5, 5, 128)
    errors = [
        [
            pde_equivariance.error(operator, pde_equivariance.kernel(operator, m, 5, which), x)
            for which in ("nearest", distance)
        ]
        for m in metrics
    ]
    theirs, ours = np.sqrt(np.mean(np.square(errors), axis=0))
    return theirs / ours


@pytest.mark.slow
def test_exact_coordinates_beat_nearest_neighbours():
    assert factor("diffusion", pde_equivariance.FITTING) > 5
    for alpha in (0.65, 1):
        assert factor(f"dilation, alpha {alpha}", pde_equivariance.FITTING[::2]) > 2


@pytest.mark.slow
@pytest.mark.parametrize("distance", pdo.pde.geometry.DISTANCES)
def test_both_distances_beat_nearest_neighbours(distance):
    for operator, least in zip(pde_equivariance.OPERATORS, (5, 2, 2), strict=True):
        assert factor(operator, pde_equivariance.FITTING, distance) > least
