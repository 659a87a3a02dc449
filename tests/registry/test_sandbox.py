"""User SQL runs in a process of its own, whose memory and time are bounded whatever the query does."""

from __future__ import annotations

import datetime
import decimal
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import duckdb
import pytest
import shelf

from modelspace.errors import ModelspaceError, UsageError
from modelspace.registry import Registry, sandbox, sql, sql_process
from modelspace.registry.sql import query

#: One function call each, which DuckDB's own limits don't reach. What they'd need is far more than they get.
LARGE = (
    "SELECT length(repeat('x', 4000000000))",
    "SELECT len(range(500000000))",
    "SELECT len(list_resize([1], 900000000))",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sandbox") / "registry.duckdb"
    shelf.filled(path, 3)
    return path


def children() -> dict[int, str]:
    """Processes that this one started, by id, with their state; a zombie has ended."""
    states = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            states[int(folder.name)] = state
    return states


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("text", LARGE)
def test_the_memory_of_one_function_call_is_bounded(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 50_000_000)
    with pytest.raises(ModelspaceError, match="of memory"):
        query(path, text)
    assert query(path, "SELECT 1").rows == [(1,)]


def test_a_function_call_is_ended_at_the_time_limit(path: Path) -> None:
    query(path, "SELECT 1")  # so that no process has to be started below
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"interrupted after 0\.2 s"):
        query(path, "SELECT sleep_ms(60000)", timeout_s=0.2)
    assert time.monotonic() - start < 10
    assert query(path, "SELECT 1").rows == [(1,)]


def test_a_condition_with_functions_is_bounded_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 50_000_000)
    monkeypatch.setattr(sql, "CONDITION_S", 0.2)
    with Registry.open(path) as registry:
        with pytest.raises(ModelspaceError, match="memory"):
            registry.models("length(repeat(name, 2000000000)) > 1")
        with pytest.raises(UsageError, match=r"`where=.*interrupted"):
            registry.models("sleep_ms(60000) IS NULL")
        assert [row.card.name for row in registry.models("upper(name) = 'M1'")] == ["m1"]


PLAIN = (
    "name = 'm1'",
    "task <> 'a' AND parameters < 3e7 OR NOT (name IN ('m1', 'm2'))",
    "task IS NOT NULL -- a comment",
    "parameters BETWEEN 1 AND 5",
)
NOT_PLAIN = (
    "length(name) > 1",
    "name LIKE 'm%'",  # a function, for which the registry could hold a macro
    "parameters + 1 > 2",
    "name::INTEGER[100000] IS NULL",
    "name IN (SELECT name FROM models)",
    "true) UNION ALL (SELECT 1",
    "true) ORDER BY (name",
    "true) GROUP BY (model_id",
    "true); SELECT (1",
    "row_number() OVER () > 1",
    "",
)


@pytest.mark.parametrize("condition", [*PLAIN, *NOT_PLAIN])
def test_only_comparisons_of_columns_and_constants_run_in_this_process(condition: str) -> None:
    text = f"SELECT model_id FROM main.models WHERE (\n{condition}\n)"
    with duckdb.connect() as duck:
        assert sql._is_plain(duck, text) == (condition in PLAIN)


def test_a_macro_of_the_registry_does_not_decide_where_a_condition_runs() -> None:
    text = "SELECT model_id FROM main.models WHERE (\n{}\n)"
    with duckdb.connect() as duck:
        (plain,) = duck.execute("SELECT json_serialize_sql(?)", [text.format("name = 'a'")]).fetchall()[0]
        for answer in (plain, '{"error": true, "error_type": "parser"}'):
            duck.execute(f"CREATE OR REPLACE MACRO json_serialize_sql(x) AS '{answer.replace(chr(39), chr(39) * 2)}'")
            assert not sql._is_plain(duck, text.format("sleep_ms(1) > 0"))
            assert not sql._has_syntax_error(duck, text.format("sleep_ms(1) > 0"))


