"""The command ``modelspace merge``."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from modelspace.cli import options, signals
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
            help="shared: the spaces in both registries; all: also those only in the other; or a name, may be given "
            "several times. Default: shared.",
        ),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            metavar="fail|skip|rename",
            help="If a name belongs to a different model here: write nothing at all, skip the model, or rename it.",
        ),
    ] = "fail",
    suffix: Annotated[
        str, typer.Option("--suffix", metavar="TEXT", help="Appended to the name of a renamed model.")
    ] = "-2",
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="SQL",
            show_default=False,
            help="Only models of the other registry that match this SQL condition on its table models.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be done, and write nothing.")] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Import the models of another registry, without running them.

    Their stored maps are copied, in spaces with the same id here: same images, method, canvas and bits. Vectors and
    affinities are recomputed. Models that are already registered here stay unchanged. The exit code is 1 if a model
    was refused because its stored data are damaged.
    """
    selection: Any = spaces or "shared"
    if spaces and len(spaces) == 1 and spaces[0] in ("shared", "all"):
        selection = spaces[0]
    try:
        with progress_bar("merging", "models", quiet=quiet) as progress:
            merged = open_space(home).merge(
                other,
                spaces=selection,
                on_conflict=on_conflict,
                suffix=suffix,
                where=where,
                dry_run=dry_run,
                progress=progress,
            )
    except KeyboardInterrupt:
        say(f"{signals.word()}; merged models are stored, run the same command again to resume", quiet=False)
        raise typer.Exit(signals.exit_code()) from None
    if format is not Format.table:
        print_records(merged, format)
    elif not quiet:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("name", lambda row: row.name, least=12, fold=True),
            Column("status", lambda row: row.status),
            Column(
                "name in other",
                lambda row: row.theirs if row.theirs != row.name else "",
                rank=1,
                fold=True,
                optional=True,
            ),
            Column("spaces", lambda row: ", ".join(row.spaces), rank=2, least=10, optional=True),
            Column(
                "reason",
                lambda row: " | ".join(map(in_flags, filter(None, (row.message, row.hint)))),
                least=20,
                fold=True,
                optional=True,
            ),
        ]
        print_table(columns, merged)
    counts = Counter(row.status for row in merged)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items()) or "it has no model in these spaces"
    say(f"{other}: {summary}", quiet=quiet)
    refused = [row for row in merged if row.status == "refused"]
    for row in refused if quiet and format is Format.table else ():
        say(f"error: {row.theirs}: {in_flags(row.message)}", quiet=False)
    if refused:
        raise typer.Exit(1)
