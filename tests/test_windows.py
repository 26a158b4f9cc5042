"""Padding in numbers, and the warning where a stride breaks the symmetry of the grid."""

import itertools
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

import pdo_jax as pdo
from pdo_jax import windows


@pytest.fixture(autouse=True)
def forget_warnings():
    """Let every test see the warnings that are given once only."""
    windows._warn_once.cache_clear()


@pytest.mark.parametrize(
    ("padding", "extents", "mode", "pairs"),
    [
        ("SAME", (5, 3), "constant", ((2, 2), (1, 1))),
        ("SAME", (9, 1), "constant", ((4, 4), (0, 0))),  # 5 taps at dilation 2
        ("SAME", (2, 6), "constant", ((0, 0), (2, 2))),  # even windows, as of pools
        ("VALID", (5, 3), "constant", ((0, 0), (0, 0))),
        ("CIRCULAR", (5, 3), "wrap", ((2, 2), (1, 1))),
        ("REFLECT", (5, 3), "reflect", ((2, 2), (1, 1))),
        (2, (5, 3), "constant", ((2, 2), (2, 2))),
        ((2, 0), (5, 3), "constant", ((2, 2), (0, 0))),
        ([(0, 2), 1], (5, 3), "constant", ((0, 2), (1, 1))),
        (((0, 2), (3, 1)), (5, 3), "constant", ((0, 2), (3, 1))),
        ("SAME", (5, 3, 7), "constant", ((2, 2), (1, 1), (3, 3))),
        (1, (5, 3, 7), "constant", ((1, 1),) * 3),
    ],
    ids=str,
)
def test_padding_in_numbers(padding, extents, mode, pairs):
    resolved = windows.resolve_padding(padding, extents)
    assert (resolved.mode, resolved.pairs) == (mode, pairs)
    assert all(type(p) is int for pair in resolved.pairs for p in pair)


def test_integers_of_numpy_are_integers(unhooked):
    for padding in (np.int64(2), [np.int64(2), 2], [(2, np.int64(2)), np.int64(2)]):
        resolved = windows.resolve_padding(padding, (5, 3))
        assert resolved.pairs == ((2, 2), (2, 2))
        assert all(type(p) is int for pair in resolved.pairs for p in pair)


def symmetric(n, extent, stride, low, high):
    """Whether the centres of all windows lie symmetrically about the centre of n pixels."""
    starts = np.arange(-low, n + high - extent + 1, stride)
    centres = starts + (extent - 1) / 2 - (n - 1) / 2
    return np.allclose(centres, -centres[::-1])


def warns(n, extent, stride, low, high):
    """Whether `place` warns about this geometry."""
    windows._warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        windows.place("f", (n,), (extent,), (stride,), [(low, high)])
    return bool(caught)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_place_warns_exactly_where_the_windows_are_not_symmetric(stride):
    found = set()
    for n, extent, low, high in itertools.product(range(1, 12), (1, 2, 3, 5), (0, 1, 2), (0, 1, 2)):
        if stride == 1 and low != high:
            continue  # said by the user, and no matter of strides
        if n + low + high >= extent:
            asymmetric = not symmetric(n, extent, stride, low, high)
            assert warns(n, extent, stride, low, high) == asymmetric, (n, extent, low, high)
            found.add(asymmetric)
    assert found == ({False} if stride == 1 else {False, True})


@pytest.mark.parametrize(
    ("n", "extent", "stride", "padding", "sizes"),
    [
        (28, 5, 2, "SAME", (27, 29)),
        (28, 3, 2, "VALID", (27, 29)),
        (27, 2, 2, "VALID", (26, 28)),
        (28, 3, 3, "SAME", (25, 28, 31)),
        (10, 5, 4, "SAME", (9, 13)),
    ],
)
def test_the_warning_names_the_sizes_that_keep_quarter_turns(n, extent, stride, padding, sizes):
    if n in sizes:
        windows.place("f", (n,), (extent,), (stride,), padding)  # warnings are errors
        return
    with pytest.warns(pdo.EquivarianceWarning) as caught:
        windows.place("f", (n,), (extent,), (stride,), padding)
    (message,) = (str(w.message) for w in caught)
    assert message.startswith(f"f: a window of {extent} with stride {stride}")
    assert f"on {n} pixels" in message
    assert message.endswith(f"sizes that keep them exact: {', '.join(map(str, sizes))}.")
    low = (extent - 1) // 2 if padding == "SAME" else 0
    assert all(symmetric(m, extent, stride, low, low) for m in sizes)


def test_unequal_sides_are_named_as_the_cause():
    with pytest.warns(pdo.EquivarianceWarning, match=r"padding \(0, 1\).*; pad both sides equally"):
        windows.place("f", (8,), (3,), (2,), [(0, 1)])


def test_the_warning_comes_once_for_every_caller_and_geometry():
    def count(*calls):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for caller, n in calls:
                windows.place(caller, (n, n), (5, 5), (2, 2), "SAME")
        return len(caught)

    assert count(("f", 8), ("f", 8)) == 1  # both axes and both calls share it
    assert count(("f", 8)) == 0
    assert count(("f", 10)) == 1
    assert count(("g", 8)) == 1
    assert count(("f", 9), ("g", 11)) == 0


def test_the_warning_names_the_public_function():
    basis = pdo.filter_basis("p4")
    with pytest.warns(pdo.EquivarianceWarning, match="lift_conv") as caught:
        pdo.lift_conv(np.zeros((4, 4, 1)), np.zeros((9, 1, 1)), basis, 2)
    assert len(caught) == 1


CALLER = """
import jax.numpy as jnp, pdo_jax as pdo
from flax import nnx
layer = pdo.nn.PDOLift(1, 1, "p4", strides=2, rngs=nnx.Rngs(0))
layer(jnp.zeros((4, 4, 1)))
"""


@pytest.mark.slow
def test_the_warning_points_to_the_caller():  # whose annotations nothing checks
    command = [sys.executable, "-c", CALLER]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "<string>:5: EquivarianceWarning" in run.stderr


def test_free_sizes_are_neither_too_small_nor_unsymmetric(unhooked):
    sizes = jax.export.symbolic_shape("h, w")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert windows.place("f", sizes, (5, 5), (2, 2), "SAME").pairs == ((2, 2), (2, 2))
        assert windows.place("f", sizes, (5, 5), (1, 1), "VALID").pairs == ((0, 0), (0, 0))


@pytest.mark.parametrize("padding", ["VALID", 0, [(0, 1), (1, 0)]], ids=str)
def test_an_image_smaller_than_the_window_is_refused(padding):
    with pytest.raises(ValueError, match=r"f: padding .* leaves 3 pixels .* window of 5"):
        windows.place("f", (3 - (padding not in ("VALID", 0)),) * 2, (5, 5), (1, 1), padding)
    windows.place("f", (5, 5), (5, 5), (1, 1), "VALID")
    windows.place("f", (1, 1), (5, 5), (1, 1), "SAME")
