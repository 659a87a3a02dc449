"""Backups: a checked copy while others read, named when the registry can't be opened, and put back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
import shelf
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import BusyError, ConflictError, DamagedError, NotFoundError, UsageError
from modelspace.registry import Registry, backups, copying
from modelspace.workspace import ModelSpace


@pytest.fixture
def space(tmp_path: Path) -> ModelSpace:
    (tmp_path / "home").mkdir()
    shelf.filled(tmp_path / "home" / "registry.duckdb", 3)
    return ModelSpace(tmp_path / "home")


def names(path: Path) -> list[str]:
    with Registry.open(path) as registry:
        return [row.card.name for row in registry.models()]


def damage(path: Path) -> None:
    """Make a file that DuckDB can't open."""
    data = bytearray(path.read_bytes())
    data[4096:12288] = bytes(8192)
    path.write_bytes(data)


def test_a_backup_is_the_registry(space: ModelSpace, tmp_path: Path) -> None:
    copy = space.backup(tmp_path / "copy.duckdb")
    assert (copy.models, copy.bytes) == (3, (tmp_path / "copy.duckdb").stat().st_size)
    assert names(tmp_path / "copy.duckdb") == ["m0", "m1", "m2"]
    with Registry.open(tmp_path / "copy.duckdb") as copy, Registry.open(space.path) as registry:
        assert copy.registry_id == registry.registry_id
        assert copy.check() == []
    assert [row.file for row in space.backups()] == [str((tmp_path / "copy.duckdb").resolve())]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.duckdb", "home"]


