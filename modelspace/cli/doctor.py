"""The command ``modelspace doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli import options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import in_flags

EXAMPLES = """
modelspace doctor
modelspace doctor --format json > report.json
"""


def command(
    private: Annotated[
        bool, typer.Option("--private", help="Print full paths. Without it your home folder and name are replaced.")
    ] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Print versions, devices and registry health for a bug report.

    Versions of modelspace and of what it needs, optional parts and how to install those that are missing, devices,
    threads, and the registry with the quick checks of 'modelspace verify'. The exit code is 1 if something is broken.
    Read it before you publish it: it names your spaces.
    """
    from modelspace.home import find_home
    from modelspace.workspace import ModelSpace

    folder = find_home(home) or Path.cwd()
    with progress_bar("examining", "models", quiet=quiet) as progress:
        findings = ModelSpace(folder).doctor(private=private, progress=progress)
    if format is not Format.table:
        print_records(findings, format)
    else:
        _print(findings)
    failed = sum(not row.ok for row in findings)
    if failed:
        say(f"{failed} of {len(findings)} findings need attention", quiet=quiet)
        raise typer.Exit(1)


def _print(findings: Any) -> None:
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("", lambda row: "" if row.ok else "FAULT"),
        Column("part", lambda row: row.part, rank=1),
        Column("name", lambda row: row.name, least=15, fold=True, style="bold"),
        Column("value", lambda row: row.value, least=20, fold=True),
        Column("hint", lambda row: in_flags(row.hint), least=20, fold=True, rank=2, optional=True),
    ]
    print_table(columns, findings, complete=True)
