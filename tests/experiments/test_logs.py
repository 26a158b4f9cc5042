"""The log: both files say the same, after a kill and a resumption as well."""

import csv
import struct
import sys

import jax.numpy as jnp
import pytest

from experiments.logs import FILE, Log


def table(folder):
    """Return the rows of the CSV file as numbers."""
    with (folder / FILE).open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def records(path):
    """Return the events of a file: length, checksum, event, checksum; read by hand."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def shown(folder):
    """Return what TensorBoard shows: a session that starts at a step hides all from that step."""
    points = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in records(path):
            if event.HasField("session_log"):
                points = [point for point in points if point["step"] < event.step]
            elif event.HasField("summary"):
                values = {value.tag: value.simple_value for value in event.summary.value}
                points.append({"step": event.step} | values)
    return points


def write(folder, steps, resume_at=None, slope=1.0):
    with Log(folder, resume_at) as log:
        for step in steps:
            log.write(step, {"loss": slope * step, "accuracy": 0.25})


def test_both_files_hold_every_row(tmp_path):
    write(tmp_path, [10, 20, 30])
    expected = [{"step": n, "loss": n, "accuracy": 0.25} for n in (10, 20, 30)]
    assert table(tmp_path) == expected
    assert shown(tmp_path) == expected


def test_rows_are_there_before_the_log_is_closed(tmp_path):
    log = Log(tmp_path)
    log.write(10, {"loss": jnp.float32(0.5)})
    assert table(tmp_path) == shown(tmp_path) == [{"step": 10, "loss": 0.5}]
    log.__exit__()


def test_a_resumed_run_has_no_row_twice(tmp_path):
    write(tmp_path, [10, 20, 30])
    write(tmp_path, [30, 40], resume_at=20, slope=2.0)
    expected = [10, 20, 60, 80]
    assert [row["loss"] for row in table(tmp_path)] == expected
    assert [row["loss"] for row in shown(tmp_path)] == expected
    # Without the record of the new session, TensorBoard would show step 30 twice.
    files = sorted(tmp_path.glob("events.*"))
    assert len(files) == 2
    assert sum(event.step == 30 for file in files for event in records(file)) == 2


def test_resuming_before_the_first_row(tmp_path):
    write(tmp_path, [10, 20])
    write(tmp_path, [10], resume_at=5, slope=3.0)
    assert [row["loss"] for row in table(tmp_path)] == [30]
    assert [row["loss"] for row in shown(tmp_path)] == [30]


def test_a_new_run_forgets_the_old_one(tmp_path):
    write(tmp_path, [10, 20])
    write(tmp_path, [5])
    assert [row["step"] for row in table(tmp_path)] == [5]
    assert [row["step"] for row in shown(tmp_path)] == [5]


def test_resuming_without_a_file(tmp_path):
    write(tmp_path, [30], resume_at=20)
    assert [row["step"] for row in table(tmp_path)] == [30]


@pytest.mark.parametrize("torn", ["3", "30", "30,", "30,30.0", "30,30.0,0.2"])
def test_a_line_that_was_never_finished_is_dropped(tmp_path, torn):
    write(tmp_path, [10, 20])
    with (tmp_path / FILE).open("a") as file:
        file.write(torn)
    write(tmp_path, [40], resume_at=35)
    assert [row["loss"] for row in table(tmp_path)] == [10, 20, 40]


def test_a_name_that_appears_later_adds_a_column(tmp_path):
    with Log(tmp_path) as log:
        log.write(10, {"loss": 1.0})
        log.write(20, {"loss": 0.5, "error": 0.1})
        log.write(30, {"loss": 0.25})
    with Log(tmp_path, resume_at=20) as log:
        log.write(30, {"error": 0.05})
    lines = (tmp_path / FILE).read_text().splitlines()
    assert lines == ["step,loss,error", "10,1.0,nan", "20,0.5,0.1", "30,nan,0.05"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step,loss\nten,1\n"])
def test_another_file_is_left_alone(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=r"metrics.csv is not the log of a training: .*move it"):
        Log(tmp_path, resume_at=10)
    assert (tmp_path / FILE).read_text() == text


def test_without_tensorboardx_there_is_one_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    write(tmp_path, [10])
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
