"""The migrations: numbered SQL files, each applied once, in its own transaction, and never changed afterwards."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from modelspace import __version__
from modelspace.errors import ConflictError, DamagedError, ModelspaceError
from modelspace.files import file_identity
from modelspace.late import dataclass
from modelspace.registry.connection import Checked, Connection, open_reading, translated

FOLDER = Path(__file__).parent / "migrations"

#: Queries work on registries migrated at least to this number.
OLDEST_READABLE = 2

#: What each later migration added, for queries on registries that lack it.
PROJECTIONS, CODE, TASKS, CHECKSUMS, ANCHORS = 3, 5, 6, 7, 8


#: Table -> its columns and their types ("?": may be NULL), as migration 8 leaves them. Later ones may add to it.
COLUMNS = {
    "anchors": "space_id VARCHAR, axis INTEGER, model_id BIGINT, factor DOUBLE[], factor_checksum UINTEGER?",
    "anchor_maps": "space_id VARCHAR, axis INTEGER, first_image INTEGER, n_images INTEGER, part INTEGER, codes BLOB,"
    " scales BLOB, checksum UINTEGER?",
    "embeddings": "space_id VARCHAR, model_id BIGINT, position INTEGER, vector DOUBLE[], affinities DOUBLE[],"
    " axis INTEGER?, residual DOUBLE, vector_checksum UINTEGER?, affinities_checksum UINTEGER?,"
    " coordinates FLOAT[]?, coordinates_checksum UINTEGER?",
    "maps": "space_id VARCHAR, model_id BIGINT, first_image INTEGER, n_images INTEGER, part INTEGER, codes BLOB,"
    " scales BLOB, checksum UINTEGER?",
    "meta": "registry_id UUID, created_at TIMESTAMP",
    "migrations": "number INTEGER, name VARCHAR, sha256 VARCHAR, applied_at TIMESTAMP",
    "models": "model_id BIGINT, name VARCHAR, uri VARCHAR, weights_sha256 VARCHAR, identity VARCHAR,"
    " architecture VARCHAR, task VARCHAR?, data VARCHAR?, layer VARCHAR, layer_found_by VARCHAR,"
    " output_shape INTEGER[], input_height INTEGER, input_width INTEGER, preprocessing VARCHAR, parameters BIGINT,"
    " seconds DOUBLE, tags MAP(VARCHAR, VARCHAR), added_at TIMESTAMP, code_sha256 VARCHAR?, options VARCHAR?,"
    " torch VARCHAR?",
    "outcomes": "outcome_id BIGINT, task_id BIGINT, model_id BIGINT?, model VARCHAR, weights_sha256 VARCHAR,"
    " score DOUBLE?, how VARCHAR, settings VARCHAR, n_train BIGINT?, seed BIGINT?, seconds DOUBLE?,"
    " measured_at TIMESTAMP, note VARCHAR, checksum UINTEGER?",
    "probe_images": "probe_id VARCHAR, k INTEGER, name VARCHAR, png BLOB",
    "probe_sets": "probe_id VARCHAR, name VARCHAR, kind VARCHAR, spec VARCHAR, n_images INTEGER?, size INTEGER,"
    " created_at TIMESTAMP",
    "projections": "space_id VARCHAR, parameters VARCHAR, seed BIGINT, made_at TIMESTAMP",
    "projection_points": "space_id VARCHAR, model_id BIGINT, x DOUBLE, y DOUBLE, placed BOOLEAN",
    "spaces": "space_id VARCHAR, name VARCHAR, probe_id VARCHAR, method VARCHAR, scalar VARCHAR, canvas INTEGER,"
    " n_images INTEGER, bits INTEGER, parameters VARCHAR, version INTEGER, is_default BOOLEAN, generation BIGINT,"
    " created_at TIMESTAMP, next_position BIGINT?, n_models BIGINT?, epoch BIGINT?",
    "tasks": "task_id BIGINT, name VARCHAR, location VARCHAR, data_sha256 VARCHAR, kind VARCHAR, metric VARCHAR,"
    " higher_is_better BOOLEAN, n_images BIGINT?, classes VARCHAR[], seed BIGINT, added_at TIMESTAMP",
}

#: Number of the migration that created a table or a column; 1 where it is not listed.
SINCE = {
    **dict.fromkeys(("projections", "projection_points"), 3),
    **dict.fromkeys(("code_sha256", "options"), 5),
    **dict.fromkeys(("tasks", "outcomes"), 6),
    **dict.fromkeys(("vector_checksum", "affinities_checksum", "checksum", "torch"), 7),
    **dict.fromkeys(("anchors", "anchor_maps", "coordinates", "coordinates_checksum"), 8),
    **dict.fromkeys(("next_position", "n_models", "epoch"), 8),
}


@dataclass(frozen=True)
class Migration:
    """One SQL file.

    Attributes:
        number: 1, 2, ...
        name: the part of the file's name after the number. From migration 8 on it begins with the first version of
            modelspace that has the migration, as in "1.2.0_licence", so that earlier versions can name the one to
            install.
        sql: its text.
        sha256: of the text with Unix line ends, hexadecimal.
    """

    number: int
    name: str
    sql: str
    sha256: str

    @property
    def since(self) -> str:
        """The first version of modelspace that has it; "" if its name does not say so."""
        return _UNNAMED.get(self.number) or version_of(self.name) or ""


#: First version that has the migrations whose names don't say it.
_UNNAMED = dict.fromkeys(range(1, CHECKSUMS + 1), "0.1.0")


def version_of(name: str) -> str | None:
    """The version of modelspace that a migration's name begins with.

    >>> version_of("1.2.0_licence")
    '1.2.0'
    >>> version_of("licence") is None
    True
    """
    match = re.match(r"([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})_", name)
    return match[1] if match else None


def known(folder: Path | None = None) -> list[Migration]:
    """The installed migrations, by number.

    Raises:
        DamagedError: the numbers are not 1, 2, ... (a broken installation).
    """
    files = [entry for entry in os.scandir(folder or FOLDER) if re.fullmatch(r"[0-9].*\.sql", entry.name)]
    return list(_read(tuple(sorted((entry.path, entry.stat().st_mtime_ns) for entry in files))))


@functools.lru_cache(maxsize=2)
def _read(files: tuple[tuple[str, int], ...]) -> tuple[Migration, ...]:
    """The migrations in files, given by path and time of the last change: each opening of a registry compares them."""
    migrations = []
    for file in (Path(path) for path, _ in files):
        sql = file.read_bytes().replace(b"\r\n", b"\n")
        number, _, name = file.stem.partition("_")
        migrations.append(Migration(int(number), name, sql.decode(), hashlib.sha256(sql).hexdigest()))
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise DamagedError("the installed migrations are not numbered 1, 2, ...", "reinstall modelspace")
    return tuple(migrations)


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
    except (duckdb.CatalogException, duckdb.BinderException):
        row = None
    except duckdb.Error as error:
        raise translated(error, connection.path) from None
    if row is None:
        raise DamagedError(
            f"{connection.path} is a DuckDB file, but not a registry",
            "move it away, and create one: `ModelSpace.create()`",
        )
    try:
        return str(row[0]), [(int(number), sha256) for number, sha256 in row[1] or ()]
    except (TypeError, ValueError):
        raise DamagedError(f"{connection.path} has migrations that no modelspace wrote", _FOREIGN) from None


def check_readable(connection: Connection) -> tuple[str, int]:
    """Check that this version can read the registry, and return the registry's id and its last migration's number.

    Raises:
        ModelspaceError: the registry is too new or too old.
        ConflictError: an applied migration differs from the installed one.
        DamagedError: the file is not a registry.
    """
    installed = tuple(migration.sha256 for migration in known())
    if (checked := connection.known(installed)) is not None:
        return checked.registry_id, checked.number
    registry_id, rows = applied(connection)
    _compare(rows, connection)
    if len(rows) < OLDEST_READABLE:
        raise ModelspaceError(
            f"{connection.path} was created by an older version of modelspace",
            "any change migrates it, for example `space.rebuild(coordinates=True)`",
        )
    _check_columns(connection, len(rows))
    connection.note_checked(Checked(registry_id, len(rows), False, installed))
    return registry_id, len(rows)


def migrate(connection: Connection) -> tuple[str, int]:
    """Apply missing migrations to a registry that is open for writing, and return its id and the last one's number.

    Raises:
        ModelspaceError: the registry is too new.
        ConflictError: an applied migration differs from the installed one.
        DamagedError: the file is not a registry.
    """
    installed = tuple(migration.sha256 for migration in known())
    checked = connection.known(installed)
    if checked is None:
        registry_id, rows = applied(connection)
        missing = _compare(rows, connection)
        _check_tables(connection, len(rows))
        _apply(connection, missing)
        checked = Checked(registry_id, len(rows) + len(missing), True, installed)
    connection.note_checked(checked)
    return checked.registry_id, checked.number


def initialise(connection: Connection) -> None:
    """Apply all migrations to an empty file that is open for writing, and assign the registry's id."""
    _apply(connection, known())
    connection.duck.execute("INSERT INTO main.meta VALUES (uuid(), ?)", [now()])
    connection.duck.execute("CHECKPOINT registry")


