"""A checkpoint that a power cut interrupts is undone on the next opening; the change is still in the log."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import shelf

from modelspace.errors import BusyError, DamagedError, StorageError
from modelspace.registry import Registry, undo

BLOCK = 262144

#: Bytes of what notes the length of the log after a commit: a piece and a checksum.
NOTE = 16 + 40 + 48


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A registry with a change in its log, next to the undo file, as left by a process that was killed."""
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 3)
    registry = Registry.open(path, write=True)
    with registry.transaction():
        registry.rename_model("m0", "n0")
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path, kept)
    registry.close()
    assert sorted(os.listdir(tmp_path)) == ["kept", "registry.duckdb"]
    assert sorted(os.listdir(kept)) == [f"registry.duckdb{end}" for end in ("", ".lock", ".undo", ".wal")]
    return kept / "registry.duckdb"


def names(path: Path, *, write: bool = False) -> list[str]:
    with Registry.open(path, write=write) as registry:
        assert registry.check() == []
        return [row.card.name for row in registry.models()]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.first(1)
@pytest.mark.parametrize("write", [False, True])
def test_a_block_of_metadata_that_was_half_written(path: Path, write: bool) -> None:
    overwrite(path, undo.HEADERS + 512, os.urandom(BLOCK // 2))
    assert names(path, write=write) == ["n0", "m1", "m2"]
    assert not undo.exists(path)
    assert names(path, write=True) == ["n0", "m1", "m2"]
    assert os.listdir(path.parent) == [path.name]


def test_without_the_undo_file_such_a_registry_is_lost(path: Path) -> None:
    overwrite(path, undo.HEADERS + 512, os.urandom(BLOCK // 2))
    undo.file_of(path).unlink()
    with pytest.raises(DamagedError, match="checksum"):
        names(path)


def test_a_header_that_was_half_written(path: Path) -> None:
    """The newest header is that of a complete checkpoint, with a sector of something else."""
    finished = path.parents[1] / path.name
    older = path.read_bytes()[: undo.HEADERS]
    newer = finished.read_bytes()
    assert older != newer[: undo.HEADERS]
    path.write_bytes(newer)
    slot = next(at for at in (4096, 8192) if older[at : at + 4096] != newer[at : at + 4096])
    overwrite(path, slot, os.urandom(512))
    assert names(path) == ["n0", "m1", "m2"]


def test_a_complete_checkpoint_is_kept(path: Path) -> None:
    finished, log = path.parents[1] / path.name, Path(f"{path}.wal")
    shutil.copy(finished, path)
    log.unlink()
    assert names(path) == ["n0", "m1", "m2"]
    assert not undo.exists(path)


@pytest.mark.first(1)
@pytest.mark.parametrize("write", [False, True])
def test_a_change_that_is_half_in_the_log_is_dropped(path: Path, write: bool) -> None:
    log = Path(f"{path}.wal")
    overwrite(log, log.stat().st_size // 2, bytes(20))
    os.truncate(undo.file_of(path), undo.file_of(path).stat().st_size - NOTE)  # the commit had not ended
    assert names(path, write=write) == ["m0", "m1", "m2"]
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.rename_model("m1", "n1")
    assert names(path) == ["m0", "n1", "m2"]


def test_damage_in_acknowledged_changes_of_the_log_is_reported(path: Path) -> None:
    """They were on disk before the checkpoint began, so no power cut can have damaged them."""
    registry = Registry.open(path, write=True)
    with registry.transaction():
        registry.rename_model("m1", "n1")
    acknowledged = Path(f"{path}.wal").stat().st_size
    with registry.transaction():
        registry.rename_model("m2", "n2")
    copy = path.parents[1] / "copy"
    shutil.copytree(path.parent, copy)
    registry.close()
    overwrite(log := copy / f"{path.name}.wal", acknowledged - 30, bytes(20))
    content = log.read_bytes()
    with pytest.raises(DamagedError, match="the log"):
        names(copy / path.name)
    assert log.read_bytes() == content


@pytest.mark.first(1)
@pytest.mark.parametrize("length", [0, 17, 20_000, -1])
def test_an_incomplete_undo_file_changes_nothing(path: Path, length: int) -> None:
    """It is complete before the checkpoint begins."""
    undo.file_of(path).write_bytes(undo.file_of(path).read_bytes()[:length])
    assert names(path) == ["n0", "m1", "m2"]
    assert not undo.exists(path)


def damage_log(log: Path, damage: str) -> None:
    if damage == "missing":
        log.unlink()
    elif damage == "cut off":
        os.truncate(log, log.stat().st_size - 100)
    elif damage == "empty":
        os.truncate(log, 0)
    else:
        overwrite(log, log.stat().st_size // 2, bytes(8))


DAMAGE = ("missing", "cut off", "empty", "zeros")


@pytest.mark.first(2)
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_acknowledged_changes_that_the_log_lost_are_missed(path: Path, damage: str, write: bool) -> None:
    damage_log(Path(f"{path}.wal"), damage)
    for _ in range(2):  # it is not forgotten
        with pytest.raises(DamagedError, match="the log of the last changes") as raised:
            names(path, write=write)
    assert raised.value.hint.endswith(f"to go on without the changes that are lost, remove {undo.file_of(path)}")
    if damage != "zeros":  # those DuckDB may find itself
        undo.file_of(path).unlink()
        assert names(path, write=write) == ["m0", "m1", "m2"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_they_are_missed_in_a_folder_that_can_only_be_read(
    path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_log(Path(f"{path}.wal"), damage)
    refuse_locks(monkeypatch)
    with pytest.raises(DamagedError, match="the log of the last changes"):
        names(path)


def test_the_log_of_a_killed_writer_is_written_into_the_file_by_the_next_reader(path: Path) -> None:
    assert names(path) == ["n0", "m1", "m2"]
    assert os.listdir(path.parent) == [path.name]


@contextmanager
def read_elsewhere(path: Path) -> Iterator[None]:
    """In the block, another process has a registry open for reading."""
    code = (
        "import duckdb, sys\n"
        "duck = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.communicate()


def test_while_another_process_reads_the_log_stays_and_is_guarded(path: Path) -> None:
    with read_elsewhere(path):
        assert names(path) == ["n0", "m1", "m2"]
        assert undo.exists(path)
    damage_log(Path(f"{path}.wal"), "missing")
    with pytest.raises(DamagedError, match="is missing"):
        names(path)


def test_a_note_that_fails_is_made_up_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appended = undo._append

    def fail(file: Path, *_: object, **__: object) -> None:
        with file.open("ab") as out:
            out.write(b"half of a note")
        raise OSError(28, "No space left on device")

    with Registry.open(path, write=True) as registry:
        for old, new, append in (("m1", "n1", fail), ("m2", "n2", appended)):
            monkeypatch.setattr(undo, "_append", append)
            with registry.transaction():
                registry.rename_model(old, new)
        shutil.copytree(path.parent, path.parents[1] / "copy")
    copy = path.parents[1] / "copy" / path.name
    damage_log(Path(f"{copy}.wal"), "cut off")
    with pytest.raises(DamagedError, match="of which"):
        names(copy)
    assert names(path) == ["n0", "n1", "n2"]


def test_the_undo_file_of_another_registry_changes_nothing(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    Registry.create(other)
    shutil.copy(undo.file_of(path), undo.file_of(other))
    before = other.read_bytes()
    assert names(other) == []
    assert other.read_bytes() == before
    assert not undo.exists(other)


def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refused(name: object, flags: int, *more: int) -> int:
        if str(name).endswith(".lock"):
            raise PermissionError(13, "Permission denied")
        return opened(name, flags, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)


def test_a_folder_that_cannot_be_written_to_can_still_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch)
    assert names(path) == ["n0", "m1", "m2"]
    assert undo.exists(path)


def test_it_is_not_undone_while_another_process_reads(path: Path) -> None:
    with read_elsewhere(path):
        overwrite(path, undo.HEADERS + 512, os.urandom(BLOCK // 2))
        with pytest.raises(BusyError, match="another process is reading"):
            Registry.open(path, timeout=0.2)
    assert names(path) == ["n0", "m1", "m2"]


@pytest.mark.wide
def test_the_lock_of_duckdb_outlives_the_copying(tmp_path: Path) -> None:
    """It would vanish if this process closed any descriptor of the file."""
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 1)
    code = "import duckdb, sys; duckdb.connect(sys.argv[1], read_only=True)"
    command = [sys.executable, "-c", code, str(path)]
    with Registry.open(path, write=True) as registry:
        for name in ("a", "b"):
            with registry.transaction():
                registry.rename_model(registry.models()[0].card.name, name)
            registry._connection.checkpoint()
            process = subprocess.run(command, capture_output=True, text=True)
            assert "Could not set lock" in process.stderr
    assert subprocess.run(command).returncode == 0


def test_nothing_is_kept_where_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 1)
    monkeypatch.setattr(undo, "_write", lambda *anything: pytest.fail("an undo file was written"))
    before = path.read_bytes()
    with Registry.open(path, write=True):
        pass
    assert path.read_bytes() == before


def test_putting_back_can_be_interrupted_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overwrite(path, undo.HEADERS + 512, os.urandom(BLOCK // 2))
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    overwrite(path, undo.HEADERS + BLOCK - 512, os.urandom(512))
    with pytest.raises(StorageError, match="repaired"):
        Registry.open(path, write=True)
    monkeypatch.setattr(os, "fsync", fsync)
    assert undo.exists(path)
    assert names(path) == ["n0", "m1", "m2"]


def test_what_is_left_of_the_file_before_is_not_read(tmp_path: Path) -> None:
    """A power cut may keep what was written into the file and not that it was made shorter first."""
    file = tmp_path / "registry.duckdb.undo"

    def stored(header: bytes, *notes: bytes) -> bytes:
        end = undo._write(file, [undo.Piece(undo._LOG, bytes(40)), undo.Piece(0, header)])
        for note in notes:
            end = undo._append(file, [undo.Piece(undo._LOG, note)], end, flush=True)
        return file.read_bytes()

    before, after = stored(b"older", b"a" * 40, b"b" * 40), stored(b"newer")
    file.write_bytes(after + before[len(after) :])
    assert [piece.data for piece in undo._read(file)] == [bytes(40), b"newer"]
    also_noted = stored(b"newer", b"c" * 40)
    file.write_bytes(also_noted + before[len(also_noted) :])
    assert [piece.data for piece in undo._read(file)] == [bytes(40), b"newer", b"c" * 40]


def test_a_file_of_the_version_before_is_read(tmp_path: Path) -> None:
    file = tmp_path / "registry.duckdb.undo"
    parts = [undo._packed([undo.Piece(0, data)], b"")[0] for data in (b"header", b"note")]
    file.write_bytes(b"modelspace undo 1\n" + b"".join(parts))
    assert [piece.data for piece in undo._read(file)] == [b"header", b"note"]
