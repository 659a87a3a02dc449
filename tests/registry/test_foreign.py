"""Registry files that another program made or changed: refused in a sentence, or read as what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import small_spaces

from modelspace.errors import DamagedError, ModelspaceError
from modelspace.registry import Registry, schema
from modelspace.spaces.kinds import space_of
from modelspace.verbs.pictures.layout import layout
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
    "a view": (VIEW, "a view in place of the table 'models'"),
    "a view with row numbers": ((VIEW[0], "CREATE VIEW models AS SELECT rowid, * FROM real"), "a view in place of"),
    "a missing table": (("DROP TABLE spaces",), "lacks a table"),
    "a missing column": (("ALTER TABLE models DROP COLUMN uri",), "column 'uri' of 'models' is missing"),
    "another type": (
        ("ALTER TABLE embeddings ALTER COLUMN residual TYPE VARCHAR",),
        "'residual' of 'embeddings' is VARCHAR, not DOUBLE",
    ),
    "a column that may be NULL": (
        ("ALTER TABLE maps ALTER COLUMN codes DROP NOT NULL",),
        r"'codes' of 'maps' is BLOB \(may be NULL\), not BLOB",
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.first(1)
@pytest.mark.parametrize("what", SCHEMAS)
def test_other_tables_are_refused(tmp_path: Path, what: str) -> None:
    statements, message = SCHEMAS[what]
    space = changed(tmp_path, *statements)
    reads: tuple[Callable[[], object], ...] = (
        *(space.list, space.verify, lambda: space.rename("m0", "x")),
        *(lambda: space.sql("SELECT 1"), lambda: space.list(where="length(name) > 1")),
    )
    for read in reads:
        with pytest.raises(DamagedError, match=message):
            read()


def test_a_registry_without_a_version_is_refused_before_a_change(tmp_path: Path) -> None:
    space = changed(tmp_path, "DELETE FROM migrations")
    with pytest.raises(ModelspaceError, match="older version"):
        space.list()
    for change in (lambda: space.rename("m0", "x"), lambda: space.remove("m0")):
        with pytest.raises(DamagedError, match="does not say which version"):
            change()


@pytest.mark.wide
def test_triggers_are_refused_before_a_change(tmp_path: Path) -> None:
    space = changed(tmp_path)
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


def maps_of(space: ModelSpace) -> list[object]:
    """The blocks of maps of a model."""
    with Registry.open(space.path) as registry:
        return list(registry.map_blocks(small_spaces.MAPS.space_id, 1))


#: Columns whose values are needed where a row is read -> what is called then.
NEEDED: dict[str, Callable[[ModelSpace], object]] = {
    "maps.codes": lambda space: maps_of(space),
    "models.architecture": lambda space: space.list(),
    "models.uri": lambda space: space.nearest("m0"),
    "spaces.method": lambda space: space.spaces(),
    "probe_sets.kind": lambda space: space.probe_sets(),
    "tasks.metric": lambda space: space.tasks(),
    "outcomes.how": lambda space: space.outcomes(),
}


@pytest.fixture(scope="module")
def with_outcome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with a task and an outcome."""
    space = changed(tmp_path_factory.mktemp("with_outcome"))
    space.add_task("flowers")
    space.observe("flowers", "m0", 0.5)
    return space.path.parent


