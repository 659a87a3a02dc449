"""The migrations: numbered SQL files, each applied once, in a transaction of its own, and never changed afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from modelspace.errors import ConflictError, DamagedError, ModelspaceError
from modelspace.registry.connection import Connection, translated

FOLDER = Path(__file__).parent / "migrations"

#: Queries of this program also work on a registry that has no migration later than this one.
OLDEST_READABLE = 2


@dataclass(frozen=True)
class Migration:
    """One SQL file.

    Attributes:
        number: 1, 2, ...
        name: what stands behind the number in the file's name.
        sql: its text.
        sha256: of the text with Unix line ends, hexadecimal.
    """

    number: int
    name: str
    sql: str
    sha256: str


def known(folder: Path | None = None) -> list[Migration]:
    """The migrations that this program knows, by number.

    Raises:
        DamagedError: the numbers are not 1, 2, ... (a broken installation).
    """
    migrations = []
    for file in sorted((folder or FOLDER).glob("[0-9]*.sql")):
        sql = file.read_bytes().replace(b"\r\n", b"\n")
        number, _, name = file.stem.partition("_")
        migrations.append(Migration(int(number), name, sql.decode(), hashlib.sha256(sql).hexdigest()))
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise DamagedError("the installed migrations are not numbered 1, 2, ...", "install modelspace again")
    return migrations


def applied(connection: Connection) -> tuple[str, list[tuple[int, str]]]:
    """(registry id, [(number, sha256), ...] by number) of an open registry.

    Raises:
        DamagedError: the file holds no registry.
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
        raise DamagedError(f"{connection.path} is a DuckDB file, but not a registry", "make one: `ModelSpace.create()`")
    return row[0], [(int(number), sha256) for number, sha256 in row[1]]


def check_readable(connection: Connection) -> str:
    """See to it that this program can read the registry, and return the registry's id.

    Raises:
        ModelspaceError: the registry is too new, or too old.
        ConflictError: a migration was changed after it was applied.
        DamagedError: the file holds no registry.
    """
    registry_id, rows = applied(connection)
    _compare(rows, connection.path)
    if len(rows) < OLDEST_READABLE:
        raise ModelspaceError(
            f"{connection.path} was made by an older modelspace",
            "any change brings it up to date: `space.rebuild(coordinates=True)`",
        )
    return registry_id


def migrate(connection: Connection) -> str:
    """Apply what is missing to a registry that is open for writing, and return the registry's id.

    Raises:
        ModelspaceError: the registry is too new.
        ConflictError: a migration was changed after it was applied.
        DamagedError: the file holds no registry.
    """
    registry_id, rows = applied(connection)
    missing = _compare(rows, connection.path)
    _apply(connection, missing)
    return registry_id


def initialise(connection: Connection) -> None:
    """Apply all migrations to an empty file that is open for writing, and give the registry its id."""
    _apply(connection, known())
    connection.duck.execute("INSERT INTO main.meta VALUES (uuid(), ?)", [now()])
    connection.duck.execute("CHECKPOINT")


def now() -> datetime:
    """The time in UTC, without a time zone, as the registry stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _apply(connection: Connection, migrations: list[Migration]) -> None:
    duck = connection.duck
    for migration in migrations:
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
        # The log replays changes of tables less reliably than changes of rows: don't leave them in it.
        duck.execute("CHECKPOINT")


def _compare(rows: list[tuple[int, str]], path: Path) -> list[Migration]:
    """The migrations that are still to be applied, once the applied ones were found to be the known ones."""
    migrations = known()
    for migration, (number, sha256) in zip(migrations, rows, strict=False):
        if migration.number != number or migration.sha256 != sha256:
            raise ConflictError(
                f"migration {number} of {path} is not the one that this modelspace knows",
                "use the modelspace that made the registry, or a released version",
            )
    if len(rows) > len(migrations):
        raise ModelspaceError(f"{path} was made by a newer modelspace", "pip install --upgrade modelspace")
    return migrations[len(rows) :]
