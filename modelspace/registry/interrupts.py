"""Signals that end a program, kept away from the moments in which a registry must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Signals that a program may answer with an exception.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


#: Signals that a block of `deferred` has received in this process.
noted: list[int] = []


@contextmanager
def deferred() -> Iterator[None]:
    """Delay the first such signal until the end of the block; a second one takes effect at once.

    DuckDB looks for signals while it works, and would abort a change that is about to be complete with its own error.
    Blocks may be nested. Signals that Python does not handle are left alone, and so are they in other threads, which
    no signal reaches.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    received: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            handlers[number](number, frame)
        received.append((number, frame))
        noted.append(number)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        number, frame = received[0]
        handlers[number](number, frame)
