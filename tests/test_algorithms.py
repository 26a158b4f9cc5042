"""Which way a convolution is computed: what each serves, what it is said to cost, and the choice.

Most of it is asked of `algorithms` itself, without an array; the costs are replaced by some that
make the choice plain, since those of the library are measured, and change.
"""

import json
import logging

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from benchmarks.__main__ import RESULTS
from pdo_jax import algorithms, harmonic_conv
from pdo_jax.algorithms import COUNTS, Shapes

WAYS = ("direct", "stencils", "harmonic")
FIELDS = Shapes(4, (6, 7), 2, 3, True, (1, 1), (1, 1), (1, 1), ((1, 1), (1, 1)))
IMAGES = FIELDS._replace(field=False)
P4 = pdo.filter_basis("p4")


def choose(basis=P4, shapes=FIELDS, groups=1, dtype="float32"):
    """Return the choice, and why."""
    return algorithms.choose(basis, shapes, groups, dtype)


@pytest.fixture
def price(monkeypatch):
    """Return what sets the seconds of a call, in the order of `WAYS`: nothing else costs."""

    def set_costs(*seconds):
        for way, cost in zip(WAYS, seconds, strict=True):
            costs = tuple(cost if count == "calls" else 0.0 for count in COUNTS)
            monkeypatch.setitem(algorithms.COSTS, way, costs)

    return set_costs


