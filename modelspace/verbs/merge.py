"""Taking in another registry's models, in the spaces that both have.

Maps are comparable wherever the space's id is equal: it is the hash of probe images, method and all that matters. Of the other
registry nothing but maps and cards is read. Its vectors, affinities and index are not: they are computed here, from the maps,
by the same code that registers a model. Maps that are not what their space says are refused, model by model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from modelspace import probes
from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
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

#: What to do with a model whose name belongs to another one here.
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
        raise UsageError(f"conflicts can't be settled by {on_conflict!r}", f"use {', '.join(ON_CONFLICT)}")
    source = _registry_file(path, Path(other))
    with Registry.open(source) as theirs:
        their_rows = [row for row in theirs.spaces() if not space_of(row.spec).is_derived]
        models = theirs.models(where)
        held = {row.spec.space_id: set(theirs.model_ids(row.spec.space_id)) for row in their_rows}
        sets = {row.probe_id: row for row in theirs.probe_sets()}
    with Registry.open(path) as mine:
        my_rows, my_sets = mine.spaces(), mine.probe_sets()
    shared, new = _choose(their_rows, my_rows, spaces, source)
    chosen = [*shared, *new]
    models = [row for row in models if any(row.model_id in held[spec.space_id] for spec in chosen)]
    names = _new_names(models, path, on_conflict, suffix)
    outcomes: list[Merged] = []
    if not dry_run:
        _take_spaces(path, source, new, my_rows, my_sets, sets)
    local = _local_names(path, chosen)
    for done, row in enumerate(models):
        wanted = [spec for spec in chosen if row.model_id in held[spec.space_id]]
        name, message = names[row.model_id]
        if name is None:
            hint = "take it in under another name with `on_conflict='rename'`"
            outcomes.append(Merged(row.card.name, row.card.name, "skipped", (), message, hint))
        else:
            try:
                outcomes.append(_take_model(path, source, row, name, wanted, local, dry_run))
            except ModelspaceError as error:
                outcomes.append(Merged(name, row.card.name, "refused", (), error.message, error.hint))
        if progress:
            progress(done + 1, len(models))
    return outcomes


def _registry_file(path: Path, other: Path) -> Path:
    """The other registry's file, named by its folder or itself."""
    file = other / REGISTRY if other.is_dir() else other
    if not file.is_file():
        raise NotFoundError(f"there is no {REGISTRY} in {other}", "name the folder of the other registry")
    if os.path.samefile(file, path):
        raise UsageError(f"{other} is this registry itself", "name the folder of another one")
    return file


def _choose(
    theirs: Sequence[SpaceRow], mine: Sequence[SpaceRow], spaces: str | Sequence[str], source: Path
) -> tuple[list[SpaceSpec], list[SpaceSpec]]:
    """The spaces to fill, as the other registry describes them: those that both have, and those to be taken over.

    Raises:
        NotFoundError: no such space, or none in common; both sides are named.
    """
    ids = {row.spec.space_id for row in mine}
    known = ", ".join(f"{row.spec.name} ({row.spec.space_id})" for row in theirs) or "none"
    if isinstance(spaces, str) and spaces in ("shared", "all"):
        asked = [row.spec for row in theirs if spaces == "all" or row.spec.space_id in ids]
    else:
        asked = []
        for name in [spaces] if isinstance(spaces, str) else spaces:
            found = [row.spec for row in theirs if name in (row.spec.name, row.spec.space_id)]
            if not found:
                raise NotFoundError(f"there is no space {name!r} in {source}", f"it has {known}")
            asked += found
    shared = [spec for spec in asked if spec.space_id in ids]
    new = [spec for spec in asked if spec.space_id not in ids]
    if not asked:
        here = ", ".join(f"{row.spec.name} ({row.spec.space_id})" for row in mine) or "none"
        raise NotFoundError(
            f"the registries have no space in common: {source} has {known}, this one has {here}",
            "models compare only on the same images, method, canvas and bits; `spaces='all'` takes its spaces over",
        )
    return shared, new


