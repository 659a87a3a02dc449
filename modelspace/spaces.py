"""Probe sets and spaces of a registry: making them, and reading the images back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelspace import names, probes
from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.registry import ProbeRow, Registry
from modelspace.types import SpaceSpec

if TYPE_CHECKING:
    from modelspace.probes import ProbeSet

DEFAULT_METHODS = ("gradient_x_input",)
DEFAULT_PROBES = "rooms"
DEFAULT_IMAGES = 200
DEFAULT_CANVAS = 64
DEFAULT_BITS = 8

#: Name and PNG bytes of each image; None for a set that is rendered.
Pictures = list[tuple[str, bytes]] | None


@dataclass(frozen=True)
class ProbeChoice:
    """What the user says of a probe set.

    Attributes:
        source: "rooms", the name of a registered set, a folder of images, or a `ProbeSet` of rooms.
        images: how many; None for the default, or all of a folder.
        per_subfolder: so many of each subfolder.
        size: side of the stored or rendered images in pixels.
        seed: of the rooms, or of the choice of images.
    """

    source: str | Path | ProbeSet = DEFAULT_PROBES
    images: int | None = None
    per_subfolder: int | None = None
    size: int | None = None
    seed: int = 0


def new_probe_set(choice: ProbeChoice, name: str | None = None) -> tuple[ProbeRow, Pictures]:
    """A probe set that is not registered yet.

    Raises:
        NotFoundError: the source is neither "rooms" nor a folder.
        ProbeError: an image can't be read; it is named.
    """
    source = choice.source
    size = {"size": choice.size} if choice.size else {}
    pictures: Pictures = None
    if isinstance(source, probes.ProbeSet):
        made = source
    elif str(source) == "rooms":
        made = probes.rooms(seed=choice.seed, **size)
    elif Path(source).is_dir():
        made, arrays = probes.folder(
            Path(source),
            name=name,
            n_images=choice.images,
            per_subfolder=choice.per_subfolder,
            seed=choice.seed,
            **size,
        )
        pictures = [(str(k), probes.encode_png(array)) for k, array in enumerate(arrays)]
    else:
        raise NotFoundError(
            f"there is no folder {source}", "give 'rooms', the name of a registered probe set, or a folder of images"
        )
    rendered = made.kind == "rooms"
    return (
        ProbeRow(
            probe_id=made.probe_id,
            name=name or made.name,
            kind=made.kind,
            spec=made.spec,
            n_images=None if rendered else made.n_images,
            size=made.size,
        ),
        pictures,
    )


def choose_probe_set(path: Path, choice: ProbeChoice) -> tuple[ProbeRow, Pictures]:
    """A registered set by its name, or a new one."""
    source = choice.source
    if isinstance(source, str) and path.is_file() and not Path(source).is_dir():
        with Registry.open(path) as registry:
            sets = registry.probe_sets()
        for row in sets:
            # "rooms" with another seed is another set, not the registered one of that name.
            if row.name == source and (source != "rooms" or row.spec.get("seed") == choice.seed):
                return row, None
        if source != "rooms":
            known = [row.name for row in sets]
            raise NotFoundError(
                f"there is no probe set {source!r}, and no folder of that name",
                names.did_you_mean(source, [*known, "rooms"], "'modelspace probes list' shows the probe sets"),
            )
    return new_probe_set(choice)


def create_probes(path: Path, name: str, choice: ProbeChoice) -> ProbeRow:
    """Register a probe set under a name; the same set again is the one that is there."""
    row, pictures = new_probe_set(choice, names.check_name(name, "probe set"))
    ensure_registry(path)
    with Registry.open(path, write=True) as registry, registry.transaction():
        for other in registry.probe_sets():
            if other.probe_id == row.probe_id:
                return other
            if other.name == name:
                raise ConflictError(f"there is a probe set {name!r} with other images", "choose another name")
        registry.add_probe_set(row, pictures)
    return row


def ensure_registry(path: Path) -> None:
    """An empty registry, if there is none."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        Registry.create(path)


def create_spaces(
    path: Path,
    choice: ProbeChoice,
    methods: Sequence[str],
    canvas: int,
    bits: int,
    name: str | None,
    default: bool,
) -> list[str]:
    """Make the spaces that are not there yet, and the registry with them; returns the names of all asked for."""
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"method {method!r} is not known", f"use one of: {', '.join(METHODS)}")
    if not methods or (name is not None and len(methods) != 1):
        raise UsageError("a name is for one space, that is one method", "make named spaces one by one")
    if name is not None:
        names.check_name(name, "space")
    row, pictures = choose_probe_set(path, choice)
    count = choice.images if choice.images is not None else min(DEFAULT_IMAGES, row.n_images or DEFAULT_IMAGES)
    if count < 2 or (row.n_images is not None and count > row.n_images):
        there = f"probe set {row.name!r} has {row.n_images}" if row.n_images is not None else "at least 2 are needed"
        raise UsageError(f"a space can't have {count} probe images: {there}", "choose another number with --images")
    specs = [
        SpaceSpec(
            name=name or method,
            probe_id=row.probe_id,
            method=method,
            n_images=count,
            canvas=canvas,
            bits=bits,
            parameters=dict(METHODS[method].defaults),
        )
        for method in dict.fromkeys(methods)
    ]
    ensure_registry(path)
    made = []
    with Registry.open(path, write=True) as registry, registry.transaction():
        known = {space.spec.space_id: space.spec.name for space in registry.spaces()}
        sets = registry.probe_sets()
        if row.probe_id not in {probe.probe_id for probe in sets}:
            row = _with_free_probe_name(row, {probe.name for probe in sets})
            registry.add_probe_set(row, pictures)
        for spec in specs:
            if spec.space_id not in known:
                spec = _with_free_name(spec, set(known.values()), row, explicit=name is not None)
                registry.add_space(spec, default=not known)
                known[spec.space_id] = spec.name
            made.append(known[spec.space_id])
        if default:
            registry.set_default_space(made[0])
    return made


def _with_free_probe_name(row: ProbeRow, taken: set[str]) -> ProbeRow:
    return row if row.name not in taken else replace(row, name=f"{row.name}-{row.probe_id[:8]}")


def _with_free_name(spec: SpaceSpec, taken: set[str], row: ProbeRow, *, explicit: bool) -> SpaceSpec:
    """A space needs a name of its own; one that the user chose is never changed silently."""
    if spec.name not in taken:
        return spec
    if explicit:
        raise ConflictError(f"there is a space {spec.name!r} with another definition", "choose another name")
    candidates = (
        f"{spec.method}-{row.name}",
        f"{spec.method}-{row.name}-{spec.n_images}x{spec.canvas}-{spec.bits}bit",
    )
    return replace(
        spec, name=next((name for name in candidates if name not in taken), f"{spec.method}-{spec.space_id}")
    )


def images(path: Path, row: ProbeRow, first: int, count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Batches of a registered probe set's images, (b, side, side, 3) uint8, from image `first` on.

    The registry is open only while stored images are read, so that a long pass blocks no writer.
    """
    if row.kind == "rooms":
        made = probes.ProbeSet(row.name, row.kind, dict(row.spec), first + count, row.size, row.probe_id)
        yield from probes.batches(made, None, first, count, batch_size)
        return
    for start in range(first, first + count, batch_size):
        with Registry.open(path) as registry:
            stored = registry.probe_images(row.probe_id, start, min(batch_size, first + count - start))
        yield np.stack([probes.decode_png(png) for png in stored])