@pytest.mark.wide
def test_two_of_one_second_and_a_clock_that_was_set_back(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last backup is the one that was made last, whatever the clock says."""
    today = backups.now()
    monkeypatch.setattr(backups, "now", lambda: today)
    first, second = space.backup(), space.backup()
    monkeypatch.setattr(backups, "now", lambda: today - timedelta(days=400))
    with Registry.open(space.path, write=True) as registry, registry.transaction():
        registry.rename_model("m0", "n0")
    third = space.backup()
    assert [row.file for row in space.backups()] == [first.file, second.file, third.file]
    assert len({first.file, second.file, third.file}) == 3
    assert space.restore().file == third.file
    assert names(space.path) == ["n0", "m1", "m2"]


def test_by_default_it_goes_to_a_folder_in_the_home(space: ModelSpace, tmp_path: Path) -> None:
    copy = space.backup()
    assert Path(copy.file).parent == (space.home / "backups").resolve()
    in_folder = space.backup(tmp_path)
    assert Path(in_folder.file).parent == tmp_path.resolve()
    assert [row.file for row in space.backups()] == [copy.file, in_folder.file]
    Path(copy.file).unlink()
    assert [row.file for row in space.backups()] == [in_folder.file]


@pytest.mark.wide
def test_changes_in_the_log_are_in_the_backup(space: ModelSpace, tmp_path: Path) -> None:
    """Of a writer that was killed: the file alone would be a model short."""
    code = (
        "import os, sys; from pathlib import Path; import shelf; from modelspace.registry import Registry\n"
        "registry = Registry.open(Path(sys.argv[1]), write=True)\n"
        "with registry.transaction(): registry.rename_model('m0', 'new')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, str(space.path)], env=environment).returncode == -9
    assert Path(f"{space.path}.wal").stat().st_size > 0
    space.backup(tmp_path / "copy.duckdb")
    assert not (tmp_path / "copy.duckdb.wal").exists()
    assert names(tmp_path / "copy.duckdb") == ["new", "m1", "m2"]


def test_an_existing_file_stays_unless_it_may_be_replaced(space: ModelSpace, tmp_path: Path) -> None:
    (tmp_path / "copy.duckdb").write_text("mine")
    with pytest.raises(ConflictError, match="exists already"):
        space.backup(tmp_path / "copy.duckdb")
    assert (tmp_path / "copy.duckdb").read_text() == "mine"
    space.backup(tmp_path / "copy.duckdb", force=True)
    assert names(tmp_path / "copy.duckdb") == ["m0", "m1", "m2"]
    with pytest.raises(UsageError, match="the registry itself"):
        space.backup(space.path, force=True)


def test_a_damaged_registry_gives_no_backup(space: ModelSpace, tmp_path: Path) -> None:
    first = space.backup(tmp_path / "first.duckdb")
    with duckdb.connect(str(space.path)) as duck:
        duck.execute("UPDATE maps SET codes = '\\x01'::BLOB || codes[2:] WHERE model_id = 2")
    with pytest.raises(DamagedError, match=r"so no copy was kept: model 2") as caught:
        space.backup(tmp_path / "second.duckdb")
    assert first.file in caught.value.hint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.duckdb", "home"]


@pytest.mark.wide
def test_a_backup_waits_for_a_writer_and_readers_do_not_wait(
    space: ModelSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, modelspace; print(len(modelspace.ModelSpace(sys.argv[1]).list()))"
    seen: list[str] = []
    plain_copy = copying.copy_bytes

    def watched(source: Path, target: Path) -> None:
        seen.append(subprocess.run([sys.executable, "-c", code, space.home], capture_output=True, text=True).stdout)
        plain_copy(source, target)

    monkeypatch.setattr(copying, "copy_bytes", watched)
    space.backup(tmp_path / "copy.duckdb")
    assert seen == ["3\n"]
    with Registry.open(space.path, write=True):
        monkeypatch.setattr(copying, "copied", lambda path, file: original(path, file, 0.2))
        with pytest.raises(BusyError):
            space.backup(tmp_path / "second.duckdb")
    assert not (tmp_path / "second.duckdb").exists()


original = copying.copied


def test_a_file_that_cannot_be_opened_names_the_last_backup(space: ModelSpace, tmp_path: Path) -> None:
    damage(space.path)
    with pytest.raises(DamagedError) as caught:
        space.list()
    assert caught.value.hint == "restore a copy of the registry"


@pytest.mark.wide
def test_restore_puts_the_last_backup_back(space: ModelSpace, tmp_path: Path) -> None:
    copy = space.backup()
    space.rename("m0", "later")
    later = space.path.read_bytes()
    damage(space.path)
    with pytest.raises(DamagedError) as caught:
        space.list()
    assert f"`space.restore()` puts the last backup in its place: {copy.file}, of 20" in caught.value.hint
    assert "with 3 models" in caught.value.hint
    restored = space.restore()
    assert (restored.models, restored.file) == (3, copy.file)
    assert [row.name for row in space.list()] == ["m0", "m1", "m2"]
    former = Path(restored.former).read_bytes()
    assert former[12288:] == later[12288:]
    with Registry.open(space.path) as registry:
        assert registry.check() == []


@pytest.mark.wide
def test_restore_moves_the_log_aside_too(space: ModelSpace, tmp_path: Path) -> None:
    space.backup()
    Path(f"{space.path}.wal").write_bytes(b"damaged")
    restored = space.restore()
    assert Path(f"{restored.former}.wal").read_bytes() == b"damaged"
    assert not Path(f"{space.path}.wal").exists()
    assert [row.name for row in space.list()] == ["m0", "m1", "m2"]


@pytest.mark.wide
def test_restore_where_the_registry_is_gone(space: ModelSpace) -> None:
    space.backup()
    space.path.unlink()
    assert space.restore().former == ""
    assert len(space.list()) == 3


@pytest.mark.wide
def test_what_is_no_backup_is_refused_and_changes_nothing(space: ModelSpace, tmp_path: Path) -> None:
    before = space.path.read_bytes()
    with pytest.raises(NotFoundError, match=r"no backup of .* is known"):
        space.restore()
    with pytest.raises(NotFoundError, match="there is no file"):
        space.restore(tmp_path / "none.duckdb")
    (tmp_path / "bad.duckdb").write_bytes(b"bad" * 9999)
    with pytest.raises(DamagedError):
        space.restore(tmp_path / "bad.duckdb")
    (tmp_path / "other").mkdir()
    shelf.filled(tmp_path / "other" / "registry.duckdb", 2)
    with duckdb.connect(str(tmp_path / "other" / "registry.duckdb")) as duck:
        duck.execute("UPDATE meta SET registry_id = uuid()")
    with pytest.raises(ConflictError, match="another registry"):
        space.restore(tmp_path / "other" / "registry.duckdb")
    copy = Path(space.backup().file)
    data = bytearray(copy.read_bytes())
    data[-5000] ^= 1
    copy.write_bytes(data)
    with pytest.raises(DamagedError, match="not the file that was written"):
        space.restore()
    assert space.path.read_bytes() == before
    space.restore(tmp_path / "other" / "registry.duckdb", force=True)
    assert len(space.list()) == 2


@pytest.mark.first(2)
@pytest.mark.parametrize("content", ["", "[", "{}", '[{"file": 1}]', '["x"]', "[" * 100_000])
def test_a_damaged_list_counts_as_empty(space: ModelSpace, content: str) -> None:
    (space.home / backups.LIST).write_text(content)
    assert list(space.backups()) == []
    space.backup()
    assert len(space.backups()) == 1


@pytest.mark.wide
def test_a_registry_older_than_its_index_is_noticed(tmp_path: Path) -> None:
    from tiny import add, net

    space = ModelSpace.create(tmp_path / "home", images=3, methods=("saliency",), canvas=8)
    for seed, name in enumerate("ab"):
        add(space, name, net(seed))
    old = space.path.read_bytes()
    add(space, "c", net(3))
    space.path.write_bytes(old)
    for _ in range(2):  # the answer does not remove the evidence
        neighbours = space.nearest("a")
        assert [row.name for row in neighbours] == ["b"]
        assert any("older than its index" in note for note in neighbours.notes)
    (failed,) = [check for check in space.verify() if not check.ok]
    assert "later state" in failed.detail
    assert "`space.rebuild()`" in failed.hint
    assert [row.index for row in space.spaces()] == ["newer"]
    space.rebuild()
    assert not space.nearest("a").notes
    assert [check.what for check in space.verify() if not check.ok] == []


@pytest.mark.wide
def test_on_the_command_line(space: ModelSpace, tmp_path: Path) -> None:
    home = ["--home", str(space.home)]
    run = CliRunner().invoke
    copy = run(app, ["backup", str(tmp_path / "copy.duckdb"), *home])
    assert (copy.exit_code, copy.stdout.strip()) == (0, str((tmp_path / "copy.duckdb").resolve()))
    (row,) = json.loads(run(app, ["backup", "--list", "--format", "json", *home]).stdout)
    assert (row["models"], row["file"]) == (3, copy.stdout.strip())
    space.path.unlink()
    restored = run(app, ["restore", *home])
    assert restored.exit_code == 0
    assert "restored 3 models" in restored.stderr
    assert [row.name for row in space.list()] == ["m0", "m1", "m2"]
