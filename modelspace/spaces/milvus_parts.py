"""Copies of a space's vectors in Milvus: how they are laid out, filled, checked and dropped.

DuckDB stays the truth. A copy is a list of *parts*, collections that never change once they are filled; models that
were added since the last fill go into a new part, which takes in small ones before it, so that there are few. Each part
also has one row of no model, `MANIFEST`, whose tags list the parts of the copy up to this one. An alias points to the
newest part, and so to the whole list: moving it, the last step of a fill, replaces one copy by the next from one moment
to the other. A fill that breaks off leaves collections that no alias points to; a later one drops them.

The common failure of vector stores is that index and data disagree without notice. So each row has the checksum that
the registry keeps of the vector, and its *projection*, the inner product of the vector with a fixed random direction.
A search along that direction returns ids, checksums and the projections as Milvus computes them now, so that one
request compares up to 16,384 rows with the registry (checksums) and their vectors with what was sent (projections, to
1e-5; a vector that is off by 0.001 or more in a random direction shows).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import DamagedError
from modelspace.registry import Registry
from modelspace.registry.copies import Sums, labels, sums
from modelspace.spaces.milvus_client import LONGEST_TEXT, MOST_ROWS, REQUEST_BYTES, MissingError, Store

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]

#: Increase it when copies of earlier versions become unusable.
FORMAT = 1

#: The id of the row that lists the parts.
MANIFEST = -1

#: From this many rows on, a part has a graph (HNSW) and proposes candidates; below, all its vectors are compared.
EXACT_BELOW = 50_000

#: From this many rows on, a part is written to disk at once; the log of the store has smaller ones until it does so.
SEALED_FROM = 5_000

#: A graph whose recall at 10 is lower is not used: the part is then searched in full.
RECALL = 0.95

#: Rows whose neighbours are searched to measure the recall.
MEASURED = 100

#: A part is read in full when it is opened up to this size; of larger ones a few ranges, and all in `deep` checks.
READ_IN_FULL = 50_000

#: Ranges, and rows of a graph, that are read of larger parts.
RANGES, SAMPLE = 3, 500

#: Largest difference of a projection.
TOLERANCE = 1e-5

#: Seconds after which a collection that no alias points to is taken for a fill that broke off.
ABANDONED = 3600


class DisagreementError(Exception):
    """The copy is not what the registry has; the text says why."""


@dataclass(frozen=True)
class Source:
    """A space of an open registry.

    Attributes:
        registry: open.
        space_id: the space.
        name: its name.
        generation: its generation.
        models: ids, positions and checksums by position.
    """

    registry: Registry
    space_id: str
    name: str
    generation: int
    models: Sums

    @classmethod
    def of(cls, registry: Registry, space_id: str) -> Source:
        """The space as the registry's connection sees it."""
        row = registry.space(space_id)
        return cls(registry, space_id, row.spec.name, row.generation, sums(registry, space_id))

    @property
    def alias(self) -> str:
        """The alias of its copy; the names of its collections begin with it."""
        return f"modelspace_{self.registry.registry_id.replace('-', '')}_{self.space_id}"

    def between(self, first: int, last: int) -> Sums:
        """The models at these positions, both included."""
        low, high = np.searchsorted(self.models.positions, [first, last + 1])
        return Sums(*(column[low:high] for column in self.models))


@dataclass(frozen=True)
class Part:
    """A collection of a copy.

    Attributes:
        name: of the collection.
        count: number of models.
        first: position of its first model.
        last: position up to which models are in it.
        dimension: length of its vectors.
        exact: whether a search compares all vectors.
        digest: of ids and checksums, by position.
        recall: at 10, as measured when it was filled; 1 if it is exact.
    """

    name: str
    count: int
    first: int
    last: int
    dimension: int
    exact: bool
    digest: str
    recall: float = 1.0

    @property
    def age(self) -> float:
        """Seconds since it was begun, by the clock of the machine that filled it."""
        return time.time() - _begun(self.name)


def _begun(name: str) -> int:
    """When a part was begun, which its name says; seconds since 1970."""
    return int(name.rsplit("_", 2)[1], 16)


@dataclass(frozen=True)
class Contents:
    """The rows of a part, by position: ids and checksums, (m,) each. Models that were removed since are included."""

    ids: Ints
    sums: Ints


