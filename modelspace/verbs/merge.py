"""Importing another registry's models into the spaces that both registries have.

Maps are comparable if the space id is equal: it is a hash of the probe images, the method and all else that matters.
Only maps and cards of the other registry are read. Vectors, affinities and the index are recomputed from the maps, by
the code that registers a model. Maps that don't fit their space are refused, model by model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from modelspace import probes
from modelspace.errors import ConflictError, DamagedError, ModelspaceError, NotFoundError, UsageError
from modelspace.files import absent, is_folder, is_regular
from modelspace.home import REGISTRY
from modelspace.names import check_name
from modelspace.registry import ModelRow, ProbeRow, Registry, SpaceRow
from modelspace.representations.maps import MapBlock
from modelspace.results import Merged
from modelspace.spaces import affinity
from modelspace.spaces.kinds import BlendSpace, StoredSpace, space_of
from modelspace.spaces.probe_sets import described
from modelspace.types import SpaceSpec
from modelspace.verbs.passes import Computed, store
from modelspace.verbs.tasks import merge_tasks

#: What to do with a model whose name belongs to another model of this registry.
ON_CONFLICT = ("fail", "skip", "rename")
SUFFIX = "-2"


def merge(
    path: Path,
    other: str | Path,
    *,
    spaces: str | Sequence[str] = "shared",
    where: str | None = None,
    on_conflict: str = "fail",
    suffix: str = SUFFIX,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Merged]:
    """See `modelspace.workspace.ModelSpace.merge`."""
    if on_conflict not in ON_CONFLICT:
        raise UsageError(f"unknown way to resolve conflicts: {on_conflict!r}", f"use {', '.join(ON_CONFLICT)}")
    source = _registry_file(path, Path(other))
    with Registry.open(source) as theirs:
        their_rows = [row for row in theirs.spaces() if not space_of(row.spec).is_derived]
        models = theirs.models(where)
        members = {row.spec.space_id: set(theirs.model_ids(row.spec.space_id)) for row in their_rows}
        sets = {row.probe_id: row for row in theirs.probe_sets()}
    with Registry.open(path) as mine:
        my_rows, my_sets = mine.spaces(), mine.probe_sets()
    shared, new = _choose(their_rows, my_rows, spaces, source)
    chosen = [*shared, *new]
    models = [row for row in models if any(row.model_id in members[spec.space_id] for spec in chosen)]
    names = _new_names(models, path, on_conflict, suffix)
    outcomes: list[Merged] = []
    if not dry_run:
        _import_spaces(path, source, new, my_rows, my_sets, sets)
    local = _local_names(path, chosen)
    for done, row in enumerate(models):
        specs = [spec for spec in chosen if row.model_id in members[spec.space_id]]
        name, message = names[row.model_id]
        if name is None:
            hint = "import it under another name with `on_conflict='rename'`"
            outcomes.append(Merged(row.card.name, row.card.name, "skipped", (), message, hint))
        else:
            try:
                outcomes.append(_import_model(path, source, row, name, specs, local, dry_run))
            except ModelspaceError as error:
                outcomes.append(Merged(name, row.card.name, "refused", (), error.message, error.hint))
        if progress:
            progress(done + 1, len(models))
    imported = {row.theirs: row.name for row in outcomes if row.status not in ("skipped", "refused")}
    return [*outcomes, *merge_tasks(path, source, imported, dry_run)]


def _registry_file(path: Path, other: Path) -> Path:
    """The file of the other registry, from its path or its folder."""
    file = other / REGISTRY if is_folder(other) else other
    if not is_regular(file):
        raise NotFoundError(absent(file, f"there is no {REGISTRY} in {other}"), "name the folder of the other registry")
    if os.path.samefile(file, path):
        raise UsageError(f"{other} is this registry itself", "name the folder of another registry")
    return file


def _choose(
    theirs: Sequence[SpaceRow], mine: Sequence[SpaceRow], spaces: str | Sequence[str], source: Path
) -> tuple[list[SpaceSpec], list[SpaceSpec]]:
    """The spaces to fill, as described in the other registry: those that both have, and those to be imported.

    Raises:
        NotFoundError: no such space, or none in common; the error lists both registries' spaces.
    """
    ids = {row.spec.space_id for row in mine}
    known = ", ".join(f"{row.spec.name} ({row.spec.space_id})" for row in theirs) or "none"
    if isinstance(spaces, str) and spaces in ("shared", "all"):
        specs = [row.spec for row in theirs if spaces == "all" or row.spec.space_id in ids]
    else:
        specs = []
        for name in [spaces] if isinstance(spaces, str) else spaces:
            matches = [row.spec for row in theirs if name in (row.spec.name, row.spec.space_id)]
            if not matches:
                raise NotFoundError(f"there is no space {name!r} in {source}", f"it has {known}")
            specs += matches
    shared = [spec for spec in specs if spec.space_id in ids]
    new = [spec for spec in specs if spec.space_id not in ids]
    if not specs:
        local = ", ".join(f"{row.spec.name} ({row.spec.space_id})" for row in mine) or "none"
        raise NotFoundError(
            f"the registries have no space in common: {source} has {known}, this one has {local}",
            "only models on the same images, method, canvas and bits compare; `spaces='all'` imports its spaces too",
        )
    return shared, new


def _new_names(
    models: Sequence[ModelRow], path: Path, on_conflict: str, suffix: str
) -> dict[int, tuple[str | None, str]]:
    """Id -> (name in this registry, ""), or (None, reason) for a model to be skipped.

    Raises:
        ConflictError: names are taken, and `on_conflict` is "fail"; nothing is written.
    """
    with Registry.open(path) as mine:
        by_name = {row.card.name: row.card.identity() for row in mine.models()}
        by_identity: dict[str, str] = {}
        for known, identity in by_name.items():
            by_identity.setdefault(identity, known)
    out: dict[int, tuple[str | None, str]] = {}
    taken = dict(by_name)
    conflicts = []
    for row in models:
        name, identity = row.card.name, row.card.identity()
        if by_name.get(name) == identity:
            out[row.model_id] = name, ""
        elif identity in by_identity:
            out[row.model_id] = by_identity[identity], ""  # the same model under another name, which is kept
        elif name not in taken:
            out[row.model_id] = name, ""
            taken[name] = identity
        elif on_conflict == "rename":
            new_name = name + suffix
            if new_name in taken:
                raise ConflictError(f"{name!r} and {new_name!r} are both taken here", "choose another `suffix=`")
            out[row.model_id] = check_name(new_name), ""
            taken[new_name] = identity
        else:
            conflicts.append(name)
            out[row.model_id] = None, f"the name {name!r} belongs to another model here"
    if conflicts and on_conflict == "fail":
        more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise ConflictError(
            f"other models have these names here: {', '.join(conflicts[:5])}{more}; nothing was imported",
            "skip them with `on_conflict='skip'`, or add a suffix with `on_conflict='rename'`",
        )
    return out


def _local_names(path: Path, specs: Iterable[SpaceSpec]) -> dict[str, str]:
    """Space id -> name in this registry, or in the other one if this one lacks the space (in a dry run)."""
    with Registry.open(path) as mine:
        names = {row.spec.space_id: row.spec.name for row in mine.spaces()}
    return {spec.space_id: names.get(spec.space_id, spec.name) for spec in specs}


def _import_spaces(
    path: Path,
    source: Path,
    specs: Sequence[SpaceSpec],
    mine: Sequence[SpaceRow],
    my_sets: Sequence[ProbeRow],
    sets: dict[str, ProbeRow],
) -> None:
    """Create the spaces in this registry, with any missing probe sets, in one transaction."""
    if not specs:
        return
    existing = {row.probe_id for row in my_sets}
    images: dict[str, list[tuple[str, bytes]] | None] = {}
    for probe_id in {spec.probe_id for spec in specs} - existing:
        if probe_id not in sets:
            raise DamagedError(f"{source} lacks the probe set {probe_id!r} of one of its spaces", "choose `spaces=`")
        images[probe_id] = _probe_images(source, sets[probe_id])
    with Registry.open(path, write=True) as registry, registry.transaction():
        set_names = {row.name for row in my_sets}
        for probe_id, files in images.items():
            row = sets[probe_id]
            if row.name in set_names:
                row = replace(row, name=f"{row.name}-{probe_id[:8]}")
            set_names.add(row.name)
            registry.add_probe_set(row, files)
        space_names = {row.spec.name for row in mine}
        for spec in specs:
            name = spec.name if spec.name not in space_names else f"{spec.name}-{spec.space_id[:8]}"
            space_names.add(name)
            registry.add_space(replace(spec, name=name), default=False)


def _probe_images(source: Path, row: ProbeRow) -> list[tuple[str, bytes]] | None:
    """The stored images of a probe set, checked against its fingerprint; None for a rendered one.

    Raises:
        ProbeError: the images differ, so that maps would be compared on different images.
    """
    probe_set = described(row, row.n_images or 2)
    kind = probes.kind_of(probe_set)
    if kind.is_rendered:
        kind.require_same(probe_set, ())
        return None
    with Registry.open(source) as theirs:
        pngs = theirs.probe_images(row.probe_id, 0, probe_set.n_images)
    kind.require_same(probe_set, map(probes.decode_png, pngs))
    return [(str(k), png) for k, png in enumerate(pngs)]


def _import_model(
    path: Path,
    source: Path,
    row: ModelRow,
    name: str,
    specs: Sequence[SpaceSpec],
    local: dict[str, str],
    dry_run: bool,
) -> Merged:
    """Import one model in one transaction."""
    check_name(name)
    card = replace(row.card, name=name)
    with Registry.open(path) as mine:
        present = affinity.find(mine, name)
        blends = [blend for row in mine.spaces() if isinstance(blend := space_of(row.spec), BlendSpace)]
        if present is not None and present.card.identity() == card.identity():
            card = present.card
            before = {mine.space(space).spec.space_id for space in present.spaces}
        else:
            before = set()
    missing = [spec for spec in specs if spec.space_id not in before]
    status = "completed" if before else "added"
    if not missing:
        note = f"it is registered here as {name}" if name != row.card.name else ""
        return Merged(name, row.card.name, "unchanged", (), note)
    blocks: dict[str, list[MapBlock]] = {}
    with Registry.open(source) as theirs:
        for spec in missing:
            space = space_of(spec)
            assert isinstance(space, StoredSpace)  # derived spaces were excluded
            blocks[spec.space_id] = space.checked(list(theirs.map_blocks(spec.space_id, row.model_id)))
    # A blend is derived from its members, and has to get this model too.
    full = before | set(blocks)
    derived = [blend.spec for blend in blends if blend.spec.space_id not in before and blend.follows_from(full)]
    filled = [*(local[spec.space_id] for spec in missing), *(spec.name for spec in derived)]
    if dry_run:
        return Merged(name, row.card.name, "would add" if status == "added" else "would complete", tuple(filled))
    ids = tuple(spec.space_id for spec in (*missing, *derived))
    added = store(path, Computed(card, tuple(filled), blocks, space_ids=ids), False)
    return Merged(added.name, row.card.name, added.status, added.spaces)
