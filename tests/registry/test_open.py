"""Creating, opening and sharing the file: it is never overwritten, has one writer at a time, and errors give advice."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
import shelf

from modelspace.errors import BusyError, ConflictError, DamagedError, ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry, catalogue, connection, schema

TESTS = Path(__file__).parents[1] / "support"

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts bytes with Linux's /proc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 3)
    return path


class Other:
    """Another process that holds the registry open until it is killed, or for `seconds`."""

    def __init__(self, path: Path, *, write: bool, seconds: float = 30.0) -> None:
        code = (
            "import sys, time; from pathlib import Path; import shelf; from modelspace.registry import Registry\n"
            f"with Registry.open(Path({str(path)!r}), write={write}) as registry:\n"
            f"    if {write}:\n"
            "        with registry.transaction(): registry.add_model(shelf.card('theirs'))\n"
            f"    print('open', flush=True); time.sleep({seconds})\n"
        )
        search = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environment = {**os.environ, "PYTHONPATH": search}
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"open\n"

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def names(path: Path) -> list[str]:
    with Registry.open(path) as registry:
        return [row.card.name for row in registry.models()]


def test_a_new_registry_is_whole_and_alone_in_its_folder(tmp_path: Path) -> None:
    Registry.create(tmp_path / "registry.duckdb")
    assert [file.name for file in tmp_path.iterdir()] == ["registry.duckdb"]
    with Registry.open(tmp_path / "registry.duckdb") as registry:
        assert (registry.models(), registry.spaces(), registry.check()) == ([], [], [])
        assert len(registry.registry_id) == 36
        with pytest.raises(NotFoundError, match="no space yet"):
            registry.space()


def test_nothing_is_overwritten(path: Path) -> None:
    with pytest.raises(ConflictError, match="exists already"):
        Registry.create(path)
    assert names(path) == ["m0", "m1", "m2"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "registry.duckdb"
    checks = [lambda _: None, lambda _: path.write_text("another file")]
    original = Registry.create.__globals__["_check_free"]
    monkeypatch.setitem(
        Registry.create.__globals__, "_check_free", lambda p: (checks.pop(0) if checks else original)(p)
    )
    with pytest.raises(ConflictError):
        Registry.create(path)
    assert path.read_text() == "another file"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_log_of_a_deleted_registry_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "registry.duckdb"
    (tmp_path / "registry.duckdb.wal").write_bytes(b"log")
    with pytest.raises(ConflictError, match=r"\.wal is the log of a deleted registry"):
        Registry.create(path)


def test_an_interrupted_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modelspace.registry.schema.initialise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Registry.create(tmp_path / "registry.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_is_also_a_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be called"):
        Registry.create(tmp_path / "main.duckdb")


def test_quotes_and_spaces_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "o'neill's \"models\"; drop"
    folder.mkdir()
    shelf.filled(folder / "a b.duckdb", 2)
    assert names(folder / "a b.duckdb") == ["m0", "m1"]


def test_the_file_can_be_read_by_the_oldest_supported_duckdb(path: Path) -> None:
    """Checks the tag of `duckdb_databases()`; reading with 1.4 was tried by hand (docs/reference/schema.md)."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_model(shelf.card("late"))  # a later writer does not raise it either
    duck = duckdb.connect(str(path), read_only=True)
    ((tags,),) = duck.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'registry'").fetchall()
    duck.close()
    assert str(tags["storage_version"]).startswith("v1.4")


