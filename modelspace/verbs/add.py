"""Registering a model: load, embed, compare, write. The registry is opened for writing last and briefly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, Progress, embed
from modelspace.embedding.prepare import Prepared, Request, prepared
from modelspace.errors import ConflictError, NotFoundError
from modelspace.registry import ProbeRow, Registry
from modelspace.representations.maps import MapBlock
from modelspace.results import Added
from modelspace.spaces import affinity, probe_sets
from modelspace.spaces.kinds import Blocks, space_of
from modelspace.types import ModelCard, SpaceSpec


@dataclass(frozen=True)
class Computed:
    """A model that was loaded and embedded, and is not written yet. It can be sent from one process to another.

    Attributes:
        card: the model's row.
        spaces: names of the spaces that it was embedded in; empty where the registry holds all of it already.
        blocks: its maps by space id.
        notes: remarks for the user.
    """

    card: ModelCard
    spaces: tuple[str, ...]
    blocks: dict[str, list[MapBlock]]
    notes: tuple[str, ...] = ()


def add(path: Path, request: Request, *, batch_size: int | None, replacing: bool, progress: Progress | None) -> Added:
    """See `modelspace.workspace.ModelSpace.add`."""
    return store(path, compute(path, request, batch_size=batch_size, replacing=replacing, progress=progress), replacing)


def compute(
    path: Path, request: Request, *, batch_size: int | None, replacing: bool, progress: Progress | None
) -> Computed:
    """Load and embed a model in the spaces that lack it. The registry is only read."""
    with Registry.open(path) as registry:
        rows = registry.spaces()
        sets = {row.probe_id: row for row in registry.probe_sets()}
    if not rows:
        raise NotFoundError("the registry has no space yet", "make one with `space.init()`")
    example = next(probe_sets.images(path, sets[rows[0].spec.probe_id], 0, 2, 2))
    with prepared(request, example) as ready:
        card = ready.card
        present, notes = _already_there(path, card, replacing)
        wanted = [row for row in rows if row.spec.name not in present]
        blocks: dict[str, list[MapBlock]] = {}
        # A blend follows from its members, which are spaces of the same registry.
        pairs = [(row.spec, sets[row.spec.probe_id]) for row in wanted if not space_of(row.spec).is_derived]
        if pairs:
            blocks, card, seen = run_pass(path, ready, pairs, batch_size, progress)
            notes += seen
    return Computed(card, tuple(row.spec.name for row in wanted), blocks, tuple(notes))


def _already_there(path: Path, card: ModelCard, replacing: bool) -> tuple[tuple[str, ...], list[str]]:
    """The spaces that hold exactly this model under this name, and remarks; another model's name is refused."""
    with Registry.open(path) as registry:
        same = [row for row in registry.find_identity(card.identity()) if row.card.name != card.name]
        row = affinity.find(registry, card.name)
    notes = [f"same weights, layer and preprocessing as {other.card.name}" for other in same]
    if row is None or replacing:
        return (), notes
    if row.card.is_same_model(card):
        return row.spaces, notes
    raise ConflictError(
        f"the name {card.name!r} belongs to a model with other {' and '.join(row.card.differences(card))} "
        f"({row.card.uri})",
        "give this one another name with `name=`, or replace that one with `replace=True`",
    )


def run_pass(
    path: Path,
    ready: Prepared,
    wanted: Sequence[tuple[SpaceSpec, ProbeRow]],
    batch_size: int | None,
    progress: Progress | None,
) -> tuple[dict[str, list[MapBlock]], ModelCard, tuple[str, ...]]:
    """Embed a model in the wanted spaces, one pass per probe set.

    Returns:
        Blocks by space id, the card with what the pass showed, and remarks for the user.
    """
    blocks: dict[str, list[MapBlock]] = {}
    sets = {row.probe_id: row for _, row in wanted}
    groups = {probe_id: [spec for spec, row in wanted if row.probe_id == probe_id] for probe_id in sets}
    total = sum(max(spec.n_images for spec in specs) for specs in groups.values())
    seconds, offset = 0.0, 0
    checked: set[str] = set()
    shape: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def report(done: int, _: int) -> None:
        if progress:
            progress(offset + done, total)

    for probe_id, specs in groups.items():
        size = batch_size or DEFAULT_BATCH_SIZE
        count = max(spec.n_images for spec in specs)
        images = probe_sets.Images(path, sets[probe_id], count, size)
        result = embed(
            ready.tap,
            ready.card.preprocessing,
            images,
            specs,
            device=ready.device,
            progress=report,
            passes=int(ready.card.options.get("stochastic", 1)),
            # What holds for two images of one probe set holds for others; but other spaces may need other gradients.
            check=not checked or not set(map(_scalar, specs)) <= checked,
        )
        checked |= set(map(_scalar, specs))
        notes += result.notes
        blocks.update(result.blocks)
        seconds, shape, offset = seconds + result.seconds, result.output_shape, offset + count
    return blocks, replace(ready.card, seconds=seconds, output_shape=shape), tuple(dict.fromkeys(notes))


def _scalar(spec: SpaceSpec) -> str:
    """What of T a space explains; nothing where it stores no maps."""
    return spec.scalar if space_of(spec).has_maps else ""


def store(path: Path, computed: Computed, replacing: bool) -> Added:
    """Write one model in one transaction. It is compared with what is there before the lock is taken, so that under the
    lock only models that came in the meantime are left to compare.

    Raises:
        ConflictError: the name belongs to another model and `replacing` is False. Nothing was written.
    """
    card = computed.card
    if not computed.spaces:
        with Registry.open(path) as registry:
            return Added(card.name, "unchanged", (), registry.model(card.name).card, computed.notes)
    known: dict[str, dict[int, float]] = {}
    with Registry.open(path) as registry:
        # Derived ones last: they are made of what the others hold.
        wanted = sorted(
            (registry.space(name) for name in computed.spaces), key=lambda row: space_of(row.spec).is_derived
        )
        before = affinity.find(registry, card.name)
        if before is not None and (replacing or not before.card.is_same_model(card)):
            before = None
        for space in wanted:
            blocks = _blocks(registry, space.spec, computed, before.model_id if before is not None else None)
            known[space.spec.space_id] = affinity.affinities(registry, space.spec, blocks, known)
    with Registry.open(path, write=True) as registry, registry.transaction():
        status = "added"
        row = affinity.find(registry, card.name)
        if row is not None and (replacing or not row.card.is_same_model(card)):
            if not replacing:
                raise ConflictError(f"the name {card.name!r} was taken meanwhile", "give it another name with `name=`")
            affinity.remove(registry, row.model_id)
            row, status = None, "replaced"
        if row is not None:
            status = "completed"
            wanted = [space for space in wanted if space.spec.name not in row.spaces]
        model_id = row.model_id if row is not None else registry.add_model(card)
        for space in wanted:
            blocks = _blocks(registry, space.spec, computed, model_id)
            affinity.append(registry, space.spec, model_id, blocks, known[space.spec.space_id])
    return Added(card.name, status, computed.spaces, card, computed.notes)


def _blocks(registry: Registry, spec: SpaceSpec, computed: Computed, model_id: int | None) -> Blocks:
    """A model's blocks that a space needs: those that were computed, and those that the registry holds already."""
    blocks: dict[str, Sequence[MapBlock]] = dict(computed.blocks)
    for source in space_of(spec).sources(registry):
        space_id = source.spec.space_id
        if space_id not in blocks and model_id is not None:
            blocks[space_id] = list(registry.map_blocks(space_id, model_id))
    return blocks
