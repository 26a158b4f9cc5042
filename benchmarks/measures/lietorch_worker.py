"""A program of its own: LieTorch's operators on SE(2), computed once and then on demand.

    PYTHON lietorch_worker.py INPUT.npz OUTPUT.npz

PYTHON has LieTorch 0.6, whose C++ runs on a CPU and needs PyTorch 2.0 and NumPy 1, and its folder
`lib` is on LD_LIBRARY_PATH; this file imports neither pdo_jax nor JAX. The input holds two sets of
arrays, `compared_NAME` and `timed_NAME`, in the layout of pdo_jax: a field `x` and a `cotangent`
`(N, H, W, Or, C)`, a `kernel` and `weights` `(kH, kW, kOr, C)` for the first orientation, `metric`
and `shift` `(C, 3)`, and one `alpha`. The output holds, for every operator and the compared set,
its value `OPERATOR_y` and the gradients `OPERATOR_x` and `OPERATOR_parameter`, in the same layout.

Then the program says "ready", runs the operator of every line "OPERATOR PASS" that it reads, on the
timed set, and says "done".
"""

import os
import sys
import warnings
from importlib.metadata import version

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

warnings.filterwarnings("ignore")
from lietorch.nn import m2  # noqa: E402  # pyright: ignore[reportMissingImports]

# By name: the operator of the field and a parameter, and the name of the parameter.
PARAMETERS = {
    "dilation": "metric",
    "morphological_conv": "kernel",
    "linear_conv": "weights",
    "convection": "shift",
}


def operators(arrays, alpha):
    """Return LieTorch's functions of a field and a parameter, for a set in its layout."""
    kernel_size = list(arrays["kernel"].shape[1:])
    return {
        "dilation": lambda x, m: m2.fractional_dilation_m2(x, m, kernel_size, alpha),
        "morphological_conv": m2.morphological_convolution_m2,
        "linear_conv": m2.linear_convolution_m2,
        "convection": m2.convection_m2,
    }


def field(x):
    """Return `(N, H, W, Or, C)` as LieTorch has it: y down, so that rows are mirrored."""
    return np.ascontiguousarray(x[:, ::-1].transpose(0, 4, 3, 1, 2))


def field_back(x):
    """Undo `field`."""
    return x.transpose(0, 3, 4, 2, 1)[:, ::-1]


def kernel(k):
    """Return `(kH, kW, kOr, C)` as LieTorch has it."""
    return np.ascontiguousarray(k[::-1].transpose(3, 2, 0, 1))


def kernel_back(k):
    """Undo `kernel`."""
    return k.transpose(2, 3, 1, 0)[::-1]


def shift(c, orientations):
    """Return (main, lateral, radians) as LieTorch has it: (steps, lateral, main)."""
    return np.ascontiguousarray(c[:, ::-1] * units(orientations))


def shift_back(slope, orientations):
    """Return the gradient of the argument of `shift` from that of its value."""
    return (slope * units(orientations))[:, ::-1]


def units(orientations):
    """Return what turns radians, and nothing else, into steps."""
    return np.array((orientations / (2 * np.pi), 1.0, 1.0), np.float32)


def tensors(arrays):
    """Return a set of arrays in LieTorch's layout, those to derive by marked."""
    found = {}
    for name, array in arrays.items():
        if name in ("x", "cotangent"):
            array = field(array)
        elif name in ("kernel", "weights"):
            array = kernel(array)
        elif name == "shift":
            array = shift(array, arrays["x"].shape[3])
        found[name] = torch.tensor(array, requires_grad=name != "cotangent")
    return found


def evaluate(operator, x, parameter, cotangent):
    """Return the value and both gradients."""
    y = operator(x, parameter)
    return (y, *torch.autograd.grad(y, (x, parameter), cotangent))


def compare(arrays, functions):
    """Return what every operator makes of the compared set."""
    found = {}
    for name, function in functions.items():
        if name == "morphological_conv":  # theirs is a minimum of sums

            def function(x, k, inner=function):
                return -inner(-x, k)

        parameter = PARAMETERS[name]
        values = evaluate(function, arrays["x"], arrays[parameter], arrays["cotangent"])
        y, x, p = (value.detach().numpy() for value in values)
        found[f"{name}_y"], found[f"{name}_x"] = field_back(y), field_back(x)
        if name == "convection":
            p = shift_back(p, arrays["x"].shape[2])
        found[f"{name}_parameter"] = kernel_back(p) if p.ndim == 4 else p
    return found


def main(source, target):
    """Compare, then run what is asked for until nothing more is."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with np.load(source) as archive:
        given = dict(archive)
    sets = {
        part: tensors({k.removeprefix(part): a for k, a in given.items() if k.startswith(part)})
        for part in ("compared_", "timed_")
    }
    alpha = float(given["alpha"])
    found = compare(sets["compared_"], operators(sets["compared_"], alpha))
    found["version"] = f"LieTorch {version('lietorch')}, PyTorch {version('torch')}"
    np.savez(target, **found)

    arrays = sets["timed_"]
    functions = operators(arrays, alpha)
    print("ready", flush=True)
    for line in sys.stdin:
        name, part = line.strip().split(", ")
        x, parameter = arrays["x"], arrays[PARAMETERS[name]]
        if part == "forward":
            with torch.no_grad():
                functions[name](x, parameter)
        else:
            evaluate(functions[name], x, parameter, arrays["cotangent"])
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
