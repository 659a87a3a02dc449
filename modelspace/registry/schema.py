"""The migrations: numbered SQL files, each applied once, in its own transaction, and never changed afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from modelspace.errors import ConflictError, DamagedError, ModelspaceError
from modelspace.registry.connection import Connection, translated

FOLDER = Path(__file__).parent / "migrations"

#: Queries work on registries migrated at least to this number.
OLDEST_READABLE = 2


@dataclass(frozen=True)
class Migration:
    """One SQL file.

    Attributes:
        number: 1, 2, ...
        name: the part of the file's name after the number.
        sql: its text.
        sha256: of the text with Unix line ends, hexadecimal.
    """

    number: int
    name: str
    sql: str
    sha256: str


def known(folder: Path | None = None) -> list[Migration]:
    """The installed migrations, by number.

    Raises:
        DamagedError: the numbers are not 1, 2, ... (a broken installation).
    """
    migrations = []
    for file in sorted((folder or FOLDER).glob("[0-9]*.sql")):
        sql = file.read_bytes().replace(b"\r\n", b"\n")
        number, _, name = file.stem.partition("_")
        migrations.append(Migration(int(number), name, sql.decode(), hashlib.sha256(sql).hexdigest()))
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise DamagedError("the installed migrations are not numbered 1, 2, ...", "reinstall modelspace")
    return migrations


def applied(connection: Connection) -> tuple[str, list[tuple[int, str]]]:
    """(registry id, [(number, sha256), ...] by number) of an open registry.

    Raises:
        DamagedError: the file is not a registry.
    """
    try:
        row = connection.duck.execute(
            "SELECT registry_id::VARCHAR, (SELECT list([number::VARCHAR, sha256] ORDER BY number) FROM main.migrations)"
            " FROM main.meta"
        ).fetchone()
    except duckdb.CatalogException:
        row = None
    except duckdb.Error as error:
        raise translated(error, connection.path) from None
    if row is None:
        raise DamagedError(
            f"{connection.path} is a DuckDB file, but not a registry", "create one: `ModelSpace.create()`"
        )
    return row[0], [(int(number), sha256) for number, sha256 in row[1]]


def check_readable(connection: Connection) -> str:
    """Check that this version can read the registry, and return the registry's id.

    Raises:
        ModelspaceError: the registry is too new or too old.
        ConflictError: an applied migration differs from the installed one.
        DamagedError: the file is not a registry.
    """
    registry_id, rows = applied(connection)
    _compare(rows, connection.path)
    if len(rows) < OLDEST_READABLE:
        raise ModelspaceError(
            f"{connection.path} was created by an older version of modelspace",
            "any change migrates it, for example `space.rebuild(coordinates=True)`",
        )
    return registry_id


def migrate(connection: Connection) -> str:
    """Apply missing migrations to a registry that is open for writing, and return the registry's id.

    Raises:
        ModelspaceError: the registry is too new.
        ConflictError: an applied migration differs from the installed one.
        DamagedError: the file is not a registry.
    """
    registry_id, rows = applied(connection)
    missing = _compare(rows, connection.path)
    _apply(connection, missing)
    return registry_id


def initialise(connection: Connection) -> None:
    """Apply all migrations to an empty file that is open for writing, and assign the registry's id."""
    _apply(connection, known())
    connection.duck.execute("INSERT INTO main.meta VALUES (uuid(), ?)", [now()])
    connection.duck.execute("CHECKPOINT registry")


def now() -> datetime:
    """The current time in UTC, without a time zone, as the registry stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _apply(connection: Connection, migrations: list[Migration]) -> None:
    duck = connection.duck
    for migration in migrations:
        with connection.defining():
            duck.execute("BEGIN")
            try:
                duck.execute(migration.sql)
                duck.execute(
                    "INSERT INTO main.migrations VALUES (?, ?, ?, ?)",
                    [migration.number, migration.name, migration.sha256, now()],
                )
                duck.execute("COMMIT")
            except BaseException:
                duck.execute("ROLLBACK")
                raise
        # The log replays schema changes less reliably than changes of rows, so don't leave them in it.
        duck.execute("CHECKPOINT registry")


def _compare(rows: list[tuple[int, str]], path: Path) -> list[Migration]:
    """The migrations still to be applied, after checking that the applied ones match the installed ones."""
    migrations = known()
    for migration, (number, sha256) in zip(migrations, rows, strict=False):
        if migration.number != number or migration.sha256 != sha256:
            raise ConflictError(
                f"migration {number} of {path} differs from that of this modelspace",
                "use the version that created the registry, or a released version",
            )
    if len(rows) > len(migrations):
        raise ModelspaceError(
            f"{path} was created by a newer version of modelspace", "pip install --upgrade modelspace"
        )
    return migrations[len(rows) :]
