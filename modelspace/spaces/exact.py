"""Exact search without FAISS: a product of matrices, for registries that are small enough for one.

Importing faiss takes as long as searching 300 MB of vectors, so a process that answers one query is faster without it.
The file is FAISS's own (`IndexIDMap2` over `IndexFlatIP`), byte for byte, so either side reads what the other wrote.
"""

from __future__ import annotations

import struct

import numpy as np

#: What FAISS writes before the numbers of an index: its kind, the dimension, the number of vectors, two constants, that
#: it is trained, and the metric (0: inner products).
_HEADER = struct.Struct("<4siqqqBi")
_COUNT = struct.Struct("<Q")
_CONSTANT = 1 << 20
_MAPPED, _FLAT = b"IxM2", b"IxFI"


class ExactRows:
    """Vectors by id, searched by inner product.

    Args:
        ids: (n,) int64, unique.
        vectors: (n, d) float32.
    """

    def __init__(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self.ids = ids
        self.vectors = vectors
        self.ntotal, self.d = vectors.shape
        self._row_of = {model_id: row for row, model_id in enumerate(ids.tolist())}

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k largest inner products for each of q queries, largest first, equal ones by position.

        Args:
            queries: (q, d) float32.
            k: 1..n.

        Returns:
            Scores (q, k) float32 and ids (q, k) int64.
        """
        scores = queries @ self.vectors.T
        if k < self.ntotal // 4:
            # Everything that reaches the k-th largest, equal ones included; the rest need not be sorted.
            least = np.partition(scores, self.ntotal - k, axis=1)[:, self.ntotal - k]
            candidates = [np.flatnonzero(row >= bound) for row, bound in zip(scores, least, strict=True)]
            rows = np.stack(
                [some[np.argsort(-row[some], kind="stable")[:k]] for some, row in zip(candidates, scores, strict=True)]
            )
        else:
            rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, rows, axis=1), self.ids[rows]

    def reconstruct(self, model_id: int) -> np.ndarray:
        """The vector of an id: (d,) float32."""
        row: np.ndarray = self.vectors[self._row_of[model_id]]
        return row

    def to_bytes(self) -> bytes:
        """What `faiss.serialize_index` gives for the same vectors."""
        head = (self.d, self.ntotal, _CONSTANT, _CONSTANT, 1, 0)
        return b"".join(
            (
                _HEADER.pack(_MAPPED, *head),
                _HEADER.pack(_FLAT, *head),
                _COUNT.pack(self.vectors.size),
                np.ascontiguousarray(self.vectors, dtype="<f4").tobytes(),
                _COUNT.pack(self.ntotal),
                self.ids.astype("<i8").tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ExactRows | None:
        """The vectors in a file, which are not copied; None if it is another kind of index, or incomplete."""
        start = 2 * _HEADER.size + _COUNT.size
        if len(data) < start + _COUNT.size:
            return None
        kind, d, n, *rest = _HEADER.unpack_from(data)
        inner = _HEADER.unpack_from(data, _HEADER.size)
        if (kind, *rest) != (_MAPPED, _CONSTANT, _CONSTANT, 1, 0) or inner != (_FLAT, d, n, *rest) or n < 1 or d < 1:
            return None
        end = start + 4 * n * d
        if len(data) != end + _COUNT.size + 8 * n:
            return None
        if (_COUNT.unpack_from(data, start - _COUNT.size), _COUNT.unpack_from(data, end)) != ((n * d,), (n,)):
            return None
        vectors = np.frombuffer(data, "<f4", n * d, start).reshape(n, d)
        # Ids are not at a multiple of their size: copied, so that they are aligned.
        ids = np.frombuffer(data, "<i8", n, end + _COUNT.size).astype(np.int64)
        return cls(ids, vectors)
