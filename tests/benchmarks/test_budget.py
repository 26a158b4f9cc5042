"""The budget's evaluator is the network until a source is taken away; ideal sources do not err."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from benchmarks import budget, drift
from benchmarks.measures import demo_networks, idealised
from experiments import digits, networks

SIZES = (2, 2, 3, 4)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(digits.load()[0].images[:3])


def network(group, orientation=0.0, **options):
    model = networks.invariant_network(SIZES, group, orientation, rngs=nnx.Rngs(0), **options)
    model.eval()
    return model


@pytest.fixture(scope="module")
def rough():
    """Finite differences of fourth order: the stencils err most."""
    return network("p8", np.pi / 8)


def error(model, images, ideal, degrees=45.0):
    """Return the relative error of the logits."""
    turned = jnp.asarray(digits.rotate(np.asarray(images), degrees))
    still, moved = (idealised.logits(model, x, ideal) for x in (images, turned))
    return float(jnp.linalg.norm(moved - still) / jnp.linalg.norm(still - still.mean(0)))


@pytest.mark.slow
def test_with_every_source_it_is_the_network(rough, images):
    expected = jax.jit(lambda x: rough(x))(images)
    np.testing.assert_allclose(idealised.logits(rough, images), expected, atol=1e-6)


def symbols(basis, exact):
    """Return what the kernels of all weights answer to waves."""
    waves, taps = idealised._taps(basis, exact, 12)
    return np.einsum("guvt,gmt->guvm", waves, taps)


def test_exact_stencils_of_p4_are_those_of_the_grid():
    # Quarter turns put taps on taps: there the grid errs not at all.
    quarter = pdo.filter_basis("p4")
    np.testing.assert_allclose(symbols(quarter, True), symbols(quarter, False), atol=1e-12)


def test_exact_stencils_are_turned():
    # At a low frequency the answer to a wave is the polynomial, so both agree but for small terms.
    basis = pdo.filter_basis("p8", orientation=0.3, accuracy=4)
    exact, grid = symbols(basis, True), symbols(basis, False)
    assert np.max(np.abs(exact - grid)) > 1.0
    low = (slice(None), [0, 1, 1, -1], [1, 0, 1, 1])
    turned_back = symbols(pdo.filter_basis("p8", orientation=-0.3, accuracy=4), True)
    difference = np.linalg.norm(exact[low] - grid[low])
    assert difference < 0.2 * np.linalg.norm(exact[low] - turned_back[low])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["pooling", "border", "stencils", "nonlinearity"])
def test_quarter_turns_stay_exact(rough, images, source):
    assert error(rough, images, (source,), 90.0) < 1e-4


@pytest.mark.slow  # with the one above: resampling compiles for long
def test_little_is_left_without_sources(rough, images):
    assert error(rough, images, idealised.SOURCES) < 0.2 * error(rough, images, ())


def test_unknown_source_is_refused(rough, images):
    with pytest.raises(ValueError, match=r"ideal \(=\['blur'\]\) must be among"):
        idealised.logits(rough, images, ("blur",))


def test_reference_is_not_turned():
    basis = pdo.filter_basis("p8", orientation=0.3, operators="total", scheme="gaussian", sigma=0.8)
    reference = idealised.reference(basis)
    upright = pdo.filter_basis("p8", operators="total", scheme="gaussian", sigma=0.8)
    np.testing.assert_allclose(reference.values[0], upright.values[0], atol=1e-12)


def test_variants_take_away_one_or_leave_one():
    counts = [len(ideal) for ideal in budget.variants().values()]
    assert counts == [0, *[1] * 5, *[4] * 5, 5]


@pytest.mark.slow
def test_entries_measure_and_draw(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_networks, "FEATURES", SIZES)
    common = {"discretisations": ("gaussian, total",), "epochs": 1, "limit": 32}
    config = budget.Config(groups=("p4",), degrees=(45.0,), digits=2, pictures=tmp_path, **common)
    report = budget.run(config)
    assert set(report.cases[0]["errors"]) == set(budget.variants())
    options = {"augmentations": ("upright",), "draws": 1, "digits": 4}
    report = drift.run(drift.Config(pictures=tmp_path, **options, **common))
    assert len(report.cases[0]["logits, 45 degrees"]) == 2
    assert report.metrics["largest error at the quarter turns"] < 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"budget.png", "drift.png"}