def _new_names(
    models: Sequence[ModelRow], path: Path, on_conflict: str, suffix: str
) -> dict[int, tuple[str | None, str]]:
    """What each of their models is to be called here, by their id; None with the reason where it is to be left out.

    Raises:
        ConflictError: names are taken, and `on_conflict` is "fail"; nothing was written.
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
            out[row.model_id] = by_identity[identity], ""  # the same model under another name: that one is kept
        elif name not in taken:
            out[row.model_id] = name, ""
            taken[name] = identity
        elif on_conflict == "rename":
            fresh = name + suffix
            if fresh in taken:
                raise ConflictError(f"{name!r} and {fresh!r} are both taken here", "choose another `suffix=`")
            out[row.model_id] = check_name(fresh), ""
            taken[fresh] = identity
        else:
            conflicts.append(name)
            out[row.model_id] = None, f"the name {name!r} belongs to another model here"
    if conflicts and on_conflict == "fail":
        more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise ConflictError(
            f"other models have these names here: {', '.join(conflicts[:5])}{more}; nothing was taken in",
            "leave them out with `on_conflict='skip'`, or give them a suffix with `on_conflict='rename'`",
        )
    return out


def _local_names(path: Path, specs: Iterable[SpaceSpec]) -> dict[str, str]:
    """Names of spaces in this registry by id; of those that it does not have (a dry run), their own."""
    with Registry.open(path) as mine:
        here = {row.spec.space_id: row.spec.name for row in mine.spaces()}
    return {spec.space_id: here.get(spec.space_id, spec.name) for spec in specs}


def _take_spaces(
    path: Path,
    source: Path,
    specs: Sequence[SpaceSpec],
    mine: Sequence[SpaceRow],
    my_sets: Sequence[ProbeRow],
    sets: dict[str, ProbeRow],
) -> None:
    """Make their spaces here, with the probe sets that are missing, all in one transaction."""
    if not specs:
        return
    here = {row.probe_id for row in my_sets}
    images: dict[str, list[tuple[str, bytes]] | None] = {}
    for probe_id in {spec.probe_id for spec in specs} - here:
        images[probe_id] = _probe_images(source, sets[probe_id])
    with Registry.open(path, write=True) as registry, registry.transaction():
        set_names = {row.name for row in my_sets}
        for probe_id, pictures in images.items():
            row = sets[probe_id]
            if row.name in set_names:
                row = replace(row, name=f"{row.name}-{probe_id[:8]}")
            set_names.add(row.name)
            registry.add_probe_set(row, pictures)
        space_names = {row.spec.name for row in mine}
        for spec in specs:
            name = spec.name if spec.name not in space_names else f"{spec.name}-{spec.space_id[:8]}"
            space_names.add(name)
            registry.add_space(replace(spec, name=name), default=False)


def _probe_images(source: Path, row: ProbeRow) -> list[tuple[str, bytes]] | None:
    """The stored images of a probe set, once they are known to be those of its fingerprint; None of a rendered one.

    Raises:
        ProbeError: they are different: maps of different images would pass for comparable.
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


def _take_model(
    path: Path,
    source: Path,
    row: ModelRow,
    name: str,
    specs: Sequence[SpaceSpec],
    local: dict[str, str],
    dry_run: bool,
) -> Merged:
    """Bring one model in, in one transaction."""
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
        note = f"it is here as {name}" if name != row.card.name else ""
        return Merged(name, row.card.name, "unchanged", (), note)
    blocks: dict[str, list[MapBlock]] = {}
    with Registry.open(source) as theirs:
        for spec in missing:
            space = space_of(spec)
            assert isinstance(space, StoredSpace)  # derived ones were left out
            blocks[spec.space_id] = space.checked(list(theirs.map_blocks(spec.space_id, row.model_id)))
    # A blend of spaces here follows from its members, and would lack this model otherwise.
    full = before | set(blocks)
    filled = [local[spec.space_id] for spec in missing]
    filled += [blend.spec.name for blend in blends if blend.spec.space_id not in before and blend.follows_from(full)]
    if dry_run:
        return Merged(name, row.card.name, "would add" if status == "added" else "would complete", tuple(filled))
    added = store(path, Computed(card, tuple(filled), blocks), False)
    return Merged(added.name, row.card.name, added.status, added.spaces)
