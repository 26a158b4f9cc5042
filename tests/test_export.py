"""Folding, files of programs, ONNX, and the weights of the published source."""

import inspect
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax.export import onnx as onnx_module
from pdo_jax.export import program
from tests import laws
from tests.goldens import small_network

TOLERANCE = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 1e-2}


def residual(group, **variant):
    """Return what makes a residual network of two blocks."""
    options = dict(group=group, num_classes=3, in_features=1, **variant)
    return lambda: pdo.models.ResNet((1, 2), (1, 1), **options, rngs=nnx.Rngs(0))


def small(make, **options):
    """Return what makes a network of two levels of operators and dilations."""
    levels = (1, 2, 2), ((3, 3, 3), (3, 3, 3)), ("dilation",)
    return lambda: make(*levels, group="p4", in_features=1, **options, rngs=nnx.Rngs(0))


# The networks of pdo_jax.models as users make them, with the shape of a batch; the residual ones
# and the two of PDE layers that are ours are shorter, each another variant.
MODELS = {
    "resnet8": (residual("p2"), (None, 9, 9, 1)),
    "resnet26": (residual(None), (None, 9, 9, 1)),
    "resnet44": (residual("p8", orientation=np.pi / 8), (None, 9, 9, 1)),
    "wide_resnet26": (residual("p1m"), (None, 9, 9, 1)),
    "invariant_resnet": (
        residual("p4", invariants=3, downsampling="blur", activation="gelu", dropout_rate=0.1),
        (None, 8, 8, 1),
    ),
    "mnist_cnn": (lambda: pdo.models.mnist_cnn(rngs=nnx.Rngs(0)), (None, 28, 28, 1)),
    "mnist_rot": (lambda: pdo.models.mnist_rot(rngs=nnx.Rngs(0)), (None, 28, 28, 1)),
    "mnist_rot invariant": (
        lambda: pdo.models.mnist_rot(invariant=True, rngs=nnx.Rngs(0)),
        (None, 28, 28, 1),
    ),
    "volume_classifier": (
        lambda: pdo.models.volume_classifier((1, 1, 2), rngs=nnx.Rngs(0)),
        (None, 8, 8, 8, 1),
    ),
    "pde_classifier": (small(pdo.models.pde_classifier, num_classes=3), (None, 5, 6, 1)),
    "pde_segmenter": (small(pdo.models.pde_segmenter), (None, 5, 6, 1)),
    "relaxed_classifier": (
        lambda: pdo.models.relaxed_classifier((1, 2), pool_after=(0,), rngs=nnx.Rngs(0)),
        (None, 9, 8, 1),
    ),
    "lenet5": (lambda: pdo.models.lenet5(rngs=nnx.Rngs(0)), (None, 28, 28, 1)),
    "rotnist_pde": (lambda: pdo.models.rotnist_pde(rngs=nnx.Rngs(0)), (None, 28, 28, 1)),
    "rotnist_gcnn": (lambda: pdo.models.rotnist_gcnn(rngs=nnx.Rngs(0)), (None, 28, 28, 1)),
    "vessel_pde": (lambda: pdo.models.vessel_pde(rngs=nnx.Rngs(0)), (None, 9, 8, 3)),
    "vessel_gcnn": (lambda: pdo.models.vessel_gcnn(rngs=nnx.Rngs(0)), (None, 9, 8, 3)),
    "vessel_cnn": (lambda: pdo.models.vessel_cnn(rngs=nnx.Rngs(0)), (None, 9, 8, 3)),
}
# Many layers to compile, of kinds that others of the list have.
LONG = (
    "resnet26", "wide_resnet26", "invariant_resnet", "volume_classifier", "mnist_rot",
    "pde_classifier", "pde_segmenter", "relaxed_classifier", "rotnist_pde", "rotnist_gcnn",
    "vessel_pde", "vessel_gcnn", "vessel_cnn",
)  # fmt: skip

