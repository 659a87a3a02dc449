"""From a target model to its ranked transfer sources. For a registered target nothing here needs torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace import sources
from modelspace.errors import NotFoundError, UsageError
from modelspace.home import INDEX
from modelspace.names import did_you_mean
from modelspace.registry import ModelRow, Registry, SpaceRow
from modelspace.representations.maps import MapBlock
from modelspace.results import Neighbour, Neighbours
from modelspace.spaces import affinity as comparison
from modelspace.spaces import create, hubness, index, predictability
from modelspace.spaces.affinity import features_of
from modelspace.spaces.bootstrap import intervals
from modelspace.spaces.coordinates import TOLERANCE
from modelspace.types import SpaceSpec

if TYPE_CHECKING:
    from modelspace.embedding.embed import Progress
    from modelspace.spaces.index import SpaceIndex

#: Past the cap on axes the index only proposes: so many candidates per neighbour asked for are ranked by their maps.
CANDIDATES = 8

#: So many candidates, or all if there are fewer, are re-ranked where that is asked for: less than a second with 200 images.
RERANKED = 200


def nearest(
    path: Path,
    model: Any,
    k: int,
    *,
    where: str | None,
    space: str | None,
    progress: Progress | None,
    batch_size: int | None,
    options: dict[str, Any],
    hub_correction: str | None = None,
    rerank: str | None = None,
) -> Neighbours:
    """See `modelspace.workspace.ModelSpace.nearest`."""
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", "example: `k=5`")
    with Registry.open(path) as registry:
        row = registry.space(space)
        how = settings(row.spec, hub_correction, rerank)
        if how[1] == predictability.DIRECTED:
            features_of(registry, row.spec)  # raises where there is none
        target = comparison.find(registry, model) if isinstance(model, str) else None
        if target is None and isinstance(model, str) and not sources.is_uri(model):
            registry.model(model)  # raises: not there, and what is near
        if target is not None:
            if row.spec.name not in target.spaces:
                raise NotFoundError(
                    f"model {model!r} is not in space {row.spec.name!r}",
                    f"fill it with `space.add({target.card.uri!r}, name={target.card.name!r})`",
                )
            return _rank(registry, row, _Target(target.card.name, target.model_id), k, where, how)
    return _rank_unregistered(path, row, model, k, where, how, progress, batch_size, options)


def _rank_unregistered(
    path: Path,
    row: SpaceRow,
    model: Any,
    k: int,
    where: str | None,
    how: tuple[str, str],
    progress: Progress | None,
    batch_size: int | None,
    options: dict[str, Any],
) -> Neighbours:
    """Embed without storing, unless the registry turns out to hold this very model."""
    from modelspace.embedding.prepare import Request, prepared
    from modelspace.verbs.add import run_pass

    if not isinstance(model, str):
        options.setdefault("name", "module")
    with Registry.open(path) as registry:
        needed = [registry.space(space_id).spec for space_id in row.spec.members] or [row.spec]
        if how[1] == predictability.DIRECTED:
            needed.append(features_of(registry, row.spec))
        unique = {spec.space_id: spec for spec in needed}
        pairs = [(spec, registry.probe_set(spec.probe_id)) for spec in unique.values()]
    example = next(create.images(path, pairs[0][1], 0, 2, 2))
    with prepared(Request(model, **options), example) as ready:
        card = ready.card
        notes = [f"explains {card.layer} ({card.layer_choice.in_message})"]
        with Registry.open(path) as registry:
            same = [found for found in registry.find_identity(card.identity()) if row.spec.name in found.spaces]
            if same:
                notes.append(f"this model is registered as {same[0].card.name}, so no pass was needed")
                return _rank(registry, row, _Target(card.uri, same[0].model_id), k, where, how, notes)
        blocks, _ = run_pass(path, ready, pairs, batch_size, progress)
    with Registry.open(path) as registry:
        return _rank(registry, row, _Target(card.uri, blocks=blocks), k, where, how, notes)


def load_index(registry: Registry, row: SpaceRow, correction: str = hubness.NONE) -> SpaceIndex:
    """The space's index: from its file if that is fresh, else built, and written where the folder allows it."""
    return index.load(
        registry.path.parent / INDEX,
        row.spec.space_id,
        registry_id=registry.registry_id,
        generation=row.generation,
        fetch=lambda: registry.vectors(row.spec.space_id),
        correction=correction,
    )


