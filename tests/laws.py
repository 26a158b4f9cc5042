"""What every layer must satisfy, and the one list of layers, groups and dtypes that it runs over.

A new layer is one more `Case` in `CASES`; `test_laws.py` then holds it to every law of this file.
The oracle of equivariance is `move`, NumPy index arithmetic that shares no code with the library.
"""

from __future__ import annotations

import collections
import itertools
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import pdo_jax as pdo
from pdo_jax.models import MnistRot, PDESegmenter, ResNet, VolumeClassifier

# Neighbours differ in kind, since the sizes of a case are paired with groups in this order.
PLANE = ("p4m", "p1", "p8", "p3m", "p2", "p8m", "p3", "p4", "p6m", "p1m", "p12", "p6")
SPACE = ("T", "O", "Oh")
GROUPS = (*PLANE, *SPACE)
DTYPES = ("bfloat16", "float32", "float64")

# The largest relative error of an exact law, in the units of the largest output.
ROUNDING = {"bfloat16": 4e-2, "float32": 1e-5, "float64": 1e-12}

ANY = ((5, 5), (4, 4), (2, 7), (1, 1))  # odd, even, not square and below the kernel, one pixel
FEW = ((4, 5), (1, 2))  # for layers that share all but a detail with another one
ODD = ((5, 5), (3, 7), (1, 1))  # 1 mod 2: exact for one odd window with stride 2
THIRD = ((7, 7), (4, 10), (1, 1))  # 1 mod 3
EVEN = ((6, 6), (4, 8), (2, 2))
VOLUMES = ((3, 3, 3), (1, 2, 4))


class Case(NamedTuple):
    """A layer or a function, and where which laws hold.

    Attributes:
        name: the test's id.
        make: `make(group, dtype)`: an `nnx.Module` or a function that maps arrays to arrays.
        input: "image", "field", or the subgroup of a field on its cosets.
        output: how the group acts on the output; None where the function is not equivariant, which
            is tested as well.
        sizes: (H, W), or in space (D, H, W), at which quarter turns and mirrors are exact.
        channels: of the input.
        groups: the groups it is tested with.
        leads: the numbers of leading axes that it takes.
        bad_sizes: pairs (H, W) at which it must warn, and must not be exact.
        order: the number of derivatives that are compared with finite differences.
        slow: whether it takes so long that it is left to the slow tests.
    """

    name: str
    make: Callable[[str, str], Callable]
    input: str | pdo.Group = "field"
    output: str | pdo.Group | None = "field"
    sizes: tuple[tuple[int, ...], ...] = ANY
    channels: int = 2
    groups: tuple[str, ...] = PLANE
    leads: tuple[int, ...] = (0, 1, 3)
    bad_sizes: tuple[tuple[int, int], ...] = ()
    order: int = 1
    slow: bool = False


