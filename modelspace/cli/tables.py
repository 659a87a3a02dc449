"""Tables and cards for people. Only a terminal needs rich, 30 ms to import; elsewhere lines are joined here.

In a terminal a table is fitted to the width: columns are truncated if allowed, then whole columns are dropped, least
important first, and a line below names them. Names are never truncated, but folded. In a pipe or file no cell is
truncated or folded and there is no colour; whole columns are dropped if a line would be longer than `PIPE_WIDTH`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modelspace.cli import pager
from modelspace.cli.screen import has_unicode, is_terminal, printable, wants_colour

_GAP = 2

#: Characters beyond the Latin ones that take one cell: the mark of a tie, dashes, quotation marks, dots.
_NARROW = frozenset("≈–—‘’“”…−×±")

#: Longest line of a table in a pipe or file, in characters, where columns may be dropped.
PIPE_WIDTH = 120


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        header: title of the column.
        text: function from a record to the cell's text.
        right: align to the right, for numbers.
        rank: columns with the highest rank are dropped first; 0: never.
        least: cells may be truncated to this width; None: never.
        fold: fold long cells into several lines instead of truncating them.
        optional: drop the column if all cells are empty.
        style: rich style of the cells.
    """

    header: str
    text: Callable[[Any], str]
    right: bool = False
    rank: int = 0
    least: int | None = None
    fold: bool = False
    optional: bool = False
    style: str = ""


def tie() -> str:
    """The mark of two neighbours that the probe images do not separate."""
    return "≈" if has_unicode(sys.stdout) else "~"


def print_table(
    columns: Sequence[Column], records: Iterable[Any], *, footnotes: Sequence[str] = (), complete: bool = False
) -> None:
    """Draw a table on standard output.

    Args:
        columns: from left to right.
        records: one per line.
        footnotes: lines below the table.
        complete: in a pipe or file drop no column, however long the lines are.
    """
    records = list(records)
    columns = [column for column in columns if not column.optional or any(column.text(record) for record in records)]
    rows = [[printable(column.text(record)) for column in columns] for record in records]
    widths = [max([cell_len(column.header), *(cell_len(row[i]) for row in rows)]) for i, column in enumerate(columns)]
    width = _console_width()
    fitted = _fit(columns, widths, width) if width is not None else _piped(columns, widths, complete)
    left_out = [column.header for i, column in enumerate(columns) if i not in dict(fitted)]
    lines = list(footnotes)
    if left_out:
        lines.append(f"no room for {', '.join(left_out)}; --format json has them")
    draw = _table_without_rich if _console_width() is None else _table_of_rich
    text = draw(columns, rows, fitted) + "".join(_line(printable(line), "dim") for line in lines)
    if not (pager.is_long(text) and pager.show(text)):
        _write(text)


def cell_len(text: str) -> int:
    """Number of terminal cells that a text takes."""
    if text.isascii() or all(char < "\u0300" or char in _NARROW for char in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _table_without_rich(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], fitted: Sequence[tuple[int, int]]
) -> str:
    """The lines of a table whose columns are as wide as their cells."""

    def line(cells: Sequence[str]) -> str:
        padded = []
        for i, width in fitted:
            space = " " * (width - cell_len(cells[i]))
            padded.append(space + cells[i] if columns[i].right else cells[i] + space)
        return (" " * _GAP).join(padded).rstrip() + "\n"

    return line([column.header for column in columns]) + "".join(map(line, rows))


def _table_of_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]], fitted: Sequence[tuple[int, int]]) -> str:
    """The lines of a table for a terminal, whose cells may have to be truncated or folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for i, width in fitted:
        column = columns[i]
        table.add_column(
            Text(column.header),
            justify="right" if column.right else "left",
            width=width,
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
            style=column.style,
        )
    for row in rows:
        table.add_row(*(Text(row[i]) for i, _ in fitted))
    return _drawn(table)


def _piped(columns: Sequence[Column], widths: Sequence[int], complete: bool) -> list[tuple[int, int]]:
    """The columns for a pipe, as (position, width): all of them, or those with which lines are not too long."""
    whole = list(range(len(columns))) if complete else _with_room(columns, widths, PIPE_WIDTH)
    return [(i, widths[i]) for i in whole]


def _with_room(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Positions of the columns that are left when the least important ones are dropped until the others fit."""
    shown = list(range(len(columns)))
    while sum(widths[i] + _GAP for i in shown) - _GAP > room:
        droppable = [i for i in shown if columns[i].rank > 0]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda i: columns[i].rank))
    return shown


def _fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """The columns that fit, as (position, width)."""
    least = [
        min(width, max(column.least, cell_len(column.header))) if column.least is not None else width
        for column, width in zip(columns, widths, strict=True)
    ]
    shown = _with_room(columns, least, room)
    spare = room - (sum(least[i] + _GAP for i in shown) - _GAP)
    fitted = []
    for i in shown:
        extra = min(max(spare, 0), widths[i] - least[i])
        spare -= extra
        fitted.append((i, least[i] + extra))
    for position, (i, width) in enumerate(fitted):
        # Even the columns that are never dropped are too wide: fold the names further.
        if spare < 0 and columns[i].fold:
            narrower = max(width + spare, 4)
            spare += width - narrower
            fitted[position] = (i, narrower)
    return fitted


def print_card(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """Draw a title with labelled lines; lines without text are omitted."""
    shown = [(f"  {label}", printable(text)) for label, text in lines if text]
    print_line(title, "bold")
    if _console_width() is None:
        width = max((cell_len(label) for label, _ in shown), default=0) + _GAP
        _write("".join(f"{label}{' ' * (width - cell_len(label))}{text}".rstrip() + "\n" for label, text in shown))
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, text in shown:
        grid.add_row(Text(label), Text(text))
    _write(_drawn(grid))


def print_line(text: str, style: str = "") -> None:
    """Print a line of text on standard output, wrapped in a terminal."""
    _write(_line(printable(text), style))


def _line(text: str, style: str = "") -> str:
    if _console_width() is None:
        return "\n".join(part.rstrip() for part in text.split("\n")) + "\n"
    from rich.text import Text

    return _drawn(Text(text, style=style))


def _console_width() -> int | None:
    """Width of the terminal in characters; None if standard output is not a terminal."""
    if not is_terminal(sys.stdout):
        return None
    from rich.console import Console

    return Console(file=sys.stdout).width


def _drawn(drawing: Any) -> str:
    """The lines of a drawing, as wide as the terminal, with escape sequences where it has colours."""
    from rich.console import Console

    width = _console_width()
    colour = wants_colour(sys.stdout)
    file = io.StringIO()
    console = Console(
        file=file,
        width=width or 1_000_000,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(drawing)
    # rich pads every line with spaces, which are of no use in a pipe.
    lines = file.getvalue().split("\n")
    return "\n".join(line.rstrip() if not colour else line for line in lines)


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
