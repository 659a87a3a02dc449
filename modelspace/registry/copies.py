"""What a copy of a space's vectors elsewhere is compared with: ids, positions and checksums, and models' labels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from modelspace.errors import DamagedError, NotFoundError
from modelspace.registry import checksums, schema
from modelspace.registry.connection import translated
from modelspace.registry.reading import Reader

Ints = NDArray[np.int64]


class Sums(NamedTuple):
    """The models of a space by position: ids, positions and checksums of their vectors, each (n,) int64."""

    ids: Ints
    positions: Ints
    sums: Ints


def sums(registry: Reader, space_id: str) -> Sums:
    """The checksums of a space's vectors, without reading those.

    Rows of a registry from before checksums are read, and get a checksum here.
    """
    if registry.has_anchors(space_id):
        column = "coordinates_checksum"
    elif registry.schema_number >= schema.CHECKSUMS:
        column = "vector_checksum"
    else:
        column = "NULL"
    statement = (
        f"SELECT model_id, position::BIGINT AS position, coalesce({column}::BIGINT, -1) AS checksum"
        " FROM main.embeddings WHERE space_id = ? ORDER BY position"
    )
    try:
        with registry.reading("a value"):
            table = registry.connection.duck.execute(statement, [space_id]).fetchnumpy()
    except duckdb.Error as error:
        raise translated(error, registry.path) from None
    ids, positions, stored = (table[name].astype(np.int64) for name in ("model_id", "position", "checksum"))
    if (stored < 0).any():
        _, matrix = registry.vectors(space_id)
        stored = np.array([zlib.crc32(row[: _length(row)].tobytes()) for row in matrix], np.int64)
    return Sums(ids, positions, stored)


def _length(row: np.ndarray) -> int:
    """Length without the zeros that a matrix of longer rows adds."""
    nonzero = np.flatnonzero(row)
    return int(nonzero[-1]) + 1 if len(nonzero) else 0


def vector_of(registry: Reader, space_id: str, model_id: int) -> NDArray[np.float32]:
    """The vector of one model, as `Registry.vectors` has it, without zeros at the end.

    Raises:
        NotFoundError: the model is not in the space.
        DamagedError: the vector does not match its checksum.
    """
    has_anchors, has_sums = registry.has_anchors(space_id), registry.schema_number >= schema.CHECKSUMS
    column = "coordinates" if has_anchors else "vector"
    rows = registry.rows(
        f"SELECT {column}, axis, residual, {column + '_checksum' if has_sums else 'NULL'} FROM main.embeddings"
        " WHERE space_id = ? AND model_id = ?",
        [space_id, model_id],
        needed=(0, 2),
    )
    if not rows:
        raise NotFoundError(f"model {model_id} is not in the space")
    numbers, axis, residual, stored = rows[0]
    with registry.reading("a vector"):
        vector = np.asarray(numbers, dtype=np.float32 if has_anchors else np.float64)
        if has_anchors:
            expected = checksums.of_coordinates(space_id, model_id, vector)
        else:
            expected = checksums.of_vector(space_id, model_id, vector, axis, residual)
    if registry.checks_rows and stored not in (None, expected):
        raise DamagedError(f"the vector of model {model_id} is not what was stored", "see: `space.verify()`")
    return vector.astype(np.float32)


def labels(registry: Reader, model_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Name, task, data, architecture, parameters and tags of models, by id; a missing task or data is ""."""
    rows = registry.rows(
        "SELECT model_id, name, coalesce(task, ''), coalesce(data, ''), architecture, parameters,"
        " map_keys(tags), map_values(tags) FROM main.models WHERE model_id >= ?",
        [min(model_ids, default=0)],
        needed=(0, 1, 4, 5, 6, 7),
    )
    chosen = set(model_ids)
    return {
        model_id: {
            "name": name,
            "task": task,
            "data": data,
            "architecture": architecture,
            "parameters": parameters,
            "tags": dict(zip(keys, values, strict=True)),
        }
        for model_id, name, task, data, architecture, parameters, keys, values in rows
        if model_id in chosen
    }
