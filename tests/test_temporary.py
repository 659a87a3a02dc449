"""Files appear complete or not at all; what killed processes left goes, and what running ones write stays."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from modelspace import temporary

#: Says on stdout that it is writing, and waits until its stdin ends.
WRITER = (
    "import sys; from pathlib import Path; from modelspace import temporary\n"
    "with temporary.replacing(Path(sys.argv[1])) as file:\n"
    "    file.write_text('theirs'); print(file, flush=True); sys.stdin.read()\n"
)


def writer(path: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(temporary.__file__).parents[1])},
    )
    assert process.stdout
    return process, Path(process.stdout.readline().rstrip())


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_file_is_replaced_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with temporary.replacing(path) as file:
        file.write_text("first")
        assert not path.exists()
    with suppress(KeyboardInterrupt), temporary.replacing(path) as file:
        file.write_text("second")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.csv"]


def test_what_a_killed_process_left_goes_with_the_next_write_of_that_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    process, left = writer(path)
    process.kill()
    process.communicate()
    (other := tmp_path / f".b.csv.{process.pid}.tmp").write_text("of another file")
    assert left.read_text() == "theirs"
    with temporary.replacing(path) as file:
        file.write_text("mine")
    assert path.read_text() == "mine"
    assert names(tmp_path) == [other.name, "a.csv"]


def test_a_running_process_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    process, theirs = writer(path)
    with temporary.replacing(path) as file:
        file.write_text("mine")
    assert theirs.read_text() == "theirs"
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert path.read_text() == "theirs"
    assert names(tmp_path) == ["a.csv"]


def test_a_process_of_another_machine_keeps_its_file(tmp_path: Path) -> None:
    """Its number may be that of no process here, but it holds the file's lock."""
    process, theirs = writer(tmp_path / "a.csv")
    theirs = theirs.rename(theirs.with_name(f".a.csv.{dead()}.tmp"))
    temporary.remove_left(tmp_path, re.escape("a.csv"))
    assert theirs.read_text() == "theirs"
    process.kill()
    process.communicate()
    temporary.remove_left(tmp_path, re.escape("a.csv"))
    assert names(tmp_path) == []


def test_a_database_in_creation_elsewhere_is_known_by_its_lock_file(tmp_path: Path) -> None:
    database = f".r.{dead()}.tmp"
    for ending in ("", ".wal", ".lock"):
        (tmp_path / f"{database}{ending}").write_text("x")
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / f"{database}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        temporary.remove_left(tmp_path, "r", r"\.lock|\.wal")
        assert len(names(tmp_path)) == 3
    temporary.remove_left(tmp_path, "r", r"\.lock|\.wal")
    assert names(tmp_path) == []


def test_files_of_other_names_stay(tmp_path: Path) -> None:
    process = dead()
    kept = [f".r.{process}.tmp.txt", f".r.{process}", f"r.{process}.tmp", ".r.tmp", ".r.x.tmp", f".rr.{process}.tmp"]
    for name in kept:
        (tmp_path / name).write_text("a user's")
    (tmp_path / f".r.{process}.tmp").write_text("left over")
    (tmp_path / f".r.{process}.1.tmp").write_text("left over by a thread")
    temporary.remove_left(tmp_path, "r", r"\.wal")
    assert names(tmp_path) == sorted(kept)
    temporary.remove_left(tmp_path / "none", "r")


def test_a_pipe_under_a_temporary_name_does_not_block(tmp_path: Path) -> None:
    name = f".r.{dead()}.tmp"
    os.mkfifo(tmp_path / name)
    thread = threading.Thread(target=temporary.remove_left, args=(tmp_path, "r"), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_two_threads_that_write_one_file_write_two(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with temporary.replacing(path) as first, temporary.replacing(path) as second:
        first.write_text("1" * 10)
        second.write_text("2" * 5)
    assert path.read_text() == "1" * 10  # the last to end
    assert names(tmp_path) == ["a.csv"]


def test_files_together_appear_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "deep" / "a.csv", tmp_path / "b.csv"
    second.write_text("old")
    with suppress(KeyboardInterrupt), temporary.Together() as files:
        for path in (first, second):
            with files.file(path) as file:
                file.write_text("half")
        assert not first.exists()
        assert second.read_text() == "old"
        raise KeyboardInterrupt
    assert names(tmp_path) == ["b.csv"]
    assert second.read_text() == "old"
    with temporary.Together() as files:
        for path in (first, second):
            with files.file(path) as file:
                file.write_text("whole")
    assert (first.read_text(), second.read_text()) == ("whole", "whole")
    assert (names(tmp_path), names(first.parent)) == (["b.csv", "new"], ["a.csv"])
    assert not temporary._in_progress
