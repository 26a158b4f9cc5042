"""A program of its own: the centres of escnn's R2Conv, with random weights, on given patches.

    PYTHON escnn_worker.py INPUT.npz OUTPUT.npz

PYTHON has escnn, which needs NumPy 1; pdo_jax needs NumPy 2, so this file imports neither it nor
JAX. The input holds `patches_J` for every job J, `(n, k, k, G, C)` or `(n, k, k, 1, C)`, and
`jobs`, rows of |G|, the output's fields and the first seed, the number of seeds, and whether the
input is a field. The output holds `outputs_J`, `(seeds, n, |G|, fields)`, `parameters_J` and
`kernels_J`, `(filters, k, k)` of the first seed.
"""

import sys
import warnings
from importlib.metadata import version

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

warnings.filterwarnings("ignore")
from escnn import gspaces, nn  # noqa: E402  # pyright: ignore[reportMissingImports]


def run(patches, order, fields, seed, seeds, field):
    """Return outputs, the number of parameters, and the kernels of the first seed."""
    n, k, _, _, channels = patches.shape
    space = gspaces.rot2dOnR2(order)
    regular = [space.regular_repr]
    of = nn.FieldType(space, channels * (regular if field else [space.trivial_repr]))
    to = nn.FieldType(space, fields * regular)
    # escnn's channels are fields first, group elements last.
    x = torch.tensor(patches.transpose(0, 4, 3, 1, 2).reshape(n, -1, k, k))
    outputs, parameters, kernels = [], 0, None
    for i in range(seeds):
        torch.manual_seed(seed + i)
        layer = nn.R2Conv(of, to, kernel_size=k, bias=False)
        with torch.no_grad():
            y = layer(nn.GeometricTensor(x, of)).tensor
            parameters = layer.weights.numel()
            if kernels is None:
                kernels = layer.expand_parameters()[0].reshape(-1, k, k).numpy()
        outputs.append(y.reshape(n, fields, order).permute(0, 2, 1).numpy())
    return np.stack(outputs), parameters, kernels


def main(source, target):
    """Run every job of a file."""
    torch.set_num_threads(1)
    # escnn samples its basis in torch.float32, by that name, and `double()` comes too late.
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float64
    given, found = np.load(source), {}
    for j, job in enumerate(given["jobs"]):
        results = run(given[f"patches_{j}"], *map(int, job))
        for name, value in zip(("outputs", "parameters", "kernels"), results, strict=True):
            found[f"{name}_{j}"] = value
    found["version"] = f"escnn {version('escnn')}"
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
