"""Writing a simulated population into a registry, in bulk: rows go to DuckDB as columns, a batch per transaction.

What is written is what `add` would have written for such kernels and maps: codes, scales, coordinates, checksums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from modelspace.registry import EmbeddingRow, Registry, checksums
from modelspace.registry.reading import PART_BYTES
from modelspace.spaces import affinity, anchors, coordinates
from modelspace.spaces.coordinates import Factor
from modelspace.spaces.kinds import BlendSpace, KernelSpace, MapSpace, Space, StoredSpace, space_of
from population import hub
from population.draws import Floats, Integers
from population.families import Families, families
from population.hub import Hub
from population.kernels import KernelPopulation
from population.maps import MapPopulation
from population.targets import SHAPES

Population: TypeAlias = KernelPopulation | MapPopulation

#: Models per transaction.
BATCH = 2_000

#: Rows with exact coordinates per INSERT.
_ROWS = 256


def population_of(space: Space, seed: int, people: Families) -> Population:
    """The kernels or maps of a population in a space.

    Raises:
        ValueError: the space is of another kind, or its kernels are not stored in 8 bits.
    """
    spec, tasks = space.spec, hub.tasks(seed, people)
    if isinstance(space, KernelSpace) and space.is_packed and spec.bits == KernelPopulation.bits:
        return KernelPopulation(seed, people, tasks, spec.n_images)
    if isinstance(space, MapSpace):
        shape = SHAPES.get(spec.method, SHAPES["gradient_x_input"])
        return MapPopulation(seed, people, tasks, spec.n_images, spec.canvas, spec.bits, shape)
    raise ValueError(f"the space {spec.name!r} has neither maps nor packed kernels of 8 bits")


def insert(registry: Registry, table: str, select: Mapping[str, str], columns: Mapping[str, NDArray[Any]]) -> None:
    """Insert rows that are given as columns.

    Args:
        registry: open for writing, in a transaction.
        table: of the schema main.
        select: column of the table -> SQL over the given columns.
        columns: equally long arrays; texts and blobs are arrays of objects.
    """
    duck = registry.connection.duck
    duck.register("new_rows", dict(columns))
    try:
        registry.execute(
            f"INSERT INTO main.{table} ({', '.join(select)}) SELECT {', '.join(select.values())} FROM temp.new_rows"
        )
    finally:
        duck.unregister("new_rows")


class Filler:
    """Writes models of a population into a registry whose spaces exist.

    Args:
        registry: open for writing.
        seed: of the population.
        n_models: number of models that will ever be written.

    Raises:
        ValueError: a space can't be simulated.
    """

    def __init__(self, registry: Registry, seed: int, n_models: int) -> None:
        self.registry, self.seed = registry, seed
        self.people = families(seed, n_models)
        self.hub = Hub(seed, self.people)
        spaces = [space_of(row.spec) for row in registry.spaces()]
        # The members of a blend come first.
        self.spaces = sorted(spaces, key=lambda space: space.is_derived)
        self.populations = {
            space.spec.space_id: population_of(space, seed, self.people) for space in spaces if not space.is_derived
        }
        self._placing: dict[str, Floats] = {}

    def fill(self, start: int, stop: int, on_batch: Callable[[int], None] = lambda count: None) -> None:
        """Write models start..stop - 1 of the population, which must be the next ones; one transaction per batch.

        Args:
            start: number of models in the registry.
            stop: number of models afterwards.
            on_batch: called after each transaction with the number of models in the registry.
        """
        for first, end in _batches(start, stop):
            with self.registry.transaction():
                self.write(np.arange(first, end))
            on_batch(end)

    def write(self, ids: Integers) -> None:
        """Write models with consecutive numbers, all with exact coordinates or all without, inside a transaction."""
        rows = self.registry.rows(f"SELECT nextval('main.model_ids') FROM range({len(ids)})")
        model_ids = np.sort(np.array([row[0] for row in rows], dtype=np.int64))
        insert(self.registry, "models", hub.SELECT, self.hub.columns(ids, model_ids))
        placed: dict[str, Floats] = {}
        for space in self.spaces:
            space_id = space.spec.space_id
            if not space.is_derived:
                self._write_blocks(space, ids, model_ids)
            if ids[0] < coordinates.MAX_EXACT:
                self._write_exact(space, ids, model_ids)
            else:
                placed[space_id] = self._placed(space, ids, placed)
                self._write_placed(space_id, model_ids, placed[space_id])

    def _write_blocks(self, space: Space, ids: Integers, model_ids: Integers) -> None:
        codes, scales = self.populations[space.spec.space_id].codes(ids)
        assert isinstance(space, StoredSpace)
        n_images = space.spec.n_images
        per_block = min(n_images, space.images_per_block)
        size = codes.shape[1] // n_images  # of maps; a kernel is one block
        for first in range(0, n_images, per_block):
            count = min(per_block, n_images - first)
            cut = slice(None) if count == n_images else slice(first * size, (first + count) * size)
            block = codes[:, cut], scales[:, first * 8 : (first + count) * 8]
            columns = parts(space.spec.space_id, first, count, model_ids, *block)
            insert(self.registry, "maps", {name: name for name in columns}, columns)

    def _affinities(self, space: Space, ids: Integers, others: Integers) -> Floats:
        """Affinities of models in a space, (n, m)."""
        if isinstance(space, BlendSpace):
            return np.asarray(
                sum(weight * self.populations[i].affinities(ids, others) for i, weight in space.weights.items())
            )
        return self.populations[space.spec.space_id].affinities(ids, others)

    def _write_exact(self, space: Space, ids: Integers, model_ids: Integers) -> None:
        """Append rows of the triangular factor, as `add` does below `MAX_EXACT` models."""
        space_id = space.spec.space_id
        factor = Factor.from_rows(affinity.rows_of(self.registry.embeddings(space_id)))
        known = self._affinities(space, ids, np.arange(ids[-1] + 1))
        rows = []
        for number, model_id, row in zip(ids.tolist(), model_ids.tolist(), known, strict=True):
            placed = factor.append(row[:number])
            rows.append(EmbeddingRow(model_id, number, placed.vector, row[:number], placed.axis, placed.residual))
        for start in range(0, len(rows), _ROWS):
            self.registry.insert_embeddings(space_id, rows[start : start + _ROWS])
        self._count(space_id, None)

    def _placed(self, space: Space, ids: Integers, members: Mapping[str, Floats]) -> Floats:
        """Coordinates on the anchors of a space, (n, d), as `anchors.place` computes them for one model."""
        if not self.registry.has_anchors(space.spec.space_id):
            anchors.choose(self.registry, space.spec)
        if isinstance(space, BlendSpace):
            return np.hstack([np.sqrt(weight) * members[member] for member, weight in space.weights.items()])
        population, table = self.populations[space.spec.space_id], self._placing_table(space.spec.space_id)
        vectors = population.against(ids, table)
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        return np.asarray(vectors / np.maximum(length, 1.0)[:, None])

    def _placing_table(self, space_id: str) -> Floats:
        """For each feature, or map of the pool, what it adds to the coordinates of a model that has it."""
        if space_id not in self._placing:
            stored = self.registry.anchors(space_id)
            lower = coordinates.matrix([anchor.factor for anchor in stored])
            # Models are in the order of the population, but ids may be missing: of models that were added and removed.
            ids = [row[0] for row in self.registry.rows("SELECT model_id FROM main.models ORDER BY model_id")]
            numbers = np.searchsorted(np.array(ids), [anchor.model_id for anchor in stored])
            table = self.populations[space_id].table(numbers)
            self._placing[space_id] = np.ascontiguousarray(solve_triangular(lower, table.T, lower=True).T)
        return self._placing[space_id]

    def _write_placed(self, space_id: str, model_ids: Integers, vectors: Floats) -> None:
        """Append models that have coordinates on the anchors alone."""
        rows = vectors.astype(np.float32)
        start, nothing = self.registry.space(space_id).end, np.zeros(0)
        wide = rows.astype(np.float64)
        residual = np.maximum(0.0, 1.0 - np.einsum("ij,ij->i", wide, wide))
        position = start + np.arange(len(rows))
        ids = model_ids.tolist()
        columns = {
            "space_id": _repeated(space_id, len(rows)),
            "model_id": model_ids,
            "position": position.astype(np.int32),
            "residual": residual,
            "vector_checksum": np.array(
                [
                    checksums.of_vector(space_id, i, nothing, None, r)
                    for i, r in zip(ids, residual.tolist(), strict=True)
                ],
                dtype=np.uint32,
            ),
            "affinities_checksum": np.array(
                [checksums.of_affinities(space_id, i, p, nothing) for i, p in zip(ids, position.tolist(), strict=True)],
                dtype=np.uint32,
            ),
            "coordinates_checksum": np.array(
                [checksums.of_coordinates(space_id, i, row) for i, row in zip(ids, rows, strict=True)], dtype=np.uint32
            ),
        }
        select = {name: name for name in columns} | {"vector": "[]", "affinities": "[]", "axis": "NULL"}
        numbers = {f"c{axis}": np.ascontiguousarray(rows[:, axis]) for axis in range(rows.shape[1])}
        insert(self.registry, "embeddings", select | {"coordinates": f"[{', '.join(numbers)}]"}, columns | numbers)
        self._count(space_id, len(rows))

    def _count(self, space_id: str, added: int | None) -> None:
        """Note a change of a space; in one with anchors also the number of models that were added."""
        if added is not None:
            self.registry.execute(
                "UPDATE main.spaces SET next_position = next_position + ?, n_models = n_models + ? WHERE space_id = ?",
                [added, added, space_id],
            )
        self.registry.execute("UPDATE main.spaces SET generation = generation + 1 WHERE space_id = ?", [space_id])


def parts(
    space_id: str, first: int, count: int, model_ids: Integers, codes: NDArray[np.uint8], scales: NDArray[np.uint8]
) -> dict[str, NDArray[Any]]:
    """Rows of the table `maps` for one block of each model, by column.

    Args:
        space_id: the space.
        first: the block's first image.
        count: its number of images.
        model_ids: (n,) of the models.
        codes: (n, bytes).
        scales: (n, bytes).
    """
    n_parts = max(1, math.ceil(max(codes.shape[1], scales.shape[1]) / PART_BYTES))
    cuts = [(part, part * PART_BYTES, (part + 1) * PART_BYTES) for part in range(n_parts)]
    code_parts, scale_parts, sums = [], [], []
    for model_id, code, scale in zip(model_ids.tolist(), codes, scales, strict=True):
        owner = checksums.of_owner(space_id, model_id, first, count)
        code_bytes, scale_bytes = code.tobytes(), scale.tobytes()
        for part, start, end in cuts:
            code_parts.append(code_bytes[start:end])
            scale_parts.append(scale_bytes[start:end])
            sums.append(checksums.of_part(owner, part, code_parts[-1], scale_parts[-1]))
    n_rows = len(model_ids) * n_parts
    return {
        "space_id": _repeated(space_id, n_rows),
        "model_id": np.repeat(model_ids, n_parts),
        "first_image": np.full(n_rows, first, dtype=np.int32),
        "n_images": np.full(n_rows, count, dtype=np.int32),
        "part": np.tile(np.arange(n_parts, dtype=np.int32), len(model_ids)),
        "codes": hub.objects(code_parts),
        "scales": hub.objects(scale_parts),
        "checksum": np.array(sums, dtype=np.uint32),
    }


def _repeated(text: str, count: int) -> NDArray[Any]:
    return np.full(count, text, dtype=object)


def _batches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """First and end of each batch; the first ends where exact coordinates end."""
    while start < stop:
        end = min(stop, start + BATCH, coordinates.MAX_EXACT if start < coordinates.MAX_EXACT else stop)
        yield start, end
        start = end
