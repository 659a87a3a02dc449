"""Plug-ins: rows of tables that other installed packages bring, as entry points.

A package that declares

    [project.entry-points."modelspace.sources"]
    npz = "modelspace_npz:SOURCE"

adds the row `SOURCE` to the table of sources; the group `modelspace.methods` is the same for attribution methods. Entry
points are read, and the modules that they name imported, when a name is looked up that is not built in, or a table is
listed: queries of registered names import none of them.

A plug-in that can't be imported, or whose name is taken, is left out with a `PlugInWarning` that names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class PlugInWarning(UserWarning):
    """A plug-in that can't be used; the rest of the program works."""


class Table(Mapping[str, T], Generic[T]):
    """Rows by name: the built-in ones, then those of plug-ins.

    Args:
        built_in: the rows of this package.
        group: the group of entry points with further rows.
        kind: the class of a row.
        key: the attribute of a row that has its name.
        check: raises an exception for a row that can't be used, with the reason as its text.
    """

    def __init__(
        self, built_in: Mapping[str, T], group: str, kind: type[T], key: str, check: Callable[[T], None] | None = None
    ) -> None:
        self.built_in: Mapping[str, T] = MappingProxyType(dict(built_in))
        self._group, self._kind, self._key, self._check = group, kind, key, check
        self._added: Mapping[str, T] | None = None

    def __getitem__(self, name: str) -> T:
        if name in self.built_in:
            return self.built_in[name]
        return self.added[name]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.added

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from self.added

    def __len__(self) -> int:
        return len(self.built_in) + len(self.added)

    @property
    def added(self) -> Mapping[str, T]:
        """The rows of plug-ins; read once per process."""
        if self._added is None:
            self._added = {}  # a plug-in that looks a name up while it is imported finds the built-in rows
            self._added = self._read()
        return self._added

    def _read(self) -> dict[str, T]:
        from importlib.metadata import entry_points

        rows: dict[str, T] = {}
        for point in sorted(entry_points(group=self._group), key=lambda point: (_package(point), point.name)):
            try:
                row = self._row(point)
                name = str(getattr(row, self._key))
                if name in self.built_in or name in rows:
                    raise ValueError(f"{name!r} is taken" + ("" if name in self.built_in else " by another plug-in"))
            # Whatever the code of somebody else's package raises, the program goes on; an interruption is none of it.
            except Exception as error:
                text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
                warnings.warn(
                    f"the plug-in {point.name!r} of the package {_package(point)} is left out: {text}",
                    PlugInWarning,
                    stacklevel=2,
                )
                continue
            rows[name] = row
        return rows

    def _row(self, point: EntryPoint) -> T:
        row: Any = point.load()
        if not isinstance(row, self._kind):
            raise ValueError(f"{point.value} is a {type(row).__name__}, not a {self._kind.__name__}")
        if self._check is not None:
            self._check(row)
        return row


def _package(point: EntryPoint) -> str:
    return str(point.dist.name) if point.dist is not None else point.module
