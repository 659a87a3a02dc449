"""Probe sets and spaces of a registry: making them, and reading the images back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelspace import names, probes
from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.registry import ProbeRow, Registry
from modelspace.spaces import affinity, hubness, predictability
from modelspace.types import BLEND, GEOMETRIES, SpaceSpec

if TYPE_CHECKING:
    from modelspace.probes import ProbeSet

DEFAULT_METHODS = ("gradient_x_input",)
#: The standard spaces beside that of the paper, and what the blend of them is called that queries use.
STANDARD_GEOMETRY, STANDARD_BLEND = "dds", "transfer"
DEFAULT_PROBES = "rooms"
DEFAULT_IMAGES = 200
DEFAULT_CANVAS = 64
DEFAULT_BITS = 8
#: A row of a kernel is a diagonal of one size and the rest of another: 8 bits over that range are coarse.
GEOMETRY_BITS = 16

#: Name and PNG bytes of each image; None for a set that is rendered.
Pictures = list[tuple[str, bytes]] | None


@dataclass(frozen=True)
class ProbeChoice:
    """What the user says of a probe set.

    Attributes:
        source: one of `probes.BUILT_IN`, the name of a registered set, a folder of images (a `Path` always is one), or a
            `ProbeSet` of a rendered world.
        images: how many; None for the default, or all of a folder. A rendered set has as many as are asked for.
        per_subfolder: so many of each subfolder.
        size: side of the stored or rendered images in pixels.
        seed: of the rendered world, of the crops, or of the choice of images.
    """

    source: str | Path | ProbeSet = DEFAULT_PROBES
    images: int | None = None
    per_subfolder: int | None = None
    size: int | None = None
    seed: int = 0


def new_probe_set(choice: ProbeChoice, name: str | None = None) -> tuple[ProbeRow, Pictures]:
    """A probe set that is not registered yet.

    Raises:
        NotFoundError: the source is neither built in nor a folder.
        ProbeError: an image can't be read; it is named.
    """
    source = choice.source
    size = {"size": choice.size} if choice.size else {}
    pictures: Pictures = None
    if isinstance(source, probes.ProbeSet):
        if source.kind not in probes.RENDERED:
            raise UsageError(
                f"probe set {source.name!r} comes without its images", "give its folder, or the name of a built-in set"
            )
        made = source
    elif source in probes.RENDERED:
        made = (probes.rooms if source == "rooms" else probes.yards)(seed=choice.seed, **size)
    elif source == "photographs":
        made, arrays = probes.photographs(choice.images or DEFAULT_IMAGES, seed=choice.seed, **size)
        pictures = [(str(k), probes.encode_png(array)) for k, array in enumerate(arrays)]
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
            f"there is no folder {source}",
            f"give {', '.join(probes.BUILT_IN)}, the name of a registered probe set, or a folder of images",
        )
    rendered = made.kind in probes.RENDERED
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
    if isinstance(source, str) and path.is_file() and (source in probes.BUILT_IN or not Path(source).is_dir()):
        with Registry.open(path) as registry:
            sets = registry.probe_sets()
        for row in sets:
            # "rooms" with another seed, or more photographs, is another set, not the registered one of that name.
            enough = row.n_images is None or (choice.images or 0) <= row.n_images
            fits = enough and row.spec.get("seed") == choice.seed
            if row.name == source and (source not in probes.BUILT_IN or fits):
                return row, None
        if source not in probes.BUILT_IN:
            known = [row.name for row in sets]
            raise NotFoundError(
                f"there is no probe set {source!r}, and no folder of that name",
                names.did_you_mean(source, [*known, *probes.BUILT_IN], "'modelspace probes list' shows the probe sets"),
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
    bits: int | None,
    name: str | None,
    default: bool,
    scalar: str = "sum",
) -> list[str]:
    """Make the spaces that are not there yet, and the registry with them; returns the names of all asked for."""
    for method in methods:
        if method not in METHODS and method not in GEOMETRIES:
            known = [*METHODS, *GEOMETRIES]
            raise UsageError(
                f"method {method!r} is not known", names.did_you_mean(method, known, f"use one of: {', '.join(known)}")
            )
        if scalar != "sum" and (method in GEOMETRIES or METHODS[method].captum):
            raise UsageError(
                f"a space of {method} has no scalar to choose",
                "--scalar goes with gradient_x_input, saliency and epsilon_lrp",
            )
    if not methods or (name is not None and len(methods) != 1):
        raise UsageError("a name is for one space, that is one method", "make named spaces one by one")
    if name is not None:
        names.check_name(name, "space")
    row, pictures = choose_probe_set(path, choice)
    count = choice.images if choice.images is not None else min(DEFAULT_IMAGES, row.n_images or DEFAULT_IMAGES)
    least = 3 if set(methods) & set(GEOMETRIES) else 2
    if count < least or (row.n_images is not None and count > row.n_images):
        there = (
            f"probe set {row.name!r} has {row.n_images}" if row.n_images is not None else f"at least {least} are needed"
        )
        raise UsageError(f"a space can't have {count} probe images: {there}", "choose another number with --images")
    specs = [
        SpaceSpec(
            name=name or (method if scalar == "sum" else f"{method}-{scalar}"),
            probe_id=row.probe_id,
            method=method,
            n_images=count,
            canvas=0 if method in GEOMETRIES else canvas,
            bits=bits or (GEOMETRY_BITS if method in GEOMETRIES else DEFAULT_BITS),
            scalar=scalar,
            parameters={} if method in GEOMETRIES else dict(METHODS[method].defaults),
        )
        for method in dict.fromkeys(methods)
    ]
    ensure_registry(path)
    made = []
    with Registry.open(path, write=True) as registry, registry.transaction():
        known_spaces = {space.spec.space_id: space.spec.name for space in registry.spaces()}
        sets = registry.probe_sets()
        if row.probe_id not in {probe.probe_id for probe in sets}:
            row = _with_free_probe_name(row, {probe.name for probe in sets})
            registry.add_probe_set(row, pictures)
        for spec in specs:
            if spec.space_id not in known_spaces:
                spec = _with_free_name(spec, set(known_spaces.values()), row, explicit=name is not None)
                registry.add_space(spec, default=not known_spaces)
                known_spaces[spec.space_id] = spec.name
            made.append(known_spaces[spec.space_id])
        if default:
            registry.set_default_space(made[0])
    return made


def create_standard(path: Path, choice: ProbeChoice, canvas: int, bits: int | None, default: bool) -> list[str]:
    """The standard spaces on a probe set: the paper's gradient*input, the features' kernels (dds), and over these the space
    `transfer`, whose rankings are directed; returns their names.

    A new registry's queries use `transfer`: of what was tried, it agreed best with transfer that was measured apart from where
    it was chosen, and finds models of the same task no worse than gradient*input does (docs/lab-book/evaluation.md). With too few
    images for it, gradient*input stays the default.
    """
    new = not path.is_file()
    if not new:
        with Registry.open(path) as registry:
            new = not registry.spaces()
    made = create_spaces(path, choice, DEFAULT_METHODS, canvas, bits, None, default)
    made += create_spaces(path, choice, (STANDARD_GEOMETRY,), canvas, None, None, False)
    with Registry.open(path) as registry:
        spec = registry.space(made[-1]).spec
        row = registry.probe_set(spec.probe_id)
        taken = {space.spec.name: space.spec for space in registry.spaces()}
    if spec.n_images < 2 * predictability.FOLDS:
        return made
    wanted = {"members": {spec.space_id: 1.0}, "hubs": hubness.NONE, "rerank": predictability.DIRECTED}
    there = next((name for name, other in taken.items() if other.parameters == wanted), None)
    candidates = (STANDARD_BLEND, f"{STANDARD_BLEND}-{row.name}", f"{STANDARD_BLEND}-{spec.space_id}")
    name = there or next(name for name in candidates if name not in taken)
    return [create_blend(path, name, {made[-1]: 1.0}, hubness.NONE, predictability.DIRECTED, default or new), *made]


def create_blend(
    path: Path, name: str, members: Mapping[str, float], hub_correction: str, rerank: str, default: bool
) -> str:
    """Make a blend of spaces, and fill it with the models that all of them hold; returns its name.

    Raises:
        UsageError: no members, a weight that is not above zero, members on different probe images or blends themselves.
        NotFoundError: a member is not there.
        ConflictError: the name belongs to another space.
    """
    names.check_name(name, "space")
    if not members or not all(math.isfinite(weight) and weight > 0 for weight in members.values()):
        raise UsageError(
            "a blend needs spaces with weights above zero", "example: --blend dds=0.5,gradient_x_input=0.5"
        )
    for value, allowed in ((hub_correction, hubness.CORRECTIONS), (rerank, predictability.RERANKINGS)):
        if value not in allowed:
            raise UsageError(f"{value!r} is not known", f"use one of: {', '.join(allowed)}")
    with Registry.open(path, write=True) as registry, registry.transaction():
        rows = {member: registry.space(member).spec for member in members}
        first = next(iter(rows.values()))
        for spec in rows.values():
            if spec.kind == BLEND:
                raise UsageError(f"{spec.name!r} is a blend itself", "name the spaces that it is made of")
            if (spec.probe_id, spec.n_images) != (first.probe_id, first.n_images):
                raise UsageError(
                    f"spaces {first.name!r} and {spec.name!r} have different probe images",
                    "blend spaces on the same images; 'modelspace spaces' lists them",
                )
        total = sum(members.values())
        weights: dict[str, float] = {}
        for member, weight in members.items():
            weights[rows[member].space_id] = weights.get(rows[member].space_id, 0.0) + weight / total
        spec = SpaceSpec(
            name=name,
            probe_id=first.probe_id,
            method=BLEND,
            n_images=first.n_images,
            canvas=0,
            bits=32,
            parameters={"members": weights, "hubs": hub_correction, "rerank": rerank},
        )
        if rerank == predictability.DIRECTED:
            affinity.features_of(registry, spec)
        there = next((row.spec.name for row in registry.spaces() if row.spec.space_id == spec.space_id), None)
        if there is None:
            registry.add_space(spec, default=default)
            affinity.fill(registry, spec)
        elif default:
            registry.set_default_space(there)
    return there or name


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


@dataclass(frozen=True)
class Images:
    """The first images of a registered probe set in batches, as often as they are asked for; see `images`."""

    path: Path
    row: ProbeRow
    count: int
    batch_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return images(self.path, self.row, 0, self.count, self.batch_size)


def images(path: Path, row: ProbeRow, first: int, count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Batches of a registered probe set's images, (b, side, side, 3) uint8, from image `first` on.

    The registry is open only while stored images are read, so that a long pass blocks no writer.
    """
    if row.kind in probes.RENDERED:
        made = probes.ProbeSet(row.name, row.kind, dict(row.spec), first + count, row.size, row.probe_id)
        yield from probes.batches(made, None, first, count, batch_size)
        return
    for start in range(first, first + count, batch_size):
        with Registry.open(path) as registry:
            stored = registry.probe_images(row.probe_id, start, min(batch_size, first + count - start))
        yield np.stack([probes.decode_png(png) for png in stored])
