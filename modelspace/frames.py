"""Results as tables of other libraries: pandas, Arrow, Polars, and the HTML that notebooks show."""

from __future__ import annotations

import html
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from modelspace.errors import ModelspaceError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

#: Rows of a table in a notebook.
SHOWN = 60

#: Library -> the extra that installs it.
_EXTRAS = {"pandas": "pandas", "pyarrow": "arrow", "polars": "polars"}

#: Types of values that Arrow and Polars take as they are.
_PLAIN = (bool, float, str, bytes, datetime, date, time, timedelta)


def library(name: str) -> Any:
    """One of the libraries of tables.

    Raises:
        ModelspaceError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelspaceError(
            f"{name} is not installed", f"pip install 'modelspace-db[{_EXTRAS[name]}]', or use .to_dicts()"
        ) from error


class Tabular(ABC):
    """Rows with named columns, which convert to tables of other libraries.

    In Arrow and Polars a column of numbers, texts, dates or lists of these keeps its type. Dictionaries become texts in
    JSON, so that the type of a column does not depend on the keys in it, and so do columns of several types.
    """

    if TYPE_CHECKING:  # a field in one subclass, a property in others

        @property
        def columns(self) -> list[str]:
            """Names of the columns."""

    @abstractmethod
    def to_rows(self) -> list[tuple[Any, ...]]:
        """One tuple of values per row, in the order of `columns`."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per row, keys in the order of the columns; see `distinct` for columns of the same name."""
        names = distinct(self.columns)
        return [dict(zip(names, row, strict=True)) for row in self.to_rows()]

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame.

        Raises:
            ModelspaceError: pandas is not installed.
        """
        names = distinct(self.columns)
        frame: pandas.DataFrame = library("pandas").DataFrame(self.to_rows(), columns=names)
        return frame

    def to_arrow(self) -> pyarrow.Table:
        """A table of Apache Arrow.

        Raises:
            ModelspaceError: pyarrow is not installed.
        """
        arrow = library("pyarrow")

        def array(values: list[Any]) -> Any:
            try:
                return arrow.array(values)
            except (arrow.ArrowException, OverflowError, TypeError, ValueError):
                return arrow.array(texts(values))

        return arrow.table({name: array(values) for name, values in self._columns().items()})

    def to_polars(self) -> polars.DataFrame:
        """A Polars DataFrame.

        Raises:
            ModelspaceError: Polars is not installed.
        """
        frames = library("polars")

        def series(name: str, values: list[Any]) -> Any:
            try:
                return frames.Series(name, values, strict=True)
            except (frames.exceptions.PolarsError, OverflowError, TypeError, ValueError):
                return frames.Series(name, texts(values), dtype=frames.String)

        frame: polars.DataFrame = frames.DataFrame([series(name, values) for name, values in self._columns().items()])
        return frame

    def _columns(self) -> dict[str, list[Any]]:
        """Column -> values that Arrow and Polars take."""
        rows = self.to_rows()
        names = distinct(self.columns)
        return {name: _plain([row[k] for row in rows]) for k, name in enumerate(names)}

    def _repr_html_(self) -> str:
        rows = self.to_rows()
        return table(self.columns, rows[:SHOWN], len(rows) - SHOWN)


def distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, of which SQL allows equal ones, made distinct by numbers.

    >>> distinct(["a", "b", "a", "a_1"])
    ['a', 'b', 'a_2', 'a_1']
    """
    taken, out = set(names), []
    seen: set[str] = set()
    for name in names:
        label, number = name, 0
        while label in seen or (number and label in taken):
            number += 1
            label = f"{name}_{number}"
        seen.add(label)
        out.append(label)
    return out


def _plain(values: list[Any]) -> list[Any]:
    """Values of one type, or all as texts."""
    shallow: list[Any] = [list(value) if isinstance(value, tuple | set | frozenset) else value for value in values]
    kinds = {_kind(value) for value in shallow} - {"none"}
    if kinds == {"int", "float"}:
        return [None if value is None else float(value) for value in values]
    return texts(values) if len(kinds) > 1 or "other" in kinds else shallow


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return "list" if not any(isinstance(item, Mapping) for item in value) else "other"
    if isinstance(value, int) and not isinstance(value, bool):
        return "int"
    return next((kind.__name__ for kind in _PLAIN if isinstance(value, kind)), "other")


def texts(values: Iterable[Any]) -> list[str | None]:
    """Values as texts: in JSON where they are no texts themselves.

    >>> texts([None, "a", {"b": (1, 2)}])
    [None, 'a', '{"b": [1, 2]}']
    """
    return [
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_as_json)
        for value in values
    ]


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, set | frozenset) else str(value)


# ---- HTML


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], left_out: int = 0) -> str:
    """A table in HTML, in which all texts are escaped.

    Args:
        columns: names of the columns.
        rows: the values.
        left_out: number of rows that are not shown; a line says so.
    """
    head = "".join(f"<th>{escaped(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escaped(value)}</td>" for value in row) + "</tr>" for row in rows)
    more = f"<p>... {left_out} more rows</p>" if left_out > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def record(values: Mapping[str, Any]) -> str:
    """One record in HTML: a line for each field that is not empty."""
    rows = "".join(
        f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>"
        for name, value in values.items()
        if value not in (None, "", (), {})
    )
    return f"<table><tbody>{rows}</tbody></table>"


def escaped(value: Any) -> str:
    """A value as text in HTML."""
    if value is None:
        return ""
    return html.escape(f"{value:.4f}" if isinstance(value, float) else str(value))