def test_an_interruption_ends_the_query_at_once(path: Path) -> None:
    """Ctrl-C, as a terminal sends it: to the whole foreground group."""
    code = (
        "import sys; from pathlib import Path; from modelspace.registry.sql import query\n"
        "print('ready', flush=True)\n"
        "try: query(Path(sys.argv[1]), 'SELECT sleep_ms(60000)')\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 60
    while not (pids := of_parent(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0] == b"interrupted\n"
    assert pids
    assert not any(map(is_running, pids))


def test_the_process_does_not_survive_its_parent(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelspace.registry.sql import query\n"
        "query(Path(sys.argv[1]), 'SELECT sleep_ms(60000)')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 60
    while not (pids := of_parent(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids
    assert not any(map(is_running, pids))


def of_parent(pid: int) -> list[int]:
    """Processes that a process started."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            pids.append(int(folder.name))
    return pids


def test_one_process_answers_many_queries_and_keeps_no_writer_waiting(path: Path) -> None:
    query(path, "SELECT 1")
    before = children()
    for i in range(5):
        assert query(path, f"SELECT {i}").rows == [(i,)]
    assert children().keys() == before.keys()
    with Registry.open(path, write=True, timeout=1.0) as registry:
        assert len(registry.models()) == 3


@pytest.mark.wide
def test_a_process_that_the_system_killed_is_replaced(path: Path) -> None:
    query(path, "SELECT 1")
    with sandbox._idle_lock:
        for _, process in sandbox._idle:
            process._popen.kill()
            process._popen.wait()
    assert query(path, "SELECT 2").rows == [(2,)]


def test_queries_of_several_threads_run_side_by_side(path: Path) -> None:
    results: list[int] = []

    def ask(i: int) -> None:
        results.append(query(path, f"SELECT {i} FROM models").rows[0][0])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(6))
    assert len(sandbox._idle) <= sandbox._MOST_IDLE


def test_a_large_result_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "RESULT_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="larger than 1 MB"):
        query(path, "FROM range(10000000)")
    assert len(query(path, "FROM range(10000000)", max_rows=1000).rows) == 1000


def test_values_arrive_as_duckdb_gives_them(path: Path) -> None:
    text = (
        "SELECT 1::HUGEINT, 'x'::BLOB, 1.5::DECIMAL(4,2), DATE '2026-01-02', TIME '01:02:03', INTERVAL 3 DAY,"
        " '9f1c0b1e-0000-4000-8000-000000000000'::UUID, [1, NULL], {'a': {'b': 'c'}}, MAP {'k': 1}, 'NaN'::DOUBLE,"
        " '101'::BIT, TIMESTAMP '2026-01-02 03:04:05', repeat('ü', 70000)"
    )
    (row,) = query(path, text).rows
    with duckdb.connect() as duck:
        (expected,) = duck.execute(text).fetchall()
    assert repr(row) == repr(expected)
    assert {type(value) for value in row} >= {datetime.date, datetime.timedelta, decimal.Decimal, uuid.UUID, bytes}


def test_only_values_are_unpickled() -> None:
    for value in (os.system, Path("x"), range(3)):
        with pytest.raises(pickle.UnpicklingError, match="unexpected"):
            sandbox._Unpickler(io.BytesIO(pickle.dumps(value))).load()
    (sent,) = sandbox._Unpickler(io.BytesIO(sql_process.packed([Path("x")])[sql_process.HEADER.size :])).load()
    assert sent == "x"


def test_the_process_writes_no_file(path: Path, tmp_path: Path) -> None:
    """Even if DuckDB let a query write, the system would not."""
    code = (
        "from modelspace.registry import sql_process\n"
        "sql_process._limit(10**9)\n"
        "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'wb', buffering=0).write(b'x')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True)
    assert "File too large" in done.stderr


def test_no_progress_bar_is_drawn_without_a_script(tmp_path: Path) -> None:
    """DuckDB takes `python -c` and spawned workers for interactive, and would draw on standard output."""
    file = tmp_path / "registry.duckdb"
    Registry.create(file)
    program = (
        "import sys; from pathlib import Path; from modelspace.registry import connection as c\n"
        "text = \"SELECT value FROM duckdb_settings() WHERE name = 'enable_progress_bar'\"\n"
        "path = Path(sys.argv[1])\n"
        "readers = [c.open_reading(path), c.open_reading(path)]\n"
        "shown = [each.duck.execute(text).fetchall()[0][0] for each in readers]\n"
        "shown += [readers[0].cursor().execute(text).fetchall()[0][0]]\n"
        "[each.close() for each in readers]\n"
        "writer = c.open_writing(path); shown += writer.duck.execute(text).fetchall()[0]; writer.close()\n"
        "import duckdb; print(shown, duckdb.connect().execute(text).fetchall()[0][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['false', 'false', 'false', 'false'] true\n", done.stderr
