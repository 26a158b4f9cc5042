"""Relaxed layers: their limits, what lies between, and their parts against plain NumPy."""

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax import relaxed
from tests import laws

BANDWIDTHS = np.linspace(0, 0.45, 10)
SPLINES = pdo.pde.spline_basis("p4", 5)
GAUSSIAN = dict(scheme="gaussian", sigma=0.8, operators="total")


def noise(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def layer(cls=pdo.nn.RelaxedConv, *features, group="p4", dtype="float64", **options):
    """Return a layer with random parameters."""
    return cls(*(features or (1, 1)), group, **laws.random(dtype), **options, rngs=nnx.Rngs(0))


call = nnx.jit(lambda model, x: model(x))


def with_number(model, *path):
    """Return the function that makes copies of a layer, with another number for a parameter."""
    graphdef, part, rest = nnx.split(model, lambda found, _: found == path, ...)
    (found,) = jax.tree.leaves(part)
    assert found.shape == ()
    return lambda value: nnx.merge(graphdef, jax.tree.map(lambda _: value, part), rest)


def swept(model, name, x, bandwidths=BANDWIDTHS):
    """Return the outputs and the amounts of a layer at many bandwidths of one kind."""
    make = with_number(model, "relaxation", name)

    def one(bandwidth):
        copy = make(bandwidth)
        return copy(x), copy.amount[name]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jnp.asarray(bandwidths)))


def relative(difference, whole):
    """Return the relative error for every entry of the first axis."""
    axes = tuple(range(1, whole.ndim))
    return np.sqrt(np.sum(difference**2, axes) / np.sum(whole**2, axes))


def field(group, *sizes, channels=1, seed=0):
    return noise(*sizes, pdo.group(group).order, channels, seed=seed)


# ------------------------------------------------------------------------------------ the limits


@pytest.mark.parametrize(
    ("name", "group", "dtype", "tolerance", "options"),
    [
        ("Conv", "p4m", "float64", 1e-12, {}),
        ("Lift", "p8", "float32", 1e-6, {}),
        ("Conv", SPLINES, "float64", 1e-12, {}),
        pytest.param("Lift", SPLINES, "float64", 1e-12, {}, marks=pytest.mark.slow),
        pytest.param("Conv", "p4", "float64", 1e-12, GAUSSIAN, marks=pytest.mark.slow),
        pytest.param("Conv", "p8", "float32", 1e-6, {}, marks=pytest.mark.slow),
        pytest.param("Lift", "O", "float64", 1e-12, {}, marks=pytest.mark.slow),
        pytest.param("Conv", "T", "float64", 1e-12, {}, marks=pytest.mark.slow),
    ],
    ids=lambda value: {id(SPLINES): "splines", id(GAUSSIAN): "gaussian"}.get(id(value)),
)
def test_without_bandwidths_it_is_the_strict_layer(name, group, dtype, tolerance, options):
    """PDOConv with the kernel sum_f mean_f k_f; laws.py holds that to be equivariant."""
    zeros = dict(position_bandwidth=0.0, orientation_bandwidth=0.0)
    options = dict(options, group=group, dtype=dtype)
    ours = layer(getattr(pdo.nn, f"Relaxed{name}"), 2, 3, filters=3, **zeros, **options)
    theirs = layer(getattr(pdo.nn, f"PDO{name}"), 2, 3, **options)
    mean = noise(3, dtype=dtype, seed=1)
    ours.relaxation.mean[...] = mean
    filters = np.asarray(ours.strict.kernel[...]).reshape(*theirs.kernel.shape[:-1], 3, 3)
    theirs.kernel[...] = np.einsum("...fo,f->...o", filters, mean)

    G = ours.strict.basis.group
    copies = (G.order,) if name == "Conv" else ()
    x = noise(*(4, 5, 3)[: G.ndim], *copies, 2, dtype=dtype)
    y = call(theirs, x)
    assert laws.distance(call(ours, x), y) <= tolerance
    assert [float(a) for a in ours.amount.values()] == [0, 0]
    for bandwidth in (ours.relaxation.position, ours.relaxation.orientation):
        bandwidth[...] = jnp.asarray(0.3, bandwidth.dtype)
        assert laws.distance(call(ours, x), y) > 1e-2
        bandwidth[...] = jnp.zeros_like(bandwidth[...])


