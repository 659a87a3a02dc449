"""The commands ``modelspace task add``, ``list``, ``show``, ``remove`` and ``rename``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import options
from modelspace.cli.commands import SETTINGS
from modelspace.cli.examples import epilog
from modelspace.cli.formats import Format, print_record, print_records
from modelspace.cli.messages import say, suggest
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.tasks.metrics import METRICS

ADD_EXAMPLES = """
modelspace task add flowers data/flowers/
modelspace task add ripeness ripeness.csv --metric rmse
modelspace task add private-benchmark --metric top5 --direction higher
"""
LIST_EXAMPLES = """
modelspace task list
"""
SHOW_EXAMPLES = """
modelspace task show flowers
"""
REMOVE_EXAMPLES = """
modelspace task remove flowers
"""
RENAME_EXAMPLES = """
modelspace task rename flowers flowers-2026
"""

group = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)


@group.callback(invoke_without_command=True)
def task(context: typer.Context) -> None:
    """Tasks: labelled data sets, under which outcomes are collected."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@group.command("add", epilog=epilog(ADD_EXAMPLES), context_settings=SETTINGS)
def add(
    name: Annotated[str, typer.Argument(metavar="TASK", help="Name of the new task.")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            show_default=False,
            help="Folder with one subfolder per class; or a CSV or Parquet file with the columns path and label. "
            "Without it the task only collects outcomes.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            show_default=False,
            help=f"What scores mean: {', '.join(METRICS)}, or any other name. Default: accuracy, or r2 for regression.",
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            "--direction",
            metavar="higher|lower",
            show_default=False,
            help="Which scores are better, for a metric that is not listed.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="classification|regression",
            show_default=False,
            help="Kind of the labels. Default: regression if a label is a number with a fraction.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the splits into training and test images.")
    ] = 0,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Register a task. Its images are read and hashed, not copied."""
    from modelspace.errors import UsageError

    if direction not in (None, "higher", "lower"):
        raise UsageError(f"--direction {direction} is not known", "use --direction higher or --direction lower")
    arguments: dict[str, Any] = options.given(metric=metric, kind=kind)
    if direction is not None:
        arguments["higher_is_better"] = direction == "higher"
    with progress_bar(f"reading {data}", "images", quiet=quiet or data is None) as progress:
        record, notes = open_space(home).add_task(name, data, seed=seed, progress=progress, **arguments)
    if format is not Format.table:
        print_record(record, format)
    else:
        _print_card(record)
    for note in notes:
        say(f"note: {note}", quiet=quiet)
    suggest(f"modelspace observe {name} MODEL SCORE" if data is None else f"modelspace try {name}", quiet=quiet)


@group.command("list", epilog=epilog(LIST_EXAMPLES), context_settings=SETTINGS)
def list_tasks(
    home: options.Home = None, format: options.FormatOption = Format.table, quiet: options.Quiet = False
) -> None:
    """List the tasks."""
    records = open_space(home).tasks()
    if format is not Format.table:
        print_records(records, format)
        return
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("name", lambda row: row.name, least=24, fold=True, style="bold"),
        Column("kind", lambda row: row.kind, rank=3),
        Column("metric", lambda row: row.metric),
        Column("better", lambda row: "higher" if row.higher_is_better else "lower", rank=4),
        Column("images", lambda row: "" if row.n_images is None else f"{row.n_images:,}", right=True),
        Column("classes", lambda row: str(len(row.classes) or ""), right=True, rank=2),
        Column("outcomes", lambda row: str(row.outcomes), right=True),
        Column("data", lambda row: row.location, rank=1),
    ]
    print_table(columns, records)
    if not records:
        suggest("modelspace task add flowers data/flowers/", quiet=quiet)


@group.command("show", epilog=epilog(SHOW_EXAMPLES), context_settings=SETTINGS)
def show(name: options.TaskName, home: options.Home = None, format: options.FormatOption = Format.table) -> None:
    """Show everything known of a task.

    'modelspace outcomes TASK' lists what was measured.
    """
    record = open_space(home).task(name)
    if format is not Format.table:
        print_record(record, format)
    else:
        _print_card(record)


@group.command("remove", epilog=epilog(REMOVE_EXAMPLES), context_settings=SETTINGS)
def remove(name: options.TaskName, home: options.Home = None, quiet: options.Quiet = False) -> None:
    """Remove a task with its outcomes. The images stay where they are."""
    n_outcomes = open_space(home).remove_task(name)
    say(f"removed the task {name} and {n_outcomes} outcomes", quiet=quiet)


@group.command("rename", epilog=epilog(RENAME_EXAMPLES), context_settings=SETTINGS)
def rename(
    name: options.TaskName,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", help="New name.")],
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Rename a task."""
    open_space(home).rename_task(name, new_name)
    say(f"the task {name} is now called {new_name}", quiet=quiet)


def _print_card(record: Any) -> None:
    from modelspace.cli.tables import print_card

    better = "higher" if record.higher_is_better else "lower"
    classes = ", ".join(record.classes[:8]) + (", ..." if len(record.classes) > 8 else "")
    print_card(
        record.name,
        [
            ("kind", record.kind),
            ("metric", f"{record.metric} ({better} is better)"),
            ("data", record.location or "none"),
            ("images", "" if record.n_images is None else f"{record.n_images:,}"),
            ("classes", f"{len(record.classes)}: {classes}" if record.classes else ""),
            ("outcomes", str(record.outcomes)),
            ("seed", str(record.seed)),
            ("added", record.added_at),
        ],
    )
