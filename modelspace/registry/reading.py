"""Reading an open registry: spaces, probe sets, models, vectors and maps."""

from __future__ import annotations

import itertools
import json
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import duckdb
import numpy as np

from modelspace.errors import DamagedError, NotFoundError, UsageError
from modelspace.names import readable_name
from modelspace.registry import aliases, checksums, schema, sql
from modelspace.registry.connection import Connection, translated
from modelspace.registry.rows import (
    AnchorRow,
    EmbeddingRow,
    MapBlock,
    ModelLabel,
    ModelRow,
    ProbeRow,
    ProjectionRow,
    SpaceRow,
)
from modelspace.types import ModelCard, Preprocessing, SpaceSpec

#: Bytes of codes or scales per row of the table `maps`. From 4,096 on, DuckDB stores them out of line.
PART_BYTES = 4000

#: Columns of the table `models` that are attributes of a `ModelCard` without conversion.
_CARD_COLUMNS = (
    *("name", "uri", "weights_sha256", "layer", "layer_found_by", "parameters", "architecture"),
    *("task", "data", "tags", "seconds"),
)

#: What `_models` reads before those, and which of all these columns have a value in every row.
_FIRST_COLUMNS = ("model_id", "added_at", "preprocessing", "output_shape", "code_sha256", "options", "torch")
_NEEDED_OF_MODELS = tuple(
    number
    for number, column in enumerate((*_FIRST_COLUMNS, *_CARD_COLUMNS))
    if column not in ("name", "code_sha256", "options", "torch", "task", "data")  # `readable_name` says more of a name
)

#: Bytes of maps to fetch at a time.
_FETCH_BYTES = 16 << 20

#: Models whose rows are looked for by their numbers; of more, all rows are read.
_FEW = 1024

#: Up to this number, each has a query of its own; numbers that are closer than this on average are read as one range.
_EACH, _DENSE = 64, 8

#: Numbers that are closer than this on average are read with all between them, which takes DuckDB less than to choose.
_DENSEST = 2

#: Numbers that a table is joined with at a time. Of up to 50 DuckDB looks for each one's rows, and reads the other
#: columns of those alone (`dynamic_or_filter_threshold`); of more it reads all rows between the first and the last.
_JOINED = 48

#: Labels of models that an open registry keeps in memory, and what they are read by.
_MOST_LABELS = 100_000
_LABEL_COLUMNS = "model_id, name, task, data, architecture, uri"
_SELECT_LABELS = f"SELECT {_LABEL_COLUMNS} FROM main.models"
_NEEDED_OF_LABELS = (0, 4, 5)

#: A registry that stays open reads all labels when this many names were looked up in it.
_WORTH_ALL = 3

#: Names that are compared with one that is not known.
_COMPARED = 20_000

#: Rows of coordinates to fetch at a time.
_ROWS_AT_ONCE = 50_000

#: A checksum of a row that was written before there were any; no CRC-32 is negative.
_UNKNOWN = -1

#: Limits of what is read, so that a number in a file can't fill the memory: probe images, and pixels of a side.
MOST_IMAGES, _LARGEST_CANVAS = 1_000_000, 4096

_MEND_ROW = "restore a copy of the registry, or correct the row in SQL"