def now() -> datetime:
    """The current time in UTC, without a time zone, as the registry stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _check_columns(connection: Connection, number: int) -> None:
    """Check that the tables of a registry are tables, with the columns that its migrations made.

    A file from elsewhere may hold a view in place of a table, columns of other types, and NULL where the code that
    reads a row counts on a value: DuckDB lets no row have one as long as the column says so. The functions that list
    a whole catalog take five times as long.

    Raises:
        DamagedError: a table or column is missing, has another type, may be NULL, or is part of a view.
    """
    tables = [table for table in COLUMNS if SINCE.get(table, 1) <= number]
    if not tables:
        raise DamagedError(f"{connection.path} does not say which version of modelspace it is of", _FOREIGN)
    columns = " UNION ALL ".join(
        f"SELECT '{table}', name, type, \"notnull\" FROM system.main.pragma_table_info('main.{table}')"
        for table in tables
    )
    try:
        rows = connection.duck.execute(columns).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        reason = str(error).split("\n", 1)[0].partition(": ")[2]
        raise DamagedError(f"{connection.path} lacks a table: {reason}", _FOREIGN) from None
    except duckdb.Error as error:
        raise translated(error, connection.path) from None
    stored: dict[str, dict[str, str]] = {table: {} for table in tables}
    for table, column, kind, is_required in rows:
        stored[table][column] = str(kind) if is_required else f"{kind}?"
    for table, kinds in stored.items():
        if all(kind.endswith("?") for kind in kinds.values()):  # no column of a view requires a value
            raise DamagedError(f"{connection.path} has a view in place of the table {table!r}", _FOREIGN)
    _compare_columns(connection.path, number, stored)


def _check_tables(connection: Connection, number: int) -> None:
    """`_check_columns` before changes: also that there are no triggers.

    Raises:
        DamagedError: as `_check_columns`, and where a change would do more than it says.
    """
    _check_columns(connection, number)
    try:
        triggers = _triggers(connection.duck)
    except duckdb.Error as error:
        raise translated(error, connection.path) from None
    if triggers:
        raise DamagedError(f"{connection.path} has triggers, which no modelspace makes", _FOREIGN)


def _compare_columns(path: Path, number: int, stored: dict[str, dict[str, str]]) -> None:
    """Compare the columns of a file, table -> column -> type, with `COLUMNS`."""
    for table, columns in COLUMNS.items():
        if SINCE.get(table, 1) > number:
            continue
        for column, expected in _columns_of(columns):
            if SINCE.get(column, 1) > number:
                continue
            if (actual := stored[table].get(column)) != expected:
                reason = f"is {_in_words(actual)}, not {_in_words(expected)}"
                raise DamagedError(f"{path}: column {column!r} of {table!r} {reason}", _FOREIGN)


_FOREIGN = "no modelspace wrote this file as it is: restore a copy, or ask where it came from"


@functools.cache
def _columns_of(columns: str) -> list[tuple[str, str]]:
    """(name, type) of each column in an entry of `COLUMNS`.

    >>> _columns_of("name VARCHAR, tags MAP(VARCHAR, VARCHAR), axis INTEGER?")
    [('name', 'VARCHAR'), ('tags', 'MAP(VARCHAR, VARCHAR)'), ('axis', 'INTEGER?')]
    """
    return [(name, kind) for name, kind in re.findall(r"([a-z_0-9]+) ([A-Z]+(?:\(.*?\)|\[\])?\??)", columns)]


def _in_words(kind: str | None) -> str:
    return "missing" if kind is None else kind.replace("?", " (may be NULL)")


def foreign_definitions(connection: Connection) -> list[str]:
    """Our views and macros that an open registry defines in another way than its migrations do, sorted.

    It takes about a tenth of a second.
    """
    number = len(applied(connection)[1])
    ours, theirs = _definitions_of_migrations(number), _definitions(connection.duck)
    return sorted(name for name, text in theirs.items() if name in ours and text != ours[name])


def check_definitions_of(path: Path) -> None:
    """Check that our tables, views and macros are ours, before a user's SQL uses them; once for each state of the file.

    Raises:
        ModelspaceError: one is not; as `check_readable`.
    """
    if _state(path.resolve()) in _checked:
        return
    connection = open_reading(path)
    try:
        check_readable(connection)
        state = _state(connection.path)
        if names := foreign_definitions(connection):
            raise DamagedError(f"{path} has definitions of {', '.join(names)} that no modelspace wrote", _FOREIGN)
        _checked.clear()
        _checked.add(state)
    except duckdb.Error as error:
        raise translated(error, path) from None
    finally:
        connection.close()


def _state(path: Path) -> tuple[str, object]:
    """A file, and what changes when it does."""
    return str(path), file_identity(path)


#: The file whose definitions were checked last, and its state.
_checked: set[tuple[str, object]] = set()


def _definitions(duck: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Name of each view and macro -> its parameters and text, as this version of DuckDB prints it."""
    rows = duck.execute(
        "SELECT view_name, sql FROM system.main.duckdb_views() WHERE NOT internal AND schema_name = 'main'"
        " UNION ALL SELECT function_name, parameters::VARCHAR || macro_definition"
        " FROM system.main.duckdb_functions() WHERE NOT internal AND schema_name = 'main'"
    ).fetchall()
    texts: dict[str, str] = {}
    for name, text in sorted(rows, key=str):
        texts[name] = texts.get(name, "") + str(text)
    return texts


