"""The spaces and probe sets of a registry, which a process remembers as long as the file stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from modelspace.registry.connection import identity_of
from modelspace.registry.rows import ProbeRow, SpaceRow
from modelspace.registry.store import Registry


class Catalogue(NamedTuple):
    """What a registry compares models in.

    Attributes:
        registry_id: the registry's id.
        spaces: in order of creation.
        probe_sets: in order of creation.
    """

    registry_id: str
    spaces: tuple[SpaceRow, ...]
    probe_sets: tuple[ProbeRow, ...]


#: By path, with the identity of the file.
_known: dict[Path, tuple[tuple[int, ...], Catalogue]] = {}


def of_file(path: Path) -> Catalogue:
    """The spaces and probe sets of a registry, which is opened only if its file has changed since they were read.

    Raises:
        ModelspaceError: as `Registry.open`.
    """
    file = path.resolve()
    known = _known.get(file)
    if known is not None and known[0] == identity_of(file):
        return known[1]
    with Registry.open(path) as registry:
        return remember(registry)


def remember(registry: Registry) -> Catalogue:
    """The spaces and probe sets of a registry that is open for reading, for `of_file`."""
    catalogue = Catalogue(registry.registry_id, tuple(registry.spaces()), tuple(registry.probe_sets()))
    identity = identity_of(registry.path)
    if identity is not None and not registry.connection.write:
        _known[registry.path] = identity, catalogue
    return catalogue
