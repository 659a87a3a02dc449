"""The command ``modelspace outcomes``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion, figures, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import note, say, suggest
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError

EXAMPLES = """
modelspace outcomes
modelspace outcomes flowers
modelspace outcomes --model resnet50 --format csv
modelspace outcomes --import published --dry-run
modelspace outcomes --import sfda-cnn --all-models
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
    published: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="published|TABLE",
            show_default=False,
            help="Store published accuracies of the registry's models as outcomes: 'published' for all tables, or the "
            "name of one (docs/lab-book/published.md); may be given several times.",
        ),
    ] = None,
    all_models: Annotated[
        bool, typer.Option("--all-models", help="With --import: also of models that the registry doesn't have.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --import: report what would be stored, and store nothing.")
    ] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List what was measured of models on tasks, or import it.

    Of one task the best come first. Outcomes of a removed model stay, and belong to it again if its weights are added
    again. A published figure is of one checkpoint: only models with its address or full name are given it.
    """
    if published:
        if task is not None or model is not None:
            raise UsageError("--import takes no task and no model", "leave them out, or leave out --import")
        _import(published, home, format, all_models=all_models, dry_run=dry_run, quiet=quiet)
        return
    if all_models or dry_run:
        raise UsageError("--all-models and --dry-run are for --import", "add --import published, or leave them out")
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


def _import(
    names: list[str], home: str | None, format: Format, *, all_models: bool, dry_run: bool, quiet: bool
) -> None:
    records, notes = open_space(home).import_published(names, **options.given(all_models=all_models, dry_run=dry_run))
    if format is not Format.table:
        print_records(records, format)
    else:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("table", lambda row: row.table, least=20, style="bold"),
            Column("tasks", lambda row: str(row.tasks), right=True, rank=2),
            Column("models", lambda row: str(len(row.matched)), right=True),
            Column("would add" if dry_run else "added", lambda row: f"{row.added:,}", right=True),
            Column("known", lambda row: f"{row.known:,}", right=True),
            Column("from", lambda row: row.origin, least=20, fold=True, rank=3, optional=True),
        ]
        print_table(columns, records)
    note(notes, quiet=quiet)
    models = {name for row in records for name in row.matched.values()}
    tables = ", ".join(row.table for row in records if row.added)
    say(
        f"{'would store' if dry_run else 'stored'} {sum(row.added for row in records):,} outcomes"
        f"{f' ({tables})' if tables else ''}; models of the registry in these tables: {len(models)}",
        quiet=quiet,
    )


def _score(row: Any) -> str:
    return "failed" if row.score is None else f"{row.score:.4f}"