# ---------------------------------------------------------------- what each way serves


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("stencils", dict(strides=(1, 2)), r"strides \(=\(1, 2\)\) above 1"),
        ("stencils", dict(feature_group_count=2), r"feature_group_count \(=2\) above 1"),
        ("harmonic", dict(feature_group_count=2), r"feature_group_count \(=2\) above 1"),
    ],
    ids=["strides", "feature groups", "feature groups, harmonic"],
)
@pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")
def test_what_a_way_does_not_serve_is_said(algorithm, options, message):
    x, w = jnp.ones((5, 5, 4, 2)), jnp.ones((9, 4, 2 // options.get("feature_group_count", 1), 2))
    with pytest.raises(ValueError, match=rf"algorithm \(='{algorithm}'\) does not serve {message}; "
                                         "pass algorithm='auto' or 'direct'"):  # fmt: skip
        pdo.group_conv(x, w, P4, **options, algorithm=algorithm)


def test_an_enlarged_input_is_a_stride():
    x, w = jnp.ones((5, 5, 4, 2)), jnp.ones((9, 4, 2, 2))
    with pytest.raises(ValueError, match=r"'stencils'\) does not serve strides \(=\(3, 3\)\)"):
        pdo.group_conv_transpose(x, w, P4, 3, algorithm="stencils")


@pytest.mark.parametrize("algorithm", ["stencils", "harmonic"])
def test_too_many_taps_are_refused_and_left_to_direct(algorithm):
    B = pdo.filter_basis("p4", scheme="gaussian", sigma=2.5)
    x, w = jnp.ones((11, 11, 4, 1)), jnp.ones((9, 4, 1, 1))
    with pytest.raises(ValueError, match=r"a basis whose stencils have \d+ taps, above 256"):
        pdo.group_conv(x, w, B, algorithm=algorithm)
    assert choose(B) == ("direct", "nothing else serves it")


def test_obstacles():
    def obstacles(basis=P4, groups=1, **changes):
        shapes = FIELDS._replace(**changes)
        found = (algorithms.obstacle(way, basis, shapes, groups) for way in WAYS)
        return [way for way, words in zip(WAYS, found, strict=True) if not words]

    assert obstacles() == ["direct", "stencils", "harmonic"]
    assert obstacles(strides=(2, 1)) == obstacles(enlargement=(1, 2)) == ["direct", "harmonic"]
    assert obstacles(groups=2) == ["direct"]
    assert obstacles(dilation=(3, 1)) == ["direct", "stencils", "harmonic"]
    for group in ("T", "O"):
        assert obstacles(pdo.filter_basis(group)) == ["direct", "stencils", "harmonic"]


# ---------------------------------------------------------------- the choice


def test_the_cheapest_is_chosen(price):
    for seconds in ((1, 2, 3), (2, 1, 3), (3, 2, 1)):
        price(*seconds)
        assert choose()[0] == WAYS[np.argmin(seconds)]
    assert choose()[0] == choose(shapes=FIELDS._replace(batch=10**6))[0] == "harmonic"


def test_what_does_not_serve_is_not_chosen(price):
    price(3, 1, 2)
    assert choose(groups=2) == ("direct", "nothing else serves it")


def test_free_sizes_take_stencils():
    sizes = jax.export.symbolic_shape("h, w")
    assert choose(shapes=FIELDS._replace(sizes=sizes)) == (
        "stencils", "images of free size have no cost that could be compared"
    )  # fmt: skip


@pytest.mark.parametrize("shapes", [FIELDS, IMAGES], ids=["fields", "images"])
@pytest.mark.parametrize("steps", ["strides", "enlargement"])
def test_strides_are_direct(price, shapes, steps):
    price(3, 1, 2)
    reason = "nothing else is measured with strides"
    assert choose(shapes=shapes._replace(**{steps: (2, 2)})) == ("direct", reason)


def test_images_take_stencils(price):
    price(1, 2, 3)
    assert choose(shapes=IMAGES) == (
        "stencils", "images have few channels, to which stencils are applied"
    )  # fmt: skip


def test_the_reason_names_every_cost(price):
    price(2.5e-3, 3.14159, 4e-7)
    words = "estimated on one core, with gradients: direct 2.5 ms, stencils 3.14e+03 ms, "
    assert choose() == ("harmonic", words + "harmonic 0.0004 ms")


def test_other_backends_and_short_numbers_are_not_measured(price, monkeypatch):
    price(3, 2, 1)
    for dtype in ("bfloat16", "float16"):
        assert choose(dtype=jnp.dtype(dtype)) == ("direct", f"nothing else is measured in {dtype}")
    assert choose(dtype="float64")[0] == "harmonic"
    for backend in ("gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        for shapes in (FIELDS, IMAGES):
            assert choose(shapes=shapes) == ("direct", f"nothing else is measured on {backend}")


def test_a_free_batch_is_chosen_for(price):
    price(3, 2, 1)
    (free,) = jax.export.symbolic_shape("batch")
    assert choose(shapes=FIELDS._replace(batch=free)) == choose()


def test_the_choice_is_logged_on_request(price, caplog):
    price(1, 2, 3)
    with caplog.at_level(logging.INFO, "pdo_jax.algorithms"):
        choose()
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "pdo_jax.algorithms"):
        _, reason = choose()
    (message,) = caplog.messages
    assert message.startswith("direct for p4 on Shapes(batch=4, sizes=(6, 7), ")
    assert message.endswith(reason)


@pytest.mark.filterwarnings("ignore::pdo_jax.EquivarianceWarning")
def test_what_is_chosen_is_what_runs(price):
    B = pdo.filter_basis("p4", operators="total", order=1)
    x, w = jnp.ones((1, 5, 5, 4, 1), "float32"), jnp.ones((3, 4, 1, 1), "float32")

    def way(call=pdo.group_conv, x=x, w=w, **options):
        text = str(jax.make_jaxpr(lambda x, w: call(x, w, B, **options))(x, w))
        found = [name for name in WAYS if f"pdo_{name.removesuffix('s')}_conv" in text]
        return found[0] if found else "direct"

    price(3, 1, 2)
    assert way() == way(kernel_dilation=2, padding="REFLECT") == "stencils"
    assert way(strides=2) == way(pdo.group_conv_transpose, strides=2) == "direct"
    assert way(algorithm="harmonic") == way(algorithm="harmonic", strides=2) == "harmonic"
    assert way(algorithm="direct") == way(x=x.astype("bfloat16")) == "direct"
    assert way(pdo.lift_conv, x[..., 0, :], w[:, 0]) == "stencils"
    price(1, 2, 3)
    assert way() == "direct"
    assert way(x=x.astype("bfloat16"), algorithm="stencils") == "stencils"


# ---------------------------------------------------------------- what is counted


def test_dense_counts_are_those_of_the_kernel():
    shapes = FIELDS._replace(strides=(2, 1), pads=((1, 2), (0, 1)), dilation=(2, 1))
    kernel = jax.eval_shape(
        lambda w: pdo.group_kernel(w, P4), jax.ShapeDtypeStruct((9, 4, 2, 3), "float32")
    )
    pixels = 4 * ((6 + 3 - 4 - 1) // 2 + 1) * (7 + 1 - 2)
    found = dict(zip(COUNTS, algorithms.counts("direct", P4, shapes), strict=True))
    assert found["products"] == kernel.size * pixels
    assert found["weights"] == kernel.size
    assert found["numbers"] == 4 * 6 * 7 * 4 * 2 + pixels * 4 * 3
    images = algorithms.counts("direct", P4, shapes._replace(field=False))
    assert images[COUNTS.index("products")] * 4 == found["products"]


@pytest.mark.parametrize("group", ["p3", "p8", "p4m"])
def test_harmonic_counts_are_those_of_its_matrices(group):
    """Every number of its matrices meets every place of the line once."""
    B = pdo.filter_basis(group, operators="total")
    placement = harmonic_conv.place(B, (1, 2), (1, 1), (1, 1), ((1, 1), (1, 1)), None)
    found = algorithms.counts("harmonic", B, FIELDS._replace(strides=(1, 2)))
    cosets = 2 if group.endswith("m") else 1
    weights = jax.ShapeDtypeStruct(
        (found[COUNTS.index("weights")] // (B.group.order * cosets * 6), B.group.order // cosets,
         2 * cosets, 3 * cosets), "float32")  # fmt: skip
    matrices = jax.eval_shape(lambda w: harmonic_conv._matrices(w, placement), weights)
    line = (6 + 1) * (4 + 1)  # 7 columns in steps of 2, and zeros before the next row
    assert found[COUNTS.index("products")] == 4 * line * sum(m.size for m in matrices)


def test_costs_grow_with_the_group_and_with_its_square():
    def growth(way):
        few, many = (
            algorithms.counts(way, pdo.filter_basis(group), FIELDS)[COUNTS.index("products")]
            for group in ("p8", "p32")
        )
        return np.log(many / few) / np.log(4)

    assert abs(growth("direct") - 2) < 0.01
    assert growth("stencils") > 1.9
    assert growth("harmonic") < 1.2


def test_seconds_are_the_sum_of_what_is_counted(monkeypatch):
    for way in WAYS:
        found = algorithms.counts(way, P4, FIELDS)
        assert len(found) == len(COUNTS) == len(algorithms.COSTS[way])
        for i, count in enumerate(found):
            costs = tuple(2.0 * (i == j) for j in range(len(found)))
            monkeypatch.setitem(algorithms.COSTS, way, costs)
            assert algorithms.seconds(way, P4, FIELDS) == 2 * count


def test_many_fields_of_a_large_group_are_worth_the_transform():
    B = pdo.filter_basis("p16")
    large = FIELDS._replace(batch=16, sizes=(16, 16), channels_in=64, channels_out=64)
    assert choose(B, large)[0] == "harmonic"
    costs = [algorithms.seconds(way, B, large) for way in WAYS]
    assert 2 * costs[2] < min(costs[:2])


def test_the_costs_are_those_that_were_measured():
    record = json.loads((RESULTS / "costs.json").read_text())
    for way in WAYS:
        measured = [record["metrics"][f"{way}, {name}"] for name in COUNTS]
        assert list(algorithms.COSTS[way]) == measured
