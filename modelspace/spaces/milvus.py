"""The index of a space in Milvus: searched in the parts of its copy, and compared with the registry when it is opened.

Nothing of a copy is believed. When it is opened, ids and checksums of its rows are compared with the registry's, and
their vectors with what was sent (`modelspace.spaces.milvus_parts`); in a process that goes on searching, again after
`CHECK_AGAIN` seconds, and the number of rows every second. Each hit is compared once more. Vectors of models
come from the registry, which also ranks the candidates. Models that the registry no longer has are left out; those that
were added since the last fill are read from the registry and compared here. A copy that disagrees is filled again if
the space has at most `AUTOMATIC` models, and refused if it has more: that may take hours, which a query must not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.registry.copies import Sums, sums, vector_of
from modelspace.spaces import milvus_parts
from modelspace.spaces.milvus_client import MOST_ROWS, Address, MissingError, Store
from modelspace.spaces.milvus_parts import DisagreementError, Part, Progress, Source

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]

#: A query fills the copy of a space with at most this number of models; of a larger one, `push` does.
AUTOMATIC = 20_000

#: Up to this number of models that were added since the last fill are compared here; more are filled first.
TAIL = 1_000

#: Most ids in one condition.
MOST_IDS = 10_000

#: Rows that a search asks for on top, so that those of other models can be left out.
SPARE = 1_000

#: Seconds after which the rows are compared with the registry again.
CHECK_AGAIN = 60.0

#: Seconds after which all nodes of a cluster have what was filled. Parts never change, so that older ones can be read
#: as they were a moment ago; comparisons with the registry read them as they are.
SETTLED = 60.0

#: Seconds after which a search asks again where the alias points to, and for the number of rows.
COUNT_AGAIN = 1.0

_stores: dict[Address, Store] = {}
_sums: dict[tuple[str, str], tuple[int, Sums]] = {}


def store_at(address: Address) -> Store:
    """The connection of this process to a store; opened on first use."""
    if address not in _stores:
        _stores[address] = Store(address)
    return _stores[address]


def close_stores() -> None:
    """Close all connections, so that other processes can open files of milvus-lite."""
    while _stores:
        _stores.popitem()[1].close()
    _checked.clear()


@dataclass(frozen=True)
class _Searched:
    """A part as a query sees it.

    Attributes:
        part: the part.
        ids: (m,) of the registry's models in it, sorted.
        sums: (m,) their checksums, in the same order.
        others: ids of the other rows: models that were removed since, and the list of parts.
    """

    part: Part
    ids: Ints
    sums: Ints
    others: Ints


@dataclass(frozen=True)
class _Tail:
    """Models that are in no part: ids (t,) and vectors (t, d)."""

    ids: Ints
    vectors: Vectors


_checked: dict[tuple[str, str], tuple[float, int, _Searched]] = {}


def open_index(registry: Registry, space_id: str, address: str) -> MilvusIndex:
    """The index of a space.

    Args:
        registry: open.
        space_id: the space.
        address: where the copy is.

    Raises:
        ModelspaceError: the store can't be reached.
        NotFoundError: the copy is missing, and too large to be filled by a query.
        DamagedError: the copy is not what the registry has, and too large to be filled by a query.
    """
    return MilvusIndex(store_at(Address.parse(address)), _source(registry, space_id))


def _source(registry: Registry, space_id: str) -> Source:
    """The space; its checksums are read once for each state, which has a generation that no other one has."""
    row = registry.space(space_id)
    key = registry.registry_id, space_id
    generation, models = _sums.get(key, (None, None))
    if models is None or generation != row.generation:
        models = sums(registry, space_id)
        _sums[key] = row.generation, models
    return Source(registry, space_id, row.spec.name, row.generation, models)


class MilvusIndex:
    """The vectors of one space in Milvus; a `modelspace.spaces.vector_index.VectorIndex`.

    Args:
        store: where the copy is.
        source: the space; its registry stays open as long as the index is used.
    """

    def __init__(self, store: Store, source: Source) -> None:
        self.note = ""
        self._store, self._source = store, source
        self._parts: list[_Searched] = []
        self._tail = _Tail(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
        self._opened_at = -np.inf
        self._attempt(lambda: None)

    # ---- what the registry has

    @property
    def count(self) -> int:
        """Number of models."""
        return len(self._source.models.ids)

    @property
    def ids(self) -> Ints:
        """(n,) int64, model ids by position."""
        return self._source.models.ids

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return max(int(self._tail.vectors.shape[1]), *(each.part.dimension for each in self._parts), 0)

    @property
    def exact(self) -> bool:
        """Whether scores are inner products up to float32 rounding."""
        return all(each.part.exact for each in self._parts)

    def vector(self, model_id: int) -> Vectors:
        """The registry's vector of a model, (dimension,) float32.

        Raises:
            NotFoundError: the model is not in the space.
        """
        vector = vector_of(self._source.registry, self._source.space_id, model_id)
        return np.pad(vector, (0, max(0, self.dimension - len(vector))))

    def vectors(self, model_ids: Ints) -> Vectors:
        """The registry's vectors of (n,) models, (n, dimension) float32.

        Raises:
            NotFoundError: a model is not in the space.
        """
        return np.stack([self.vector(model_id) for model_id in model_ids.tolist()])

    # ---- searching

    def search(self, vectors: np.ndarray, k: int, kept: Collection[int] | None = None) -> tuple[Vectors, Ints]:
        """The k models with the largest inner products for each query, largest first.

        Args:
            vectors: (q, d') finite numbers; shorter ones are padded with zeros, longer ones cut.
            k: number of models; at least 1.
            kept: ids of the models to search among; None for all.

        Returns:
            scores (q, k') float32 and model ids (q, k') int64, k' = min(k, number of models to search among).

        Raises:
            UsageError: the queries are not a matrix of finite numbers, or k is out of range.
            DamagedError: the copy is not what the registry has, and could not be filled again.
        """
        queries = np.asarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or not np.isfinite(queries).all():
            raise UsageError(f"queries must be a (q, d) matrix of finite numbers, not {queries.shape} or with NaN")
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        chosen = None if kept is None else np.unique(np.fromiter(kept, np.int64, len(kept)))
        if min(k, self.count if chosen is None else len(chosen)) > MOST_ROWS - SPARE:
            raise UsageError(
                f"Milvus returns at most {MOST_ROWS - SPARE:,} models", "ask for fewer with `k=`, or `index='local'`"
            )
        answers: list[tuple[Vectors, Ints]] = []

        def run() -> None:
            answers[:] = [self._search(query, k, chosen) for query in queries]

        self._attempt(run)
        width = len(answers[0][1]) if answers else 0
        scores = np.array([scores for scores, _ in answers], np.float32).reshape(len(queries), width)
        return scores, np.array([ids for _, ids in answers], np.int64).reshape(len(queries), width)

    def _search(self, query: Vectors, k: int, chosen: Ints | None) -> tuple[Vectors, Ints]:
        """Scores and ids of one query, (k',) each."""
        scores, ids = self._search_tail(query, chosen)
        for each in self._parts:
            eligible = each.ids if chosen is None else np.intersect1d(each.ids, chosen, assume_unique=True)
            if len(eligible):
                part_scores, part_ids = self._search_part(each, query, k, eligible)
                scores, ids = np.concatenate([scores, part_scores]), np.concatenate([ids, part_ids])
        order = np.argsort(-scores, kind="stable")[:k]
        return scores[order].astype(np.float32), ids[order]

    def _search_tail(self, query: Vectors, chosen: Ints | None) -> tuple[Vectors, Ints]:
        rows = np.isin(self._tail.ids, chosen) if chosen is not None else np.ones(len(self._tail.ids), bool)
        width = self._tail.vectors.shape[1]
        return self._tail.vectors[rows] @ _fitted(query, width), self._tail.ids[rows]

    def _search_part(self, each: _Searched, query: Vectors, k: int, eligible: Ints) -> tuple[Vectors, Ints]:
        """The best of the eligible models of a part."""
        k = min(k, len(eligible))
        others = each.part.count + 1 - len(eligible)
        if others <= SPARE:
            hits = self._hits(each, query, k + others)
        elif len(eligible) <= MOST_IDS:
            hits = self._hits(each, query, k, _among(eligible))
        elif others <= MOST_IDS:
            everything = np.union1d(each.ids, each.others)
            hits = self._hits(each, query, k, _among(np.setdiff1d(everything, eligible), "not in"))
        else:
            hits = self._hits(each, query, MOST_ROWS)
            if np.isin(hits[1], eligible).sum() < k:
                chunks = [eligible[start : start + MOST_IDS] for start in range(0, len(eligible), MOST_IDS)]
                answers = [self._hits(each, query, min(k, len(ids)), _among(ids)) for ids in chunks]
                hits = np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])
        rows = np.isin(hits[1], eligible)
        scores, ids = hits[0][rows], hits[1][rows]
        order = np.argsort(-scores, kind="stable")[:k]
        if len(order) < k:
            raise DisagreementError(f"part {each.part.name} found {len(order)} models of {k}")
        return scores[order], ids[order]

    def _hits(self, each: _Searched, query: Vectors, limit: int, condition: str = "") -> tuple[Vectors, Ints]:
        """What a search finds, (h,) scores and ids of models that the registry has with the same checksums.

        Raises:
            DisagreementError: a row is of no model of the part, or of another vector.
        """
        limit = min(limit, MOST_ROWS)
        (hits,) = self._store.search(
            each.part.name,
            _fitted(query, each.part.dimension)[None],
            limit,
            condition,
            settled=each.part.age > SETTLED,
        )
        ids = np.array([hit["model_id"] for hit in hits], np.int64)
        scores = np.array([hit["score"] for hit in hits], np.float32)
        sums = np.array([hit["sum"] for hit in hits], np.int64)
        known = np.isin(ids, each.ids)
        if not (known | np.isin(ids, each.others)).all():
            raise DisagreementError(f"part {each.part.name} holds models that were not sent")
        rows = np.searchsorted(each.ids, ids[known])
        if not (each.sums[rows] == sums[known]).all() or not np.isfinite(scores).all():
            raise DisagreementError(f"part {each.part.name} holds other vectors than the registry")
        return scores[known], ids[known]

    # ---- opening

    def _attempt(self, run: Callable[[], None]) -> None:
        """Open the copy and run; if something is missing or disagrees, fill the copy and do both again.

        The second try goes without a fill: another process may have replaced the copy in the meantime.
        """
        reason = self._failure(run) and self._failure(run)
        if reason is None:
            return
        is_missing = isinstance(reason, MissingError)
        self._require_automatic("is missing" if is_missing else f"is wrong: {reason}", is_missing=is_missing)
        try:
            update(self._store, self._source, whole=True)
        except DisagreementError as error:
            reason = error
        else:
            if not is_missing:
                self.note = f"the index at {self._store.address.text} was filled again: {reason}"
            reason = self._failure(run)
        if reason is not None:
            raise DamagedError(
                f"the index at {self._store.address.text} is not what the registry has: {reason}",
                "search in the files next to the registry: `index='local'`",
            )

    def _failure(self, run: Callable[[], None]) -> Exception | None:
        """Open the copy and run; returns what is missing or disagrees, or None."""
        try:
            if time.monotonic() - self._opened_at >= COUNT_AGAIN:
                self._open()
            run()
        except (DisagreementError, MissingError) as error:
            self._opened_at = -np.inf
            _forget(self._store)
            return error
        return None

    def _open(self) -> None:
        """Compare the parts with the registry, unless that was done a moment ago, and read the newest models."""
        if not self.count:
            return
        searched = self._searched()
        behind = self.count - sum(len(each.ids) for each in searched)
        if behind > TAIL:
            self._require_automatic(f"lacks {behind:,} models that were added")
            update(self._store, self._source)
            searched = self._searched()
        last = searched[-1].part.last
        ids, _, vectors = self._source.registry.vectors_after(self._source.space_id, last)
        if sum(len(each.ids) for each in searched) + len(ids) != self.count:
            raise DisagreementError("models of the registry are in no part")
        self._parts, self._tail = searched, _Tail(ids, vectors)
        self._opened_at = time.monotonic()

    def _searched(self) -> list[_Searched]:
        parts = milvus_parts.parts_of(self._store, self._source)
        return [_compared(self._store, self._source, part) for part in parts]

    def _require_automatic(self, what: str, *, is_missing: bool = False) -> None:
        """Refuse a fill that takes longer than a query may."""
        if self.count > AUTOMATIC:
            address = self._store.address.text
            text = f"the index of space {self._source.name!r} at {address} {what}"
            hint = f"fill it: `space.push_index(index={address!r})`; or search with `index='local'`"
            raise NotFoundError(text, hint) if is_missing else DamagedError(text, hint)


