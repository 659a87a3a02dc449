"""Registry files that another program made or changed: refused in a sentence, or read as what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import small_spaces

from modelspace.errors import DamagedError, ModelspaceError
from modelspace.registry import Registry, schema
from modelspace.spaces.kinds import space_of
from modelspace.workspace import ModelSpace


def changed(home: Path, *statements: str) -> ModelSpace:
    """A registry of m0 .. m2 in a space of maps, one of kernels and a blend, changed by another program."""
    specs = (small_spaces.MAPS, small_spaces.KERNELS, small_spaces.BOTH)
    with small_spaces.create(home / "registry.duckdb", *specs) as registry:
        for seed in range(3):
            small_spaces.add(registry, seed, *specs)
    with duckdb.connect(home / "registry.duckdb") as duck:
        # Somebody who writes a registry by hand leaves the checksums out.
        for checksum in (
            "embeddings SET vector_checksum = NULL, affinities_checksum = NULL",
            "maps SET checksum = NULL",
            "outcomes SET checksum = NULL",
        ):
            duck.execute(f"UPDATE {checksum}")
        for statement in statements:
            duck.execute(statement)
    return ModelSpace.open(home)


def test_the_columns_are_those_of_the_migrations() -> None:
    with duckdb.connect() as duck:
        for migration in schema.known():
            duck.execute(migration.sql)
        rows = duck.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns()"
            " WHERE NOT internal AND table_name IN (SELECT table_name FROM duckdb_tables())"
        ).fetchall()
    stored = {(table, column, kind + "?" * nullable) for table, column, kind, nullable in rows}
    assert stored == {(table, *pair) for table, text in schema.COLUMNS.items() for pair in schema._columns_of(text)}


VIEW = ("ALTER TABLE models RENAME TO real", "CREATE VIEW models AS SELECT * FROM real")
SCHEMAS = {
    "a view": (VIEW, "has a view in its place"),
    "a view with row numbers": ((VIEW[0], "CREATE VIEW models AS SELECT rowid, * FROM real"), "a view in place"),
    "a missing table": (("DROP TABLE spaces",), "lacks a table"),
    "a missing column": (("ALTER TABLE models DROP COLUMN uri",), "column 'uri' of 'models' is missing"),
    "another type": (
        ("ALTER TABLE embeddings ALTER COLUMN residual TYPE VARCHAR",),
        "'residual' of 'embeddings' is VARCHAR, not DOUBLE",
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize("what", SCHEMAS)
def test_other_tables_are_refused(tmp_path: Path, what: str) -> None:
    statements, message = SCHEMAS[what]
    space = changed(tmp_path, *statements)
    reads: tuple[Callable[[], object], ...] = (space.list, space.verify, lambda: space.rename("m0", "x"))
    for read in reads:
        with pytest.raises(DamagedError, match=message):
            read()


@pytest.mark.wide
def test_triggers_and_columns_that_may_be_null_are_refused_before_a_change(tmp_path: Path) -> None:
    space = changed(tmp_path, "ALTER TABLE models ALTER COLUMN uri DROP NOT NULL")
    assert len(space.list()) == 3
    with pytest.raises(DamagedError, match=r"VARCHAR \(may be NULL\), not VARCHAR"):
        space.rename("m0", "x")
    (tmp_path / "second").mkdir()
    space = changed(tmp_path / "second")
    try:
        with duckdb.connect(space.path) as duck:
            duck.execute("CREATE TRIGGER t AFTER UPDATE ON models FOR EACH ROW DELETE FROM maps")
    except duckdb.Error:
        pytest.skip("this version of DuckDB has no triggers")
    with pytest.raises(DamagedError, match="triggers"):
        space.rename("m0", "x")


@pytest.mark.wide
def test_a_macro_does_not_replace_a_function(tmp_path: Path) -> None:
    space = changed(tmp_path)
    honest = space.nearest("m0", k=2).to_dicts()
    with duckdb.connect(space.path) as duck:
        for name in ("count(x)", "isfinite(x)", "list_inner_product(a, b)", "len(x)", "max(x)", "nextval(x)"):
            duck.execute(f"CREATE MACRO {name} AS 42")
        duck.execute("CREATE MACRO duckdb_tables() AS TABLE SELECT 'x' AS table_name, false AS internal")
    assert space.nearest("m0", k=2).to_dicts() == honest
    assert all(check.ok for check in space.verify())
    assert space.sql("SELECT count(name), isfinite('nan'::DOUBLE) FROM models").rows == [(3, False)]
    space.rename("m0", "x")
    assert [row.name for row in space.list()] == ["x", "m1", "m2"]
    with Registry.open(space.path, write=True) as registry:
        assert registry.rows("SELECT count(name) FROM main.models") == [(3,)]


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "definition",
    [
        "CREATE OR REPLACE MACRO affinity(a, b) AS 42",
        "CREATE OR REPLACE MACRO nearest(name, k := 10) AS TABLE SELECT 'evil' AS name",
        "CREATE OR REPLACE VIEW catalog AS SELECT 'evil' AS name",
    ],
)
def test_other_definitions_of_ours_are_named(tmp_path: Path, definition: str) -> None:
    space = changed(tmp_path)
    assert space.sql("SELECT affinity('m0', 'm0')").rows == [(1.0,)]
    with duckdb.connect(space.path) as duck:
        duck.execute(definition)
    with pytest.raises(DamagedError, match=r"definitions of (affinity|nearest|catalog) that"):
        space.sql("SELECT affinity('m0', 'm0')")
    assert [check.what for check in space.verify() if not check.ok] in (
        ["view or macro affinity"],
        ["view or macro nearest"],
        ["view or macro catalog"],
    )
    assert len(space.nearest("m0")) == 2  # which calls none of them


VALUES = {
    "preprocessing": ("UPDATE models SET preprocessing = '{' WHERE model_id = 2", "the model 'm1'"),
    "options": ("UPDATE models SET options = '[]'", "not a JSON object"),
    "a time": ("UPDATE models SET added_at = 'infinity'", "can't be read"),
    "parameters": (
        "UPDATE spaces SET parameters = '{\"a\": NaN}' WHERE method = 'dds'",
        "the space 'dds'.*NaN in JSON",
    ),
    "many images": ("UPDATE spaces SET n_images = 2147483647 WHERE method = 'dds'", "2147483647 images"),
    "deep JSON": ("UPDATE spaces SET parameters = repeat('[', 100000)", "the space"),
}


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize("what", VALUES)
def test_values_that_no_command_wrote_are_named(tmp_path: Path, what: str) -> None:
    statement, message = VALUES[what]
    space = changed(tmp_path, statement)
    with pytest.raises(DamagedError, match=message):
        space.verify()


@pytest.mark.first(1)
@pytest.mark.parametrize("values", ["[NULL]", "['nan'::DOUBLE]", "[0.5, NULL, 'inf'::DOUBLE]"])
def test_vectors_that_are_not_numbers(tmp_path: Path, values: str) -> None:
    space = changed(tmp_path, f"UPDATE embeddings SET vector = {values} WHERE model_id = 2")
    with pytest.raises(ModelspaceError):
        space.nearest("m0", space="saliency")


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("codes = codes || codes", "wrong size"),
        ("scales = scales || scales", "wrong size"),
        ("codes = ''::BLOB", "wrong size"),
        ("n_images = 2147483647", "a block of 2147483647 images"),
        ("n_images = -1", "a block of -1 images"),
        ("first_image = first_image + 1000000", "a block of .* from image 100000"),
    ],
)
def test_maps_of_wrong_lengths(tmp_path: Path, change: str, message: str) -> None:
    space = changed(tmp_path, f"UPDATE maps SET {change}")
    with pytest.raises(DamagedError, match=message):
        space.rebuild(coordinates=True)
    with Registry.open(space.path) as registry:
        (block,) = registry.map_blocks(small_spaces.KERNELS.space_id, 1)
        with pytest.raises(DamagedError, match=message):
            space_of(small_spaces.KERNELS).unit_rows(block)


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("{}", "names no spaces"),
        ("[1]", "names no spaces"),
        ('{"aaaaaaaaaaaaaaaa": 1.0}', "aaaaaaaaaaaaaaaa of the blend .* is missing"),
        ('{"aaaaaaaaaaaaaaaa": "x"}', "weight"),
        ('{"aaaaaaaaaaaaaaaa": -1}', "weight"),
    ],
)
def test_blends_of_what_is_no_space(tmp_path: Path, members: str, message: str) -> None:
    parameters = {"members": json.loads(members)}
    spec = replace(small_spaces.BOTH, name="aaaaaaaaaaaaaaaa", parameters=parameters)
    space = changed(
        tmp_path,
        f"UPDATE spaces SET name = '{spec.name}', parameters = '{json.dumps(parameters)}' WHERE method = 'blend'",
        *(
            f"UPDATE {table} SET space_id = '{spec.space_id}' WHERE space_id = '{small_spaces.BOTH.space_id}'"
            for table in ("spaces", "embeddings")
        ),
    )
    for read in (lambda: space.rebuild(coordinates=True), lambda: space.nearest("m0", space=spec.name)):
        with pytest.raises(DamagedError, match=message):
            read()


@pytest.mark.first(1)
@pytest.mark.parametrize("table", ["models", "spaces", "probe_sets", "tasks"])
def test_a_name_that_is_missing_is_said(tmp_path: Path, table: str) -> None:
    """No program of ours writes it, but blocks of a file that changed places are read so."""
    space = changed(tmp_path)
    space.add_task("flowers")
    with duckdb.connect(space.path) as duck:
        duck.execute(f"ALTER TABLE {table} ALTER COLUMN name DROP NOT NULL; UPDATE {table} SET name = NULL")
    query = {"spaces": space.spaces, "probe_sets": space.probe_sets, "tasks": space.tasks}.get(table, space.list)
    for call in (query, space.verify):
        with pytest.raises(DamagedError, match="a name in the registry is missing"):
            call()
