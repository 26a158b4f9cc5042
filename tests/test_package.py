"""The package as users get it: what the wheel holds, what an import does, who imports whom."""

import ast
import graphlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pdo_jax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pdo_jax"

# Imports run downwards: a module may import from its own row and from the rows before it.
# Modules whose name starts with an underscore are helpers below all rows.
ROWS = (
    ("groups", "stencils", "operators"),
    ("basis",),
    ("span", "harmonic"),
    ("kernels", "windows", "stencil_conv", "harmonic_conv"),
    ("algorithms",),
    ("conv", "relaxed", "pde", "fields", "equivariance"),
    ("nn",),
    ("models", "export"),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
DEPENDENCIES = {"jax", "flax", "numpy", "jaxtyping"}


def run(*command, cwd, **env):
    """Run a command, show its output if it fails, and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def imports(source, package):
    """Absolute dotted names that `source`, inside `package`, imports.

    `from a import b` counts as `a.b`: b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                parts = package.split(".")
                base = [".".join(parts[: len(parts) - node.level + 1]), *base]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def rank(module):
    """Row of a module of `pdo_jax`, -1 for a helper; every module has to have one."""
    assert module.startswith("_") or module in RANK, (
        f"pdo_jax.{module} has no row: add it to ROWS in tests/test_package.py"
    )
    return RANK.get(module, -1)


def upward(importer, names):
    """Those of `names` that a module of `pdo_jax` must not import."""
    for name in names:
        top, _, inside = name.partition(".")
        if top != "pdo_jax":
            if top not in DEPENDENCIES | sys.stdlib_module_names:
                yield name
        else:
            module = inside.partition(".")[0]
            is_module = module in RANK or (PACKAGE / f"{module}.py").is_file()
            # Without a module it is the face of the package, which imports everything.
            if not is_module or rank(module) > rank(importer):
                yield name


def library_imports():
    """Pairs of a top-level module of `pdo_jax` and the names that its files import."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if module != "__init__":
            package = ".".join(file.relative_to(ROOT).parent.parts)
            yield module, list(imports(file.read_text(encoding="utf-8"), package))


def test_imports_run_downwards():
    found = {module: list(upward(module, names)) for module, names in library_imports()}
    assert not {module: names for module, names in found.items() if names}


def test_modules_have_no_cycles():
    graph = {}
    for module, names in library_imports():
        inside = (name.split(".")[1] for name in names if name.startswith("pdo_jax."))
        graph.setdefault(module, set()).update(set(inside) - {module})
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("groups", "from pdo_jax import conv"),
        ("groups", "from pdo_jax.basis import filter_basis"),
        ("groups", "from . import nn"),
        ("conv", "from .nn.pdo import PDOConv"),
        ("conv", "def f():\n    import pdo_jax.nn as nn"),
        ("conv", "import pdo_jax as pdo"),
        ("conv", "from pdo_jax import group"),
        ("nn", "from pdo_jax.models import resnet44"),
        ("_check", "from pdo_jax.groups import Group"),
        ("models", "import experiments.train"),
        ("models", "from benchmarks import speed"),
        ("nn", "import optax"),
        ("nn", "from orbax import checkpoint"),
        ("equivariance", "import scipy.ndimage"),
        ("equivariance", "from matplotlib import pyplot"),
        ("models", "import tyro"),
    ],
)
def test_upward_imports_are_found(importer, source):
    assert list(upward(importer, imports(source, "pdo_jax")))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("basis", "from pdo_jax import _check, groups"),
        ("nn", "from pdo_jax.conv import group_conv"),
        ("nn", "from ..conv import group_conv\nimport jax.numpy as jnp\nimport math"),
        ("operators", "from .groups import Group"),
    ],
)
def test_downward_imports_are_allowed(importer, source):
    package = "pdo_jax.nn" if importer == "nn" else "pdo_jax"
    assert not list(upward(importer, imports(source, package)))


def test_import_does_no_work():
    # Flax itself imports optax and orbax, and JAX imports scipy, so these cannot be looked for.
    code = """
import sys
import pdo_jax
from jax._src import xla_bridge

assert not xla_bridge.backends_are_initialized(), "importing pdo_jax starts a JAX backend"
heavy = {"matplotlib", "sklearn", "tyro", "tensorflow", "torch", "experiments", "benchmarks"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    run(sys.executable, "-c", code, cwd=ROOT)


def test_type_hook_is_on():
    assert type(pdo_jax.__spec__.loader).__module__.startswith("jaxtyping")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without the network from a copy, so that the checkout stays clean."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "pdo_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("experiments", "benchmarks", "tests"):  # neighbours that must stay outside
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, source),
        cwd=source,
    )
    (path,) = dist.glob("*.whl")
    return path


def test_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "pdo_jax",
        f"pdo_jax-{pdo_jax.__version__}.dist-info",
    }
    sources = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assert {name for name in names if name.startswith("pdo_jax/")} == {
        *sources,
        "pdo_jax/py.typed",
    }


def test_installed_wheel_works_elsewhere(wheel, tmp_path):
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--target", target, wheel, cwd=elsewhere)
    code = (
        "import pdo_jax; print(pdo_jax.__file__); print(pdo_jax.__version__);"
        "print(pdo_jax.group('p8').order)"
    )
    output = run(sys.executable, "-c", code, cwd=elsewhere, PYTHONPATH=str(target))
    file, version, order = output.split()
    assert Path(file) == target / "pdo_jax" / "__init__.py"
    assert (version, order) == (pdo_jax.__version__, "8")
