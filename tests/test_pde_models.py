"""Networks of PDE layers and their baselines: parameters, outputs, symmetry at every size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from tests import laws

MODELS = pdo.models
DE = ("dilation", "erosion")

# What LieTorch's own networks have, counted there; the last two are ours.
COUNTS = {
    "lenet5": (44_426, lambda **o: MODELS.lenet5(**o)),
    "rotnist_gcnn": (12_700, lambda **o: MODELS.rotnist_gcnn(**o)),
    "rotnist CDE": (2_542, lambda **o: MODELS.rotnist_pde(**o)),
    "rotnist DE": (2_488, lambda **o: MODELS.rotnist_pde(DE, **o)),
    "rotnist CDE plane": (2_518, lambda **o: MODELS.rotnist_pde(manifold="plane", **o)),
    "rotnist DE plane": (2_476, lambda **o: MODELS.rotnist_pde(DE, "plane", **o)),
    "vessel_cnn 6": (47_352, lambda **o: MODELS.vessel_cnn(**o)),
    "vessel_cnn 12": (129_432, lambda **o: MODELS.vessel_cnn(12, **o)),
    "vessel_gcnn 6": (39_258, lambda **o: MODELS.vessel_gcnn(**o)),
    "vessel_gcnn 12": (114_378, lambda **o: MODELS.vessel_gcnn(12, **o)),
    "vessel_pde 6": (4_128, lambda **o: MODELS.vessel_pde(**o)),
    "vessel_pde 12": (3_678, lambda **o: MODELS.vessel_pde(12, **o)),
    "vessel_pde 6 full": (4_896, lambda **o: MODELS.vessel_pde(metric="full", **o)),
    "pde_classifier": (8_982, lambda **o: MODELS.pde_classifier(**o)),
    "pde_segmenter": (9_371, lambda **o: MODELS.pde_segmenter(**o)),
}
# The same with one channel for vessels, as LieTorch counts them for another data set.
GREY = {
    "vessel_cnn 6": 45_000,
    "vessel_gcnn 6": 38_278,
    "vessel_pde 6": 2_560,
    "vessel_pde 12": 2_698,
}


def abstract(make, **options):
    """Return a network without its numbers."""
    return nnx.eval_shape(lambda: make(**options, rngs=nnx.Rngs(0)))


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_lietorchs(name):
    expected, make = COUNTS[name]
    assert count(abstract(make)) == expected
    if name in GREY:
        assert count(abstract(make, in_features=1)) == GREY[name]


def test_ours_are_small():
    assert all(COUNTS[name][0] <= 10_000 for name in ("pde_classifier", "pde_segmenter"))


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_outputs_are_logits(name):
    """One a class, or one a pixel: of DRIVE's pictures, which halve to 292 x 283 and 146 x 142."""
    segments = "vessel" in name or "segmenter" in name
    shape = (1, 584, 565, 3) if segments else (2, 28, 28, 1)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    y = nnx.eval_shape(lambda model, x: model(x), abstract(COUNTS[name][1]), x)
    assert y.shape == ((1, 584, 565, 1) if segments else (2, 10))


# ------------------------------------------------------------------------------------ symmetry

SMALL = dict(group="p4", dtype="float64")
LEVELS = (2, 2, 2), ((3, 3, 3), (3, 3, 3))


def classifier(terms=("dilation",)):
    return MODELS.pde_classifier(*LEVELS, terms, num_classes=3, **SMALL, rngs=nnx.Rngs(0))


def segmenter(terms=("dilation",)):
    return MODELS.pde_segmenter(*LEVELS, terms, in_features=1, **SMALL, rngs=nnx.Rngs(0))


def evaluated(make):
    """Return a network for evaluation, in float64, none of its numbers 0 or 1.

    They are drawn in NumPy: JAX compiles a program for each shape of which it draws.
    """
    model, rng = nnx.eval_shape(make), np.random.default_rng(2)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):  # of dropout
            return jax.random.key(0) if path[-1] == "key" else np.uint32(0)
        draws = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]) + 1)
        if path[-1] in ("var", "metric", "bias"):  # biases, so that no ReLU is dead
            draws = np.abs(draws) + 0.2
        return jnp.asarray(draws / 10 if path[-1] == "mean" else draws)

    flat = nnx.to_flat_state(nnx.state(model))
    nnx.update(model, nnx.from_flat_state([(p, leaf.replace(draw(p, leaf))) for p, leaf in flat]))
    model.eval()
    return model


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_classifier_is_invariant():
    model = evaluated(classifier)
    run = jax.jit(lambda x: model(x))
    x = noise(4, 7, 7, 1)  # a batch as large as that of the four turns, to compile once
    assert laws.equivariance(run, x[0], "p4", "image", "invariant") <= 1e-12
    logits = np.asarray(run(x))
    assert laws.distance(logits[0], logits[1]) > 1e-5  # it does look at the image


