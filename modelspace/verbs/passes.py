"""A finished embedding pass, and how it is stored: in one transaction, with the registry open for writing briefly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modelspace.errors import ConflictError, UsageError
from modelspace.late import dataclass
from modelspace.registry import Registry, SpaceRow
from modelspace.representations.maps import MapBlock
from modelspace.results import Added
from modelspace.spaces import affinity, kept_anchors
from modelspace.spaces.kinds import Blocks, space_of
from modelspace.timing import phase
from modelspace.types import ModelCard, SpaceSpec

#: A model's affinities in a space, by the ids of other models.
Known = dict[int, float]


@dataclass(frozen=True)
class Computed:
    """An embedded model that is not stored yet. It can be sent to another process.

    Attributes:
        card: the model's row.
        spaces: names of the spaces that lack it; empty if it is already in all of them.
        blocks: its maps by space id.
        notes: remarks for the user.
        registry_id: the registry that it was computed for; "" if any will do.
        space_ids: ids of these spaces, which stay when a space is renamed; empty in passes that older versions saved.
    """

    card: ModelCard
    spaces: tuple[str, ...]
    blocks: dict[str, list[MapBlock]]
    notes: tuple[str, ...] = ()
    registry_id: str = ""
    space_ids: tuple[str, ...] = ()

    def spaces_in(self, registry: Registry) -> list[SpaceRow]:
        """The spaces to fill, as the registry has them now; without those that were removed since the pass.

        Raises:
            NotFoundError: a space that is only known by its name does not exist.
        """
        if not self.space_ids:
            return [registry.space(name) for name in self.spaces]
        rows = {row.spec.space_id: row for row in registry.spaces()}
        return [rows[space_id] for space_id in self.space_ids if space_id in rows]


def check_batch_size(batch_size: int | None) -> None:
    """Refuse a number of images per pass that is no number of images; None is the default.

    Raises:
        UsageError: it is below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"`batch_size=` must be at least 1, not {batch_size}", "example: `batch_size=8`")


def store(path: Path, computed: Computed, replacing: bool, timeout: float = 10.0) -> Added:
    """Write one model in one transaction.

    Affinities to the stored models are computed before the lock is taken, so that under the lock only models added in
    the meantime are compared.

    Args:
        path: the registry.
        computed: the pass.
        replacing: whether it may replace another model of the same name.
        timeout: seconds to wait for other processes to release the registry.

    Raises:
        ConflictError: the name belongs to another model and `replacing` is False.
        BusyError: other processes held the registry for longer than `timeout`.
        StorageError: the disk is full. Nothing was written, as with any error.
    """
    card = computed.card
    if not computed.spaces:
        with Registry.open(path, timeout=timeout) as registry:
            return Added(card.name, "unchanged", (), registry.model(card.name).card, computed.notes)
    return store_all(path, [computed], replacing, timeout)[0]


def store_all(path: Path, passes: Sequence[Computed], replacing: bool, timeout: float = 10.0) -> list[Added]:
    """Write several models in one transaction, in this order; see `store`.

    A single one that is compared with anchors in memory alone, in milliseconds, is compared under the lock.

    Args:
        path: the registry.
        passes: each with spaces to fill.
        replacing: whether they may replace other models of the same names.
        timeout: seconds to wait for other processes to release the registry.

    Raises:
        ModelspaceError: as `store`, for one of them. None was written then.
    """
    compared: list[tuple[list[SpaceRow], dict[str, Known]]] | None = None
    if len(passes) > 1 or not _is_compared_at_once(path, passes[0]):
        with phase("compare"), Registry.open(path, timeout=timeout) as registry:
            compared = [_compared(registry, computed, replacing) for computed in passes]
    with phase("store"), Registry.open(path, write=True, timeout=timeout) as registry, registry.transaction():
        if compared is None:
            compared = [(_in_order(registry, passes[0]), {})]
        return [
            _written(registry, computed, spaces, known, replacing)
            for computed, (spaces, known) in zip(passes, compared, strict=True)
        ]


def _is_compared_at_once(path: Path, computed: Computed) -> bool:
    """Whether all spaces that a pass was computed for had anchors when this process read them, and they are in memory.

    If they are others by now, the comparison takes longer, and its result is right all the same.
    """
    return bool(computed.blocks) and kept_anchors.are_kept(path.resolve(), computed.blocks.keys())


def _in_order(registry: Registry, computed: Computed) -> list[SpaceRow]:
    """The spaces that a pass fills; derived ones last, since they are computed from the others."""
    return sorted(computed.spaces_in(registry), key=lambda row: space_of(row.spec).is_derived)


def _compared(registry: Registry, computed: Computed, replacing: bool) -> tuple[list[SpaceRow], dict[str, Known]]:
    """The spaces that a pass fills, and the model's affinities in each by space id."""
    card, known = computed.card, dict[str, Known]()
    spaces = _in_order(registry, computed)
    row = affinity.find(registry, card.name)
    if row is not None and (replacing or not row.card.is_same_model(card)):
        row = None
    for space in spaces:
        blocks = _blocks(registry, space.spec, computed, row.model_id if row is not None else None)
        known[space.spec.space_id] = affinity.affinities(registry, space.spec, blocks, known)
    return spaces, known


def _written(
    registry: Registry, computed: Computed, spaces: Sequence[SpaceRow], known: Mapping[str, Known], replacing: bool
) -> Added:
    """Write one model, inside a transaction."""
    card, status = computed.card, "added"
    spaces = _still_there(spaces, registry, card)
    row = affinity.find(registry, card.name)
    if row is not None and (replacing or not row.card.is_same_model(card)):
        if not replacing:
            raise ConflictError(f"the name {card.name!r} was taken in the meantime", "use another name with `name=`")
        affinity.remove(registry, row.model_id)
        row, status = None, "replaced"
    if row is not None:
        spaces = [space for space in spaces if space.spec.name not in row.spaces]
        status = "completed" if spaces else "unchanged"
    model_id = row.model_id if row is not None else registry.add_model(card)
    for space in spaces:
        blocks = _blocks(registry, space.spec, computed, model_id)
        affinity.append(registry, space.spec, model_id, blocks, known.get(space.spec.space_id, {}))
    order = {row.spec.space_id: row.spec.name for row in spaces}
    names = tuple(order[i] for i in computed.space_ids if i in order) if computed.space_ids else computed.spaces
    filled = set(order.values())
    return Added(card.name, status, tuple(name for name in names if name in filled), card, computed.notes)


def _still_there(spaces: Sequence[SpaceRow], registry: Registry, card: ModelCard) -> list[SpaceRow]:
    """Those of the spaces that were not removed since they were read, under their present names.

    Raises:
        UsageError: none is left, so no later attempt to store the pass can succeed.
    """
    rows = {row.spec.space_id: row for row in registry.spaces()}
    left = [rows[space.spec.space_id] for space in spaces if space.spec.space_id in rows]
    if not left:
        raise UsageError(
            f"the spaces that {card.name!r} was computed for were removed in the meantime", "add the model again"
        )
    return left


def _blocks(registry: Registry, spec: SpaceSpec, computed: Computed, model_id: int | None) -> Blocks:
    """The blocks of a model that a space needs: the newly computed and the stored ones."""
    blocks: dict[str, Sequence[MapBlock]] = dict(computed.blocks)
    for source in space_of(spec).sources(registry):
        space_id = source.spec.space_id
        if space_id not in blocks and model_id is not None:
            blocks[space_id] = list(registry.map_blocks(space_id, model_id))
    return blocks
