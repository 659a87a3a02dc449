"""Nearest neighbours: candidates from the index, scores from what is stored, records to show.

Everything that shows neighbours uses a `Ranker`, so queries, exports, the atlas and reports agree. For a registered
target nothing here needs torch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import DamagedError, NotFoundError
from modelspace.home import INDEX
from modelspace.late import dataclass
from modelspace.registry import ModelRow, Registry, SpaceRow
from modelspace.registry.rows import ModelLabel
from modelspace.results import Neighbour
from modelspace.spaces import affinity, block_files, hubness, index, proposals, rerankings
from modelspace.spaces.bootstrap import Member, intervals
from modelspace.spaces.coordinates import MAX_AXES, TOLERANCE
from modelspace.spaces.index import Growth, SpaceIndex
from modelspace.spaces.index_kinds import Ids, Lists, Searcher
from modelspace.spaces.kinds import Blocks, KernelSpace, Space, StoredSpace, space_of
from modelspace.spaces.ranking import Ranking
from modelspace.spaces.vector_index import VectorIndex, chosen_address, is_local
from modelspace.spaces.views import View, views
from modelspace.spaces.views import kernel_space as kernel_space
from modelspace.types import SpaceSpec

Array = NDArray[np.float64]

#: Past the cap on axes the index only proposes candidates: this many per requested neighbour are ranked by their maps.
CANDIDATES = 8

#: Number of candidates to re-rank; with 200 images it takes less than a second, but for "procrustes" one to two
#: (docs/lab-book/similarities.md).
RERANKED = 200

#: Number where a re-ranking can be had roughly from a part of the images, and how many are scored as it is defined, at
#: least and for each one shown (`scripts/measure_proposals.py` measures what is found).
SCREENED = 1000
LEFT, LEFT_PER_SHOWN = 48, 6

#: Images that candidates are scored by before, and how many stay for each that is left at the end.
_SCREENS = ((50, 4), (100, 1))

#: Number of those that a second view scores too, and how many there are at least for each one shown. Among the 39
#: networks of the zoo the best ten of both views together are among the best 16 of the first.
RERANKED_AGAIN, AGAIN_PER_SHOWN = 16, 2

#: Bytes of stored blocks that a query reads at once and keeps while it ranks.
_FETCHED_BYTES = 32 << 20

#: Affinities of float32 that differ by less may be in another order.
_ROUNDING = 1e-5

#: Indexes that a process keeps between queries.
_MOST_KEPT = 4


@dataclass(frozen=True)
class Target:
    """The model of a query: registered, or embedded for this query only.

    Attributes:
        label: its name in messages.
        model_id: its id, if it is registered.
        blocks: otherwise the blocks from an embedding pass, by space id.
    """

    label: str
    model_id: int | None = None
    blocks: Blocks | None = None

    def blocks_in(self, registry: Registry, spec: SpaceSpec) -> Blocks:
        """The blocks that a space's affinities are computed from."""
        if self.model_id is not None:
            return affinity.stored_blocks(registry, spec, self.model_id)
        assert self.blocks is not None
        return self.blocks


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best transfer sources of a target, best first.

    Attributes:
        model_ids: the n sources.
        affinities: (n, n_images) each probe image's contribution to the affinity.
        scores: (n, n_images) each probe image's contribution to the score that decides the order.
        members: what the intervals of the affinities are computed from.
        score: the scores as a function of affinities; None if they are those, or no such function.
        orders: of a re-ranking with several parts: what each says of its neighbours -> its sources, best first.
    """

    model_ids: list[int]
    affinities: Array
    scores: Array
    members: Sequence[Member] = ()
    score: hubness.Score | None = None
    orders: Mapping[str, list[int]] = field(default_factory=dict)

    def records(self, rows: Mapping[int, ModelRow | ModelLabel], k: int) -> list[Neighbour]:
        """The first k as records, with intervals and ties; number k may be tied with number k + 1.

        Raises:
            DamagedError: one is in a space, but not in the registry.
        """
        if not self.model_ids:
            return []
        for model_id in self.model_ids[:k]:
            if model_id not in rows:
                raise DamagedError(f"a space holds model {model_id}, which the registry lacks", "see: `space.verify()`")
        scores = None if self.scores is self.affinities else self.scores
        bounds = intervals(self.members, self.score or scores)
        return [
            _record(rows[model_id], position, self, (float(bounds.low[position]), float(bounds.high[position])), tied)
            for position, (model_id, tied) in enumerate(zip(self.model_ids[:k], bounds.tied_with_next, strict=False))
        ]


def _record(
    row: ModelRow | ModelLabel, position: int, ranked: Ranked, interval: tuple[float, float], tied: bool
) -> Neighbour:
    mean = float(ranked.affinities[position].mean())
    label = row.card if isinstance(row, ModelRow) else row
    return Neighbour(
        rank=position + 1,
        name=label.name,
        affinity=mean,
        low=interval[0],
        high=interval[1],
        distance=float(np.sqrt(max(0.0, 2 - 2 * mean))),
        tied_with_next=bool(tied),
        task=label.task,
        data=label.data,
        architecture=label.architecture,
        uri=label.uri,
        score=float(ranked.scores[position].mean()),
    )


class _Reranked(NamedTuple):
    """What a re-ranking says.

    Attributes:
        scores: (n_images,) of each source, by model id.
        orders: as `Ranked.orders`.
    """

    scores: dict[int, Array]
    orders: dict[str, list[int]]


class Ranker:
    """Ranks the models of one space for any number of targets.

    Args:
        registry: an open registry.
        row: the space.
        ranking: how to rank.
        chosen: ids of the models that may be ranked; None for all of the space.

    Raises:
        NotFoundError: the ranking needs kernels of the encoder output, and no space has them.
    """

    def __init__(
        self, registry: Registry, row: SpaceRow, ranking: Ranking, chosen: Collection[int] | None = None
    ) -> None:
        self._registry = registry
        self._row = registry.space(row.spec.space_id)  # as this connection sees it
        self._spec = row.spec
        self._ranking = ranking
        self._chosen = None if chosen is None else frozenset(chosen)
        self._chosen_ids = None if chosen is None else np.array(sorted(self._chosen or ()), np.int64)
        self._index = open_index(registry, self._row, ranking.correction)
        self._is_exact = self._index.exact and registry.is_exact(row.spec.space_id, TOLERANCE)
        self._views = views(registry, row.spec, ranking.rerank)
        self._attached: set[str] = set()

    @property
    def note(self) -> str:
        """A remark for the user on the state of the registry, or ""."""
        return self._index.note

    def n_sources(self, target: Target) -> int:
        """Number of models that are ranked for a target."""
        if self._chosen is not None:
            return len(self._chosen - {target.model_id})
        return self._index.count - (target.model_id is not None)

    def knows(self, target: Target) -> bool:
        """Whether a target is one of the space's models; true of one that is not registered."""
        if target.model_id is None:
            return True
        try:
            self._index.vector(target.model_id)
        except NotFoundError:
            return False
        return True

    def rank(self, target: Target, k: int) -> Ranked:
        """The k + 1 best sources, or fewer if there are no more; the extra one may be tied with number k.

        Raises:
            NotFoundError: candidates are re-ranked, and the target has no kernel in the space that is used.
        """
        empty = Ranked([], np.zeros((0, self._spec.n_images)), np.zeros((0, self._spec.n_images)))
        if not self._index.count or (self._chosen is not None and not self._chosen - {target.model_id}):
            return empty
        try:
            return self._rank(target, k) or empty
        finally:
            self._registry.forget_blocks()

    def _rank(self, target: Target, k: int) -> Ranked | None:
        vector = self._vector(target)
        others = self._others(target, vector)
        query = hubness.query(vector, self._ranking.correction, self._index.dimension, others)
        # Two more than k: the target itself, and one that may be tied with number k.
        reach = (k + 2) * (1 if self._is_exact else CANDIDATES)
        proposed = {} if self._views else self._proposed(target, query, reach)
        candidates = list(proposed)
        reranked = _Reranked({}, {})
        if self._views:
            reranked = self._reranked(target, self._compared(target, query, k), k)
            candidates = in_order(reranked.scores)[: k + 1]
        elif self._is_exact:
            candidates = candidates[: k + 1]
        elif not self._ranking.is_corrected:
            candidates = self._by_affinity(target, proposed, vector, k)
        if not candidates:
            return None
        self._fetch(target, candidates)
        blocks = target.blocks_in(self._registry, self._spec)
        members = space_of(self._spec).members(self._registry, blocks, candidates)
        affinities: Array = sum(member.weight * member.products for member in members)  # type: ignore[assignment]
        if self._views:
            scores = np.stack([reranked.scores[i] for i in candidates])
            return Ranked(candidates, affinities, scores, members, orders=reranked.orders)
        score = self._score(candidates, others)
        scores = affinities if score is None else score(affinities)
        position = {model_id: row for row, model_id in enumerate(candidates)}
        best = in_order(dict(zip(candidates, scores, strict=True)))[: k + 1]
        rows = [position[i] for i in best]
        kept = affinities[rows]
        return Ranked(
            best,
            kept,
            kept if score is None else scores[rows],
            [member.of(rows) for member in members],
            None if score is None else hubness.Score(score.slope[rows], score.offset[rows]),
        )

    def _by_affinity(
        self, target: Target, proposed: Mapping[int, float], vector: NDArray[np.float32], k: int
    ) -> list[int]:
        """The candidates that may be among the k + 1 with the largest affinities, as far as stored data tell.

        The inner product of two models' coordinates lacks that of what the coordinates leave out of each, which is at
        most √(1 − |v|²) √(1 − |w|²). So a candidate need not be read whose score is too low even with that.
        """
        others = self._index.vectors(np.fromiter(proposed, np.int64, len(proposed)))
        left_out = _left_out(vector[None])[0] * _left_out(others)
        bounds = dict(zip(proposed, (np.fromiter(proposed.values(), float) + left_out).tolist(), strict=True))
        waiting = sorted(bounds, key=lambda i: -bounds[i])
        known: dict[int, float] = {}
        least = -np.inf
        self._fetch(target, waiting[: 2 * (k + 3)])  # a statement takes longer than what is read beyond the need
        blocks, n_now = target.blocks_in(self._registry, self._spec), k + 3
        while waiting and bounds[waiting[0]] >= least - _ROUNDING:
            now, waiting = waiting[:n_now], waiting[n_now:]
            self._fetch(target, now)
            if self._registry.block_sources:
                n_now *= 2  # from copies, a few too many take less than to begin once more
            known |= space_of(self._spec).affinities(self._registry, blocks, now)
            least = sorted(known.values())[-(k + 1)] if len(known) > k else -np.inf
        return [i for i, affinity in known.items() if affinity >= least - _ROUNDING]

    def _fetch(self, target: Target, model_ids: Iterable[int]) -> None:
        """Read the blocks of the target and of some models in one query for each space, unless they are many."""
        ids = self._with_target(target, model_ids)
        for space in space_of(self._spec).sources(self._registry):
            self._fetch_of(space, ids)

    @staticmethod
    def _with_target(target: Target, model_ids: Iterable[int]) -> list[int]:
        return [*model_ids, *([] if target.model_id is None else [target.model_id])]

    def _fetch_of(self, space: Space, ids: Sequence[int]) -> None:
        if isinstance(space, StoredSpace) and len(ids) * space.code_bytes(space.spec.n_images) <= _FETCHED_BYTES:
            if space.spec.space_id not in self._attached:
                block_files.attach(self._registry, space)
                self._attached.add(space.spec.space_id)
            self._registry.fetch_blocks(space.spec.space_id, ids)

    def _vector(self, target: Target) -> NDArray[np.float32]:
        if target.model_id is None:
            blocks = target.blocks_in(self._registry, self._spec)
            return affinity.project(self._registry, self._spec, blocks).astype(np.float32)
        if self._ranking.is_corrected:
            return hubness.vector_of(self._index.vector(target.model_id), self._ranking.correction)
        return self._index.vector(target.model_id)

    def _others(self, target: Target, vector: NDArray[np.float32]) -> Array | None:
        """The target's affinities to all other models, if the correction needs them."""
        if self._ranking.correction != hubness.MUTUAL:
            return None
        plain = load_index(self._registry, self._row)
        values, ids = plain.search(vector[None], plain.count)
        affinities: Array = values[0][ids[0] != target.model_id].astype(np.float64)
        return affinities

    def _proposed(
        self, target: Target, query: NDArray[np.float32], reach: int, among: Ids | None = None
    ) -> dict[int, float]:
        """The sources nearest to a query, of those that may be ranked, and their scores; best first.

        Args:
            target: is left out.
            query: its vector.
            reach: how many, at most, the target among them.
            among: ids of the models to choose from; None for all.
        """
        if among is None:
            among = self._chosen_ids
        elif self._chosen_ids is not None:
            among = np.intersect1d(among, self._chosen_ids)
        (scores,), (ids,) = self._index.search(query[None], reach, among)
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        return {model_id: score for model_id, score in pairs if model_id != target.model_id}

    def _compared(self, target: Target, query: NDArray[np.float32], k: int) -> list[int]:
        """The sources that are re-ranked.

        They are the nearest ones; in a large space fewer of those, and the ones proposed by what the re-ranking
        measures. Models that are newer than these proposals have the same number of their own.
        """
        n_nearest = n_more = max(RERANKED, k + 1)
        predicting = newest = None
        if self._views[0].reranking.rough is not None:
            predicting, newest = self._predicting(target, max(RERANKED, CANDIDATES * (k + 2)))
            if predicting is None:
                n_nearest = max(SCREENED, k + 1)
        compared = dict.fromkeys(list(self._proposed(target, query, n_nearest + 1))[:n_nearest])
        for ids in (predicting, newest):
            if ids is not None and len(ids):
                compared |= dict.fromkeys(self._proposed(target, query, n_more + 1, ids))
        return list(compared)

    def _predicting(self, target: Target, count: int) -> tuple[Ids, Ids] | tuple[None, None]:
        """Ids of models that may predict a target best, and of those that are too new to be known for it.

        Nothing if the space is small, or nothing proposes any.
        """
        view = self._views[0]
        file = proposals.opened(self._registry, view.space) if self.n_sources(target) > SCREENED else None
        if file is None or not isinstance(view.space, KernelSpace):
            return None, None
        blocks = self._fetched(view, target, ())[view.space.spec.space_id]
        (kernel,) = view.space.rough_kernels(blocks, proposals.chosen_images(view.space.spec.n_images))
        proposed = file.propose(kernel, count, self._chosen_ids)
        if proposed is None:  # damaged
            return None, None
        return np.array(proposed, np.int64), self._index.ids[self._index.ids > file.ids[-1]]

    def _score(self, candidates: Sequence[int], others: Array | None) -> hubness.Score | None:
        """The score of the candidates as a function of their affinities; None if it is the affinity."""
        if not self._ranking.is_corrected:
            return None
        items = self._index.vectors(np.array(candidates))
        return hubness.score(items, self._ranking.correction, others)

    def _reranked(self, target: Target, candidates: Sequence[int], k: int) -> _Reranked:
        """What each image adds to the score of each source; sources that a view does not have are left out.

        The second of two views scores the best by the first.
        """
        per_view: list[dict[int, Array]] = []
        left = list(candidates)
        for view in self._views:
            if per_view:
                left = in_order(per_view[-1])[: max(RERANKED_AGAIN, AGAIN_PER_SHOWN * (k + 1))]
            left = self._screened(view, target, left, max(LEFT, LEFT_PER_SHOWN * (k + 1)))
            blocks = self._fetched(view, target, view.unknown(left))
            per_view.append(view.scores(self._registry, blocks, left))
        n = self._spec.n_images
        scores = {i: rerankings.averaged([each[i] for each in per_view], n) for i in left if i in per_view[-1]}
        if len(per_view) == 1:
            return _Reranked(scores, {})
        words = [view.reranking.agrees_on for view in self._views]
        return _Reranked(scores, {word: in_order(each) for word, each in zip(words, per_view, strict=True)})

    def _screened(self, view: View, target: Target, candidates: list[int], n_left: int) -> list[int]:
        """The candidates that may be among the best, by rough scores from more and more of the images."""
        left = candidates
        for n_images, share in _SCREENS if view.reranking.rough is not None else ():
            if len(left) <= share * n_left:
                continue
            scores: dict[int, float] = {}
            size = max(1, _FETCHED_BYTES // view.space.code_bytes(view.space.spec.n_images) - 1)
            for start in range(0, len(left), size):
                part = left[start : start + size]
                blocks = self._fetched(view, target, view.unknown(part, n_images))
                scores |= view.rough_scores(self._registry, blocks, part, n_images)
                if len(part) < len(left):
                    self._registry.forget_blocks()
            left = sorted((i for i in left if i in scores), key=lambda i: -scores[i])[: share * n_left]
        return left

    def _fetched(self, view: View, target: Target, model_ids: Sequence[int]) -> Blocks:
        """The target's blocks that a view needs; those of some models are read with them.

        Raises:
            NotFoundError: the target has none.
        """
        spec = view.space.spec
        self._fetch_of(view.space, self._with_target(target, model_ids))
        blocks = target.blocks_in(self._registry, spec)
        if not blocks.get(spec.space_id):
            raise NotFoundError(
                f"model {target.label!r} is not in space {spec.name!r}, whose features the re-ranking needs",
                f"use `rerank='none'`, or fill it with `space.fill({spec.name!r}, models=[{target.label!r}])`",
            )
        return blocks


#: The indexes that were used last, and the identity of their files when they were.
_kept: OrderedDict[tuple[object, ...], tuple[SpaceIndex, tuple[object, ...]]] = OrderedDict()
_kept_lock = threading.Lock()


def open_index(registry: Registry, row: SpaceRow, correction: str = hubness.NONE) -> VectorIndex:
    """The index that queries search in: the files next to the registry, or the copy in Milvus that was chosen.

    Items of a hubness correction change with every model, so they are in the files alone.
    """
    if is_local():
        return load_index(registry, row, correction)
    if correction != hubness.NONE:
        local = load_index(registry, row, correction)
        local.note = local.note or "corrected for hubs, so searched in the files next to the registry"
        return local
    from modelspace.spaces import milvus

    return milvus.open_index(registry, row.spec.space_id, chosen_address())


def load_index(
    registry: Registry,
    row: SpaceRow,
    correction: str = hubness.NONE,
    *,
    renew: bool = False,
    removed: Collection[int] = (),
) -> SpaceIndex:
    """The space's index: from its file if that is fresh, otherwise built, and written if the folder is writable.

    The process keeps the last few, each for one generation of its space, as long as their files stay as they are. They
    are in memory or mapped, and lock nothing.

    Args:
        registry: an open registry.
        row: the space.
        correction: hubness correction (`modelspace.spaces.hubness`).
        renew: build and write it in any case.
        removed: ids of models that were just removed from the registry, so that they need not be searched for.

    Raises:
        OSError: with `renew`, which builds it in any case: its file can't be written.
    """
    space_id, folder = row.spec.space_id, registry.path.parent / INDEX
    name = space_id if correction == hubness.NONE else f"{space_id}.{correction}"
    key = (folder, name, registry.registry_id, row.generation)
    with _kept_lock:
        kept = _kept.get(key)
        if kept is not None and not renew and kept[1] == index.files_of(folder, name):
            _kept.move_to_end(key)
            return kept[0]
    growth = Growth(
        row.epoch,
        row.n_models,
        lambda position: registry.vectors_after(space_id, position),
        lambda: registry.ids_and_positions(space_id),
        removed,
    )
    # Exact vectors get longer with each model, until the axes have run out.
    is_extended = row.has_anchors or row.n_models > MAX_AXES
    loaded = index.load(
        folder,
        space_id,
        registry_id=registry.registry_id,
        generation=row.generation,
        fetch=lambda: registry.vectors(space_id),
        growth=growth if is_extended else None,
        correction=correction,
        renew=renew,
        built=lambda base: _derive(registry, row, base, renew),
    )
    with _kept_lock:
        _kept[key] = loaded, index.files_of(folder, name)
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return loaded


def _derive(registry: Registry, row: SpaceRow, base: Searcher, renew: bool) -> None:
    """Write the files of the spaces that affinities are computed from, if their models are many."""
    if isinstance(base, Lists):
        for space in space_of(row.spec).sources(registry):
            renews = renew and space.spec.space_id == row.spec.space_id
            block_files.refresh(registry, space, renew=renews)
            block_files.attach(registry, space)  # to read them from there
            proposals.refresh(registry, space, renew=renews)


def score_matrix(
    registry: Registry, spec: SpaceSpec, chosen: Collection[int], ranking: Ranking | None = None
) -> tuple[list[int], Array]:
    """The scores that a `Ranker` ranks by, for all pairs of the chosen models: ids, and (n, n) with row = target.

    Hubness corrections average over all models of the space, chosen or not, as a query does. A ranking that re-ranks
    scores only the models that have kernels.

    Args:
        registry: an open registry.
        spec: the space.
        chosen: ids of the models to score.
        ranking: how to rank; by default as the space does.
    """
    ranking = ranking or Ranking.of(spec)
    if ranking.is_reranked:
        return _reranked_matrix(registry, spec, chosen, ranking.rerank)
    if not ranking.is_corrected:
        return affinity.matrix(registry, spec, chosen)
    ids, matrix = affinity.matrix(registry, spec, set(registry.model_ids(spec.space_id)))
    rows = [k for k, i in enumerate(ids) if i in chosen]
    return [ids[k] for k in rows], hubness.corrected(matrix, ranking.correction)[np.ix_(rows, rows)]


def _reranked_matrix(
    registry: Registry, spec: SpaceSpec, chosen: Collection[int], rerank: str
) -> tuple[list[int], Array]:
    """Scores of a re-ranking for all pairs of the chosen models that all of its views have."""
    seen = views(registry, spec, rerank)
    known = set.intersection(set(chosen), *(set(registry.model_ids(view.space.spec.space_id)) for view in seen))
    ids = [i for i in registry.model_ids(spec.space_id) if i in known]
    total = np.zeros((len(ids), len(ids)))
    for name, view in zip(rerankings.parts(rerank), seen, strict=True):
        stored = dict(view.stored(registry, ids))
        total += rerankings.score_matrix(name, [stored[i] for i in ids]) if ids else 0.0
    return ids, total / len(seen)


def _left_out(vectors: NDArray[np.float32]) -> Array:
    """The norms of what coordinates (n, d) leave out of unit vectors, (n,)."""
    norms: Array = np.sqrt(np.maximum(0.0, 1.0 - np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)))
    return norms


def in_order(scores: Mapping[int, Array]) -> list[int]:
    """Model ids, best first, from their scores per probe image.

    Ties are in order of registration, whatever order the index returns.
    """
    return sorted(scores, key=lambda i: (-round(float(scores[i].mean()), 12), i))