def normal(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Initialise parameters, biases too, with numbers unlike zero."""
    draws = np.random.default_rng(len(shape)).normal(size=shape) / np.sqrt(shape[0])
    return jnp.asarray(draws, dtype)


def random(dtype: str) -> dict[str, Any]:
    """Return the options of a layer with random parameters."""
    precise = "float32" if dtype == "bfloat16" else dtype  # half precision computes, no more
    return dict(kernel_init=normal, bias_init=normal, dtype=dtype, param_dtype=precise)


def layer(cls: Any, *features: int, **options: Any) -> Callable[[str, str], nnx.Module]:
    """Return what makes a layer with random parameters."""
    return lambda group, dtype: cls(*features, group, **random(dtype), **options, rngs=nnx.Rngs(0))


class Bound(nnx.Module):
    """A Linen layer with its parameters, as a module that the laws can call."""

    def __init__(self, module: linen.Module, x: np.ndarray):
        variables = module.init(jax.random.key(0), x)
        assert set(variables) == {"params"}
        self.module = module
        self.params = nnx.data(jax.tree.map(nnx.Param, variables["params"]))

    def __call__(self, x: jax.Array) -> jax.Array:
        return apply_linen(self.module, nnx.to_pure_dict(nnx.state(self))["params"], x)


@partial(jax.jit, static_argnums=0)  # at every eager call Linen traces initialisers, its own too
def apply_linen(module: linen.Module, params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Call a Linen layer."""
    return module.apply({"params": params}, x)


def linen_layer(cls: Any, *features: int, **options: Any) -> Callable[[str, str], nnx.Module]:
    """Return what makes a Linen layer with random parameters."""

    def make(group: str, dtype: str) -> nnx.Module:
        copies = () if cls.__name__.endswith("Lift") else (pdo.group(group).order,)
        x = np.zeros((1, 3, 3, *copies, features[0]), jnp.dtype(dtype))
        return Bound(cls(*features, group, **random(dtype), **options), x)

    return make


def relaxed(cls: Any, *features: int, **options: Any) -> Callable[[str, str], nnx.Module]:
    """Return what makes a relaxed layer, the same for every dtype, with random gains."""
    make = layer(cls, *features, **options)

    def random_too(group: str, dtype: str) -> nnx.Module:
        made = make(group, dtype)
        for part in nnx.state(made.relaxation, nnx.Param).values():
            if part.shape:
                part[...] = normal(None, part.shape, part.dtype)
        return made

    return random_too


class Descent(nnx.Module):
    """A network that gives up symmetry with depth, as far down the chain as it is told."""

    chain = ("p8m", "p8", "p4", "p1")

    def __init__(self, last: str, dtype: str, restrict: Callable = pdo.restrict):
        self.groups = self.chain[: self.chain.index(last) + 1]
        self.restrict = restrict
        options = dict(**random(dtype), rngs=nnx.Rngs(0))
        self.convs = nnx.List([pdo.nn.PDOLift(1, 1, self.groups[0], **options)])
        for above, below in itertools.pairwise(self.groups):
            index = pdo.group(above).order // pdo.group(below).order
            self.convs.append(pdo.nn.PointwiseConv(index, 1, below, **options))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.convs[0](x)
        for conv, (above, below) in zip(
            self.convs[1:], itertools.pairwise(self.groups), strict=True
        ):
            x = conv(self.restrict(jnp.tanh(x), above, below))
        return x


class Quotient(nnx.Module):
    """A linear layer between fields on the cosets of subgroups H and K."""

    def __init__(self, group: str, dtype: str, h: pdo.Group, k: pdo.Group):
        self.group, self.h, self.k = group, h, k
        self.conv = pdo.nn.PDOConv(2, 1, group, **random(dtype), rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(pdo.pullback(x, self.group, self.h))
        return pdo.nn.group_pool(y, "mean", self.group, self.k)


def folded(make: Callable[[str, str], nnx.Module]) -> Callable[[str, str], nnx.Module]:
    """Return what makes a layer as `pdo.export.fold` leaves it."""
    return lambda group, dtype: pdo.export.fold(make(group, dtype))


def function(fn: Callable, *args: Any, **options: Any) -> Callable[[str, str], Callable]:
    """Return what makes a function that depends neither on the group nor on the dtype."""
    return lambda group, dtype: lambda x: fn(x, *args, **options)


def network(invariant: bool) -> Callable[[str, str], nnx.Module]:
    """Return what makes the network for rotated MNIST, with two fields a layer, not seven."""

    def make(group: str, dtype: str) -> nnx.Module:
        return MnistRot(
            (2,) * 6,
            invariant=invariant,
            group=group,
            num_classes=3,
            in_features=1,
            orientation=np.pi / 8,
            dropout_rate=0.2,
            dtype=dtype,
            rngs=nnx.Rngs(0),
        )

    return make


def residual(group: str, dtype: str) -> nnx.Module:
    """Return an invariant residual network of one block, which halves the image."""
    return ResNet(
        (1, 2), (0, 1), group=group, num_classes=3, in_features=1, invariants=3,
        downsampling="blur", activation="gelu", operators="total", dtype=dtype, rngs=nnx.Rngs(0),
    )  # fmt: skip


def volumes(group: str, dtype: str) -> nnx.Module:
    """Return the classifier of volumes with one field and two."""
    return VolumeClassifier(
        (1, 2), group=group, num_classes=3, in_features=1, operators="total", dtype=dtype,
        rngs=nnx.Rngs(0),
    )  # fmt: skip


def pde(*terms: str, **options: Any) -> Callable[[str, str], nnx.Module]:
    """Return what makes a PDE layer with random parameters; orientations are those of the field."""

    def make(group: str, dtype: str) -> nnx.Module:
        precise = "float32" if dtype == "bfloat16" else dtype
        layer = pdo.nn.PDELayer(
            2, 3, terms, **{"kernel_size": (3, 3, 3), **options}, kernel_init=normal,
            metric_init=positive, dtype=dtype, param_dtype=precise, rngs=nnx.Rngs(0),
        )  # fmt: skip
        for term in layer.terms:
            if hasattr(term, "shift"):  # zero at first, where linear interpolation has a kink
                term.shift[...] = normal(None, term.shift.shape, precise)
        return layer

    return make


def positive(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Initialise metrics with positive numbers, others for every key.

    An erosion with the metric of the dilation before it has ties, and no derivative.
    """
    return jax.random.uniform(key, shape, "float32", 0.3, 2.0).astype(dtype)


class Mixed(nnx.Module):
    """Operators, an equation, operators: a PDO lift, a PDE layer and a PDO-eConv."""

    def __init__(self, group: str, dtype: str):
        self.lift = layer(pdo.nn.PDOLift, 1, 2)(group, dtype)
        self.pde = pde("dilation")(group, dtype)
        self.conv = layer(pdo.nn.PDOConv, 3, 1)(group, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(self.pde(self.lift(x)))


def u_shaped(group: str, dtype: str) -> nnx.Module:
    """Return a segmenter of two levels, of operators and dilations."""
    return PDESegmenter(
        (1, 2, 2), ((3, 3, 3),) * 2, terms=("dilation",), group=group, in_features=1, dtype=dtype,
        rngs=nnx.Rngs(0),
    )  # fmt: skip


NET = dict(input="image", channels=1, groups=("p4", "p1m"), leads=(1,))
STEP = dict(bad_sizes=((6, 6),))
POOL = dict(sizes=EVEN, bad_sizes=((5, 5),))
SOLID = dict(channels=1, groups=SPACE)
LINEN = dict(sizes=FEW[:1], groups=("p4",))
NO_BANDWIDTH = dict(position_bandwidth=0.0, orientation_bandwidth=0.0)
CONTINUOUS = dict(relative_bandwidth=0.7, kernel_features=6)
BROKEN = dict(output=None, sizes=((4, 4),), groups=("p4",))
TURNS = dict(sizes=FEW[:1], groups=("p8", "p4", "p6", "p12"))  # no mirrors
MIRROR = pdo.group("p1m")  # not normal in p4m: left and right cosets differ

CASES = (
    Case("lift", layer(pdo.nn.PDOLift, 2, 3), input="image", order=2),
    Case("lift-turned", layer(pdo.nn.PDOLift, 2, 1, orientation=0.3), "image", sizes=FEW),
    Case("lift-total", layer(pdo.nn.PDOLift, 2, 3, operators="total"), "image", sizes=FEW),
    Case("lift-circular", layer(pdo.nn.PDOLift, 2, 1, padding="CIRCULAR"), "image", sizes=FEW),
    Case("lift-stride-2", layer(pdo.nn.PDOLift, 2, 3, strides=2), "image", sizes=ODD, **STEP),
    Case("lift-groups", layer(pdo.nn.PDOLift, 4, 6, feature_group_count=2), "image", sizes=FEW,
         channels=4),
    Case("conv", layer(pdo.nn.PDOConv, 2, 3), order=2),
    Case("conv-turned", layer(pdo.nn.PDOConv, 2, 1, orientation=np.pi / 8), sizes=FEW),
    Case("conv-accuracy-4", layer(pdo.nn.PDOConv, 2, 1, accuracy=4), sizes=FEW),
    Case("lift-rbf-fd", layer(pdo.nn.PDOLift, 2, 1, scheme="rbf-fd"), "image", sizes=FEW,
         groups=("p8", "p4m")),
    Case("conv-gaussian", layer(pdo.nn.PDOConv, 2, 1, scheme="gaussian", sigma=0.8), sizes=FEW,
         groups=("p4", "p8m")),
    Case("conv-optimal", layer(pdo.nn.PDOConv, 2, 1, scheme="optimal", orientation=0.3),
         sizes=FEW, groups=("p6m", "p4")),
    Case("conv-stride-2", layer(pdo.nn.PDOConv, 2, 3, strides=2), sizes=ODD, **STEP),
    Case("conv-stride-3", layer(pdo.nn.PDOConv, 2, 3, strides=3), sizes=THIRD, **STEP),
    Case("conv-dilated", layer(pdo.nn.PDOConv, 2, 3, kernel_dilation=2), sizes=FEW),
    Case("conv-groups", layer(pdo.nn.PDOConv, 4, 2, feature_group_count=2), sizes=FEW, channels=4),
    Case("transpose-2", layer(pdo.nn.PDOConvTranspose, 2, 3, strides=2), order=2),
    Case("transpose-3", layer(pdo.nn.PDOConvTranspose, 2, 1, strides=3, padding="VALID"),
         sizes=FEW),
    Case("pointwise", layer(pdo.nn.PointwiseConv, 2, 3), order=2),
    Case("pointwise-2", layer(pdo.nn.PointwiseConv, 2, 3, strides=2), sizes=ODD, **STEP),
    Case("max-pool", function(pdo.nn.max_pool, 2, 2, kind="field"), **POOL),
    Case("max-pool-image", function(pdo.nn.max_pool, 3, kind="image", padding="SAME"), "image",
         "image"),
    Case("avg-pool", function(pdo.nn.avg_pool, 2, 2, kind="field"), order=2, **POOL),
    Case("blur-pool", function(pdo.nn.blur_pool, kind="field")),
    Case("group-max", function(pdo.nn.group_pool, "max"), output="image"),
    Case("group-mean", function(pdo.nn.group_pool, "mean"), output="image"),
    Case("group-norm", function(pdo.nn.group_pool, "norm"), output="image", order=2),
    Case("lift-volume", layer(pdo.nn.PDOLift, 1, 2), "image", sizes=VOLUMES, **SOLID),
    Case("conv-volume", layer(pdo.nn.PDOConv, 1, 2, operators="total"), sizes=VOLUMES, **SOLID),
    Case("blur-pool-volume", function(pdo.nn.blur_pool, (2, 2, 2), kind="field"),
         sizes=((2, 4, 2),), **SOLID),
    Case("mnist-rot", network(invariant=False), output=None, sizes=((28, 28),), **NET),
    Case("mnist-rot-invariant", network(invariant=True), output="invariant",
         sizes=((22, 22), (24, 22)), bad_sizes=((23, 23),), **NET),
    Case("blur-pool-6", function(pdo.nn.blur_pool, 6, kind="field"), **POOL),
    Case("max-then-blur", function(lambda x: pdo.nn.blur_pool(
        pdo.nn.max_pool(x, 3, padding="SAME", kind="field"), kind="field")), sizes=FEW[:1]),
    Case("resize", function(pdo.nn.resize, 7, kind="field"), sizes=((4, 4), (3, 9)), order=2),
    Case("concatenate", function(lambda x: jnp.concatenate([jnp.tanh(x), x], -1)), sizes=FEW[:1]),
    Case("descent", Descent, "image", sizes=FEW[:1], channels=1, groups=("p4",)),
    Case("coset-max", function(pdo.nn.group_pool, "max", "p4m", MIRROR), output=MIRROR,
         sizes=FEW[:1], groups=("p4m",)),
    Case("coset-conv", partial(Quotient, h=MIRROR, k=pdo.group("p2")), MIRROR, pdo.group("p2"),
         sizes=FEW[:1], groups=("p4m",)),
    Case("linen-lift", linen_layer(pdo.nn.linen.PDOLift, 2, 3), "image", **LINEN),
    Case("linen-conv", linen_layer(pdo.nn.linen.PDOConv, 2, 1), **LINEN),
    Case("linen-transpose", linen_layer(pdo.nn.linen.PDOConvTranspose, 2, 1, strides=2), **LINEN),
    Case("linen-pointwise", linen_layer(pdo.nn.linen.PointwiseConv, 2, 3), **LINEN),
    Case("volume-classifier", volumes, "image", "invariant", sizes=((2, 2, 4),), channels=1,
         groups=("T",), leads=(1,), slow=True),
    Case("folded-lift", folded(layer(pdo.nn.PDOLift, 2, 1)), "image", sizes=FEW[:1],
         groups=("p4m",)),
    Case("folded-conv", folded(layer(pdo.nn.PDOConv, 2, 1)), sizes=FEW[:1], groups=("p4",)),
    Case("folded-pointwise", folded(layer(pdo.nn.PointwiseConv, 2, 3)), sizes=FEW[:1],
         groups=("p4m",)),
    Case("invariant-resnet", residual, "image", "invariant", sizes=((4, 5),), channels=1,
         groups=("p4", "p1m"), leads=(1,), slow=True),
    Case("pde-cde", pde("convection", "dilation", "erosion"), **TURNS),
    Case("pde-full", pde("diffusion", "erosion", metric="full", iterations=2), **TURNS),
    Case("pde-shock", pde("shock", distance="paths"), sizes=FEW[:1], groups=("p4", "p8"),
         slow=True),
    Case("pde-plane", pde("dilation", "diffusion", kernel_size=(3, 3), metric="isotropic"), "image",
         "image", sizes=FEW[:1], groups=("p4m",)),  # whose quarter turns are exact, p6 has none
    Case("pde-finsler", pde("convection", "dilation", kernel_size=(3, 5), metric="finsler"),
         "image", None, sizes=((4, 4),), groups=("p4",)),
    Case("pdo-pde-pdo", Mixed, "image", sizes=FEW[:1], channels=1, groups=("p4",), slow=True),
    Case("u-shaped", u_shaped, "image", "image", sizes=((5, 6),), channels=1, groups=("p4",),
         leads=(1,), slow=True),  # odd, and of one size after halving
    Case("relaxed-conv", relaxed(pdo.nn.RelaxedConv, 2, 3), **BROKEN),
    Case("relaxed-strict", relaxed(pdo.nn.RelaxedConv, 2, 3, **NO_BANDWIDTH), sizes=FEW[:1],
         groups=("p4m",), slow=True),
    Case("relaxed-continuous", layer(pdo.nn.RelaxedConv, 2, 1, **NO_BANDWIDTH, **CONTINUOUS),
         sizes=((3, 4),), groups=("p4m",), slow=True),
    Case("relaxed-lift", relaxed(pdo.nn.RelaxedLift, 2, 3), "image", **BROKEN, slow=True),
    Case("relaxed-stride-2", relaxed(pdo.nn.RelaxedConv, 2, 1, strides=2, **NO_BANDWIDTH),
         sizes=ODD[:1], groups=("p4",), slow=True, **STEP),
    Case("relaxed-partial", layer(pdo.nn.RelaxedConv, 2, 1, relaxation="partial", extent=0.4),
         **BROKEN, slow=True),
    Case("relaxed-weights", relaxed(pdo.nn.RelaxedConv, 2, 1, relaxation="weights"), **BROKEN,
         slow=True),
    Case("relaxed-residual", relaxed(pdo.nn.RelaxedConv, 2, 1, relaxation="residual"), **BROKEN,
         slow=True),
    Case("relaxed-volume", relaxed(pdo.nn.RelaxedConv, 1, 2, operators="total"), output=None,
         sizes=VOLUMES[:1], channels=1, groups=("T",), slow=True),
    Case("relaxed-window", layer(pdo.nn.RelaxedLift, 1, 2, kernel_size=3, **NO_BANDWIDTH,
                                 **CONTINUOUS), "image", sizes=VOLUMES, channels=1,
         groups=("T", "O"), slow=True),
    Case("linen-relaxed-conv", linen_layer(pdo.nn.linen.RelaxedConv, 2, 1, **NO_BANDWIDTH),
         **LINEN, slow=True),
    Case("linen-relaxed-lift", linen_layer(pdo.nn.linen.RelaxedLift, 2, 1, **NO_BANDWIDTH,
                                           learn=False), "image", **LINEN, slow=True),
    Case("folded-relaxed", folded(relaxed(pdo.nn.RelaxedConv, 2, 1)), **BROKEN, slow=True),
    *(
        Case(f"conv-{algorithm}", layer(pdo.nn.PDOConv, 2, 1, operators="total",
                                        algorithm=algorithm), sizes=FEW, slow=True)
        for algorithm in ("stencils", "harmonic")
    ),
)  # fmt: skip

# They share most with another case, or with the tests of networks: left to the slow tests.
DETAILS = frozenset((
    "lift-turned", "lift-total", "lift-circular", "lift-groups", "lift-rbf-fd", "lift-volume",
    "conv-turned", "conv-accuracy-4", "conv-optimal", "conv-stride-3", "conv-dilated",
    "conv-groups", "transpose-3", "pointwise-2", "max-pool-image", "blur-pool-6", "max-then-blur",
    "blur-pool-volume", "concatenate", "coset-conv", "mnist-rot", "linen-lift", "linen-transpose",
    "folded-lift", "folded-pointwise", "pde-plane", "pde-finsler", "pde-full", "conv-volume",
    "mnist-rot-invariant", "descent",
))  # fmt: skip
CASES = tuple(case._replace(slow=case.slow or case.name in DETAILS) for case in CASES)


# ------------------------------------------------------------------------------------- the parts


def sample(
    case: Case, group: str, dtype: str, size: tuple[int, ...], lead=(), seed=0
) -> np.ndarray:
    """Return normal noise of the shape that a case takes.

    In NumPy, as all that is done to arrays in this file outside of the functions under test: every
    eager operation of JAX on a new shape is one more program to compile.
    """
    match case.input:
        case "image":
            copies = ()
        case "field":
            copies = (pdo.group(group).order,)
        case subgroup:
            copies = (pdo.group(group).order // subgroup.order,)
    draws = np.random.default_rng(seed).normal(size=(*lead, *size, *copies, case.channels))
    return draws.astype(jnp.dtype(dtype))


def pure(case: Case, group: str, dtype: str) -> tuple[Callable, Any]:
    """Return a case as `(apply, params)` with `y = apply(params, x)`, for evaluation."""
    made = case.make(group, dtype)
    if not isinstance(made, nnx.Module):
        return lambda params, x: made(x), nnx.State({})
    made.eval()
    graphdef, params, rest = nnx.split(made, nnx.Param, ...)
    if dtype == "float64":  # networks keep float32 parameters, too coarse for finite differences
        params = jax.tree.map(lambda p: np.asarray(p, "float64"), params)
    return lambda params, x: nnx.merge(graphdef, params, rest)(x), params


def left_cosets(group: pdo.Group, kind: str | pdo.Group) -> np.ndarray:
    """Return which elements are in which left coset aH, `(|G/H|, |G|)`, by comparing matrices.

    Cosets are in the order of their first elements; H of a "field" is the identity alone.
    """
    subgroup = kind.matrices if isinstance(kind, pdo.Group) else group.matrices[:1]
    quotients = np.einsum("aji,bjk->abik", group.matrices, group.matrices)  # a^-1 b
    distances = np.sum((quotients[:, :, None] - subgroup) ** 2, axis=(3, 4))
    together = np.min(distances, axis=2) < 1e-9
    return together[np.argmax(together, axis=0) == np.arange(group.order)]


def move(x: Any, group: pdo.Group, element: int, kind: str | pdo.Group) -> np.ndarray:
    """Move an array by an element that permutes the pixels, with index arithmetic alone.

    Every pixel of the output looks up where it came from: position A^-1 p, measured in half pixels
    from the centre; the group axis looks up (the coset of) g^-1 h by comparing matrices.
    """
    x = np.asarray(x)
    if kind == "invariant":
        return x
    matrix, ndim = group.matrices[element], group.ndim
    axes = np.eye(ndim)[::-1] * np.array([1, -1, 1][:ndim])  # (x, y, z) -> (z, -y, x), the array's
    turn = np.rint(axes @ matrix @ axes.T).astype(int)
    lead = x.ndim - ndim - (1 if kind == "image" else 2)
    shape = np.array(x.shape[lead : lead + ndim])
    new_shape = np.abs(turn) @ shape
    p = np.stack(np.meshgrid(*(2 * np.arange(n) - (n - 1) for n in new_shape), indexing="ij"), -1)
    source = (p @ turn + shape - 1) // 2
    y = x[(slice(None),) * lead + tuple(np.moveaxis(source, -1, 0))]
    if kind != "image":
        cosets = left_cosets(group, kind)
        first = group.matrices[np.argmax(cosets, axis=1)]
        differences = matrix.T @ first - group.matrices[:, None]  # [h, coset]: g^-1 a - h
        came_from = np.argmin(np.sum(differences**2, axis=(2, 3)), axis=0)
        y = y[..., np.argmax(cosets[:, came_from], axis=0), :]
    return y


def distance(a: Any, b: Any) -> float:
    """Return max |a - b| / max |b|, in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, f"{a.shape} against {b.shape}"
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


def equivariance(
    apply: Callable, x: Any, group: str, input_kind: str | pdo.Group, output: str | pdo.Group
) -> float:
    """Return the largest `distance` of f(L_g x) from L_g f(x) over the elements on the grid.

    `x` has no leading axes; the moved copies become one.
    """
    G = pdo.group(group)
    turns = [g for g in range(G.order) if np.allclose(G.matrices[g], np.rint(G.matrices[g]))]
    moved = {g: move(x, G, g, input_kind) for g in turns}
    outputs = {}
    for shape in {m.shape for m in moved.values()}:
        members = [g for g in turns if moved[g].shape == shape]
        batch = np.asarray(apply(jnp.asarray(np.stack([moved[g] for g in members]))))
        outputs |= dict(zip(members, batch, strict=True))
    return max(distance(outputs[g], move(outputs[0], G, g, output)) for g in turns)


# Every event of JAX's tracing and compilation since this file was imported.
_COMPILED: collections.Counter = collections.Counter()


def _listen(event: str, duration: float, **_: Any) -> None:
    _COMPILED[event] += event.startswith("/jax/core/compile/")


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations() -> int:
    """Return how often JAX has traced, lowered or compiled anything so far."""
    return _COMPILED.total()


# -------------------------------------------------------------------------------------- the laws


def check_equivariant(case: Case, group: str, dtype: str, size: tuple[int, ...]) -> None:
    """Quarter turns and mirrors of the input are those of the output, to rounding."""
    apply, params = pure(case, group, dtype)
    x = sample(case, group, dtype, size)
    error = equivariance(
        jax.jit(partial(apply, params)), x, group, case.input, case.output or "invariant"
    )
    if case.output is None:
        assert error > 1e-3, f"{case.name} is equivariant ({error}): say so in CASES"
    else:
        assert error <= ROUNDING[dtype], error


def check_dtype(case: Case, group: str, dtype: str, size: tuple[int, ...]) -> None:
    """The output has the dtype of the input, and the value that float64 gives, to rounding."""
    apply, params = pure(case, group, dtype)
    x = sample(case, group, dtype, size, (1,))
    y = jax.jit(apply)(params, x)
    assert y.dtype == x.dtype
    precise, params = pure(case, group, "float64")
    z = jax.jit(precise)(params, x.astype(np.float64))
    assert distance(y, z) <= 2 * ROUNDING[dtype]


def check_jit(case: Case, group: str, dtype: str, size: tuple[int, ...]) -> None:
    """Compiled and eager calls agree, and a second call compiles nothing.

    Not even the call of another layer that was built from the same arguments.
    """
    made, again = case.make(group, dtype), case.make(group, dtype)
    first, second = (jnp.asarray(sample(case, group, dtype, size, (2,), s)) for s in (0, 1))
    if isinstance(made, nnx.Module):
        made.eval(), again.eval()
        compiled = nnx.jit(lambda model, x: model(x))
    else:
        jitted = jax.jit(made)
        compiled = lambda _, x: jitted(x)  # noqa: E731

    before = compilations()
    y, z = made(first), compiled(made, first)
    assert compilations() > before, "nothing was compiled at all: the counter is broken"
    assert distance(z, y) <= ROUNDING[dtype]

    before = compilations()
    assert np.any(np.asarray(made(second)) != np.asarray(y))
    compiled(made, second)
    compiled(again, second)
    assert compilations() == before


def check_gradients(case: Case, group: str, size: tuple[int, ...]) -> None:
    """Derivatives are finite differences, forward and reverse agree; so do the second ones.

    One compiled function returns them all, and is called again at the neighbouring points.
    """
    apply, params = pure(case, group, "float64")
    x = sample(case, group, "float64", size, (1,))
    # Maxima have no derivative at ties: all values differ by far more than the step.
    point = params, (np.argsort(np.argsort(x.ravel())) / x.size - 0.5).reshape(x.shape)
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, point))
    rng = np.random.default_rng(0)
    along = [rng.normal(size=p.shape) for p in leaves]
    weights = rng.normal(size=jax.eval_shape(apply, *point).shape)

    def function(leaves):
        return apply(*jax.tree.unflatten(structure, leaves))

    def loss(leaves):
        return jnp.vdot(weights, function(leaves) ** 2)

    def inner(a, b):
        return sum(map(jnp.vdot, a, b))

    @jax.jit
    def derivatives(leaves):
        y, tangent = jax.jvp(function, (leaves,), (along,))
        gradient, turned = jax.grad(loss)(leaves), ()
        if case.order == 2:
            _, forward = jax.jvp(jax.grad(loss), (leaves,), (along,))
            turned = forward, jax.grad(lambda p: inner(jax.grad(loss)(p), along))(leaves)
        slopes = inner(gradient, along), jnp.vdot(weights, 2 * y * tangent)
        return y, tangent, gradient, turned, slopes

    step = 1e-6
    y_plus, _, plus, *_ = derivatives([p + step * d for p, d in zip(leaves, along, strict=True)])
    y_minus, _, minus, *_ = derivatives([p - step * d for p, d in zip(leaves, along, strict=True)])
    _, tangent, _, turned, (backward, forward) = derivatives(leaves)
    slack = 1e-6 if case.leads != (1,) else 1e-3  # a deep network has a kink nearby
    assert distance(tangent, (np.asarray(y_plus) - y_minus) / (2 * step)) <= slack
    assert distance(backward, forward) <= 1e-9
    for exact in turned:
        for e, p, m in zip(exact, plus, minus, strict=True):
            assert distance(e, (np.asarray(p) - m) / (2 * step)) <= slack


def check_vmap(case: Case, group: str, size: tuple[int, ...]) -> None:
    """Mapping over inputs, and over parameters as well, gives what a loop gives."""
    apply, params = pure(case, group, "float64")
    xs = np.stack([sample(case, group, "float64", size, (1,), seed) for seed in range(2)])
    slack = 1e-12 if case.leads != (1,) else 1e-10  # a deep network divides rounding by variances
    over_inputs = jax.vmap(apply, (None, 0))
    single = jax.jit(apply)
    if not jax.tree.leaves(params):
        loop = np.array([single(params, x) for x in xs])
        assert distance(jax.jit(over_inputs)(params, xs), loop) <= slack
        return
    many = jax.tree.map(lambda p: np.stack([p, 1.5 * p**2]), params)
    loop = [[single(jax.tree.map(lambda p, i=i: p[i], many), x) for x in xs] for i in range(2)]
    mapped = jax.jit(jax.vmap(over_inputs, (0, None)))(many, xs)
    assert distance(mapped, loop) <= slack
    assert distance(loop[1], loop[0]) > 1e-3  # the two sets of parameters do differ


def check_leading_axes(case: Case, group: str, size: tuple[int, ...]) -> None:
    """Any number of leading axes gives what one leading axis gives, and none mixes examples."""
    apply, params = pure(case, group, "float64")
    apply = jax.jit(apply)
    x = sample(case, group, "float64", size, (2, 1, 2))
    flat = x.reshape(4, *x.shape[3:])
    y = np.asarray(apply(params, flat))
    alone = apply(params, flat[3]) if 0 in case.leads else apply(params, flat[3:])[0]
    assert distance(alone, y[3]) <= 1e-12
    if 3 in case.leads:
        assert distance(apply(params, x), y.reshape(2, 1, 2, *y.shape[1:])) <= 1e-12


def check_pickle(case: Case, group: str, size: tuple[int, ...]) -> None:
    """A module's structure and state survive pickling: equal structure, the same output."""
    made = case.make(group, "float64")
    if not isinstance(made, nnx.Module):
        return
    made.eval()
    graphdef, state = nnx.split(made)
    copied, values = pickle.loads(pickle.dumps((graphdef, state)))
    assert copied == graphdef and hash(copied) == hash(graphdef)
    x = sample(case, group, "float64", size, (1,))
    run = nnx.jit(lambda model, x: model(x))
    np.testing.assert_array_equal(run(nnx.merge(copied, values), x), run(made, x))


def check_tree(case: Case, group: str, size: tuple[int, ...]) -> None:
    """Training and evaluation have the same parameters and state, before and after a call."""
    made = case.make(group, "float32")
    if not isinstance(made, nnx.Module):
        return
    x = jnp.asarray(sample(case, group, "float32", size, (2,)))

    def tree(model: nnx.Module) -> dict:
        leaves = nnx.to_flat_state(nnx.state(model))
        return {path: (type(leaf), leaf.shape, leaf.dtype) for path, leaf in leaves}

    def called(model: nnx.Module, x: jax.Array) -> nnx.Module:
        model(x)
        return model

    before = tree(made)
    assert before
    for mode in (made.train, made.eval):
        mode()
        assert tree(made) == before
        assert tree(nnx.eval_shape(called, made, x)) == before