@functools.cache
def _definitions_of_migrations(number: int) -> dict[str, str]:
    """Those that the first `number` migrations make; a later one may define a view again."""
    duck = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    try:
        for migration in known()[:number]:
            duck.execute(migration.sql)
        return _definitions(duck)
    finally:
        duck.close()


def _triggers(duck: duckdb.DuckDBPyConnection) -> int:
    """Number of triggers; versions of DuckDB before 2.0 have none."""
    try:
        row = duck.execute("SELECT system.main.count(*) FROM system.main.duckdb_triggers()").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row else 0


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
                connection.commit()
            except BaseException:
                duck.execute("ROLLBACK")
                raise
        # The log replays schema changes less reliably than changes of rows, so don't leave them in it.
        connection.checkpoint()


def _compare(rows: list[tuple[int, str]], connection: Connection) -> list[Migration]:
    """The migrations still to be applied, after checking that the applied ones match the installed ones."""
    migrations = known()
    for migration, (number, sha256) in zip(migrations, rows, strict=False):
        if migration.number != number or migration.sha256 != sha256:
            raise ConflictError(
                f"migration {number} of {connection.path} differs from that of this modelspace",
                "use the version that created the registry, or a released version",
            )
    if len(rows) > len(migrations):
        raise _too_new(connection, len(rows), len(migrations))
    return migrations[len(rows) :]


def _too_new(connection: Connection, number: int, n_known: int) -> ModelspaceError:
    """The error for a registry with later migrations, with the version to install if the last one's name says it."""
    try:
        row = connection.duck.execute("SELECT name FROM main.migrations ORDER BY number DESC LIMIT 1").fetchone()
    except duckdb.Error as error:
        raise translated(error, connection.path) from None
    version = version_of(str(row[0])) if row else None
    requirement = f"modelspace>={version}" if version else f"modelspace>{__version__}"
    return ModelspaceError(
        f"{connection.path} was created by a newer version of modelspace: it has schema {number}, and modelspace"
        f" {__version__} knows schemas up to {n_known}",
        f"pip install --upgrade '{requirement}'",
    )
