"""A file that makes DuckDB crash ends another process, never ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import shelf

from modelspace.errors import DamagedError
from modelspace.registry import Registry, trial, undo
from modelspace.workspace import ModelSpace

CRASH = "import os; os.abort()"


@pytest.fixture
def space(tmp_path: Path) -> ModelSpace:
    (tmp_path / "home").mkdir()
    shelf.filled(tmp_path / "home" / "registry.duckdb", 3)
    return ModelSpace(tmp_path / "home")


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PROGRAM", CRASH)


def names(path: Path) -> list[str]:
    with Registry.open(path) as registry:
        return [row.card.name for row in registry.models()]


def test_everything_is_read(space: ModelSpace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    run = trial.subprocess.run
    told = []

    def keep(*args: object, **options: object) -> object:
        told.append(run(*args, **options))
        return told[-1]

    monkeypatch.setattr(trial.subprocess, "run", keep)
    trial.read(space.path)
    tables = space.sql("SELECT count(*) FROM duckdb_tables() WHERE NOT internal").rows[0][0]
    assert (told[0].returncode, int(told[0].stdout)) == (0, tables)


def test_an_error_is_left_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("not a registry")
    trial.read(tmp_path / "text.duckdb")
    with pytest.raises(DamagedError, match="not a registry"):
        names(tmp_path / "text.duckdb")


@pytest.mark.usefixtures("crashes")
def test_repair_refuses(space: ModelSpace, tmp_path: Path) -> None:
    before = space.path.read_bytes()
    with pytest.raises(DamagedError, match="SIGABRT"):
        space.repair(tmp_path / "out.duckdb")
    assert space.path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["home"]


@pytest.mark.usefixtures("crashes")
def test_a_backup_is_not_put_back(space: ModelSpace, tmp_path: Path) -> None:
    shutil.copy(space.path, tmp_path / "copy.duckdb")
    before = space.path.read_bytes()
    with pytest.raises(DamagedError, match="DuckDB crashed"):
        space.restore(tmp_path / "copy.duckdb")
    assert space.path.read_bytes() == before


@pytest.mark.parametrize("write", [False, True])
def test_after_an_interrupted_writer(space: ModelSpace, monkeypatch: pytest.MonkeyPatch, write: bool) -> None:
    undo.file_of(space.path).touch()
    monkeypatch.setattr(trial, "_PROGRAM", CRASH)
    for _ in range(2):  # it stays suspect
        with pytest.raises(DamagedError, match="SIGABRT"), Registry.open(space.path, write=write):
            pass
    monkeypatch.undo()
    assert names(space.path) == ["m0", "m1", "m2"]
    assert not undo.exists(space.path)


def test_a_process_that_is_killed_says_nothing(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PROGRAM", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    undo.file_of(space.path).touch()
    assert names(space.path) == ["m0", "m1", "m2"]


def test_where_no_process_can_be_started_the_file_is_opened(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(trial.subprocess, "run", fail)
    undo.file_of(space.path).touch()
    assert names(space.path) == ["m0", "m1", "m2"]


def test_an_intact_file_is_not_suspect(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PROGRAM", CRASH)
    assert names(space.path) == ["m0", "m1", "m2"]
    assert not os.path.exists(undo.file_of(space.path))