@pytest.mark.parametrize(
    ("cls", "group"),
    [
        (pdo.nn.RelaxedConv, "p4"),
        pytest.param(pdo.nn.RelaxedLift, "p4", marks=pytest.mark.slow),
        (pdo.nn.RelaxedConv, "p4m"),
        pytest.param(pdo.nn.RelaxedConv, "T", marks=pytest.mark.slow),
    ],
)
def test_without_any_bandwidth_it_is_an_invariant(cls, group):
    """No matter where in the input a number stands, in space and in orientation."""
    none = dict(position_bandwidth=0.0, orientation_bandwidth=0.0, relative_bandwidth=0.0)
    model = layer(cls, 2, 3, group=group, **none)
    G = pdo.group(group)
    poses = (3, 4) if G.ndim == 2 else (2, 1, 3)
    poses += (G.order,) if cls is pdo.nn.RelaxedConv else ()
    x = noise(*poses, 2)
    shuffled = np.random.default_rng(1).permutation(x.reshape(-1, 2)).reshape(x.shape)
    y = np.asarray(call(model, x))
    assert laws.distance(call(model, shuffled), y) <= 1e-12
    assert laws.distance(np.broadcast_to(y[(0,) * (G.ndim + 1)], y.shape), y) <= 1e-12
    total = np.sum(x.reshape(-1, 2), 0)  # what it depends on
    assert (
        laws.distance(call(model, np.broadcast_to(total / math.prod(poses), x.shape)), y) <= 1e-12
    )

    model.strict.bandwidth[...] = jnp.asarray(0.5)
    assert laws.distance(call(model, shuffled), call(model, x)) > 1e-2


@pytest.mark.parametrize(
    ("sizes", "group", "kernel_features"),
    [
        ((1, 2), "p4", 24),
        pytest.param((2, 2), "p4", 64, marks=pytest.mark.slow),
        pytest.param((3, 3), "p2", 100, marks=pytest.mark.slow),
    ],
)
def test_with_as_many_filters_as_poses_it_is_any_linear_map(sizes, group, kernel_features):
    """Its parameters are fitted by least squares: the layer is linear in them for fixed gains."""
    poses = math.prod(sizes) * pdo.group(group).order
    matrix = noise(poses, poses)  # [input, output]

    def fitted(filters):
        model = layer(
            group=group, filters=filters, features=2 * poses, position_bandwidth=4.0,
            orientation_bandwidth=3.0, relative_bandwidth=3.0, kernel_features=kernel_features,
            use_bias=False,
        )  # fmt: skip
        graphdef, part, rest = nnx.split(model, lambda path, _: path[-1] == "kernel", ...)
        shape = model.strict.kernel.shape

        def outputs(kernel, x):
            copy = nnx.merge(graphdef, jax.tree.map(lambda _: kernel.reshape(shape), part), rest)
            return copy(x).reshape(len(x), poses)

        basis = np.eye(poses).reshape(poses, *sizes, -1, 1)
        columns = jax.jit(jax.jacfwd(outputs))(jnp.zeros(math.prod(shape)), basis)
        columns = np.asarray(columns).reshape(poses**2, -1)
        kernel = np.linalg.lstsq(columns, matrix.ravel())[0]
        x = noise(5, *sizes, pdo.group(group).order, 1, seed=1)
        expected = x.reshape(5, poses) @ matrix
        return np.linalg.norm(outputs(kernel, x) - expected) / np.linalg.norm(expected)

    assert fitted(poses) <= 1e-3
    assert fitted(2) > 0.3


