"""The command ``modelspace verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import in_flags

EXAMPLES = """
modelspace verify
modelspace verify --deep --format json
"""


def command(
    deep: Annotated[
        bool, typer.Option("--deep", help="Recompute the affinities of all pairs from the maps, not just a sample.")
    ] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Check the registry, and the index files against it.

    The exit code is 1 if a check failed.
    """
    with progress_bar("verifying", "models", quiet=quiet) as progress:
        checks = open_space(home).verify(deep=deep, progress=progress)
    failed = [check for check in checks if not check.ok]
    if format is not Format.table:
        print_records(checks, format)
    else:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("", lambda check: "ok" if check.ok else "FAILED"),
            Column("what", lambda check: check.what, least=24, fold=True),
            Column("detail", lambda check: in_flags(check.detail), least=20, fold=True),
        ]
        print_table(columns, checks)
    for check in checks:
        if check.hint:
            label = "hint" if check.ok else "to fix"
            say(f"{label}: {check.what}: {in_flags(check.hint)}", quiet=quiet and check.ok)
    say(f"{len(failed)} of {len(checks)} checks FAILED" if failed else "all checks passed", quiet=quiet)
    if failed:
        raise typer.Exit(1)
