"""Answers are kept for one state of the registry, and the registry is open for moments."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tiny import space

from modelspace.registry import Registry
from modelspace.server import snapshot
from modelspace.server.snapshot import Lease, Snapshot


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return space(tmp_path_factory.mktemp("kept"), images=4, methods=["gradient_x_input"]).path


def touch(path: Path) -> None:
    """Change the state of a file, as a write does."""
    time.sleep(0.01)
    path.touch()


def test_an_answer_is_computed_once_per_state(path: Path) -> None:
    kept, computed = Snapshot(path), []

    def compute() -> bytes:
        computed.append(1)
        return b"%d" % len(computed)

    assert [kept.answer("q", compute), kept.answer("q", compute), kept.answer("r", compute)] == [b"1", b"1", b"2"]
    touch(path)
    assert kept.answer("q", compute) == b"3"
    kept.close()


def test_what_was_computed_across_a_change_is_not_kept(path: Path) -> None:
    kept = Snapshot(path)

    def compute() -> bytes:
        touch(path)
        return b"old"

    assert kept.answer("q", compute) == b"old"
    assert kept.answer("q", lambda: b"new") == b"new"
    kept.close()


def test_old_answers_make_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_BYTES", 25)
    monkeypatch.setattr(snapshot, "MOST_ONE", 12)
    kept = Snapshot(path)
    for key in "abc":
        kept.answer(key, lambda: b"x" * 10)
    assert [kept.answer(key, lambda: b"again") for key in "bca"] == [b"x" * 10, b"x" * 10, b"again"]
    assert kept.answer("large", lambda: b"x" * 13) == b"x" * 13
    assert kept.answer("large", lambda: b"again") == b"again"
    kept.close()


def test_a_failure_is_not_kept(path: Path) -> None:
    kept = Snapshot(path)
    with pytest.raises(ZeroDivisionError):
        kept.answer("q", lambda: b"%d" % (1 // 0))
    assert kept.answer("q", lambda: b"1") == b"1"
    kept.close()


def test_a_lease_ends_by_itself_and_lets_a_writer_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LEASE_S", 30.0)
    lease = Lease(path)
    lease.renew()
    assert lease._registry is not None
    started = time.monotonic()
    Registry.open(path, write=True, timeout=5.0).close()  # its lock ends the lease
    assert time.monotonic() - started < 3
    assert lease._registry is None
    monkeypatch.setattr(snapshot, "LEASE_S", 0.05)
    lease.renew()
    time.sleep(0.5)
    assert lease._registry is None
