"""The command ``modelspace layers``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from modelspace.cli import figures, options
from modelspace.cli.formats import Format, print_csv, print_json
from modelspace.cli.groups import Loading, grouped
from modelspace.cli.messages import say
from modelspace.cli.progress import progress_bar

EXAMPLES = """
modelspace layers zoo:curvature
modelspace layers python:nets.py:make_net --input-size 64 --mean 0.5 --std 0.5
modelspace layers zoo:curvature --layer 'encoder*'
"""


@grouped
def command(
    uri: Annotated[str, typer.Argument(metavar="URI", help="Address of the model, for example zoo:curvature.")],
    *,
    loading: Loading,
    device: options.Device = "auto",
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List the layers that a model executes, in order.

    Marks the layer that 'modelspace add' would explain with the same options. Needs no registry.
    """
    from modelspace.workspace import ModelSpace

    with progress_bar(f"running {uri}", "images", quiet=quiet):
        rows, explained, found_by = ModelSpace(Path()).layers(uri, device=device, **loading.arguments())
    module, side = (explained[:-3], "input") if explained.endswith(":in") else (explained, "output")
    records = [{**asdict(row), "explained": side if row.name == module else None} for row in rows]
    if format is Format.json:
        print_json(records)
    elif format is Format.csv:
        columns = list(records[0]) if records else []
        print_csv(columns, [list(record.values()) for record in records])
    else:
        from modelspace.cli import tables
        from modelspace.cli.tables import Column

        columns_shown = [
            Column("explained", lambda row: f"{row['explained']} of" if row["explained"] else "", style="bold"),
            Column("layer", lambda row: row["name"], least=24, fold=True),
            Column("kind", lambda row: row["kind"], rank=1),
            Column("shape", lambda row: figures.shape(row["shape"]), right=True),
            Column("parameters", lambda row: f"{row['parameters']:,}", right=True, rank=2),
            Column("calls", lambda row: str(row["calls"]), right=True, rank=3),
        ]
        tables.print_table(columns_shown, records)
    say(f"explained: {explained} ({found_by})", quiet=quiet)
