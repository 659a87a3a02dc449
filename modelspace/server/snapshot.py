"""What a worker keeps between requests: answers to equal requests, for as long as the registry's file is the same.

A registry is open while a request reads it, and at most `LEASE_S` longer, so that requests in quick succession share
one opening, which takes 40 ms. A process that wants to write is let in at once: then nothing is held.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modelspace import temporary
from modelspace.errors import ModelspaceError
from modelspace.home import state_of
from modelspace.registry import Registry

#: Seconds for which a registry stays open after it was opened.
LEASE_S = 0.2
#: Seconds between looks at whether somebody wants to write.
_LOOK_S = 0.02

#: Bytes of all answers that are kept, and of one.
MOST_BYTES, MOST_ONE = 64 << 20, 16 << 20


class Snapshot:
    """The answers to requests on one registry.

    Args:
        path: the registry file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._state: object = None
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        #: Requests in progress: a lock, and the number of threads that hold it or wait for it.
        self._computing: dict[str, tuple[threading.Lock, int]] = {}
        self._lease = Lease(path)

    def answer(self, key: str, compute: Callable[[], bytes]) -> bytes:
        """The answer to a request: as it was computed on the same state of the registry, or else computed.

        Args:
            key: the request; equal requests have the same answer on the same state.
            compute: computes it.

        Raises:
            OSError: there is no registry.
            ModelspaceError: as `compute`.
        """
        with self._lock_of(key):
            state = self._present()
            known = self._known(state, key)
            if known is not None:
                return known
            self._lease.renew()
            body = compute()
            # It may be of either state if there was a change in between, so then it is not kept.
            if self._present() == state:
                self._keep(state, key, body)
            return body

    def known(self, key: str) -> bytes | None:
        """The answer to a request if it is in memory, else None.

        Raises:
            OSError: there is no registry.
        """
        return self._known(self._present(), key)

    def _present(self) -> object:
        """The state of the registry.

        Raises:
            OSError: there is no registry.
        """
        state = state_of(self._path)
        if state[0] is None:
            raise FileNotFoundError(self._path)
        return state

    @contextmanager
    def _lock_of(self, key: str) -> Iterator[None]:
        """In the block no other thread computes the same answer: it waits, and then finds it."""
        with self._lock:
            lock, count = self._computing.get(key, (threading.Lock(), 0))
            self._computing[key] = (lock, count + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                count = self._computing[key][1] - 1
                if count:
                    self._computing[key] = (lock, count)
                else:
                    del self._computing[key]

    def close(self) -> None:
        """Release the registry."""
        self._lease.end()

    def _known(self, state: object, key: str) -> bytes | None:
        with self._lock:
            if state != self._state:
                self._state, self._bytes = state, 0
                self._answers.clear()
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def _keep(self, state: object, key: str, body: bytes) -> None:
        with self._lock:
            if state != self._state or key in self._answers or len(body) > MOST_ONE:
                return
            self._answers[key] = body
            self._bytes += len(body) + len(key)
            while self._bytes > MOST_BYTES:
                oldest, dropped = self._answers.popitem(last=False)
                self._bytes -= len(dropped) + len(oldest)


class Lease:
    """A registry that is open for a moment, so that what opens it again in this process is fast.

    Args:
        path: the registry file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._registry: Registry | None = None

    def renew(self) -> None:
        """Open the registry for `LEASE_S` seconds, unless it is open, or somebody wants to write."""
        if self._is_wanted():
            return
        with self._lock:
            if self._registry is not None:
                return
            try:
                self._registry = Registry.open(self._path)
            except ModelspaceError:
                return  # the request itself will meet the error
            threading.Thread(target=self._run_out, name="modelspace lease", daemon=True).start()

    def end(self) -> None:
        """Release the registry."""
        with self._lock:
            registry, self._registry = self._registry, None
        if registry is not None:
            registry.close()

    def _is_wanted(self) -> bool:
        return temporary.is_locked(f"{self._path}.lock", unreadable=False)

    def _run_out(self) -> None:
        deadline = time.monotonic() + LEASE_S
        while time.monotonic() < deadline and not self._is_wanted():
            time.sleep(_LOOK_S)
        self.end()
