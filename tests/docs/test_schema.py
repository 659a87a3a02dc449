"""docs/how-to/sql.md: its queries run. docs/reference/schema.md: it names every table, column, view and macro."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from modelspace.registry import Registry
from modelspace.registry.sql import query

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "schema.md").read_text("utf-8")
QUERIES = (DOCS / "how-to" / "sql.md").read_text("utf-8")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped registry: the queries name its models."""
    return Path(shutil.copy(DOCS.parent / "registry.duckdb", tmp_path_factory.mktemp("docs")))


def test_every_query_runs(path: Path) -> None:
    text = "\n".join(re.findall(r"```sql\n(.*?)```", QUERIES, re.DOTALL))
    queries = [part for part in re.sub(r"--.*", "", text).split(";") if part.strip()]
    assert len(queries) >= 10
    for sql in queries:
        table = query(path, sql)
        assert table.rows or "residual" in sql or "tags" in sql, sql


def test_every_table_and_column_is_described(path: Path) -> None:
    with Registry.open(path) as registry:
        columns = registry.rows("SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal")
        views = {name for (name,) in registry.rows("SELECT view_name FROM duckdb_views() WHERE NOT internal")}
        macros = registry.rows("SELECT function_name FROM duckdb_functions() WHERE NOT internal")
    sections = dict(re.findall(r"\n(\*\*\w+\*\*[^\n]*)\n\n(.*?)(?=\n\n)", PAGE, re.DOTALL))
    for table, column, kind in columns:
        if table in views:
            assert re.search(rf"\| `{table}` \|.*\b{column}\b", PAGE), (table, column)
        else:
            (described,) = [text for head, text in sections.items() if f"**{table}**" in head]
            assert f"| {column} | {kind} |" in described, (table, column)
    for (macro,) in macros:
        assert re.search(rf"\| `{macro}\(", PAGE), macro
