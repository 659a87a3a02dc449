"""``modelspace merge``"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from modelspace.cli import options
from modelspace.cli.failures import INTERRUPTED
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import in_flags

EXAMPLES = """
modelspace merge ../colleague --dry-run
modelspace merge ../colleague --on-conflict rename --suffix -theirs
modelspace merge ../colleague --spaces all --where "task = 'depth'"
"""


def command(
    other: Annotated[
        str, typer.Argument(metavar="OTHER_HOME", help="Folder of the other registry, which is only read.")
    ],
    spaces: Annotated[
        list[str] | None,
        typer.Option(
            "--spaces",
            metavar="shared|all|SPACE",
            show_default=False,
            help="shared: the spaces that both have; all: also those that only the other has; or names, one by one. "
            "Default: shared.",
        ),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            metavar="fail|skip|rename",
            help="Where a name belongs to another model here: write nothing at all, leave the model out, or rename it.",
        ),
    ] = "fail",
    suffix: Annotated[
        str, typer.Option("--suffix", metavar="TEXT", help="Put behind the name of a model that is renamed.")
    ] = "-2",
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="SQL",
            show_default=False,
            help="Only models of the other registry that meet this SQL condition on its table models.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Take in the models of another registry, without running them.

    They come from its stored maps, in the spaces that have the same id here: same images, method, canvas and bits.
    Vectors and affinities are computed here. Models that are registered here are left as they are. The exit code is 1
    if a model was refused because what is stored of it is damaged.
    """
    asked: Any = spaces or "shared"
    if spaces and len(spaces) == 1 and spaces[0] in ("shared", "all"):
        asked = spaces[0]
    try:
        with progress_bar("merging", "models", quiet=quiet) as progress:
            merged = open_space(home).merge(
                other,
                spaces=asked,
                on_conflict=on_conflict,
                suffix=suffix,
                where=where,
                dry_run=dry_run,
                progress=progress,
            )
    except KeyboardInterrupt:
        say("interrupted; models that were merged already stay, and the same command takes the rest", quiet=False)
        raise typer.Exit(INTERRUPTED) from None
    if format is not Format.table:
        print_records(merged, format)
    elif not quiet:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("name", lambda row: row.name, least=12, fold=True),
            Column("status", lambda row: row.status),
            Column(
                "name there", lambda row: row.theirs if row.theirs != row.name else "", rank=1, fold=True, optional=True
            ),
            Column("spaces", lambda row: ", ".join(row.spaces), rank=2, least=10, optional=True),
            Column(
                "why",
                lambda row: " | ".join(map(in_flags, filter(None, (row.message, row.hint)))),
                least=20,
                fold=True,
                optional=True,
            ),
        ]
        print_table(columns, merged)
    counts = Counter(row.status for row in merged)
    counted = ", ".join(f"{count} {status}" for status, count in counts.items()) or "it has no model in these spaces"
    say(f"{other}: {counted}", quiet=quiet)
    refused = [row for row in merged if row.status == "refused"]
    for row in refused if quiet and format is Format.table else ():
        say(f"error: {row.theirs}: {in_flags(row.message)}", quiet=False)
    if refused:
        raise typer.Exit(1)
