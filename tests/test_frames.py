"""Results become tables of pandas, Arrow and Polars without losing types, and HTML in which nothing is a tag."""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from typing import Any

import numpy as np
import pytest
from cli_support import card, model, neighbour

from modelspace import frames
from modelspace.errors import ModelspaceError
from modelspace.registry.sql import Table
from modelspace.results import Added, AffinityMatrix, ModelInfo, Neighbour, Records
from modelspace.types import SpaceSpec

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
EVIL = "<img src=x onerror=alert(1)>&\"'"

#: A row of every kind of value that DuckDB gives, and one of missing values.
VALUES: dict[str, Any] = {
    "int": 3,
    "huge": 2**100,
    "float": 0.5,
    "text": EVIL,
    "truth": True,
    "time": NOW,
    "day": NOW.date(),
    "blob": b"ab",
    "numbers": [1.0, 2.0],
    "map": {"a": "b"},
    "maps": [{"a": 1}],
    "decimal": decimal.Decimal("1.50"),
    "uuid": uuid.UUID(int=7),
    "pair": (1, 2),
}
TABLE = Table([*VALUES, "int"], ["?"] * 15, [(*VALUES.values(), 4), (None,) * 15])
MODELS = Records([model("a", tags={}), model("b", tags={"licence": "mit", "x": "y"})], ModelInfo)
MATRIX = AffinityMatrix(("a", EVIL), np.eye(2), SpaceSpec("s", "p", "dds", 3, 0, 8))


def library_of(method: str) -> str:
    """The library that a method needs; the test is skipped without it."""
    if method == "to_arrow":
        return str(pytest.importorskip("pyarrow").__name__)
    return str(pytest.importorskip("polars").__name__)


def read_back(table: Any, library: str) -> dict[str, list[Any]]:
    if library == "polars":
        return dict(table.to_dict(as_series=False))
    return dict(table.to_pydict())


@pytest.mark.parametrize("method", ["to_arrow", "to_polars"])
def test_types_are_kept_and_what_has_none_becomes_text(method: str) -> None:
    library = library_of(method)
    columns = read_back(getattr(TABLE, method)(), library)
    assert list(columns) == [*VALUES, "int_1"]
    for name in ("int", "float", "text", "truth", "time", "day", "blob", "numbers"):
        assert columns[name] == [VALUES[name], None], name
    assert columns["pair"] == [[1, 2], None]
    assert columns["map"] == ['{"a": "b"}', None]
    assert columns["maps"] == ['[{"a": 1}]', None]
    assert str(columns["huge"][0]) == str(2**100)
    assert str(columns["decimal"][0]).strip('"') == "1.50"
    assert "00000007" in columns["uuid"][0]


@pytest.mark.parametrize("method", ["to_arrow", "to_polars"])
def test_the_type_of_a_column_does_not_depend_on_the_keys_in_it(method: str) -> None:
    library = library_of(method)
    columns = read_back(getattr(MODELS, method)(), library)
    assert list(columns) == MODELS.columns
    assert columns["tags"] == ["{}", '{"licence": "mit", "x": "y"}']
    assert columns["output_shape"] == [[8, 16, 16]] * 2
    assert columns["parameters"] == [1_234_567] * 2
    empty = getattr(Records([], ModelInfo), method)()
    assert read_back(empty, library) == {name: [] for name in MODELS.columns}
    assert read_back(getattr(MATRIX, method)(), library)["affinity"] == [0.0, 0.0]


def test_pandas_has_the_columns_and_rows() -> None:
    pytest.importorskip("pandas")
    frame = TABLE.to_pandas()
    assert list(frame.columns) == [*VALUES, "int_1"]
    assert frame["int_1"][0] == 4
    assert frame["text"][0] == EVIL
    assert list(MODELS.to_pandas()["name"]) == ["a", "b"]
    assert list(MATRIX.to_pandas().columns) == ["a", EVIL]


@pytest.mark.parametrize(
    ("library", "method", "extra"),
    [("pandas", "to_pandas", "pandas"), ("pyarrow", "to_arrow", "arrow"), ("polars", "to_polars", "polars")],
)
def test_a_missing_library_is_named_with_its_extra(
    library: str, method: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for result in (TABLE, MODELS, MATRIX):
        with pytest.raises(ModelspaceError, match=f"^{library} is not installed") as caught:
            getattr(result, method)()
        assert caught.value.hint == f"pip install 'modelspace-db[{extra}]', or use .to_dicts()"


def test_rows_and_dictionaries_agree() -> None:
    assert TABLE.to_dicts()[0] == {**VALUES, "int_1": 4}
    assert list(TABLE) == TABLE.rows
    assert len(TABLE) == 2
    assert MODELS.to_rows()[0][MODELS.columns.index("name")] == "a"


def test_notebooks_show_texts_of_others_as_texts() -> None:
    results = [
        TABLE,
        Records([model(EVIL, task=EVIL, tags={EVIL: EVIL})], ModelInfo),
        Records([neighbour(1, EVIL, 0.5)], Neighbour),
        Table([EVIL], ["VARCHAR"], [(EVIL,)]),
        MATRIX,
        model(EVIL, tags={EVIL: EVIL}),
    ]
    for result in results:
        page = result._repr_html_()
        assert "<img" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert EVIL not in page


def test_a_single_record_is_a_table_of_its_fields() -> None:
    page = model("a", task=None)._repr_html_()
    assert "<tr><th>name</th><td>a</td></tr>" in page
    assert "<th>task</th>" not in page, "empty fields are left out"
    added = Added("a", "added", ("s",), card("a"), ())._repr_html_()
    assert "<th>layer</th><td>fc:in</td>" in added
    assert added.count("<th>name</th>") == 1


def test_long_tables_are_cut_and_say_so() -> None:
    page = Table(["n"], ["INTEGER"], [(k,) for k in range(frames.SHOWN + 7)])._repr_html_()
    assert page.count("<tr>") == frames.SHOWN + 1
    assert page.endswith("<p>... 7 more rows</p>")
