"""Registering a model: load, embed, compare, write. The registry is opened for writing last and briefly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modelspace import comparison, spaces
from modelspace.embed import DEFAULT_BATCH_SIZE, Progress, embed
from modelspace.errors import ConflictError, NotFoundError
from modelspace.maps import MapBlock
from modelspace.prepare import Prepared, Request, prepared
from modelspace.registry import ProbeRow, Registry, SpaceRow
from modelspace.results import Added
from modelspace.types import ModelCard, SpaceSpec


def add(path: Path, request: Request, *, batch_size: int | None, replacing: bool, progress: Progress | None) -> Added:
    """See `modelspace.workspace.ModelSpace.add`."""
    with Registry.open(path) as registry:
        rows = registry.spaces()
        sets = {row.probe_id: row for row in registry.probe_sets()}
    if not rows:
        raise NotFoundError("the registry has no space yet", "make one with 'modelspace init'")
    example = next(spaces.images(path, sets[rows[0].spec.probe_id], 0, 2, 2))
    with prepared(request, example) as ready:
        card = ready.card
        present, notes = _already_there(path, card, replacing)
        wanted = [row for row in rows if row.spec.name not in present]
        if not wanted:
            with Registry.open(path) as registry:
                return Added(card.name, "unchanged", (), registry.model(card.name).card, tuple(notes))
        notes.append(f"explains {card.layer} ({card.layer_found_by})")
        blocks, card = run_pass(
            path, ready, [(row.spec, sets[row.spec.probe_id]) for row in wanted], batch_size, progress
        )
    status = _store(path, card, wanted, blocks, replacing)
    return Added(card.name, status, tuple(row.spec.name for row in wanted), card, tuple(notes))


def _already_there(path: Path, card: ModelCard, replacing: bool) -> tuple[tuple[str, ...], list[str]]:
    """The spaces that hold exactly this model under this name, and remarks; another model's name is refused."""
    with Registry.open(path) as registry:
        same = [row for row in registry.find_identity(card.identity()) if row.card.name != card.name]
        row = comparison.find(registry, card.name)
    notes = [f"same weights, layer and preprocessing as {other.card.name}" for other in same]
    if row is None:
        return (), notes
    if row.card.identity() == card.identity():
        return row.spaces, notes
    if not replacing:
        entries = ("weights_sha256", "weights"), ("layer", "layer"), ("preprocessing", "preprocessing")
        differs = [what for entry, what in entries if getattr(row.card, entry) != getattr(card, entry)]
        raise ConflictError(
            f"the name {card.name!r} belongs to a model with other {' and '.join(differs)} ({row.card.uri})",
            "give this one another name with --name, or replace that one with --replace",
        )
    return (), notes


def run_pass(
    path: Path,
    ready: Prepared,
    wanted: Sequence[tuple[SpaceSpec, ProbeRow]],
    batch_size: int | None,
    progress: Progress | None,
) -> tuple[dict[str, list[MapBlock]], ModelCard]:
    """Embed a model in the wanted spaces, one pass per probe set: maps by space id, and the card with what was seen."""
    blocks: dict[str, list[MapBlock]] = {}
    sets = {row.probe_id: row for _, row in wanted}
    groups = {probe_id: [spec for spec, row in wanted if row.probe_id == probe_id] for probe_id in sets}
    total = sum(max(spec.n_images for spec in specs) for specs in groups.values())
    seconds, offset = 0.0, 0
    shape: tuple[int, ...] = ()

    def report(done: int, _: int) -> None:
        if progress:
            progress(offset + done, total)

    for probe_id, specs in groups.items():
        size = batch_size or DEFAULT_BATCH_SIZE
        count = max(spec.n_images for spec in specs)
        images = spaces.images(path, sets[probe_id], 0, count, size)
        result = embed(ready.tap, ready.card.preprocessing, images, specs, device=ready.device, progress=report)
        blocks.update(result.blocks)
        seconds, shape, offset = seconds + result.seconds, result.output_shape, offset + count
    return blocks, replace(ready.card, seconds=seconds, output_shape=shape)


def _store(
    path: Path, card: ModelCard, wanted: Sequence[SpaceRow], blocks: Mapping[str, Sequence[MapBlock]], replacing: bool
) -> str:
    """Write one model in one transaction. It is compared with what is there before the lock is taken, so that under the
    lock only models that came in the meantime are left to compare."""
    known: dict[str, dict[int, float]] = {}
    with Registry.open(path) as registry:
        for space in wanted:
            known[space.spec.space_id] = comparison.affinities(registry, space.spec, blocks[space.spec.space_id])
    with Registry.open(path, write=True) as registry, registry.transaction():
        status = "added"
        row = comparison.find(registry, card.name)
        if row is not None and row.card.identity() != card.identity():
            if not replacing:
                raise ConflictError(f"the name {card.name!r} was taken meanwhile", "give it another name with --name")
            comparison.remove(registry, row.model_id)
            row, status = None, "replaced"
        if row is not None:
            status = "completed"
            wanted = [space for space in wanted if space.spec.name not in row.spaces]
        model_id = row.model_id if row is not None else registry.add_model(card)
        for space in wanted:
            spec = space.spec
            comparison.append(registry, spec, model_id, blocks[spec.space_id], known[spec.space_id])
    return status
