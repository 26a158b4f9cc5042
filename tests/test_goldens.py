"""The library against numbers of other people's programs; `goldens/README.md` says whose."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo

GOLDENS = Path(__file__).parent / "goldens"
ORIENTATION = np.pi / 8  # of the official networks
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}


def read(name):
    with np.load(GOLDENS / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def official():
    return read("pdo_official")


def distance(a, b):
    assert a.shape == b.shape
    return np.max(np.abs(np.asarray(a, np.float64) - b)) / np.max(np.abs(b))


def outputs(official, group, dtype, orientation=ORIENTATION):
    """Everything that the official program computed, computed by the library: {key: array}."""
    B = pdo.filter_basis(group, orientation=orientation)

    def array(key):
        return jnp.asarray(official[f"{group}_{key}"], dtype)

    stride = int(official[f"{group}_group_stride"])
    lift, conv, point = (array(f"{kind}_weights") for kind in ("lift", "group", "pointwise"))
    return {
        f"{group}_lift_kernel": pdo.lift_kernel(lift, B),
        f"{group}_lift_y": pdo.lift_conv(array("lift_x"), lift, B),
        f"{group}_group_kernel": pdo.group_kernel(conv, B),
        f"{group}_group_y": pdo.group_conv(array("group_x"), conv, B, stride),
        f"{group}_pointwise_y": pdo.pointwise_group_conv(array("group_x"), point, B.group),
    }


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("group", ["p4", "p8"])
def test_official_source(official, group, dtype):
    for key, actual in outputs(official, group, dtype).items():
        assert actual.dtype == dtype
        assert distance(actual, official[key]) <= TOLERANCE[dtype], key


@pytest.mark.parametrize("group", ["p4", "p8"])
def test_another_orientation_is_another_network(official, group):
    for key, actual in outputs(official, group, "float64", -ORIENTATION).items():
        far = distance(actual, official[key]) > 0.1
        assert far or "pointwise" in key, key  # a pointwise layer has no direction


def test_files_are_complete(official):
    shapes = {"kernel_size": (3,), "se2_metric": (3, 3), "r2_metric": (3, 2, 2)}
    images, fields = ["x", "diffusion"], ["x"]
    for alpha in ("0.65", "0.8", "1.0"):
        fields += [f"dilation_{alpha}", f"erosion_{alpha}"]
        images += [f"dilation_{alpha}", f"erosion_{alpha}"] if alpha != "0.8" else []
    shapes |= {f"se2_{key}": (2, 9, 8, 4, 3) for key in fields}
    shapes |= {f"r2_{key}": (2, 9, 8, 3) for key in images}
    pde = read("pde_lietorch")
    assert {key: array.shape for key, array in pde.items()} == shapes

    shapes = {}
    for group, order in (("p4", 4), ("p8", 8)):
        shapes |= {
            f"{group}_lift_x": (2, 9, 9, 3),
            f"{group}_lift_weights": (9, 3, 2),
            f"{group}_lift_kernel": (5, 5, 3, order * 2),
            f"{group}_lift_y": (2, 9, 9, order, 2),
            f"{group}_group_x": (2, 9, 9, order, 3),
            f"{group}_group_weights": (9, order, 3, 2),
            f"{group}_group_kernel": (5, 5, order * 3, order * 2),
            f"{group}_group_y": (2, 9, 9, order, 2),
            f"{group}_group_stride": (),
            f"{group}_pointwise_weights": (order, 3, 2),
            f"{group}_pointwise_y": (2, 9, 9, order, 2),
        }
    assert {key: array.shape for key, array in official.items()} == shapes

    for array in (*pde.values(), *official.values()):
        assert np.all(np.isfinite(array)) and np.any(array != 0)