# The modules of the laws, but Linen's, which cannot be taken apart, the networks of the list above,
# PDE layers, in which nothing folds, and those that fold as another one does.
ALIKE = ("lift", "lift-turned", "lift-total", "conv", "conv-turned", "conv-accuracy-4",
         "conv-stride-3", "lift-rbf-fd", "conv-gaussian", "conv-optimal", "mnist-rot",
         "mnist-rot-invariant", "volume-classifier", "invariant-resnet", "u-shaped",
         "relaxed-strict", "relaxed-continuous", "relaxed-lift", "relaxed-stride-2",
         "relaxed-partial", "relaxed-weights", "relaxed-residual",
         "relaxed-volume")  # fmt: skip
MODULES = [
    case
    for case in laws.CASES
    if case.name not in ALIKE
    and not case.name.startswith(("linen", "folded", "pde"))
    and isinstance(case.make(case.groups[0], "float32"), nnx.Module)
]


def noise(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def random(make, seed=1):
    """Make a network for evaluation with random parameters and statistics, none of them 0 or 1.

    They are drawn in NumPy: JAX compiles a program for each shape of which it draws.
    """
    model, rng = nnx.eval_shape(make), np.random.default_rng(seed)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):  # of dropout
            return jax.random.key(0) if leaf.shape == () and path[-1] == "key" else np.uint32(0)
        draws = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]) + 1)
        return jnp.asarray(np.exp(draws) if path[-1] == "var" else draws, leaf.dtype)

    flat = nnx.to_flat_state(nnx.state(model))
    nnx.update(model, nnx.from_flat_state([(p, leaf.replace(draw(p, leaf))) for p, leaf in flat]))
    model.eval()
    return model


def primitives(jaxpr):
    """Return the names of the primitives in a jaxpr, inner ones included."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                names |= primitives(inner.jaxpr)
    return names


def bases(module):
    """Return the bases in the graph of a module."""
    return [value for _, value in nnx.iter_graph(module) if isinstance(value, pdo.FilterBasis)]


def run(function, x, with_primitives=False):
    """Return the compiled function's output, and maybe the primitives that it consists of."""
    traced = jax.jit(lambda x: function(x)).trace(jnp.asarray(x))
    y = np.asarray(traced.lower().compile()(jnp.asarray(x)))
    return (y, primitives(traced.jaxpr)) if with_primitives else y


def check_fold(model, x, tolerance):
    """Fold a model, hold it to its outputs, and return it."""
    folded = pdo.export.fold(model)
    (a, plain), (b, equivariant) = run(folded, x, True), run(model, x, True)
    assert "pdo_expand" in equivariant - plain or "dot_general" in equivariant  # pointwise
    assert "pdo_expand" not in plain
    assert not bases(folded)
    assert a.dtype == b.dtype
    assert laws.distance(a, b) <= tolerance
    return folded


# --------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize("case", MODULES, ids=lambda case: case.name)
def test_folded_layers_are_the_layers(case):
    group, size = case.groups[0], case.sizes[0]
    module = case.make(group, "float64")
    module.eval()
    check_fold(module, laws.sample(case, group, "float64", size, (2,)), 1e-12)


