"""The index: vectors of a space in FAISS, searched by inner product. Derived from the registry, so it can be deleted.

A space has two files, `<space_id>.faiss` and a manifest, `<space_id>.json`. The index file is used only if the manifest
names this registry, this space, its current generation and this format, and the file's checksum matches: FAISS loads a
damaged file without complaint and returns wrong results. Otherwise the vectors are fetched and the index is rebuilt.
Each file is written under a temporary name, flushed and renamed, the manifest last, so an interrupted write never
leaves a file that could be mistaken for an index.

Below `EXACT_BELOW` models the index holds float32 vectors and is exact. From there on it holds 8 bits per coordinate, a
quarter of the size, and proposes candidates that the caller ranks exactly. (One-bit codes, RaBitQ, are two to ten times
as fast but fail here: in rows of a triangular factor most entries are near zero and a few are large, and recall at 10
fell to 0.01 on 20,000 x 1,024 such vectors, against 0.99 with 8 bits. Rotating the vectors first fixes that, but takes
longer than everything else together.)

Exact indexes are read, written and searched without FAISS (`modelspace.spaces.exact`). This module is the only one that
imports faiss, and does so on first use. FAISS runs OpenMP threads: a process that has
searched must not `os.fork()`; start new processes by spawning them.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Callable, Collection
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelspace import temporary
from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.files import read_regular
from modelspace.home import INDEX_FILES
from modelspace.spaces import hubness
from modelspace.spaces.exact import ExactRows
from modelspace.types import canonical_json

#: Increase it when files of earlier versions become unusable.
FORMAT = 1

#: From this many models on, the index is approximate.
EXACT_BELOW = 20_000

_EXACT, _APPROXIMATE = "Flat", "SQ8"


#: What every manifest holds.
_KEYS = frozenset(("format", "space_id", "registry_id", "generation", "count", "dimension", "kind", "bytes", "sha256"))


#: The remark on a registry whose index is of a later state.
OLDER = (
    "this registry is older than its index (restored from a copy?), so models may be missing; "
    "if it is the right one, `space.rebuild()` says so"
)


class Status(NamedTuple):
    """Whether a space's file can be used ("fresh"), and why not ("stale", "missing", "damaged" or "newer").

    "newer" is a file of a later state of the registry: the registry was replaced by an older copy.
    """

    state: str
    reason: str


class SpaceIndex:
    """The vectors of one space, ready to be searched.

    Attributes:
        ids: (n,) int64, model ids by position.
        dimension: length of a vector.
        exact: whether scores are inner products up to float32 rounding. If not, they are approximate: ask for more
            neighbours than needed, and re-rank them.
        note: a remark for the user, or "".
    """

    def __init__(self, ids: np.ndarray, dimension: int, exact: bool, faiss_index: Any) -> None:
        self.note = ""
        self.ids = ids
        self.dimension = dimension
        self.exact = exact
        self._index = faiss_index
        self._row_of = {model_id: row for row, model_id in enumerate(ids.tolist())}

    def search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k models with the largest inner products for each query, largest first.

        Args:
            vectors: (q, d') finite numbers. Below `dimension` they are padded with zeros; coordinates beyond it are
                ignored, since no model of the space has them.
            k: number of models; at least 1.

        Returns:
            scores (q, k') float32 and model ids (q, k') int64, k' = min(k, n).

        Raises:
            UsageError: the queries are not a matrix of finite numbers, or k is less than 1.
        """
        queries = np.asarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or not np.isfinite(queries).all():
            raise UsageError(f"queries must be a (q, d) matrix of finite numbers, not {queries.shape} or with NaN")
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        k = min(k, len(self.ids))
        if not k or not len(queries):
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        padded = np.zeros((len(queries), self.dimension), np.float32)
        width = min(self.dimension, queries.shape[1])
        padded[:, :width] = queries[:, :width]
        scores, ids = self._index.search(padded, k)
        return scores, ids

    def vector(self, model_id: int) -> np.ndarray:
        """The index's vector of a model, (dimension,) float32; rounded to 8 bits per coordinate if it is not exact.

        Raises:
            NotFoundError: the model is not in the index.
        """
        if model_id not in self._row_of:
            raise NotFoundError(f"model {model_id} is not in the index")
        return np.asarray(self._index.reconstruct(int(model_id)), dtype=np.float32)


