"""What the commands that draw have in common: the name of the file, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli.formats import Format, print_record
from modelspace.cli.messages import note
from modelspace.cli.progress import progress_bar
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
        help="File to write, PNG, SVG or PDF by its suffix. Default: the command's name and .png, in this folder.",
    ),
]
Title = Annotated[str, typer.Option("--title", metavar="TEXT", show_default=False, help="Printed above.")]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Don't keep coordinates that had to be made in the registry.")
]
Linkage = Annotated[
    str,
    typer.Option("--method", metavar="average|single|complete|ward", help="How clusters are joined."),
]


def target(out: str | None, default: str, suffixes: Sequence[str]) -> Path:
    """The file to write, refused before any work is done where it can't be.

    Raises:
        UsageError: its suffix says nothing, or its folder is not there.
    """
    path = Path(out or default)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"can't tell how to write {path.name!r}", f"end its name in one of: {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", f"make it first: mkdir -p {path.parent}")
    return path


@contextmanager
def drawing(what: str, *, quiet: bool) -> Iterator[None]:
    """Something that moves while it is drawn."""
    with progress_bar(f"drawing {what}", "", quiet=quiet):
        yield


def tell(path: Path, facts: Mapping[str, Any], chosen: Format, *, quiet: bool, notes: Sequence[str] = ()) -> None:
    """Say what was written: the file's name first.

    Args:
        path: the file.
        facts: label -> value; those without a value are left out of a table.
        chosen: of the output; in quiet a table is the file's name alone.
        quiet: no remarks.
        notes: remarks for a person.
    """
    if chosen is not Format.table:
        print_record({"file": str(path), **{key.replace(" ", "_"): value for key, value in facts.items()}}, chosen)
    elif quiet:
        from modelspace.cli.tables import print_line

        print_line(str(path))
    else:
        from modelspace.cli.tables import print_card

        print_card(str(path), [(key, "" if value is None else str(value)) for key, value in facts.items()])
    note(notes, quiet=quiet)
