"""The command ``modelspace backup``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.errors import UsageError

EXAMPLES = """
modelspace backup
modelspace backup /mnt/safe
modelspace backup --list
"""


def command(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="The copy, or a folder for it. Default: a file named by the time in the folder backups of the home.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Show the backups, and make none.")] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Copy the registry, and check the copy, while others read it.

    The copy is listed next to the registry. If the registry is ever damaged, the error names the last backup, and
    'modelspace restore' puts it back.
    """
    from modelspace.results import BackupInfo, Records

    space = open_space(home)
    if show:
        if file is not None:
            raise UsageError("with --list nothing is written", f"leave {file} out")
        rows = space.backups()
    else:
        with progress_bar("checking the copy", "spaces", quiet=quiet) as progress:
            copy = space.backup(file, force=force, progress=progress)
        rows = Records([copy], BackupInfo)
    if format is not Format.table:
        print_records(rows, format)
    elif show:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("file", lambda row: row.file, least=20, fold=True),
            Column("made at (UTC)", lambda row: row.made_at[:19].replace("T", " ")),
            Column("models", lambda row: str(row.models)),
            Column("bytes", lambda row: f"{row.bytes:,}", right=True),
        ]
        print_table(columns, rows)
    else:
        typer.echo(rows[0].file)
        say(f"{rows[0].models} models, {rows[0].bytes:,} bytes, checked", quiet=quiet)
