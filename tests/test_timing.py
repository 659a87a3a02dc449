"""Phases are added up, without those inside them, and cost nothing when nobody records."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from modelspace import timing
from modelspace.timing import phase, recorded


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_counts_without_the_phases_inside_it(clock: list[float]) -> None:
    with recorded() as seconds:
        for _ in range(2):
            with phase("pass"):
                clock[0] += 3
                with phase("checks"):
                    clock[0] += 1
                    with phase("images"):
                        clock[0] += 0.5
                with phase("images"):
                    clock[0] += 0.25
        clock[0] += 10
    assert seconds == {"pass": 6.0, "checks": 2.0, "images": 1.5}


def test_an_exception_ends_a_phase(clock: list[float]) -> None:
    with recorded() as seconds:
        with suppress(ValueError), phase("load"):
            clock[0] += 2
            raise ValueError
        with phase("store"):
            clock[0] += 1
    assert seconds == {"load": 2.0, "store": 1.0}


def test_nothing_is_recorded_outside() -> None:
    with phase("load"):
        assert timing._current.get() is None
    with recorded() as seconds:
        pass
    with phase("load"):
        pass
    assert seconds == {}


def test_another_clock_may_be_given() -> None:
    ticks = iter([1.0, 4.0])
    with recorded(lambda: next(ticks)) as seconds, phase("pass"):
        pass
    assert seconds == {"pass": 3.0}
