"""How long the phases of a verb take, for ``--verbose``; nothing is measured unless somebody records.

A phase inside another one counts for itself and not for the outer one, so the times add up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field

from modelspace.late import dataclass


@dataclass
class Recording:
    """The phases so far.

    Attributes:
        clock: returns the time in seconds.
        seconds: of each phase, in the order in which they began first.
        inner: seconds of finished phases inside each open one, outermost first.
    """

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    inner: list[float] = field(default_factory=list)


_current: ContextVar[Recording | None] = ContextVar("recording", default=None)


@contextmanager
def recorded(clock: Callable[[], float] | None = None) -> Iterator[dict[str, float]]:
    """Record the phases of the block.

    Args:
        clock: returns the time in seconds, for example `time.process_time`; default: that of the wall clock.

    Yields:
        Seconds by phase; complete at the end of the block.
    """
    recording = Recording(clock or time.perf_counter)
    token = _current.set(recording)
    try:
        yield recording.seconds
    finally:
        _current.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """The block is a phase of this name; several of one name are added up."""
    recording = _current.get()
    if recording is None:
        yield
        return
    recording.seconds.setdefault(name, 0.0)
    recording.inner.append(0.0)
    started = recording.clock()
    try:
        yield
    finally:
        elapsed = recording.clock() - started
        recording.seconds[name] += elapsed - recording.inner.pop()
        if recording.inner:
            recording.inner[-1] += elapsed
