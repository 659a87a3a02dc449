"""The registry's Python interface: rows in, rows out, one transaction per change."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np

from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, StorageError, UsageError
from modelspace.names import readable_name
from modelspace.registry import checksums, outcomes, schema
from modelspace.registry.connection import (
    Connection,
    changes,
    flush,
    open_reading,
    open_writing,
    remove,
    remove_left,
    translated,
)
from modelspace.registry.interrupts import deferred
from modelspace.registry.reading import PART_BYTES, Reader
from modelspace.registry.rows import AnchorRow, EmbeddingRow, MapBlock, ProbeRow, Problem, ProjectionRow
from modelspace.types import ModelCard, SpaceSpec, canonical_json

#: Rows of new coordinates per INSERT.
_ROWS_AT_ONCE = 256

_SPACE_COLUMNS = (
    "space_id, name, probe_id, method, scalar, canvas, n_images, bits, parameters, version, is_default, generation,"
    " created_at"
)

_EMBEDDING_COLUMNS = (
    "space_id, model_id, position, vector, affinities, axis, residual, vector_checksum, affinities_checksum,"
    " coordinates, coordinates_checksum"
)

#: DuckDB would take files of these names for its own schemas.
_RESERVED_STEMS = ("main", "temp", "system")


class _Keep:
    def __repr__(self) -> str:
        return "KEEP"


#: Leaves a column unchanged, where None is a value.
KEEP: Final[Any] = _Keep()


class Registry(Reader):
    """An open registry. Use it in a `with` statement, or call `close`.

    Reading works on every open registry; changes need `open(..., write=True)` and a `transaction`. Any method raises
    DamagedError if DuckDB finds the file damaged.

    Attributes:
        path: the file.
        registry_id: a UUID assigned when the registry was created.
    """

    def __init__(self, connection: Connection, registry_id: str, schema_number: int) -> None:
        super().__init__(connection, registry_id, schema_number)
        self._in_transaction = False

    @staticmethod
    def create(path: Path) -> None:
        """Create an empty registry.

        It is created under a temporary name and renamed at the end, so `path` is never an incomplete registry.

        Raises:
            ConflictError: the file exists already, or the log of a deleted registry does.
            UsageError: DuckDB can't use this file name.
            ModelspaceError: the folder can't be written to.
        """
        path = path.absolute()
        if path.stem in _RESERVED_STEMS:
            raise UsageError(f"a registry can't be called {path.name}", "for example: registry.duckdb")
        _check_free(path)
        remove_left(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        remove(temporary)
        try:
            connection = open_writing(temporary, create=True)
            try:
                schema.initialise(connection)
            finally:
                connection.close()
            flush(temporary)
            _check_free(path)
            try:
                os.link(temporary, path)  # unlike a rename, it never replaces a file
            except FileExistsError:
                _check_free(path)
                raise
            except OSError:  # the file system has no hard links
                os.rename(temporary, path)
            flush(path.parent)
        except duckdb.Error as error:
            raise translated(error, path) from None
        except OSError as error:
            raise ModelspaceError(f"{path} can't be created: {error.strerror}") from None
        finally:
            remove(temporary)

    @classmethod
    def open(cls, path: Path, *, write: bool = False, timeout: float = 10.0) -> Registry:
        """Open a registry for reading, shared with other readers, or for writing, exclusively.

        Args:
            path: the file.
            write: whether to change it; this migrates an older registry first.
            timeout: seconds to wait until other processes release the file.

        Raises:
            NotFoundError: the file does not exist.
            BusyError: other processes held the file for longer than `timeout`.
            DamagedError: the file is damaged, or is not a registry.
            ConflictError: its migrations differ from those of this version.
            ModelspaceError: it was created by a newer version, is too old to be read without migration, or can't be
                written to.
        """
        connection = open_writing(path, timeout) if write else open_reading(path, timeout)
        try:
            registry_id, number = schema.migrate(connection) if write else schema.check_readable(connection)
        except duckdb.Error as error:
            connection.close()
            raise translated(error, connection.path) from None
        except BaseException:
            connection.close()
            raise
        return cls(connection, registry_id, number)

    def close(self) -> None:
        """Release the file. May be called twice."""
        self._connection.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- changes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes of the block at its end, or none if an exception leaves it.

        Raises:
            ModelspaceError: DuckDB could not commit, for example on a full disk.
        """
        if not self._connection.write or self._in_transaction:
            raise RuntimeError("a transaction needs a registry that is open for writing, and can't be nested")
        self.execute("BEGIN")
        self._in_transaction = True
        try:
            yield
            with deferred():
                self._commit()
                changes.committed += 1
        except BaseException:
            with suppress(duckdb.Error):  # DuckDB has already rolled back if the COMMIT failed
                self._connection.duck.execute("ROLLBACK")
            raise
        finally:
            self._in_transaction = False

    def _commit(self) -> None:
        try:
            self._connection.commit()
        except OSError as error:
            raise StorageError(f"{self.path} can't be written: {error.strerror}", "free space on that disk") from None
        except duckdb.Error as error:
            raise translated(error, self.path) from None

    def add_probe_set(self, row: ProbeRow, images: Iterable[tuple[str, bytes]] | None) -> None:
        """Add a probe set.

        Args:
            row: the set.
            images: (name, PNG file) of each image in order, unless they can be recreated from `row.spec`.

        Raises:
            ConflictError: its name or id is taken.
            UsageError: the number of images is not `row.n_images`.
        """
        self.require_transaction()
        for known in self.probe_sets():
            if row.probe_id == known.probe_id or row.name == known.name:
                raise ConflictError(
                    f"probe set {known.name!r} exists already ({known.probe_id})", "choose another name"
                )
        self.execute(
            "INSERT INTO main.probe_sets VALUES (?, ?, ?, ?, ?, ?, ?)",
            [row.probe_id, row.name, row.kind, canonical_json(dict(row.spec)), row.n_images, row.size, schema.now()],
        )
        if images is None:
            return
        n_images = 0
        for k, (name, png) in enumerate(images):
            self.execute("INSERT INTO main.probe_images VALUES (?, ?, ?, ?)", [row.probe_id, k, name, png])
            n_images = k + 1
        if n_images != row.n_images:
            raise UsageError(f"probe set {row.name!r} has {row.n_images} images, but got {n_images}")

    def add_space(self, spec: SpaceSpec, *, default: bool) -> None:
        """Add an empty space.

        Args:
            spec: the space.
            default: whether it becomes the default space. The first space always does.

        Raises:
            ConflictError: a space of that name or definition exists.
            NotFoundError: its probe set is not in the registry.
            UsageError: its name looks like a space id, or would not be read as it is stored.
        """
        self.require_transaction()
        _check_space_name(spec.name)
        self.probe_set(spec.probe_id)
        spaces = self.spaces()
        for row in spaces:
            if row.spec.name == spec.name:
                raise ConflictError(f"space {spec.name!r} exists already", "choose another name")
            if row.spec.space_id == spec.space_id:
                raise ConflictError(
                    f"space {row.spec.name!r} has the same definition as {spec.name!r}", f"use {row.spec.name!r}"
                )
        default = default or not spaces
        if default:
            self.execute("UPDATE main.spaces SET is_default = false WHERE is_default")
        self.execute(
            f"INSERT INTO main.spaces ({_SPACE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                spec.space_id,
                spec.name,
                spec.probe_id,
                spec.method,
                spec.scalar,
                spec.canvas,
                spec.n_images,
                spec.bits,
                canonical_json(dict(spec.parameters)),
                spec.version,
                default,
                _step(),
                schema.now(),
            ],
        )

    def set_default_space(self, name: str) -> None:
        """Set the space that is used when none is named.

        Raises:
            NotFoundError: there is no such space.
        """
        self.require_transaction()
        space_id = self.space(name).spec.space_id
        self.execute("UPDATE main.spaces SET is_default = (space_id = ?)", [space_id])

    def rename_space(self, old: str, new: str) -> None:
        """Rename a space. Its id, which everything stored refers to, stays.

        Raises:
            NotFoundError: no space has the old name.
            ConflictError: a space has the new name.
            UsageError: the new name looks like a space id, or would not be read as it is stored.
        """
        self.require_transaction()
        space_id = self.space(old).spec.space_id
        _check_space_name(new)
        if any(row.spec.name == new and row.spec.space_id != space_id for row in self.spaces()):
            raise ConflictError(f"space {new!r} exists already", "choose another name")
        self.execute("UPDATE main.spaces SET name = ? WHERE space_id = ?", [new, space_id])

    def remove_space(self, space_id: str) -> None:
        """Remove a space with the vectors, maps and projection that it holds. Its probe set and its models stay.

        Whether other spaces or models need it is the caller's business.

        Raises:
            NotFoundError: there is no such space.
        """
        self.require_transaction()
        if not self.rows("DELETE FROM main.spaces WHERE space_id = ? RETURNING space_id", [space_id]):
            raise NotFoundError(f"there is no space {space_id!r}")
        for table in ("embeddings", "maps", "projections", "projection_points", "anchors", "anchor_maps"):
            if schema.SINCE.get(table, 1) > self.schema_number:
                continue
            self.execute(f"DELETE FROM main.{table} WHERE space_id = ?", [space_id])

    def add_model(self, card: ModelCard) -> int:
        """Add a model, without embeddings, and return its id.

        Raises:
            ConflictError: a model of that name exists.
            UsageError: the name would not be read as it is stored (`modelspace.names.readable_name`).
        """
        self.require_transaction()
        self._check_free_name(card.name)
        height, width = card.preprocessing.input_size
        tags = {str(key): str(value) for key, value in card.tags.items()}
        values: dict[str, Any] = {
            "name": card.name,
            "uri": card.uri,
            "weights_sha256": card.weights_sha256,
            "identity": card.identity(),
            "architecture": card.architecture,
            "task": card.task,
            "data": card.data,
            "layer": card.layer,
            "layer_found_by": card.layer_found_by,
            "output_shape": list(card.output_shape),
            "input_height": height,
            "input_width": width,
            "preprocessing": canonical_json(card.preprocessing.to_dict()),
            "parameters": card.parameters,
            "seconds": card.seconds,
            "added_at": schema.now(),
        }
        if self.schema_number >= schema.CODE:
            values |= {"code_sha256": card.code_sha256, "options": canonical_json(dict(card.options))}
        if self.schema_number >= schema.CHECKSUMS:
            values["torch"] = card.torch
        (model_id,) = self.rows(
            f"INSERT INTO main.models (model_id, tags, {', '.join(values)})"
            " VALUES (nextval('main.model_ids'), map(?::VARCHAR[], ?::VARCHAR[]),"
            f" {', '.join('?' * len(values))}) RETURNING model_id",
            [list(tags), list(tags.values()), *values.values()],
        )[0]
        outcomes.attach(self, int(model_id), card.name, card.weights_sha256)
        return int(model_id)

    def add_embedding(
        self, space_id: str, row: EmbeddingRow, blocks: Iterable[MapBlock], *, derived: bool = False
    ) -> None:
        """Append a model's vector and maps to a space.

        Args:
            space_id: the space.
            row: the embedding; its position is the space's next one (`SpaceRow.end`).
            blocks: the maps of all images of the space in order; consumed one at a time.
            derived: whether the space's affinities follow from other spaces', so there must be no blocks.

        Raises:
            NotFoundError: there is no such space or model.
            ConflictError: the model is in the space already, or the position is not the next one.
            UsageError: a number is not finite, the vector is zero, or the blocks don't cover the images.
        """
        self.require_transaction()
        space = self.space(space_id)
        _check_row(row)
        if (row.coordinates is None) == space.has_anchors:
            raise UsageError(f"model {row.model_id} needs coordinates in a space with anchors, and in no other")
        if not self.rows("SELECT 1 FROM main.models WHERE model_id = ?", [row.model_id]):
            raise NotFoundError(f"there is no model with id {row.model_id}")
        if self.rows(
            "SELECT 1 FROM main.embeddings WHERE space_id = ? AND model_id = ?", [space.spec.space_id, row.model_id]
        ):
            raise ConflictError(f"model {row.model_id} is already in space {space.spec.name!r}")
        if row.position != space.end:
            raise ConflictError(
                f"the next position in space {space.spec.name!r} is {space.end}, not {row.position}",
                "another process has changed the registry: try again",
            )
        values: dict[str, Any] = {
            "space_id": space.spec.space_id,
            "model_id": row.model_id,
            "position": row.position,
            "vector": row.vector.tolist(),
            "affinities": row.affinities.tolist(),
            "axis": row.axis,
            "residual": row.residual,
        }
        *sums, of_coordinates = _checksums(space.spec.space_id, row)
        if self.schema_number >= schema.CHECKSUMS:
            values["vector_checksum"], values["affinities_checksum"] = sums
        if row.coordinates is not None:
            values["coordinates"], values["coordinates_checksum"] = row.coordinates.tolist(), of_coordinates
        self.execute(
            f"INSERT INTO main.embeddings ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            list(values.values()),
        )
        next_image = 0
        for block in blocks:
            if block.first_image != next_image or block.n_images < 1:
                raise UsageError(f"a block begins at image {block.first_image}, but the next image is {next_image}")
            self._add_block(space.spec.space_id, row.model_id, block)
            next_image += block.n_images
        if next_image != (0 if derived else space.spec.n_images):
            raise UsageError(f"the maps cover {next_image} of the space's {space.spec.n_images} images")
        if space.has_anchors:
            self.execute(
                "UPDATE main.spaces SET next_position = ?, n_models = n_models + 1 WHERE space_id = ?",
                [row.position + 1, space.spec.space_id],
            )
        self._changed(space.spec.space_id)

    def _add_block(self, space_id: str, model_id: int, block: MapBlock) -> None:
        owner = checksums.of_owner(space_id, model_id, block.first_image, block.n_images)
        codes, scales, sums = _parts(block, owner)
        names, parts = "space_id, model_id, first_image, n_images, part, codes, scales", "unnest(c), unnest(s)"
        if self.schema_number >= schema.CHECKSUMS:
            names, parts = f"{names}, checksum", f"{parts}, unnest(k)"
        self.execute(
            f"INSERT INTO main.maps ({names}) SELECT ?, ?, ?, ?, unnest(range(len(c))), {parts}"
            " FROM (SELECT ?::BLOB[] AS c, ?::BLOB[] AS s, ?::UINTEGER[] AS k)",
            [space_id, model_id, block.first_image, block.n_images, codes, scales, sums],
        )

    def set_anchors(self, space_id: str, anchors: Iterable[tuple[AnchorRow, Iterable[MapBlock]]]) -> None:
        """Give a space other anchors. The coordinates on them follow with `set_coordinates`, in the same transaction.

        Args:
            space_id: the space.
            anchors: by axis, each with its blocks.

        Raises:
            NotFoundError: there is no such space.
            UsageError: the axes are not 0, 1, ...
        """
        self.require_transaction()
        space_id = self.space(space_id).spec.space_id
        for table in ("anchors", "anchor_maps"):
            self.execute(f"DELETE FROM main.{table} WHERE space_id = ?", [space_id])
        for axis, (row, blocks) in enumerate(anchors):
            if row.axis != axis or row.factor.shape != (axis + 1,) or not np.isfinite(row.factor).all():
                raise UsageError(f"anchor {row.axis} is not the one of axis {axis}, or its factor is not finite")
            self.execute(
                "INSERT INTO main.anchors VALUES (?, ?, ?, ?, ?)",
                [
                    space_id,
                    axis,
                    row.model_id,
                    row.factor.tolist(),
                    checksums.of_anchor(space_id, axis, row.model_id, row.factor),
                ],
            )
            for block in blocks:
                owner = checksums.of_anchor_owner(space_id, axis, block.first_image, block.n_images)
                self.execute(
                    "INSERT INTO main.anchor_maps SELECT ?, ?, ?, ?, unnest(range(len(c))), unnest(c), unnest(s),"
                    " unnest(k) FROM (SELECT ?::BLOB[] AS c, ?::BLOB[] AS s, ?::UINTEGER[] AS k)",
                    [space_id, axis, block.first_image, block.n_images, *_parts(block, owner)],
                )

    def set_coordinates(self, space_id: str, model_ids: Sequence[int], matrix: np.ndarray) -> None:
        """Set the coordinates of all models of a space on its anchors. Positions, maps and affinities stay.

        Args:
            space_id: the space.
            model_ids: every model of the space, once.
            matrix: (n, d) their coordinates; stored as float32.

        Raises:
            NotFoundError: there is no such space.
            ConflictError: the models are not those of the space.
            UsageError: a number is not finite, or a row is zero.
        """
        self.require_transaction()
        space = self.space(space_id)
        space_id = space.spec.space_id
        stored, positions = self.ids_and_positions(space_id)
        if not np.array_equal(np.sort(stored), np.sort(np.asarray(model_ids, dtype=np.int64))):
            raise ConflictError("new coordinates must have each model of the space once")
        if matrix.shape[0] != len(stored) or not np.isfinite(matrix).all() or not matrix.any(axis=1).all():
            raise UsageError("coordinates must be finite, one row that is not zero for each model")
        columns = "model_id BIGINT, coordinates FLOAT[], checksum UINTEGER"
        self.execute(f"CREATE OR REPLACE TEMP TABLE new_coordinates ({columns})")
        try:
            for start in range(0, len(stored), _ROWS_AT_ONCE):
                ids = [int(i) for i in model_ids[start : start + _ROWS_AT_ONCE]]
                rows = matrix[start : start + _ROWS_AT_ONCE].astype(np.float32)
                sums = [checksums.of_coordinates(space_id, i, row) for i, row in zip(ids, rows, strict=True)]
                self.execute(
                    "INSERT INTO temp.new_coordinates SELECT unnest(?::BIGINT[]), unnest(?::FLOAT[][]),"
                    " unnest(?::UINTEGER[])",
                    [ids, rows.tolist(), sums],
                )
            self.execute(
                "UPDATE main.embeddings SET coordinates = n.coordinates, coordinates_checksum = n.checksum"
                " FROM temp.new_coordinates n WHERE embeddings.space_id = ? AND embeddings.model_id = n.model_id",
                [space_id],
            )
        finally:
            with suppress(duckdb.Error):  # if the transaction has failed, its rollback drops the table
                self._connection.duck.execute("DROP TABLE IF EXISTS temp.new_coordinates")
        end = max(space.end, int(positions.max(initial=-1)) + 1)
        self.execute(
            "UPDATE main.spaces SET next_position = ?, n_models = ? WHERE space_id = ?", [end, len(stored), space_id]
        )
        self._changed(space_id, moved=True)

    def replace_coordinates(self, space_id: str, rows: list[EmbeddingRow]) -> None:
        """Replace positions, vectors, affinities, axes and residuals of all models of a space, but not their maps.

        Unless the rows have coordinates, the space has no anchors afterwards.

        Args:
            space_id: the space.
            rows: one row per model of the space, by position; all with coordinates on its anchors, or none.

        Raises:
            NotFoundError: there is no such space.
            ConflictError: the rows' models are not those of the space, or their positions are not 0..n-1.
            UsageError: a number is not finite, or a vector is zero.
        """
        self.require_transaction()
        space_id = self.space(space_id).spec.space_id
        stored = {row[0] for row in self.rows("SELECT model_id FROM main.embeddings WHERE space_id = ?", [space_id])}
        if len(rows) != len(stored) or {row.model_id for row in rows} != stored:
            raise ConflictError("new coordinates must have each model of the space once")
        if [row.position for row in rows] != list(range(len(rows))):
            raise ConflictError("positions must be 0..n-1 in this order")
        for row in rows:
            _check_row(row)
        has_anchors = any(row.coordinates is not None for row in rows)
        if has_anchors and any(row.coordinates is None for row in rows):
            raise UsageError("some models have coordinates on anchors, and some have none")
        # A single UPDATE: one per model would read the whole table each time.
        self.execute("CREATE OR REPLACE TEMP TABLE new_coordinates AS FROM main.embeddings LIMIT 0")
        try:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                self.insert_embeddings(space_id, rows[start : start + _ROWS_AT_ONCE], "temp.new_coordinates")
            columns = ", ".join(f"{name} = n.{name}" for name in _EMBEDDING_COLUMNS.split(", ")[2:])
            self.execute(
                f"UPDATE main.embeddings SET {columns} FROM temp.new_coordinates n"
                " WHERE embeddings.space_id = n.space_id AND embeddings.model_id = n.model_id"
            )
        finally:
            with suppress(duckdb.Error):  # if the transaction has failed, its rollback drops the table
                self._connection.duck.execute("DROP TABLE IF EXISTS temp.new_coordinates")
        if not has_anchors:
            self.set_anchors(space_id, ())
        self.execute(
            "UPDATE main.spaces SET next_position = ?, n_models = ? WHERE space_id = ?",
            [*([len(rows)] * 2 if has_anchors else [None, None]), space_id],
        )
        self._changed(space_id, moved=True)

    def insert_embeddings(self, space_id: str, rows: Sequence[EmbeddingRow], table: str = "main.embeddings") -> None:
        """Insert rows as they are, in one statement; the caller changes what the space's row says of them.

        Args:
            space_id: the space.
            rows: some hundred at most.
            table: of the same columns as `embeddings`.
        """
        sums = [_checksums(space_id, row) for row in rows]
        self.execute(
            f"INSERT INTO {table} ({_EMBEDDING_COLUMNS})"
            " SELECT ?, unnest(?::BIGINT[]), unnest(?::INTEGER[]), unnest(?::DOUBLE[][]), unnest(?::DOUBLE[][]),"
            " unnest(?::INTEGER[]), unnest(?::DOUBLE[]), unnest(?::UINTEGER[]), unnest(?::UINTEGER[]),"
            " unnest(?::FLOAT[][]), unnest(?::UINTEGER[])",
            [
                space_id,
                [row.model_id for row in rows],
                [row.position for row in rows],
                [row.vector.tolist() for row in rows],
                [row.affinities.tolist() for row in rows],
                [row.axis for row in rows],
                [row.residual for row in rows],
                [of_vector for of_vector, _, _ in sums],
                [of_affinities for _, of_affinities, _ in sums],
                [None if row.coordinates is None else row.coordinates.tolist() for row in rows],
                [of_coordinates for _, _, of_coordinates in sums],
            ],
        )

    def fill_derived(self, space_id: str, rows: Sequence[EmbeddingRow]) -> None:
        """Fill an empty space whose affinities follow from other spaces' with models that have coordinates alone.

        Args:
            space_id: the space.
            rows: by position 0..n-1, each with coordinates.

        Raises:
            NotFoundError: there is no such space.
            ConflictError: it has models, or the positions are others.
            UsageError: a number is not finite, or coordinates are missing or zero.
        """
        self.require_transaction()
        space = self.space(space_id)
        if space.n_models or [row.position for row in rows] != list(range(len(rows))):
            raise ConflictError(f"space {space.spec.name!r} is not empty, or positions are not 0..n-1")
        for row in rows:
            _check_row(row)
            if row.coordinates is None:
                raise UsageError(f"model {row.model_id} has no coordinates")
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self.insert_embeddings(space.spec.space_id, rows[start : start + _ROWS_AT_ONCE])
        self.execute(
            "UPDATE main.spaces SET next_position = ?, n_models = ? WHERE space_id = ?",
            [len(rows), len(rows), space.spec.space_id],
        )
        self._changed(space.spec.space_id, moved=True)

    def remove_model(self, model_id: int) -> None:
        """Remove a model and everything stored for it.

        This leaves a gap in the positions, which the caller closes with `replace_coordinates` in the same transaction,
        unless the space has anchors.

        Raises:
            NotFoundError: there is no such model.
        """
        self.require_transaction()
        spaces = self.rows("SELECT space_id FROM main.embeddings WHERE model_id = ?", [model_id])
        if not self.rows("DELETE FROM main.models WHERE model_id = ? RETURNING model_id", [model_id]):
            raise NotFoundError(f"there is no model with id {model_id}")
        self.execute("DELETE FROM main.embeddings WHERE model_id = ?", [model_id])
        self.execute("DELETE FROM main.maps WHERE model_id = ?", [model_id])
        self.execute("DELETE FROM main.projection_points WHERE model_id = ?", [model_id])
        outcomes.detach(self, model_id)
        for (space_id,) in spaces:
            if self.schema_number >= schema.ANCHORS:
                self.execute("UPDATE main.spaces SET n_models = n_models - 1 WHERE space_id = ?", [space_id])
            self._changed(space_id)

    def set_projection(self, space_id: str, row: ProjectionRow) -> None:
        """Store the projection of a space, replacing an existing one. Vectors and affinities don't change.

        Args:
            space_id: the space.
            row: coordinates of some or all of its models, each once.

        Raises:
            NotFoundError: there is no such space, or a model is not in it.
            UsageError: shapes don't match, a model occurs twice, or a coordinate is not finite.
        """
        self.require_transaction()
        space_id = self.space(space_id).spec.space_id
        ids = [int(model_id) for model_id in row.model_ids]
        if row.coordinates.shape != (len(ids), 2) or row.placed.shape != (len(ids),) or len(set(ids)) != len(ids):
            raise UsageError(f"a projection of {len(ids)} models needs one point (x, y) for each")
        if not np.isfinite(row.coordinates).all():
            raise UsageError("a point of the projection is not finite")
        stored = {row[0] for row in self.rows("SELECT model_id FROM main.embeddings WHERE space_id = ?", [space_id])}
        if missing := set(ids) - stored:
            raise NotFoundError(f"model {min(missing)} is not in space {space_id}")
        self.execute("DELETE FROM main.projections WHERE space_id = ?", [space_id])
        self.execute("DELETE FROM main.projection_points WHERE space_id = ?", [space_id])
        self.execute(
            "INSERT INTO main.projections VALUES (?, ?, ?, ?)",
            [
                space_id,
                canonical_json(dict(row.parameters)),
                row.seed,
                row.made_at.astimezone(UTC).replace(tzinfo=None),
            ],
        )
        self.execute(
            "INSERT INTO main.projection_points SELECT ?, unnest(?::BIGINT[]), unnest(?::DOUBLE[]),"
            " unnest(?::DOUBLE[]), unnest(?::BOOLEAN[])",
            [space_id, ids, row.coordinates[:, 0].tolist(), row.coordinates[:, 1].tolist(), row.placed.tolist()],
        )

    def rename_model(self, old: str, new: str) -> None:
        """Rename a model.

        Raises:
            NotFoundError: no model has the old name.
            ConflictError: a model has the new name.
            UsageError: the new name would not be read as it is stored.
        """
        self.require_transaction()
        model_id = self.model(old).model_id
        if old == new:
            return
        self._check_free_name(new)
        self.execute("UPDATE main.models SET name = ? WHERE model_id = ?", [new, model_id])
        outcomes.rename_model(self, model_id, new)

    def update_model(
        self,
        model_id: int,
        *,
        task: str | None = KEEP,
        data: str | None = KEEP,
        tags: Mapping[str, str] = KEEP,
    ) -> None:
        """Change a model's metadata; KEEP leaves a column unchanged, None clears it.

        Raises:
            NotFoundError: there is no such model.
        """
        self.require_transaction()
        if not self.rows("SELECT 1 FROM main.models WHERE model_id = ?", [model_id]):
            raise NotFoundError(f"there is no model with id {model_id}")
        if task is not KEEP:
            self.execute("UPDATE main.models SET task = ? WHERE model_id = ?", [task, model_id])
        if data is not KEEP:
            self.execute("UPDATE main.models SET data = ? WHERE model_id = ?", [data, model_id])
        if tags is not KEEP:
            self.execute(
                "UPDATE main.models SET tags = map(?::VARCHAR[], ?::VARCHAR[]) WHERE model_id = ?",
                [[str(key) for key in tags], [str(value) for value in tags.values()], model_id],
            )

    def check(self) -> list[Problem]:
        """Inconsistencies in the registry. Maps are counted, not read; migrations were compared by `open`."""
        from modelspace.registry.consistency import problems  # only `verify` needs it

        return problems(self)

    # ---- internals

    def _changed(self, space_id: str, *, moved: bool = False) -> None:
        """Note a change of a space's embeddings; `moved` if vectors changed of models that stay."""
        self.execute("UPDATE main.spaces SET generation = generation + ? WHERE space_id = ?", [_step(), space_id])
        if moved:
            self.execute(
                "UPDATE main.spaces SET epoch = coalesce(epoch, 0) + ? WHERE space_id = ?", [_step(), space_id]
            )

    def require_transaction(self) -> None:
        """Raise RuntimeError outside of a transaction."""
        if not self._in_transaction:
            raise RuntimeError("changes to a registry need a transaction: with registry.transaction(): ...")

    def _check_free_name(self, name: str) -> None:
        if readable_name(name) != name:
            raise UsageError(f"a model can't be called {name!r}", "use up to 128 letters, digits, '.', '_' and '-'")
        if self.rows("SELECT 1 FROM main.models WHERE name = ?", [name]):
            raise ConflictError(f"model {name!r} exists already", "choose another name, or remove it first")

    def execute(self, statement: str, values: list[Any] | None = None) -> None:
        """Run a statement that returns no rows; for this package, inside a transaction.

        Raises:
            ModelspaceError: DuckDB could not.
        """
        try:
            self._connection.duck.execute(statement, values)
        except duckdb.Error as error:
            raise translated(error, self.path) from None


