"""Signals are kept away from the end of a transaction."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest
from tiny import space

from modelspace.registry import connection
from modelspace.registry.interrupts import deferred


def signals(times: int) -> list[int]:
    """Which of several Ctrl-C within a block the code after them was reached."""
    passed = []

    def block() -> None:
        with deferred():
            for number in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                passed.append(number)

    with pytest.raises(KeyboardInterrupt):
        block()
    return passed


def test_a_signal_waits_until_the_end_of_the_block() -> None:
    assert signals(1) == [0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_takes_effect_at_once() -> None:
    assert signals(3) == [0]


def test_other_threads_and_ignored_signals_are_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
        seen = []

        def inside() -> None:
            with deferred():
                seen.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        assert seen == [signal.default_int_handler]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_during_a_commit_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is stored, is known to be, and the file is free for the next writer."""
    registry_space = space(tmp_path, images=4, methods=["saliency"])
    monkeypatch.setattr(connection.changes, "committed", 0)
    commit = connection.Connection.commit

    def interrupted(self: connection.Connection) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        commit(self)

    monkeypatch.setattr(connection.Connection, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        registry_space.blend("both", {"saliency": 1.0}, hubs="csls")
    assert connection.changes.committed == 1
    monkeypatch.undo()
    assert {row.name for row in registry_space.spaces()} == {"saliency", "both"}
    assert not list(tmp_path.glob("*.lock"))
    duckdb.connect(str(registry_space.path)).close()