@pytest.mark.parametrize(
    "name", ["position", pytest.param("orientation", marks=pytest.mark.slow), "relative"]
)
def test_a_bandwidth_of_zero_has_a_gradient(name):
    zeros = dict(position_bandwidth=0.0, orientation_bandwidth=0.0, relative_bandwidth=0.0)
    model = layer(**zeros, kernel_features=4)
    x, w = field("p4", 3, 3), field("p4", 3, 3, seed=1)
    path = ("strict", "bandwidth") if name == "relative" else ("relaxation", name)
    make = with_number(model, *path)

    def loss(bandwidth):
        copy = make(bandwidth)
        return jnp.vdot(w, copy(x)) + 0.1 * pdo.nn.equivariance_penalty(copy)

    both = jax.jit(jax.value_and_grad(loss))
    slope = both(0.0)[1]
    assert np.isfinite(slope) and abs(slope) > 1e-3
    if name == "relative":  # of which the penalty knows nothing
        plus, minus = (float(both(step)[0]) for step in (1e-5, -1e-5))
        assert float(slope) == pytest.approx((plus - minus) / 2e-5, rel=1e-6)


# ------------------------------------------------------------------------- between them: the amount

EVERY = (*laws.PLANE, *laws.SPACE)


def groups(*fast):
    return [
        pytest.param(name, marks=() if name in fast else pytest.mark.slow, id=name)
        for name in EVERY
    ]


@pytest.mark.parametrize("group", groups("p4"))
def test_the_error_of_translations_grows_with_the_bandwidth(group):
    """Round the torus, by one pixel."""
    ndim = pdo.group(group).ndim
    model = layer(group=group, orientation_bandwidth=None, padding="CIRCULAR", use_bias=False)
    x = field(group, *(5, 5, 3)[:ndim])
    y, amounts = swept(model, "position", np.stack([x, np.roll(x, 1, 1)]))
    errors = relative(y[:, 1] - np.roll(y[:, 0], 1, 2), y[:, 0])
    assert errors[0] <= 1e-12 and np.all(np.diff(errors) > 0) and errors[-1] > 0.05, errors
    assert amounts[0] == 0 and np.all(np.diff(amounts) > 0) and amounts[-1] < 1, amounts


@pytest.mark.parametrize("group", groups("p4m"))
def test_the_error_of_the_group_grows_with_the_bandwidth(group):
    """Exact elements by the oracle of the laws; p3 has none but the identity."""
    G = pdo.group(group)
    turns = [g for g in range(G.order) if np.allclose(G.matrices[g], np.rint(G.matrices[g]))]
    model = layer(group=group, position_bandwidth=None, use_bias=False)
    if group == "p3":
        errors, amounts = error_of_interpolation(model, group)
        assert np.all(np.diff(errors) > 0) and errors[-1] > 1.3 * errors[0], errors
    else:
        x = field(group, *(3,) * G.ndim)
        y, amounts = swept(
            model, "orientation", np.stack([laws.move(x, G, g, "field") for g in turns])
        )
        expected = np.stack([laws.move(y[:, 0], G, g, "field") for g in turns], 1)
        errors = relative(y - expected, y)
        assert errors[0] <= 1e-12
    if group == "p1":
        assert np.all(errors == 0) and np.all(amounts == 0)
        return
    assert np.all(np.diff(errors) > 0) and errors[-1] > 0.05, errors
    assert amounts[0] == 0 and np.all(np.diff(amounts) > 0) and amounts[-1] < 1, amounts


def error_of_interpolation(model, group):
    """Return the error that the library measures on smooth input, and the amounts."""
    make = with_number(model, "relaxation", "orientation")
    y, x = np.meshgrid(*2 * [np.arange(15) / 7 - 1], indexing="ij")
    bumps = [np.exp(-4 * ((x - a) ** 2 + (y - b) ** 2)) for a, b in noise(3, 2) / 3]
    smooth = jnp.asarray(np.stack(bumps, -1)[..., None])

    def one(bandwidth):
        copy = make(bandwidth)
        errors = pdo.equivariance_error(copy, smooth, group, input_kind="field")
        return jnp.max(errors), copy.amount["orientation"]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jnp.asarray(BANDWIDTHS)))


def test_one_bandwidth_alone_keeps_only_translations():
    """Gains of the orientation alone commute with them; gains over positions with nothing."""
    x = field("p4", 4, 4)
    found = {}
    for name, bandwidths in {"position": (0.0, 0.5), "orientation": (0.5, 0.0)}.items():
        options = dict(
            zip(("position_bandwidth", "orientation_bandwidth"), bandwidths, strict=True)
        )
        model = layer(padding="CIRCULAR", **options)
        y, z = call(model, np.stack([x, np.roll(x, 1, 1)]))
        turned = laws.equivariance(lambda x, m=model: call(m, x), x, "p4", "field", "field")
        found[name] = laws.distance(z, np.roll(y, 1, 1)), turned
    assert found["position"][0] <= 1e-12 and found["position"][1] > 1e-2
    assert min(found["orientation"]) > 1e-2


