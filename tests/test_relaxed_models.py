"""The classifier of relaxed layers: parameters, symmetry where it is kept, and none where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax.models import relaxed, relaxed_classifier

slow = pytest.mark.slow  # each compiles a network

TINY = dict(features=(2, 3), pool_after=(0,), num_classes=3, group="p4")


def count(**options):
    model = nnx.eval_shape(lambda: relaxed_classifier(**options, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def change(pixels=8, **options):
    """Return the relative change of the logits when noise is turned by a quarter."""
    model = relaxed_classifier(**TINY, **options, dtype=jnp.float64, rngs=nnx.Rngs(0))
    model.eval()
    x = np.random.default_rng(0).normal(size=(2, pixels, pixels, 1))
    logits = jax.jit(lambda x: model(x))
    upright, turned = (np.asarray(logits(some)) for some in (x, np.rot90(x, axes=(1, 2))))
    return np.linalg.norm(turned - upright) / np.linalg.norm(upright)


def by_hand(layers, features=(4, 8, 16, 16), taps=9, order=4, filters=2, numbers=16):
    """Return the number of parameters, from the definitions of the layers."""
    pairs = sum(i * o for i, o in zip(features, features[1:], strict=False))
    lift, rest = taps * features[0], 2 * sum(features) + 10 * (features[-1] + 1)
    convs = taps * order * pairs
    return (
        rest
        + {
            "strict": lift + convs,
            "free": lift + taps * pairs,
            "non-stationary": filters * (lift + convs + 4 * (1 + numbers)) + 4 * 2,
            "partial": lift + convs + 4,
            "weights": filters * (lift + convs + 4 * order),
            "residual": lift + convs + taps * order * (features[0] + order * pairs),
        }[layers]
    )


@pytest.mark.parametrize("layers", relaxed.LAYERS)
def test_parameters(layers):
    assert count(layers=layers) == by_hand(layers)


@pytest.mark.parametrize("layers", relaxed.LAYERS)
def test_all_kinds_have_as_many_parameters_as_asked(layers):
    found = count(layers=layers, in_features=3, parameters=30_000)
    assert abs(found / 30_000 - 1) < 0.03


def test_asking_for_what_there_is_changes_nothing():
    usual = dict(layers="strict", parameters=by_hand("strict"))
    model = nnx.eval_shape(lambda: relaxed_classifier(**usual, rngs=nnx.Rngs(0)))
    assert [conv.out_features for conv in model.convs] == [4, 8, 16, 16]


@pytest.mark.parametrize(
    "options",
    [
        dict(position_bandwidth=0.0, orientation_bandwidth=0.0),
        pytest.param(dict(layers="strict"), marks=slow),
        pytest.param(dict(layers="strict", pixels=7), marks=slow),
        pytest.param(dict(layers="partial", extent=1.0), marks=slow),
    ],
    ids=["bandwidths of 0", "strict", "odd size", "whole range"],
)
def test_strict_limits_are_invariant(options):
    assert change(**options) < 1e-12


@pytest.mark.parametrize(
    "options",
    [
        dict(position_bandwidth=None, orientation_bandwidth=2.0),
        pytest.param(dict(position_bandwidth=3.0, orientation_bandwidth=None), marks=slow),
        pytest.param(dict(layers="partial", extent=0.0), marks=slow),
        pytest.param(dict(layers="free"), marks=slow),
    ],
    ids=["orientation", "position", "identity alone", "free"],
)
def test_others_are_not(options):
    assert change(**options) > 1e-2


@pytest.mark.parametrize(
    ("options", "equal"),
    [
        (dict(position_bandwidth=0.0, padding="CIRCULAR"), True),
        (dict(position_bandwidth=0.0), False),
        pytest.param(dict(position_bandwidth=1.0, padding="CIRCULAR"), False, marks=slow),
    ],
    ids=["torus", "borders", "positions"],
)
def test_on_a_torus_only_positions_tell_a_place(options, equal):
    """Gains of the orientation remain: what is kept is translations, by what pooling divides by."""
    model = relaxed_classifier(**TINY, **options, dtype=jnp.float64, rngs=nnx.Rngs(0))
    model.eval()
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    logits = jax.jit(lambda x: model(x))
    here, there = (np.asarray(logits(some)) for some in (x, np.roll(x, (4, -2), (1, 2))))
    error = np.linalg.norm(there - here) / np.linalg.norm(here)
    assert error < 1e-12 if equal else error > 1e-2


def test_wrong_options(unhooked):
    with pytest.raises(ValueError, match=r"padding \(='VALID'\) is not known; .*'CIRCULAR'"):
        relaxed_classifier(padding="VALID", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"layers \(='loose'\) is not known"):
        relaxed_classifier(layers="loose", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"pool_after \(=\(4,\)\) must name convolutions"):
        relaxed_classifier(pool_after=(4,), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"group \(=T\) acts on 3 dimensions"):
        relaxed_classifier(group="T", rngs=nnx.Rngs(0))


@pytest.mark.parametrize("options", [{}, dict(relative_bandwidth=1.0, kernel_size=3)], ids=str)
def test_lists_of_options_leave_a_layer_hashable(options):
    layer = pdo.nn.RelaxedConv(
        1, 1, "p4", strides=[1, 1], padding=[1, 1], **options, rngs=nnx.Rngs(0)
    )
    assert isinstance(hash(nnx.graphdef(layer)), int)
