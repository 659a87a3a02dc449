"""A registry that stays open between queries, until a process asks to write.

A reader that stays open holds DuckDB's lock, which keeps writers of all processes out. But every writer of modelspace
first locks the file `<registry>.lock` (`modelspace.registry.connection`), so a thread looks for that lock every
`_LOOK_S` seconds, and closes the registry as soon as no query uses it: a writer waits that much longer, and no more.
The next query opens it again, after the writer. A program that opens the file with DuckDB itself, for writing or in
this process, finds it in use; that is why nothing is kept unless the caller says so.

What a query reads is the present state: as long as the registry is open no process can write to it, and if the file has
changed all the same (it was replaced, or its lock was lost because this process opened the file by other means), it is
opened again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelspace import temporary
from modelspace.home import state_of
from modelspace.registry.store import Registry

#: Seconds between two looks for a writer.
_LOOK_S = 0.02

#: Bytes of models' blocks that an open registry keeps in memory.
_KEPT_BYTES = 256 << 20

#: The registries that are kept, by their path without links.
_kept: dict[Path, _Kept] = {}
_kept_lock = threading.Lock()

#: Those of a parent process, which its child may neither use nor close.
_inherited: list[_Kept] = []


class _Kept:
    """One registry that is kept open.

    Attributes:
        path: the file.
        users: number of blocks that keep it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users = 1
        self._registry: Registry | None = None
        self._state: object = None
        self._in_use = threading.Lock()
        threading.Thread(target=self._watch, name="modelspace kept registry", daemon=True).start()

    def take(self) -> Registry | None:
        """The open registry, for one thread at a time; None if another one has it."""
        if not self._in_use.acquire(blocking=False):
            return None
        try:
            if self._registry is not None and (self._is_wanted() or self._state != state_of(self.path)):
                self._close()
            if self._registry is None:
                self._registry = Registry.open(self.path)
                self._registry.kept_bytes = _KEPT_BYTES
                self._state = state_of(self.path)
            return self._registry
        except BaseException:
            self._in_use.release()
            raise

    def give_back(self) -> None:
        """The end of the use that `take` began."""
        try:
            if self._is_wanted() or not self.users:
                self._close()
        finally:
            self._in_use.release()

    def close(self) -> None:
        """Close it, once no query uses it."""
        with self._in_use:
            self._close()

    def _close(self) -> None:
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.close()

    def _is_wanted(self) -> bool:
        """Whether a process holds the writers' lock, or waits for the readers with it."""
        return temporary.is_locked(f"{self.path}.lock")

    def _watch(self) -> None:
        while self.users:
            time.sleep(_LOOK_S)
            if self._registry is not None and self._is_wanted() and self._in_use.acquire(blocking=False):
                try:
                    self._close()
                finally:
                    self._in_use.release()


@contextmanager
def kept_open(path: Path) -> Iterator[None]:
    """Keep a registry open in the block, between the uses of `reading`, whenever no process wants to write to it."""
    if os.name != "posix":  # Windows, where the writers' lock can't be seen
        yield
        return
    key = path.resolve()
    with _kept_lock:
        if (kept := _kept.get(key)) is None:
            kept = _kept[key] = _Kept(key)
        else:
            kept.users += 1
    try:
        yield
    finally:
        with _kept_lock:
            kept.users -= 1
            if not kept.users and _kept.get(key) is kept:
                del _kept[key]
        if not kept.users and kept not in _inherited:
            kept.close()


@contextmanager
def reading(path: Path) -> Iterator[Registry]:
    """A registry that is open for reading in the block: the kept one if it is free, else one that is opened for it.

    Raises:
        ModelspaceError: as `Registry.open`.
    """
    kept = _kept.get(path.resolve()) if _kept else None
    registry = kept.take() if kept is not None else None
    if kept is None or registry is None:
        with Registry.open(path) as opened:
            yield opened
        return
    try:
        yield registry
    finally:
        kept.give_back()


def _forget() -> None:
    """In a forked process: its parent's registries are not its own, and closing them would wait for lost threads."""
    _inherited.extend(_kept.values())
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
