"""`affinity` and `nearest` in plain SQL, against a slow version in numpy from the definition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
import shelf

from modelspace.registry import EmbeddingRow, Registry

N = 9
NAMES = [f"m{i}" for i in range(N)]


class Shell:
    """The file in plain DuckDB, as in the `duckdb` shell, without any of our Python."""

    def __init__(self, path: Path) -> None:
        self.duck = duckdb.connect(str(path), read_only=True)

    def __call__(self, sql: str) -> list[tuple]:
        return self.duck.execute(sql).fetchall()


@pytest.fixture(scope="module", params=["gram", "vectors", "both"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A registry whose affinities come from stored Gram rows, from vectors of different lengths, or from both.

    Yields (shell, affinities (N, N) float64).
    """
    path = tmp_path_factory.mktemp(request.param) / "registry.duckdb"
    shelf.make(path, shelf.GI, shelf.SALIENCY)
    vectors = shelf.units(N)
    n_stored = {"gram": N, "vectors": 0, "both": N // 2}[request.param]
    with Registry.open(path, write=True) as registry:
        for name, row in zip(NAMES, shelf.rows(vectors), strict=True):
            with registry.transaction():
                model_id = registry.add_model(shelf.card(name))
                cut = EmbeddingRow(
                    model_id, row.position, row.vector, row.affinities[:n_stored], row.axis, row.residual
                )
                registry.add_embedding(shelf.GI.space_id, cut, shelf.blocks(name))
        with registry.transaction():
            model_id = registry.add_model(shelf.card("elsewhere", task=None))
            row = shelf.rows(vectors)[0]
            other = EmbeddingRow(model_id, 0, row.vector, row.affinities, row.axis, row.residual)
            registry.add_embedding(shelf.SALIENCY.space_id, other, shelf.blocks("elsewhere"))
    shell = Shell(path)
    yield shell, vectors @ vectors.T
    shell.duck.close()


def expected_nearest(gram: np.ndarray, i: int, k: int) -> list[tuple]:
    order = sorted((j for j in range(N) if j != i), key=lambda j: -gram[i, j])[:k]
    return [
        (rank, NAMES[j], gram[i, j], np.sqrt(2 - 2 * gram[i, j]), f"task of {NAMES[j]}")
        for rank, j in enumerate(order, start=1)
    ]


def close(rows: list[tuple], expected: list[tuple]) -> bool:
    return len(rows) == len(expected) and all(
        a == pytest.approx(b, abs=1e-12) if isinstance(b, float) else a == b
        for actual, reference in zip(rows, expected, strict=True)
        for a, b in zip(actual, reference, strict=True)
    )


@pytest.mark.first(1)
def test_affinity_is_the_inner_product(case) -> None:  # type: ignore[no-untyped-def]
    sql, gram = case
    for i, a in enumerate(NAMES):
        for j, b in enumerate(NAMES):
            assert sql(f"SELECT affinity('{a}', '{b}')")[0][0] == pytest.approx(gram[i, j], abs=1e-12)
    rows = sql(
        "SELECT affinity(a.name, b.name) FROM models a, models b WHERE a.name <> 'elsewhere' AND b.name <> 'elsewhere'"
        " ORDER BY a.name, b.name"
    )
    np.testing.assert_allclose(np.array(rows).reshape(N, N), gram, atol=1e-12)


@pytest.mark.first(1)
def test_nearest_ranks_by_affinity(case) -> None:  # type: ignore[no-untyped-def]
    sql, gram = case
    for i, name in enumerate(NAMES):
        for k in (1, 3, N, 100):
            assert close(sql(f"FROM nearest('{name}', {k})"), expected_nearest(gram, i, k))
    assert close(sql("FROM nearest('m3')"), expected_nearest(gram, 3, 10))
    assert close(sql("FROM nearest(name := 'm3', k := 2)"), expected_nearest(gram, 3, 2))
    assert sql("FROM nearest('m3', 0)") == []
    columns = [row[0] for row in sql("DESCRIBE FROM nearest('m3', 2)")]
    assert columns == ["rank", "name", "affinity", "distance", "task"]


def test_nearest_reads_the_rows_of_the_best_models_alone(case) -> None:  # type: ignore[no-untyped-def]
    """A join of `models` with all vectors took two thirds of the time."""
    sql, _ = case

    def nodes(node: dict, above: tuple[str, ...] = ()) -> Iterator[tuple[dict, tuple[str, ...]]]:
        yield node, above
        for child in node["children"]:
            yield from nodes(child, (*above, node["name"]))

    (plan,) = json.loads(sql("EXPLAIN (FORMAT json) FROM nearest('m3', 2)")[0][1])
    scans = [(node["extra_info"], above) for node, above in nodes(plan) if "Table" in node["extra_info"]]
    labels = [above for info, above in scans if "models" in info["Table"] and "task" in info["Projections"]]
    vectors = [above for info, above in scans if "embeddings" in info["Table"] and "vector" in info["Projections"]]
    assert labels
    assert all("WINDOW" not in "".join(above).upper() for above in labels)
    assert any("WINDOW" in "".join(above).upper() for above in vectors)


def test_nearest_of_every_model_at_once(case) -> None:  # type: ignore[no-untyped-def]
    sql, gram = case
    rows = sql(
        "SELECT m.name, n.name FROM (FROM models WHERE name <> 'elsewhere') m, nearest(m.name, 1) n ORDER BY m.name"
    )
    assert rows == [(name, expected_nearest(gram, i, 1)[0][1]) for i, name in enumerate(NAMES)]


def test_pairs_are_all_pairs_of_the_default_space_once(case) -> None:  # type: ignore[no-untyped-def]
    sql, gram = case
    rows = sorted(sql("SELECT a, b, affinity, distance FROM pairs"))
    expected = [
        (NAMES[i], NAMES[j], gram[i, j], np.sqrt(2 - 2 * gram[i, j])) for i in range(N) for j in range(i + 1, N)
    ]
    assert close(rows, expected)


def test_other_spaces_by_name_and_by_id(case) -> None:  # type: ignore[no-untyped-def]
    sql, gram = case
    assert sql("FROM nearest_in('saliency', 'elsewhere', 3)") == []
    assert sql("SELECT affinity_in('saliency', 'elsewhere', 'elsewhere')") == [(1.0,)]
    for space in ("gi", shelf.GI.space_id):
        assert close(sql(f"FROM nearest_in('{space}', 'm0', 2)"), expected_nearest(gram, 0, 2))
        assert sql(f"SELECT affinity_in('{space}', 'm1', 'm2')")[0][0] == pytest.approx(gram[1, 2])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("FROM nearest('nobody', 3)", "no model 'nobody' in the space 'gi'"),
        ("SELECT count(*) FROM nearest('nobody', 3)", "no model 'nobody' in the space 'gi'"),
        ("SELECT 1 FROM nearest('nobody', 3) LIMIT 1", "no model 'nobody' in the space 'gi'"),
        ("FROM nearest('elsewhere', 3)", "no model 'elsewhere' in the space 'gi'"),
        ("FROM nearest(NULL, 3)", "no model NULL in the space 'gi'"),
        ("FROM nearest_in('nowhere', 'm0', 3)", "no space 'nowhere'"),
        ("SELECT affinity('m0', 'nobody')", "no model 'nobody' in the space 'gi'"),
        ("SELECT affinity('nobody', 'm0')", "no model 'nobody' in the space 'gi'"),
        ("SELECT count(*) FROM (SELECT affinity('m0', 'nobody') AS x) WHERE x > 0", "no model 'nobody'"),
        ("SELECT affinity('m0', 'elsewhere')", "no model 'elsewhere' in the space 'gi'"),
        ("SELECT affinity_in('nowhere', 'm0', 'm1')", "no space 'nowhere'"),
        ("SELECT affinity_in('saliency', 'm0', 'm1')", "no model 'm0' in the space 'saliency'"),
    ],
)
def test_unknown_names_are_errors_not_empty_results(case, query: str, message: str) -> None:  # type: ignore[no-untyped-def]
    sql, _ = case
    with pytest.raises(duckdb.Error, match=message):
        sql(query)


