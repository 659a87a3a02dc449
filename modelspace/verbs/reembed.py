"""How far a fresh pass of a registered model is from what is stored. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace.errors import ModelspaceError, UsageError
from modelspace.registry import ProbeRow, ProbeSets, Registry
from modelspace.representations.maps import MapBlock
from modelspace.results import Reembedded, Reembedding
from modelspace.spaces import affinity, probe_sets
from modelspace.spaces.kinds import Blocks, StoredSpace, space_of
from modelspace.types import ModelCard, SpaceSpec
from modelspace.verbs.passes import check_batch_size

if TYPE_CHECKING:
    from modelspace.embedding.embed import Progress
    from modelspace.embedding.prepare import Prepared, Request


def reembed(
    path: Path,
    name: str,
    *,
    module: Any = None,
    weights: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Reembedding:
    """See `modelspace.workspace.ModelSpace.reembed`."""
    from modelspace.verbs.add import run_pass

    check_batch_size(batch_size)
    with Registry.open(path) as registry:
        card = registry.model(name).card
        specs = [registry.space(space).spec for space in registry.model(name).spaces]
        sets = ProbeSets(registry.probe_sets())
    pairs: list[tuple[SpaceSpec, ProbeRow]] = [
        (spec, sets[spec.probe_id]) for spec in specs if not space_of(spec).is_derived
    ]
    if not pairs:
        raise UsageError(
            f"no space holds maps or a kernel of {name!r}", f"embed it again: `space.fill(models=[{name!r}])`"
        )
    request = request_again(card, module, weights, device)
    example = probe_sets.first_images(path, pairs[0][1], request.n_images)
    with ExitStack() as stack:
        model = loaded_again(stack, request, card, example, "`weights=file` says where its weights are now", specs)
        notes = [*_changes(card, model.card), *model.notes]
        blocks, _, pass_notes = run_pass(path, model, pairs, batch_size, progress)
    with Registry.open(path) as registry:
        model_id = registry.model(name).model_id
        records = [_compared(registry, spec, model_id, blocks) for spec in specs]
    return Reembedding(records, name, (*notes, *pass_notes))


def request_again(card: ModelCard, module: Any, weights: str | None, device: str) -> Request:
    """The request that loads a registered model again, from its address or from the module itself.

    Raises:
        NotFoundError: it was a module in memory, and `module` is None.
        UsageError: weights are given for a module.
    """
    from modelspace.embedding.prepare import Request
    from modelspace.embedding.stored import request_for

    if module is not None:
        if weights is not None:
            raise UsageError("a module in memory has its own weights", "leave `weights=` out")
        options = {"name": card.name, "layer": card.layer, "preprocessing": card.preprocessing, **card.options}
        return Request(module, device=device, **options)
    try:
        return request_for(card, device=device, **({"weights": weights} if weights is not None else {}))
    except ModelspaceError as error:
        error.hint = f"in Python, give the module itself: space.reembed({card.name!r}, module=module)"
        raise


def loaded_again(
    stack: ExitStack,
    request: Request,
    card: ModelCard,
    example: np.ndarray,
    moved: str,
    specs: Sequence[SpaceSpec],
) -> Prepared:
    """The model, ready to run, until the stack is closed.

    Args:
        stack: keeps it.
        request: what to load.
        card: what was registered.
        example: first probe images, as `modelspace.embedding.prepare.prepared` takes.
        moved: the hint for weights that were moved.
        specs: the spaces that it will be embedded in.

    Raises:
        ModelspaceError: it can't be loaded or run, or its weights differ; the message names the model and its address.
    """
    from modelspace.embedding.prepare import prepared
    from modelspace.embedding.stored import check_same
    from modelspace.verbs.add import map_requests

    try:
        model = stack.enter_context(prepared(request, example, map_requests(specs)))
    except ModelspaceError as error:
        error.message = f"{card.name!r} can't be loaded again from {card.uri}: {error.message}"
        if card.tags.get("weights"):
            error.hint = f"{error.hint}; {moved}".lstrip("; ")
        raise
    check_same(card, model.card)
    return model


def _changes(card: ModelCard, loaded: ModelCard) -> list[str]:
    """What makes the fresh pass one of another model, as notes."""
    return [f"its {what} changed since it was registered" for what in card.differences(loaded)]


def _compared(registry: Registry, spec: SpaceSpec, model_id: int, fresh: Blocks) -> Reembedded:
    """A fresh pass against what is stored, in one space."""
    space = space_of(spec)
    ids, stored = affinity.matrix(registry, spec, set(registry.model_ids(spec.space_id)))
    others = [i for i in ids if i != model_id]
    values = affinity.contributions(registry, spec, fresh, others)
    row = stored[ids.index(model_id)]
    before = np.array([row[ids.index(i)] for i in others])
    off = np.abs(np.array([float(values[i].mean()) for i in others]) - before)
    same, distances = _distances(registry, space, model_id, fresh) if isinstance(space, StoredSpace) else (None, None)
    return Reembedded(
        space=spec.name,
        same_bits=same,
        largest=None if distances is None else float(distances.max()),
        mean=None if distances is None else float(distances.mean()),
        n_affinities=len(off),
        largest_affinity=float(off.max()) if len(off) else 0.0,
        mean_affinity=float(off.mean()) if len(off) else 0.0,
    )


def _distances(registry: Registry, space: StoredSpace, model_id: int, fresh: Blocks) -> tuple[bool, np.ndarray]:
    """Whether the fresh blocks are the stored ones bit for bit, and the distance of the unit rows of each image."""
    space_id = space.spec.space_id
    stored = list(registry.map_blocks(space_id, model_id))
    now = _rows(space, fresh[space_id])
    then = _rows(space, stored)
    return _bits(stored) == _bits(fresh[space_id]), np.linalg.norm(now - then, axis=1)


def _rows(space: StoredSpace, blocks: Sequence[MapBlock]) -> np.ndarray:
    """(n_images, elements) float64, of unit norm; of a kernel the mean of their squared norms is 1."""
    return np.concatenate([space.unit_rows(block) for block in space.checked(blocks)])


def _bits(blocks: Sequence[MapBlock]) -> tuple[bytes, bytes]:
    """The bytes of all blocks, however the images are divided."""
    return b"".join(block.codes for block in blocks), b"".join(block.scales for block in blocks)
