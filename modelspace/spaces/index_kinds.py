"""The kinds of index: rows of float32 for small spaces, and inverted lists of FAISS for large ones.

Which kind a space gets:

1. up to `ROWS_BYTES` of float32 vectors, the rows themselves: exact, and searched by one product of numpy;
2. else inverted lists (about √n of them, the clusters of a k-means) of 8-bit codes, which a query visits in part;
3. the same of 16-bit floats, where 8 bits are too few;
4. else, the rows themselves again, however many.

A kind is taken if its recall at 10 is at least `LEAST_RECALL`, both among all models and among a random hundredth of
them. Each build measures that: `QUERIES` of its own models are asked for their ten nearest, and recall is the share of
the exact ten that are found; models that are equal up to rounding count as the same. The number of lists that a query
visits is the smallest power of two that reaches `GOOD_RECALL`. Codes only propose `PROPOSED` candidates for each
neighbour; their order is that of the vectors, which are kept next to the lists. A search among up to `FEW` models
compares the vectors of all of them, so it is exact; among more, it visits more lists, in inverse proportion to their
share.

One-bit codes, RaBitQ, are two to ten times as fast as 8 bits but fail here: in rows of a triangular factor most entries
are near zero and a few are large, and recall at 10 fell to 0.01 on 20,000 x 1,024 such vectors, against 0.99 with
8 bits. Rotating the vectors first fixes that, but takes longer than everything else together.

This module is the only one that imports faiss, and does so on first use. FAISS runs OpenMP threads: a process that has
searched must not `os.fork()`; start new processes by spawning them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import NotFoundError

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

#: Up to this number of bytes of vectors, the index is exact: 4,096 models of 1,024 coordinates, some milliseconds.
ROWS_BYTES = 16 << 20

#: Recall at 10 below which a kind of index is not used, and the one at which more lists are not worth their time.
LEAST_RECALL, GOOD_RECALL = 0.95, 0.99

#: Models that a build asks for, and neighbours that count.
QUERIES, COUNTED = 200, 10

#: Candidates per neighbour that lists propose, by their codes, to be ranked by their vectors.
PROPOSED = 4

#: The share of models that the second recall is measured among.
FILTERED = 0.01

#: Models that are compared one by one where a condition keeps no more.
FEW = 20_000

#: The parts of a file begin at multiples of this number of bytes.
_ALIGNED = 64

#: FAISS has fast arithmetic for vectors whose length is a multiple of this; for others it takes five to eight times as
#: long.
_LANES = 16

#: Training vectors per list, and rows that are added or compared at a time.
_PER_LIST, _ROWS = 64, 16_384

#: How far below the best recall fewer lists may be, where no number of them is good.
_SLACK = 0.005

#: Scores that differ by less are equal: near-copies in any order.
_ROUNDING = 1e-6


def load_faiss() -> Any:
    """The module faiss, whose types leave out half of what it has."""
    import faiss

    return faiss


class Recall(NamedTuple):
    """Recall at 10 among all models, and among a random hundredth of them."""

    plain: float
    filtered: float

    @property
    def least(self) -> float:
        """The lower of the two."""
        return min(self)


class Searcher(ABC):
    """Vectors that can be searched by inner product.

    Attributes:
        kind: name of the kind.
        ids: (n,) int64, model ids by position.
        matrix: (n, dimension) float32, their vectors; perhaps mapped from a file.
        dimension: length of a vector.
        exact: whether scores are inner products up to float32 rounding.
        recall: as measured when it was built.
    """

    kind: str
    exact: ClassVar[bool]
    ids: Ids
    matrix: Vectors
    dimension: int
    recall: Recall

    @abstractmethod
    def search(
        self, queries: Vectors, k: int, kept: Ids | None = None, left_out: Ids | None = None
    ) -> tuple[Vectors, Ids]:
        """The k best of each query, best first: scores and model ids, (q, k) each.

        Args:
            queries: (q, dimension) float32.
            k: at most the number of models that can be found.
            kept: only these models, all of them in the index.
            left_out: without these; not together with `kept`.
        """

    @abstractmethod
    def write(self, file: Path) -> None:
        """Write it into an existing, empty file; the bytes depend on ids and vectors alone."""

    def has(self, model_ids: Ids) -> NDArray[np.bool_]:
        """Which of these models are in the index."""
        return self.rows_of(model_ids) >= 0

    def rows_of(self, model_ids: Ids) -> NDArray[np.int64]:
        """Positions of models in the index; -1 for others."""
        if not len(self.ids):
            return np.full(len(model_ids), -1)
        ascending, order = self._order
        place = np.minimum(np.searchsorted(ascending, model_ids), len(ascending) - 1)
        matches = ascending[place] == model_ids
        return np.where(matches, place if order is None else order[place], -1)

    @cached_property
    def _order(self) -> tuple[Ids, NDArray[np.int64] | None]:
        """The ids in ascending order, and their positions, unless they are in that order already."""
        if (self.ids[1:] > self.ids[:-1]).all():
            return self.ids, None
        order = np.argsort(self.ids, kind="stable")
        return self.ids[order], order


class Rows(Searcher):
    """All vectors as float32, compared with each query."""

    kind = "rows"
    exact = True
    recall = Recall(1.0, 1.0)

    def __init__(self, ids: Ids, matrix: Vectors) -> None:
        self.ids = ids
        self.matrix = matrix
        self.dimension = matrix.shape[1]

    @classmethod
    def read(cls, data: Any, count: int, dimension: int) -> Rows | None:
        """From the bytes of `write`, in memory or mapped; None if the numbers contradict them."""
        size = 4 * count * dimension
        if len(data) != size + 8 * count:
            return None
        matrix = np.frombuffer(data, "<f4", count * dimension).reshape(count, dimension)
        return cls(np.frombuffer(data, "<i8", count, size), matrix)

    def search(
        self, queries: Vectors, k: int, kept: Ids | None = None, left_out: Ids | None = None
    ) -> tuple[Vectors, Ids]:
        """One product; models with the same score are in order of position."""
        matrix, ids = self.matrix, self.ids
        if kept is not None or left_out is not None:
            rows = np.zeros(len(ids), dtype=bool)
            rows[self.rows_of(np.zeros(0, np.int64) if kept is None else kept)] = True
            if left_out is not None:
                rows = ~np.isin(ids, left_out)
            matrix, ids = matrix[rows], ids[rows]
        scores = queries @ matrix.T
        best = largest(scores, k)
        return np.take_along_axis(scores, best, 1), ids[best]

    def write(self, file: Path) -> None:
        """The vectors by position, and then the ids."""
        with file.open("wb") as out:
            np.ascontiguousarray(self.matrix, "<f4").tofile(out)
            out.write(np.ascontiguousarray(self.ids, "<i8").tobytes())


class Lists(Searcher):
    """Inverted lists of codes, of which a query visits the nearest, and the vectors that the codes stand for.

    The lists propose `PROPOSED` candidates for each neighbour, which are ranked by their vectors, so scores are inner
    products up to float32 rounding, of those that were found. FAISS gets its vectors with zeros at the end, up to a
    length that it is fast at.

    Attributes:
        probes: number of lists that a query among all models visits.
        trained: number of models that the lists were made for.
    """

    exact = False

    def __init__(
        self, ids: Ids, matrix: Vectors, index: Any, kind: str, probes: int, trained: int, recall: Recall
    ) -> None:
        self.ids, self.matrix, self._index, self.dimension = ids, matrix, index, matrix.shape[1]
        self.kind, self.probes, self.trained, self.recall = kind, probes, trained, recall

    @classmethod
    def trained_on(cls, ids: Ids, vectors: Vectors, kind: str) -> Lists:
        """New lists, of which a query visits one; `with_recall` decides how many are needed."""
        faiss = load_faiss()
        n_lists = 1 << round(math.log2(max(16.0, math.sqrt(len(ids)))))
        length = _padded_length(vectors.shape[1])
        index: Any = faiss.index_factory(length, f"IVF{n_lists},{LIST_KINDS[kind]}", faiss.METRIC_INNER_PRODUCT)
        index.by_residual = False  # differences to a centre have the same rounding, in a wider range
        sample = np.random.default_rng(0).permutation(len(ids))[: _PER_LIST * n_lists]
        index.train(_padded(vectors[np.sort(sample)]))
        for start in range(0, len(ids), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(ids)))
            index.add_with_ids(_padded(vectors[start : start + _ROWS]), rows)
        return cls(ids, vectors, index, kind, 1, len(ids), Recall(0.0, 0.0))

    @classmethod
    def read(cls, index: Any, data: Any, manifest: dict[str, Any]) -> Lists | None:
        """An index of FAISS, in memory or mapped, with vectors and ids from the end of the bytes of `write`.

        None if the manifest contradicts it.
        """
        count, dimension = manifest["count"], manifest["dimension"]
        if (index.ntotal, index.d) != (count, _padded_length(dimension)) or manifest["kind"] not in LIST_KINDS:
            return None
        end = len(data) - 8 * count
        start = end - math.ceil(4 * count * dimension / _ALIGNED) * _ALIGNED
        matrix = np.frombuffer(data, "<f4", count * dimension, start).reshape(count, dimension)
        ids = np.frombuffer(data, "<i8", count, end)
        recall = Recall(manifest["recall"], manifest["recall_filtered"])
        return cls(ids, matrix, index, manifest["kind"], manifest["probes"], manifest["trained"], recall)

    @property
    def n_lists(self) -> int:
        """Number of lists."""
        return int(self._index.nlist)

    def search(
        self, queries: Vectors, k: int, kept: Ids | None = None, left_out: Ids | None = None
    ) -> tuple[Vectors, Ids]:
        """Visits `probes` lists, more if only some models are kept, and none if those are few."""
        if kept is not None and len(kept) <= FEW:
            rows = np.broadcast_to(self.rows_of(kept), (len(queries), len(kept)))
        else:
            rows = self._proposed(queries, k, kept, left_out)
        scores = np.stack([self.matrix[those] @ query for those, query in zip(rows, queries, strict=True)])
        best = largest(scores, k)
        return np.take_along_axis(scores, best, 1), self.ids[np.take_along_axis(rows, best, 1)]

    def _proposed(self, queries: Vectors, k: int, kept: Ids | None, left_out: Ids | None) -> NDArray[np.int64]:
        """Rows of the candidates for k neighbours, in order of position: (q, at least k)."""
        faiss = load_faiss()
        selector, share, arrays, most = None, 1.0, (), len(self.ids)
        if kept is not None:
            selector, arrays = _selector(self.rows_of(kept), most)
            share, most = len(kept) / most, len(kept)
        elif left_out is not None:
            others, arrays = _selector(self.rows_of(left_out), most)
            selector, most = faiss.IDSelectorNot(others), most - len(left_out)
        visited, queries = min(self.n_lists, math.ceil(self.probes / share)), _padded(queries)
        while True:
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=visited)
            _, rows = self._index.search(queries, min(most, PROPOSED * k), params=parameters)
            n_found = int((rows >= 0).sum(axis=1).min(initial=most))
            if n_found >= k or visited == self.n_lists:
                del arrays  # FAISS reads them, and holds no reference
                return np.sort(rows[:, :n_found], axis=1)
            visited = self.n_lists

    def write(self, file: Path) -> None:
        """The index of FAISS, and then the vectors and the ids by position, each from a multiple of 64 bytes on."""
        load_faiss().write_index(self._index, str(file))
        with file.open("ab") as out:
            out.write(bytes(-out.tell() % _ALIGNED))
            for start in range(0, len(self.ids), _ROWS):
                np.ascontiguousarray(self.matrix[start : start + _ROWS], "<f4").tofile(out)
            out.write(bytes(-out.tell() % _ALIGNED))
            out.write(np.ascontiguousarray(self.ids, "<i8").tobytes())

    def merged(self, ids: Ids, vectors: Vectors) -> Lists:
        """With further models. The index must be in memory, and is changed."""
        start = len(self.ids)
        self._index.add_with_ids(_padded(vectors), np.arange(start, start + len(ids)))
        every, matrix = np.concatenate([self.ids, ids]), np.concatenate([self.matrix, vectors])
        return Lists(every, matrix, self._index, self.kind, self.probes, self.trained, self.recall)

    def with_recall(self, truth: Truth) -> Lists:
        """With as many visited lists as a good recall needs, or as few as reach the best; `recall` says which."""
        reached: dict[int, Recall] = {}
        while True:
            recall = reached[self.probes] = truth.recall(self)
            if recall.least >= GOOD_RECALL or self.probes >= self.n_lists:
                break
            self.probes = min(2 * self.probes, self.n_lists)
        best = min(GOOD_RECALL, max(recall.least for recall in reached.values()) - _SLACK)
        self.probes = min(probes for probes, recall in reached.items() if recall.least >= best)
        self.recall = reached[self.probes]
        return self


#: Kinds of lists, in the order in which they are tried, and the codes that FAISS knows by another name.
LIST_KINDS = {"lists of 8 bits": "SQ8", "lists of 16 bits": "SQfp16"}


class Truth:
    """The exact neighbours of some models, which recall is measured against.

    Args:
        ids: (n,) model ids.
        vectors: (n, d) float32.
    """

    def __init__(self, ids: Ids, vectors: Vectors) -> None:
        rng = np.random.default_rng(1)
        self._vectors = vectors
        self._asked = np.sort(rng.permutation(len(ids))[:QUERIES])
        self._kept = np.sort(rng.permutation(len(ids))[: max(2 * COUNTED, round(FILTERED * len(ids)))])
        self._kept_ids = np.sort(ids[self._kept])
        self._least = self._tenth(np.arange(len(ids))), self._tenth(self._kept)

    def recall(self, searcher: Searcher) -> Recall:
        """What a searcher of the same models reaches."""
        plain, filtered = self._least
        return Recall(self._recall(searcher, plain, None), self._recall(searcher, filtered, self._kept_ids))

    def _tenth(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score of each query's tenth neighbour among some rows, without the query itself."""
        queries = self._vectors[self._asked]
        best = np.full((len(queries), COUNTED), -np.inf, np.float32)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            scores = queries @ self._vectors[part].T
            scores[self._asked[:, None] == part[None]] = -np.inf
            every = np.hstack([best, scores])
            best = np.partition(every, -COUNTED, axis=1)[:, -COUNTED:]
        tenth: NDArray[np.float32] = best.min(axis=1)
        return tenth

    def _recall(self, searcher: Searcher, least: NDArray[np.float32], kept: Ids | None) -> float:
        """The share of the ten best among the first ten that are found, without the query itself."""
        n_found = 0
        for query, row, tenth in zip(self._vectors[self._asked], self._asked, least, strict=True):
            _, (ids,) = searcher.search(query[None], COUNTED + 1, kept)
            rows = searcher.rows_of(ids)
            others = self._vectors[rows[rows != row][:COUNTED]] @ query
            n_found += int((others >= tenth - _ROUNDING).sum())
        return round(n_found / (COUNTED * len(self._asked)), 4)


