"""The kinds of probe sets: how each is made, and where its pixels come from."""

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
        name: of the kind; a built-in set is requested by it.
        is_rendered: whether images are rendered on demand; otherwise their pixels are stored.
        is_built_in: whether a set needs no files from the user.
        module: has the functions ``check(probe_set, images, first, count)`` and ``take(...)``, with the same arguments.
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
        """A built-in set, and its images (N, size, size, 3) uint8 if they are to be stored.

        Raises:
            ProbeError: its images are not available.
            UsageError: an argument is out of range.
        """

    @abstractmethod
    def require_same(self, probe_set: ProbeSet, images: Iterable[np.ndarray]) -> None:
        """Make sure that the images of a set from elsewhere match its fingerprint.

        Args:
            probe_set: the set.
            images: its stored images, (size, size, 3) uint8 each; empty for a rendered set.

        Raises:
            ProbeError: they do not match: maps of different images would be compared.
        """

    def check(self, probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> None:
        """Make sure that images first .. first + count - 1 are available; see `modelspace.probes.batches`."""
        self._source().check(probe_set, images, first, count)

    def take(self, probe_set: ProbeSet, images: np.ndarray | None, first: int, count: int) -> np.ndarray:
        """(count, size, size, 3) uint8, starting at image `first`."""
        pixels: np.ndarray = self._source().take(probe_set, images, first, count)
        return pixels

    def _source(self) -> Any:
        return importlib.import_module(self.module)


class RenderedKind(ProbeKind):
    """Images of a rendered world. They need no files; image k depends only on the seed and on k."""

    is_rendered = True

    def __init__(self, world: World) -> None:
        super().__init__(world.name, "modelspace.probes.rendered")

    def make(self, n_images: int | None = None, size: int | None = None, seed: int = 0) -> tuple[ProbeSet, None]:
        """See `ProbeKind.make`; no images are stored."""
        return self._source().describe(self.name, n_images or DEFAULT_IMAGES, size or DEFAULT_SIZE, seed), None

    def require_same(self, probe_set: ProbeSet, images: Iterable[np.ndarray]) -> None:
        """See `ProbeKind.require_same`; compares renderer versions, without rendering."""
        current, _ = self.make(size=probe_set.size, seed=self._source().seed_of(probe_set))
        if current.probe_id != probe_set.probe_id:
            raise ProbeError(
                f"probe set {probe_set.name!r} is rendered differently by this version",
                "use the version of modelspace that made it",
            )


class StoredKind(ProbeKind):
    """Images whose pixels are stored in the registry."""

    def require_same(self, probe_set: ProbeSet, images: Iterable[np.ndarray]) -> None:
        """See `ProbeKind.require_same`; hashes the pixels."""
        if fingerprint(images, probe_set.size) != probe_set.probe_id:
            raise ProbeError(
                f"the images of probe set {probe_set.name!r} do not match its fingerprint",
                "restore that registry from a backup",
            )


class PhotographsKind(StoredKind):
    """Crops of photographs that other packages include."""

    def make(self, n_images: int | None = None, size: int | None = None, seed: int = 0) -> tuple[ProbeSet, np.ndarray]:
        """See `modelspace.probes.photographs`."""
        from modelspace.probes import crops

        return crops.make(DEFAULT_IMAGES if n_images is None else n_images, size or DEFAULT_SIZE, seed)


class FolderKind(StoredKind):
    """Images from a folder of the user."""

    is_built_in = False

    def make(self, n_images: int | None = None, size: int | None = None, seed: int = 0) -> tuple[ProbeSet, np.ndarray]:
        """Always raises: images are read by `modelspace.probes.folder`, which takes a path."""
        raise NotFoundError("a probe set from a folder needs its path", "give the path instead of the word 'folder'")


def _table(kinds: Sequence[ProbeKind]) -> Mapping[str, ProbeKind]:
    table: dict[str, ProbeKind] = {}
    for kind in kinds:
        if kind.name in table:
            raise ConflictError(f"two kinds of probe sets are called {kind.name!r}")
        table[kind.name] = kind
    return MappingProxyType(table)


#: Kinds of probe sets by name: one per world, and those whose pixels are stored.
KINDS = _table(
    [
        *(RenderedKind(world) for world in WORLDS.values()),
        PhotographsKind("photographs", "modelspace.probes.pictures"),
        FolderKind("folder", "modelspace.probes.pictures"),
    ]
)

#: Kinds that are rendered on demand; the pixels of the others are stored.
RENDERED = tuple(kind.name for kind in KINDS.values() if kind.is_rendered)

#: Names of the sets that need no files from the user.
BUILT_IN = tuple(kind.name for kind in KINDS.values() if kind.is_built_in)


def kind_of(probe_set: ProbeSet) -> ProbeKind:
    """The kind of a probe set.

    Raises:
        NotFoundError: this version has no such kind.
    """
    if probe_set.kind not in KINDS:
        raise NotFoundError(
            f"probe set {probe_set.name!r} has the unknown kind {probe_set.kind!r}",
            did_you_mean(probe_set.kind, KINDS, f"known kinds: {', '.join(sorted(KINDS))}"),
        )
    return KINDS[probe_set.kind]