def load(
    folder: Path,
    space_id: str,
    *,
    registry_id: str,
    generation: int,
    fetch: Callable[[], tuple[np.ndarray, np.ndarray]],
    write: bool = True,
    correction: str = hubness.NONE,
    renew: bool = False,
) -> SpaceIndex:
    """Load the index of a space from its file if that is fresh; otherwise build it from the registry.

    Args:
        folder: where the files are; created if needed.
        space_id: the space.
        registry_id: the registry's id.
        generation: the space's current generation.
        fetch: returns model ids (n,) int64 and vectors (n, d) float32, by position (`Registry.vectors`).
        write: whether to write a newly built index. A read-only folder is not an error.
        correction: hubness correction (`modelspace.spaces.hubness`): the index then holds its items instead of the
            vectors, in a separate file.
        renew: build and write it even if its file is fresh, and raise an error if it can't be written.

    Raises:
        OSError: as for `renew`.
        DamagedError: the registry's ids are not unique, or its vectors not finite.
    """
    expected = _expected(space_id, registry_id, generation)
    if correction != hubness.NONE:
        expected |= {"correction": correction, "neighbours": hubness.NEIGHBOURS}
    name = space_id if correction == hubness.NONE else f"{space_id}.{correction}"
    checked = None if renew else _check(folder, name, expected)
    if checked is not None and not isinstance(checked, Status) and (stored := _read(*checked)) is not None:
        return stored
    is_older = isinstance(checked, Status) and checked.state == "newer"
    ids, vectors = fetch()
    if np.isfinite(vectors).all():
        vectors = hubness.items(vectors, correction)
    index, data = _build(np.asarray(ids, dtype=np.int64), np.ascontiguousarray(vectors, dtype=np.float32))
    if is_older:
        index.note = OLDER  # and the file, which is all that tells, stays until the user has decided
    elif write:
        manifest = {
            **expected,
            "count": len(index.ids),
            "dimension": index.dimension,
            "kind": _EXACT if index.exact else _APPROXIMATE,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        # A read-only folder or a full disk does not affect the result.
        with nullcontext() if renew else suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"{name}.faiss", data)
            _write(folder / f"{name}.json", (canonical_json(manifest) + "\n").encode())
    return index


def status(folder: Path, space_id: str, registry_id: str, generation: int) -> Status:
    """Whether `load` would use the space's file, without loading it."""
    checked = _check(folder, space_id, _expected(space_id, registry_id, generation))
    return checked if isinstance(checked, Status) else Status("fresh", "")


def remove(folder: Path, keep: Collection[str]) -> None:
    """Remove the files of all spaces except those in `keep`, and what killed processes left unfinished.

    Only a manifest of this module and the index file that it describes are removed: the folder may hold other files,
    also some that end alike. The files with hubness corrections are kept or removed with their space; stale ones are
    replaced on next use.
    """
    temporary.remove_left(folder, INDEX_FILES)
    with suppress(OSError):
        for manifest in sorted(folder.glob("*.json")):
            if (space_id := _owner(manifest)) is not None and space_id not in keep:
                for file in (manifest.with_suffix(".faiss"), manifest):  # the manifest last: without it the other stays
                    with suppress(FileNotFoundError):
                        file.unlink()


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


def _check(folder: Path, space_id: str, expected: dict[str, Any]) -> Status | tuple[dict[str, Any], bytes]:
    """The manifest and the file's bytes, or why they can't be used.

    The file is read only once, so the bytes checked are the bytes used.
    """
    try:
        manifest = json.loads(read_regular(folder / f"{space_id}.json"))
        data = read_regular(folder / f"{space_id}.faiss")
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
            return Status("stale", f"{key} is {known!r}, not {value!r}")
    if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
        return Status("damaged", "its checksum does not match the manifest's")
    return manifest, data


def _read(manifest: dict[str, Any], data: bytes) -> SpaceIndex | None:
    count, dimension, kind = manifest.get("count"), manifest.get("dimension"), manifest.get("kind")
    if count == 0 and not data:
        return SpaceIndex(np.zeros(0, np.int64), 0, True, None)
    exact = ExactRows.from_bytes(data)
    if exact is not None:
        is_described = (exact.ntotal, exact.d, _EXACT) == (count, dimension, kind)
        return SpaceIndex(exact.ids, exact.d, True, exact) if is_described and kind == _kind(exact.ntotal) else None
    import faiss

    try:
        index: Any = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        ids = faiss.vector_to_array(index.id_map)
    except Exception:  # perhaps written by another version of FAISS; the index can be rebuilt from the registry
        return None
    # The checksum covers the file, not the manifest.
    if (index.ntotal, index.d, len(ids)) != (count, dimension, count) or kind != _kind(len(ids)):
        return None
    return SpaceIndex(ids, index.d, kind == _EXACT, index)


def _kind(count: int) -> str:
    return _EXACT if count < EXACT_BELOW else _APPROXIMATE


def _build(ids: np.ndarray, vectors: np.ndarray) -> tuple[SpaceIndex, bytes]:
    """The index and its bytes, which depend on ids and vectors alone."""
    if vectors.ndim != 2 or ids.shape != (len(vectors),):
        raise DamagedError(f"the registry gave {ids.shape} ids for vectors of shape {vectors.shape}")
    if len(np.unique(ids)) != len(ids):  # FAISS would accept them silently
        raise DamagedError("the registry holds a model twice in one space", "see: `space.verify()`")
    if not np.isfinite(vectors).all():
        raise DamagedError("the registry holds vectors that are not finite", "see: `space.verify()`")
    if not len(ids):
        return SpaceIndex(ids, 0, True, None), b""
    dimension = vectors.shape[1]
    kind = _kind(len(ids))
    if kind == _EXACT and dimension:
        rows = ExactRows(ids, vectors)
        return SpaceIndex(ids, dimension, True, rows), rows.to_bytes()
    import faiss

    inner: Any = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    inner.train(vectors)
    index = faiss.IndexIDMap2(inner)
    inner.this.disown()  # the id map owns it, as it does when loaded from a file
    index.own_fields = True
    index.add_with_ids(vectors, ids)
    return SpaceIndex(ids, dimension, kind == _EXACT, index), faiss.serialize_index(index).tobytes()


def _write(path: Path, data: bytes) -> None:
    with temporary.replacing(path) as file:
        file.write_bytes(data)