def build(ids: Ids, vectors: Vectors) -> Searcher:
    """The index of some vectors, of the kind that the rule above gives it.

    Args:
        ids: (n,) model ids, unique.
        vectors: (n, d) finite float32.
    """
    if vectors.nbytes <= ROWS_BYTES:
        return Rows(ids, vectors)
    truth = Truth(ids, vectors)
    for kind in LIST_KINDS:
        lists = Lists.trained_on(ids, vectors, kind).with_recall(truth)
        if lists.recall.least >= LEAST_RECALL:
            return lists
    return Rows(ids, vectors)


def largest(scores: Vectors, k: int) -> NDArray[np.int64]:
    """Columns of the k largest numbers of each row, largest first; equal ones by column."""
    if k < scores.shape[1]:
        columns = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, columns, 1), axis=1, kind="stable")
    best: NDArray[np.int64] = np.take_along_axis(columns, order, 1)
    return best


def require(searcher: Searcher, model_id: int) -> None:
    """Raise NotFoundError if a model is not in the index."""
    if not searcher.has(np.array([model_id]))[0]:
        raise NotFoundError(f"model {model_id} is not in the index")


def _padded_length(dimension: int) -> int:
    """The length of a vector inside the lists."""
    return math.ceil(dimension / _LANES) * _LANES


def _padded(vectors: Vectors) -> Vectors:
    """Vectors as FAISS gets them: in rows, with zeros at the end, which change no inner product."""
    missing = _padded_length(vectors.shape[1]) - vectors.shape[1]
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors)


def _selector(rows: NDArray[np.int64], count: int) -> tuple[Any, tuple[Any, ...]]:
    """FAISS's filter for some of the rows, and what must live as long as it does."""
    faiss = load_faiss()
    bits = np.zeros(count, dtype=bool)
    bits[rows] = True
    packed = np.packbits(bits, bitorder="little")
    return faiss.IDSelectorBitmap(len(packed), faiss.swig_ptr(packed)), (packed,)