def test_a_file_that_was_rewritten_in_a_newer_format_can_still_be_changed(path: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.duckdb"
    duck = duckdb.connect(str(newer))  # DuckDB's own newest format
    duck.execute(f"ATTACH '{path}' AS old (READ_ONLY); COPY FROM DATABASE old TO newer")
    duck.close()
    with Registry.open(newer, write=True) as registry, registry.transaction():
        registry.add_model(shelf.card("late"))
    assert names(newer) == ["m0", "m1", "m2", "late"]


def test_missing_damaged_and_foreign_files(tmp_path: Path, path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"`ModelSpace\.create\(\)`"):
        Registry.open(tmp_path / "none.duckdb")
    with pytest.raises(NotFoundError):
        Registry.open(tmp_path / "none.duckdb", write=True)
    assert not (tmp_path / "none.duckdb").exists()
    content = path.read_bytes()
    for damaged in (
        b"",
        b"not a database" * 1000,
        content[:100],
        content[:20_000],
        content[:4116] + b"x" + content[4117:],
    ):
        (tmp_path / "damaged.duckdb").write_bytes(damaged)
        for write in (False, True):
            with pytest.raises(DamagedError):
                Registry.open(tmp_path / "damaged.duckdb", write=write)
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    for write in (False, True):
        with pytest.raises(DamagedError, match="not a registry"):
            Registry.open(tmp_path / "other.duckdb", write=write)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        Registry.open(tmp_path / "folder")


def test_damage_that_only_shows_while_reading_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 40)
    content = bytearray(path.read_bytes())
    offset = content.find(next(shelf.blocks("m7")).codes[:64])
    assert offset > 0
    content[offset] ^= 1
    path.write_bytes(content)
    with Registry.open(path) as registry, pytest.raises(DamagedError, match="Corrupt"):
        list(registry.map_blocks(shelf.GI.space_id, 8))


def test_the_error_for_a_damaged_log_has_the_repair(tmp_path: Path, path: Path) -> None:
    with Other(path, write=True):
        pass  # killed; its commits are in the log
    log = Path(f"{path}.wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(DamagedError, match="is not what was stored") as missed:
        Registry.open(path)
    Path(missed.value.hint.split("remove ")[1]).unlink()
    with pytest.raises(DamagedError, match=r"truncate -s \d+ .*\.wal") as caught:
        Registry.open(path)
    byte = int(caught.value.hint.split("truncate -s ")[1].split()[0])
    os.truncate(log, byte)
    assert names(path)[:3] == ["m0", "m1", "m2"]


def test_a_second_writer_waits_then_fails_and_nothing_is_lost(path: Path) -> None:
    with Other(path, write=True) as other:
        start = time.monotonic()
        with pytest.raises(BusyError, match=f"process {other.process.pid} is changing") as caught:
            Registry.open(path, write=True, timeout=0.3)
        assert 0.2 < time.monotonic() - start < 5
        assert "try again" in caught.value.hint
        with pytest.raises(BusyError, match=f"process {other.process.pid} is (using|changing)"):
            Registry.open(path, timeout=0.3)
    # It was killed: its lock is gone, its rows are committed.
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_model(shelf.card("mine"))
    assert names(path) == ["m0", "m1", "m2", "theirs", "mine"]
    assert not Path(f"{path}.lock").exists()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="reads /proc and sets limits of Linux")
def test_who_has_not_yet_written_its_number_into_the_lock_is_named(path: Path) -> None:
    with Other(path, write=True) as other:
        os.truncate(f"{path}.lock", 0)
        with pytest.raises(BusyError, match=f"process {other.process.pid} is changing"):
            Registry.open(path, write=True, timeout=0.1)


def test_a_holder_that_nobody_names_gets_one_more_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = iter(["", "", "4711"])
    monkeypatch.setattr(connection, "_owner", lambda descriptor: next(named))
    with Other(path, write=True), pytest.raises(BusyError, match="process 4711 is changing"):
        Registry.open(path, write=True, timeout=0)


def test_a_writer_waits_for_a_reader_to_finish(path: Path) -> None:
    with Other(path, write=False, seconds=0.5), Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_model(shelf.card("late"))
    assert names(path) == ["m0", "m1", "m2", "late"]