def digest(ids: Ints, checksums: Ints) -> str:
    """The combined checksum of a part's rows, in order of position."""
    return hashlib.sha256(np.stack([ids, checksums]).astype("<i8").tobytes()).hexdigest()


def direction(space_id: str, dimension: int) -> Vectors:
    """The direction of the projections, (dimension,), of about unit length."""
    rng = np.random.default_rng(int(space_id, 16))
    along: Vectors = (rng.normal(size=dimension) / np.sqrt(dimension)).astype(np.float32)
    return along


# ---- reading


def parts_of(store: Store, source: Source) -> list[Part]:
    """The parts of the copy that the alias points to, in order of position.

    Raises:
        MissingError: there is no copy.
        DisagreementError: the alias points to something else.
    """
    name = store.target(source.alias)
    if name is None:
        raise MissingError(f"space {source.name} is not in {store.address.text}")
    store.load(name)
    rows = store.rows(name, f"model_id == {MANIFEST}", ["tags"])
    if not rows:
        raise DisagreementError("its list of parts is missing")
    try:
        manifest = json.loads(rows[0]["tags"]["manifest"])
        expected = {"format": FORMAT, "registry_id": source.registry.registry_id, "space_id": source.space_id}
        for key, value in expected.items():
            if manifest[key] != value:
                raise DisagreementError(f"{key} is {manifest[key]!r}, not {value!r}")
        parts = [Part(**part) for part in manifest["parts"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DisagreementError(f"its list of parts can't be read: {error}") from None
    if not parts or parts[-1].name != name:
        raise DisagreementError("the alias points to a part that is not the newest of its list")
    return parts


def check(store: Store, source: Source, part: Part, *, deep: bool = False) -> Contents:
    """Compare a part with the registry; returns its rows.

    Args:
        store: where it is.
        source: the space.
        part: the part.
        deep: read all of it, whatever its size.

    Raises:
        DisagreementError: a model is missing, a vector is another one, or the part changed since it was filled.
        MissingError: the collection is missing.
    """
    store.load(part.name)
    rows = store.count(part.name) - 1  # the list of parts
    if rows != part.count:
        raise DisagreementError(f"part {part.name} has {rows} rows, not {part.count}")
    expected = source.between(part.first, part.last)
    same = part.digest == digest(expected.ids, expected.sums)
    if same and not deep and part.count > READ_IN_FULL:
        _check_sample(store, source, part, expected)
        return Contents(expected.ids, expected.sums)
    contents = _read(store, source, part)
    if digest(contents.ids, contents.sums) != part.digest:
        raise DisagreementError(f"the rows of part {part.name} are not those that were sent")
    if not same:
        _check_models(part, contents, expected)
    return contents


def _check_models(part: Part, contents: Contents, expected: Sums) -> None:
    """Whether all models of the registry are among the rows, with the same checksums."""
    order = np.argsort(contents.ids)
    place = np.searchsorted(contents.ids, expected.ids, sorter=order)
    rows = order[np.minimum(place, len(order) - 1)]
    if not (contents.ids[rows] == expected.ids).all():
        raise DisagreementError(f"models of the registry are missing in part {part.name}")
    if not (contents.sums[rows] == expected.sums).all():
        raise DisagreementError(f"part {part.name} holds other vectors than the registry")


def _ranges(part: Part) -> list[tuple[int, int]]:
    """Ranges of positions, both ends included, with at most as many rows as a request returns."""
    return [(start, min(start + MOST_ROWS - 1, part.last)) for start in range(part.first, part.last + 1, MOST_ROWS)]


def _read(store: Store, source: Source, part: Part) -> Contents:
    """All rows of a part, its vectors compared with their projections."""
    columns = [_rows_at(store, source, part, range_) for range_ in _ranges(part)]
    rows = np.concatenate([np.zeros((0, 3), np.int64), *columns])
    return Contents(rows[:, 0], rows[:, 1])


def _rows_at(store: Store, source: Source, part: Part, positions: tuple[int, int]) -> Ints:
    """The rows at a range of positions, (m, 3): ids, checksums, positions.

    Raises:
        DisagreementError: a vector does not have the projection of the vector that was sent.
    """
    low, high = positions
    along = direction(source.space_id, part.dimension)
    if part.exact:
        (hits,) = store.search(
            part.name,
            along[None],
            min(high - low + 1, MOST_ROWS),
            f"position >= {low} and position <= {high}",
            ("sum", "position", "projection"),
        )
    else:
        hits = list(_read_back(store, part, positions, along))
    seen = np.array([hit["score"] for hit in hits])
    sent = np.array([hit["projection"] for hit in hits])
    if len(hits) and not (np.abs(seen - sent) <= TOLERANCE).all():
        wrong = hits[int(np.argmax(~(np.abs(seen - sent) <= TOLERANCE)))]["model_id"]
        raise DisagreementError(f"the vector of model {wrong} in part {part.name} is not the one that was sent")
    rows = np.array([(hit["model_id"], hit["sum"], hit["position"]) for hit in hits], np.int64).reshape(-1, 3)
    return rows[np.argsort(rows[:, 2], kind="stable")]


def _read_back(store: Store, part: Part, positions: tuple[int, int], along: Vectors) -> Iterator[dict[str, Any]]:
    """The rows of a part with a graph, which does not find all, with the projections of their vectors."""
    step = max(1, min(MOST_ROWS, REQUEST_BYTES // (4 * part.dimension)))
    fields = ("model_id", "sum", "position", "projection", "vector")
    for low in range(positions[0], positions[1] + 1, step):
        high = min(low + step - 1, positions[1])
        for row in store.rows(part.name, f"position >= {low} and position <= {high}", fields):
            yield {**row, "score": float(np.asarray(row["vector"], np.float32).astype(np.float64) @ along)}


def _check_sample(store: Store, source: Source, part: Part, expected: Sums) -> None:
    """Compare a few ranges of positions, the last one among them."""
    ranges = _ranges(part)
    if not part.exact:
        ranges = [(low, min(low + SAMPLE // RANGES, high)) for low, high in ranges]
    rng = np.random.default_rng()
    chosen = {len(ranges) - 1, *rng.choice(len(ranges), min(RANGES, len(ranges)), replace=False).tolist()}
    for low, high in (ranges[i] for i in chosen):
        rows = _rows_at(store, source, part, (low, high))
        registered = source.between(low, high)
        if not np.array_equal(rows[:, :2], np.stack([registered.ids, registered.sums], 1)):
            raise DisagreementError(f"part {part.name} does not hold the registry's models")


# ---- writing


def fill(store: Store, source: Source, kept: Sequence[Part], progress: Progress | None = None) -> list[Part]:
    """Write the models behind the parts that are kept into a new part, and let the alias point to the new copy.

    Args:
        store: where to.
        source: the space; at least one of its models is behind the parts that are kept.
        kept: parts of the copy so far, which were checked.
        progress: called with (models done, total models).

    Returns:
        The parts of the new copy.

    Raises:
        DisagreementError: what arrived is not what was sent.
        ModelspaceError: the store does not answer.
    """
    first = kept[-1].last + 1 if kept else 0
    ids, positions, vectors = source.registry.vectors_after(source.space_id, first - 1)
    rows = source.between(first, int(positions[-1]) if len(positions) else first)
    if not len(ids) or not np.array_equal(ids, rows.ids) or not np.isfinite(vectors).all():
        raise DamagedError(f"the vectors of space {source.name} can't be read in full", "see: `space.verify()`")
    if vectors.shape[1] < 2:  # Milvus knows no vectors of one number
        vectors = np.pad(vectors, ((0, 0), (0, 2 - vectors.shape[1])))
    texts = labels(source.registry, ids.tolist())
    part = Part(
        f"{source.alias}_{int(time.time()):x}_{secrets.token_hex(4)}",
        len(ids),
        first,
        int(positions[-1]),
        vectors.shape[1],
        len(ids) < EXACT_BELOW,
        digest(rows.ids, rows.sums),
    )
    try:
        part = _filled(store, source, part, (rows, vectors, texts), progress)
        parts = [*kept, part]
        store.insert(part.name, [_manifest(source, parts)])
        check(store, source, part, deep=True)
    except BaseException:
        _drop_quietly(store, part.name)
        raise
    store.switch(source.alias, part.name)
    return parts


def _filled(
    store: Store,
    source: Source,
    part: Part,
    content: tuple[Sums, Vectors, Mapping[int, Mapping[str, Any]]],
    progress: Progress | None,
) -> Part:
    """Create and fill the collection of a part. If its graph misses too much, it is searched in full instead."""
    rows, vectors, texts = content
    store.create(part.name, part.dimension, part.exact)
    projections = vectors.astype(np.float64) @ direction(source.space_id, part.dimension)
    step = max(1, REQUEST_BYTES // (4 * part.dimension + 512))
    for start in range(0, len(vectors), step):
        batch = slice(start, start + step)
        columns = (rows.ids[batch], rows.positions[batch], rows.sums[batch], projections[batch])
        store.insert(
            part.name,
            [
                {
                    "model_id": model_id,
                    "position": position,
                    "sum": checksum,
                    "projection": projection,
                    "vector": vector.tolist(),
                    **_fields(texts[model_id]),
                }
                for model_id, position, checksum, projection, vector in zip(
                    *(column.tolist() for column in columns), vectors[batch], strict=True
                )
            ],
        )
        if progress:
            progress(min(start + step, len(vectors)), len(vectors))
    if len(vectors) >= SEALED_FROM:
        store.seal(part.name)
    if part.exact:
        return part
    store.wait(part.name)
    recall = _recall(store, part, rows.ids, vectors)
    if recall >= RECALL:
        return replace(part, recall=recall)
    store.drop(part.name)
    return _filled(store, source, replace(part, exact=True), content, progress)


def _recall(store: Store, part: Part, ids: Ints, vectors: Vectors) -> float:
    """The share of the ten nearest models that a search proposes, of a few models; ties at the tenth place count."""
    chosen = np.random.default_rng(0).choice(len(ids), min(MEASURED, len(ids)), replace=False)
    row_of = {model_id: row for row, model_id in enumerate(ids.tolist())}
    shares = []
    for query in vectors[chosen]:
        scores = vectors @ query
        least = np.sort(scores)[-min(10, len(scores))] - TOLERANCE
        (hits,) = store.search(part.name, query[None], 11, fields=())
        rows = [row_of[hit["model_id"]] for hit in hits if hit["model_id"] in row_of][:10]
        shares.append(np.sum(scores[rows] >= least) / min(10, len(scores)))
    return float(np.mean(shares))


def _fields(texts: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of a model as fields, for other programs that read the store. Long texts are cut."""
    names = ("name", "task", "data", "architecture")
    cut = {name: texts[name].encode()[: LONGEST_TEXT - 1].decode(errors="ignore") for name in names}
    return {**cut, "parameters": texts["parameters"], "tags": texts["tags"]}


def _manifest(source: Source, parts: Sequence[Part]) -> dict[str, Any]:
    content = {
        "format": FORMAT,
        "registry_id": source.registry.registry_id,
        "space_id": source.space_id,
        "generation": source.generation,
        "parts": [asdict(part) for part in parts],
    }
    empty = {"name": "", "task": "", "data": "", "architecture": "", "parameters": 0}
    tags = {"manifest": json.dumps(content)}
    zeros = [0.0] * parts[-1].dimension
    row = {"model_id": MANIFEST, "position": -1, "sum": 0, "projection": 0.0, "vector": zeros}
    return {**row, **empty, "tags": tags}


def _drop_quietly(store: Store, name: str) -> None:
    """Drop what a fill that failed has left, if the store still answers."""
    with suppress(Exception):
        store.drop(name)


def sweep(store: Store, source: Source, replaced: Sequence[Part] = ()) -> None:
    """Drop the collections that are not of a space's copy: replaced ones, and those of fills that broke off."""
    current = {part.name for part in parts_of(store, source)}
    replaced_names = {part.name for part in replaced}
    for name in _collections(store, source):
        age = time.time() - _begun(name)
        if name not in current and (name in replaced_names or age > ABANDONED):
            store.drop(name)


def drop(store: Store, source: Source) -> int:
    """Drop the copy of a space; returns the number of its collections."""
    if store.target(source.alias) is not None:
        store.drop_alias(source.alias)
    names = _collections(store, source)
    for name in names:
        store.drop(name)
    return len(names)


def _collections(store: Store, source: Source) -> list[str]:
    form = re.compile(re.escape(source.alias) + "_[0-9a-f]+_[0-9a-f]{8}")
    return [name for name in store.names() if form.fullmatch(name)]
