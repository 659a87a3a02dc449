"""Migrations run once, in order, completely or not at all; registries of other versions are refused or migrated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import shelf

from modelspace.errors import ConflictError, DamagedError, ModelspaceError
from modelspace.registry import Registry, schema


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 2)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, which the program now uses."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, folder)
    monkeypatch.setattr(schema, "FOLDER", folder)
    return folder


#: The number of the next migration, which these tests write.
NEXT = len(schema.known()) + 1


def names(path: Path) -> list[str]:
    with Registry.open(path) as registry:
        return [row.card.name for row in registry.models()]


def test_the_migrations_are_recorded_with_their_hashes(path: Path) -> None:
    with Registry.open(path) as registry:
        rows = registry.rows("SELECT number, name, sha256 FROM migrations ORDER BY number")
    assert rows == [(m.number, m.name, m.sha256) for m in schema.known()]
    assert [m.name for m in schema.known()] == [
        "tables",
        "views_and_macros",
        "projections",
        "task_group",
        "code_and_options",
        "tasks_and_outcomes",
        "checksums",
        "0.1.0_anchors",
    ]


def test_windows_line_endings_do_not_matter(folder: Path, path: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert names(path) == ["m0", "m1"]


def test_a_changed_migration_is_an_error(folder: Path, path: Path) -> None:
    file = folder / "0002_views_and_macros.sql"
    file.write_text(file.read_text() + "-- changed\n")
    for write in (False, True):
        with pytest.raises(ConflictError, match=r"migration 2 of .* differs"):
            Registry.open(path, write=write)


def test_a_newer_registry_needs_an_upgrade(folder: Path, tmp_path: Path) -> None:
    (folder / f"{NEXT:04d}_more.sql").write_text("CREATE TABLE more (a INTEGER);")
    path = tmp_path / "newer.duckdb"
    shelf.filled(path, 2)
    (folder / f"{NEXT:04d}_more.sql").unlink()
    for write in (False, True):
        with pytest.raises(ModelspaceError, match="newer version of modelspace") as caught:
            Registry.open(path, write=write)
        assert "upgrade" in caught.value.hint


def test_an_older_registry_is_read_unchanged_and_migrated_by_writing(folder: Path, path: Path) -> None:
    (folder / f"{NEXT:04d}_more.sql").write_text(
        "ALTER TABLE models ADD COLUMN licence VARCHAR; CREATE TABLE more (a INTEGER);"
    )
    assert names(path) == ["m0", "m1"]
    with Registry.open(path) as registry:
        assert len(registry.rows("SELECT * FROM migrations")) == NEXT - 1  # reading changed nothing
    with Registry.open(path, write=True) as registry:
        assert registry.rows("SELECT * FROM more") == []
    with Registry.open(path) as registry:
        assert registry.rows("SELECT number, name FROM migrations")[NEXT - 1 :] == [(NEXT, "more")]
        assert registry.rows("SELECT licence FROM models") == [(None,), (None,)]
    assert not Path(f"{path}.wal").exists()


def test_the_hint_for_a_registry_too_old_to_be_read_migrates_it(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{NEXT:04d}_more.sql").write_text("CREATE TABLE more (a INTEGER);")
    monkeypatch.setattr(schema, "OLDEST_READABLE", NEXT)
    with pytest.raises(ModelspaceError, match="older version of modelspace") as caught:
        Registry.open(path)
    assert "`space.rebuild(coordinates=True)`" in caught.value.hint
    Registry.open(path, write=True).close()
    assert names(path) == ["m0", "m1"]


def test_a_failed_migration_leaves_nothing(folder: Path, path: Path) -> None:
    (folder / f"{NEXT:04d}_good.sql").write_text("CREATE TABLE good (a INTEGER);")
    (folder / f"{NEXT + 1:04d}_bad.sql").write_text(
        "CREATE TABLE half (a INTEGER); INSERT INTO half VALUES ('not a number');"
    )
    with pytest.raises(ModelspaceError, match="not a number"):
        Registry.open(path, write=True)
    (folder / f"{NEXT + 1:04d}_bad.sql").unlink()
    with Registry.open(path, write=True) as registry:
        tables = {name for (name,) in registry.rows("SELECT table_name FROM duckdb_tables()")}
        assert "good" in tables
        assert "half" not in tables
        assert registry.rows("SELECT max(number) FROM migrations") == [(NEXT,)]
        assert [row.card.name for row in registry.models()] == ["m0", "m1"]


def test_gaps_in_the_numbers_are_refused(folder: Path, path: Path) -> None:
    (folder / f"{NEXT + 1:04d}_gap.sql").write_text("SELECT 1")
    with pytest.raises(DamagedError, match="not numbered"):
        Registry.open(path)
