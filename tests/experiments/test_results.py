"""The JSON record of an experiment: its schema, and that files are written whole or not at all."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import results
from pdo_jax._files import replacing

FIELDS = {
    "name",
    "command",
    "config",
    "seeds",
    "commit",
    "device",
    "versions",
    "curve",
    "metrics",
    "seconds",
}


@dataclass(frozen=True)
class Options:
    out: Path = Path("here")
    sizes: tuple[int, ...] = (1, 2)


def test_result_has_the_schema(tmp_path):
    result = results.Result.of("x", config=Options(), seeds=(0, 1), metrics={"a": np.float32(0.5)})
    results.write_json(tmp_path / "x.json", result)
    found = json.loads((tmp_path / "x.json").read_text())
    assert set(found) == FIELDS
    assert found["config"] == {"out": "here", "sizes": [1, 2]}
    assert found["seeds"] == [0, 1]
    assert found["metrics"] == {"a": 0.5}
    assert set(found["versions"]) == {"python", "jax", "jaxlib", "flax", "optax", "numpy"}
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["commit"])
    assert re.search(r"\d cores?$", found["device"]) or " x " in found["device"]


def test_source_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert results.commit() is None


def test_values_become_json(tmp_path):
    value = {"array": jnp.ones(2, jnp.float32), "nan": float("nan"), "path": tmp_path, 3: (True,)}
    assert results.plain(value) == {
        "array": [1.0, 1.0],
        "nan": None,
        "path": str(tmp_path),
        "3": [True],
    }


def test_unknown_values_are_refused(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        results.write_json(tmp_path / "x.json", {"f": open})
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    results.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), replacing(path, overwrite=True) as temporary:
        temporary.write_text("half a fi")
        assert temporary.suffix == path.suffix
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