@pytest.mark.slow
def test_the_segmenter_is_equivariant():
    """At an odd size; and the control: halving without a blur that fits would break it."""
    model = evaluated(segmenter)
    x = noise(7, 7, 1)
    run = jax.jit(lambda x: model(x))
    assert laws.equivariance(run, x, "p4", "image", "image") <= 1e-12
    assert laws.equivariance(run, x, "p4", "image", "invariant") > 1e-2

    def thinned(x):
        fine = model.levels[0](model.stem(x))
        y = pdo.nn.resize(model.levels[1](fine[:, ::2, ::2]), 6, kind="field")
        y = model.ascent[0](model.mixes[0](jnp.concatenate([y, fine], -1)))
        return model.head(pdo.nn.group_pool(y, "max"))

    assert laws.equivariance(jax.jit(thinned), x[1:, 1:], "p4", "image", "image") > 1e-3


@pytest.mark.slow
def test_the_default_segmenter_is_equivariant(monkeypatch):
    """Over p8, at an odd size; and the control: halving without a blur that fits breaks it."""

    def error():
        model = evaluated(lambda: MODELS.pde_segmenter(dtype="float64", rngs=nnx.Rngs(0)))
        run = jax.jit(lambda x: model(x))
        return laws.equivariance(run, noise(7, 7, 3), "p4", "image", "image")

    assert error() <= 1e-11
    monkeypatch.setattr("pdo_jax.models.pde.blur_pool", lambda x, kind: x[:, ::2, ::2])
    assert error() > 1e-3


TERMS = ("convection", "dilation", "erosion")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(6, 6), (5, 6), (1, 3)])
def test_every_size_is_exact(size):
    """Sizes that halve to odd ones, to equal ones though they differ, and a single row."""
    for make, output in ((classifier, "invariant"), (segmenter, "image")):
        model = evaluated(lambda make=make: make(TERMS))
        run = jax.jit(lambda x, model=model: model(x))
        assert laws.equivariance(run, noise(*size, 1), "p4", "image", output) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("make", [MODELS.vessel_pde, MODELS.vessel_gcnn])
def test_vessels_turn_with_the_picture(make):
    """Over eight orientations, quarter turns of a picture that is not square are exact."""
    model = evaluated(lambda: make(in_features=1, dtype="float64", rngs=nnx.Rngs(0)))
    run = jax.jit(lambda x: model(x))
    assert laws.equivariance(run, noise(6, 8, 1), "p4", "image", "image") <= 1e-11


@pytest.mark.slow
def test_lietorchs_classifiers_see_where_pixels_are():
    """Their linear layer sees every pixel: they are not invariant, which ours is."""
    for make in (MODELS.rotnist_pde, MODELS.pde_classifier):
        model = evaluated(lambda make=make: make(dtype="float64", rngs=nnx.Rngs(0)))
        run = jax.jit(lambda x, model=model: model(x))
        error = laws.equivariance(run, noise(28, 28, 1), "p4", "image", "invariant")
        assert error > 1e-2 if make is MODELS.rotnist_pde else error <= 1e-11


def test_groups_without_mirrors_alone():
    with pytest.raises(ValueError, match=r"group \(=p4m\) must be a cyclic group of the plane"):
        MODELS.pde_classifier(group="p4m", rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"group \(=p4\) has 4 orientations, but kernel_sizes .* 5"
    ):
        pdo.models.pde_classifier(group="p4", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"distance \(='paths'\) on SE\(2\) is for metric='diag"):
        pdo.nn.PDELayer(2, 2, metric="full", distance="paths", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"features \(=\(8, 12\)\) must hold one number more"):
        MODELS.pde_segmenter((8, 12), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"depth \(=7\) must be one of 6, 12"):
        MODELS.vessel_pde(7, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"manifold \(='torus'\) is not known"):
        MODELS.rotnist_pde(manifold="torus", rngs=nnx.Rngs(0))
    model = nnx.eval_shape(lambda: MODELS.rotnist_gcnn(rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"but \(N, 28, 28, in_features\) is needed"):
        model(np.zeros((1, 29, 29, 1), np.float32))
