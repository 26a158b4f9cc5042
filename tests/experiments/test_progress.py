"""The progress: a bar for those who watch it, lines for those who read a file later."""

import io
import re
import sys

import jax
import pytest

from experiments import progress
from experiments.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def steps(count=4, initial=0):
    with Progress("seed 0", 40, initial) as bar:
        for i in range(count):
            bar.update(10, {"loss": 1 / (i + 1), "accuracy": 0.5})


def test_lines_where_nobody_watches(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    steps()
    written = capsys.readouterr().err
    assert "\r" not in written and written.endswith("\n")
    lines = written.splitlines()
    form = r"seed 0: (\d+) of 40 images, .*images/s, \d\d:\d\d left, loss=(\S+), accuracy=0.500"
    found = [re.fullmatch(form, line) for line in lines[1:]]
    assert [match and match.groups() for match in found][:4] == [
        ("10", "1.000"),
        ("20", "0.500"),
        ("30", "0.333"),
        ("40", "0.250"),
    ]


def test_few_lines(capsys):
    steps()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # how it began and how it ended, within 20 seconds
    assert lines[-1].startswith("seed 0: 40 of 40 images") and "loss=0.250" in lines[-1]


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(progress, "GLANCE", 0.0)
    steps()
    states = terminal.getvalue().strip().split("\r")
    assert len(states) > 4
    assert re.search(r"100%.*40/40 \[.*images/s, loss=0.250, accuracy=0.500\]", states[-1])


def test_going_on_counts_what_was_seen(capsys):
    steps(count=1, initial=30)
    assert "seed 0: 40 of 40 images" in capsys.readouterr().err


@pytest.mark.parametrize("index", [0, 1])
def test_one_process_shows_it(capsys, monkeypatch, index):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    steps()
    assert bool(capsys.readouterr().err) == (index == 0)
