"""The next batch is prepared in a thread while the model runs on the present one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from modelspace.timing import phase

Item = TypeVar("Item")
Ready = TypeVar("Ready")

#: Seconds after which a wait looks again whether it still has a reason, and a time limit can end it.
_WAIT = 0.05


def ahead(items: Iterable[Item], prepare: Callable[[Item], Ready]) -> Generator[Ready, None, None]:
    """`prepare(item)` of each item, in order, at most two items ahead of what was taken.

    Items are read and prepared in one thread. It has ended when the iterator is exhausted or closed: close it
    (`contextlib.closing`) where the loop may end early.

    Args:
        items: read in the thread alone.
        prepare: called in the thread alone.

    Raises:
        BaseException: what `items` or `prepare` raised, when its turn comes.
    """
    reader = _Reader(items, prepare)
    reader.thread.start()
    try:
        while True:
            with phase("images"):
                ready = reader.next()
            if ready is None:
                return
            yield ready[0]
    finally:
        reader.stop()


class _Reader(Generic[Item, Ready]):
    """The thread, and the place where it leaves what is ready: (value,), an exception, or None at the end."""

    def __init__(self, items: Iterable[Item], prepare: Callable[[Item], Ready]) -> None:
        self._items = items
        self._prepare = prepare
        self._left: Queue[tuple[Ready] | BaseException | None] = Queue(maxsize=1)
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="modelspace images", daemon=True)

    def next(self) -> tuple[Ready] | None:
        """What is ready next, in a tuple; None at the end."""
        while True:
            try:
                # A wait without an end would keep exceptions that a time limit sets in this thread from being raised.
                ready = self._left.get(timeout=_WAIT)
            except Empty:
                continue
            if isinstance(ready, BaseException):
                raise ready
            return ready

    def stop(self) -> None:
        """End the thread; returns when it has ended, after the item that it is at."""
        self._stopped.set()
        self.thread.join()

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for item in self._items:
                if not self._leave((self._prepare(item),)):
                    return
        except BaseException as error:
            last = error
        self._leave(last)

    def _leave(self, ready: tuple[Ready] | BaseException | None) -> bool:
        """Leave it for the caller; False if it wants nothing any more."""
        while not self._stopped.is_set():
            try:
                self._left.put(ready, timeout=_WAIT)
            except Full:
                continue
            return True
        return False
