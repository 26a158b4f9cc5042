"""Break the library on purpose, one line at a time, and see that the tests notice.

    python tests/mutations.py                  every mutation, two at a time
    python tests/mutations.py --only product   those with "product" in their name

Each mutation replaces a text that must occur exactly once in its file: a mutation that has rotted
stops the script. It is applied to a copy of the project in a temporary folder, where a few fast
tests run; at least one of them has to fail. The copy as it is has to pass all of them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPIED = ("pdo_jax", "experiments", "benchmarks", "tests", "docs", "pyproject.toml", "README.md")

GOLDENS = "tests/test_goldens.py::test_official_source[p8-float64]"
FORMULA = "tests/test_conv.py::test_group_conv_is_its_formula"
HARMONIC = "tests/test_harmonic.py::test_every_geometry[mirrors, stride]"
NOT_COMMUTATIVE = "tests/test_groups.py::test_the_table_is_the_product_of_matrices[p6m]"


class Mutation(NamedTuple):
    """A wrong line, and the tests of which at least one has to fail."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "y points down",
        "stencils/taps.py",
        "taps[::-1] if variable == 1 else taps",
        "taps",
        (GOLDENS,),
    ),
    Mutation(
        "product table transposed",
        "groups.py",
        '"product", _frozen(product)',
        '"product", _frozen(product.T.copy())',
        (NOT_COMMUTATIVE, f"{FORMULA}[plain]"),
    ),
    Mutation(
        "one stencil coefficient",
        "stencils/central.py",
        "    check_moments(taps, derivative, accuracy)\n    taps.flags",
        "    check_moments(taps, derivative, accuracy)\n    if derivative == 3:\n"
        "        taps[0] *= 1.001\n    taps.flags",
        (GOLDENS,),
    ),
    Mutation(
        "one stencil coefficient, seen by its own moments",
        "stencils/central.py",
        "    check_moments(taps, derivative, accuracy)\n    taps.flags",
        "    if derivative == 3:\n        taps[0] *= 1.001\n"
        "    check_moments(taps, derivative, accuracy)\n    taps.flags",
        (GOLDENS,),
    ),
    Mutation(
        "a Gaussian of another width",
        "stencils/gaussian.py",
        "np.exp(-(steps**2) / (2 * sigma**2))",
        "np.exp(-(steps**2) / sigma**2)",
        ("tests/test_schemes.py::test_sigma_is_the_standard_deviation_in_pixels",),
    ),
    Mutation(
        "a spline's derivative with the wrong sign",
        "stencils/radial.py",
        "_power_derivative(-points, power, exponents)",
        "-_power_derivative(-points, power, exponents)",
        ("tests/test_schemes.py::test_rbf_fd_is_exact_on_its_splines[t1]",),
    ),
    Mutation(
        "optimal stencils that are small, not equivariant",
        "stencils/optimal.py",
        "_diagonal(energies) - projected + ridge",
        "_diagonal(energies) + ridge",
        ("tests/test_schemes.py::test_no_other_stencil_is_more_equivariant[2-5-2.0]",),
    ),
    Mutation(
        "orientation on the wrong side",
        "basis.py",
        "group.matrices @ _frame(orientation, group.ndim)",
        "_frame(orientation, group.ndim) @ group.matrices",
        ("tests/test_basis.py::test_exact_elements_turn_the_kernel[0.3-p4m]",),
    ),
    Mutation(
        "SAME asymmetric, as XLA's",
        "conv.py",
        "        pads,\n        lhs_dilation",
        '        "SAME" if geometry.padding == "SAME" and geometry.enlargement == 1 else pads,\n'
        "        lhs_dilation",
        (f"{FORMULA}[stride 2]",),
    ),
    Mutation(
        "g h^-1 for g^-1 h",
        "kernels.py",
        "group.product[group.inverse]",
        "group.product[:, group.inverse]",
        (GOLDENS, f"{FORMULA}[plain]"),
    ),
    Mutation(
        "g h^-1 for g^-1 h, pointwise",
        "conv.py",
        "[group.product[group.inverse]]",
        "[group.product[:, group.inverse]]",
        ("tests/test_conv.py::test_pointwise_group_conv_is_its_formula[()-p3m]",),
    ),
    Mutation(
        "h^-1 g for g^-1 h",
        "kernels.py",
        "group.product[group.inverse]",
        "group.product[group.inverse].T",
        (GOLDENS,),
    ),
    Mutation(
        "mirrors about the other axis",
        "groups.py",
        "rotations @ np.diag([1.0, -1.0])",
        "rotations @ np.diag([-1.0, 1.0])",
        ("tests/test_groups.py::test_matrices[p3m]", "tests/test_groups.py::test_matrices[p6m]"),
    ),
    Mutation(
        "SAME forgets the dilation",
        "conv.py",
        "[(k - 1) * d + 1 for k, d in",
        "[k for k, d in",
        (f"{FORMULA}[dilation 2]",),
    ),
    Mutation(
        "transpose of the expansion",
        "kernels.py",
        "input_of = np.argsort(copy, axis=1)",
        "input_of = copy",
        (
            "tests/test_conv.py::test_expansion_can_be_differentiated_twice_and_forward_over_reverse",
        ),
    ),
    Mutation(
        "vmap of the expansion",
        "kernels.py",
        "batch, channels, *result.shape[3:]), 2",
        "channels, batch, *result.shape[3:]), 3",
        ("tests/test_conv.py::test_vmap_is_a_loop[(None, 0)-group]",),
    ),
    Mutation(
        "expansion at the precision of the backend",
        "kernels.py",
        "product = jnp.matmul(matrix, flat, precision=lax.Precision.HIGHEST)",
        "product = jnp.matmul(matrix, flat)",
        ("tests/test_conv.py::test_precision_reaches_the_convolution_alone[group-None-float32]",),
    ),
    Mutation(
        "expansion in half precision",
        "kernels.py",
        "copies.astype(np.promote_types(weights.dtype, np.float32))",
        "copies",
        ("tests/test_conv.py::test_low_precision_weights_are_expanded_in_float32[bfloat16]",),
    ),
    Mutation(
        "stencils not mirrored in the gradient",
        "stencil_conv.py",
        "tuple(e - 1 - t for e, t in",
        "tuple(t for e, t in",
        ("tests/test_stencil_conv.py::test_stencils_are_the_kernels[p4-False]",),
    ),
    Mutation(
        "images of a batch in the wrong slices",
        "stencil_conv.py",
        "lax.dynamic_update_slice(y, part, slices.start(i))",
        "lax.dynamic_update_slice(y, part, slices.start(math.prod(slices.counts) - 1 - i))",
        ("tests/test_stencil_conv.py::test_a_batch_in_slices_is_the_batch[p4]",),
    ),
    Mutation(
        "every tile of an image the one before",
        "stencil_conv.py",
        "return step(carry[0], i, *carry[1]), parts(i + 1)",
        "return step(carry[0], i, *carry[1]), parts(i)",
        ("tests/test_stencil_conv.py::test_a_batch_in_slices_is_the_batch[p4]",),
    ),
    Mutation(
        "bands of a large field in the wrong places",
        "pde/windows.py",
        "i // (size // band), i % (size // band) * band",
        "i // (size // band), i % (size // band)",
        ("tests/test_pde_algebra.py::test_bands_of_large_fields_are_the_whole",),
    ),
    Mutation(
        "harmonics not mirrored in the gradient",
        "harmonic_conv.py",
        "h.real.mirrored(self.extents)",
        "h.real",
        (HARMONIC,),
    ),
    Mutation(
        "weights turned the wrong way in the gradient",
        "harmonic_conv.py",
        "for h in placement.harmonics], order).conj()",
        "for h in placement.harmonics], order)",
        (HARMONIC,),
    ),
    Mutation(
        "a harmonic without its conjugate",
        "harmonic_conv.py",
        "else [2 * u, -2 * v]",
        "else [u, -v]",
        (HARMONIC,),
    ),
    Mutation(
        "no zeros between the rows of an image",
        "harmonic_conv.py",
        "max(steps, pixels, steps + max(shifts), pixels - min(shifts))",
        "max(steps, pixels)",
        (HARMONIC,),
    ),
    Mutation(
        "blocks of a line in the wrong places",
        "harmonic_conv.py",
        "lax.dynamic_update_slice_in_dim(y, part, i * block, 1)",
        "lax.dynamic_update_slice_in_dim(y, part, (count - 1 - i) * block, 1)",
        ("tests/test_harmonic.py::test_blocks_of_the_line_are_the_line",),
    ),
    Mutation(
        "the dearest algorithm",
        "algorithms.py",
        "return min(costs, key=",
        "return max(costs, key=",
        ("tests/test_algorithms.py::test_the_cheapest_is_chosen",),
    ),
    Mutation(
        "the last winner of a maximum",
        "nn/pooling.py",
        "(a >= b) | jnp.isnan(a)",
        "(a > b) | jnp.isnan(a)",
        ("tests/test_pooling.py::test_the_gradient_of_a_maximum_goes_to_its_first_winner",),
    ),
    Mutation(
        "order of channels in feature groups",
        "conv.py",
        "y = _swap_blocks(y, groups, order)",
        "y = _swap_blocks(y, order, groups)",
        ("tests/test_conv.py::test_feature_groups_are_separate_convolutions[2-plain]",),
    ),
    Mutation(
        "circular padding filled with zeros",
        "windows.py",
        '"CIRCULAR": "wrap"',
        '"CIRCULAR": "constant"',
        (f"{FORMULA}[CIRCULAR]",),
    ),
    Mutation(
        "no warning about sizes",
        "windows.py",
        "and not _symmetric(n, e, s, low, high):",
        "and s > 9 and not _symmetric(n, e, s, low, high):",
        ("tests/test_windows.py::test_the_warning_comes_once_for_every_caller_and_geometry",),
    ),
    Mutation(
        "pools take the group for space",
        "nn/pooling.py",
        "tail = 2 if _is_field(x, ndim, kind) else 1",
        "tail = 1 if _is_field(x, ndim, kind) else 1",
        ("tests/test_pooling.py::test_flaxs_bare_pool_pools_the_group_axis",),
    ),
    Mutation(
        "blur with a box",
        "nn/pooling.py",
        "math.comb(taps - 1, j)\n            / 2 ** (taps - 1)",
        "1\n            / taps",
        ("tests/test_pooling.py::test_blur_weights_are_binomial",),
    ),
    Mutation(
        "gain of the initialiser",
        "nn/initializers.py",
        "np.sum(basis.values**2) / basis.group.order",
        "np.sum(basis.values[0] ** 2)",
        ("tests/test_nn.py::test_the_initial_variance_is_hes_in_closed_form[p8]",),
    ),
    Mutation(
        "gain of transposed layers",
        "nn/layers.py",
        "return inputs / enlargement",
        "return inputs",
        ("tests/test_nn.py::test_layers_ask_for_the_variance_of_their_inputs[1-p4]",),
    ),
    Mutation(
        "no prefilter of the spline",
        "fields.py",
        "return np.linalg.inv(samples)",
        "return np.eye(n)",
        ("tests/test_fields.py::test_spline_is_that_of_scipy[p8-(8, 8)]",),
    ),
    Mutation(
        "the action permutes elements the wrong way",
        "fields.py",
        "group.product[group.inverse[element]]",
        "group.product[element]",
        ("tests/test_fields.py::test_exact_elements_permute_pixels[field-(3, 4)]",),
    ),
    Mutation(
        "left cosets for right cosets",
        "fields.py",
        "right = group.product[members(group, subgroup)]",
        "right = group.product[:, members(group, subgroup)].T",
        ("tests/test_fields.py::test_restriction_commutes_with_the_subgroup",),
    ),
    Mutation(
        "right cosets for left cosets",
        "fields.py",
        "left = group.product[:, members(group, subgroup)]",
        "left = group.product[members(group, subgroup)].T",
        ("tests/test_fields.py::test_cosets_are_left_cosets",),
    ),
    Mutation(
        "the blur's window does not fit",
        "windows.py",
        "(n + low + high - e) // s * s == n + 2 * low - e",
        "(n + low + high - e) // s * s != n + 2 * low - e",
        ("tests/test_pooling.py::test_blur_pool_fits_every_size",),
    ),
    Mutation(
        "norm without its divisor",
        "nn/pooling.py",
        "square = jnp.mean(x.astype",
        "square = jnp.sum(x.astype",
        ("tests/test_pooling.py::test_group_pools",),
    ),
    Mutation(
        "folding forgets the bias",
        "export/folding.py",
        "None if layer.bias is None else layer.bias[...],\n        geometry,",
        "None,\n        geometry,",
        ("tests/test_export.py::test_every_option_survives_folding[half precision]",),
    ),
    Mutation(
        "folding forgets what VALID means to a transposed layer",
        "export/folding.py",
        "conv.transposed(basis, *placed)",
        "conv.Geometry(1, *placed)",
        ("tests/test_export.py::test_folded_layers_are_the_layers[transpose-3]",),
    ),
    Mutation(
        "the published source's channels read in our order",
        "export/tensorflow.py",
        "np.swapaxes(weights.reshape(rows, columns, -1, order, outputs), 2, 3)",
        "weights.reshape(rows, columns, order, -1, outputs)",
        ("tests/test_export.py::test_weights_of_the_published_source[p8-group]",),
    ),
    Mutation(
        "offsets with y downwards",
        "pde/geometry.py",
        "np.stack([right, -down], -1)",
        "np.stack([right, down], -1)",
        ("tests/test_pde_geometry.py::test_offsets_are_right_and_up",),
    ),
    Mutation(
        "an angle that is not periodic",
        "pde/windows.py",
        "jnp.concatenate([x[..., -turns:, :], x, x[..., :turns, :]], axis=-2)",
        "jnp.concatenate([x[..., :turns, :], x, x[..., -turns:, :]], axis=-2)",
        ("tests/test_pde_algebra.py::test_operators_are_those_of_the_oracle",),
    ),
    Mutation(
        "a tap that is left over",
        "pde/windows.py",
        "range(left * of_row)",
        "range(left * of_row - 1)",
        ("tests/test_pde_layer.py::test_sums_over_windows_of_any_size",),
    ),
    Mutation(
        "another winner",
        "pde/morphology.py",
        "t = (t + tap % turns + orientations - turns // 2) % orientations",
        "t = (t + tap % turns + orientations - turns // 2 + 1) % orientations",
        ("tests/test_pde_layer.py::test_windows_of_any_size",),
    ),
    Mutation(
        "the kernel's gradient with the wrong sign",
        "pde/morphology.py",
        "_at_taps_p.bind(-dk,",
        "_at_taps_p.bind(dk,",
        ("tests/test_pde_layer.py::test_windows_of_any_size",),
    ),
    Mutation(
        "a shift that turns the other way",
        "pde/transport.py",
        "u, v = cos * main + sin * lateral, cos * lateral - sin * main",
        "u, v = cos * main - sin * lateral, cos * lateral + sin * main",
        ("tests/test_pde_algebra.py::test_convection_is_that_of_the_oracle",),
    ),
    Mutation(
        "gains that know the row, not y",
        "relaxed.py",
        "centres[-2] = -centres[-2]",
        "centres[-2] = centres[-2]",
        ("tests/test_relaxed.py::test_fourier_gains_are_their_formula",),
    ),
    Mutation(
        "gains whose strict part moves with the bandwidth",
        "relaxed.py",
        "jnp.cos(s) - jnp.cos(phase)",
        "jnp.cos(s)",
        ("tests/test_relaxed.py::test_without_bandwidths_it_is_the_strict_layer",),
    ),
    Mutation(
        "filters of the offset, not turned back",
        "relaxed.py",
        '"...a,gab->...gb"',
        '"...b,gab->...ga"',
        ("tests/test_laws.py::test_equivariant[relaxed-continuous-p4m-float64-3x4]",),
    ),
    Mutation(
        "an extent that leaves its range for good",
        "relaxed.py",
        "+ (extent - lax.stop_gradient(extent))",
        "",
        ("tests/test_relaxed.py::test_an_extent_out_of_range_counts_as_the_end_and_finds_back",),
    ),
    Mutation(
        "amounts of the position in place of the orientation",
        "relaxed.py",
        '(("position", 0), ("orientation", 1))',
        '(("position", 1), ("orientation", 0))',
        ("tests/test_relaxed.py::test_amounts_are_means_over_poses",),
    ),
)