# ----------------------------------------------------------------------- the parts, in plain NumPy


def test_frequencies_are_the_same_for_ever():
    """They are rebuilt from the seed where a layer is loaded; others would spoil it silently."""
    drawn = relaxed.frequencies(2, 3)
    np.testing.assert_allclose(
        drawn.position[0], [1.5179103780528778, 0.7687971312161831], rtol=1e-15
    )
    np.testing.assert_allclose(
        drawn.phase, [2.090252105179561, 4.40816295807729, 5.433892897742485], rtol=1e-15
    )
    assert relaxed.frequencies(2, 3) is drawn and not drawn.phase.flags.writeable
    assert np.all(relaxed.frequencies(2, 3, 1).phase != drawn.phase)
    many = relaxed.frequencies(3, 4000)
    for part in many[:2]:
        assert abs(part.mean()) < 0.05 and part.std() == pytest.approx(1, abs=0.02)
    assert many.phase.min() >= 0 and many.phase.max() == pytest.approx(2 * np.pi, rel=1e-2)


@pytest.mark.parametrize(("group", "sizes"), [("p3m", (3, 2)), ("T", (1, 2, 3))])
def test_fourier_gains_are_their_formula(group, sizes):
    G = pdo.group(group)
    drawn = relaxed.frequencies(G.ndim, 5)
    mean, weights, position, orientation = noise(2), noise(5, 2, seed=1), 0.7, 1.3
    expected = np.zeros((*sizes, G.order, 2))
    for place in np.ndindex(*sizes):
        centres = [(i + 0.5) / n * 2 - 1 for i, n in zip(place, sizes, strict=True)]
        # x to the right, y up, z in depth
        p = (centres[-1], -centres[-2], *centres[:-2])
        for g in range(G.order):
            entries = G.matrices[g].ravel() / np.sqrt(np.sum(G.matrices[g] ** 2))
            for f in range(2):
                value = mean[f]
                for j in range(5):
                    t = position * np.dot(drawn.position[j], p)
                    t += orientation * np.dot(drawn.element[j], entries)
                    change = math.cos(t + drawn.phase[j]) - math.cos(drawn.phase[j])
                    value += weights[j, f] * math.sqrt(2) * change
                expected[(*place, g, f)] = value
    gains = relaxed.fourier_gains(mean, weights, position, orientation, group, sizes, drawn)
    assert laws.distance(gains, expected) <= 1e-14


def test_features_have_a_gaussian_kernel():
    drawn, bandwidth = relaxed.frequencies(2, 20000), 0.9
    v, w = np.array([0.3, -0.8]), np.array([-0.4, 0.1])
    features = [np.sqrt(2) * np.cos(bandwidth * drawn.position @ p + drawn.phase) for p in (v, w)]
    kernel = np.exp(-(bandwidth**2) * np.sum((v - w) ** 2) / 2)
    assert np.mean(features[0] * features[1]) == pytest.approx(kernel, abs=0.02)


@pytest.mark.parametrize("group", ["p8", "p6m", "p1", "O"])
@pytest.mark.parametrize("extent", [0.0, 0.3, 1.0])
def test_partial_gains_are_their_formula(group, extent):
    G = pdo.group(group)
    angles = []
    for matrix in G.matrices:
        values = np.linalg.eigvals(matrix)  # exp(+-i angle), and 1 in space
        angles.append(np.max(np.abs(np.angle(values))) if np.linalg.det(matrix) > 0 else None)
    largest = max([a for a in angles if a is not None and a > 0] or [1.0])
    distance = np.array([1.0 if a is None else a / largest for a in angles])
    step = max(np.diff(np.sort(distance)), default=1.0)
    expected = np.clip(1 + (extent - distance) / step, 0, 1)
    assert np.max(np.abs(relaxed.partial_gains(extent, group, "float64")[:, 0] - expected)) < 1e-6
    assert expected[0] == 1 and (extent < 1 or np.all(expected == 1))
    assert extent > 0 or np.sum(expected) == 1


