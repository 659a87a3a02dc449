"""Files next to an index that are made from what a registry stores of a space, and stay open between queries."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelspace.files import file_identity
from modelspace.home import INDEX
from modelspace.registry import Registry

Opened = TypeVar("Opened")

#: A file is written again if it lacks more than this share of the models.
LACKING = 0.1

#: Files of a kind that a process keeps open.
_MOST_KEPT = 8


class State(NamedTuple):
    """What a file must be of to be used.

    Attributes:
        owner: id of the registry.
        epoch: of the space: another one whenever something changes of models that stay. The number of a model is never
            given again.
    """

    owner: bytes
    epoch: int


class HasState(Protocol):
    """A file that says what it was written for."""

    state: State


OfState = TypeVar("OfState", bound=HasState)


def state_of(registry: Registry, space_id: str) -> State:
    """The state of a space in a registry."""
    return State(registry.registry_id.encode().ljust(36, b"\0"), registry.space(space_id).epoch)


def current(file: OfState | None, registry: Registry, space_id: str) -> OfState | None:
    """A file, if there is one and it is of the state that its space is in."""
    return file if file is not None and file.state == state_of(registry, space_id) else None


def path_of(registry: Registry, space_id: str, suffix: str) -> Path:
    """Where the file of a space is."""
    return registry.path.parent / INDEX / f"{space_id}{suffix}"


def has_nearly_all(known: NDArray[np.int64], ids: NDArray[np.int64]) -> bool:
    """Whether a file with some models, perhaps others too, need not be written again for these."""
    return int(np.isin(ids, known).sum()) >= (1 - LACKING) * len(ids)


class KeptFiles(Generic[Opened]):
    """The files of a kind that were used last.

    Args:
        open_file: opens one; returns None if it is no such file.
    """

    def __init__(self, open_file: Callable[[Path], Opened | None]) -> None:
        self._open = open_file
        self._kept: OrderedDict[Path, tuple[tuple[int, ...], Opened | None]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> Opened | None:
        """The file at a path as it is now; None if there is no such file."""
        identity = file_identity(path)
        if identity is None:
            return None
        with self._lock:
            known = self._kept.get(path)
            if known is None or known[0] != identity:
                known = self._kept[path] = identity, self._open(path)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(path)
            return known[1]