# ---- what a query and the verb have in common


def update(
    store: Store, source: Source, *, whole: bool = False, progress: Progress | None = None
) -> tuple[list[Part], int]:
    """Bring the copy of a space up to date.

    Args:
        store: where it is.
        source: the space.
        whole: fill all of it again, whatever is stored.
        progress: called with (models done, total models).

    Returns:
        The parts of the copy, and the number of models that were written.

    Raises:
        DisagreementError: what arrived is not what was sent.
        ModelspaceError: the store does not answer; the alias points to what it did before.
    """
    if not len(source.models.ids):
        milvus_parts.drop(store, source)
        return [], 0
    old: list[Part] = []
    with suppress(MissingError, DisagreementError):
        old = milvus_parts.parts_of(store, source)
    kept = [] if whole else _sound(store, source, old)
    size = _behind(source, kept)
    if not size and kept == old:
        milvus_parts.sweep(store, source)
        return kept, 0
    while kept and kept[-1].count <= 2 * size:
        kept.pop()
        size = _behind(source, kept)
    parts = milvus_parts.fill(store, source, kept, progress)
    milvus_parts.sweep(store, source, old)
    return parts, size


def _sound(store: Store, source: Source, parts: Sequence[Part]) -> list[Part]:
    """The first parts, as far as they are what the registry has, and most of their models are still registered."""
    kept: list[Part] = []
    for part in parts:
        try:
            milvus_parts.check(store, source, part)
        except (DisagreementError, MissingError):
            break
        if len(source.between(part.first, part.last).ids) <= part.count // 2:
            break
        kept.append(part)
    # A part that no model follows can't be replaced by the models after it.
    while kept and len(kept) < len(parts) and not _behind(source, kept):
        kept.pop()
    return kept