def test_an_extent_out_of_range_counts_as_the_end_and_finds_back():
    slope = jax.jit(jax.value_and_grad(lambda e: relaxed.partial_gains(e, "p8", "float64").sum()))
    for extent, total in ((-0.2, 1.0), (0.0, 1.0), (1.0, 8.0), (1.3, 8.0)):
        value, gradient = slope(extent)
        assert float(value) == total and float(gradient) > 0


@pytest.mark.parametrize(
    ("group", "taps", "on_field"),
    [("p3m", (3, 5), True), ("p4", (3, 3), False), ("T", (1, 3, 1), True)],
)
def test_continuous_kernel_is_its_formula(group, taps, on_field):
    G = pdo.group(group)
    drawn, weights, bandwidth, unit = relaxed.frequencies(G.ndim, 3), noise(3, 2, 1), 0.8, 1.7
    inputs = G.matrices if on_field else np.eye(G.ndim)[None]
    expected = np.zeros((*taps, len(inputs), 2, G.order, 1))
    number = math.prod(taps) * len(inputs)
    for tap in np.ndindex(*taps):
        steps = [i - n // 2 for i, n in zip(tap, taps, strict=True)]
        offset = np.array((steps[-1], -steps[-2], *steps[:-2]))
        for h, g in np.ndindex(len(inputs), G.order):
            q = np.linalg.inv(G.matrices[g]) @ offset / unit
            t = (
                np.linalg.inv(G.matrices[g]) @ inputs[h]
                if on_field
                else np.zeros_like(G.matrices[0])
            )
            for m in range(3):
                angle = np.dot(drawn.position[m], q)
                angle += np.dot(drawn.element[m], t.ravel() / math.sqrt(G.ndim))
                feature = math.sqrt(2 / number) * math.cos(bandwidth * angle + drawn.phase[m])
                expected[(*tap, h, slice(None), g)] += weights[m] * feature
    kernel = relaxed.continuous_kernel(
        weights, bandwidth, group, taps, drawn, unit=unit, field=on_field
    )
    assert laws.distance(kernel, expected.reshape(kernel.shape)) <= 1e-13


def test_amounts_of_what_is_no_number_are_none():
    """A network that has diverged is not a strict one."""
    gains, weights = noise(3, 2, 4, 2), noise(5, 2, 3, seed=1)
    for bad in ((gains * np.nan, weights), (gains, weights * np.nan)):
        with jax.debug_nans(False):
            assert all(np.isnan(amount) for amount in relaxed.amounts(*bad).values())


def test_amounts_are_means_over_poses():
    """Of explicit kernels: how far they are from their mean along an axis."""
    gains, weights = noise(3, 2, 4, 2), noise(5, 2, 3, seed=1)
    kernels = np.einsum("hwgf,nfo->hwgno", gains, weights)
    whole = np.mean(np.sum(kernels**2, (3, 4)))
    found = {k: float(v) for k, v in relaxed.amounts(gains, weights).items()}
    for name, axis in (("position", (0, 1)), ("orientation", 2)):
        change = kernels - kernels.mean(axis, keepdims=True)
        assert found[name] == pytest.approx(
            math.sqrt(np.mean(np.sum(change**2, (3, 4))) / whole), rel=1e-12
        )
    scaled = relaxed.amounts(-3 * gains, 7 * weights)
    wider = relaxed.amounts(gains, np.concatenate([weights] * 4, -1))
    balanced = relaxed.amounts(gains - gains.mean((0, 1)), weights)  # positions share nothing
    assert float(balanced["position"]) == pytest.approx(1, rel=1e-12)
    for name, value in found.items():
        assert 0 < value < 1
        assert float(scaled[name]) == pytest.approx(value) == float(wider[name])


# --------------------------------------------------------------------------- the layers as modules


@pytest.mark.slow
def test_nothing_is_stored_for_a_position():
    model = layer(pdo.nn.RelaxedConv, 2, 3, group="p8", filters=4, features=7)
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
    assert count == 9 * 8 * 2 * 4 * 3 + 4 + 7 * 4 + 2 + 3
    for size in (3, 9):
        assert call(model, field("p8", size, size, channels=2)).shape == (size, size, 8, 3)
    assert count == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))