def _step() -> int:
    """The increment of a generation: see `SpaceRow.generation`."""
    return random.SystemRandom().randrange(1, 1 << 20)


def _parts(block: MapBlock, owner: int) -> tuple[list[bytes], list[bytes], list[int]]:
    """Codes, scales and checksums of a block's parts; `owner` is the checksum of what they have in common."""
    n_parts = max(1, math.ceil(max(len(block.codes), len(block.scales)) / PART_BYTES))
    cuts = range(0, n_parts * PART_BYTES, PART_BYTES)
    codes = [block.codes[cut : cut + PART_BYTES] for cut in cuts]
    scales = [block.scales[cut : cut + PART_BYTES] for cut in cuts]
    return codes, scales, [checksums.of_part(owner, part, codes[part], scales[part]) for part in range(n_parts)]


def _checksums(space_id: str, row: EmbeddingRow) -> tuple[int, int, int | None]:
    """Of an embedding's vector, of its affinities, and of its coordinates if it has some."""
    return (
        checksums.of_vector(space_id, row.model_id, row.vector, row.axis, row.residual),
        checksums.of_affinities(space_id, row.model_id, row.position, row.affinities),
        None if row.coordinates is None else checksums.of_coordinates(space_id, row.model_id, row.coordinates),
    )


def _check_row(row: EmbeddingRow) -> None:
    """Refuse values that would rank first everywhere or break rankings."""
    vector = row.vector if row.coordinates is None else row.coordinates
    if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any() or not np.isfinite(row.vector).all():
        raise UsageError(f"the vector of model {row.model_id} is zero, or not finite")
    if row.affinities.ndim != 1 or len(row.affinities) > row.position + 1 or not np.isfinite(row.affinities).all():
        raise UsageError(f"the affinities of model {row.model_id} are not finite, or too many")
    if not math.isfinite(row.residual):
        raise UsageError(f"the residual of model {row.model_id} is not finite")


def _check_space_name(name: str) -> None:
    if readable_name(name) != name:
        raise UsageError(f"a space can't be called {name!r}", "use up to 128 letters, digits, '.', '_' and '-'")
    if re.fullmatch("[0-9a-f]{16}", name):
        raise UsageError(f"a space can't be called {name!r}: it looks like a space id", "choose another name")


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise ConflictError(f"{path} exists already", "choose another folder, or remove it first")
    if os.path.lexists(f"{path}.wal"):
        raise ConflictError(f"{path}.wal is the log of a deleted registry", "restore the registry, or remove the log")
