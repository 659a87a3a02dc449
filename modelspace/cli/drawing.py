"""Shared by the commands that draw: options, the output file, and what is printed about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli.formats import Format, print_record
from modelspace.cli.messages import note
from modelspace.cli.progress import progress_bar
from modelspace.deprecated import renamed
from modelspace.errors import UsageError

PICTURES = (".png", ".svg", ".pdf")
PAGES = (".html", ".htm")
REPORTS = (".html", ".htm", ".md")

Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        show_default=False,
        help="File to write: PNG, SVG or PDF, by its suffix. Default: COMMAND.png in the current folder.",
    ),
]
Title = Annotated[str, typer.Option("--title", metavar="TEXT", show_default=False, help="Title of the picture.")]
NoStore = Annotated[bool, typer.Option("--no-store", help="Don't store new coordinates in the registry.")]
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        show_default=False,
        help="Models to compare, up to 2,000. Of more, N are chosen that cover the others. Default: 1000.",
    ),
]
Linkage = Annotated[
    str,
    typer.Option("--method", metavar="average|single|complete|ward", help="How clusters are joined."),
]


def target(out: str | None, default: str, suffixes: Sequence[str]) -> Path:
    """The file to write, checked before any work is done.

    Raises:
        UsageError: the suffix is not one of `suffixes`, or the folder does not exist.
    """
    path = Path(out or default)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"can't tell how to write {path.name!r}", f"end its name in one of: {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", f"create it first: mkdir -p {path.parent}")
    return path


@contextmanager
def drawing(what: str, *, quiet: bool) -> Iterator[None]:
    """Show activity while a picture is drawn."""
    with progress_bar(f"drawing {what}", "", quiet=quiet):
        yield


def print_written(
    path: Path, facts: Mapping[str, Any], format: Format, *, quiet: bool, notes: Sequence[str] = ()
) -> None:
    """Print the name of the written file, and facts about it.

    Args:
        path: the file.
        facts: label -> value; empty values are omitted from a table.
        format: of the output; with `quiet`, a table is only the file's name.
        quiet: print no notes.
        notes: remarks for the user.
    """
    if format is not Format.table:
        print_record({"file": str(path), **{key.replace(" ", "_"): value for key, value in facts.items()}}, format)
    elif quiet:
        from modelspace.cli.tables import print_line

        print_line(str(path))
    else:
        from modelspace.cli.tables import print_card

        print_card(str(path), [(key, "" if value is None else str(value)) for key, value in facts.items()])
    note(notes, quiet=quiet)


__getattr__ = renamed(__name__, {"tell": "print_written"})
