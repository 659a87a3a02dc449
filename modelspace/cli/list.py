"""The command ``modelspace list``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.cards import input_text, size_text
from modelspace.cli.formats import Format, plain, print_records, print_selected
from modelspace.cli.messages import note, say, suggest
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError
from modelspace.names import did_you_mean

EXAMPLES = """
modelspace list
modelspace list --where "parameters < 1e6 AND task = 'curvature'"
modelspace list --sort parameters --reverse --limit 10 --columns name,parameters,uri
modelspace list --format csv > models.csv
"""


def command(
    where: options.Where = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", metavar="COLUMN", show_default=False, help="Sort by a column or tag. Default: as they were added."
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the last to the first.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", show_default=False, help="Print the first N models.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="A,B,...",
            show_default=False,
            help="Print these columns, or tags, in any format. Default: of a table those that fit, else all.",
        ),
    ] = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List the registered models.

    Columns are called as in --format json and csv; those of SQL are in 'modelspace sql "DESCRIBE models"'.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}", "example: --limit 10")
    space = open_space(home)
    models = space.list(where)
    if waiting := space.waiting():
        names = ", ".join(waiting)
        note([f"finished passes wait to be stored: {names}; `space.resume()` stores them"], quiet=quiet)
    known = [*models.columns, *sorted({key for row in models for key in row.tags} - set(models.columns))]
    chosen = [_known(name.strip(), known) for name in columns.split(",")] if columns is not None else None
    rows = _ordered(models, _known(sort, known) if sort is not None else None, reverse)[:limit]
    if format is not Format.table:
        if chosen is None:
            print_records(type(models)(rows, type(models[0])) if rows else models, format)
        else:
            print_selected(chosen, [[value(row, name) for name in chosen] for row in rows], format)
        return
    if not rows:
        say("no model matches the condition" if where else "no model is registered yet", quiet=quiet)
        if not where:
            suggest("modelspace add URI", quiet=quiet)
        return
    from modelspace.cli.tables import print_table

    table = _columns()
    print_table(table if chosen is None else [_shown(name, table) for name in chosen], rows)


def value(row: Any, name: str) -> Any:
    """A field of a model, or else its tag of that name; None if it has neither."""
    return getattr(row, name) if hasattr(row, name) else row.tags.get(name)


def _known(name: str, known: list[str]) -> str:
    if name not in known:
        raise UsageError(
            f"models have no column or tag {name!r}", did_you_mean(name, known, f"they have {', '.join(known)}")
        )
    return name


def _ordered(models: Any, sort: str | None, reverse: bool) -> list[Any]:
    """The models sorted by a column, unknown values last in either direction; equal ones as they were added."""
    rows = list(models)
    if sort is None:
        return rows[::-1] if reverse else rows
    empty = [row for row in rows if value(row, sort) in (None, "")]
    stated = [row for row in rows if value(row, sort) not in (None, "")]
    return [*sorted(stated, key=lambda row: _key(value(row, sort)), reverse=reverse), *empty]


def _key(content: Any) -> Any:
    return content if isinstance(content, int | float | str) else str(plain(content))


def _columns() -> list[Any]:
    from modelspace.cli.tables import Column

    return [
        Column("name", lambda row: row.name, least=24, fold=True, style="bold"),
        Column("task", lambda row: row.task or "", rank=2, least=10, optional=True),
        Column("parameters", lambda row: figures.count(row.parameters), right=True, rank=3),
        Column("uri", lambda row: row.uri, rank=1, least=20, fold=True),
        Column("layer", lambda row: row.layer, rank=5, least=12),
        Column("input", lambda row: size_text(row.preprocessing), rank=7),
        Column("outcomes", lambda row: str(row.outcomes or ""), right=True, rank=6, optional=True),
        Column("data", lambda row: row.data or "", rank=8, least=8, optional=True),
        Column("architecture", lambda row: row.architecture, rank=4, least=12),
        Column("spaces", lambda row: ",".join(row.spaces), rank=10, least=10),
        Column("seconds", lambda row: f"{row.seconds:.1f}", right=True, rank=9),
        Column("added_at", lambda row: row.added_at, rank=11),
        Column("weights_sha256", lambda row: row.weights_sha256, rank=13, least=13),
        Column("preprocessing", lambda row: input_text(row.preprocessing), rank=12, least=24),
    ]


def _shown(name: str, table: list[Any]) -> Any:
    """A column that was asked for: it is never left out or cut off."""
    from dataclasses import replace

    from modelspace.cli.tables import Column

    known = next((column for column in table if column.header == name), None)
    if known is None:
        known = Column(name, lambda row: _text(value(row, name)))
    return replace(known, rank=0, least=12, fold=True, optional=False)


def _text(content: Any) -> str:
    shown = plain(content)
    if isinstance(shown, list):
        return ",".join(map(str, shown))
    if isinstance(shown, dict):
        return ", ".join(f"{key}={each}" for key, each in shown.items())
    return "" if shown is None else str(shown)
