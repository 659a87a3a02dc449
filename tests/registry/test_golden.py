"""The schema promise: registries that earlier versions wrote are read, migrated by writing, and answer as they did.

The files are written by `scripts/make_golden.py`; those of released versions never again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

import modelspace
from modelspace.registry import Registry, schema
from modelspace.workspace import ModelSpace

GOLDEN = Path(__file__).parent / "golden"

#: File -> number of its last migration.
SCHEMAS = {"schema-2.duckdb": 2, "schema-6.duckdb": 6, "schema-7.duckdb": 7, "0.1.0.duckdb": 8}

NAMES = ["curvature", "denoise", "edge2d", "edge3d", "reshade"]
TAGS = {"group": "2D", "paper": 'it\'s "quoted", ünïcode'}

#: Affinities of the other models to edge2d, by space, nearest first.
NEAREST = {
    "gradient_x_input": {
        "curvature": 0.771326360378,
        "denoise": 0.754990486713,
        "edge3d": 0.659461562921,
        "reshade": 0.557597195537,
    },
    "dds": {
        "denoise": 0.591261162534,
        "curvature": 0.563010161366,
        "edge3d": 0.526861439638,
        "reshade": 0.457862630644,
    },
    "transfer": {
        "denoise": 0.632193493579,
        "curvature": 0.615089211119,
        "edge3d": 0.560011470459,
        "reshade": 0.482796271867,
    },
    "stored": {
        "denoise": 0.177734042149,
        "curvature": -0.063188832854,
        "edge3d": -0.093584584307,
    },
}


@pytest.fixture(params=SCHEMAS)
def space(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSpace:
    shutil.copyfile(GOLDEN / request.param, tmp_path / "registry.duckdb")
    return ModelSpace.open(tmp_path)


def schema_of(path: Path) -> int:
    with Registry.open(path) as registry:
        return registry.schema_number


def check_answers(space: ModelSpace) -> None:
    assert [info.name for info in space.list()] == NAMES
    assert {info.uri for info in space.list()} == {f"zoo:{name}" for name in NAMES}
    assert all(dict(info.tags) == TAGS for info in space.list())
    assert sorted(info.name for info in space.spaces()) == sorted(NEAREST)
    for name, affinities in NEAREST.items():
        ranking = space.nearest("edge2d", k=10, space=name)
        assert {row.name: row.affinity for row in ranking} == pytest.approx(affinities, abs=1e-9)
        assert [row.name for row in ranking] == list(affinities)
    assert len(space.sql("SELECT * FROM probe_images").rows) == 2
    failed = [check for check in space.verify() if not check.ok]
    assert not failed


@pytest.mark.first(1)
def test_it_is_read_as_it_is(space: ModelSpace) -> None:
    content, number = space.path.read_bytes(), schema_of(space.path)
    check_answers(space)
    assert space.path.read_bytes() == content
    assert schema_of(space.path) == number


@pytest.mark.first(1)
def test_it_is_migrated_by_writing(space: ModelSpace) -> None:
    before = schema_of(space.path)
    space.tag("edge2d", {"seen": "yes"})
    space.tag("edge2d", {"seen": None})
    assert schema_of(space.path) == len(schema.known())
    check_answers(space)
    space.rename("reshade", "later")
    assert [row.name for row in space.nearest("edge2d", k=10)][-1] == "later"
    space.remove("later")
    space.add_task("newer")
    space.observe("newer", "denoise", 0.75)
    expected = {"newer": 1} if before < schema.TASKS else {"flowers": 3, "birds": 3, "newer": 1}
    assert {task: len(space.outcomes(task)) for task in expected} == expected
    assert {info.name for info in space.tasks()} == set(expected)
    assert all(check.ok for check in space.verify(deep=True))


def test_every_version_has_a_golden_file_of_its_schema() -> None:
    """If this fails, run scripts/make_golden.py; a released version's file stays, and the new version gets its own."""
    current = GOLDEN / f"{modelspace.__version__}.duckdb"
    assert current.is_file()
    assert schema_of(current) == len(schema.known())
    versions = {migration.since for migration in schema.known()}
    assert {version for version in versions if not (GOLDEN / f"{version}.duckdb").is_file()} == set()
    assert {file.name: schema_of(file) for file in GOLDEN.iterdir()} == SCHEMAS
    assert all(file.stat().st_size < 300_000 for file in GOLDEN.iterdir())


def test_every_table_of_the_current_file_has_rows() -> None:
    with Registry.open(GOLDEN / f"{modelspace.__version__}.duckdb") as registry:
        empty = [table for table in schema.COLUMNS if not registry.rows(f"SELECT 1 FROM main.{table} LIMIT 1")]
        filled = registry.rows(
            "SELECT count(*) FROM models WHERE code_sha256 <> '' AND options <> '{}' AND torch <> ''"
        )
    assert empty == []
    assert filled == [(len(NAMES),)]


def test_a_migration_says_the_version_that_has_it() -> None:
    for migration in schema.known():
        assert schema.version_of(f"{migration.since}_x"), f"{migration.number}: name the file 0008_1.2.3_name.sql"
        since, current = (tuple(map(int, text.split("."))) for text in (migration.since, modelspace.__version__))
        assert since <= current


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("12.3.4_licence", "modelspace>=12.3.4"),
        ("licence", f"modelspace>{modelspace.__version__}"),
        ("1.2.3;rm -rf_x", f"modelspace>{modelspace.__version__}"),
    ],
)
def test_a_newer_registry_names_the_version_to_install(tmp_path: Path, name: str, hint: str) -> None:
    path = Path(shutil.copy(GOLDEN / "0.1.0.duckdb", tmp_path / "registry.duckdb"))
    with duckdb.connect(path) as duck:
        duck.execute("INSERT INTO migrations SELECT 9, ?, 'x', max(applied_at) FROM migrations", [name])
    for write in (False, True):
        with pytest.raises(modelspace.ModelspaceError, match=r"has schema 9, .* knows schemas up to 8") as caught:
            Registry.open(path, write=write)
        assert caught.value.hint == f"pip install --upgrade '{hint}'"