def _behind(source: Source, parts: Sequence[Part]) -> int:
    """The number of models that are in none of the parts."""
    return int((source.models.positions > (parts[-1].last if parts else -1)).sum())


def state_of(store: Store, source: Source, *, deep: bool = False) -> tuple[str, str, list[Part]]:
    """The state of a copy, why, and its parts: "fresh", "behind", "missing", "damaged", or "empty" without models.

    Args:
        store: where it is.
        source: the space.
        deep: compare all rows, also of large parts.
    """
    if not len(source.models.ids):
        return "empty", "", []
    parts: list[Part] = []
    try:
        parts = milvus_parts.parts_of(store, source)
        for part in parts:
            milvus_parts.check(store, source, part, deep=deep)
    except MissingError as error:
        return ("damaged" if parts else "missing"), error.message, parts
    except DisagreementError as error:
        return "damaged", str(error), parts
    if behind := _behind(source, parts):
        return "behind", f"{behind:,} models were added since", parts
    return "fresh", "", parts


def _compared(store: Store, source: Source, part: Part) -> _Searched:
    """A part that is what the registry has.

    Raises:
        DisagreementError: it is not.
        MissingError: it is missing.
    """
    key = store.address.text, part.name
    compared_at, generation, searched = _checked.get(key, (-np.inf, 0, None))
    if searched is not None and generation == source.generation and time.monotonic() - compared_at < CHECK_AGAIN:
        if store.count(part.name) != part.count + 1:
            raise DisagreementError(f"rows of part {part.name} were added or removed")
        return searched
    contents = milvus_parts.check(store, source, part)
    registered = source.between(part.first, part.last)
    order = np.argsort(registered.ids)
    ids = registered.ids[order]
    others = np.append(np.setdiff1d(contents.ids, ids), milvus_parts.MANIFEST)
    searched = _Searched(part, ids, registered.sums[order], others)
    _checked[key] = time.monotonic(), source.generation, searched
    return searched


def _forget(store: Store) -> None:
    """Compare all parts of a store again when they are next opened."""
    for key in [key for key in _checked if key[0] == store.address.text]:
        del _checked[key]


def _among(ids: Ints, operator: str = "in") -> str:
    """The condition that a row is of one of these models, or "not in": of another one."""
    return f"model_id {operator} [{', '.join(map(str, ids.tolist()))}]"


def _fitted(query: Vectors, dimension: int) -> Vectors:
    """A query with this number of entries: cut, or padded with zeros."""
    out = np.zeros(dimension, np.float32)
    width = min(dimension, len(query))
    out[:width] = query[:width]
    return out