class Outcome(NamedTuple):
    """What a run of pytest said."""

    code: int
    seconds: float
    output: str

    @property
    def word(self) -> str:
        """ "survived" or "caught", or that no test could be run."""
        return {0: "survived", 1: "caught"}.get(self.code, f"broken (pytest says {self.code})")


def copy_project(target: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)


def apply(mutation: Mutation, root: Path) -> None:
    """Put a mutation into a copy of the project.

    Raises:
        ValueError: if the text to replace is not there exactly once.
    """
    file = root / "pdo_jax" / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.right) != 1:
        raise ValueError(
            f"mutation {mutation.name!r}: {mutation.right!r} occurs {text.count(mutation.right)} "
            f"times in {mutation.file}, but must occur once; bring the mutation up to date."
        )
    file.write_text(text.replace(mutation.right, mutation.wrong), encoding="utf-8")


def run_tests(root: Path, tests: tuple[str, ...], cache: Path) -> Outcome:
    """Run tests of a copy; programs that are compiled twice are read from the cache."""
    start = time.perf_counter()
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests)
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        command,
        cwd=root,
        env=environment | os.environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Outcome(done.returncode, time.perf_counter() - start, done.stdout + done.stderr)


def mutate(mutation: Mutation, cache: Path) -> Outcome:
    """Run the tests of a mutation on a copy that has it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_project(root)
        apply(mutation, root)
        return run_tests(root, mutation.tests, cache)


def untouched(mutations: tuple[Mutation, ...], cache: Path) -> Outcome:
    """Run the tests of all mutations on a copy without any."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_project(root)
        tests = dict.fromkeys(test for mutation in mutations for test in mutation.tests)
        return run_tests(root, tuple(tests), cache)


