"""The command ``modelspace list``."""

from __future__ import annotations

from modelspace.cli import figures, options
from modelspace.cli.cards import input_text, size_text
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import note, say, suggest
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace list
modelspace list --where "parameters < 1e6 AND task = 'curvature'"
modelspace list --format csv > models.csv
"""


def command(
    where: options.Where = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List the registered models, in the order they were added."""
    space = open_space(home)
    models = space.list(where)
    if waiting := space.waiting():
        names = ", ".join(waiting)
        note([f"finished passes wait to be stored: {names}; `space.resume()` stores them"], quiet=quiet)
    if format is not Format.table:
        print_records(models, format)
        return
    if not models:
        say("no model matches the condition" if where else "no model is registered yet", quiet=quiet)
        if not where:
            suggest("modelspace add URI", quiet=quiet)
        return
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("model", lambda row: row.name, least=28, fold=True, style="bold"),
        Column("task", lambda row: row.task or "", rank=1, least=10, optional=True),
        Column("parameters", lambda row: figures.count(row.parameters), right=True, rank=3),
        Column("layer", lambda row: row.layer, rank=2, least=12),
        Column("input", lambda row: size_text(row.preprocessing), rank=4),
        Column("outcomes", lambda row: str(row.outcomes or ""), right=True, rank=4, optional=True),
        Column("data", lambda row: row.data or "", rank=6, least=8, optional=True),
        Column("seconds", lambda row: f"{row.seconds:.1f}", right=True, rank=5),
        Column("uri", lambda row: row.uri, rank=7, least=16),
        Column("architecture", lambda row: row.architecture, rank=8, least=12),
        Column("spaces", lambda row: ",".join(row.spaces), rank=9, least=10),
        Column("weights sha256", lambda row: row.weights_sha256, rank=10, least=13),
        Column("preprocessing", lambda row: input_text(row.preprocessing), rank=11, least=24),
        Column("added", lambda row: row.added_at, rank=12),
    ]
    print_table(columns, models)
