"""Sources that may predict a target well, proposed from a vector of each.

Predictability (`modelspace.spaces.predictability`) is no inner product of two models' coordinates, so the models whose
affinity with a target is largest are not those that predict it best, and among very many models the best are often not
among some hundred of them. But with one image left out at a time it is linear in the target's kernel L:

    R² = ⟨L, M⟩ / tr L,    M = I − G diag(1 / Gᵢᵢ²) G,    G = (K + λ I)⁻¹ of the source's kernel K,

so the best sources are those with the largest inner products again, of M with L. Both are of `IMAGES` of the probe
images here, and are projected to at most `LENGTH` numbers: with S = A Bᵀ of a sample of models, A their kernels and B
their M less its mean, both as rows, and S = U Σ Vᵀ, a kernel is multiplied by Bᵀ V Σ^(−1/2) and an M by
Aᵀ U Σ^(−1/2), which gives the best approximation of S of that rank (Eckart & Young 1936).

`index/<space_id>.proposals` has these vectors, of 8 bits a number, for spaces of kernels that are so large that a
query can't compare all of them. It is written with the index and used like `index/<space_id>.blocks`: as long as it is
of this registry and the epoch of its space. All models are ranked by the first `_FIRST` numbers, of which the sums of
some thousand rows at a time are compared with those that the file names, and the best by all numbers, whose sum each
row has. Where they differ, the file is not used. What is proposed is scored from the kernels, so the file can only
decide what is compared, and no score comes from it.

Layout: `_HEADER`, ids of the models (int64, ascending), the projection of kernels and the steps of the numbers
(float32), the sums of the first numbers and those of the others (uint64), and then the first numbers of all models and
the others (uint8).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace import temporary
from modelspace.errors import ModelspaceError
from modelspace.files import open_regular
from modelspace.registry import MapBlock, Registry
from modelspace.representations import kernels
from modelspace.spaces import predictability
from modelspace.spaces.derived_files import KeptFiles, State, current, has_nearly_all, path_of, state_of
from modelspace.spaces.kinds import KernelSpace, Space

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Sums = NDArray[np.uint64]

#: Images, about, the numbers of a vector, and the models whose inner products the projection is made for.
IMAGES, LENGTH, SAMPLE = 50, 512, 1024

#: Numbers by which all models are ranked, and models that are ranked by all numbers.
_FIRST, _AMONG = 128, 1 << 14

#: Models whose first numbers have one sum, and that are read or written at once.
_ROWS = 1024

#: The share of its range in a sample that a number may be outside of it.
_MARGIN = 0.1

#: Directions of less than this share of the largest singular value are rounding.
_LEAST = 1e-6

#: The numbers of a vector are a multiple of it: sums are of 8 bytes at a time.
_LANES = 8

_SUFFIX = ".proposals"

#: Marks the file and its format: magic, registry, epoch, models, images of the space, numbers; and the CRC-32 of all
#: that comes before the numbers. What follows begins at a multiple of 8 bytes.
_HEADER = struct.Struct("<8s36sqqqqI48x")
_MAGIC = b"msprop01"


class _Parts(NamedTuple):
    """The parts of a file.

    Attributes:
        ids: (n,) int64.
        projection: (elements of a kernel's triangle, numbers) float32.
        steps: (numbers,) float32.
        sums: (⌈n / _ROWS⌉,) uint64, of the first numbers of some models.
        row_sums: (n,) uint64, of the other numbers of each.
    """

    ids: Ids
    projection: Floats
    steps: Floats
    sums: Sums
    row_sums: Sums


class Proposals:
    """An open file.

    Attributes:
        ids: (n,) int64, the models that it has, ascending.
        state: the registry and the epoch that it was written for.
    """

    def __init__(self, state: State, parts: _Parts, first: NDArray[np.uint8], others: NDArray[np.uint8]) -> None:
        self.state = state
        self._parts = parts
        self.ids = parts.ids
        self._first, self._others = first, others

    @classmethod
    def open(cls, path: Path) -> Proposals | None:
        """The file, unless it is missing, is no such file, or is damaged before the numbers."""
        with suppress(OSError, ValueError), open_regular(path) as stream:
            fields = _HEADER.unpack(stream.read(_HEADER.size).ljust(_HEADER.size))
            magic, owner, epoch, count, n_images, length, checksum = fields
            if magic != _MAGIC or min(count, n_images, length) <= 0 or length % _LANES:
                return None
            sizes = _sizes(count, n_images, length)
            start = _HEADER.size + sum(sizes)
            if os.fstat(stream.fileno()).st_size != start + count * length:
                return None
            data = stream.read(start - _HEADER.size)
            if _checksum(fields[:-1], data) != checksum:
                return None
            parts = _split(data, sizes, length)
            mapped = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8, offset=start)
            n_first = min(_FIRST, length)
            first = mapped[: count * n_first].reshape(count, n_first)
            others = mapped[count * n_first :].reshape(count, length - n_first)
            return cls(State(owner, epoch), parts, first, others)
        return None

    def propose(self, kernel: Floats, count: int, among: Ids | None = None) -> list[int] | None:
        """The models that may predict a target best, best first; None if the file is damaged.

        Args:
            kernel: (m, m) of the target, of the images of `chosen_images`, any scale.
            count: how many, at most.
            among: ids of the models to choose from; None for all.
        """
        rows = None if among is None else self._rows_of(among)
        total = np.trace(kernel)
        if not total > 0:
            return []
        query = (_triangles(kernel[None])[0] / total) @ self._parts.projection * self._parts.steps
        n_first = self._first.shape[1]
        scores = self._first_scores(query[:n_first], rows)
        if scores is None:
            return None
        rows = np.arange(len(self.ids)) if rows is None else rows
        best = _largest(scores, max(_AMONG, count))
        rows, scores = rows[best], scores[best]
        others = self._others[rows]
        if not np.array_equal(_sums(others), self._parts.row_sums[rows]):
            return None
        scores = scores + others.astype(np.float32) @ query[n_first:]
        return [int(i) for i in self.ids[rows[_largest(scores, count)]]]

    def n_damaged(self) -> int:
        """Number of models whose numbers are not what was written."""
        parts = range(0, len(self.ids), _ROWS)
        n_damaged = 0
        for number, start in enumerate(parts):
            rows = slice(start, start + _ROWS)
            wrong = _sums(self._others[rows]) != self._parts.row_sums[rows]
            if _total(self._first[rows]) != self._parts.sums[number]:
                wrong[:] = True
            n_damaged += int(wrong.sum())
        return n_damaged

    def _rows_of(self, ids: Ids) -> Ids:
        """The rows of those of some models that the file has, ascending."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.unique(places[self.ids[places] == ids])

    def _first_scores(self, query: Floats, rows: Ids | None) -> Floats | None:
        """Inner products of the first numbers of some models, or of all; None if the file is damaged."""
        scores = np.empty(len(self.ids), np.float32)
        buffer = np.empty((_ROWS, len(query)), np.float32)
        numbers = range(len(self._parts.sums)) if rows is None else np.unique(rows // _ROWS).tolist()
        for number in numbers:
            part = slice(number * _ROWS, min((number + 1) * _ROWS, len(self.ids)))
            codes = self._first[part]
            if _total(codes) != self._parts.sums[number]:
                return None
            wide = buffer[: len(codes)]
            np.copyto(wide, codes)  # in a buffer that stays in the processor's cache
            np.dot(wide, query, out=scores[part])
        return scores if rows is None else scores[rows]


_kept = KeptFiles(Proposals.open)


def opened(registry: Registry, space: Space) -> Proposals | None:
    """The file of a space, if there is one that can be used."""
    space_id = space.spec.space_id
    return current(_kept.get(path_of(registry, space_id, _SUFFIX)), registry, space_id)


def chosen_images(n_images: int) -> slice:
    """The images that vectors are of, spread over all."""
    return kernels.spread(n_images, IMAGES)


def refresh(registry: Registry, space: Space, *, renew: bool = False) -> None:
    """Write the file of a space of kernels, unless there is one that can be used and has nearly all models.

    That it can't be written is no error.

    Args:
        registry: an open registry.
        space: any space; nothing is written for one without predictability.
        renew: write it in any case.
    """
    if not isinstance(space, KernelSpace) or space.spec.method not in predictability.POSITIVE:
        return
    ids = np.sort(np.array(registry.model_ids(space.spec.space_id), np.int64))
    file = opened(registry, space)
    is_usable = file is not None and has_nearly_all(file.ids, ids)
    if len(ids) and (renew or not is_usable):
        with suppress(OSError, ModelspaceError):  # a damaged registry is reported by what asks it for models
            _write(registry, space, ids)


def check(registry: Registry, space: Space) -> tuple[int, int] | None:
    """How many models the file of a space has, and how many of them are damaged; None if it isn't used."""
    space_id = space.spec.space_id
    file = current(Proposals.open(path_of(registry, space_id, _SUFFIX)), registry, space_id)
    return None if file is None else (len(file.ids), file.n_damaged())


# ---- writing


class _Projection(NamedTuple):
    """How kernels and M become vectors.

    Attributes:
        kernels: (elements of a triangle, numbers).
        matrices: the same for M.
        low: (numbers,) the least of each number.
        steps: between two codes.
    """

    kernels: Floats
    matrices: Floats
    low: Floats
    steps: Floats

    def codes(self, triangles: Floats) -> NDArray[np.uint8]:
        """The vectors of sources: (n, numbers)."""
        levels = np.rint((triangles @ self.matrices - self.low) / self.steps)
        codes: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
        return codes


def _write(registry: Registry, space: KernelSpace, ids: Ids) -> None:
    """Write the file.

    Raises:
        OSError: it can't be written, or the models are too few or too much alike for one.
        ModelspaceError: the registry can't be read.
    """
    projection = _projection(registry, space, ids)
    length, n_images, count = len(projection.steps), space.spec.n_images, len(ids)
    n_first = min(_FIRST, length)
    sizes = _sizes(count, n_images, length)
    start = _HEADER.size + sum(sizes)
    sums = np.zeros(-(-count // _ROWS), "<u8")
    row_sums = np.zeros(count, "<u8")
    path = path_of(registry, space.spec.space_id, _SUFFIX)
    with temporary.replacing(path) as file, file.open("r+b") as out:
        for at in range(0, count, _ROWS):
            codes = projection.codes(_of_sources(_kernels(registry, space, ids[at : at + _ROWS])))
            first, others = np.ascontiguousarray(codes[:, :n_first]), np.ascontiguousarray(codes[:, n_first:])
            sums[at // _ROWS] = _total(first)
            row_sums[at : at + _ROWS] = _sums(others)
            out.seek(start + at * n_first)
            out.write(first.tobytes())
            out.seek(start + count * n_first + at * others.shape[1])
            out.write(others.tobytes())
        arrays = (ids, projection.kernels, projection.steps, sums, row_sums)
        data = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
        fields = (_MAGIC, *state_of(registry, space.spec.space_id), count, n_images, length)
        out.seek(0)
        out.write(_HEADER.pack(*fields, _checksum(fields, data)) + data)


def _projection(registry: Registry, space: KernelSpace, ids: Ids) -> _Projection:
    """The projection that suits a sample of models.

    Raises:
        OSError: they are too few or too much alike for one.
        ModelspaceError: the registry can't be read.
    """
    sample = _kernels(registry, space, ids[np.unique(np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).astype(int))])
    totals = np.trace(sample, axis1=1, axis2=2)
    kernels_of_trace_1 = (sample / np.where(totals > 0, totals, 1.0)[:, None, None]).astype(np.float32)
    targets = _triangles(kernels_of_trace_1).astype(np.float64)
    sources = _of_sources(sample).astype(np.float64)
    centred = sources - sources.mean(axis=0)
    left, values, right = np.linalg.svd(targets @ centred.T)
    length = min(LENGTH, int((values > _LEAST * values[0]).sum())) // _LANES * _LANES
    if not length:
        raise OSError("the models are too few or too much alike")
    scales = 1.0 / np.sqrt(values[:length])
    of_kernels = (centred.T @ (right[:length].T * scales)).astype(np.float32)
    of_matrices = (targets.T @ (left[:, :length] * scales)).astype(np.float32)
    vectors = sources.astype(np.float32) @ of_matrices
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    margin = _MARGIN * (high - low)
    return _Projection(of_kernels, of_matrices, low - margin, (high - low + 2 * margin) / 255)


def _kernels(registry: Registry, space: KernelSpace, ids: Ids) -> Floats:
    """Kernels of the chosen images of some models, (n, m, m).

    Raises:
        ModelspaceError: they can't be read, or one is missing.
    """
    blocks = _blocks(registry, space, ids.tolist())
    missing = [i for i in ids.tolist() if i not in blocks]
    if missing:
        raise space.missing(f"model {missing[0]}")
    return space.rough_kernels([blocks[i] for i in ids.tolist()], chosen_images(space.spec.n_images))


def _blocks(registry: Registry, space: KernelSpace, ids: Sequence[int]) -> Mapping[int, MapBlock]:
    """The blocks of some models: those of the copies next to the index, and else of the registry."""
    source = registry.block_sources.get(space.spec.space_id)
    copied = ((i, source(i)) for i in ids) if source is not None else iter(())
    blocks = {i: block for i, block in copied if block is not None}
    rest = [i for i in ids if i not in blocks]
    return blocks | dict(registry.map_blocks_at(space.spec.space_id, 0, rest)) if rest else blocks


def _of_sources(sources: Floats) -> Floats:
    return _triangles(predictability.rough_matrices(sources))


# ---- numbers


@lru_cache(maxsize=4)
def _triangle(m: int) -> tuple[NDArray[np.int64], Floats]:
    """The places of the triangle of an (m, m) matrix, and factors that make inner products those of the matrices."""
    rows, columns = np.triu_indices(m)
    return rows * m + columns, np.where(rows == columns, 1.0, np.sqrt(2.0)).astype(np.float32)


def _triangles(matrices: Floats) -> Floats:
    """Symmetric matrices (n, m, m) as vectors with the same inner products, (n, m (m + 1) / 2)."""
    places, factors = _triangle(matrices.shape[-1])
    vectors: Floats = matrices.reshape(len(matrices), -1).take(places, axis=1) * factors
    return vectors


def _largest(scores: Floats, count: int) -> NDArray[np.int64]:
    """Places of the largest scores, largest first."""
    places = np.argpartition(-scores, count)[:count] if count < len(scores) else np.arange(len(scores))
    largest: NDArray[np.int64] = places[np.argsort(-scores[places], kind="stable")]
    return largest


def _sums(codes: NDArray[np.uint8]) -> Sums:
    """The sum of each row, by 8 bytes: (n,), modulo 2^64."""
    rows = np.ascontiguousarray(codes).view("<u8") if codes.shape[1] else np.zeros((len(codes), 0), "<u8")
    sums: Sums = rows.sum(axis=1, dtype=np.uint64)
    return sums


def _total(codes: NDArray[np.uint8]) -> int:
    """The sum of all, by 8 bytes, modulo 2^64."""
    return int(np.ascontiguousarray(codes).reshape(-1).view("<u8").sum(dtype=np.uint64))


def _sizes(count: int, n_images: int, length: int) -> tuple[int, ...]:
    """Bytes of the parts of a file before the numbers."""
    m = len(range(n_images)[chosen_images(n_images)])
    return 8 * count, 4 * (m * (m + 1) // 2) * length, 4 * length, 8 * -(-count // _ROWS), 8 * count


def _split(data: bytes, sizes: Sequence[int], length: int) -> _Parts:
    def parts() -> Iterator[bytes]:
        at = 0
        for size in sizes:
            yield data[at : at + size]
            at += size

    ids, projection, steps, sums, row_sums = parts()
    return _Parts(
        np.frombuffer(ids, "<i8"),
        np.frombuffer(projection, "<f4").reshape(-1, length),
        np.frombuffer(steps, "<f4"),
        np.frombuffer(sums, "<u8"),
        np.frombuffer(row_sums, "<u8"),
    )


def _checksum(fields: Sequence[object], data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(repr(fields).encode()))
