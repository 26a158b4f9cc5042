"""Wrong arguments: every message names the argument, its value, the rule and what to do next."""

import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pdo_jax as pdo
from pdo_jax.relaxed import (
    amounts,
    continuous_kernel,
    fourier_gains,
    frequencies,
    partial_gains,
    positions,
    weigh,
)

pytestmark = pytest.mark.usefixtures("unhooked")  # the library's own checks, as users meet them

P4 = pdo.filter_basis("p4")
IMAGE, FIELD = np.zeros((6, 6, 2)), np.zeros((6, 6, 4, 2))
LIFT, CONV = np.zeros((9, 2, 2)), np.zeros((9, 4, 2, 2))  # free weights
ONES = np.ones((3, 2))  # J features, F filters
FIELD_8, METRIC = np.zeros((6, 6, 8, 2)), np.ones((2, 3))
IMAGE_32, LIFT_32 = IMAGE.astype(np.float32), LIFT.astype(np.float32)


def lift(x=IMAGE, weights=LIFT, basis=P4, **options):
    return pdo.lift_conv(x, weights, basis, **options)


def conv(x=FIELD, weights=CONV, basis=P4, **options):
    return pdo.group_conv(x, weights, basis, **options)


def layer(cls=pdo.nn.PDOLift, *features, group="p4", **options):
    return cls(*(features or (2, 2)), group, **{"rngs": nnx.Rngs(0), **options})


def pool(x=IMAGE, window=2, **options):
    return pdo.nn.max_pool(x, window, **options)


def without_x64(call):
    with jax.enable_x64(False):
        return call()


def net(x, **options):
    # Nothing is drawn: the argument is refused before the parameters are looked at.
    return nnx.eval_shape(lambda: pdo.models.mnist_rot(**options, rngs=nnx.Rngs(0)))(x)


def same(x, *_):
    return x


