"""Run folders are not overwritten by accident and are found unwritable early; the command line."""

import dataclasses
from pathlib import Path

import pytest

from experiments import runs, trainer


@dataclasses.dataclass(frozen=True)
class Options:
    seeds: tuple[int, ...] = (0,)
    """Seeds."""
    out: Path | None = None
    """Folder."""
    overwrite: bool = False
    """Replace."""


def finished_run(folder):
    runs.save_config(folder, Options())
    (folder / runs.RESULT).write_text("{}")
    (folder / runs.CHECKPOINTS).mkdir()
    (folder / "mine.txt").touch()


def test_default_folder_is_numbered(tmp_path):
    default = tmp_path / "runs" / "x"
    for expected in ("x", "x-2", "x-3"):
        folder = runs.open_run(None, default)
        assert folder.name == expected
        finished_run(folder)


def test_named_run_is_not_overwritten(tmp_path):
    finished_run(tmp_path)
    with pytest.raises(FileExistsError, match=rf"{tmp_path}.*--overwrite.*--out"):
        runs.open_run(tmp_path, Path("unused"))
    assert (tmp_path / runs.RESULT).exists()


def test_overwriting_leaves_other_files(tmp_path):
    finished_run(tmp_path)
    assert runs.open_run(tmp_path, Path("unused"), overwrite=True) == tmp_path
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "mine.txt"]


def test_only_runs_are_overwritten(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is not a run.*--out"):
        runs.open_run(tmp_path, Path("unused"), overwrite=True)


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"out \(=.*file/run\) cannot be written: .*--out"):
        runs.open_run(tmp_path / "file" / "run", Path("unused"))


def test_read_only_folder_is_named(tmp_path, monkeypatch):
    def touch(self, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(PermissionError, match="cannot be written: Permission denied"):
        runs.open_run(tmp_path / "run", Path("unused"))


def test_command_line_fills_the_options(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--seeds", "3", "4", "--out", "there"])
    seen = []
    runs.command(seen.append, Options, "About.")
    assert seen == [Options((3, 4), Path("there"))]


def test_errors_of_the_user_are_one_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x"])

    def main(options):
        raise FileExistsError("out (=x) holds an earlier run")

    with pytest.raises(SystemExit, match="^error: out .=x. holds"):
        runs.command(main, Options, None)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (trainer.Interrupted("stopped after step 3"), 130, "stopped after step 3"),
        (trainer.Diverged("the loss is nan"), "error: the loss is nan", ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_a_command_ends(monkeypatch, capsys, error, code, said):
    monkeypatch.setattr("sys.argv", ["x"])

    def main(options):
        raise error

    with pytest.raises(SystemExit) as caught:
        runs.command(main, Options, None)
    assert caught.value.code == code and capsys.readouterr().err.strip() == said


def test_runs_that_start_together_have_a_folder_each(tmp_path):
    first, second = (runs.open_run(None, tmp_path / "x") for _ in range(2))
    assert first != second


def test_checking_removes_nothing(tmp_path):
    finished_run(tmp_path)
    options = Options(out=tmp_path, overwrite=True)
    runs.check_run(options, Path("unused"))
    assert (tmp_path / runs.RESULT).exists()
    assert runs.begin(options, Path("unused")) == tmp_path
    assert not (tmp_path / runs.RESULT).exists() and (tmp_path / runs.CONFIG).exists()
