"""The command ``modelspace outcomes``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion, figures, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import suggest
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace outcomes
modelspace outcomes flowers
modelspace outcomes --model resnet50 --format csv
"""


def command(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]", show_default=False, autocompletion=completion.tasks, help="Only outcomes of this task."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            show_default=False,
            autocompletion=completion.models,
            help="Only outcomes of this model.",
        ),
    ] = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List what was measured of models on tasks.

    Of one task the best come first. Outcomes of a removed model stay, and belong to it again if its weights are added
    again.
    """
    records = open_space(home).outcomes(task, model=model)
    if format is not Format.table:
        print_records(records, format)
        return
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("task", lambda row: row.task, least=12, fold=True),
        Column("model", lambda row: row.model, least=24, fold=True, style="bold"),
        Column("score", _score, right=True),
        Column("metric", lambda row: row.metric, rank=1),
        Column("how", lambda row: row.how, rank=2),
        Column(
            "images", lambda row: "" if row.n_train is None else f"{row.n_train:,}", right=True, rank=4, optional=True
        ),
        Column("seed", lambda row: "" if row.seed is None else str(row.seed), right=True, rank=6, optional=True),
        Column(
            "seconds",
            lambda row: "" if row.seconds is None else figures.seconds(row.seconds),
            right=True,
            rank=7,
            optional=True,
        ),
        Column("measured", lambda row: row.measured_at[:10], rank=5),
        Column("note", lambda row: row.note, rank=3, optional=True),
    ]
    print_table(columns, records)
    if not records:
        suggest("modelspace observe TASK MODEL SCORE", quiet=quiet)


def _score(row: Any) -> str:
    return "failed" if row.score is None else f"{row.score:.4f}"