def run(mutations: tuple[Mutation, ...], workers: int = 2) -> dict[str, Outcome]:
    """Run mutations, two at a time, and print a line for each; the first is no mutation at all."""
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            futures = {pool.submit(untouched, mutations, cache): "(no mutation)"}
            futures |= {pool.submit(mutate, m, cache): m.name for m in mutations}
            for future in concurrent.futures.as_completed(futures):
                name, outcome = futures[future], future.result()
                outcomes[name] = outcome
                print(f"{outcome.word:10} {outcome.seconds:6.1f} s  {name}", flush=True)
    return outcomes


def main() -> int:
    """Run the mutations that are asked for, and return 0 if the tests know right from wrong."""
    parser = argparse.ArgumentParser(description="Break the library and see that tests fail.")
    parser.add_argument("--only", default="", metavar="NAME", help="a part of the names to run")
    parser.add_argument("--workers", type=int, default=2, help="how many to run at a time")
    options = parser.parse_args()
    chosen = tuple(m for m in MUTATIONS if options.only in m.name)
    if not chosen:
        parser.error(f"no mutation has {options.only!r} in its name")
    outcomes = run(chosen, options.workers)
    bad = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome.code != (0 if name == "(no mutation)" else 1)
    }
    for name, outcome in bad.items():
        print(f"\n=== {name}: {outcome.word}\n{outcome.output}")
    print(f"{len(chosen) - len(bad.keys() - {'(no mutation)'})} of {len(chosen)} mutations caught")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