@pytest.fixture
def with_nulls(with_outcome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModelSpace]:
    """The registry with NULL in a column, as blocks of a file that changed places are read: the tables stay ours."""

    def make(column: str) -> ModelSpace:
        table, _, name = column.partition(".")
        shutil.copytree(with_outcome, tmp_path / "home")
        with duckdb.connect(tmp_path / "home" / "registry.duckdb") as duck:
            duck.execute(f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL; UPDATE {table} SET {name} = NULL")
        monkeypatch.setattr(schema, "_check_columns", lambda *_: None)
        return ModelSpace.open(tmp_path / "home")

    return make


@pytest.mark.first(1)
@pytest.mark.parametrize("column", NEEDED)
def test_a_value_that_is_missing_is_said(with_nulls: Callable[[str], ModelSpace], column: str) -> None:
    with pytest.raises(DamagedError, match=f"a row of the table '{column.partition('.')[0]}' in .* lacks a value"):
        NEEDED[column](with_nulls(column))


@pytest.mark.first(1)
@pytest.mark.parametrize("table", ["models", "spaces", "probe_sets", "tasks"])
def test_a_name_that_is_missing_is_said(with_nulls: Callable[[str], ModelSpace], table: str) -> None:
    space = with_nulls(f"{table}.name")
    query = {"spaces": space.spaces, "probe_sets": space.probe_sets, "tasks": space.tasks}.get(table, space.list)
    for call in (query, space.verify):
        with pytest.raises(DamagedError, match="a name in the registry is missing"):
            call()


def test_sql_on_tables_that_change_after_the_check_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = changed(tmp_path, "DROP MACRO TABLE nearest")
    monkeypatch.setattr(schema, "check_definitions_of", lambda _: None)
    with pytest.raises(ModelspaceError, match="nearest"):
        space.sql("SELECT 1")


@pytest.mark.parametrize(
    ("change", "message"),
    [("DELETE FROM maps", "maps of model 'm0' .* are missing"), ("UPDATE maps SET first_image = 1", "have a gap at")],
)
def test_maps_of_a_model_are_never_fewer_than_its_images(tmp_path: Path, change: str, message: str) -> None:
    """After a gap, each map would be taken for that of another image."""
    space = changed(tmp_path, f"{change} WHERE model_id = 1 AND space_id = '{small_spaces.MAPS.space_id}'")
    reads: tuple[Callable[[], object], ...] = (
        lambda: space.maps("m0"),
        lambda: space.export(tmp_path / "out", "maps", space="saliency"),
    )
    for read in reads:
        with pytest.raises(DamagedError, match=message):
            read()


def test_a_probe_set_that_is_missing_is_said(tmp_path: Path) -> None:
    space = changed(tmp_path, "DELETE FROM probe_sets")
    reads: tuple[Callable[[], object], ...] = (space.spaces, lambda: space.add("zoo:curvature"))
    for read in reads:
        with pytest.raises(DamagedError, match="lacks the probe set 'probes' of one of its spaces"):
            read()


def test_a_projection_that_no_command_stored_is_said(tmp_path: Path) -> None:
    place = f"'{small_spaces.MAPS.space_id}'"
    space = changed(tmp_path, f"INSERT INTO projections VALUES ({place}, '{{}}', 0, now()::TIMESTAMP)")
    points = {
        "9, 1, 1": "points of models that are not in it",
        "1, 1, 1": "two points of one model",
        "2, 'nan', 1": "points that can't be drawn",
        "2, 1, 1e300": "points that can't be drawn",
    }
    for point, message in points.items():
        with duckdb.connect(space.path) as duck:
            duck.execute(
                f"DELETE FROM projection_points; INSERT INTO projection_points VALUES ({place}, 1, 0, 0, false)"
            )
            duck.execute(f"INSERT INTO projection_points VALUES ({place}, {point}, false)")
        with pytest.raises(DamagedError, match=message):
            layout(space.path)


@pytest.mark.parametrize("change", ["position = -position", "position = 0", "affinities = affinities || [0.5, 0.5]"])
def test_positions_that_no_command_stored_are_said(tmp_path: Path, change: str) -> None:
    """A negative one would be counted from the end."""
    space = changed(tmp_path, f"UPDATE embeddings SET {change}")
    with pytest.raises(DamagedError, match=r"the position of model 'm[012]' in the space 'saliency' is not"):
        space.affinity()
    assert any("the position of model" in check.detail for check in space.verify() if not check.ok)


def test_a_model_that_is_stored_twice_is_said(tmp_path: Path) -> None:
    space = changed(tmp_path, "INSERT INTO models FROM models WHERE model_id = 2")
    with pytest.raises(DamagedError, match="model 2 is stored twice"):
        space.list()
    assert not all(check.ok for check in space.verify())


def test_an_embedded_model_that_is_missing_is_said(tmp_path: Path) -> None:
    space = changed(tmp_path, "DELETE FROM models WHERE model_id = 3")
    with pytest.raises(DamagedError, match="a space holds model 3, which the registry lacks"):
        space.nearest("m0", k=2)


def test_a_kernel_that_is_missing_is_said(tmp_path: Path) -> None:
    space = changed(tmp_path, "DELETE FROM maps WHERE model_id = 1")
    with pytest.raises(DamagedError, match="of model 'm0' in space 'dds' are missing"):
        space.kernels("m0", space="dds")
