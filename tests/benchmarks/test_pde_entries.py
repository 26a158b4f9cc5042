"""The entries for PDE layers write a record and a table with their smallest options."""

import json

import pytest

from benchmarks import distance, pde_equivariance
from benchmarks.__main__ import main
from benchmarks.documents import cases

TINY = {
    "distance": (distance, "--anisotropies 4 --turns 1 --sizes 3 --angles 3"),
    "pde_equivariance": (
        pde_equivariance,
        "--metrics 1 1.1 1 --bands 0.5 --size 3 --points 8 --draws 2",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_entry_writes_a_record_and_a_table(name, tmp_path, capsys):
    module, options = TINY[name]
    out = tmp_path / "result.json"
    main([name, *options.split(), "--cores", "0", "--out", str(out)])
    record = json.loads(out.read_text())
    assert record["name"] == name and record["metrics"]
    printed = capsys.readouterr().out
    assert all(line in printed for line in module.lines(cases(record)))
