"""The probe sets of a registry: registering them, and reading their images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelspace import names, probes
from modelspace.errors import ConflictError, NotFoundError, UsageError, unwritable
from modelspace.files import is_folder
from modelspace.home import check_folder
from modelspace.registry import ProbeRow, Registry
from modelspace.timing import phase

if TYPE_CHECKING:
    from modelspace.probes import ProbeSet

DEFAULT_PROBES = "rooms"

#: Name and PNG bytes of each image; None for a rendered set.
Pictures = list[tuple[str, bytes]] | None


@dataclass(frozen=True)
class ProbeChoice:
    """A probe set as a caller specifies it.

    Attributes:
        source: one of `probes.BUILT_IN`, the name of a registered set, a folder of images (a `Path` is always a
            folder), or a `ProbeSet` of a rendered world.
        images: number of images; None for the default, or for all of a folder. Any number can be rendered.
        per_subfolder: number of images from each subfolder.
        size: side of the stored or rendered images in pixels.
        seed: of the rendered world, the crops, or the choice of images.
    """

    source: str | Path | ProbeSet = DEFAULT_PROBES
    images: int | None = None
    per_subfolder: int | None = None
    size: int | None = None
    seed: int = 0


def new_probe_set(choice: ProbeChoice, name: str | None = None) -> tuple[ProbeRow, Pictures]:
    """Make a probe set that is not registered yet.

    Raises:
        NotFoundError: the source is neither built in nor a folder.
        ProbeError: an image can't be read; the message names it.
    """
    source = choice.source
    arrays: Iterable[np.ndarray] | None = None
    if isinstance(source, probes.ProbeSet):
        probe_set = source
        if not probes.kind_of(probe_set).is_rendered:
            raise UsageError(
                f"probe set {source.name!r} has no images with it", "give its folder, or the name of a built-in set"
            )
    elif source in probes.BUILT_IN:
        probe_set, arrays = probes.KINDS[str(source)].make(choice.images, choice.size, choice.seed)
    elif is_folder(Path(source)):
        size = {"size": choice.size} if choice.size else {}
        probe_set, arrays = probes.folder(
            Path(source),
            name=name,
            n_images=choice.images,
            per_subfolder=choice.per_subfolder,
            seed=choice.seed,
            **size,
        )
    else:
        raise NotFoundError(
            f"there is no folder {source}",
            f"give {', '.join(probes.BUILT_IN)}, the name of a registered probe set, or a folder of images",
        )
    row = ProbeRow(
        probe_id=probe_set.probe_id,
        name=name or probe_set.name,
        kind=probe_set.kind,
        spec=probe_set.spec,
        n_images=None if probes.kind_of(probe_set).is_rendered else probe_set.n_images,
        size=probe_set.size,
    )
    return row, None if arrays is None else [(str(k), probes.encode_png(array)) for k, array in enumerate(arrays)]


def choose_probe_set(path: Path, choice: ProbeChoice) -> tuple[ProbeRow, Pictures]:
    """The registered set of this name, or a new set."""
    source = choice.source
    if isinstance(source, str) and path.is_file() and (source in probes.BUILT_IN or not Path(source).is_dir()):
        with Registry.open(path) as registry:
            sets = registry.probe_sets()
        for row in sets:
            # "rooms" with another seed or more photographs is a different set from the registered "rooms".
            has_enough = row.n_images is None or (choice.images or 0) <= row.n_images
            is_same = has_enough and row.spec.get("seed") == choice.seed
            if row.name == source and (source not in probes.BUILT_IN or is_same):
                return row, None
        if source not in probes.BUILT_IN:
            known = [row.name for row in sets]
            raise NotFoundError(
                f"there is no probe set {source!r}, and no folder of that name",
                names.did_you_mean(source, [*known, *probes.BUILT_IN], "`space.probe_sets()` shows the probe sets"),
            )
    return new_probe_set(choice)


def create_probes(path: Path, name: str, choice: ProbeChoice) -> ProbeRow:
    """Register a probe set under a name. If it is registered already, return the existing row."""
    row, pictures = new_probe_set(choice, names.check_name(name, "probe set"))
    ensure_registry(path)
    with Registry.open(path, write=True) as registry, registry.transaction():
        for other in registry.probe_sets():
            if other.probe_id == row.probe_id:
                return other
            if other.name == name:
                raise ConflictError(f"probe set {name!r} exists with other images", "choose another name")
        registry.add_probe_set(row, pictures)
    return row


def ensure_registry(path: Path) -> None:
    """Create an empty registry if there is none."""
    check_folder(path.parent)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path.parent, error) from None
        Registry.create(path)


def with_free_name(row: ProbeRow, taken: set[str]) -> ProbeRow:
    """The set, with its fingerprint appended to its name if that is taken."""
    return row if row.name not in taken else replace(row, name=f"{row.name}-{row.probe_id[:8]}")


def described(row: ProbeRow, n_images: int) -> ProbeSet:
    """A registered set as a `ProbeSet`; `n_images` is for rendered sets, which store no number."""
    return probes.ProbeSet(row.name, row.kind, dict(row.spec), row.n_images or n_images, row.size, row.probe_id)


@dataclass(frozen=True)
class Images:
    """The first images of a registered probe set, in batches; can be iterated over repeatedly. See `images`."""

    path: Path
    row: ProbeRow
    count: int
    batch_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return images(self.path, self.row, 0, self.count, self.batch_size)


def images(path: Path, row: ProbeRow, first: int, count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Batches of a registered probe set's images, (b, side, side, 3) uint8, starting at image `first`.

    The registry is open only while stored images are read, so a long pass does not block writers.
    """
    batches = _batches(path, row, first, count, batch_size)
    while True:
        with phase("images"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _batches(path: Path, row: ProbeRow, first: int, count: int, batch_size: int) -> Iterator[np.ndarray]:
    probe_set = described(row, first + count)
    if probes.kind_of(probe_set).is_rendered:
        yield from probes.batches(probe_set, None, first, count, batch_size)
        return
    last = first + count if row.n_images is None else min(first + count, row.n_images)
    for start in range(first, last, batch_size):
        yield np.stack(_decoded.images(path, row, start, min(start + batch_size, last), last))


class _Decoded:
    """Stored images that this process has read, so that it reads and decodes them once, not once per model.

    The id of a probe set is a fingerprint of its images, so that they never change.

    Args:
        most_bytes: of decoded images that are kept; a set of more is read batch by batch each time.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._sets: dict[tuple[Path, str], dict[int, bytes | np.ndarray]] = {}

    def images(self, path: Path, row: ProbeRow, start: int, end: int, last: int) -> list[np.ndarray]:
        """Images start .. end - 1 of a set, each (side, side, 3) uint8; those up to `last` are read along with them."""
        keep = last * row.size**2 * 3 <= self.most_bytes
        stored = self._stored((path.absolute(), row.probe_id)) if keep else {}
        if any(k not in stored for k in range(start, end)):
            with Registry.open(path) as registry:
                pngs = registry.probe_images(row.probe_id, start, (last if keep else end) - start)
            for k, png in enumerate(pngs, start):
                stored.setdefault(k, png)
        for k in range(start, end):
            if isinstance(png := stored.get(k), bytes):
                stored[k] = probes.decode_png(png)
                stored[k].setflags(write=False)  # type: ignore[union-attr]
        return [image for k in range(start, end) if isinstance(image := stored.get(k), np.ndarray)]

    def _stored(self, key: tuple[Path, str]) -> dict[int, bytes | np.ndarray]:
        """What is kept of a set; of other sets nothing, if that would be too much."""
        if key not in self._sets and sum(map(_size, self._sets.values())) > self.most_bytes:
            self._sets.clear()
        return self._sets.setdefault(key, {})


def _size(images: Mapping[int, bytes | np.ndarray]) -> int:
    return sum(image.nbytes if isinstance(image, np.ndarray) else len(image) for image in images.values())


#: 5,000 images of 128 x 128 pixels are as large.
_decoded = _Decoded(256 << 20)
