"""The kinds of probe sets: how each is made, and where the pixels of its images come from."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from modelspace.errors import ConflictError, NotFoundError, ProbeError
from modelspace.names import did_you_mean
from modelspace.probes.base import DEFAULT_IMAGES, DEFAULT_SIZE, ProbeSet, fingerprint
from modelspace.worlds import WORLDS, World

if TYPE_CHECKING:
    import numpy as np


class ProbeKind(ABC):
    """One kind of probe set.

    Attributes:
        name: of the kind; for a built-in set also the word that asks for it.
        is_rendered: whether images are rendered as they are asked for; else their pixels are stored.
        is_built_in: whether a set needs no files of the user's.
        module: yields the images with ``check(probe_set, images, first, count)`` and ``take(...)`` of the same arguments.
    """

    is_rendered: ClassVar[bool] = False
    is_built_in: ClassVar[bool] = True

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.module = module

    @abstractmethod
    def make(
        self, n_images: int | None = None, size: int | None = None, seed: int = 0
    ) -> tuple[ProbeSet, np.ndarray | None]:
        """A built-in set, and its images (N, size, size, 3) uint8 where they are to be stored.

        Raises:
            ProbeError: its images can't be had.
            UsageError: an argument is out of range.
        """

    @abstractmethod
    def require_same(self, probe_set: ProbeSet, images: Iterable[np.ndarray]) -> None:
        """Make sure that a set from elsewhere shows what its fingerprint says.

        Args:
            probe_set: the set.
            images: its stored images, (size, size, 3) uint8 each; none of a rendered one.

        Raises:
            ProbeError: it shows something else: maps of other images would pass for comparable.
        """

    def check(self, probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> None:
        """Make sure that images first .. first + count - 1 can be had; see `modelspace.probes.batches`."""
        self._source().check(probe_set, images, first, count)

    def take(self, probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> np.ndarray:
        """(count, size, size, 3) uint8, from image `first` on."""
        taken: np.ndarray = self._source().take(probe_set, images, first, count)
        return taken

    def _source(self) -> Any:
        return importlib.import_module(self.module)


class RenderedKind(ProbeKind):
    """Images of a rendered world: no files, image k depends on the seed and on k alone."""

    is_rendered = True

    def __init__(self, world: World) -> None:
        super().__init__(world.name, "modelspace.probes.rendered")

    def make(self, n_images: int | None = None, size: int | None = None, seed: int = 0) -> tuple[ProbeSet, None]:
        return self._source().describe(self.name, n_images or DEFAULT_IMAGES, size or DEFAULT_SIZE, seed), None

    def require_same(self, probe_set: ProbeSet, images: Iterable[np.ndarray]) -> None:
        here, _ = self.make(size=probe_set.size, seed=int(probe_set.spec.get("seed", 0)))
        if here.probe_id != probe_set.probe_id:
            raise ProbeError(
                f"probe set {probe_set.name!r} is rendered differently by this version",
                "use the modelspace that made it",
            )


class StoredKind(ProbeKind):
    """Images whose pixels are stored in the registry."""

    def require_same(self, probe_set: ProbeSet, images: Iterable[np.ndarray]) -> None:
        if fingerprint(images, probe_set.size) != probe_set.probe_id:
            raise ProbeError(
                f"the images of probe set {probe_set.name!r} are not those of its fingerprint",
                "restore a copy of that registry",
            )


class PhotographsKind(StoredKind):
    """Crops of photographs that other packages carry."""

    def make(self, n_images: int | None = None, size: int | None = None, seed: int = 0) -> tuple[ProbeSet, np.ndarray]:
        from modelspace.probes import crops

        return crops.make(DEFAULT_IMAGES if n_images is None else n_images, size or DEFAULT_SIZE, seed)


class FolderKind(StoredKind):
    """Images of the user's."""

    is_built_in = False

    def make(self, n_images: int | None = None, size: int | None = None, seed: int = 0) -> tuple[ProbeSet, np.ndarray]:
        raise NotFoundError("a probe set of a folder needs the folder", "name it in place of the word 'folder'")


def _table(kinds: Sequence[ProbeKind]) -> Mapping[str, ProbeKind]:
    table: dict[str, ProbeKind] = {}
    for kind in kinds:
        if kind.name in table:
            raise ConflictError(f"there are two kinds of probe sets called {kind.name!r}")
        table[kind.name] = kind
    return MappingProxyType(table)


#: Kinds of probe sets by name: one for every world, and those whose pixels are stored.
KINDS = _table(
    [
        *(RenderedKind(world) for world in WORLDS.values()),
        PhotographsKind("photographs", "modelspace.probes.pictures"),
        FolderKind("folder", "modelspace.probes.pictures"),
    ]
)

#: Kinds that are rendered as they are asked for; the pixels of the others are stored.
RENDERED = tuple(kind.name for kind in KINDS.values() if kind.is_rendered)

#: Sets that need no files of the user's, by the word that asks for them.
BUILT_IN = tuple(kind.name for kind in KINDS.values() if kind.is_built_in)


def kind_of(probe_set: ProbeSet) -> ProbeKind:
    """The kind of a probe set.

    Raises:
        NotFoundError: this version has no such kind.
    """
    if probe_set.kind not in KINDS:
        raise NotFoundError(
            f"probe set {probe_set.name!r} is of an unknown kind, {probe_set.kind!r}",
            did_you_mean(probe_set.kind, KINDS, f"known kinds: {', '.join(sorted(KINDS))}"),
        )
    return KINDS[probe_set.kind]