# What no layer of the laws has.
OPTIONS = {
    "no bias, reflect": dict(use_bias=False, padding="REFLECT"),
    "pairs": dict(padding=((0, 1), 2), kernel_dilation=(1, 2)),
    "half precision": dict(dtype="bfloat16", precision="highest"),
    "half precision weights": dict(param_dtype="bfloat16"),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_survives_folding(options):
    layer = random(lambda: pdo.nn.PDOConv(2, 4, "p4", **options, rngs=nnx.Rngs(0)))
    dtype = options.get("param_dtype", "float32")
    check_fold(layer, noise(2, 7, 6, 4, 2, dtype=jnp.dtype(dtype)), TOLERANCE[dtype])


@pytest.mark.parametrize("options", [{}, dict(strides=2), dict(use_bias=False, dtype="bfloat16")])
def test_pointwise_layers_fold(options):
    layer = random(lambda: pdo.nn.PointwiseConv(3, 2, "p3m", **options, rngs=nnx.Rngs(0)))
    check_fold(layer, noise(2, 5, 5, 6, 3), TOLERANCE[options.get("dtype", "float32")])


def relaxed(relaxation, **options):
    """Return a relaxed layer, with what is relaxed unlike zero."""
    options["relaxation"] = relaxation
    layer = random(lambda: pdo.nn.RelaxedConv(2, 3, "p4", **options, rngs=nnx.Rngs(0)))
    if relaxation == "partial":  # quarter turns are kept in part, and the half turn is not
        layer.relaxation.extent[...] = jnp.asarray(0.4, layer.param_dtype)
    assert float(layer.penalty()) > 0.1
    return layer


def relaxations(fast):
    return [
        pytest.param(name, marks=() if name == fast else pytest.mark.slow)
        for name in ("non-stationary", "partial", "weights", "residual")
    ]


@pytest.mark.parametrize("relaxation", relaxations("non-stationary"))
def test_relaxed_layers_keep_their_gains(relaxation):
    layer = relaxed(relaxation, param_dtype="float16")
    folded = check_fold(layer, noise(2, 3, 3, 4, 2, dtype="float16"), 2e-3)
    assert isinstance(folded.strict, pdo.export.FoldedConv)
    before, after = (small_network.arrays(made.relaxation) for made in (layer, folded))
    assert before and before.keys() == after.keys()
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("relaxation", relaxations("partial"))
def test_a_file_of_relaxed_layers_is_the_layers(relaxation, tmp_path):
    layer, x = relaxed(relaxation), noise(2, 3, 3, 4, 2)
    pdo.export.save(layer, tmp_path / "a", (None, 3, 3, 4, 2))
    assert laws.distance(pdo.export.load(tmp_path / "a")(x), run(layer, x)) <= 1e-6


@pytest.mark.slow
def test_a_file_of_operators_and_equations_is_the_network(tmp_path):
    """An equation between two operators: nothing folds in the one, and both others do."""
    model, x = random(lambda: laws.Mixed("p4", "float32")), noise(2, 4, 5, 1)
    pdo.export.save(model, tmp_path / "a", (None, 4, 5, 1))
    assert laws.distance(pdo.export.load(tmp_path / "a")(x), run(model, x)) <= 1e-6


def test_continuous_filters_over_the_whole_input_stay(tmp_path):
    """And a file of them is the network."""
    whole = random(lambda: pdo.nn.RelaxedLift(1, 2, "p4", relative_bandwidth=1.0, kernel_features=4,
                                              rngs=nnx.Rngs(0)))  # fmt: skip
    assert isinstance(pdo.export.fold(whole).strict, type(whole.strict))
    x = noise(2, 4, 4, 1)
    pdo.export.save(whole, tmp_path / "a", (None, 4, 4, 1))
    assert laws.distance(pdo.export.load(tmp_path / "a")(x), run(whole, x)) <= 1e-6


def test_a_folded_pointwise_layer_needs_no_pixels():
    layer = random(lambda: pdo.nn.PointwiseConv(3, 2, "p3m", rngs=nnx.Rngs(0)))
    x = noise(6, 3)
    assert laws.distance(run(pdo.export.fold(layer), x), run(layer, x)) <= 1e-6


def test_layers_in_space_fold():
    turn = pdo.Group("half turn about z", np.stack([np.eye(3), np.diag([-1.0, -1.0, 1.0])]))
    layer = random(lambda: pdo.nn.PDOConv(1, 2, turn, strides=2, rngs=nnx.Rngs(0)))
    folded = check_fold(layer, noise(3, 5, 3, 2, 1), 1e-6)
    assert folded.kernel.shape == (3, 3, 3, 2, 4)


class Nested(nnx.Module):
    """Layers in every kind of container, one of them twice, and a norm that is shared."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.list = nnx.List([pdo.nn.PDOConv(2, 2, "p4", rngs=rngs)])
        self.dict = nnx.Dict(a=pdo.nn.PDOConvTranspose(2, 2, "p4", rngs=rngs), b=self.list[0])
        self.tree = nnx.data({"c": (pdo.nn.PointwiseConv(2, 2, "p4", rngs=rngs), "a word", None)})
        self.sequence = nnx.Sequential(nnx.BatchNorm(2, rngs=rngs), nnx.relu)
        self.shared = self.sequence.layers[0]
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = self.dict["a"](self.list[0](x))
        return self.dropout(self.sequence(self.tree["c"][0](self.dict["b"](x))))


def test_containers_sharing_and_modes_are_kept():
    model = random(Nested)
    before, graphdef = small_network.arrays(model), nnx.graphdef(model)
    folded = check_fold(model, noise(1, 3, 3, 4, 2), 1e-6)
    assert not bases(folded)
    assert folded.list[0] is folded.dict["b"]
    assert folded.shared is folded.sequence.layers[0] is not model.shared
    assert folded.tree["c"][1:] == ("a word", None)
    assert isinstance(folded.tree["c"][0], nnx.LinearGeneral)
    assert folded.dropout.deterministic and folded.shared.use_running_average

    folded.shared.scale[...] = jnp.zeros(2, jnp.float32)  # a copy: the model given does not change
    assert nnx.graphdef(model) == graphdef
    for name, array in small_network.arrays(model).items():
        np.testing.assert_array_equal(array, before[name])

    model.train()
    folded = pdo.export.fold(model)
    assert not folded.dropout.deterministic and not folded.shared.use_running_average


def test_layers_with_a_call_of_their_own_stay():
    class Twice(pdo.nn.PDOConv):
        def __call__(self, x):
            return super().__call__(super().__call__(x))

    class Renamed(pdo.nn.PDOConv):
        """The same layer under another name."""

    model = nnx.Dict(a=Twice(2, 2, "p4", rngs=nnx.Rngs(0)), b=Renamed(2, 2, "p4", rngs=nnx.Rngs(0)))
    folded = pdo.export.fold(model)
    assert isinstance(folded["a"], Twice) and folded["a"] is not model["a"]
    assert isinstance(folded["b"], pdo.export.FoldedConv)


def test_folded_layers_check_their_input():
    folded = pdo.export.fold(pdo.nn.PDOConv(2, 2, "p4", rngs=nnx.Rngs(0)))
    for shape, message in (((5, 5, 3, 2), "axis -2 is 3"), ((5, 5, 4, 3), "axis -1 is 3")):
        with pytest.raises(ValueError, match=message):
            folded(noise(*shape))


# ------------------------------------------------------------------------------ files of programs


@pytest.fixture(scope="module")
def network():
    """The small network of the reference files."""
    return random(lambda: small_network.SmallNetwork(rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    """That network as a file."""
    path = tmp_path_factory.mktemp("export") / "network.pdo"
    pdo.export.save(network, path, (None, 13, 13, 1))
    return path


def test_every_model_is_in_the_list():
    made = {name for name, value in vars(pdo.models).items() if inspect.isfunction(value)}
    assert {name.split()[0] for name in MODELS} == made


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in MODELS]
)
def test_models_can_be_folded_and_saved(name, tmp_path, unhooked):  # a free batch is no int
    make, shape = MODELS[name]
    model = random(make)
    x = noise(2, *shape[1:])
    y = run(model, x)
    assert not bases(pdo.export.fold(model))
    pdo.export.save(model, tmp_path / "model.pdo", shape)
    assert laws.distance(pdo.export.load(tmp_path / "model.pdo")(x), y) <= 1e-6


def test_a_file_holds_the_network_for_batches_of_any_size(network, file):
    program = pdo.export.load(file)
    assert program.input_shape == (None, 13, 13, 1)
    assert (program.dtype, program.platforms) == ("float32", ("cpu", "cuda"))
    assert (program.format_version, program.library_version) == (1, pdo.__version__)
    assert program.jax_version == jax.__version__
    x = noise(4, 13, 13, 1)
    y = run(network, x)
    for batch in (1, 4):
        assert laws.distance(program(x[:batch]), y[:batch]) <= 1e-6
    assert laws.distance(jax.jit(program)(x), y) <= 1e-6


def test_the_network_is_saved_as_it_evaluates_and_does_not_change(network, file, tmp_path):
    network.train()
    pdo.export.save(network, tmp_path / "a", [7, 13, 13, 1])  # whatever the batch that is named
    assert not network.norm.use_running_average
    network.eval()
    content = (tmp_path / "a").read_bytes()
    assert content == file.read_bytes()
    assert b".py" not in content  # nor the paths of this machine's files
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_options_of_save(tmp_path):
    norm = random(lambda: nnx.BatchNorm(2, rngs=nnx.Rngs(0)))  # nothing to fold
    pdo.export.save(norm, tmp_path / "a", (3, 2), fixed_batch=True, platforms=["cpu", "tpu"])
    fixed = pdo.export.load(tmp_path / "a")
    assert (fixed.input_shape, fixed.platforms) == ((3, 2), ("cpu", "tpu"))
    assert laws.distance(fixed(noise(3, 2)), run(norm, noise(3, 2))) <= 1e-6

    small = random(lambda: pdo.nn.PDOLift(1, 2, "p4", param_dtype="float64", rngs=nnx.Rngs(0)))
    pdo.export.save(small, tmp_path / "b", (1, 5, 5, 1), dtype="float64", fold=False)
    x = noise(2, 5, 5, 1, dtype="float64")
    assert laws.distance(pdo.export.load(tmp_path / "b")(x), run(small, x)) <= 1e-12


def test_an_existing_file_is_not_replaced_unless_asked(network, file):
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match=r"path \(=.*\) exists already.*overwrite=True"):
        pdo.export.save(network, file, (None, 15, 15, 1))
    assert file.read_bytes() == before
    pdo.export.save(network, file, (None, 13, 13, 1), overwrite=True)
    assert file.read_bytes() == before


def test_a_failed_save_leaves_nothing(network, tmp_path):
    with pytest.raises(ValueError, match="axis -1 is 2"):
        pdo.export.save(network, tmp_path / "a", (None, 13, 13, 2))
    assert not list(tmp_path.iterdir())


def test_jax_alone_reads_the_file(network, file, tmp_path):
    x = noise(2, 13, 13, 1)
    np.save(tmp_path / "x.npy", x)
    code = f"""
import sys
import jax.export
import numpy as np
_, _, blob = open({str(file)!r}, "rb").read().split(b"\\n", 2)
y = jax.export.deserialize(bytearray(blob)).call(np.load({str(tmp_path / "x.npy")!r}))
np.save({str(tmp_path / "y.npy")!r}, y)
assert "flax" not in sys.modules and "pdo_jax" not in sys.modules
"""
    env = os.environ | {"JAX_ENABLE_X64": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=tmp_path, timeout=300)
    assert laws.distance(np.load(tmp_path / "y.npy"), run(network, x)) <= 1e-6


def test_a_damaged_file_is_recognised(file, tmp_path):
    whole, path = file.read_bytes(), tmp_path / "damaged"
    spots = [0, 1, 8, 14, 15, 16, 17, 40, 80, 81, 82, 90, len(whole) // 2, len(whole) - 1]
    cut = [whole[:spot] for spot in spots]
    changed = [whole[:s] + bytes([whole[s] ^ 1]) + whole[s + 1 :] for s in spots]
    for content in (
        *cut,
        *changed,
        whole + b"0",
        whole[1:],
        b"PK\x03\x04",
        whole.replace(b" ", b""),
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"path \(=.*damaged'\) (is not a file|is damaged|has)"
        ):
            pdo.export.load(path)


def test_what_jax_cannot_read_is_said_with_both_versions(file, tmp_path):
    from pdo_jax.export import program

    _, header, _ = file.read_bytes().split(b"\n", 2)
    body = header + b"\nof another JAX"
    (tmp_path / "a").write_bytes(program._first_line(1, body) + body)
    message = rf"was written with JAX {jax.__version__}, and JAX .* cannot read it.*save the netw"
    with pytest.raises(ValueError, match=message):
        pdo.export.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("module", "call"), [("flatbuffers", pdo.export.save), ("jax2onnx", pdo.export.save_onnx)]
)
def test_a_missing_package_is_named(module, call, network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"needs the package {module}.*pip install {module}"):
        call(network, tmp_path / "a", (None, 13, 13, 1))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------- the promise to users


@pytest.fixture(scope="module")
def saved():
    with np.load(small_network.CHECKPOINT) as arrays:
        return dict(arrays)


def test_the_committed_checkpoint_loads(saved):
    x, y = saved.pop("input"), saved.pop("output")
    model = random(lambda: small_network.SmallNetwork(rngs=nnx.Rngs(0)))
    assert laws.distance(run(model, x), y) > 0.1
    small_network.load(model, saved)
    assert laws.distance(run(model, x), y) <= 1e-5
    saved |= {"input": x, "output": y}


def test_the_committed_program_runs(saved):
    program = pdo.export.load(small_network.PROGRAM)
    assert program.format_version == 1 and program.library_version == "0.1.0"
    assert laws.distance(program(saved["input"]), saved["output"]) <= 1e-5


# ------------------------------------------------------------------------------------------- ONNX


class Pools(nnx.Module):
    """What a network has beside convolutions."""

    def __init__(self):
        self.lift = pdo.nn.PDOLift(1, 2, "p4", strides=2, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
        self.mix = pdo.nn.PointwiseConv(2, 2, "p4", rngs=nnx.Rngs(0))
        self.conv = pdo.nn.PDOConv(2, 2, "p4", padding="CIRCULAR", rngs=nnx.Rngs(0))
        self.up = pdo.nn.PDOConvTranspose(2, 2, "p4", strides=2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        x = pdo.nn.max_pool(nnx.relu(self.norm(self.lift(x))), 3, 2, "SAME")
        x = pdo.nn.avg_pool(self.conv(self.mix(x)), 3, 1)
        return pdo.nn.group_pool(pdo.nn.blur_pool(self.up(x), 5), "norm").mean((1, 2))


def test_what_is_given_to_the_converter_is_the_network():
    model, x = random(Pools), noise(2, 17, 17, 1)
    closed = jax.make_jaxpr(model)(x)
    a, rewritten = run(
        lambda x: onnx_module._evaluate(closed.jaxpr, closed.consts, [x])[0], x, True
    )
    b, original = run(model, x, True)
    assert laws.distance(a, b) <= 1e-6
    replaced = {"reduce_window_max", "reduce_window_sum", "pad", "jit"}
    assert replaced <= original and not replaced & rewritten


def test_negative_and_inner_pads_stay_pads():
    x, config = noise(3, 4), [(-1, 0, 0), (0, 2, 1)]
    y = onnx_module._pad(jnp.asarray(x), jnp.float32(7), config)
    np.testing.assert_array_equal(y, jax.lax.pad(x, jnp.float32(7), config))


# The converter has no convolutions in space.
PLANE = {name: model for name, model in MODELS.items() if len(model[1]) == 4}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the converter
@pytest.mark.parametrize("name", [*PLANE, "pools"])
def test_onnx_runs_elsewhere(name, tmp_path, unhooked):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    make, shape = PLANE.get(name, (Pools, (None, 17, 17, 1)))
    model = random(make)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        pdo.export.save_onnx(model, tmp_path / "a.onnx", shape)
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = noise(batch, *shape[1:])
        (y,) = session.run(["y"], {"x": x})
        assert laws.distance(y, run(model, x)) <= 1e-5


@pytest.mark.parametrize(
    ("platforms", "algorithm"),
    [(("cpu",), True), (("cpu", "cuda"), False), (("cuda",), False)],
    ids=str,
)
def test_programs_for_other_platforms_take_what_was_measured_there(platforms, algorithm):
    layer = pdo.nn.PDOConv(4, 4, "p8", rngs=nnx.Rngs(0))
    run = program.evaluation(layer, False, platforms)
    text = str(jax.make_jaxpr(run)(jnp.zeros((4, 16, 16, 8, 4), jnp.float32)))
    assert ("pdo_stencil_conv" in text) == algorithm
    assert layer.algorithm == "auto"


# ------------------------------------------------------------------------- the published source


def official_outputs(kind, weights, x, group):
    """Apply a layer as the published source does, to flat fields.

    The source expands every filter for each orientation k, rolls the orientations of the input by
    k, and stacks. Inputs are counted by (channel, orientation), and so are outputs.
    """
    order, (rows, _, inputs, outputs) = pdo.group(group).order, weights.shape
    if kind == "pointwise":
        filters = np.stack([weights] * order)
    else:  # every input a channel of its own: a lift, whose kernels the goldens hold
        basis = pdo.filter_basis(group, orientation=np.pi / 8)
        kernel = pdo.lift_kernel(jnp.asarray(weights.reshape(9, inputs, outputs)), basis)
        kernel = np.asarray(kernel).reshape(*kernel.shape[:3], order, outputs)
        filters, rows = np.moveaxis(kernel, 3, 0), len(kernel)
    if kind != "lift":
        fields = filters.reshape(order, rows, rows, -1, order, outputs)
        filters = np.stack([np.roll(fields[k], k, axis=3) for k in range(order)])
    kernel = np.moveaxis(filters.reshape(order, rows, rows, inputs, outputs), 0, -1)
    kernel = kernel.reshape(rows, rows, inputs, outputs * order)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def flat(field):
    """Return a field as the published source counts its channels."""
    return np.swapaxes(field, -1, -2).reshape(*field.shape[:-2], -1)


LAYERS = {"lift": "lift", "group": "group", "pointwise": "group"}  # kind: key of the input


@pytest.fixture(scope="module")
def official():
    with np.load(small_network.CHECKPOINT.with_name("pdo_official.npz")) as arrays:
        return dict(arrays)


def apply(kind, weights, x, group):
    basis = pdo.filter_basis(group, orientation=np.pi / 8)
    weights, x = jnp.asarray(weights), jnp.asarray(x)
    match kind:
        case "lift":
            return pdo.lift_conv(x, weights, basis)
        case "group":
            return pdo.group_conv(x, weights, basis)
        case _:
            return pdo.pointwise_group_conv(x, weights, group)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("group", ["p4", "p8"])
def test_weights_of_the_published_source(official, group, kind):
    golden, x = official[f"{group}_{kind}_y"], official[f"{group}_{LAYERS[kind]}_x"]
    theirs = pdo.export.to_tensorflow(official[f"{group}_{kind}_weights"], group, kind)
    assert theirs.shape[:2] == ((1, 1) if kind == "pointwise" else (3, 3))
    # As the source uses them, they give what the source gave ...
    flat_x = x if kind == "lift" else flat(x)
    assert laws.distance(official_outputs(kind, theirs, flat_x, group), flat(golden)) <= 1e-12
    # ... and so they do here.
    ours = pdo.export.from_tensorflow(theirs, group, kind)
    assert laws.distance(apply(kind, ours, x, group), golden) <= 1e-12
    np.testing.assert_array_equal(ours, official[f"{group}_{kind}_weights"])


def test_a_classifier_of_the_published_source():
    field, theirs = noise(2, 4, 4, 8, 7, dtype="float64"), noise(4, 4, 56, 10, dtype="float64")
    ours = pdo.export.from_tensorflow(theirs, "p8", "head")
    expected = np.einsum("nhwi,hwio->no", flat(field), theirs)
    actual = np.einsum("nhwi,hwio->no", field.reshape(2, 4, 4, 56), ours)
    assert laws.distance(actual, expected) <= 1e-12
    np.testing.assert_array_equal(pdo.export.to_tensorflow(ours, "p8", "head"), theirs)


def test_transposed_convolutions_are_measured_there_as_well():
    layer = pdo.nn.PDOConvTranspose(8, 8, "p8", rngs=nnx.Rngs(0))
    run = program.evaluation(layer, False, ("cpu", "cuda"))
    steps = str(jax.make_jaxpr(run)(jnp.ones((2, 28, 28, 8, 8), np.float32)))
    assert "conv_general_dilated" in steps and "pdo_stencil_conv" not in steps


class Stack(nnx.Module):
    """Three layers that share a program."""

    def __init__(self, build):
        self.layers = nnx.vmap(build)(nnx.Rngs(0).split(3))

    def __call__(self, x):
        axes = (nnx.Carry, 0)
        return nnx.scan(lambda x, m: m(x), in_axes=axes, out_axes=nnx.Carry)(x, self.layers)


@pytest.mark.parametrize(
    "build",
    [
        lambda rngs: pdo.nn.PDOConv(2, 2, "p4", rngs=rngs),
        lambda rngs: pdo.nn.PointwiseConv(2, 2, "p4", rngs=rngs),
    ],
)
def test_stacks_of_layers_are_not_folded(build):
    net = Stack(build)
    assert net(jnp.ones((1, 5, 5, 4, 2), np.float32)).shape == (1, 5, 5, 4, 2)
    with pytest.raises(ValueError, match=r"has a stack of P.*Conv .*has shape \(3, .*fold=False"):
        pdo.export.fold(net)