@pytest.mark.wide
def test_readers_that_follow_each_other_let_a_writer_in(path: Path) -> None:
    """Two processes whose readers overlap all the time: without a wait of theirs, the writer has no chance."""
    code = (
        "import sys, time; from pathlib import Path; from modelspace.registry import Registry\n"
        "end = time.monotonic() + 20; print('ready', flush=True)\n"
        "while time.monotonic() < end:\n"
        f"    with Registry.open(Path({str(path)!r})): time.sleep(0.15)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parents[1])}
    command = [sys.executable, "-c", code]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(3)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            reader.stdout.readline()
        for number in range(5):
            with Registry.open(path, write=True, timeout=8) as registry, registry.transaction():
                registry.add_model(shelf.card(f"new{number}"))
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    assert len(names(path)) == 8


def test_a_lock_file_without_a_holder_delays_no_reader(path: Path) -> None:
    Path(f"{path}.lock").write_text("123")
    begin = time.monotonic()
    assert names(path) == ["m0", "m1", "m2"]
    assert time.monotonic() - begin < 0.9


def test_many_readers_at_once(path: Path) -> None:
    with Other(path, write=False), Registry.open(path) as first, Registry.open(path) as second:
        assert len(first.models()) == len(second.models()) == 3
        first.close()
        assert len(second.models("name <> 'm1'")) == 2  # all readers of a process share one database
        with pytest.raises(BusyError):
            Registry.open(path, write=True, timeout=0.1)


@pytest.mark.parametrize("write", [False, True])
def test_a_process_cannot_open_twice_what_it_writes(path: Path, write: bool) -> None:
    """Closing the second would release the first's lock on the file; a link leads to the same file."""
    link = path.with_name("link.duckdb")
    link.symlink_to(path)
    with Registry.open(path, write=True) as registry:
        for name in (path, link, path.parent / ".." / path.parent.name / path.name):
            with pytest.raises(BusyError):
                Registry.open(name, write=write, timeout=0.05)
        with registry.transaction():
            registry.add_model(shelf.card("mine"))
    assert names(link) == ["m0", "m1", "m2", "mine"]


def test_a_process_can_write_once_its_reader_is_closed(path: Path) -> None:
    reader = Registry.open(path)
    with pytest.raises(BusyError, match="this process"):
        Registry.open(path, write=True, timeout=0.05)
    threading.Timer(0.3, reader.close).start()
    with Registry.open(path, write=True) as registry:
        assert len(registry.models()) == 3
    assert not Path(f"{path}.lock").exists()


def test_a_lock_on_a_removed_lock_file_does_not_count(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last owner removes the file; a process that still has it open holds a lock that the next one doesn't see."""
    inode, calls = connection._inode, []

    def removed_once(name: str) -> int | None:
        calls.append(name)
        if len(calls) == 1:
            os.unlink(name)
        return inode(name)

    monkeypatch.setattr(connection, "_inode", removed_once)
    with Registry.open(path, write=True):
        assert Path(f"{path}.lock").read_text() == str(os.getpid())
    assert len(calls) > 1


def test_a_registry_in_a_read_only_folder_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who ignores permissions, so opening the lock file is made to fail."""
    open_file = os.open

    def refused(name, flags, *arguments, **options):  # type: ignore[no-untyped-def]
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied")
        return open_file(name, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(ModelspaceError, match="can't be changed: Permission denied"):
        Registry.open(path, write=True)
    assert names(path) == ["m0", "m1", "m2"]
    with pytest.raises(ModelspaceError, match="can't be changed"):
        Registry.create(path.with_name("new.duckdb"))


@pytest.mark.parametrize("write", [False, True])
def test_a_file_of_limits_that_can_not_be_opened_does_not_end_the_process(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: bool
) -> None:
    monkeypatch.setattr(connection, "CGROUP", str(path / "nothing"))  # a file is no folder
    with pytest.raises(ModelspaceError, match=r"DuckDB can't run: .* can't be opened") as raised:
        Registry.open(path, write=write)
    assert "limit of open files" in raised.value.hint
    monkeypatch.setattr(connection, "CGROUP", str(tmp_path / "nothing"))
    Registry.open(path, write=write).close()


def test_reading_writes_nothing(path: Path) -> None:
    before = {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in path.parent.iterdir()}
    content = path.read_bytes()
    with Registry.open(path) as registry:
        registry.models("affinity(name, 'm0') > 0")
        registry.check()
    assert {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in path.parent.iterdir()} == before
    assert path.read_bytes() == content


def test_after_closing_the_file_alone_is_the_registry(path: Path, tmp_path: Path) -> None:
    assert sorted(file.name for file in path.parent.iterdir()) == ["registry.duckdb"]
    copy = tmp_path / "copy.duckdb"
    shutil.copy(path, copy)
    assert names(copy) == names(path)


def test_diverged_copies_have_different_generations(path: Path, tmp_path: Path) -> None:
    """Otherwise one of them would accept the other's index."""
    copy = tmp_path / "copy.duckdb"
    shutil.copy(path, copy)
    generations = []
    for file in (path, copy):
        with Registry.open(file, write=True) as registry:
            with registry.transaction():
                registry.remove_model(3)
            generations.append(registry.space().generation)
    assert generations[0] != generations[1]


@pytest.mark.wide
@needs_proc
def test_adding_a_model_does_not_rewrite_the_others_maps(tmp_path: Path) -> None:
    def written() -> int:
        with open("/proc/self/io") as counters:
            return next(int(line.split()[1]) for line in counters if line.startswith("wchar"))

    path = tmp_path / "registry.duckdb"
    shelf.make(path)
    data = os.urandom(1 << 20)
    embeddings = shelf.rows(shelf.units(40))

    def add(numbers: list[int]) -> None:
        with Registry.open(path, write=True) as registry:
            for i in numbers:
                with registry.transaction():
                    registry.add_model(shelf.card(f"m{i}"))
                    block = shelf.MapBlock(0, shelf.N_IMAGES, data, b"")
                    registry.add_embedding(shelf.GI.space_id, embeddings[i], [block])

    add(list(range(39)))
    before = written()
    add([39])
    # its own megabyte into the log and the file, and at most the last 2,048 parts again
    assert written() - before < 14e6
    assert path.stat().st_size < 1.4 * 40 * len(data)
    with Registry.open(path) as registry:
        groups = registry.rows(
            "SELECT sum(count) FROM pragma_storage_info('maps') WHERE column_name = 'part' AND segment_type = 'INTEGER'"
            " GROUP BY row_group_id"
        )
    assert max(n for (n,) in groups) <= 2048 < sum(n for (n,) in groups)


def test_the_lock_holds_where_its_file_can_not_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process number in it is for messages only, and a full disk leaves no lock file behind."""
    lock = path.with_name(f"{path.name}.lock")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(connection.os, "write", full)
    with Registry.open(path, write=True):
        assert lock.exists()
    assert not lock.exists()


def test_tables_are_checked_again_only_when_somebody_else_has_changed_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[str] = []
    for name in ("_check_columns", "_check_tables"):
        real = getattr(schema, name)
        monkeypatch.setattr(schema, name, lambda *of, real=real, name=name: checks.append(name) or real(*of))
    connection._checked.clear()
    Registry.open(path).close()
    Registry.open(path).close()
    assert checks == ["_check_columns"]
    for seed in (7, 8):  # the first check of a writer says more than that of a reader, and counts after its changes
        with Registry.open(path, write=True) as registry, registry.transaction():
            registry.rename_model("m0" if seed == 7 else "x7", f"x{seed}")
        Registry.open(path).close()
    assert checks == ["_check_columns", "_check_tables", "_check_columns"]
    with duckdb.connect(str(path)) as other:
        other.execute("ALTER TABLE projections DROP COLUMN seed")
    for write in (False, True, False):  # what was refused is refused again
        with pytest.raises(DamagedError, match="'seed' of 'projections' is missing"):
            Registry.open(path, write=write)


def test_spaces_are_remembered_until_the_file_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = Registry.open
    monkeypatch.setattr(Registry, "open", lambda file, **how: opened.append(file) or real(file, **how))
    first = catalogue.of_file(path)
    assert catalogue.of_file(path) == first
    assert len(opened) == 1
    with real(path, write=True) as registry, registry.transaction():
        registry.rename_space(first.spaces[0].spec.name, "renamed")
    assert catalogue.of_file(path).spaces[0].spec.name == "renamed"
    path.unlink()
    with pytest.raises(NotFoundError):
        catalogue.of_file(path)


def test_duckdb_may_refuse_to_change_its_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As version 2.0 does in a notebook without ipywidgets."""
    connect, refused = duckdb.connect, []

    class Refusing:
        def __init__(self, *args: Any, **options: Any) -> None:
            self._duck = connect(*args, **options)

        def execute(self, text: str, *args: Any) -> Any:
            if "progress_bar" in text:
                refused.append(text)
                raise duckdb.InvalidInputException("Could not change the progress bar setting")
            return self._duck.execute(text, *args)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._duck, name)

    monkeypatch.setattr(duckdb, "connect", Refusing)
    Registry.create(tmp_path / "registry.duckdb")
    monkeypatch.undo()
    assert refused
    with Registry.open(tmp_path / "registry.duckdb") as registry:
        assert registry.models() == []