def test_amounts_compare_between_layers_and_images():
    """Equal gains and filters that are copies of each other: any width, any size of the images."""
    narrow, wide = layer(pdo.nn.RelaxedConv, 1, 1), layer(pdo.nn.RelaxedConv, 1, 3)
    kernel = narrow.strict.kernel[...]  # (M, G, 1, F)
    wide.strict.kernel[...] = jnp.repeat(kernel, 3, -1)
    for name, value in narrow.amount.items():
        assert 0.05 < float(value) < 0.9
        assert float(wide.amount[name]) == pytest.approx(float(value), rel=1e-12)


class Net(nnx.Module):
    """Two relaxed layers and a strict one."""

    def __init__(self, **options):
        self.lift = layer(pdo.nn.RelaxedLift, 1, 2, **options)
        self.middle = layer(pdo.nn.PDOConv, 2, 2)
        self.convs = nnx.List([layer(pdo.nn.RelaxedConv, 2, 1, **options)])

    def __call__(self, x):
        return self.convs[0](jnp.tanh(self.middle(jnp.tanh(self.lift(x)))))


@pytest.mark.parametrize(
    ("relaxation", "options"),
    [
        ("non-stationary", {}),
        ("partial", dict(extent=0.4)),
        pytest.param("weights", {}, marks=pytest.mark.slow),
        pytest.param("residual", {}, marks=pytest.mark.slow),
    ],
)
def test_the_penalty_is_the_sum_of_the_amounts(relaxation, options):
    net = Net(relaxation=relaxation, **options)
    layers = {"lift": net.lift, "convs.0": net.convs[0]}
    for made in layers.values():
        for name, part in nnx.state(made.relaxation, nnx.Param).items():
            if name in ("gains", "kernel"):  # strict at first
                part[...] = noise(*part.shape)
    amounts = pdo.nn.equivariance_amounts(net)
    assert set(amounts) == set(layers)
    of = "position" if relaxation == "non-stationary" else "orientation"  # the others have one
    for place, made in layers.items():
        total = sum(float(v) for v in amounts[place].values())
        assert float(made.penalty()) == pytest.approx(total, rel=1e-12)
        assert float(amounts[place][of]) == float(made.amount[of]) > 0.1
    total = sum(float(v) for found in amounts.values() for v in found.values())
    assert float(pdo.nn.equivariance_penalty(net)) == pytest.approx(total, rel=1e-12)
    assert float(pdo.nn.equivariance_penalty(net.middle)) == 0


@pytest.mark.slow
def test_the_penalty_of_strict_layers_is_flat():
    net = Net(position_bandwidth=0.0, orientation_bandwidth=0.0)
    value, slopes = nnx.jit(nnx.value_and_grad(pdo.nn.equivariance_penalty))(net)
    assert float(value) == 0 and all(np.all(leaf == 0) for leaf in jax.tree.leaves(slopes))
    net = Net()
    slopes = nnx.jit(nnx.grad(pdo.nn.equivariance_penalty))(net)
    assert float(slopes.lift.relaxation.position[...]) > 0  # smaller is stricter
    assert np.all(slopes.middle.kernel[...] == 0)


def train_once(model):
    """Train a layer over p4 by one step."""
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, x):
        slopes = nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model)
        optimizer.update(model, slopes)

    update(model, optimizer, field("p4", 3, 3))


@pytest.mark.parametrize("learn", [pytest.param(True, marks=pytest.mark.slow), False])
def test_bandwidths_are_trained_if_they_are_to_be(learn):
    model = layer(learn=learn, relative_bandwidth=0.5, kernel_features=4)
    train_once(model)
    relaxation = model.relaxation
    for bandwidth in (relaxation.position, relaxation.orientation, model.strict.bandwidth):
        assert (float(bandwidth[...]) != 0.5) == learn
        assert isinstance(bandwidth, nnx.Param) == learn
    assert np.any(relaxation.weights[...] != layer().relaxation.weights[...])