#: Settings of a space that ranks by the affinity itself.
PLAIN = (hubness.NONE, predictability.NONE)


def settings(spec: SpaceSpec, hub_correction: str | None, rerank: str | None) -> tuple[str, str]:
    """How a space ranks: as asked, else as the space says, else plainly by affinity.

    Raises:
        UsageError: there is no such correction or re-ranking.
    """
    chosen = hub_correction or str(spec.parameters.get("hubs", hubness.NONE))
    again = rerank or str(spec.parameters.get("rerank", predictability.NONE))
    for value, known, name in ((chosen, hubness.CORRECTIONS, "hubs"), (again, predictability.RERANKINGS, "rerank")):
        if value not in known:
            raise UsageError(f"`{name}={value!r}` is not known", did_you_mean(value, known, f"use {', '.join(known)}"))
    return chosen, again


@dataclass(frozen=True)
class _Target:
    """The model that is asked about: registered (`model_id`), or what a pass yielded (`blocks` by space id)."""

    label: str
    model_id: int | None = None
    blocks: Mapping[str, Sequence[MapBlock]] | None = None

    def maps(self, registry: Registry, spec: SpaceSpec) -> comparison.Maps:
        if self.model_id is not None:
            return comparison.stored_maps(registry, spec, self.model_id)
        assert self.blocks is not None
        return comparison.maps_of(spec, self.blocks)


def _rank(
    registry: Registry,
    row: SpaceRow,
    target: _Target,
    k: int,
    where: str | None,
    how: tuple[str, str],
    notes: Sequence[str] = (),
) -> Neighbours:
    """The ranking: candidates from the index, scored exactly from what is stored, and ranked again if asked."""
    correction, again = how
    spec = row.spec
    row = registry.space(spec.space_id)  # as this connection sees it
    rows = {found.model_id: found for found in registry.models(where)}
    rows.pop(target.model_id, None)  # type: ignore[arg-type]
    maps = target.maps(registry, spec)
    searched = load_index(registry, row, correction)
    if not len(searched.ids) or not rows:
        return Neighbours([], target.label, spec.name, notes)
    if target.model_id is not None:
        vector = hubness.vector_of(searched.vector(target.model_id), correction)
    else:
        vector = comparison.project(registry, spec, maps).astype(np.float32)
    others = None
    if correction == hubness.MUTUAL:
        plain = load_index(registry, row)
        values, ids = plain.search(vector[None], len(plain.ids))
        others = values[0][ids[0] != target.model_id].astype(np.float64)
    exact = searched.exact and registry.is_exact(spec.space_id, TOLERANCE)
    # The target itself and one more than is shown, since the last shown may be tied with the next.
    reach = (k + 2) * (1 if exact else CANDIDATES)
    if again == predictability.DIRECTED:
        reach = max(reach, RERANKED)
    if where:
        reach = len(searched.ids)
    query = hubness.query(vector, correction, searched.dimension, others)
    _, ids = searched.search(query[None], min(reach, len(searched.ids)))
    found = [int(i) for i in ids[0] if int(i) in rows]
    if again == predictability.DIRECTED:
        scores = _directed(registry, features_of(registry, spec), target, found[: max(RERANKED, k + 1)])
        found = in_order(scores)[: k + 1]
        cosines = comparison.cosines(registry, spec, maps, found)
    else:
        if exact:
            found = found[: k + 1]
        scores = cosines = comparison.cosines(registry, spec, maps, found)
        if correction != hubness.NONE and found:
            lines = hubness.score(np.stack([searched.vector(i) for i in found]), correction, others)
            scores = dict(zip(found, lines(np.stack([cosines[i] for i in found])), strict=True))
        found = in_order(scores)[: k + 1]
    neighbours = _neighbours([rows[i] for i in found], [cosines[i] for i in found], [scores[i] for i in found], k)
    ranked_by = again if again != predictability.NONE else correction if correction != hubness.NONE else "affinity"
    return Neighbours(neighbours, target.label, spec.name, notes, ranked_by)