def written(content):
    """Return the path of a temporary file."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(content)
    return file.name


def program(x):
    return pdo.export.load(Path(__file__).parent / "goldens" / "small_network.pdo")(x)


def theirs(shape, group="p4", kind="group"):
    return pdo.export.from_tensorflow(np.zeros(shape), group, kind)


def se2(function=pdo.pde.dilation, x=FIELD_8, metric=METRIC, **options):
    return function(x, metric, **options)


def relaxed(*features, cls=pdo.nn.RelaxedConv, **options):
    return layer(cls, *features, **options)


def gains(mean=ONES[0], weights=ONES, position=0.5, group="p4", sizes=(5, 5)):
    drawn = frequencies(2, 3)
    return fourier_gains(mean, weights, position, 0.5, group, sizes, drawn)


def continuous(weights=ONES[..., None], bandwidth=1.0, taps=(3, 3)):
    return continuous_kernel(weights, bandwidth, "p4", taps, frequencies(2, 3))


def pde(*terms, **options):
    return pdo.nn.PDELayer(2, 2, terms or ("dilation",), **options, rngs=nnx.Rngs(0))


GROUP = r"group \(={}\) is not known; write 'p{{n}}' or 'C{{n}}' .* n >= 1, .*'T', 'O', 'Oh' or 'I'"
TYPE = r"group \(={}\) must be a name or a Group, got {}; pass e.g. 'p8'"
INTEGER = r"{0} \(={1}\) must be an integer.*pass e.g. "
LEAST = r"{0} \(={1}\) must be at least {2}; pass e.g. {2}"
FLOATING = r"{} has dtype {}, but a floating dtype is needed; convert it with {}.astype"
X64 = r"has dtype float64, but JAX's 64-bit mode is off .*'jax_enable_x64', True\) first, or pass "
WORDS = r"choose one of 'SAME', 'VALID', 'CIRCULAR', 'REFLECT'"
KINDS = r"choose one of 'image', 'field', 'invariant'"

CASES = [
    # names of groups
    *(
        (f"group {name!r}", lambda name=name: pdo.group(name), ValueError,
         GROUP.format(re.escape(repr(name))))
        for name in ("p0", "p-4", "P8", "8", "C", "", "p 8", " p8", "p8 ", "p\uff18", "p8.0", "p08",
                     "c4", "D0", "p4mm", "p4m1", "m4", "o", "Th", "p8\n", "\u0440" "8")
    ),
    ("group 8", lambda: pdo.group(8), TypeError, TYPE.format("8", "int")),
    ("group None", lambda: pdo.group(None), TypeError, TYPE.format("None", "NoneType")),
    ("group b'p8'", lambda: pdo.group(b"p8"), TypeError, TYPE.format("b'p8'", "bytes")),
    ("cyclic 0", lambda: pdo.cyclic(0), ValueError, LEAST.format("n", 0, 1)),
    ("cyclic 2.0", lambda: pdo.cyclic(2.0), TypeError, INTEGER.format("n", 2.0)),
    ("dihedral True", lambda: pdo.dihedral(True), TypeError, r"n \(=True\).*not a bool; pass"),
    ("dihedral '4'", lambda: pdo.dihedral("4"), TypeError, INTEGER.format("n", "'4'")),
    # groups from matrices
    ("one matrix", lambda: pdo.Group("a", np.eye(2)), ValueError,
     r"matrices has shape \(2, 2\), but \(order, ndim, ndim\) is needed; stack"),
    ("not orthogonal", lambda: pdo.Group("a", 2 * np.eye(2)[None]), ValueError,
     r"matrices of the group 'a' must be orthogonal; normalise"),
    ("NaN matrices", lambda: pdo.Group("a", np.full((1, 2, 2), np.nan)), ValueError,
     r"matrices of the group 'a' must be orthogonal"),
    ("no identity", lambda: pdo.Group("a", -np.eye(2)[None]), ValueError,
     r"matrices\[0\] of the group 'a' must be the identity; put it first"),
    ("copies", lambda: pdo.Group("a", np.stack([np.eye(2)] * 2)), ValueError,
     r"matrices of the group 'a' must be distinct; remove the copies"),
    ("not closed", lambda: pdo.Group("a", pdo.group("p4").matrices[:2]), ValueError,
     r"the matrix \[\[-1.0, 0.0\], \[0.0, -1.0\]\] is not an element of the group 'a'.*closed"),
    # bases
    ("order -1", lambda: pdo.filter_basis("p4", -1), ValueError, LEAST.format("order", -1, 0)),
    ("order 1.5", lambda: pdo.filter_basis("p4", 1.5), TypeError, INTEGER.format("order", 1.5)),
    ("order True", lambda: pdo.filter_basis("p4", True), TypeError, r"order \(=True\).*not a bool"),
    *(
        (f"orientation {value}", lambda value=value: pdo.filter_basis("p4", orientation=value),
         ValueError, rf"orientation \(={value}\) must be finite; pass e.g. 0.0")
        for value in (float("nan"), float("inf"), float("-inf"))
    ),
    ("orientation '0'", lambda: pdo.filter_basis("p4", orientation="0"), TypeError,
     r"orientation \(='0'\) must be a real number, got str; pass a Python float"),
    ("orientation 1j", lambda: pdo.filter_basis("p4", orientation=1j), TypeError,
     r"orientation \(=1j\) must be a real number, got complex"),
    ("orientation a matrix", lambda: pdo.filter_basis("p4", orientation=np.eye(2)), TypeError,
     r"orientation \(=.*\) must be a real number, got ndarray"),
    ("scheme", lambda: pdo.filter_basis("p4", scheme="spectral"), ValueError,
     r"scheme \(='spectral'\) is not known; choose one of 'finite-difference'"),
    ("scheme None", lambda: pdo.filter_basis("p4", scheme=None), TypeError,
     r"scheme \(=None\) must be a string, got NoneType; choose one of 'finite-difference'"),
    ("accuracy 3", lambda: pdo.filter_basis("p4", accuracy=3), ValueError,
     r"accuracy \(=3\) must be even.*; pass 4"),
    ("accuracy 0", lambda: pdo.filter_basis("p4", accuracy=0), ValueError,
     LEAST.format("accuracy", 0, 2)),
    ("accuracy 2.0", lambda: pdo.filter_basis("p4", accuracy=2.0), TypeError,
     INTEGER.format("accuracy", 2.0)),
    ("operators", lambda: pdo.filter_basis("p4", operators="all"), ValueError,
     r"operators \(='all'\) is not known; choose one of 'box', 'total'"),
    ("sigma of a scheme without", lambda: pdo.filter_basis("p4", sigma=1.0), ValueError,
     r"sigma \(=1.0\) is the width of another scheme; pass sigma=None, or .*\('gaussian'\)"),
    ("band of another", lambda: pdo.filter_basis("p4", scheme="gaussian", band=1.0), ValueError,
     r"band \(=1.0\) is the width of another scheme; pass band=None, or .*\('optimal'\)"),
    ("sigma too small", lambda: pdo.filter_basis("p4", scheme="gaussian", sigma=0.1), ValueError,
     r"sigma \(=0.1\) must be at least 0.3; pass e.g. 1"),
    ("sigma a word", lambda: pdo.filter_basis("p4", scheme="gaussian", sigma="wide"), TypeError,
     r"sigma \(='wide'\) must be a real number"),
    ("band beyond the grid", lambda: pdo.filter_basis("p4", scheme="optimal", band=4.0), ValueError,
     r"band \(=4.0\) must be at least 0.1 and at most 3.14159; pass e.g. 3.14159"),
    ("size of rbf-fd", lambda: pdo.filter_basis("p8", scheme="rbf-fd", size=3), ValueError,
     r"size \(=3\) is too small: 'rbf-fd' .* need 5"),
    ("size 4", lambda: pdo.filter_basis("p4", size=4), ValueError,
     r"size \(=4\) must be odd; pass 5"),
    ("size 1", lambda: pdo.filter_basis("p4", size=1), ValueError,
     r"size \(=1\) is too small: .* for p4 need 3; pass size=3 or None"),
    ("size 3 for p8", lambda: pdo.filter_basis("p8", size=3, accuracy=4), ValueError,
     r"size \(=3\) is too small: .* accuracy 4 for p8 need 7; pass size=7 or None"),
    ("size 0", lambda: pdo.filter_basis("p4", size=0), ValueError, LEAST.format("size", 0, 1)),
    ("size '5'", lambda: pdo.filter_basis("p4", size="5"), TypeError,
     INTEGER.format("size", "'5'")),
    ("mesh 0", lambda: P4.weights(np.ones(9), 0), ValueError,
     r"mesh \(=0.0\) must be above 0; pass the distance"),
    ("coefficients", lambda: P4.weights(np.ones((8, 2))), ValueError,
     r"coefficients has shape \(8, 2\), but \(9, \.\.\.\) is needed; pass one coefficient for "),
    # dtypes
    ("integers", lambda: lift(IMAGE.astype(int)), TypeError, FLOATING.format("x", "int64", "x")),
    ("booleans", lambda: lift(IMAGE > 0), TypeError, FLOATING.format("x", "bool", "x")),
    ("bytes", lambda: lift(IMAGE.astype(np.uint8)), TypeError, FLOATING.format("x", "uint8", "x")),
    ("complex", lambda: lift(IMAGE.astype(complex)), TypeError,
     FLOATING.format("x", "complex128", "x")),
    ("integer weights", lambda: lift(weights=LIFT.astype(int)), TypeError,
     FLOATING.format("weights", "int64", "weights")),
    ("a list", lambda: lift(IMAGE.tolist()), TypeError,
     r"x must be an array of shape \(\.\.\., H, W, C\), got list; convert it with jnp.asarray"),
    ("None", lambda: conv(None), TypeError,
     r"x must be an array of shape \(\.\.\., H, W, \|G\|, C\), got NoneType"),
    ("float64 x without x64", lambda: without_x64(lambda: lift(IMAGE, LIFT_32)), ValueError,
     "x " + X64 + r"x.astype\(np.float32\)"),
    ("float64 weights without x64", lambda: without_x64(lambda: lift(IMAGE_32, LIFT)), ValueError,
     "weights " + X64 + r"weights.astype\(np.float32\)"),
    ("float64 for act without x64", lambda: without_x64(lambda: pdo.act("p4", 1, IMAGE)),
     ValueError, "x " + X64),
    ("float64 for a pool without x64", lambda: without_x64(pool), ValueError, "x " + X64),
    # ranks and shapes
    ("rank of an image", lambda: lift(IMAGE[0]), ValueError,
     r"x has shape \(6, 2\), but \(\.\.\., H, W, C\) is needed \(at least 3 axes\); reshape"),
    ("an image for a field", lambda: conv(IMAGE), ValueError,
     r"x has shape \(6, 6, 2\), but \(\.\.\., H, W, \|G\|, C\) is needed \(at least 4 axes\)"),
    ("rank of weights", lambda: lift(weights=CONV), ValueError,
     r"weights has shape \(9, 4, 2, 2\), but \(M, C_in, C_out\) is needed \(exactly 3 axes\)"),
    ("lift weights for fields", lambda: conv(weights=LIFT), ValueError,
     r"weights has shape \(9, 2, 2\), but \(M, \|G\|, C_in, C_out\) is needed \(exactly 4 axes\)"),
    ("channels", lambda: lift(IMAGE[..., :1]), ValueError,
     r"x has shape \(6, 6, 1\): axis -1 is 1, but must be 2, the weights' C_in; pass x with 2"),
    ("operators of weights", lambda: lift(weights=LIFT[:8]), ValueError,
     r"weights has shape \(8, 2, 2\): axis 0 is 8, but must be 9, .*number of operators; pass"),
    ("group of weights", lambda: conv(weights=CONV[:, :3]), ValueError,
     r"weights has shape .*: axis 1 is 3, but must be 4, the order of p4; pass"),
    ("group of a field", lambda: conv(np.zeros((6, 6, 8, 2))), ValueError,
     r"x has shape \(6, 6, 8, 2\): axis -2 is 8, but must be 4, the order of p4; pass"),
    ("group of a kernel", lambda: pdo.group_kernel(CONV, pdo.filter_basis("p8")), ValueError,
     r"weights has shape .*: axis 1 is 4, but must be 8, the order of p8; pass"),
    ("no output channel", lambda: lift(weights=LIFT[..., :0]), ValueError,
     r"weights has shape \(9, 2, 0\): no axis of \(C_in, C_out\) may be empty; pass at least one"),
    ("no input channel", lambda: lift(IMAGE[..., :0], LIFT[:, :0]), ValueError,
     r"weights has shape \(9, 0, 2\): no axis of \(C_in, C_out\) may be empty"),
    ("no pixel", lambda: lift(IMAGE[:0]), ValueError,
     r"x has shape \(0, 6, 2\): no axis .* may be empty; pass at least one pixel"),
    ("a name for a basis", lambda: lift(basis="p4"), TypeError,
     r"basis must be a FilterBasis, got str; make one with filter_basis"),
    ("pointwise weights", lambda: pdo.pointwise_group_conv(FIELD, CONV[0, :3], "p4"), ValueError,
     r"weights has shape \(3, 2, 2\): axis 0 is 3, but must be 4, the order of p4"),
    ("pointwise channels", lambda: pdo.pointwise_group_conv(FIELD[..., :1], CONV[0], "p4"),
     ValueError, r"x has shape \(6, 6, 4, 1\): axis -1 is 1, but must be 2, the weights' C_in"),
    ("pointwise group", lambda: pdo.pointwise_group_conv(FIELD, CONV[0], 4), TypeError,
     r"group \(?.*4.* must be a .*Group.*"),
    # strides, paddings, dilations, feature groups, algorithms
    ("stride 0", lambda: lift(strides=0), ValueError, LEAST.format("strides", 0, 1)),
    ("stride -1", lambda: lift(strides=-1), ValueError, LEAST.format("strides", -1, 1)),
    *(
        (f"stride {value!r}", lambda value=value: lift(strides=value), TypeError,
         rf"strides \(={value!r}\) must be an integer or a sequence of 2 integers; pass e.g. 1")
        for value in (True, 1.5, "2", None)
    ),
    ("three strides", lambda: lift(strides=(1, 2, 3)), ValueError,
     r"strides \(=\(1, 2, 3\)\) must have one entry for each of the 2 spatial axes, got 3; pass"),
    ("strides (1, 0)", lambda: lift(strides=(1, 0)), ValueError,
     LEAST.format(r"strides\[1\]", 0, 1)),
    ("strides (1, True)", lambda: lift(strides=(1, True)), TypeError,
     r"strides\[1\] \(=True\).*not a bool"),
    ("enlargement 0", lambda: pdo.group_conv_transpose(FIELD, CONV, P4, 0), ValueError,
     LEAST.format("strides", 0, 1)),
    ("dilation 0", lambda: lift(kernel_dilation=0), ValueError,
     LEAST.format("kernel_dilation", 0, 1)),
    *(
        (f"padding {word!r}", lambda word=word: lift(padding=word), ValueError,
         rf"padding \(='{word}'\) is not known; {WORDS}")
        for word in ("CAUSAL", "same", "")
    ),
    ("transposed CIRCULAR", lambda: pdo.group_conv_transpose(FIELD, CONV, P4, 2, "CIRCULAR"),
     ValueError, r"padding \(='CIRCULAR'\) is not known; choose one of 'SAME', 'VALID'\."),
    ("padding -1", lambda: lift(padding=-1), ValueError, LEAST.format("padding", -1, 0)),
    ("padding (1, -1)", lambda: lift(padding=[(1, -1), 0]), ValueError,
     LEAST.format(r"padding\[0\]\[1\]", -1, 0)),
    ("padding True", lambda: lift(padding=True), TypeError, r"padding \(=True\).*not a bool; pass"),
    ("padding 1.5", lambda: lift(padding=1.5), TypeError,
     r"padding \(=1.5\) must be a word, an integer, or a sequence .*; pass e.g. 'SAME'"),
    ("padding None", lambda: lift(padding=None), TypeError, r"padding \(=None\) must be a word"),
    ("three paddings", lambda: lift(padding=(1, 2, 3)), ValueError,
     r"padding \(=\(1, 2, 3\)\) must have one entry .* 2 spatial axes, got 3; pass e.g. "),
    ("one padding", lambda: lift(padding=[(1, 1)]), ValueError,
     r"padding \(=\[\(1, 1\)\]\) must have one entry .* 2 spatial axes, got 1; pass e.g. "),
    ("a triple", lambda: lift(padding=[(1, 1, 1), 0]), ValueError,
     r"padding\[0\] \(=\(1, 1, 1\)\) must be an integer or a pair \(before, after\); pass e.g. "),
    ("words in a sequence", lambda: lift(padding=["SAME", "SAME"]), TypeError,
     r"padding\[0\] \(='SAME'\) must be an integer of at least 0, got str; pass e.g. 0"),
    ("VALID below the kernel", lambda: lift(IMAGE[:2], padding="VALID"), ValueError,
     r"lift_conv: padding \(='VALID'\) leaves 2 pixels of 2 for a window of 3; pass padding="),
    ("VALID below the dilated kernel", lambda: conv(padding="VALID", kernel_dilation=4), ValueError,
     r"group_conv: padding \(='VALID'\) leaves 6 pixels of 6 for a window of 9; pass"),
    ("feature groups and C_in", lambda: lift(feature_group_count=3), ValueError,
     r"x has shape .*: axis -1 is 2, but must be 6, .*C_in times feature_group_count; pass"),
    ("feature groups and C_out",
     lambda: lift(weights=np.zeros((9, 1, 3)), feature_group_count=2), ValueError,
     r"feature_group_count \(=2\) must divide C_out \(=3\); pass a divisor"),
    ("feature groups 0", lambda: lift(feature_group_count=0), ValueError,
     LEAST.format("feature_group_count", 0, 1)),
    *(
        (f"{name} fourier", lambda call=call: call(algorithm="fourier"), ValueError,
         r"algorithm \(='fourier'\) is not known; choose one of 'auto', 'direct', 'stencils', 'har")
        for name, call in (("lift", lift), ("conv", conv), ("layer", layer))
    ),
    ("algorithm None", lambda: conv(algorithm=None), TypeError,
     r"algorithm \(=None\) must be a string, got NoneType; choose one of"),
    ("precision", lambda: lift(precision="exact"), ValueError,
     r"Precision argument must be one of"),
    # layers
    ("in_features 0", lambda: layer(pdo.nn.PDOLift, 0, 1), ValueError,
     LEAST.format("in_features", 0, 1)),
    ("out_features 0", lambda: layer(pdo.nn.PDOConv, 1, 0), ValueError,
     LEAST.format("out_features", 0, 1)),
    ("pointwise features 0", lambda: layer(pdo.nn.PointwiseConv, 0, 1), ValueError,
     LEAST.format("in_features", 0, 1)),
    ("in_features 1.0", lambda: layer(pdo.nn.PDOLift, 1.0, 1), TypeError,
     INTEGER.format("in_features", "1.0")),
    ("padding words of transposed layers",
     lambda: layer(pdo.nn.PDOConvTranspose, 1, 1, padding="CIRCULAR"), ValueError,
     r"padding \(='CIRCULAR'\) is not known"),
    ("in_features True", lambda: layer(pdo.nn.PDOConvTranspose, True, 1), TypeError,
     r"in_features \(=True\).*not a bool"),
    ("layer group", lambda: layer(group=None), TypeError, TYPE.format("None", "NoneType")),
    ("layer NaN orientation", lambda: layer(orientation=float("nan")), ValueError,
     r"orientation \(=nan\) must be finite"),
    ("layer accuracy", lambda: layer(accuracy=5), ValueError, r"accuracy \(=5\) must be even"),
    ("layer stride", lambda: layer(strides=0), ValueError, LEAST.format("strides", 0, 1)),
    ("pointwise stride", lambda: layer(pdo.nn.PointwiseConv, strides=(1, 0)), ValueError,
     LEAST.format(r"strides\[1\]", 0, 1)),
    ("layer dilation", lambda: layer(kernel_dilation=0), ValueError,
     LEAST.format("kernel_dilation", 0, 1)),
    ("layer padding", lambda: layer(padding="CAUSAL"), ValueError,
     rf"padding \(='CAUSAL'\) is not known; {WORDS}"),
    ("layer feature groups", lambda: layer(pdo.nn.PDOConv, 2, 3, feature_group_count=2), ValueError,
     r"feature_group_count \(=2\) must divide in_features \(=2\) and out_features \(=3\); pass a"),
    ("integer dtype", lambda: layer(dtype=jnp.int32), ValueError,
     r"dtype \(=int32\) must be a floating dtype; pass e.g. jnp.float32"),
    ("complex dtype", lambda: layer(dtype=jnp.complex64), ValueError,
     r"dtype \(=complex64\) must be a floating dtype; pass e.g. jnp.float32"),
    ("integer parameters", lambda: layer(param_dtype=int), ValueError,
     r"param_dtype \(=int64\) must be a floating dtype; pass e.g. jnp.float32"),
    ("unknown dtype", lambda: layer(dtype="float33"), TypeError,
     r"dtype \(='float33'\) is not a dtype; pass e.g. jnp.float32"),
    ("pointwise dtype", lambda: layer(pdo.nn.PointwiseConv, dtype="int8"), ValueError,
     r"dtype \(=int8\) must be a floating dtype"),
    ("float64 layer without x64", lambda: without_x64(lambda: layer(dtype="float64")), ValueError,
     r"dtype \(=float64\) needs JAX's 64-bit mode.*'jax_enable_x64', True\) first, or pass"),
    ("no rngs", lambda: layer(rngs=None), TypeError,
     r"rngs \(=NoneType\) must be an nnx.Rngs with a stream .*'params'; pass e.g. nnx.Rngs\(0\)"),
    ("rngs without params", lambda: layer(rngs=nnx.Rngs(dropout=0)), TypeError,
     r"rngs \(=Rngs\) must be an nnx.Rngs with a stream .*'params'"),
    ("a layer on the wrong channels", lambda: layer()(IMAGE_32[..., :1]), ValueError,
     r"x has shape \(6, 6, 1\): axis -1 is 1, but must be 2, the weights' C_in"),
    ("a layer on integers", lambda: layer()(IMAGE.astype(int)), TypeError,
     FLOATING.format("x", "int64", "x")),
    ("a layer on a list", lambda: layer()([[1.0]]), TypeError,
     r"x must be an array of shape .*, got list; convert it with jnp.asarray"),
    ("a kernel of the wrong shape",
     lambda: layer(kernel_init=lambda k, s, d: jnp.zeros(s[1:], d))(IMAGE_32), ValueError,
     r"weights has shape \(2, 2\), but \(M, C_in, C_out\) is needed"),
    ("fan_in 0", lambda: pdo.nn.he_normal(P4, 0), ValueError,
     r"fan_in \(=0.0\) must be above 0; pass the number of channels"),
    # actions and restriction
    ("element 4 of p4", lambda: pdo.act("p4", 4, IMAGE), ValueError,
     r"element \(=4\) must be below 4, the order of p4; elements are counted from 0"),
    ("element -1", lambda: pdo.act("p4", -1, IMAGE), ValueError, LEAST.format("element", -1, 0)),
    ("element 1.0", lambda: pdo.act("p4", 1.0, IMAGE), TypeError, INTEGER.format("element", 1.0)),
    ("kind of an action", lambda: pdo.act("p4", 1, IMAGE, "vector"), ValueError,
     rf"kind \(='vector'\) is not known; {KINDS}"),
    ("a field on another group", lambda: pdo.act("p8", 1, FIELD, "field"), ValueError,
     r"x has shape \(6, 6, 4, 2\): axis -2 is 4, but must be 8, the order of p8; pass"),
    ("acting on integers", lambda: pdo.act("p4", 1, IMAGE.astype(int)), TypeError,
     FLOATING.format("x", "int64", "x")),
    ("p3 in p4", lambda: pdo.restrict(FIELD, "p4", "p3"), ValueError,
     r"subgroup \(=p3\) must be a subgroup of p4, .*; pass another one"),
    ("p2m in p4", lambda: pdo.restrict(FIELD, "p4", "p2m"), ValueError,
     r"subgroup \(=p2m\) must be a subgroup of p4"),
    ("a subgroup of space", lambda: pdo.restrict(FIELD, "p4", pdo.Group("e", np.eye(3)[None])),
     ValueError, r"subgroup \(=e\) acts on 3 dimensions, but p4 on 2; pass a subgroup of p4"),
    ("restricting another field", lambda: pdo.restrict(FIELD, "p8", "p4"), ValueError,
     r"x has shape .*: axis -2 is 4, but must be 8, the order of p8"),
    ("cosets of p3 in p4", lambda: pdo.pullback(FIELD, "p4", "p3"), ValueError,
     r"subgroup \(=p3\) must be a subgroup of p4, .*; pass another one"),
    ("pulling back a field", lambda: pdo.pullback(FIELD, "p4", "p2"), ValueError,
     r"x has shape .*: axis -2 is 4, but must be 2, the number of cosets of p2 in p4; pass x with"),
    ("acting on cosets of p3", lambda: pdo.act("p4", 1, FIELD, pdo.group("p3")), ValueError,
     r"kind \(=p3\) must be a subgroup of p4, .*; pass another one"),
    ("acting on other cosets", lambda: pdo.act("p4", 1, FIELD, pdo.group("p4")), ValueError,
     r"x has shape .*: axis -2 is 4, but must be 1, the number of cosets of p4 in p4"),
    # measuring
    ("output_kind", lambda: pdo.equivariance_error(same, IMAGE, "p4", output_kind="vector"),
     ValueError, rf"output_kind \(='vector'\) is not known; {KINDS}"),
    ("input_kind", lambda: pdo.equivariance_error(same, IMAGE, "p4", input_kind="vector"),
     ValueError, rf"input_kind \(='vector'\) is not known; {KINDS}"),
    ("an image for an output field", lambda: pdo.equivariance_error(same, IMAGE, "p4"), ValueError,
     r"x has shape \(6, 6, 2\), but \(\.\.\., H, W, \|G\|, C\) is needed"),
    ("shapes that do not turn",
     lambda: pdo.equivariance_error(lambda x: x[:3], IMAGE, "p4", output_kind="image"), ValueError,
     r"fn maps shape \(6, 6, 2\) to \(3, 6, 2\), but element 1 of p4 .*; check output_kind"),
    ("cosets of p1m for a kind",
     lambda: pdo.equivariance_error(same, IMAGE, "p4", output_kind=pdo.group("p1m")), ValueError,
     r"output_kind \(=p1m\) must be a subgroup of p4"),
    ("nothing to assert", lambda: pdo.assert_equivariant(same, IMAGE, "p3", output_kind="image"),
     ValueError, r"approximate_tolerance \(=None\) leaves out every element of p3.*; pass a "),
    ("order of p4", lambda: pdo.convergence_order(same, "p4", size=3), ValueError,
     r"group \(=p4\) permutes the pixels with every element.*; pass a group such as 'p8'"),
    ("an even patch", lambda: pdo.convergence_order(same, "p8", size=4), ValueError,
     r"size \(=4\) must be odd, to have a centre; pass 5"),
    ("one mesh", lambda: pdo.convergence_order(same, "p8", size=3, meshes=(0.1,)), ValueError,
     r"meshes \(=\(0.1,\)\) must hold two different numbers at least.*; pass e.g. "),
    ("a mesh of 0", lambda: pdo.convergence_errors(same, "p8", size=3, meshes=(0.1, 0)), ValueError,
     r"meshes \(=\(0.1, 0\)\) must be above 0; pass distances"),
    ("no points", lambda: pdo.convergence_errors(same, "p8", size=3, points=0), ValueError,
     LEAST.format("points", 0, 1)),
    ("order of an invariant",
     lambda: pdo.convergence_errors(same, "p8", size=3, output_kind="invariant"), ValueError,
     r"output_kind \(='invariant'\) is not known; choose one of 'image', 'field'"),
    ("order without x64",
     lambda: without_x64(lambda: pdo.convergence_order(same, "p8", size=3, output_kind="image")),
     ValueError, "signal " + X64),
    # pools
    ("window 0", lambda: pool(window=0), ValueError, LEAST.format("window", 0, 1)),
    ("window 2.0", lambda: pool(window=2.0), TypeError,
     r"window \(=2.0\) must be an integer or a sequence of 2 integers; pass"),
    ("window of one axis", lambda: pool(window=(2,)), ValueError,
     r"window \(=\(2,\)\) must have two entries \(three for volumes\); pass e.g. \(2, 2\)"),
    ("window above the image", lambda: pool(window=7), ValueError,
     r"max_pool: padding \(='VALID'\) leaves 6 pixels of 6 for a window of 7; pass"),
    ("strides of a pool", lambda: pool(strides=0), ValueError, LEAST.format("strides", 0, 1)),
    ("padding of a pool", lambda: pool(padding="CAUSAL"), ValueError,
     rf"padding \(='CAUSAL'\) is not known; {WORDS}"),
    ("padding above the window", lambda: pool(padding=2), ValueError,
     r"padding \(=2\) must be below the window \(=\(2, 2\)\).*; pass 'SAME' or 'VALID'"),
    ("kind of a pool", lambda: pool(kind="volume"), ValueError,
     r"kind \(='volume'\) is not known; choose one of 'image', 'field'"),
    ("an image as a field", lambda: pool(kind="field"), ValueError,
     r"x has shape \(6, 6, 2\), but a field .* is needed \(at least 4 axes\); reshape it, or pass"),
    ("an ambiguous pool", lambda: pool(np.zeros((2, 2, 6, 6, 4, 1))), ValueError,
     r"kind \(=None\) cannot be read off 6 axes .*; say kind='image' or kind='field'"),
    ("rank of a pool", lambda: pdo.nn.avg_pool(IMAGE[0], 2), ValueError,
     r"x has shape \(6, 2\), but .* is needed \(at least 3 axes\); reshape"),
    ("integers in a pool", lambda: pdo.nn.blur_pool(IMAGE.astype(int)), TypeError,
     FLOATING.format("x", "int64", "x")),
    ("kind of a group pool", lambda: pdo.nn.group_pool(FIELD, "sum"), ValueError,
     r"kind \(='sum'\) is not known; choose one of 'max', 'mean', 'norm'"),
    ("rank of a group pool", lambda: pdo.nn.group_pool(FIELD[0, 0, 0]), ValueError,
     r"x has shape \(2,\), but \(\.\.\., \|G\|, C\) is needed \(at least 2 axes\); reshape"),
    ("an empty group", lambda: pdo.nn.group_pool(FIELD[:, :, :0]), ValueError,
     r"x has shape \(6, 6, 0, 2\): no axis of \(\|G\|, C\) may be empty"),
    ("a group without a subgroup", lambda: pdo.nn.group_pool(FIELD, "max", "p4"), ValueError,
     r"group \(=p4\) and subgroup \(=None\) belong together; pass both, such as 'p8' and 'p2'"),
    ("cosets in a group pool", lambda: pdo.nn.group_pool(FIELD, "max", "p4", "p3"), ValueError,
     r"subgroup \(=p3\) must be a subgroup of p4"),
    ("order of a group pool", lambda: pdo.nn.group_pool(FIELD, "max", "p8", "p2"), ValueError,
     r"x has shape .*: axis -2 is 4, but must be 8, the order of p8"),
    ("strides without a window", lambda: pdo.nn.blur_pool(IMAGE, strides=(2,)), ValueError,
     r"strides \(=\(2,\)\) must have two entries \(three for volumes\); pass e.g. \(2, 2\)"),
    ("resizing to 0", lambda: pdo.nn.resize(IMAGE, 0), ValueError, LEAST.format("size", 0, 1)),
    ("resizing to 1.5", lambda: pdo.nn.resize(IMAGE, 1.5), TypeError,
     r"size \(=1.5\) must be an integer or a sequence of 2 integers"),
    ("a stretched square", lambda: pdo.nn.resize(IMAGE, (7, 8)), ValueError,
     r"size \(=\(7, 8\)\) must be the same on axes of the same length, .* \(6, 6\).*; pass one"),
    ("resizing integers", lambda: pdo.nn.resize(IMAGE.astype(int), 7), TypeError,
     FLOATING.format("x", "int64", "x")),
    # networks
    ("images of another size", lambda: net(np.zeros((1, 32, 32, 1), np.float32)), ValueError,
     r"x has shape \(1, 32, 32, 1\), but \(N, 28, 28, in_features\) is needed: .*; resize"),
    ("no batch axis", lambda: net(np.zeros((28, 28, 1), np.float32), invariant=True), ValueError,
     r"x has shape \(28, 28, 1\), but \(N, 28, 28, in_features\) is needed \(exactly 4 axes\)"),
    ("no classes", lambda: pdo.models.mnist_rot(num_classes=0, rngs=nnx.Rngs(0)), ValueError,
     LEAST.format("num_classes", 0, 1)),
    # export
    ("fold a function", lambda: pdo.export.fold(same), TypeError,
     r"model must be an nnx.Module, got function; pass the network itself"),
    ("save a function", lambda: pdo.export.save(same, "a", (1, 2)), TypeError,
     r"model must be an nnx.Module, got function"),
    ("save without folding", lambda: pdo.export.save(same, "a", (1, 2), fold=False), TypeError,
     r"model must be an nnx.Module, got function"),
    ("input_shape 28", lambda: pdo.export.save(same, "a", 28), TypeError,
     r"input_shape \(=28\) must be the shape of a batch; pass e.g. \(None, 28, 28, 1\)"),
    ("input_shape with two free axes", lambda: pdo.export.save(same, "a", (None, None, 1)),
     TypeError, INTEGER.format(r"input_shape\[1\]", "None")),
    ("fixed batch of None", lambda: pdo.export.save(same, "a", (None, 2), fixed_batch=True),
     TypeError, INTEGER.format(r"input_shape\[0\]", "None")),
    ("program of int8", lambda: pdo.export.save(same, "a", (1, 2), dtype="int8"), ValueError,
     r"dtype \(=int8\) must be a floating dtype"),
    ("platforms a word", lambda: pdo.export.save(same, "a", (1, 2), platforms="cpu"), TypeError,
     r"platforms \(='cpu'\) must be a sequence of names; pass e.g. \('cpu', 'cuda'\)"),
    ("ONNX in bfloat16", lambda: pdo.export.save_onnx(same, "a", (1, 2), dtype="bfloat16"),
     ValueError, r"dtype \(='bfloat16'\) is not known; choose one of 'float32', 'float64'"),
    ("load something else", lambda: pdo.export.load(__file__), ValueError,
     r"path \(=.*\) is not a file that pdo_jax.export.save wrote; pass one that is"),
    ("load a newer file", lambda: pdo.export.load(written(b"pdo_jax.export 2 0\n")), ValueError,
     r"path \(=.*\) has format version 2, but this pdo_jax reads versions up to 1; update"),
    ("load half a file", lambda: pdo.export.load(written(b"pdo_jax.export 1 0\n")), ValueError,
     r"path \(=.*\) is damaged or incomplete.*; copy it again, or save the network again"),
    ("program of a list", lambda: program([[1.0]]), TypeError,
     r"x must be an array of shape \(N, 13, 13, 1\), got list"),
    ("program of float64", lambda: program(np.zeros((2, 13, 13, 1))), TypeError,
     r"x has dtype float64, but the program takes float32; convert it with x.astype\('float32'\)"),
    ("program of other pixels", lambda: program(np.zeros((2, 13, 12, 1), "float32")), ValueError,
     r"x has shape \(2, 13, 12, 1\), but the program takes \(N, 13, 13, 1\).*reshape it, or save"),
    ("program of an empty batch", lambda: program(np.zeros((0, 13, 13, 1), "float32")), ValueError,
     r"x has shape \(0, 13, 13, 1\).*N at least 1"),
    ("program of one image", lambda: program(np.zeros((13, 13, 1), "float32")), ValueError,
     r"x has shape \(13, 13, 1\), but \(N, 13, 13, 1\) is needed \(exactly 4 axes\)"),
    ("layout of mirrors", lambda: theirs((3, 3, 8, 2), "p4m"), ValueError,
     r"group \(=p4m\) must be a group of rotations of the plane.*; pass e.g. 'p4'"),
    ("layout kind", lambda: theirs((3, 3, 8, 2), kind="conv"), ValueError,
     r"kind \(='conv'\) is not known; choose one of 'lift', 'group', 'pointwise'"),
    ("layout 5x5", lambda: theirs((5, 5, 8, 2)), ValueError,
     r"weights has shape \(5, 5, 8, 2\), but \(3, 3, any, any\) is needed for kind='group'"),
    ("layout of another group", lambda: theirs((3, 3, 8, 2), "p3"), ValueError,
     r"axis 2 is 8, but must be a multiple of 3, the order of the group; pass another"),
    ("layout back", lambda: pdo.export.to_tensorflow(np.zeros((9, 3, 2, 2)), "p4", "group"),
     ValueError, r"weights has shape \(9, 3, 2, 2\), but \(9, 4, any, any\) is needed"),
    # equations on SE(2) and on the plane
    ("metric of other channels", lambda: se2(metric=np.ones((3, 3))), ValueError,
     r"metric is for 3 channels, but x has 2; pass one for each channel of x"),
    ("metric of no kind", lambda: se2(metric=np.ones((2, 4))), ValueError,
     r"metric has shape \(2, 4\), but \(C, 3\) or \(C, 3, 3\) on SE\(2\) is needed; pass one for"),
    ("metric of the plane", lambda: se2(metric=np.ones(2)), ValueError,
     r"metric has shape \(2,\), but \(C, 3\) or \(C, 3, 3\) on SE\(2\) is needed"),
    ("metric of integers", lambda: se2(metric=np.ones((2, 3), int)), TypeError,
     FLOATING.format("metric", "int64", "metric")),
    ("Finsler on SE(2)", lambda: se2(metric=pdo.pde.Finsler(np.ones((2, 5)))), ValueError,
     r"metric is a Finsler norm, which there is on the plane alone;"),
    ("Finsler of an even number", lambda: pdo.pde.dilation(
        IMAGE, pdo.pde.Finsler(np.ones((2, 4))), (3, 3)), ValueError,
     r"metric.coefficients has shape \(2, 4\): its last axis must be odd, 2 order \+ 1; pass e.g."),
    ("even window", lambda: se2(kernel_size=(5, 4, 5)), ValueError,
     r"kernel_size\[1\] \(=4\) must be odd, so that the window has a middle; pass 5"),
    ("window of one number", lambda: se2(kernel_size=5), TypeError,
     r"kernel_size \(=5\) must be \(kH, kW\) on the plane or \(kH, kW, kOr\) on SE\(2\); pass"),
    ("window of four numbers", lambda: se2(kernel_size=(5, 5, 5, 5)), ValueError,
     r"kernel_size \(=\(5, 5, 5, 5\)\) must be \(kH, kW\) or \(kH, kW, kOr\); pass e.g."),
    ("window of all angles and more", lambda: se2(kernel_size=(3, 3, 9)), ValueError,
     r"kernel_size \(=\(3, 3, 9\)\) covers 9 orientations, but there are only 8.*of at most 8"),
    *(
        (f"alpha {value}", lambda value=value: se2(alpha=value), ValueError,
         rf"alpha \(={value}\) must lie above 1/2, where kernels become flat, and at most")
        for value in (0.5, 1.1, -1.0)
    ),
    ("distance", lambda: se2(distance="exact"), ValueError,
     r"distance \(='exact'\) is not known; choose one of 'log', 'paths'"),
    ("field of nothing", lambda: se2(x=np.zeros((6, 0, 8, 2))), ValueError,
     r"x has shape \(6, 0, 8, 2\): no axis of \(..., H, W, Or, C\) may be empty"),
    ("image for a field", lambda: se2(x=np.zeros((6, 6, 2))), ValueError,
     r"x has shape \(6, 6, 2\), but \(..., H, W, Or, C\) is needed \(at least 4 axes\)"),
    ("diffusion of other channels", lambda: se2(pdo.pde.diffusion, metric=np.ones((1, 3))),
     ValueError, r"metric is for 1 channels, but x has 2; pass one for each channel of x"),
    ("kernel of two axes", lambda: pdo.pde.morphological_conv(IMAGE, np.zeros((3, 3))), ValueError,
     r"kernel has shape \(3, 3\), but \(Or, kH, kW, kOr, C\) or \(kH, kW, C\) is needed"),
    ("kernel of four axes", lambda: pdo.pde.linear_conv(IMAGE, np.zeros((3, 3, 1, 2))), ValueError,
     r"kernel has shape \(3, 3, 1, 2\), but \(Or, kH, kW, kOr, C\) is needed on SE\(2\), or"),
    ("algorithm of maxima", lambda: pdo.pde.morphological_conv(IMAGE, np.zeros((3, 3, 2)),
     algorithm="triton"), ValueError,
     r"algorithm \(='triton'\) is not known; choose one of 'xla', 'pallas'"),
    ("even kernel", lambda: pdo.pde.morphological_conv(IMAGE, np.zeros((3, 2, 2))), ValueError,
     r"kernel has shape .*: kW \(=2\) must be odd, so that the window has a middle; pad it"),
    ("kernel of other orientations", lambda: pdo.pde.linear_conv(FIELD, np.zeros((8, 3, 3, 3, 2))),
     ValueError, r"kernel has shape \(8, .*: axis 0 is 8, but must be 4, the number of"),
    ("kernel wider than the circle", lambda: pdo.pde.linear_conv(
        FIELD, np.zeros((4, 3, 3, 5, 2))), ValueError,
     r"kOr \(=5\) must be at most Or \(=4\), or an angle would be counted twice; pass a narrower"),
    ("function without a window", lambda: pdo.pde.linear_conv(FIELD, lambda a, b, c: a), ValueError,
     r"kernel_size must be given with a kernel that is a function; pass e.g. \(5, 5, 5\), or"),
    ("function of another shape", lambda: pdo.pde.linear_conv(
        FIELD, lambda a, b, c: np.zeros(7), (3, 3, 3)), ValueError,
     r"kernel returned an array of shape \(7,\), but one that broadcasts to .* is needed; keep"),
    ("padding of a linear convolution", lambda: pdo.pde.linear_conv(
        IMAGE, np.zeros((3, 3, 2)), padding="VALID"), ValueError,
     r"padding \(='VALID'\) is not known; choose one of 'SAME', 'REFLECT'"),
    ("shift of four numbers", lambda: pdo.pde.convection(FIELD, np.zeros((2, 4))), ValueError,
     r"shift has shape \(2, 4\), but \(C, 3\) is needed on SE\(2\), or \(C, 2\) on the plane"),
    ("shift of other channels", lambda: pdo.pde.convection(FIELD, np.zeros((3, 3))), ValueError,
     r"shift has shape \(3, 3\): axis 0 is 3, but must be 2, the number of channels of x"),
    ("kernel of no orientations", lambda: pdo.pde.diffusion_kernel(np.ones((2, 3))), ValueError,
     r"orientations must be given for a kernel_size \(=\(5, 5, 5\)\) of three numbers; pass"),
    ("switch with a full metric", lambda: pdo.pde.diffusion_shock(
        FIELD, np.ones((2, 3)), np.ones((2, 3)), pdo.pde.Switch(np.ones((2, 3, 3)), np.ones(2)),
        pdo.pde.Switch(np.ones((2, 3)), np.ones(2)), (3, 3, 3)), ValueError,
     r"edges.metric has shape \(2, 3, 3\), but \(C, 3\) is needed on SE\(2\), and \(C,\) or"),
    ("no switch", lambda: pdo.pde.diffusion_shock(
        FIELD, np.ones((2, 3)), np.ones((2, 3)), (np.ones((2, 3)), np.ones(2)),
        pdo.pde.Switch(np.ones((2, 3)), np.ones(2)), (3, 3, 3)), TypeError,
     r"edges must be a Switch, got tuple; pass pdo_jax.pde.Switch\(metric, scale\)"),
    ("switch with one scale", lambda: pdo.pde.diffusion_shock(
        FIELD, np.ones((2, 3)), np.ones((2, 3)), pdo.pde.Switch(np.ones((2, 3)), np.ones(1)),
        pdo.pde.Switch(np.ones((2, 3)), np.ones(2)), (3, 3, 3)), ValueError,
     r"edges.scale has shape \(1,\): axis 0 is 1, but must be 2, the number of channels of x"),
    ("everything dropped", lambda: nnx.eval_shape(
        lambda: pdo.models.lenet5(dropout_rate=1, rngs=nnx.Rngs(0))), ValueError,
     r"dropout_rate \(=1\) must be at least 0 and below 1, where nothing would be left; pass"),
    ("depth that is a list", lambda: pdo.models.vessel_pde([6], rngs=nnx.Rngs(0)), TypeError,
     r"depth \(=\[6\]\) must be an integer"),
    ("depth 7", lambda: pdo.models.vessel_pde(7, rngs=nnx.Rngs(0)), ValueError,
     r"depth \(=7\) must be one of 6, 12; pass 6"),
    ("matrices of space", lambda: pdo.group("p4").index(np.eye(3)), ValueError,
     r"matrices has shape \(3, 3\), but \(..., 2, 2\) is needed for p4; pass orthogonal matrices"),
    ("term", lambda: pde("advection"), ValueError,
     r"terms\[0\] \(='advection'\) is not known; choose one of 'convection', 'dilation',"),
    ("terms a word", lambda: pdo.nn.PDELayer(2, 2, "dilation", rngs=nnx.Rngs(0)), TypeError,
     r"terms \(='dilation'\) must be a sequence of names; pass e.g. \('dilation', 'erosion'\)"),
    ("no terms", lambda: pdo.nn.PDELayer(2, 2, (), rngs=nnx.Rngs(0)), ValueError,
     r"terms \(=\(\)\) must be one at least; pass e.g."),
    ("isotropic on SE(2)", lambda: pde(metric="isotropic"), ValueError,
     r"metric \(='isotropic'\) is not known; choose one of 'diagonal', 'full'"),
    ("diagonal on the plane", lambda: pde(kernel_size=(5, 5)), ValueError,
     r"metric \(='diagonal'\) is not known; choose one of 'isotropic', 'full', 'finsler'"),
    ("shock with a full metric", lambda: pde("shock", metric="full"), ValueError,
     r"metric \(='full'\) must be 'diagonal' with the term 'shock' on SE\(2\); pass that"),
    ("even finsler_order", lambda: pde(finsler_order=4), ValueError,
     r"finsler_order \(=4\) must be odd: a constant, and pairs of cosine and sine; pass 5"),
    ("no iterations", lambda: pde(iterations=0), ValueError, LEAST.format("iterations", 0, 1)),
    ("layer of other channels", lambda: pde()(np.zeros((6, 6, 8, 3))), ValueError,
     r"x has shape \(6, 6, 8, 3\): axis -1 is 3, but must be 2, the in_features of the layer"),
    # relaxed equivariance
    ("relaxation", lambda: relaxed(relaxation="soft"), ValueError,
     r"relaxation \(='soft'\) is not known; choose one of 'non-stationary', 'partial', 'weights',"),
    *(
        (f"relaxed {name} {value!r}", lambda name=name, value=value: relaxed(**{name: value}),
         error, message)
        for name, value, error, message in (
            ("filters", 0, ValueError, LEAST.format("filters", 0, 1)),
            ("filters", 2.0, TypeError, INTEGER.format("filters", 2.0)),
            ("features", 0, ValueError, LEAST.format("features", 0, 1)),
            ("seed", -1, ValueError, LEAST.format("seed", -1, 0)),
            ("seed", True, TypeError, r"seed \(=True\).*not a bool"),
            ("position_bandwidth", True, TypeError,
             r"position_bandwidth \(=True\) must be a real number, got bool; pass a Python float"),
            ("orientation_bandwidth", float("nan"), ValueError,
             r"orientation_bandwidth \(=nan\) must be finite; pass e.g. 0.0"),
            ("relative_bandwidth", "wide", TypeError,
             r"relative_bandwidth \(='wide'\) must be a real number, got str"),
            ("extent", 0.5, ValueError, r"extent \(=0.5\) is an option of relaxation='partial', "
             r"but relaxation is 'non-stationary'; leave it out, or pass that relaxation"),
            ("kernel_size", 3, ValueError, r"kernel_size \(=3\) is an option of continuous "
             r"filters, but relative_bandwidth is None; leave it out .*, or pass"),
            ("kernel_features", 8, ValueError, r"kernel_features \(=8\) is an option of cont"),
            ("strides", 0, ValueError, LEAST.format("strides", 0, 1)),
        )
    ),
    *(
        (f"partial {name} {value!r}",
         lambda name=name, value=value: relaxed(relaxation="partial", **{name: value}),
         error, message)
        for name, value, error, message in (
            ("extent", 1.5, ValueError, r"extent \(=1.5\) must be from 0 to 1; pass 1.0 for all"),
            ("extent", None, TypeError, r"extent \(=None\) must be a real number"),
            ("position_bandwidth", None, ValueError, r"position_bandwidth \(=None\) is an option "
             r"of relaxation='non-stationary', but relaxation is 'partial'; leave it out"),
            ("features", 8, ValueError, r"features \(=8\) is an option of relaxation='non-st"),
        )
    ),
    ("relaxed out_features", lambda: relaxed(1, 0), ValueError, LEAST.format("out_features", 0, 1)),
    ("filters of a window", lambda: relaxed(relaxation="partial", filters=2), ValueError,
     r"filters \(=2\) must be 1 with relaxation='partial', where more filters are the same as one"),
    ("even kernel_size", lambda: relaxed(relative_bandwidth=1.0, kernel_size=4), ValueError,
     r"kernel_size \(=4\) must be odd; pass 5"),
    ("kernel_features 0", lambda: relaxed(relative_bandwidth=1.0, kernel_features=0), ValueError,
     LEAST.format("kernel_features", 0, 1)),
    ("scheme of no basis", lambda: relaxed(relative_bandwidth=1.0, scheme="gaussian"), ValueError,
     r"scheme \(='gaussian'\) is an option of a basis, but relative_bandwidth \(=1.0\) makes .*"
     r"without one; leave either out"),
    ("a basis for continuous filters", lambda: relaxed(group=P4, relative_bandwidth=1.0),
     ValueError, r"relative_bandwidth \(=1.0\) makes filters without a basis, which .*; pass None"),
    ("continuous filters beside a plain path",
     lambda: relaxed(relaxation="residual", relative_bandwidth=1.0), ValueError,
     r"relative_bandwidth \(=1.0\) makes filters without a basis, which .*'residual'.*; pass None"),
    ("VALID for the whole input", lambda: relaxed(relative_bandwidth=1.0, padding="VALID"),
     ValueError, r"padding \(='VALID'\) and kernel_dilation \(=\(1, 1\)\) must be 'SAME' and 1 "
     r"with kernel_size=None, .*; leave them out, or pass a kernel_size"),
    ("relaxed channels", lambda: relaxed(cls=pdo.nn.RelaxedLift)(IMAGE_32[..., :1]), ValueError,
     r"x has shape \(6, 6, 1\): axis -1 is 1, but must be 2, the weights' C_in"),
    *(
        (f"continuous filters on {what}",
         lambda shape=shape: relaxed(relative_bandwidth=1.0)(np.zeros(shape, "float32")),
         ValueError, message)
        for what, shape, message in (
            ("other channels", (6, 6, 4, 1), r"axis -1 is 1, but must be 2, the weights' C_in"),
            ("another group", (6, 6, 8, 2), r"axis -2 is 8, but must be 4, the order of p4; pass"),
            ("an image", (6, 6, 2), r"but \(\.\.\., H, W, \|G\|, C_in\) is needed \(at least 4"),
            ("no pixel", (6, 0, 4, 2), r"no axis of .* may be empty; pass at least one pixel"),
        )
    ),
    ("relaxed on a list", lambda: relaxed()([[1.0]]), TypeError,
     r"x must be an array of shape \(\.\.\., C\), got list; convert it with jnp.asarray"),
    ("penalty of a function", lambda: pdo.nn.equivariance_penalty(same), TypeError,
     r"model must be an nnx.Module, got function; pass the network itself"),
    ("amounts of a function", lambda: pdo.nn.equivariance_amounts(same), TypeError,
     r"model must be an nnx.Module, got function; pass the network itself"),
    ("frequencies of time", lambda: frequencies(4, 3), ValueError,
     r"ndim \(=4\) must be 2 or 3, the plane or space; pass one of these"),
    ("seed 2**32", lambda: frequencies(2, 3, 2**32), ValueError,
     r"seed \(=4294967296\) must be below 2\*\*32; pass e.g. 0"),
    ("frequencies by a float", lambda: (frequencies(2, 17), frequencies(2, 17.0)), TypeError,
     r"count \(=17.0\) must be an integer"),
    ("no frequencies", lambda: frequencies(2, 0), ValueError, LEAST.format("count", 0, 1)),
    ("positions of a line", lambda: positions((3,)), ValueError,
     r"sizes \(=\(3,\)\) must have one entry for each of the 2 spatial axes, got 1; pass e.g."),
    ("positions of nothing", lambda: positions((3, 0)), ValueError,
     LEAST.format(r"sizes\[1\]", 0, 1)),
    ("mean of other filters", lambda: gains(mean=np.ones(3)), ValueError,
     r"mean has shape \(3,\): axis 0 is 3, but must be 2, the number F of filters of the weights"),
    ("weights of other features", lambda: gains(weights=np.ones((4, 2))), ValueError,
     r"weights has shape \(4, 2\): axis 0 is 4, but must be 3, the number of frequencies; pass"),
    ("gains of integers", lambda: gains(weights=np.ones((3, 2), int)), TypeError,
     FLOATING.format("weights", "int64", "weights")),
    ("sizes of a volume", lambda: gains(sizes=(5, 5, 5)), ValueError,
     r"sizes \(=\(5, 5, 5\)\) must have one entry for each of the 2 spatial axes, got 3"),
    ("frequencies of the plane", lambda: gains(group="O", sizes=(5, 5, 5)), ValueError,
     r"frequencies are for 2 dimensions, but O acts on 3; pass frequencies\(3, 3\)"),
    ("many bandwidths", lambda: gains(position=np.ones(3)), ValueError,
     r"position has shape \(3,\) and dtype float64, but one floating number is needed; pass e.g."),
    ("a word for a bandwidth", lambda: continuous(bandwidth="wide"), TypeError,
     r"bandwidth \(='wide'\) must be a real number, got str; pass a Python float"),
    ("even taps", lambda: continuous(taps=(3, 4)), ValueError,
     r"taps \(=\(3, 4\)\) must be odd; pass e.g. \(3, 5\)"),
    ("rank of continuous weights", lambda: continuous(np.ones((3, 1))), ValueError,
     r"weights has shape \(3, 1\), but \(M, C_in, C_out\) is needed \(exactly 3 axes\)"),
    ("a word for an extent", lambda: partial_gains("all", "p4"), TypeError,
     r"extent \(='all'\) must be a real number, got str"),
    ("gains in integers", lambda: partial_gains(0.5, "p4", "int8"), ValueError,
     r"dtype \(=int8\) must be a floating dtype"),
    ("gains at other positions", lambda: weigh(FIELD, np.ones((5, 6, 4, 2))), ValueError,
     r"gains has shape \(5, 6, 4, 2\), but the last axes of fields, \(6, 6, 4\) without .*; pass"),
    ("gains of no filter", lambda: weigh(FIELD, np.ones((4, 0))), ValueError,
     r"gains has shape \(4, 0\), but .* and one of filters at least are needed; pass \(\|G\|, F\)"),
    ("gains of three filters", lambda: weigh(FIELD, np.ones((4, 3))), ValueError,
     r"fields has shape \(6, 6, 4, 2\): its last axis must be a multiple of 3, .*; pass F C"),
    ("amounts of other filters", lambda: amounts(np.ones((4, 2)), np.ones((9, 3, 1))), ValueError,
     r"weights has shape \(9, 3, 1\): axis 1 is 3, but must be 2, the number of filters of the"),
    ("amounts of a vector", lambda: amounts(np.ones(2), np.ones((9, 2, 1))), ValueError,
     r"gains has shape \(2,\), but \(\.\.\., \|G\|, F\) is needed \(at least 2 axes\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_message(call, error, message):
    with pytest.raises(error, match=f"(?s){message}") as caught:
        call()
    assert type(caught.value) is error  # none of their subclasses, such as JAX's own errors


def test_there_are_many_cases_and_no_two_are_the_same():
    names = [case[0] for case in CASES]
    assert len(CASES) >= 100
    assert len(set(names)) == len(names)


# What looks unusual and is right: the checks must not refuse it.
FINE = {
    "a Group": lambda: pdo.group(pdo.group("p4")),
    "np.int64 for n": lambda: pdo.cyclic(np.int64(4)),
    "np.float64 for an angle": lambda: pdo.filter_basis("p4", orientation=np.float64(0.1)),
    "an int for an angle": lambda: pdo.filter_basis("p4", orientation=1),
    "size above what is needed": lambda: pdo.filter_basis("p4", size=7),
    "np.int64 strides": lambda: lift(strides=np.int64(1)),
    "a list of strides": lambda: lift(strides=[1, 1]),
    "np.int64 element": lambda: pdo.act("p4", np.int64(1), IMAGE),
    "np.int64 padding of a layer": lambda: layer(padding=np.int64(1)),
    "NumPy pairs of a layer": lambda: layer(padding=[np.int64(1), (0, np.int64(1))]),
    "a dtype's name": lambda: layer(dtype="bfloat16"),
    "NumPy arrays without x64": lambda: without_x64(lambda: lift(IMAGE_32, LIFT_32)),
    "an image stretched along one axis": lambda: pdo.nn.resize(IMAGE[:5], (5, 12)),
    "an empty batch": lambda: lift(np.zeros((0, 6, 6, 2))),
    "an empty batch of fields": lambda: jax.grad(
        lambda m: se2(x=np.zeros((0, 6, 6, 8, 2)), metric=m).sum()
    )(np.ones((2, 3))),
    "an empty batch to convect": lambda: pdo.pde.convection(
        np.zeros((0, 4, 5, 8, 2)), np.ones((2, 3))
    ),
    "an empty batch to diffuse": lambda: se2(pdo.pde.diffusion, np.zeros((0, 4, 5, 8, 2))),
    "an empty batch to turn": lambda: pdo.act("p8", 1, np.zeros((0, 5, 5, 2))),
    "a window that is a list": lambda: se2(kernel_size=[3, np.int64(3), 3]),
    "a window above the image": lambda: se2(pdo.pde.diffusion, np.zeros((1, 2, 8, 2))),
    "negative metrics": lambda: se2(metric=-np.ones((2, 3))),
    "bandwidths of integers": lambda: relaxed(position_bandwidth=0, relative_bandwidth=1),
    "a traced bandwidth": lambda: jax.jit(lambda b: gains(position=b))(0.5),
    "a shift beyond the image": lambda: pdo.pde.convection(FIELD, np.full((2, 3), 1e9)),
}


@pytest.mark.parametrize("call", FINE.values(), ids=FINE.keys())
def test_unusual_arguments_that_are_right(call):
    assert call() is not None
