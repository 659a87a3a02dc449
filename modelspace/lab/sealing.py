"""Sealing a registry, so that its file's bytes depend only on its content and builds are reproducible byte for byte.

Everything that depends on when and where a registry was built is replaced: times by a fixed time, one second apart in
order; embedding times and random epochs by 0; the random id and the random first generation by hashes of everything
else. The rows are then written to a new file, sorted, by one thread.

DuckDB's file format has two more sources of randomness. Unwritten bytes of a block contain uninitialised memory,
including pointers, so the process must be started with `VARIABLE` set, which zeroes all memory (in jemalloc, which
DuckDB uses on Linux). And each new file gets a random identifier of 16 bytes, which only encrypted databases use: it is
replaced by a hash too, and the checksums of its pages are recomputed.

Other versions of DuckDB write other bytes; with the versions in constraints.txt, builds are identical.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.registry import checksums
from modelspace.registry.compaction import rewrite

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Each table's time column, and the columns that define the order of its rows.
TIMES = {
    "meta": ("created_at", "created_at"),
    "migrations": ("applied_at", "number"),
    "models": ("added_at", "model_id"),
    "probe_sets": ("created_at", "created_at, name"),
    "outcomes": ("measured_at", "outcome_id"),
    "projections": ("made_at", "space_id"),
    "spaces": ("created_at", "created_at, name"),
    "tasks": ("added_at", "task_id"),
}

#: Environment variable that must be set when the process starts, so that all of DuckDB's memory is zeroed.
VARIABLE, ZEROS = "DUCKDB_JE_MALLOC_CONF", "zero:true"

#: Each table and each blob column starts a new block, so DuckDB's blocks of 256 KiB would stay mostly empty.
BLOCK_SIZE = 1 << 15

#: The file begins with three pages, each starting with its checksum; the identifier is at the same offset in each.
_PAGE, _N_PAGES, _IDENTIFIER = 4096, 3, slice(124, 140)


def seal(path: Path, moment: datetime, timeout: float = 10.0) -> str:
    """Rewrite a registry so that equal content gives identical files. Its index files become stale.

    Args:
        path: the registry.
        moment: the time of the first row of each table, in UTC; its time zone is ignored.
        timeout: seconds to wait until other processes release the registry.

    Returns:
        SHA-256 of the content.

    Raises:
        BusyError: other processes held the file for longer than `timeout`.
        DamagedError: the file is damaged; it is left unchanged.
        ModelspaceError: the process was not started with `VARIABLE`, or this version of DuckDB has another file format.
    """
    digest = ""

    def copy(duck: DuckDBPyConnection) -> None:
        nonlocal digest
        digest = _copy(duck, moment.replace(tzinfo=None))

    if os.environ.get(VARIABLE) != ZEROS:
        raise ModelspaceError(
            "files written by this process would contain uninitialised memory", f"start it with {VARIABLE}={ZEROS}"
        )
    rewrite(
        path,
        copy,
        finish=lambda file: _set_identifier(file, digest),
        settings={"threads": "1"},
        block_size=BLOCK_SIZE,
        timeout=timeout,
    )
    return digest


def _copy(duck: DuckDBPyConnection, moment: datetime) -> str:
    """Fill `target` from `registry`; returns the SHA-256 of the content."""
    tables = _tables(duck)
    row = duck.execute(
        "SELECT count(*) FROM duckdb_columns() WHERE database_name = 'registry' AND table_name = 'spaces'"
        " AND column_name = 'epoch'"
    ).fetchone()
    epoch = ", 0::BIGINT AS epoch" if row and row[0] else ""  # a registry of an earlier version has none
    digest = hashlib.sha256()
    for table in tables:
        digest.update(table.encode())
        for row in _rows(duck, _query(table, registry_id="NULL", generation=f"0 AS generation{epoch}"), moment):
            digest.update(repr(row).encode())
    content = digest.hexdigest()
    registry_id, generation = uuid.uuid5(uuid.NAMESPACE_OID, content), 1 + int(content[:5], 16)
    duck.execute("BEGIN; COPY FROM DATABASE registry TO target (SCHEMA)")
    for table in tables:
        replaced = f"{generation}::BIGINT AS generation{epoch}"
        query = _query(table, registry_id=f"'{registry_id}'::UUID", generation=replaced)
        duck.execute(f"INSERT INTO target.main.{table} {query}", {"moment": moment} if table in TIMES else None)
    set_outcome_checksums(duck, "target")
    duck.execute("COMMIT")
    return content


def set_outcome_checksums(duck: DuckDBPyConnection, database: str) -> None:
    """Compute the checksums of all outcomes of an attached registry again: they cover the replaced times."""
    rows = duck.execute(f"SELECT * EXCLUDE (checksum) FROM {database}.main.outcomes ORDER BY outcome_id").fetchall()
    for outcome_id, task_id, _model_id, _model, *others in rows:
        duck.execute(
            f"UPDATE {database}.main.outcomes SET checksum = ? WHERE outcome_id = ?",
            [checksums.of_outcome([task_id, *others]), outcome_id],
        )


def _tables(duck: DuckDBPyConnection) -> list[str]:
    """The tables, after checking that `TIMES` has all their time columns."""
    columns = duck.execute(
        "SELECT table_name, list(column_name) FILTER (WHERE data_type LIKE 'TIMESTAMP%') FROM duckdb_columns()"
        " SEMI JOIN duckdb_tables() USING (database_name, table_name)"
        " WHERE database_name = 'registry' GROUP BY table_name ORDER BY table_name"
    ).fetchall()
    times = {table: names for table, names in columns if names}
    if times != {table: [column] for table, (column, _) in TIMES.items()}:
        raise ModelspaceError(
            f"a registry has the time columns {times}, which are not those expected",
            "update TIMES in modelspace/lab/sealing.py",
        )
    return [table for table, _ in columns]


def _query(table: str, *, registry_id: str, generation: str) -> str:
    """A query for all rows of a table in a fixed order, with random values and times replaced.

    Args:
        table: its name.
        registry_id: the expression that replaces the registry's id.
        generation: what replaces the random columns of the table of spaces.
    """
    replacements = []
    if table in TIMES:
        column, order = TIMES[table]
        replacements.append(f"$moment + to_seconds(row_number() OVER (ORDER BY {order}) - 1) AS {column}")
    if table == "meta":
        replacements.append(f"{registry_id} AS registry_id")
    if table == "models":
        replacements.append("0.0::DOUBLE AS seconds")
    if table == "outcomes":
        replacements.append("NULL::UINTEGER AS checksum")
    if table == "spaces":
        replacements.append(generation)
    columns = f"* REPLACE ({', '.join(replacements)})" if replacements else "*"
    return f"SELECT {columns} FROM registry.main.{table} ORDER BY ALL"


def _rows(duck: DuckDBPyConnection, query: str, moment: datetime) -> Iterator[tuple[object, ...]]:
    duck.execute(query, {"moment": moment} if "$moment" in query else None)
    while rows := duck.fetchmany(256):
        yield from rows


def _set_identifier(file: Path, digest: str) -> None:
    """Replace the identifier of a closed database file by a hash of its content."""
    with open(file, "r+b") as handle:
        pages = [bytearray(handle.read(_PAGE)) for _ in range(_N_PAGES)]
        identifier = bytes(pages[0][_IDENTIFIER])
        for page in pages:
            if _checksum(page) != bytes(page[:8]):
                raise ModelspaceError(
                    "this version of DuckDB has an unknown file format", "use the version in constraints.txt"
                )
            if page[_IDENTIFIER] == identifier:
                page[_IDENTIFIER] = bytes.fromhex(digest)[: len(identifier)]
                page[:8] = _checksum(page)
        handle.seek(0)
        handle.write(b"".join(pages))


def _checksum(page: bytearray) -> bytes:
    """DuckDB's checksum of a page after its first eight bytes: XOR of its words times a constant."""
    words = np.frombuffer(page, dtype="<u8", offset=8) * np.uint64(0xBF58476D1CE4E5B9)
    return int(np.bitwise_xor.reduce(words) ^ np.uint64(5381)).to_bytes(8, "little")
