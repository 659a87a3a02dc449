"""After a writer is killed, all acknowledged changes are there, and none is incomplete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import shelf

from modelspace.registry import Registry

ROOT = Path(__file__).parents[2]


@pytest.mark.wide
def test_kill_loop() -> None:
    """Five kills; `scripts/kill_loop.py --full` makes two hundred."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / "kill_loop.py"), "--kills", "5"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert process.returncode == 0, process.stderr
    assert re.fullmatch(
        r"5 kills, [1-9]\d* changes acknowledged and all present, \d+ more committed when killed\n", process.stdout
    )


@pytest.mark.wide
def test_a_committed_update_survives_where_an_index_would_lose_it(tmp_path: Path) -> None:
    """DuckDB 2.0.0 loses the second update if the table has a primary key.

    Ours have none; this is the sequence that exposes the bug.
    """
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 2)
    code = (
        "import os, sys; from pathlib import Path; import shelf; from modelspace.registry import Registry\n"
        "registry = Registry.open(Path(sys.argv[1]), write=True)\n"
        "with registry.transaction(): registry.update_model(1, task='first')\n"
        "registry.execute('CHECKPOINT registry')\n"
        "with registry.transaction(): registry.add_model(shelf.card('late'))\n"
        "with registry.transaction(): registry.update_model(2, task='second')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}
    assert subprocess.run([sys.executable, "-c", code, str(path)], env=environment).returncode == -9
    with Registry.open(path) as registry:
        assert [row.card.task for row in registry.models()] == ["first", "second", "task of late"]


@pytest.mark.first(1)
@pytest.mark.parametrize("write", [False, True])
def test_the_log_of_a_killed_migration_is_replayed(tmp_path: Path, write: bool) -> None:
    """Tables created in a log without a checkpoint; `Registry.create` avoids that by renaming a finished file."""
    path = tmp_path / "registry.duckdb"
    code = (
        "import os, sys; from pathlib import Path; from modelspace.registry import connection, schema\n"
        "opened = connection.open_writing(Path(sys.argv[1]), create=True)\n"
        "opened.duck.execute('USE registry')\n"
        "opened.duck.execute('BEGIN')\n"
        "for migration in schema.known(): opened.duck.execute(migration.sql)\n"
        "opened.duck.execute('INSERT INTO main.meta VALUES (uuid(), now()::TIMESTAMP)')\n"
        "for migration in schema.known():\n"
        "    row = [migration.number, migration.name, migration.sha256, schema.now()]\n"
        "    opened.duck.execute('INSERT INTO main.migrations VALUES (?, ?, ?, ?)', row)\n"
        "opened.duck.execute('COMMIT')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code, str(path)], env=environment).returncode == -9
    assert Path(f"{path}.wal").stat().st_size > 1000
    with Registry.open(path, write=write) as registry:
        assert registry.check() == []
        with pytest.raises(duckdb.Error, match="no space yet"):
            registry._connection.duck.execute("FROM nearest('a')")


#: Processes that are killed while they write a new registry file, by what they do; the last names the file.
KILLED = {
    "creation": "path.unlink(); Registry.create(path)",
    "compaction": "compaction.compact(path)",
}


@pytest.mark.first(1)
@pytest.mark.parametrize("work", KILLED)
@pytest.mark.parametrize("moment", ["full", "flushed"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path, work: str, moment: str) -> None:
    path = tmp_path / "registry.duckdb"
    shelf.filled(path, 2)
    code = (
        "import os, sys; from pathlib import Path; import modelspace.registry.connection as connection\n"
        "from modelspace.registry import Registry, compaction, schema, store\n"
        "def die(*anything): os.kill(os.getpid(), 9)\n"
        + ("compaction.flush = store.flush = die\n" if moment == "flushed" else "")
        + ("connection.Connection.close = die; compaction.flush = die\n" if moment == "full" else "")
        + f"path = Path(sys.argv[1]); {KILLED[work]}\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}
    assert subprocess.run([sys.executable, "-c", code, str(path)], env=environment).returncode == -9
    left = set(os.listdir(tmp_path))
    assert any(name.endswith(".tmp") for name in left)
    assert any(name.endswith(".lock") for name in left) or (work, moment) == ("creation", "flushed")
    if work == "creation":
        Registry.create(path)
    with Registry.open(path, write=True) as registry:
        assert registry.check() == []
    assert os.listdir(tmp_path) == ["registry.duckdb"]


def test_what_a_running_creation_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "registry.duckdb"
    code = (
        "import sys; from pathlib import Path; from modelspace.registry import Registry, schema\n"
        "initialise = schema.initialise\n"
        "def slow(connection): initialise(connection); print('x', flush=True); sys.stdin.read()\n"
        "schema.initialise = slow; Registry.create(Path(sys.argv[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        Registry.create(path)
        with Registry.open(path, write=True) as registry:
            assert registry.check() == []
        assert {f".registry.duckdb.{process.pid}.tmp{ending}" for ending in ("", ".lock")} <= set(os.listdir(tmp_path))
        _, errors = process.communicate(timeout=30)
    assert b"ConflictError" in errors  # the other was faster, and nothing of it was replaced
    assert os.listdir(tmp_path) == ["registry.duckdb"]