class Reader:
    """The reading methods of `Registry`.

    Attributes:
        path: the file.
        registry_id: a UUID assigned when the registry was created.
        schema_number: the number of its last migration. One of an earlier version can be read without what it lacks.
        kept_bytes: bytes of blocks that stay in memory from one query to the next.
        block_sources: by space, where the only block of a model may be had without a query; None for one that it lacks.
            It must return what the registry has.
        checks_rows: whether rows are compared with their checksums as they are read. `verify` turns it off to say more.
    """

    def __init__(self, connection: Connection, registry_id: str, schema_number: int) -> None:
        self._connection = connection
        self.path = connection.path
        self.registry_id = registry_id
        self.schema_number = schema_number
        self.checks_rows = True
        self._spaces: list[SpaceRow] | None = None
        self._fetched: dict[tuple[str, int], list[MapBlock]] = {}
        self._fetched_bytes = 0
        self._labels: dict[int, tuple[Any, ...]] = {}
        self._names: dict[str | None, int] | None = None
        self._names_asked = 0
        self._hashes: tuple[np.ndarray, np.ndarray] | None = None
        self._exact: dict[tuple[str, float], bool] = {}
        self.kept_bytes = 0
        self.block_sources: dict[str, Callable[[int], MapBlock | None]] = {}

    @property
    def connection(self) -> Connection:
        """The connection, for this package."""
        return self._connection

    # ---- spaces and probe sets

    def spaces(self) -> list[SpaceRow]:
        """All spaces, in order of creation."""
        if self._spaces is not None:
            return list(self._spaces)
        rows = self.rows(
            "SELECT s.name, s.probe_id, s.method, s.n_images, s.canvas, s.bits, s.scalar, s.parameters, s.version,"
            f" s.is_default, s.generation, {self._anchored()} FROM main.spaces s ORDER BY s.created_at, s.name",
            needed=range(1, 11),
        )
        counts: dict[str, int] = {}
        if any(row[-1] is None for row in rows):  # counting a million models takes longer than all else here
            counts = dict(self.rows("SELECT space_id, count(*) FROM main.embeddings GROUP BY space_id"))
        spaces = []
        for row in rows:
            probe_id, method, n_images, canvas, bits, scalar, parameters, version, is_default, *state = row[1:]
            name = readable_name(row[0])
            with self.reading(f"the space {name!r}"):
                if n_images > MOST_IMAGES or canvas > _LARGEST_CANVAS:
                    raise ValueError(f"{n_images} images on a canvas of {canvas}")
                spec = SpaceSpec(
                    name, probe_id, method, n_images, canvas, bits, scalar, json_object(parameters), version
                )
                generation, epoch, next_position, stored = state
                n_models = counts.get(spec.space_id, 0) if stored is None else stored
                spaces.append(SpaceRow(spec, is_default, generation, n_models, epoch, next_position))
        if not self._connection.write:
            self._spaces = list(spaces)  # no process can write while this connection is open
        return spaces

    def space(self, name: str | None = None) -> SpaceRow:
        """A space by its name, id or alias (`modelspace.registry.aliases`); None for the default space.

        Raises:
            NotFoundError: there is no such space.
        """
        spaces = self.spaces()
        for row in spaces:
            if row.is_default if name is None else name in (row.spec.name, row.spec.space_id):
                return row
        if name is not None and (spec := aliases.find(name, [row.spec for row in spaces])) is not None:
            return next(row for row in spaces if row.spec is spec)
        if not spaces:
            raise NotFoundError("the registry has no space yet", "create one: `space.init()`")
        names = [row.spec.name for row in spaces]
        if name is None:
            raise NotFoundError("the registry has no default space", f"name one of: {', '.join(names)}")
        if name == aliases.PAPER_PLUS:
            raise NotFoundError(
                "the registry has no space of the best form of attribution maps",
                "create it: `space.init(name='paper+')`",
            )
        raise NotFoundError(f"there is no space {name!r}", _did_you_mean(name, names))

    def probe_sets(self) -> list[ProbeRow]:
        """All probe sets, in order of creation."""
        rows = self.rows(
            "SELECT probe_id, name, kind, spec, n_images, size FROM main.probe_sets ORDER BY created_at, name",
            needed=(0, 2, 3, 5),
        )
        sets = []
        for probe_id, name, kind, spec, n_images, size in rows:
            name = readable_name(name)
            with self.reading(f"the probe set {name!r}"):
                if not 1 <= size <= _LARGEST_CANVAS or (n_images is not None and not 1 <= n_images <= MOST_IMAGES):
                    raise ValueError(f"{n_images} images of {size} pixels")
                sets.append(ProbeRow(probe_id, name, kind, json_object(spec), n_images, size))
        return sets

    def probe_set(self, id_or_name: str) -> ProbeRow:
        """A probe set by its id or name.

        Raises:
            NotFoundError: there is no such probe set.
        """
        rows = self.probe_sets()
        for row in rows:
            if id_or_name in (row.probe_id, row.name):
                return row
        raise NotFoundError(
            f"there is no probe set {id_or_name!r}", _did_you_mean(id_or_name, [row.name for row in rows])
        )

    def probe_images(self, probe_id: str, first: int, count: int) -> list[bytes]:
        """The PNG files of images first .. first + count - 1; fewer at the end of the set, none for a rendered set."""
        rows = self.rows(
            "SELECT png FROM main.probe_images WHERE probe_id = ? AND k >= ? AND k < ? ORDER BY k",
            [probe_id, first, first + count],
            needed=(0,),
        )
        return [png for (png,) in rows]

    # ---- models

    def models(self, where: str | None = None) -> list[ModelRow]:
        """The models, in order of registration.

        Args:
            where: a user's SQL condition on the table `models`. It runs sandboxed and read-only, and sees only what is
                committed.

        Raises:
            UsageError: the condition is wrong, or takes too long.
        """
        if where is None:
            return self._models("true", [])
        ids = self.ids_where(where)
        if len(ids) <= _FEW:
            return list(self.models_by_id(ids).values())
        return [row for row in self._models("true", []) if row.model_id in ids]

    def ids_where(self, where: str) -> set[int]:
        """The ids of the models that meet a condition; arguments and errors as in `models`."""
        return sql.matching(self._connection, where)

    def models_by_id(self, model_ids: Iterable[int]) -> dict[int, ModelRow]:
        """Models by their numbers, in order of registration; one that does not exist is left out."""
        return {row.model_id: row for row in self._models(_among(model_ids), [])}

    def ids_after(self, model_id: int, count: int) -> list[int]:
        """The ids of the first `count` models that were registered after the model with this id."""
        text = "SELECT model_id FROM main.models WHERE model_id > ? ORDER BY model_id LIMIT ?"
        return [row[0] for row in self.rows(text, [model_id, count])]

    def model(self, name: str) -> ModelRow:
        """A model by its name, as it is shown (`modelspace.names.readable_name`).

        Raises:
            NotFoundError: there is no such model.
        """
        row = self.find_model(name)
        if row is not None:
            return row
        names = self.model_names()
        raise NotFoundError(
            f"there is no model {name!r}",
            _did_you_mean(readable_name(name), names) if names else "add one: `space.add(model)`",
        )

    def find_model(self, name: str) -> ModelRow | None:
        """The model of this name, or None; without a search for similar names, which reads all of them."""
        rows = self._models("name = ?", [self.stored_name(name)])
        return rows[0] if rows else None

    def model_by_id(self, model_id: int) -> ModelRow:
        """A model by its number.

        Raises:
            NotFoundError: there is no such model.
            DamagedError: its row can't be read.
        """
        rows = self._models("model_id = ?", [model_id])
        if not rows:
            raise NotFoundError(f"there is no model with id {model_id}")
        return rows[0]

    def labels(self, model_ids: Iterable[int]) -> dict[int, ModelLabel]:
        """What lists show of some models, by number; one that does not exist is left out."""
        ids = [int(model_id) for model_id in model_ids]
        known = {model_id: self._labels[model_id] for model_id in ids if model_id in self._labels}
        missing = [model_id for model_id in ids if model_id not in known]
        if missing and self._names is None:
            new = {row[0]: row for row in self._labels_of(missing)}
            if self.kept_bytes and len(self._labels) < _MOST_LABELS:
                self._labels |= new
            known |= new
        return {row[0]: ModelLabel(row[0], readable_name(row[1]), *row[2:]) for row in known.values()}

    def _labels_of(self, model_ids: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(model_ids), _JOINED):
            some = _joined("models", model_ids[start : start + _JOINED])
            yield from self.rows(f"SELECT {_LABEL_COLUMNS} FROM {some}", needed=_NEEDED_OF_LABELS)

    def find_label(self, name: str) -> ModelLabel | None:
        """What lists show of the model of a name, as that is shown; None if there is none."""
        self._names_asked += 1
        if self._names is None and self.kept_bytes and self._names_asked == _WORTH_ALL:
            self._read_all_labels()
        stored = self.stored_name(name)
        if self._names is None:
            where = " WHERE name = ?" + self._numbers_of(stored)
            row = next(iter(self.rows(_SELECT_LABELS + where, [stored], needed=_NEEDED_OF_LABELS)), None)
        else:
            row = self._labels[self._names[stored]] if stored in self._names else None
        return None if row is None else ModelLabel(row[0], readable_name(row[1]), *row[2:])

    def _read_all_labels(self) -> None:
        """Keep all labels, or 16 bytes of each if they are many: a statement for all takes no longer than a few do."""
        if self._connection.write:
            return
        if self.rows("SELECT count(*) FROM main.models")[0][0] > _MOST_LABELS:
            table = self._columns("SELECT hash(name) AS hash, model_id FROM main.models ORDER BY 1, 2", [])
            self._hashes = table["hash"], table["model_id"]
            return
        rows = self.rows(_SELECT_LABELS, needed=_NEEDED_OF_LABELS)
        self._labels = {row[0]: row for row in rows}
        self._names = {row[1]: row[0] for row in reversed(rows)}

    def _numbers_of(self, name: str | None) -> str:
        """A condition that the models of a name meet, and few others; without it DuckDB reads the names of all."""
        if self._hashes is None:
            return ""
        name_hash = np.uint64(self.rows("SELECT hash(?::VARCHAR)", [name])[0][0])
        first, end = (int(np.searchsorted(self._hashes[0], name_hash, side)) for side in ("left", "right"))
        return f" AND {_is_among('model_id', self._hashes[1][first:end].tolist()) or 'false'}"

    def find_identity(self, identity: str) -> list[ModelRow]:
        """The models with the same weights, tapped layer and preprocessing (`ModelCard.identity`)."""
        # Of a million models, one column is read in half of the time that a whole row of each match takes.
        ids = [row[0] for row in self.rows("SELECT model_id FROM main.models WHERE identity = ?", [identity])]
        return list(self.models_by_id(ids).values()) if ids else []

    def _models(self, condition: str | Sequence[str], values: list[Any]) -> list[ModelRow]:
        # A registry of an earlier version lacks these columns.
        code = "code_sha256, options" if self.schema_number >= schema.CODE else "'' AS code_sha256, '{}' AS options"
        torch = "torch" if self.schema_number >= schema.CHECKSUMS else "'' AS torch"
        rows = self.rows(
            _each(
                f"SELECT model_id, added_at, preprocessing, output_shape, {code}, {torch}, {', '.join(_CARD_COLUMNS)}"
                " FROM main.models WHERE",
                condition,
            )
            + " ORDER BY model_id",
            values,
            needed=_NEEDED_OF_MODELS,
        )
        if self.checks_rows:
            for (model_id, *_), (other, *_) in itertools.pairwise(rows):
                if model_id == other:
                    raise DamagedError(f"model {model_id} is stored twice in {self.path}", "see: `space.verify()`")
        spaces = self._spaces_of([row[0] for row in rows])
        models = []
        for model_id, added_at, preprocessing, output_shape, code_sha256, options, torch_version, *columns in rows:
            card = dict(zip(_CARD_COLUMNS, columns, strict=True))
            name = card["name"] = readable_name(card["name"])
            with self.reading(f"the model {name!r}"):
                card |= {"output_shape": tuple(map(int, output_shape)), "code_sha256": code_sha256 or ""}
                card |= {"preprocessing": _preprocessing(preprocessing), "options": json_object(options or "{}")}
                # A text that is missing is not None, except where a model need not have one.
                card["tags"] = {key: str(value) for key, value in card["tags"].items()}
                names_of_spaces = tuple(sorted(spaces.get(model_id, ())))
                card["torch"] = torch_version or ""
                models.append(ModelRow(model_id, ModelCard(**card), in_utc(added_at), names_of_spaces))
        return models

    def _spaces_of(self, model_ids: Sequence[int]) -> dict[int, list[str]]:
        """The names of the spaces that models are in; perhaps those of other models too."""
        # Plain queries and a dictionary are faster than a join.
        if self._spaces is None:
            pairs = self.rows("SELECT space_id, name FROM main.spaces")
            names = {space_id: readable_name(name) for space_id, name in pairs}
        else:
            names = {row.spec.space_id: row.spec.name for row in self._spaces}
        spaces: dict[int, list[str]] = {}
        among = _among(model_ids) if len(model_ids) <= _FEW else "true"
        for model_id, space_id in self.rows(_each("SELECT model_id, space_id FROM main.embeddings WHERE", among)):
            spaces.setdefault(model_id, []).append(names.get(space_id, space_id))
        return spaces

    def model_names(self) -> list[str]:
        """Names of all models, as they are shown, in the order in which they were added."""
        return [readable_name(row[0]) for row in self.rows("SELECT name FROM main.models ORDER BY model_id")]

    def tag_keys(self) -> list[str]:
        """The keys of all models' tags, sorted."""
        text = "SELECT DISTINCT unnest(system.main.map_keys(tags)) FROM main.models"
        return sorted(readable_name(str(row[0])) for row in self.rows(text))

    def stored_name(self, name: str) -> str | None:
        """The name in the table `models` of what is shown as `name`; None if there can't be such a model."""
        if readable_name(name) == name:  # no other stored name is shown as this one
            return name
        stored = [row[0] for row in self.rows("SELECT name FROM main.models")]
        return next((other for other in stored if readable_name(other) == name), None)

    # ---- embeddings and maps

    def embeddings(self, space_id: str, model_ids: Collection[int] | None = None) -> list[EmbeddingRow]:
        """The embeddings of some models of a space, or of all of them, by position.

        Raises:
            DamagedError: a row does not match its checksums, or its affinities its position.
        """
        few = "" if model_ids is None or len(model_ids) > _FEW else f" AND {_one_or_among(model_ids)}"
        table = self._embedding_columns(space_id, few)
        rows, changed = self._embeddings(table, space_id)
        if self.checks_rows:
            self.check_positions(space_id, rows)
        if model_ids is not None and not few:
            chosen = set(model_ids)
            rows = [row for row in rows if row.model_id in chosen]
        if self.checks_rows:
            for model_id, what in changed:
                raise self._changed_since(what, space_id, model_id)
        return rows

    def check_positions(self, space_id: str, rows: Sequence[EmbeddingRow]) -> None:
        """Check that positions ascend from 0, and that no row has more affinities than there are models up to it.

        Raises:
            DamagedError: they don't, or one has.
        """
        last = -1
        for row in rows:
            if row.position <= last or len(row.affinities) > row.position + 1:
                raise self._changed_since("position", space_id, row.model_id)
            last = row.position

    def changed_embeddings(self, space_id: str) -> list[int]:
        """The models whose rows in a space don't match their checksums: they were changed by something else."""
        return sorted({model_id for model_id, _ in self._embeddings(self._embedding_columns(space_id), space_id)[1]})

    def changed_maps(self, space_id: str, model_ids: Sequence[int]) -> list[int]:
        """Those of the models whose maps in a space don't match their checksums."""
        changed = []
        for model_id in model_ids:
            try:
                for _ in self.map_blocks(space_id, model_id, check=True):
                    pass
            except DamagedError:
                changed.append(model_id)
        return changed

    def _embedding_columns(self, space_id: str, condition: str = "") -> dict[str, np.ndarray]:
        return self._columns(
            f"SELECT model_id, position, vector, affinities, coalesce(axis, -1) AS axis, residual, {self._sums()},"
            f" {self._coordinates()} FROM main.embeddings WHERE space_id = ?{condition} ORDER BY position",
            [space_id],
        )

    def _coordinates(self) -> str:
        """The columns of coordinates on anchors and of their checksums, which an earlier version lacks."""
        if self.schema_number < schema.ANCHORS:
            return f"[]::FLOAT[] AS coordinates, {_UNKNOWN} AS of_coordinates"
        return (
            "coalesce(coordinates, []) AS coordinates,"
            f" coalesce(coordinates_checksum::BIGINT, {_UNKNOWN}) AS of_coordinates"
        )

    def _embeddings(
        self, table: dict[str, np.ndarray], space_id: str
    ) -> tuple[list[EmbeddingRow], list[tuple[int, str]]]:
        """The rows, and (model id, part) of each part that does not match its checksum."""
        rows: list[EmbeddingRow] = []
        changed: list[tuple[int, str]] = []
        names = ("model_id", "position", "axis", "residual", "of_vector", "of_affinities", "of_coordinates")
        plain = (table[name].tolist() for name in names)
        lists = (self._numbers(table["vector"]), self._numbers(table["affinities"]), table["coordinates"])
        for vector, affinities, numbers, *values in zip(*lists, *plain, strict=True):
            model_id, position, axis, residual, of_vector, of_affinities, of_numbers = values
            coordinates = np.asarray(numbers, dtype=np.float32) if len(numbers) else None
            row = EmbeddingRow(
                model_id, position, vector, affinities, axis if axis >= 0 else None, residual, coordinates
            )
            rows.append(row)
            if of_numbers not in (checksums.of_coordinates(space_id, model_id, numbers), _UNKNOWN):
                changed.append((model_id, "vector"))
            if of_vector not in (checksums.of_vector(space_id, model_id, vector, row.axis, residual), _UNKNOWN):
                changed.append((model_id, "vector"))
            if of_affinities not in (checksums.of_affinities(space_id, model_id, position, affinities), _UNKNOWN):
                changed.append((model_id, "row of affinities"))
        return rows, changed

    def _anchored(self) -> str:
        """The columns of a space's epoch, next position and number of models, which an earlier version lacks."""
        if self.schema_number < schema.ANCHORS:
            return "0, NULL, NULL"
        return "coalesce(s.epoch, 0), s.next_position, s.n_models"

    def _sums(self) -> str:
        """The columns of an embedding's checksums, which rows of an earlier version lack."""
        if self.schema_number < schema.CHECKSUMS:
            return f"{_UNKNOWN} AS of_vector, {_UNKNOWN} AS of_affinities"
        return (
            f"coalesce(vector_checksum::BIGINT, {_UNKNOWN}) AS of_vector,"
            f" coalesce(affinities_checksum::BIGINT, {_UNKNOWN}) AS of_affinities"
        )

    def _changed_since(self, what: str, space_id: str, model_id: int) -> DamagedError:
        """The error for a part of a model's data that does not match its checksum."""
        names = self.rows("SELECT name FROM main.models WHERE model_id = ?", [model_id])
        spaces = self.rows("SELECT name FROM main.spaces WHERE space_id = ?", [space_id])
        model = repr(names[0][0]) if names else str(model_id)
        space = repr(spaces[0][0]) if spaces else space_id
        return DamagedError(
            f"the {what} of model {model} in the space {space} is not what was stored",
            "`space.verify()` says what is damaged, and what to do",
        )

    def model_ids(self, space_id: str) -> list[int]:
        """The ids of a space's models, by position."""
        rows = self.rows("SELECT model_id FROM main.embeddings WHERE space_id = ? ORDER BY position", [space_id])
        return [model_id for (model_id,) in rows]

    def ids_and_positions(self, space_id: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids and the positions of a space's models, by position: two (n,) int64 arrays."""
        table = self._columns(
            "SELECT model_id, position FROM main.embeddings WHERE space_id = ? ORDER BY position", [space_id]
        )
        return table["model_id"].astype(np.int64, copy=False), table["position"].astype(np.int64, copy=False)

    def vectors(self, space_id: str) -> tuple[np.ndarray, np.ndarray]:
        """All vectors of a space, by position: model ids (n,) int64 and a zero-padded matrix (n, d) float32.

        In a space with anchors they are the coordinates on those, of all models.

        Raises:
            DamagedError: a row does not match its checksum.
        """
        ids, _, matrix = self.vectors_after(space_id, -1)
        return ids, matrix

    def vectors_after(self, space_id: str, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The vectors of the models past a position, by position; see `vectors`.

        Vectors at or before the position are the same as when they were read, as long as `SpaceRow.epoch` is the same.

        Returns:
            model ids (m,) int64, positions (m,) int64, and a zero-padded matrix (m, d) float32.

        Raises:
            DamagedError: a row does not match its checksum.
        """
        if self.has_anchors(space_id):
            return self._coordinates_after(space_id, position)
        table = self._columns(
            f"SELECT model_id, position, vector, coalesce(axis, -1) AS axis, residual, {self._sums()}"
            " FROM main.embeddings WHERE space_id = ? AND position > ? ORDER BY position",
            [space_id, position],
        )
        vectors = self._numbers(table["vector"])
        if self.checks_rows:
            owners = (table[name].tolist() for name in ("model_id", "axis", "residual", "of_vector"))
            for vector, model_id, axis, residual, stored in zip(vectors, *owners, strict=True):
                expected = checksums.of_vector(space_id, model_id, vector, axis if axis >= 0 else None, residual)
                if stored not in (expected, _UNKNOWN):
                    raise self._changed_since("vector", space_id, model_id)
        matrix = np.zeros((len(vectors), max(map(len, vectors), default=0)), dtype=np.float32)
        for row, vector in zip(matrix, vectors, strict=True):
            row[: len(vector)] = vector
        ids, positions = (table[name].astype(np.int64, copy=False) for name in ("model_id", "position"))
        return ids, positions, matrix

    def coordinates(self, space_id: str, model_id: int) -> np.ndarray:
        """The coordinates of one model on the anchors of a space, (d,) float32.

        Raises:
            NotFoundError: it has none there.
            DamagedError: they don't match their checksum.
        """
        rows = self.rows(
            "SELECT coordinates, coordinates_checksum FROM main.embeddings WHERE space_id = ? AND model_id = ?"
            " AND coordinates IS NOT NULL",
            [space_id, model_id],
        )
        if not rows:
            raise NotFoundError(f"model {model_id} has no coordinates in the space {space_id}")
        numbers, stored = np.array(rows[0][0], dtype=np.float32), rows[0][1]
        if self.checks_rows and stored not in (checksums.of_coordinates(space_id, model_id, numbers), None):
            raise self._changed_since("vector", space_id, model_id)
        return numbers

    def has_anchors(self, space_id: str) -> bool:
        """Whether the models of a space have coordinates on a fixed set of anchors."""
        if self._spaces is not None:
            return any(row.has_anchors for row in self._spaces if row.spec.space_id == space_id)
        return self.schema_number >= schema.ANCHORS and bool(
            self.rows("SELECT 1 FROM main.spaces WHERE space_id = ? AND next_position IS NOT NULL", [space_id])
        )

    def _coordinates_after(self, space_id: str, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `vectors_after`, from coordinates on anchors; they are fetched in parts, since a million rows are many."""
        table = self._columns(
            "SELECT model_id, position, coalesce(len(coordinates), 0) AS length,"
            f" coalesce(coordinates_checksum::BIGINT, {_UNKNOWN}) AS stored"
            " FROM main.embeddings WHERE space_id = ? AND position > ? ORDER BY position",
            [space_id, position],
        )
        ids, positions = (table[name].astype(np.int64, copy=False) for name in ("model_id", "position"))
        width = int(table["length"].max(initial=0))
        for other in ids[(table["length"] != width) | (width == 0)][:1].tolist():
            raise self._changed_since("vector", space_id, other)
        matrix = np.empty((len(ids), width), dtype=np.float32)
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            rows = matrix[start : start + _ROWS_AT_ONCE]
            part = self._columns(
                "SELECT unnest(coordinates) AS number FROM (SELECT coordinates FROM main.embeddings"
                " WHERE space_id = ? AND position BETWEEN ? AND ? ORDER BY position)",
                [space_id, int(positions[start]), int(positions[start + len(rows) - 1])],
            )["number"]
            if part.size != rows.size:
                raise DamagedError(f"two models in {self.path} have one position", "see: `space.verify()`")
            rows[:] = part.reshape(rows.shape)
        if self.checks_rows:
            expected = checksums.of_all_coordinates(space_id, ids.tolist(), matrix)
            wrong = (table["stored"] != expected) & (table["stored"] != _UNKNOWN)
            for other in ids[wrong][:1].tolist():
                raise self._changed_since("vector", space_id, other)
        return ids, positions, matrix

    def anchors(self, space_id: str) -> list[AnchorRow]:
        """The anchors of a space, by axis; none in a space without, and in a blend, whose members have them.

        Raises:
            DamagedError: a row does not match its checksum.
        """
        if self.schema_number < schema.ANCHORS:
            return []
        table = self._columns(
            f"SELECT axis, model_id, factor, coalesce(factor_checksum::BIGINT, {_UNKNOWN}) AS stored FROM main.anchors"
            " WHERE space_id = ? ORDER BY axis",
            [space_id],
        )
        plain = (table[name].tolist() for name in ("axis", "model_id", "stored"))
        anchors: list[AnchorRow] = []
        for factor, axis, model_id, stored in zip(self._numbers(table["factor"]), *plain, strict=True):
            if axis != len(anchors) or len(factor) != axis + 1:
                raise self._changed_since("factor of an anchor", space_id, model_id)
            if self.checks_rows and stored not in (checksums.of_anchor(space_id, axis, model_id, factor), _UNKNOWN):
                raise self._changed_since("factor of an anchor", space_id, model_id)
            anchors.append(AnchorRow(axis, model_id, factor))
        return anchors

    def anchors_state(self, space_id: str) -> tuple[int, ...] | None:
        """What tells the anchors of a space from all others that it had or will have; None if a checksum is missing."""
        rows = self.rows(
            "SELECT s.epoch, a.*, b.* FROM main.spaces s,"
            " (SELECT count(*), count(factor_checksum), bit_xor(hash(axis, model_id, factor_checksum))"
            " FROM main.anchors WHERE space_id = $1) a,"
            " (SELECT count(*), count(checksum), bit_xor(hash(axis, first_image, n_images, part, checksum))"
            " FROM main.anchor_maps WHERE space_id = $1) b WHERE s.space_id = $1",
            [space_id],
        )
        if not rows or None in rows[0] or rows[0][1] != rows[0][2] or rows[0][4] != rows[0][5]:
            return None
        return tuple(map(int, rows[0]))

    def anchor_blocks_at(self, space_id: str, first_image: int) -> Iterator[tuple[int, MapBlock]]:
        """One block of all anchors of a space, as (axis, block), by axis; memory use is bounded.

        Raises:
            DamagedError: a part does not match its checksum.
        """
        sizes = self.rows(
            "SELECT axis, count(*) FROM main.anchor_maps WHERE space_id = ? AND first_image = ?"
            " GROUP BY axis ORDER BY axis",
            [space_id, first_image],
        )
        per_fetch = max(1, _FETCH_BYTES // (PART_BYTES * max((count for _, count in sizes), default=1)))
        for start in range(0, len(sizes), per_fetch):
            axes = [axis for axis, _ in sizes[start : start + per_fetch]]
            parts = self.rows(
                "SELECT axis, n_images, codes, scales, checksum, part FROM main.anchor_maps"
                " WHERE space_id = ? AND first_image = ? AND axis BETWEEN ? AND ? ORDER BY axis, part",
                [space_id, first_image, axes[0], axes[-1]],
                needed=(0, 1, 2, 3, 5),
            )
            for axis, group in itertools.groupby(parts, key=lambda part: int(part[0])):
                yield axis, self._anchor_block(space_id, first_image, list(group))

    def _anchor_block(self, space_id: str, first_image: int, parts: Sequence[tuple[Any, ...]]) -> MapBlock:
        axis, n_images = parts[0][:2]
        owner = checksums.of_anchor_owner(space_id, axis, first_image, n_images)
        for _, _, codes, scales, checksum, part in parts if self.checks_rows else ():
            if checksum is not None and checksum != checksums.of_part(owner, part, codes, scales):
                raise DamagedError(
                    f"the maps of anchor {axis} of the space {space_id} are not what was stored",
                    "`space.verify()` says what is damaged, and what to do",
                )
        joined = (b"".join([part[column] for part in parts]) for column in (2, 3))
        return MapBlock(first_image, n_images, *joined)

    def is_exact(self, space_id: str, tolerance: float) -> bool:
        """Whether each model of a space owns an axis or has a negligible residual, so none is an approximation.

        In a space with anchors all are approximations.
        """
        if self.has_anchors(space_id):
            return False
        known = self._exact.get((space_id, tolerance))
        if known is None:
            rows = self.rows(
                "SELECT count(*) FROM main.embeddings WHERE space_id = ? AND axis IS NULL AND residual > ?",
                [space_id, tolerance],
            )
            known = int(rows[0][0]) == 0
            if not self._connection.write:
                self._exact[space_id, tolerance] = known  # no process can write while this connection is open
        return known

    def map_blocks(self, space_id: str, model_id: int, *, check: bool | None = None) -> Iterator[MapBlock]:
        """The blocks of a model, by first image.

        Args:
            space_id: the space.
            model_id: the model.
            check: whether they are compared with their checksums; by default as `checks_rows` says.

        Raises:
            DamagedError: they don't match.
        """
        if check is None and (fetched := self._fetched.get((space_id, model_id))) is not None:
            yield from fetched
            return
        rows = self.rows(
            "SELECT DISTINCT first_image FROM main.maps WHERE space_id = ? AND model_id = ? ORDER BY 1",
            [space_id, model_id],
            needed=(0,),
        )
        for (first_image,) in rows:
            for _, block in self._blocks(space_id, first_image, [model_id], check):
                yield block

    def fetch_blocks(self, space_id: str, model_ids: Collection[int]) -> None:
        """Read all blocks of a few models at once; `map_blocks` and `map_blocks_at` then return them from memory.

        They stay until `forget_blocks`. Those of more than `_FEW` models are not read, nor any of a registry that is
        open for writing.
        """
        ids = [i for i in model_ids if (space_id, i) not in self._fetched]
        if not ids or len(ids) > _FEW or self._connection.write:
            return
        blocks: dict[int, list[MapBlock]] = {model_id: [] for model_id in ids}
        if source := self.block_sources.get(space_id):
            blocks = {model_id: [] if (block := source(model_id)) is None else [block] for model_id in ids}
        if missing := [model_id for model_id in ids if not blocks[model_id]]:
            for model_id, block in self._read_blocks(space_id, None, missing, self.checks_rows):
                blocks[model_id].append(block)
        self._fetched |= {(space_id, model_id): of_model for model_id, of_model in blocks.items()}
        self._fetched_bytes += sum(len(block.codes) for of_model in blocks.values() for block in of_model)

    def forget_blocks(self) -> None:
        """Forget what `fetch_blocks` has read, the first first, until `kept_bytes` are left."""
        while self._fetched and self._fetched_bytes > self.kept_bytes:
            self._fetched_bytes -= sum(len(block.codes) for block in self._fetched.pop(next(iter(self._fetched))))

    def block_starts(self, space_id: str) -> list[int]:
        """First images of the blocks of a space, sorted."""
        statement = "SELECT DISTINCT first_image FROM main.maps WHERE space_id = ? ORDER BY 1"
        rows = self.rows(statement, [space_id], needed=(0,))
        return [first_image for (first_image,) in rows]

    def map_blocks_at(
        self, space_id: str, first_image: int, model_ids: Sequence[int] | None = None
    ) -> Iterator[tuple[int, MapBlock]]:
        """One block of many models, as (model id, block), by model id; memory use is bounded.

        Args:
            space_id: the space.
            first_image: the block's first image.
            model_ids: the models; None for all.
        """
        selected = None if model_ids is None else set(model_ids)
        if selected and all((space_id, model_id) in self._fetched for model_id in selected):
            for model_id in sorted(selected):
                for block in self._fetched[space_id, model_id]:
                    if block.first_image == first_image:
                        yield model_id, block
            return
        among = _is_among("model_id", selected) if selected and len(selected) <= _FEW else "true"
        rows = self.rows(
            f"SELECT model_id, count(*) FROM main.maps WHERE space_id = ? AND first_image = ? AND {among}"
            " GROUP BY model_id ORDER BY model_id",
            [space_id, first_image],
            needed=(0,),
        )
        batch: list[int] = []
        size = 0
        for model_id, n_parts in rows:
            if selected is not None and model_id not in selected:
                continue
            if batch and size + n_parts * PART_BYTES > _FETCH_BYTES:
                yield from self._blocks(space_id, first_image, batch)
                batch, size = [], 0
            batch.append(model_id)
            size += n_parts * PART_BYTES
        if batch:
            yield from self._blocks(space_id, first_image, batch)

    def _blocks(
        self, space_id: str, first_image: int, model_ids: list[int], check: bool | None = None
    ) -> Iterator[tuple[int, MapBlock]]:
        yield from self._read_blocks(space_id, first_image, model_ids, self.checks_rows if check is None else check)

    def _read_blocks(
        self, space_id: str, first_image: int | None, model_ids: list[int], check: bool
    ) -> Iterator[tuple[int, MapBlock]]:
        """Blocks of some models, those from one image on or all, by model id and first image."""
        checksum = "checksum" if self.schema_number >= schema.CHECKSUMS else "NULL"
        columns = f"model_id, n_images, codes, scales, {checksum}, part, first_image"
        at = "true" if first_image is None else f"first_image = {int(first_image)}"
        needed = (0, 1, 2, 3, 5, 6)
        low, high = min(model_ids), max(model_ids)
        rows: list[tuple[Any, ...]] = []
        if high - low < _DENSEST * len(model_ids):
            between = "space_id = ? AND model_id BETWEEN ? AND ?"
            text = f"SELECT {columns} FROM main.maps WHERE {between} AND {at}"
            rows = self.rows(text, [space_id, low, high], needed=needed)
            chosen = set(model_ids)
            rows = [row for row in rows if row[0] in chosen]
        elif len(model_ids) > _JOINED and high - low < _DENSE * len(model_ids):
            rows = self.rows(
                f"SELECT {columns} FROM main.maps"
                f" WHERE space_id = ? AND {at} AND model_id BETWEEN ? AND ? AND {_is_among('model_id', model_ids)}",
                [space_id, low, high],
                needed=needed,
            )
        else:
            for start in range(0, len(model_ids), _JOINED):
                some = _joined("maps", model_ids[start : start + _JOINED])
                text = f"SELECT {columns} FROM {some} WHERE space_id = ? AND {at}"
                rows += self.rows(text, [space_id], needed=needed)
        rows.sort(key=_owner_and_part)  # in a tenth of the time that DuckDB takes, which moves the blobs
        for (model_id, first), group in itertools.groupby(rows, key=lambda row: (row[0], row[6])):
            parts = [row[:6] for row in group]
            codes, scales = (b"".join([part[column] for part in parts]) for column in (2, 3))
            if check:
                self._check_parts(space_id, first, parts)
            yield model_id, MapBlock(first, parts[0][1], codes, scales)

    def _check_parts(self, space_id: str, first_image: int, parts: Sequence[tuple[Any, ...]]) -> None:
        model_id, n_images = parts[0][:2]
        owner = checksums.of_owner(space_id, model_id, first_image, n_images)
        for _, _, codes, scales, checksum, part in parts:
            if checksum is not None and checksum != checksums.of_part(owner, part, codes, scales):
                raise self._changed_since("data of the images", space_id, model_id)

    # ---- projections

    def has_projections(self) -> bool:
        """Whether the registry has tables for projections; one of an older version can be read without them."""
        return self.schema_number >= schema.PROJECTIONS

    def projection(self, space_id: str) -> ProjectionRow | None:
        """The stored projection of a space, or None."""
        if not self.has_projections():
            return None
        rows = self.rows("SELECT parameters, seed, made_at FROM main.projections WHERE space_id = ?", [space_id])
        if not rows:
            return None
        points = self._columns(
            "SELECT model_id, x, y, placed FROM main.projection_points WHERE space_id = ? ORDER BY model_id", [space_id]
        )
        parameters, seed, made_at = rows[0]
        with self.reading("a projection"):
            return ProjectionRow(
                points["model_id"].astype(np.int64, copy=False),
                np.column_stack([points["x"], points["y"]]).astype(np.float64, copy=False),
                points["placed"].astype(bool, copy=False),
                json_object(parameters),
                int(seed),
                in_utc(made_at),
            )

    # ---- internals

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """In the block, stored values become objects; ones that can't, since no command wrote them, are an error.

        Args:
            what: the row that is read, for the message.

        Raises:
            DamagedError: the block raised an error of a value, or a UsageError.
        """
        try:
            yield
        except (*UNREADABLE, UsageError) as error:
            reason = error.message if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"[:200]
            raise DamagedError(f"{what} in {self.path} can't be read ({reason})", _MEND_ROW) from None

    def rows(
        self, statement: str, values: list[Any] | None = None, *, needed: Sequence[int] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of the package's own SQL; user SQL goes through `modelspace.registry.sql`.

        Args:
            statement: the SQL.
            values: of its parameters.
            needed: numbers of the columns that have a value in every row. The tables say so, and DuckDB holds to it;
                but blocks of a file that changed places are read as rows with NULL in them.

        Raises:
            DamagedError: one of these is NULL, or a value is none that Python has.
        """
        try:
            with self.reading("a value"):
                rows = self._connection.duck.execute(statement, values).fetchall()
        except duckdb.Error as error:
            raise translated(error, self.path) from None
        if needed:
            # The values of these columns in a row; of one column alone it would not be a tuple.
            chosen = operator.itemgetter(*needed, needed[0])
            if any(None in chosen(row) for row in rows):
                table = re.findall(r"FROM main\.(\w+)", statement)[-1]
                raise DamagedError(f"a row of the table {table!r} in {self.path} lacks a value", _MEND_ROW)
        return rows

    def _columns(self, statement: str, values: list[Any]) -> dict[str, np.ndarray]:
        # Ten times as fast as fetchall: lists become arrays, not Python floats.
        try:
            with self.reading("a value"):
                columns = self._connection.duck.execute(statement, values).fetchnumpy()
        except duckdb.Error as error:
            raise translated(error, self.path) from None
        if any(np.ma.is_masked(column) for column in columns.values()):
            raise DamagedError(f"a number in {self.path} is NULL", "see: `space.verify()`")
        return columns

    def _numbers(self, column: np.ndarray) -> np.ndarray:
        """A column of lists of numbers, unless one is NULL."""
        if any(np.ma.is_masked(row) or getattr(row, "dtype", None) != np.float64 for row in column):
            raise DamagedError(f"a vector in {self.path} has an entry that is no number", "see: `space.verify()`")
        return column


#: What values that no command wrote raise where they are converted.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def json_object(text: str) -> dict[str, Any]:
    """A stored JSON object.

    Raises:
        ValueError: the text is something else, or has NaN or infinity in it.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} in JSON")

    value = json.loads(text, parse_constant=refuse)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def in_utc(time: datetime) -> datetime:
    """A stored time, with time zone UTC.

    Raises:
        ValueError: it is infinite, or before or after the years that Python knows.
    """
    if not isinstance(time, datetime) or time.year in (datetime.min.year, datetime.max.year):
        raise ValueError(f"{time} is no time")
    return time.replace(tzinfo=UTC)


@lru_cache(maxsize=4096)
def _preprocessing(text: str) -> Preprocessing:
    """A stored preprocessing. Many models share one, and validating it takes longer than the rest of a row."""
    return Preprocessing.from_dict(json_object(text))


def _is_among(column: str, numbers: Iterable[int]) -> str:
    """A condition that a column is one of some numbers; "" if there are none."""
    among = ", ".join(map(str, sorted({int(number) for number in numbers})))
    return f"{column} IN ({among})" if among else ""


def _among(model_ids: Iterable[int]) -> str | list[str]:
    """Conditions of `_each` for some models."""
    ids = sorted({int(model_id) for model_id in model_ids})
    return [f"model_id = {model_id}" for model_id in ids] if 0 < len(ids) <= _EACH else _is_among("model_id", ids)


def _one_or_among(model_ids: Collection[int]) -> str:
    """A condition on `model_id`, which is quick for a single model."""
    among = _among(model_ids)
    return among[0] if len(model_ids) == 1 else _is_among("model_id", model_ids) or "false"


def _joined(table: str, model_ids: Iterable[int]) -> str:
    """The rows of a table that some models have, to select from. A condition would read more than those rows."""
    numbers = ", ".join(map(str, sorted({int(model_id) for model_id in model_ids})))
    return f"main.{table} JOIN (SELECT unnest([{numbers}]::BIGINT[]) AS wanted_id) ON model_id = wanted_id"


def _each(select: str, condition: str | Sequence[str]) -> str:
    """A query of the rows that meet a condition, or one of several that exclude each other; none for "".

    DuckDB finds the row of one number by what it knows of each part of a table, and reads no other; for a list of
    numbers it reads all parts between the first and the last.
    """
    if isinstance(condition, str):
        return f"{select} {condition or 'false'}"
    return " UNION ALL ".join(f"{select} {each}" for each in condition)


def _owner_and_part(row: tuple[Any, ...]) -> tuple[int, int, int]:
    return row[0], row[6], row[5]


def _did_you_mean(name: str, names: list[str]) -> str:
    from difflib import get_close_matches  # slow to import, and needed only for typos

    # Comparing takes 10 µs a name: of very many, those that begin alike.
    similar = names if len(names) <= _COMPARED else [other for other in names if other[:2] == name[:2]][:_COMPARED]
    close = (
        get_close_matches(name, similar, n=3, cutoff=0.5)
        or [other for other in names if name.lower() in other.lower()][:3]
    )
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"available: {', '.join(sorted(names)[:8])}{', ...' if len(names) > 8 else ''}" if names else ""
