"""How cost grows: the slopes of known powers, what is varied, and a record."""

import json

import numpy as np
import pytest

from benchmarks import scaling
from benchmarks.__main__ import main
from benchmarks.documents import cases

TINY = (
    "scaling --start 1 4 1 4 --batch 1 2 3 --pixels 4 --fields 1 --order 4 --cores 0 --repeats 1 "
    "--warmup 1"
)


def grown(power, wobble=0.0):
    """Return cases whose seconds and MiB are powers of the sizes."""
    shapes = []
    for sweep in scaling.SWEEPS:
        for i, size in enumerate((2, 4, 8, 16)):
            point = dict.fromkeys(scaling.SWEEPS, 1) | {sweep: size}
            base = size**2 if sweep == "pixels" else size
            seconds = base**power * (1 + wobble * (-1) ** i)
            time = {"median": seconds, "temporary_bytes": 2**20 * base}
            shapes.append({"sweep": sweep, **point, "times": dict.fromkeys(scaling.OURS, time)})
    return shapes


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_slopes_are_the_powers(power):
    found = scaling.metrics(grown(power))
    assert len(found) == 2 * 2 * len(scaling.OURS) * len(scaling.SWEEPS)
    for name, value in found.items():
        expected = 0 if name.startswith("95 %") else power if "seconds" in name else 1
        assert value == pytest.approx(expected, abs=1e-6), name


def test_intervals_hold_the_power_off_a_straight_line():
    found = scaling.metrics(grown(1.5, wobble=0.1))
    name = "slope of seconds in |G|, direct"
    half = found[f"95 % of the {name}"]
    assert 0.1 < half < 0.6 and abs(found[name] - 1.5) < half


def test_unknown_memory_has_no_slope():
    unknown = grown(1.0)
    for case in unknown:
        case["times"] = {way: t | {"temporary_bytes": None} for way, t in case["times"].items()}
    assert not any("MiB" in name for name in scaling.metrics(unknown))
    assert scaling.lines(unknown)[2].endswith("| - | - | - |")


def test_all_groups_have_kernels_of_one_size():
    sizes = {scaling.pdo.filter_basis(f"p{n}").size for n in scaling.Config().order}
    assert sizes == {5}
    np.testing.assert_equal(scaling.pdo.filter_basis("p4").size, 3)


@pytest.mark.slow
def test_entry_writes_a_record_and_a_plot(tmp_path):
    out = tmp_path / "result.json"
    main([*TINY.split(), "--out", str(out)])
    record = json.loads(out.read_text())
    found = cases(record)
    assert [case["batch"] for case in found] == [1, 2, 3, 1, 1, 1]
    assert found[0]["times"] == found[-1]["times"]  # one point, measured once
    assert (tmp_path / "scaling.png").exists()
    assert "slope of seconds in images, harmonic" in record["metrics"]
    assert scaling.lines(found)[2].startswith("| images | 1 | 3 | ")