@pytest.mark.parametrize("learn", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_extent_is_trained_if_it_is_to_be(learn):
    """From 1, where the layer is strict, and all training starts."""
    model = layer(relaxation="partial", learn=learn)
    train_once(model)
    extent = model.relaxation.extent
    assert (float(extent[...]) != 1) == learn
    assert isinstance(extent, nnx.Param) == learn
    assert np.any(model.strict.kernel[...] != layer(relaxation="partial").strict.kernel[...])


def test_a_part_of_the_pose_can_be_left_out():
    model = layer(position_bandwidth=None)
    assert model.relaxation.position is None and float(model.amount["position"]) == 0
    zero = layer(position_bandwidth=0.0)
    x = field("p4", 3, 3)
    np.testing.assert_array_equal(call(model, x), call(zero, x))
    assert len(jax.tree.leaves(nnx.state(model))) + 1 == len(jax.tree.leaves(nnx.state(zero)))


# ------------------------------------------------------------------------------- other relaxations


def test_partial_equivariance_at_its_ends():
    x, strict = field("p8", 3, 3), layer(pdo.nn.PDOConv, group="p8")
    y = np.array(call(strict, x))
    whole = layer(group="p8", relaxation="partial")
    np.testing.assert_array_equal(call(whole, x), y)
    assert [float(a) for a in whole.amount.values()] == [0, 0]
    whole.relaxation.extent[...] = jnp.zeros(())
    y[..., 1:, :] = np.asarray(strict.bias[...])
    np.testing.assert_array_equal(call(whole, x), y)
    assert float(whole.amount["orientation"]) == pytest.approx(math.sqrt(7 / 8))


def test_a_residual_path_is_a_plain_convolution():
    x, strict = field("p4", 4, 4), layer(pdo.nn.PDOConv)
    model = layer(relaxation="residual")
    np.testing.assert_array_equal(call(model, x), call(strict, x))
    assert [float(a) for a in model.amount.values()] == [0, 0]
    plain = noise(*model.relaxation.kernel.shape)
    model.relaxation.kernel[...] = plain
    beside = jax.lax.conv_general_dilated(
        x[None, ..., 0], plain, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0, ..., None]
    assert laws.distance(call(model, x), call(strict, x) + beside) <= 1e-12
    size = np.sum(plain**2) / 4
    share = size / (size + np.sum(np.asarray(strict.kernel[...]) ** 2))
    assert float(model.amount["orientation"]) == pytest.approx(math.sqrt(share))


def test_free_gains_for_every_orientation():
    x, model = field("p4", 3, 3, channels=2), layer(pdo.nn.RelaxedConv, 2, 2, relaxation="weights")
    assert [float(a) for a in model.amount.values()] == [0, 0]
    gains = noise(4, 2)
    model.relaxation.gains[...] = gains
    fields = np.asarray(call(model.strict, x)).reshape(3, 3, 4, 2, 2)
    expected = np.einsum("hwgfc,gf->hwgc", fields, gains) + np.asarray(model.bias[...])
    assert laws.distance(call(model, x), expected) <= 1e-12
    assert float(model.amount["orientation"]) > 0.1 and float(model.amount["position"]) == 0


@pytest.mark.slow
def test_the_docs_tell_the_amounts_of_new_layers():
    text = (Path(__file__).parents[1] / "docs/relaxed.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert [row[0] for row in rows] == ["0", "0.25", "0.5", "1", "2"]
    new = [pdo.nn.RelaxedConv(4, 4, "p8", rngs=nnx.Rngs(seed)) for seed in range(8)]
    amount = nnx.jit(lambda layer: layer.amount)

    def agrees(told, value):
        return float(told) == round(float(value), len(told.partition(".")[2]))

    for bandwidth, correlation, position, orientation in rows:
        for layer in new:
            for name in ("position", "orientation"):
                getattr(layer.relaxation, name)[...] = jnp.float32(bandwidth)
        found = [amount(layer) for layer in new]
        assert agrees(correlation, math.exp(-2 * float(bandwidth) ** 2))  # at a distance of 2
        assert agrees(position, np.mean([f["position"] for f in found]))
        assert agrees(orientation, np.mean([f["orientation"] for f in found]))
