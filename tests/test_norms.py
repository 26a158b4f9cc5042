"""The table of docs/norms.md, call by call: which of Flax's layers are equivariant on fields."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo

DOC = Path(__file__).parents[1] / "docs" / "norms.md"
ROW = re.compile(r"^\| `([^`]+)` \| `(x|flat)` \| (safe|unsafe|in distribution) \| .+ \|$", re.M)
ROWS = ROW.findall(DOC.read_text(encoding="utf-8"))

GROUP = pdo.group("p4m")
C = 4
X = np.random.default_rng(0).normal(size=(2, 6, 6, GROUP.order, C)) + 0.5


@pytest.fixture(autouse=True)
def standard_promotion():
    """Flax's norms promote dtypes themselves, which the strict rule refuses for float64."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def make(call):
    """Evaluate a call of the table, and give the layer trained parameters in float64."""
    names = dict(nnx=nnx, partial=functools.partial, C=C, G=GROUP.order, rngs=nnx.Rngs(0))
    layer = eval(call, names)
    if isinstance(layer, nnx.Module):
        rng = np.random.default_rng(1)
        state = nnx.state(layer, (nnx.Param, nnx.BatchStat))
        trained = [
            (path, leaf.replace(jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape))))
            for path, leaf in nnx.to_flat_state(state)
        ]
        nnx.update(layer, nnx.from_flat_state(trained))
    return layer


@functools.cache
def compiled(call, given):
    """Compile a layer that is made afresh in every call, so that dropout draws the same mask."""

    def function(x):
        layer = make(call)
        return layer(x) if given == "x" else layer(x.reshape(*x.shape[:-2], -1)).reshape(x.shape)

    return jax.jit(function)


def apply(call, given, x):
    """Apply a layer of the table to a field."""
    return compiled(call, given)(x)


def worst_error(call, given):
    """Relative error of f(L_g x) against L_g f(x) for a quarter turn and a mirror.

    Every other element is a product of these two.
    """
    still = apply(call, given, X)
    errors = []
    for g in (1, 4):
        moved = apply(call, given, pdo.act(GROUP, g, X, "field"))
        expected = pdo.act(GROUP, g, still, "field")
        errors.append(np.linalg.norm(moved - expected) / np.linalg.norm(expected))
    return max(errors)


def test_every_row_of_the_table_is_read():
    table = [line for line in DOC.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert len(ROWS) == len(table) - 2  # without the head and its rule
    layers = "BatchNorm", "LayerNorm", "RMSNorm", "InstanceNorm", "GroupNorm", "Dropout", "relu"
    missing = [name for name in layers if not any(f"nnx.{name}" in call for call, *_ in ROWS)]
    assert not missing
    assert {verdict for *_, verdict in ROWS} == {"safe", "unsafe", "in distribution"}


@pytest.mark.parametrize(
    ("call", "given", "verdict"), ROWS, ids=[f"{c} on {g}" for c, g, _ in ROWS]
)
def test_the_table_is_right(call, given, verdict):
    if "glu, axis=-2" in call:
        assert apply(call, given, X).shape[-2] == GROUP.order // 2  # not even a field
        return
    error = worst_error(call, given)
    if verdict == "safe":
        assert error < 1e-12
    else:
        assert error > 1e-2
    output = apply(call, given, X)
    changed = output.shape != X.shape or not np.allclose(output, X)
    assert changed or "deterministic" in call  # none passes by doing nothing


@pytest.mark.parametrize("call", [c for c, _, verdict in ROWS if verdict == "in distribution"])
def test_dropout_with_a_moved_mask_moves_its_output(call):
    # A mask of independent entries is as probable as the moved mask: that is all that holds.
    mask = apply(call, "x", np.ones_like(X))
    np.testing.assert_allclose(apply(call, "x", X), mask * X, rtol=1e-12)
    assert set(np.unique(mask)) == {0.0, 2.0}
    for g in (1, 4):
        moved_mask = pdo.act(GROUP, g, mask, "field")
        moved_output = pdo.act(GROUP, g, mask * X, "field")
        np.testing.assert_allclose(moved_mask * pdo.act(GROUP, g, X, "field"), moved_output)
    # The mask that drops whole fields is moved to itself.
    whole = apply("nnx.Dropout(0.5, broadcast_dims=(1, 2, 3), rngs=rngs)", "x", np.ones_like(X))
    for g in (1, 4):
        np.testing.assert_array_equal(pdo.act(GROUP, g, whole, "field"), whole)


def test_statistics_of_batch_norm_are_one_number_a_field():
    norm = make("nnx.BatchNorm(C, momentum=0.0, rngs=rngs)")
    norm(jnp.asarray(X))
    np.testing.assert_allclose(norm.mean[...], X.mean(axis=(0, 1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(norm.var[...], X.var(axis=(0, 1, 2, 3)), rtol=1e-12)


def test_unsafe_calls_look_safe_with_initial_parameters():
    # Why the table speaks of trained parameters: ones and zeros hide the group axis.
    norm = nnx.LayerNorm(
        GROUP.order * C,
        reduction_axes=(-2, -1),
        feature_axes=(-2, -1),
        param_dtype=jnp.float64,
        rngs=nnx.Rngs(0),
    )
    pdo.assert_equivariant(norm, jnp.asarray(X), GROUP, input_kind="field")
    norm.scale[...] = jnp.linspace(0.5, 1.5, GROUP.order * C)
    with pytest.raises(AssertionError, match="not equivariant to p4m"):
        pdo.assert_equivariant(norm, jnp.asarray(X), GROUP, input_kind="field")