def test_null_gives_null(case) -> None:  # type: ignore[no-untyped-def]
    assert case[0]("SELECT affinity('m0', NULL), affinity(NULL, 'm0')") == [(None, None)]


@pytest.mark.wide
@pytest.mark.parametrize("case", ["both"], indirect=True)
def test_a_callers_names_are_not_captured_by_the_macros(case) -> None:  # type: ignore[no-untyped-def]
    """A macro is expanded in the query: any column or table name in it could capture an argument."""
    sql, gram = case
    columns = {
        name
        for (name,) in sql(
            "SELECT DISTINCT column_name FROM duckdb_columns() WHERE table_name IN ('models', 'embeddings', 'spaces')"
        )
    }
    columns |= {"a", "b", "k", "space", "m", "s", "e", "n", "p", "v", "g", "i", "o", "rank", "distance"}
    for column in sorted(columns):
        argument = f'"{column}"'
        rows = sql(f"SELECT affinity({argument}, 'm2') FROM (SELECT 'm1' AS {argument})")
        assert rows[0][0] == pytest.approx(gram[1, 2], abs=1e-12), column
        rows = sql(f"SELECT z.name FROM (SELECT 'm1' AS {argument}) {argument}, nearest({argument}.{argument}, 1) z")
        assert rows == [(expected_nearest(gram, 1, 1)[0][1],)], column
        rows = sql(
            f"SELECT zz.name FROM (SELECT 'm1' AS {argument}, 2 AS zz_k), nearest({argument}, zz_k) zz"
            " ORDER BY zz.rank LIMIT 1"
        )
        assert rows == [(expected_nearest(gram, 1, 1)[0][1],)], column
    for table in ("models", "embeddings", "spaces", "catalog", "pairs"):
        query = (
            f"WITH {table} AS (SELECT 'x' AS name)"
            f" SELECT affinity('m1', 'm2'), (SELECT count(*) FROM nearest('m1', 3)) FROM {table}"
        )
        assert close(sql(query), [(gram[1, 2], 3)]), table


