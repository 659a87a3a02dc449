"""The index: vectors of a space, searched by inner product. Derived from the registry, so it can be deleted.

A space has a file of vectors, `<space_id>.faiss`, and a manifest, `<space_id>.json`; a space of many models also has
`<space_id>.added`, the models that were added since. `modelspace.spaces.index_kinds` says which kind of index a space
gets. The files are used only if the manifest names this registry, this space, its current generation and this format,
and their checksums match: FAISS loads a damaged file without complaint and returns wrong results. Otherwise the vectors
are fetched and the index is rebuilt.

**Growth.** A file of up to `REWRITTEN_BYTES` is written again after each change. A larger one stays as long as the
epoch of its space does, that is, as long as no vector of a model that stays has changed: new models are appended to the
`.added` file, of which the manifest says how much is meant, and removed ones are listed in the manifest. When the
former are more than a share `MERGED` of the index, they are merged into its lists, with the figures of the last build.
When it has outgrown `REBUILT` times the number of models that its lists were made for, or more than twice that share
were removed, it is built again.

**Whole or not at all.** Each file is written under a temporary name, flushed and renamed, the manifest last, and an
appended part counts from the moment when a manifest names it, so an interrupted write never leaves a file that could be
mistaken for an index, and a reader sees the state before a write or the one after.

**Checksums.** A manifest holds the SHA-256 of itself, of the file of vectors, and the CRC-32 of each appended part. A
file of up to `READ_BYTES`, an appended part and a manifest are read and compared each time. A larger file is mapped
into memory, and is compared when its identity (inode, size, times of the last change of content and inode) is not the
one that the manifest names, which is that of the file when its checksum was known to be right. So whatever has been
written to it since is found, by a program or a copy; a bit that the disk itself has lost is found by `verify`, which
compares all of it. A program that cuts such a file short while another process has it mapped crashes that process.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Collection
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelspace import temporary
from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.files import NotRegularError, file_identity, open_regular, read_regular, special_kind
from modelspace.home import INDEX_FILES
from modelspace.late import dataclass
from modelspace.spaces import hubness
from modelspace.spaces.index_kinds import Ids, Lists, Rows, Searcher, Vectors, build, largest, load_faiss
from modelspace.types import canonical_json

#: Increase it when files of earlier versions become unusable.
FORMAT = 2

#: Files up to this size are read and compared with their checksum each time; larger ones are mapped into memory.
READ_BYTES = 20 << 20

#: Files up to this size are written again after each change.
REWRITTEN_BYTES = 1 << 17

#: Models that may be appended before they are merged into the file: a share of it, and at least this number. Twice that
#: may be removed before it is built again.
MERGED, LEAST_MERGED = 0.01, 1024

#: The growth since lists were made for a space at which they are made again.
REBUILT = 1.5

#: What every manifest holds, in each format.
_KEYS = frozenset(("format", "space_id", "registry_id", "generation", "count", "dimension", "kind", "bytes", "sha256"))

#: The remark on a registry whose index is of a later state.
OLDER = (
    "this registry is older than its index (restored from a copy?), so models may be missing; "
    "if it is the right one, `space.rebuild()` says so"
)

#: Seconds after which a file's times tell apart two writes: the clock that stamps them ticks that slowly.
_TICK = 0.02

_NO_IDS = np.zeros(0, np.int64)


class Status(NamedTuple):
    """Whether a space's file can be used ("fresh"), and why not ("stale", "missing", "damaged" or "newer").

    "newer" is a file of a later state of the registry: the registry was replaced by an older copy.
    """

    state: str
    reason: str


@dataclass(frozen=True)
class Growth:
    """What tells how a space has changed since its index was written.

    Attributes:
        epoch: it is another one whenever vectors of models that stay have changed.
        count: number of models.
        after: ids, positions and vectors of the models past a position (`Registry.vectors_after`).
        every: ids and positions of all models (`Registry.ids_and_positions`).
        removed: ids of models that the caller has removed. If they are all that is missing, `every` is not read.
    """

    epoch: int
    count: int
    after: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
    every: Callable[[], tuple[np.ndarray, np.ndarray]]
    removed: Collection[int] = ()


class SpaceIndex:
    """The vectors of one space, ready to be searched.

    Args:
        base: most of the vectors.
        added: the vectors of models that were added since.
        removed: ids of models that are in one of both, and no longer in the space.

    Attributes:
        dimension: length of a vector.
        exact: whether no neighbour is missed. Scores are inner products up to float32 rounding either way.
        note: a remark for the user, or "".
    """

    def __init__(self, base: Searcher, added: Rows | None = None, removed: Ids = _NO_IDS) -> None:
        self.note = ""
        self.base, self.added, self.removed = base, added, removed
        self.dimension = base.dimension
        self.exact = base.exact
        self._parts: list[Searcher] = [base] if added is None or not len(added.ids) else [base, added]

    @property
    def count(self) -> int:
        """Number of models."""
        return sum(len(part.ids) for part in self._parts) - len(self.removed)

    @cached_property
    def ids(self) -> Ids:
        """(n,) int64, model ids by position."""
        every = np.concatenate([part.ids for part in self._parts])
        return every[~np.isin(every, self.removed)] if len(self.removed) else every

    def search(self, vectors: np.ndarray, k: int, kept: Collection[int] | None = None) -> tuple[Vectors, Ids]:
        """The k models with the largest inner products for each query, largest first.

        Args:
            vectors: (q, d') finite numbers. Below `dimension` they are padded with zeros; coordinates beyond it are
                ignored, since no model of the space has them.
            k: number of models; at least 1.
            kept: ids of the models to search among; others than those of the index are ignored. None for all.

        Returns:
            scores (q, k') float32 and model ids (q, k') int64, k' = min(k, n) of the n models to search among.

        Raises:
            UsageError: the queries are not a matrix of finite numbers, or k is less than 1.
        """
        queries = np.asarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or not np.isfinite(queries).all():
            raise UsageError(f"queries must be a (q, d) matrix of finite numbers, not {queries.shape} or with NaN")
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        padded = np.zeros((len(queries), self.dimension), np.float32)
        width = min(self.dimension, queries.shape[1])
        padded[:, :width] = queries[:, :width]
        chosen = None if kept is None else _sorted(kept, self.removed)
        results = [self._search(part, padded, k, chosen) for part in self._parts]
        scores, ids = np.hstack([part[0] for part in results]), np.hstack([part[1] for part in results])
        if len(results) == 1:
            return scores, ids
        best = largest(scores, min(k, scores.shape[1]))
        return np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)

    def _search(self, part: Searcher, queries: Vectors, k: int, kept: Ids | None) -> tuple[Vectors, Ids]:
        left_out = None
        if kept is not None:
            kept = kept[part.has(kept)]
            count = len(kept)
        else:
            left_out = self.removed[part.has(self.removed)]
            count = len(part.ids) - len(left_out)
        k = min(k, count)
        if not k or not len(queries):
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        return part.search(queries, k, kept, left_out if left_out is not None and len(left_out) else None)

    def vector(self, model_id: int) -> Vectors:
        """The index's vector of a model, (dimension,) float32.

        Raises:
            NotFoundError: the model is not in the index.
        """
        vector: Vectors = self.vectors(np.array([model_id]))[0]
        return vector

    def vectors(self, model_ids: Ids) -> Vectors:
        """The index's vectors of some models, (m, dimension) float32.

        Raises:
            NotFoundError: one is not in the index.
        """
        out = np.empty((len(model_ids), self.dimension), np.float32)
        missing = np.ones(len(model_ids), dtype=bool)
        for part in self._parts:
            rows = part.rows_of(model_ids)
            out[rows >= 0] = part.matrix[rows[rows >= 0]]
            missing &= rows < 0
        if len(self.removed):
            missing |= np.isin(model_ids, self.removed)
        if missing.any():
            raise NotFoundError(f"model {model_ids[missing][0]} is not in the index")
        return out


def _sorted(ids: Collection[int], without: Ids) -> Ids:
    chosen = np.unique(ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64, len(ids)))
    return chosen[~np.isin(chosen, without)] if len(without) else chosen


def load(
    folder: Path,
    space_id: str,
    *,
    registry_id: str,
    generation: int,
    fetch: Callable[[], tuple[np.ndarray, np.ndarray]],
    growth: Growth | None = None,
    write: bool = True,
    correction: str = hubness.NONE,
    renew: bool = False,
    built: Callable[[Searcher], None] | None = None,
) -> SpaceIndex:
    """Load the index of a space from its files if they are fresh or can be brought up to date; otherwise build it.

    Args:
        folder: where the files are; created if needed.
        space_id: the space.
        registry_id: the registry's id.
        generation: the space's current generation.
        fetch: returns model ids (n,) int64 and vectors (n, d) float32, by position (`Registry.vectors`).
        growth: what tells how the space has changed; None: build a stale index again, as where each model makes all
            vectors longer.
        write: whether to write a newly built index. A read-only folder is not an error.
        correction: hubness correction (`modelspace.spaces.hubness`): the index then holds its items instead of the
            vectors, in a separate file; they all change with each model.
        renew: build and write it even if its file is fresh, and raise an error if it can't be written.
        built: called with the vectors when the index was built, or models were merged into it, and it was written.

    Raises:
        OSError: as for `renew`.
        DamagedError: the registry's ids are not unique, or its vectors not finite.
    """
    expected = _expected(space_id, registry_id, generation)
    if correction != hubness.NONE:
        expected |= {"correction": correction, "neighbours": hubness.NEIGHBOURS}
        growth = None
    files = _Files(folder, space_id if correction == hubness.NONE else f"{space_id}.{correction}")
    state = Status("stale", "") if renew else files.status(expected)
    with suppress(_UnusableError):
        if state.state == "fresh":
            return files.read()
        if state.state == "stale" and growth is not None and not renew:
            index = files.grown(expected, growth, write)
            if files.merged and built is not None:
                built(index.base)
            return index
    ids, vectors = fetch()
    if np.isfinite(vectors).all():
        vectors = hubness.items(vectors, correction)
    base = _build(np.asarray(ids, dtype=np.int64), np.ascontiguousarray(vectors, dtype=np.float32))
    index = SpaceIndex(base)
    if state.state == "newer":
        index.note = OLDER  # and the file, which is all that tells, stays until the user has decided
    elif write:
        # A read-only folder or a full disk does not affect the result.
        with nullcontext() if renew else suppress(OSError):
            files.write(base, expected, growth)
            if built is not None:
                built(base)
            with suppress(_UnusableError):  # another process may have written since
                return files.read() if files.is_mapped else index
    return index


def status(folder: Path, space_id: str, registry_id: str, generation: int, *, deep: bool = True) -> Status:
    """Whether `load` would use the space's files as they are.

    Args:
        folder: where they are.
        space_id: the space.
        registry_id: the registry's id.
        generation: the space's current generation.
        deep: compare the checksum of a large file too if its identity is the known one.
    """
    files = _Files(folder, space_id)
    state = files.status(_expected(space_id, registry_id, generation))
    try:
        if state.state == "fresh":
            files.check(deep=deep)
    except _UnusableError as error:
        return Status("damaged", error.reason)
    return state


def remove(folder: Path, keep: Collection[str]) -> None:
    """Remove the files of all spaces except those in `keep`, and what killed processes left unfinished.

    Only a manifest of this module and the index files that it describes are removed: the folder may hold other files,
    also some that end alike. The files with hubness corrections are kept or removed with their space; stale ones are
    replaced on next use.
    """
    temporary.remove_left(folder, INDEX_FILES)
    with suppress(OSError):
        for manifest in sorted(folder.glob("*.json")):
            if (space_id := _owner(manifest)) is not None and space_id not in keep:
                # The manifest last: without it the others stay.
                for suffix in (".faiss", ".added", ".blocks", ".proposals", ".json"):
                    with suppress(FileNotFoundError):
                        manifest.with_suffix(suffix).unlink()


def files_of(folder: Path, space_id: str) -> tuple[object, ...]:
    """The identity of a space's index files, which another write changes; None for a file that is missing."""
    return tuple(_identity_of(folder / f"{space_id}{suffix}") for suffix in (".json", ".faiss", ".added"))


def _owner(manifest: Path) -> str | None:
    """Id of the space whose index a manifest describes; None if it is not a manifest of this module."""
    if not re.fullmatch(INDEX_FILES, manifest.name) or not stat.S_ISREG(manifest.lstat().st_mode):
        return None
    try:
        content = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not content.keys() >= _KEYS:
        return None
    correction = content.get("correction")
    name = content["space_id"] if correction is None else f"{content['space_id']}.{correction}"
    return str(content["space_id"]) if name == manifest.stem else None


def _expected(space_id: str, registry_id: str, generation: int) -> dict[str, Any]:
    # The generation last: where the others agree, a larger one is of a later state.
    return {"format": FORMAT, "space_id": space_id, "registry_id": registry_id, "generation": generation}


class _UnusableError(Exception):
    """An index file is damaged, or can't be brought up to date."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Files:
    """The files of one index.

    Attributes:
        manifest: the content of the manifest, once `status` has read it.
        merged: whether `grown` has written the file of vectors again.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.vectors, self.added, self.json = (folder / f"{name}{suffix}" for suffix in (".faiss", ".added", ".json"))
        self.manifest: dict[str, Any] = {}
        self.merged = False

    # ---- checking

    def status(self, expected: dict[str, Any]) -> Status:
        """Whether the manifest is intact and names these values; "fresh" says nothing of the other files."""
        try:
            manifest = json.loads(read_regular(self.json))
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                return Status("missing", "the file does not exist")
            return Status("damaged", f"it can't be read: {error.strerror}")
        except (ValueError, RecursionError):
            return Status("damaged", "the manifest is not JSON")
        if not isinstance(manifest, dict):
            return Status("damaged", "the manifest is not a JSON object")
        for key, value in expected.items():
            if (known := manifest.get(key)) != value:
                if key == "generation" and isinstance(known, int) and known > value:
                    return Status("newer", "it is of a later state of this registry")
                if key == "generation" and _is_whole(manifest):
                    self.manifest = manifest
                return Status("stale", f"{key} is {known!r}, not {value!r}")
        if not _is_whole(manifest):
            return Status("damaged", "the manifest is not what was written")
        if not os.path.lexists(self.vectors):
            return Status("missing", "the file does not exist")
        self.manifest = manifest
        return Status("fresh", "")

    @property
    def is_mapped(self) -> bool:
        """Whether the file of vectors is mapped into memory."""
        return int(self.manifest["bytes"]) > READ_BYTES

    def check(self, *, deep: bool = False) -> bytes:
        """Compare the file of vectors with its checksum, and return it unless it is mapped.

        Args:
            deep: also if the identity of a mapped file is the known one.

        Raises:
            _UnusableError: they don't match, or it can't be read.
        """
        try:
            if not self.is_mapped:
                data = read_regular(self.vectors)
                self._compare(hashlib.sha256(data).hexdigest())
                return data
            if special_kind(self.vectors):
                raise _UnusableError(f"it can't be read: it is {special_kind(self.vectors)}, not a file")
            identity = _identity_of(self.vectors)
            if deep or identity is None or identity != self.manifest["identity"]:
                self._compare(_sha256_of(self.vectors))
                self._know(identity)
        except OSError as error:
            raise _UnusableError(f"it can't be read: {error.strerror}") from None
        return b""

    def _compare(self, sha256: str) -> None:
        if sha256 != self.manifest["sha256"]:
            raise _UnusableError("its checksum does not match the manifest's")

    def _know(self, identity: list[int] | None) -> None:
        """Write down the identity of a mapped file that was compared with its checksum, unless it may yet change."""
        is_settled = identity is not None and time.time_ns() - max(identity[2:]) > _TICK * 1e9
        if is_settled and identity != self.manifest["identity"] and _identity_of(self.vectors) == identity:
            with suppress(OSError):
                self._publish(self.manifest | {"identity": identity})

    # ---- reading

    def read(self) -> SpaceIndex:
        """The index.

        Raises:
            _UnusableError: a file is damaged.
        """
        data = self.check()
        manifest = self.manifest
        try:
            return SpaceIndex(self._base(data), self._added(), np.array(manifest["removed"], np.int64))
        except _UnusableError:
            raise
        except Exception as error:  # perhaps written by another version of FAISS, or a manifest that somebody made
            raise _UnusableError(f"it can't be read: {error}") from None

    def _base(self, data: bytes, *, in_memory: bool = False) -> Searcher:
        manifest = self.manifest
        count, dimension = manifest["count"], manifest["dimension"]
        base: Searcher | None
        if manifest["kind"] == Rows.kind:
            base = Rows.read(_mapped(self.vectors) if self.is_mapped else data, count, dimension)
        else:
            faiss = load_faiss()
            if self.is_mapped:
                index = faiss.read_index(str(self.vectors), 0 if in_memory else faiss.IO_FLAG_MMAP)
            else:
                index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
            base = Lists.read(index, _mapped(self.vectors, at_random=True) if self.is_mapped else data, manifest)
        if base is None:
            raise _UnusableError("the manifest contradicts it")
        return base

    def _added(self) -> Rows | None:
        """The appended models, compared with their checksums."""
        parts = self.manifest["added"]
        if not parts:
            return None
        record = _record(self.manifest["dimension"])
        try:
            with open_regular(self.added) as file:
                read = [file.read(count * record.itemsize) for count, _ in parts]
        except OSError as error:
            raise _UnusableError(f"the appended part can't be read: {error.strerror}") from None
        if [[len(data) // record.itemsize, zlib.crc32(data)] for data in read] != [list(part) for part in parts]:
            raise _UnusableError("an appended part does not match its checksum")
        table = np.frombuffer(b"".join(read), record)
        return Rows(table["id"].astype(np.int64), np.ascontiguousarray(table["vector"], np.float32))

    # ---- writing

    def write(
        self,
        base: Searcher,
        expected: dict[str, Any],
        growth: Growth | None,
        last: int | None = None,
        removed: Ids = _NO_IDS,
    ) -> None:
        """Write all files.

        Args:
            base: the vectors.
            expected: what the manifest must name.
            growth: of the space, for its epoch, or None.
            last: position of the last model; by default that of the space's last.
            removed: ids of models that are no longer in the space.

        Raises:
            OSError: one can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with temporary.replacing(self.vectors) as out:
            base.write(out)
            size, sha256 = out.stat().st_size, _sha256_of(out)
        grows = growth is not None and size > REWRITTEN_BYTES
        identity = _settled(self.vectors) if size > READ_BYTES else None
        if growth is not None and grows and last is None:
            last = int(growth.every()[1].max(initial=-1))
        manifest = {
            **expected,
            "epoch": growth.epoch if growth is not None and grows else None,
            "last": last,
            "count": len(base.ids),
            "dimension": base.dimension,
            "kind": base.kind,
            "recall": base.recall.plain,
            "recall_filtered": base.recall.filtered,
            "bytes": size,
            "sha256": sha256,
            "identity": identity,
            "added": [],
            "removed": removed.tolist(),
        }
        if isinstance(base, Lists):
            manifest |= {"probes": base.probes, "trained": base.trained}
        self._publish(manifest)
        with suppress(FileNotFoundError):
            self.added.unlink()

    def _publish(self, manifest: dict[str, Any]) -> None:
        manifest = {key: value for key, value in manifest.items() if key != "checksum"}
        manifest["checksum"] = _checksum(manifest)
        with temporary.replacing(self.json) as file:
            file.write_bytes((canonical_json(manifest) + "\n").encode())
        self.manifest = manifest

    # ---- growth

    def grown(self, expected: dict[str, Any], growth: Growth, write: bool) -> SpaceIndex:
        """The index of an earlier generation, brought up to date.

        Raises:
            _UnusableError: it must be built again.
        """
        manifest = self.manifest
        if not manifest or manifest.get("epoch") != growth.epoch or manifest.get("last") is None:
            raise _UnusableError("it can't be brought up to date")
        index = self.read()
        ids, positions, vectors = growth.after(int(manifest["last"]))
        rows = _fitted(index, np.asarray(ids, np.int64), vectors)
        removed = _removed(index, rows.ids, growth)
        last = int(positions.max(initial=manifest["last"]))
        n_added = len(rows.ids) + (0 if index.added is None else len(index.added.ids))
        most = max(LEAST_MERGED, round(MERGED * len(index.base.ids)))
        if len(removed) > 2 * most:
            raise _UnusableError("it has lost too much")
        if n_added > most:
            return self._merge(index, rows, removed, expected, growth, last if write else None)
        if write:
            with suppress(OSError):
                self._append(rows, manifest | expected | {"last": last, "removed": removed.tolist()})
        every = rows if index.added is None else Rows(*_stacked(index.added, rows))
        return SpaceIndex(index.base, every, removed)

    def _append(self, rows: Rows, manifest: dict[str, Any]) -> None:
        """Append models, and write the manifest that counts them."""
        record = _record(manifest["dimension"])
        data = np.zeros(len(rows.ids), record)
        data["id"], data["vector"] = rows.ids, rows.matrix
        if len(data):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            if special_kind(self.added):
                raise NotRegularError(f"{self.added} is {special_kind(self.added)}")
            with os.fdopen(os.open(self.added, flags, 0o666), "r+b") as file:
                file.seek(sum(count for count, _ in manifest["added"]) * record.itemsize)
                file.write(data.tobytes())
                file.flush()
                os.fsync(file.fileno())
            manifest["added"] = [*manifest["added"], [len(data), zlib.crc32(data.tobytes())]]
        self._publish(manifest)

    def _merge(
        self,
        index: SpaceIndex,
        rows: Rows,
        removed: Ids,
        expected: dict[str, Any],
        growth: Growth,
        last: int | None,
    ) -> SpaceIndex:
        """The same with appended models in the lists, written unless `last` is None."""
        if not isinstance(index.base, Lists) or growth.count > REBUILT * index.base.trained:
            raise _UnusableError("it has grown too much")
        every = rows if index.added is None else Rows(*_stacked(index.added, rows))
        in_memory = self._base(b"", in_memory=True)
        assert isinstance(in_memory, Lists)
        merged = in_memory.merged(every.ids, every.matrix)
        if last is not None:
            with suppress(OSError):
                self.write(merged, expected, growth, last, removed)
                self.merged = True
                return self.read()
        return SpaceIndex(merged, removed=removed)


def _fitted(index: SpaceIndex, ids: Ids, vectors: np.ndarray) -> Rows:
    """New models with vectors of the index's length.

    Raises:
        _UnusableError: one has a coordinate beyond it, or is in the index already.
    """
    if any(part.has(ids).any() for part in (index.base, index.added) if part is not None):
        raise _UnusableError("a model was added again")
    if not np.isfinite(vectors).all():
        raise DamagedError("the registry holds vectors that are not finite", "see: `space.verify()`")
    if vectors[:, index.dimension :].any():
        raise _UnusableError("the space has more axes")
    matrix = np.zeros((len(ids), index.dimension), np.float32)
    width = min(index.dimension, vectors.shape[1])
    matrix[:, :width] = vectors[:, :width]
    return Rows(ids, matrix)


def _removed(index: SpaceIndex, new: Ids, growth: Growth) -> Ids:
    """Ids of the models of an index that are no longer in the space.

    Raises:
        _UnusableError: the space has others than those and the new ones.
    """
    if index.count + len(new) == growth.count:
        return index.removed
    parts = [part for part in (index.base, index.added) if part is not None]
    missing = np.fromiter(growth.removed, np.int64, len(growth.removed))
    missing = np.unique(np.concatenate([index.removed, *(missing[part.has(missing)] for part in parts)]))
    if sum(len(part.ids) for part in parts) + len(new) - len(missing) == growth.count:
        return missing  # these are not in the space, and no more are missing
    present, _ = growth.every()
    known = np.concatenate([part.ids for part in parts])
    removed: Ids = known[~np.isin(known, present)]
    if len(known) + len(new) - len(removed) != growth.count:
        raise _UnusableError("it lacks models")
    return removed


def _stacked(first: Rows, second: Rows) -> tuple[Ids, Vectors]:
    return np.concatenate([first.ids, second.ids]), np.vstack([first.matrix, second.matrix])


def _record(dimension: int) -> np.dtype[Any]:
    """A model in the appended part."""
    return np.dtype([("id", "<i8"), ("vector", "<f4", (dimension,))])


def _build(ids: Ids, vectors: Vectors) -> Searcher:
    """The vectors as an index, whose bytes depend on ids and vectors alone."""
    if vectors.ndim != 2 or ids.shape != (len(vectors),):
        raise DamagedError(f"the registry gave {ids.shape} ids for vectors of shape {vectors.shape}")
    if len(np.unique(ids)) != len(ids):  # FAISS would accept them silently
        raise DamagedError("the registry holds a model twice in one space", "see: `space.verify()`")
    if not np.isfinite(vectors).all():
        raise DamagedError("the registry holds vectors that are not finite", "see: `space.verify()`")
    if not len(ids):
        return Rows(ids, np.zeros((0, 0), np.float32))
    return build(ids, vectors)


def _is_whole(manifest: dict[str, Any]) -> bool:
    """Whether a manifest is what was written."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    try:
        return bool(manifest.get("checksum") == _checksum(content))
    except (TypeError, ValueError, RecursionError):
        return False


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _sha256_of(file: Path) -> str:
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _mapped(file: Path, *, at_random: bool = False) -> mmap.mmap:
    """A file in memory, as far as it is read; what lies around a row is not read with it if rows are read at random."""
    with open_regular(file) as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if at_random and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    return mapped


def _identity_of(file: Path) -> list[int] | None:
    """The identity of a file, without its device, whose number may be another one after a restart."""
    known = file_identity(file)
    return None if known is None else list(known[1:])


def _settled(file: Path) -> list[int] | None:
    """The identity of a file that was just written, once a further write would change it."""
    time.sleep(2 * _TICK)
    return _identity_of(file)
