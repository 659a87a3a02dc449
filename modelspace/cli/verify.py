"""The command ``modelspace verify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from modelspace.cli import options, signals
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

    The exit code is 1 if a check failed. Ctrl-C prints the checks that were finished.
    """
    finished: list[Any] = []
    try:
        with progress_bar("verifying", "models", quiet=quiet) as progress:
            checks = open_space(home).verify(deep=deep, progress=progress, on_check=finished.append)
    except BaseException as error:
        if signals.is_interruption(error):
            # Finished checks of an hour are worth having.
            _print(finished, format, quiet=quiet)
        raise
    failed = _print(checks, format, quiet=quiet)
    say(f"{failed} of {len(checks)} checks FAILED" if failed else "all checks passed", quiet=quiet)
    if failed:
        raise typer.Exit(1)


def _print(finished: Sequence[Any], format: Format, *, quiet: bool) -> int:
    """Print checks, and how to fix those that failed; returns the number of these."""
    from modelspace.results import Check, Records

    checks = Records(finished, Check)
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
    return sum(not check.ok for check in checks)
