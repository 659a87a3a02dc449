"""The command ``modelspace sql``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli import options
from modelspace.cli.formats import Format, print_csv, print_json
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.cli.screen import is_terminal
from modelspace.errors import UsageError

EXAMPLES = """
modelspace sql "SELECT name, task, parameters FROM models ORDER BY parameters"
modelspace sql "SELECT task, count(*) AS n FROM models GROUP BY task" --format json
modelspace sql --file report.sql --format csv > report.csv
echo "SELECT count(*) FROM models" | modelspace sql
"""


def command(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL", show_default=False, help="The query. Default, or '-': read it from standard input."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", show_default=False, help="Read the query from a file."),
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option("--timeout", metavar="SECONDS", show_default=False, help="Time limit. Default: 30."),
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(
            "--max-rows",
            min=0,
            metavar="N",
            show_default=False,
            help="Print at most this number of rows. Default: all.",
        ),
    ] = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Query the registry in SQL (DuckDB). The connection is read-only and has access to the registry only."""
    text = _query(query, file)
    # Fetch one more than is printed, to know whether there are more.
    limit = None if max_rows is None else max_rows + 1
    table = open_space(home).sql(text, **options.given(timeout_s=timeout, max_rows=limit))
    columns, rows = _distinct(table.columns), [list(row) for row in table.rows[:max_rows]]
    if format is Format.json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif format is Format.csv:
        print_csv(columns, rows)
    else:
        _print(columns, rows)
        say(f"{len(rows)} row{'' if len(rows) == 1 else 's'}", quiet=quiet)
    if len(table.rows) > len(rows):
        say("note: there are more rows; without --max-rows all are printed", quiet=quiet)


def _query(query: str | None, file: str | None) -> str:
    if query not in (None, "-") and file is not None:
        raise UsageError("there are two queries: one on the command line and one in a file", "give only one of them")
    if file not in (None, "-"):
        return Path(str(file)).read_text("utf-8")
    if query not in (None, "-"):
        return str(query)
    if query is None and file is None and is_terminal(sys.stdin):
        raise UsageError("there is no query", 'example: modelspace sql "SELECT name FROM models"')
    return sys.stdin.read()


def _distinct(columns: list[str]) -> list[str]:
    """The column names, with a number after repeated ones, since the keys of a JSON object are unique.

    >>> _distinct(["a", "b", "a"])
    ['a', 'b', 'a_2']
    """
    out: list[str] = []
    for name in columns:
        candidate, n = name, 1
        while candidate in out:
            n += 1
            candidate = f"{name}_{n}"
        out.append(candidate)
    return out


def _print(columns: list[str], rows: list[list[Any]]) -> None:
    from modelspace.cli.tables import Column, print_table

    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in rows)
        for i in range(len(columns))
    ]
    shown = [
        Column(name, partial(_cell, i), right=numeric[i], rank=i, least=min(12, max(len(name), 4)))
        for i, name in enumerate(columns)
    ]
    print_table(shown, rows, complete=True)  # the query says which columns are wanted


def _cell(position: int, row: list[Any]) -> str:
    value = row[position]
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
