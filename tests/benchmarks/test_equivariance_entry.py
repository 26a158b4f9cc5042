"""The measurements of equivariance: their signals and errors against oracles, and their records."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import pdo_jax as pdo
from benchmarks import equivariance
from benchmarks.__main__ import RESULTS, main
from benchmarks.measures import angles, layers, order, patches, peers, signals
from benchmarks.measures.variants import Variant, sharpness, variants
from experiments.results import ROOT, Result
from pdo_jax.stencils import SCHEMES

SCHEMA = {field.name for field in dataclasses.fields(Result)}
PARTS = ("order", "angles", "peers")
TINY = {
    "order": "--groups p8 --schemes finite-difference --accuracies 2 --networks --points 8",
    "angles": "--groups p8 --schemes finite-difference --sizes 5 --points 8",
}


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).normal(size=(20, 24))
    # The points of `convergence_errors` for seed 0.
    points = np.random.default_rng(0).uniform(-3, 3, (8, 2))
    return signals.Picture.of(pixels, 1.0, points)


# ------------------------------------------------------------------------------------- signals


def test_a_picture_goes_through_its_pixels(picture):
    pixels = np.random.default_rng(0).normal(size=(20, 24))
    position = np.array([[3 - 11.5, 9.5 - 5]])  # column 3, row 5
    np.testing.assert_allclose(picture.image(position)[0, 0], pixels[5, 3], atol=1e-12)


@pytest.mark.parametrize("step", [1.0, 2.0])
def test_derivatives_are_those_of_the_image(picture, step):
    picture = dataclasses.replace(picture, step=step)
    p, h = picture.points[:, None], 1e-5
    for axis, orders in enumerate([(1, 0), (0, 1)]):
        shift = h * np.eye(2)[axis]
        difference = (picture.image(p + shift) - picture.image(p - shift)) / (2 * h)
        np.testing.assert_allclose(picture.derivative(p, *orders), difference[..., 0], atol=1e-6)


def test_a_field_turns_with_its_picture(picture):
    """The field of a picture whose pixels are turned by 90 degrees is the field, moved."""
    G = pdo.group("p8")
    turned = signals.Picture.of(
        np.rot90(np.random.default_rng(0).normal(size=(20, 24))), 1.0, picture.points
    )
    p = picture.points
    field = picture.field(p @ G.matrices[2], G)  # g^-1 p = p g, row by row
    moved = field[:, G.product[G.inverse[2]]]
    np.testing.assert_allclose(turned.field(p, G), moved, atol=1e-10)


def test_plane_waves_have_unit_variance():
    wave = signals.plane_waves(0, (2000,))
    assert np.var(wave(np.zeros(2))) == pytest.approx(1, abs=0.1)


def test_digits_say_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.delenv("PDO_JAX_DATA", raising=False)
    (name,) = signals.load(["digits"], 8, 2, None)
    assert name == "scikit-learn's digits"
    images = np.random.default_rng(0).integers(0, 255, (2, 28, 28), np.uint8)
    np.savez(tmp_path / "mnist.npz", train_images=images)
    for data in (tmp_path, None):
        (name,) = signals.load(["digits"], 8, 2, data)
        assert name == "MNIST"
        monkeypatch.setenv("PDO_JAX_DATA", str(tmp_path))


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", ["image", "field"])
def test_errors_are_those_of_convergence_errors(picture, kind):
    G = pdo.group("p8")
    basis = pdo.filter_basis(G)
    elements = list(range(G.order))
    rng = np.random.default_rng(1)
    if kind == "image":
        x = patches.image_patches([picture], G, elements, basis.size)
        w = layers.weights(rng, basis, 1, 1)
        kernel, convolve, signal = pdo.lift_kernel(w, basis), pdo.lift_conv, picture.image
    else:
        x = patches.field_patches([picture], G, elements, basis.size)
        w = layers.weights(rng, basis, 8, 4, 1)
        kernel, convolve = pdo.group_kernel(w, basis), pdo.group_conv

        def signal(positions):
            return picture.field(positions, G)

    y = layers.apply(layers.centre, x.reshape(*x.shape[:4], -1), 8, kernel)
    expected = pdo.convergence_errors(
        lambda x, mesh: convolve(x, w, basis, padding="VALID"),
        G,
        size=basis.size,
        meshes=(1.0,),
        signal=signal,
        points=8,
        input_kind=kind,
    )
    found = patches.errors(y, G, elements)
    np.testing.assert_allclose(found, expected[0], atol=1e-12)
    assert np.all(found[::2] < 1e-12) and np.all(found[1::2] > 1e-2)
    # What does not turn the output, or turns it the wrong way, is seen at once.
    assert np.all(patches.errors(y[:, :, ::-1], G, elements)[1:4] > 0.1)
    assert np.all(patches.errors(y, G, elements, "image")[1:4] > 0.1)


def test_every_channel_counts_alike():
    G = pdo.group("p4")
    y = np.random.default_rng(0).normal(size=(2, 50, 4, 2))
    error = patches.errors(y, G, [0, 1])
    np.testing.assert_allclose(patches.errors(y * [1, 1e3], G, [0, 1]), error)
    assert error[0] == 0 and error[1] > 1


def test_two_layers_are_the_layers_of_the_library():
    basis = pdo.filter_basis("p4")
    rng = np.random.default_rng(0)
    w, v = layers.weights(rng, basis, 1, 2), layers.weights(rng, basis, 4, 2, 3)
    x = rng.normal(size=(1, 3, 5, 5, 1))
    kernels = pdo.lift_kernel(w, basis), pdo.group_kernel(v, basis)
    hidden = pdo.lift_conv(x[0], w, basis, padding="VALID")
    expected = pdo.group_conv(jnp.maximum(hidden, 0), v, basis, padding="VALID")
    np.testing.assert_allclose(
        layers.apply(layers.two_layers, x, 4, *kernels)[0], expected[:, 0, 0], atol=1e-12
    )


def test_variants_fill_their_size():
    found = variants("p8", ("finite-difference",), (3, 5, 7, 9), ("total", "box"))
    assert [(v.operators, v.size, v.accuracy) for v in found] == [
        ("total", 3, 2), ("total", 5, 4), ("total", 7, 6), ("box", 5, 2), ("box", 7, 4),
        ("box", 9, 6),
    ]  # fmt: skip
    assert Variant("gaussian", "box", 2, 5, (("sigma", 0.75),)).name == "gaussian 2, sigma 0.75"


def test_every_scheme_is_a_variant():
    found = {v.scheme for v in variants("p8", tuple(SCHEMES), (5,), ("box",))}
    assert found == set(SCHEMES)


def test_sharpness():
    assert sharpness(np.ones((1, 1))) == pytest.approx(np.pi * np.sqrt(2 / 3), rel=1e-2)
    assert sharpness(np.ones((7, 7))) < 1.5 < sharpness(np.array([[1.0, -2.0, 1.0]])) + 1


# --------------------------------------------------------------------------------------- entry


def arguments(part, out, options):
    return f"equivariance --part {part} {options} --draws 2 --cores 0 --out {out}".split()


@pytest.mark.parametrize("part", TINY)
def test_a_part_writes_a_record_and_a_plot(part, tmp_path, capsys):
    out = tmp_path / "result.json"
    main(arguments(part, out, TINY[part]))
    record = json.loads(out.read_text())
    assert set(record) == SCHEMA
    assert record["name"] == f"equivariance_{part}"
    assert record["seeds"] == [0, 1]
    printed = capsys.readouterr().out
    assert all(line in printed for line in equivariance.tables(part, cases(record)))
    assert all(key in printed for key in record["metrics"])
    assert (tmp_path / f"equivariance_{part}.png").stat().st_size > 1000
    if part == "order":
        assert record["metrics"]["lift, accuracy 2: largest |slope - 2|"] < 0.05
    else:
        assert record["metrics"]["largest error at 90 degrees"] < 1e-12


@pytest.mark.slow
def test_smooth_networks_have_an_order_and_others_none():
    smooth, kinked = (order.network(name, 2, 4, (0, 1)) for name in ("tanh", "ReLU"))
    assert smooth["slope"] == pytest.approx(2, abs=0.1)
    assert kinked["slope"] < 1
    for window, rounding, errors in zip(
        smooth["fitted meshes"], smooth["rounding"], smooth["errors"], strict=True
    ):
        index = smooth["meshes"].index(window[-1])
        assert len(window) == 3 and rounding[index] <= 0.03 * errors[index]


def test_peers_say_what_to_install(tmp_path):
    out = tmp_path / "result.json"
    with pytest.raises(FileNotFoundError, match="pip install -r benchmarks/peers.txt"):
        main(arguments("peers", out, f"--escnn {tmp_path}/python"))
    assert (ROOT / "benchmarks/peers.txt").exists()


def test_peers_without_escnn():
    found = peers.measure(
        ("photographs",), ("p8",), ("finite-difference",), (5,), 16, (0, 1), None, None
    )
    assert len(peers.lines(found)) == 2 + 2  # two layers
    assert len(peers.sizes(found)) in (2 + 2 * 2, 2 + 2 * 3)  # the best may be the default
    lift = [case for case in found if case["layer"] == "lift"]
    ours, plain = min(lift, key=lambda case: case["image error"]), lift[-1]
    assert {case["parameters"] for case in lift} == {6 * 4, 9 * 4, 25 * 8 * 4}
    assert ours["image error"] < 0.3 < plain["image error"]
    assert plain["image error, quarter turn"] > 0.1 and plain["error"] is None
    assert peers.metrics(found)["largest error at 90 degrees, ours"] < 1e-12
    assert list(peers.points(found))[0] == "lift, p8, 5x5, photographs"


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / equivariance.Config(part="peers").escnn).exists(), reason="there is no escnn"
)
def test_escnn_is_laid_out_as_we_are(tmp_path):
    out = tmp_path / "result.json"
    main(arguments("peers", out, "--groups p8 --schemes finite-difference --sizes 5 --points 16"))
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["largest error at 90 degrees, escnn"] < 1e-12
    assert metrics["default / escnn, p8, 5x5, lift, photographs"] > 0


def test_one_draw_has_no_error():
    with pytest.raises(ValueError, match=r"draws \(=1\) must be at least 2"):
        equivariance.run(equivariance.Config(part="order", draws=1))


# ------------------------------------------------------------------------------------- records


def cases(record):
    columns = record["curve"]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.fixture(scope="module", params=PARTS)
def record(request):
    return json.loads((RESULTS / f"equivariance_{request.param}.json").read_text())


def test_the_docs_show_the_records(record):
    part = record["config"]["part"]
    text = (ROOT / "docs/equivariance.md").read_text(encoding="utf-8")
    missing = [line for line in equivariance.tables(part, cases(record)) if line not in text]
    assert not missing
    assert f"images/equivariance_{part}.png" in text


def test_records_come_from_the_default_command(record):
    part = record["config"]["part"]
    command = record["command"].removesuffix(" --overwrite")
    assert command == f"python -m benchmarks equivariance --part {part}"
    assert set(record) == SCHEMA


def test_records_meet_what_was_asked(record):
    metrics, part = record["metrics"], record["config"]["part"]
    if part == "order":
        linear = [v for k, v in metrics.items() if "layers" not in k]
        assert linear and max(linear) < 0.05
    else:
        assert max(v for k, v in metrics.items() if "90 degrees" in k) < 1e-12
    if part == "peers":
        assert max(v for k, v in metrics.items() if k.startswith("best / escnn")) < 1


def test_the_winner_of_a_row_is_bold():
    row = {"picture": "a", "layer": "lift", "size": 5, "operators": "box", "sharpness": 2.0}
    errors = {"optimal 2, band 3": 0.1, "optimal 4, band 3": 0.3, "gaussian 2, sigma 1": 0.2}
    table = angles.lines([row | {"scheme": s, "mean error": e} for s, e in errors.items()])
    assert table[0] == "| layer | kernel | operators | pictures | optimal | gaussian |"
    cells = "**0.1** (2, band 3; 2.00) | 0.2 (2, sigma 1; 2.00)"
    assert table[2] == f"| lift | 5x5 | box | a | {cells} |"