def test_equal_affinities_are_in_order_of_registration(tmp_path: Path) -> None:
    path = tmp_path / "registry.duckdb"
    shelf.make(path)
    names = ["z", "y", "x", "a"]
    shelf.fill(path, names, np.eye(4))
    with Registry.open(path) as registry:
        assert registry.rows("SELECT name FROM nearest('y', 3)") == [("z",), ("x",), ("a",)]


def test_catalog_lists_every_model_with_its_spaces(case) -> None:  # type: ignore[no-untyped-def]
    sql, _ = case
    assert sql("SELECT name, spaces FROM catalog") == [*((name, ["gi"]) for name in NAMES), ("elsewhere", ["saliency"])]


def test_an_empty_registry_is_reported(tmp_path: Path) -> None:
    Registry.create(tmp_path / "registry.duckdb")
    sql = Shell(tmp_path / "registry.duckdb")
    for query in ("FROM nearest('a', 1)", "SELECT affinity('a', 'b')"):
        with pytest.raises(duckdb.Error, match="no space yet"):
            sql(query)
    assert sql("FROM pairs") == sql("FROM catalog") == []
    sql.duck.close()


def test_attached_to_another_database_after_use(tmp_path: Path) -> None:
    path = tmp_path / "registry.duckdb"
    vectors = shelf.filled(path, 3)
    duck = duckdb.connect()
    duck.execute(f"ATTACH '{path}' AS shelf (READ_ONLY); USE shelf")
    rows = duck.execute("SELECT affinity('m0', 'm1')").fetchall()
    duck.close()
    assert rows[0][0] == pytest.approx(vectors[0] @ vectors[1], abs=1e-12)
