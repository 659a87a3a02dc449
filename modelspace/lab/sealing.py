"""Sealing a registry: its file's bytes then follow from its content, so that a build can be repeated byte for byte.

What depends on when and where a registry was built is replaced: times by a given one, a second apart in their order;
the seconds that embedding took by 0; the random id and the random first generation by hashes of all the rest. The
rows are then written sorted, by one thread, into a new file.

DuckDB's file has two more sources of chance. Bytes of a block that nothing was written to hold whatever was in
memory, pointers among it: the process must be started with `VARIABLE` set, so that all memory begins as zeros
(jemalloc, which DuckDB has on Linux). And each new file gets 16 random bytes as an identifier, which only encrypted
databases use: they are replaced by a hash too, and the checksums of the pages that hold them are computed again.

Another version of DuckDB writes other bytes. Who builds with the versions of constraints.txt gets the same.
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
from modelspace.registry.compaction import rewrite

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Each table's column of times, and the order that it stands for where rows are read by it.
TIMES = {
    "meta": ("created_at", "created_at"),
    "migrations": ("applied_at", "number"),
    "models": ("added_at", "model_id"),
    "probe_sets": ("created_at", "created_at, name"),
    "projections": ("made_at", "space_id"),
    "spaces": ("created_at", "created_at, name"),
}

#: In the environment of a process that seals, before it starts: all memory that DuckDB gets is zero.
VARIABLE, ZEROS = "DUCKDB_JE_MALLOC_CONF", "zero:true"

#: Each table and each column of blobs begins a block of its own, of which DuckDB's 256 KiB leave much empty.
BLOCK_SIZE = 1 << 15

#: The file begins with three pages, each behind its checksum; the identifier's place is the same in those that hold it.
_PAGE, _N_PAGES, _IDENTIFIER = 4096, 3, slice(124, 140)


def seal(path: Path, moment: datetime, timeout: float = 10.0) -> str:
    """Rewrite a registry so that equal content gives an equal file. Index files of it are stale afterwards.

    Args:
        path: the registry.
        moment: the time of its first row in each table, in UTC; its time zone is not looked at.
        timeout: seconds to wait until others let go of the registry.

    Returns:
        SHA-256 of the content.

    Raises:
        BusyError: others held the file for longer than `timeout`.
        DamagedError: the file is damaged. It is as it was.
        ModelspaceError: the process was not started with `VARIABLE`, or this DuckDB's file is of another form.
    """
    digest = ""

    def copy(duck: DuckDBPyConnection) -> None:
        nonlocal digest
        digest = _copy(duck, moment.replace(tzinfo=None))

    if os.environ.get(VARIABLE) != ZEROS:
        raise ModelspaceError(
            "what this process writes depends on what its memory held before", f"start it with {VARIABLE}={ZEROS}"
        )
    rewrite(
        path,
        copy,
        finish=lambda file: _name(file, digest),
        settings={"threads": "1"},
        block_size=BLOCK_SIZE,
        timeout=timeout,
    )
    return digest


def _copy(duck: DuckDBPyConnection, moment: datetime) -> str:
    """Fill `target` from `registry`; returns the SHA-256 of the content."""
    tables = _tables(duck)
    digest = hashlib.sha256()
    for table in tables:
        digest.update(table.encode())
        for row in _rows(duck, _query(table, registry_id="NULL", generation="0"), moment):
            digest.update(repr(row).encode())
    content = digest.hexdigest()
    registry_id, generation = uuid.uuid5(uuid.NAMESPACE_OID, content), 1 + int(content[:5], 16)
    duck.execute("BEGIN; COPY FROM DATABASE registry TO target (SCHEMA)")
    for table in tables:
        query = _query(table, registry_id=f"'{registry_id}'::UUID", generation=f"{generation}::BIGINT")
        duck.execute(f"INSERT INTO target.main.{table} {query}", {"moment": moment} if table in TIMES else None)
    duck.execute("COMMIT")
    return content


def _tables(duck: DuckDBPyConnection) -> list[str]:
    """The tables, of which `TIMES` must know every time."""
    columns = duck.execute(
        "SELECT table_name, list(column_name) FILTER (WHERE data_type LIKE 'TIMESTAMP%') FROM duckdb_columns()"
        " SEMI JOIN duckdb_tables() USING (database_name, table_name)"
        " WHERE database_name = 'registry' GROUP BY table_name ORDER BY table_name"
    ).fetchall()
    times = {table: names for table, names in columns if names}
    if times != {table: [column] for table, (column, _) in TIMES.items()}:
        raise ModelspaceError(
            f"the times of a registry are in {times}, not where they are expected",
            "bring TIMES in modelspace/lab/sealing.py up to date",
        )
    return [table for table, _ in columns]


def _query(table: str, *, registry_id: str, generation: str) -> str:
    """All rows of a table in a fixed order, without what chance and the clock put there."""
    replaced = []
    if table in TIMES:
        column, order = TIMES[table]
        replaced.append(f"$moment + to_seconds(row_number() OVER (ORDER BY {order}) - 1) AS {column}")
    if table == "meta":
        replaced.append(f"{registry_id} AS registry_id")
    if table == "models":
        replaced.append("0.0::DOUBLE AS seconds")
    if table == "spaces":
        replaced.append(f"{generation} AS generation")
    columns = f"* REPLACE ({', '.join(replaced)})" if replaced else "*"
    return f"SELECT {columns} FROM registry.main.{table} ORDER BY ALL"


def _rows(duck: DuckDBPyConnection, query: str, moment: datetime) -> Iterator[tuple[object, ...]]:
    duck.execute(query, {"moment": moment} if "$moment" in query else None)
    while rows := duck.fetchmany(256):
        yield from rows


def _name(file: Path, digest: str) -> None:
    """Give a closed database file an identifier that follows from its content."""
    with open(file, "r+b") as handle:
        pages = [bytearray(handle.read(_PAGE)) for _ in range(_N_PAGES)]
        chance = bytes(pages[0][_IDENTIFIER])
        for page in pages:
            if _checksum(page) != bytes(page[:8]):
                raise ModelspaceError(
                    "this DuckDB begins its files in a way that is not known", "use the version of constraints.txt"
                )
            if page[_IDENTIFIER] == chance:
                page[_IDENTIFIER] = bytes.fromhex(digest)[: len(chance)]
                page[:8] = _checksum(page)
        handle.seek(0)
        handle.write(b"".join(pages))


def _checksum(page: bytearray) -> bytes:
    """DuckDB's checksum of what follows the page's first eight bytes: its words times a constant, by exclusive or."""
    words = np.frombuffer(page, dtype="<u8", offset=8) * np.uint64(0xBF58476D1CE4E5B9)
    return int(np.bitwise_xor.reduce(words) ^ np.uint64(5381)).to_bytes(8, "little")