def _directed(registry: Registry, features: SpaceSpec, target: _Target, found: Sequence[int]) -> dict[int, np.ndarray]:
    """How well each source's features foretell the target's; models that the space of features lacks are left out."""
    maps = target.maps(registry, features)
    if not maps:
        raise NotFoundError(
            f"model {target.label!r} is not in space {features.name!r}, whose features the re-ranking needs",
            f"fill it with `space.add(model, name={target.label!r})`, or use `rerank='none'`",
        )
    own = comparison.kernel_of(features, maps)  # type: ignore[arg-type]
    return {
        model_id: predictability.shares(own, predictability.weights(kernel))
        for model_id, kernel in comparison.kernels(registry, features, found)
    }


def all_scores(
    registry: Registry, spec: SpaceSpec, chosen: Collection[int], how: tuple[str, str] | None = None
) -> tuple[list[int], np.ndarray]:
    """What `nearest` ranks by, for all pairs of the chosen models: their ids, and (n, n) scores with row = target.

    Corrections for hubs take their means over all models of the space, chosen or not, as a query does. Directed scores are of
    models that the space of features holds too.

    Args:
        how: correction and re-ranking; default: the space's own.
    """
    correction, again = how or settings(spec, None, None)
    if again == predictability.DIRECTED:
        features = features_of(registry, spec)
        inside = set(registry.model_ids(features.space_id))
        ids = [i for i in registry.model_ids(spec.space_id) if i in chosen and i in inside]
        kernels = dict(comparison.kernels(registry, features, ids))
        return ids, predictability.matrix([kernels[i] for i in ids])
    if correction == hubness.NONE:
        return comparison.matrix(registry, spec, chosen)
    ids, matrix = comparison.matrix(registry, spec, set(registry.model_ids(spec.space_id)))
    at = [k for k, i in enumerate(ids) if i in chosen]
    return [ids[k] for k in at], hubness.corrected(matrix, correction)[np.ix_(at, at)]


def in_order(scores: Mapping[int, np.ndarray]) -> list[int]:
    """Model ids, best first, from their scores per image with the target.

    Equal scores keep the order of registration, whatever order the index returns them in.
    """
    return sorted(scores, key=lambda i: (-round(float(scores[i].mean()), 12), i))


def _neighbours(
    rows: Sequence[ModelRow], cosines: Sequence[np.ndarray], scores: Sequence[np.ndarray], k: int
) -> list[Neighbour]:
    """Records of the first k of a ranking, from cosines and scores per image of at least as many."""
    if not rows:
        return []
    bounds = intervals(np.stack(cosines), np.stack(scores))
    out = []
    for position, found in enumerate(rows[:k]):
        card, affinity = found.card, float(cosines[position].mean())
        out.append(
            Neighbour(
                rank=position + 1,
                name=card.name,
                affinity=affinity,
                low=float(bounds.low[position]),
                high=float(bounds.high[position]),
                distance=float(np.sqrt(max(0.0, 2 - 2 * affinity))),
                tied_with_next=bool(bounds.tied_with_next[position]),
                task=card.task,
                data=card.data,
                architecture=card.architecture,
                uri=card.uri,
                score=float(scores[position].mean()),
            )
        )
    return out
