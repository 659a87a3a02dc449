"""The command ``modelspace scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli import options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say, suggest
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import in_flags

EXAMPLES = """
modelspace scan weights/
modelspace scan weights/ --out zoo.toml
modelspace scan weights/ --dry-run
modelspace scan resnet.safetensors --format json
"""


def command(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder of weights, or a single file.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", show_default=False, help="Write a manifest for 'modelspace add --manifest'."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing manifest.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write nothing; load what is here without a pass, to see that it can be."),
    ] = False,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Say what files of weights are, and write a manifest of them.

    Names and shapes of the tensors in a file are compared with the architectures of timm, torchvision and transformers,
    which need not be installed. Preprocessing is read from timm's configuration or an image processor next to the
    weights; where it is not stated, the manifest has a line to fill in. Nothing is registered, and no code of a file is
    run.
    """
    from modelspace.workspace import ModelSpace

    with progress_bar("scanning", "files", quiet=quiet) as progress:
        scanned = ModelSpace(Path()).scan(place, out=out, force=force, dry_run=dry_run, progress=progress)
    if format is not Format.table:
        print_records(scanned, format)
    else:
        _print(scanned)
    if out is not None and not dry_run:
        say(f"wrote {out}", quiet=quiet)
        if any(record.status not in ("unknown", "unreadable") for record in scanned):  # else it has no models
            suggest(f"modelspace add --manifest {out} --dry-run", quiet=quiet)


def _print(scanned: Any) -> None:
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("file", lambda row: row.file, least=16, fold=True),
        Column("status", lambda row: row.status),
        Column("architecture", lambda row: row.architecture, least=16, fold=True, optional=True),
        Column("classes", lambda row: str(row.classes or ""), right=True, rank=1, optional=True),
        Column("missing", lambda row: ", ".join(row.missing), rank=2, least=10, optional=True),
        Column(
            "what it is",
            lambda row: in_flags(row.message) if row.status in _EXPLAINED else "",
            least=24,
            fold=True,
            optional=True,
        ),
    ]
    notes = [in_flags(row.hint) for row in scanned if row.hint] if len(scanned) == 1 else []
    print_table(columns, scanned, footnotes=notes)


#: Statuses whose reason is shown.
_EXPLAINED = ("unknown", "unreadable", "fails")
