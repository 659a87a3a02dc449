"""User SQL reads the registry, and has no access to anything else."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest
import shelf

from modelspace.errors import DamagedError, ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry, sandbox
from modelspace.registry import sql as sql_module
from modelspace.registry.sql import query

SECRET = "a-secret-line"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "registry.duckdb"
    shelf.filled(path, 4)
    (path.parent / "secret.csv").write_text(SECRET + "\n")
    return path


def test_columns_types_and_rows(path: Path) -> None:
    table = query(path, "SELECT name, model_id, tags FROM models ORDER BY model_id LIMIT 2")
    assert table.columns == ["name", "model_id", "tags"]
    assert table.types == ["VARCHAR", "BIGINT", "MAP(VARCHAR, VARCHAR)"]
    assert table.rows == [("m0", 1, {}), ("m1", 2, {})]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM nearest('m0', 2)",
        "SELECT affinity('m0', 'm1')",
        "WITH x AS (FROM catalog) SELECT name FROM x;",
        "VALUES (1), (2)",
        "DESCRIBE models",
        "SHOW TABLES",
        "SUMMARIZE models",
        "EXPLAIN SELECT 1",
        pytest.param(
            "PIVOT models ON task USING count(*) GROUP BY layer",
            marks=pytest.mark.skipif(duckdb.__version__ < "1.5", reason="1.4 makes a type for it, which is refused"),
        ),
        "TABLE spaces",
        "-- a comment\nSELECT 1",
    ],
)
def test_every_kind_of_query_returns_rows(path: Path, sql: str) -> None:
    assert query(path, sql).rows


def test_the_last_of_several_statements_gives_the_result(path: Path) -> None:
    assert query(path, "SELECT 1; SELECT name FROM models LIMIT 1;").rows == [("m0",)]


@pytest.mark.parametrize("text", ["SELECT '\udcff'", "\ud800"])
def test_half_a_character_is_refused_in_a_sentence(path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="half of a character at position"):
        query(path, text)


def test_the_number_of_rows_can_be_limited(path: Path) -> None:
    assert len(query(path, "FROM range(100000)").rows) == 100000
    assert query(path, "FROM range(100000)", max_rows=3).rows == [(0,), (1,), (2,)]
    assert query(path, "SELECT name FROM models WHERE false", max_rows=3).columns == ["name"]


ATTACKS = [
    "COPY models TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "COPY models FROM '{folder}/secret.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH registry",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/secret.csv'",
    "FROM read_csv('{folder}/secret.csv')",
    "FROM read_text('{folder}/secret.csv')",
    "FROM read_blob('{folder}/secret.csv')",
    "FROM read_json('{folder}/secret.csv')",
    "FROM read_parquet('{folder}/secret.csv')",
    "FROM sniff_csv('{folder}/secret.csv')",
    "FROM '{folder}/secret.csv'",
    "FROM query_table('{folder}/secret.csv')",
    "FROM query('FROM ''{folder}/secret.csv''')",
    "FROM glob('{folder}/*')",
    "FROM read_csv('/etc/passwd')",
    "SELECT getenv('HOME')",
    "SET memory_limit = '100GB'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET VARIABLE x = 1",
    "RESET memory_limit",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{folder}/out.json'",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "CREATE TABLE mine (a INTEGER)",
    "CREATE TEMP TABLE mine (a INTEGER)",
    "CREATE MACRO mine() AS 1",
    "CREATE OR REPLACE MACRO affinity(a, b) AS 1",
    "CREATE SECRET (TYPE s3)",
    "INSERT INTO models (name) VALUES ('mine')",
    "UPDATE models SET name = 'mine'",
    "DELETE FROM models",
    "WITH x AS (DELETE FROM models RETURNING name) FROM x",
    "WITH x AS (INSERT INTO meta VALUES (uuid(), now()::TIMESTAMP) RETURNING *) FROM x",
    "DROP TABLE models",
    "ALTER TABLE models RENAME TO mine",
    "TRUNCATE models",
    "COMMENT ON TABLE models IS 'mine'",
    "SELECT nextval('model_ids')",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE x AS SELECT 1",
    "USE memory",
    "SELECT 1; DROP TABLE models",
    "SELECT 1; SET memory_limit = '100GB'; SELECT 2",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_can_be_changed_and_no_file_reached(path: Path, attack: str) -> None:
    before = sorted(path.parent.iterdir())
    content = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        query(path, attack.format(folder=path.parent))
    assert SECRET not in str(caught.value)
    assert "\n" not in caught.value.message
    assert sorted(path.parent.iterdir()) == before
    assert path.read_bytes() == content


@pytest.mark.wide
@pytest.mark.parametrize("write", [False, True])
def test_a_condition_is_sandboxed_too(path: Path, write: bool) -> None:
    """`where` is put in parentheses, which it can close, on a registry that is open for reading or writing."""
    leaks: list[object] = []
    with Registry.open(path, write=write) as registry:
        for attack in ATTACKS:
            for form in ("{}", "true); {}; SELECT (1", "model_id IN ({})", "true) UNION ALL ({}"):
                where = form.format(attack.format(folder=path.parent))
                try:
                    rows = registry.models(where)
                except UsageError as error:
                    leaks += [where] if SECRET in str(error) else []
                else:
                    leaks.append((where, rows))
            assert [row.card.name for row in registry.models()] == ["m0", "m1", "m2", "m3"], attack
        assert registry.check() == []
        assert registry.rows("SELECT nextval('model_ids')" if write else "SELECT 5") == [(5,)]
    assert leaks == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["registry.duckdb", "secret.csv"]


def test_a_condition_selects_models(path: Path) -> None:
    for write in (False, True):
        with Registry.open(path, write=write) as registry:

            def names(where: str, registry: Registry = registry) -> list[str]:
                return [row.card.name for row in registry.models(where)]

            assert names("name IN ('m1', 'm3')") == ["m1", "m3"]
            assert names("task = 'task of m2' -- the last word") == ["m2"]
            assert names("affinity(name, 'm0') > 0.999") == ["m0"]
            assert names("false") == []
            with pytest.raises(UsageError, match=r'`where=.*"?nme"? not found'):
                names("nme = 'm1'")
            with pytest.raises(UsageError, match=r"[Ss]yntax error"):
                names("name = = 'm1'")
            with pytest.raises(UsageError, match="more than one statement"):
                names("true); SELECT 1; SELECT (1")
            with pytest.raises(UsageError):
                names("")


def test_python_variables_are_not_tables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    hidden = pandas.DataFrame({"a": [1, 2, 3]})
    monkeypatch.setattr(sql_module, "hidden", hidden, raising=False)
    with pytest.raises(UsageError, match="hidden does not exist"):
        query(path, "FROM hidden")


def test_a_query_that_takes_too_long_is_interrupted(path: Path) -> None:
    start = time.monotonic()
    for sql in (
        "FROM range(1000000000000) t(i) WHERE i * i = 7",
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b",
    ):
        with pytest.raises(UsageError, match=r"interrupted after 0.2 s"):
            query(path, sql, timeout_s=0.2)
    assert time.monotonic() - start < 10
    assert query(path, "SELECT 1").rows == [(1,)]


def test_an_endless_result_is_interrupted(path: Path) -> None:
    with pytest.raises(UsageError, match="interrupted"):
        query(path, "FROM range(1000000000000)", timeout_s=0.3)


def test_memory_is_bounded_and_nothing_is_spilled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 50_000_000)
    with pytest.raises(ModelspaceError, match="of memory"):
        query(path, "SELECT list(range) FROM range(1000000000)")
    assert sorted(file.name for file in path.parent.iterdir()) == ["registry.duckdb", "secret.csv"]


def test_errors_are_duckdbs_first_line(path: Path) -> None:
    with pytest.raises(UsageError, match="Catalog Error: Table with name modls does not exist!") as caught:
        query(path, "FROM modls")
    assert "\n" not in caught.value.message
    with pytest.raises(UsageError, match="Parser Error"):
        query(path, "SELEC 1")
    with pytest.raises(UsageError, match="no model 'nobody'"):
        query(path, "FROM nearest('nobody')")
    for empty in ("", " ; ", "-- nothing"):
        with pytest.raises(UsageError, match="no SQL statement"):
            query(path, empty)


def test_missing_damaged_and_busy_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        query(tmp_path / "none.duckdb", "SELECT 1")
    (tmp_path / "bad.duckdb").write_bytes(b"bad" * 9999)
    with pytest.raises(DamagedError):
        query(tmp_path / "bad.duckdb", "SELECT 1")
    with Registry.open(path) as registry:
        assert query(path, "SELECT count(*) FROM models").rows == [(4,)]
        assert len(registry.models()) == 4
