"""The command ``modelspace scores``."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from modelspace.cli import completion, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.scores import SCORES

EXAMPLES = """
modelspace scores flowers
modelspace scores flowers resnet50 vit_small --images 240
modelspace scores flowers --score logme --score ridge --format csv
"""


def command(
    task: options.TaskName,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            show_default=False,
            autocompletion=completion.models,
            help="Names of models. Default: all.",
        ),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            "--score",
            metavar="SCORE",
            show_default=False,
            help=f"One of {', '.join(SCORES)}; may be given several times. Default: all that are for such labels.",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option("--images", metavar="N", help="Number of training images, balanced over the classes.")
    ] = 120,
    where: options.Where = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Score how well models' features tell a task's labels apart.

    No model is trained. Every score is higher for the better model. 'modelspace try' goes by one of them, ridge, on few
    images first.
    """
    arguments = options.given(where=where, batch_size=batch_size, device=device if device != "auto" else None)
    with progress_bar(f"scoring models on {task}", "models", quiet=quiet) as progress:
        records = open_space(home).label_scores(
            task, models or (), names=score or (), images=images, progress=progress, **arguments
        )
    if format is not Format.table:
        print_records(records, format)
        return
    _print(records, quiet)


def _print(records: Any, quiet: bool) -> None:
    from modelspace.cli import tables
    from modelspace.cli.tables import Column

    names = list(dict.fromkeys(row.score for row in records))
    by_model: dict[str, dict[str, Any]] = {}
    for row in records:
        by_model.setdefault(row.model, {})[row.score] = row
    first = names[0]
    order = sorted(by_model, key=lambda model: -_number(by_model[model][first].value))
    columns = [Column("model", lambda model: model, least=24, fold=True, style="bold")]
    columns += [
        Column(name, partial(_cell, by_model, name), right=True, rank=place) for place, name in enumerate(names)
    ]
    tables.print_line(f"scores on {records[0].n_images} training images, the best by {first} first")
    times = ", ".join(f"{name} {1000 * _mean_seconds(records, name):.0f}" for name in names)
    tables.print_table(columns, order, footnotes=[f"milliseconds for each model: {times}"])
    for model, cells in by_model.items():
        notes = {row.note for row in cells.values() if row.value is None and row.score not in ("leep", "nce")}
        for note in sorted(notes):
            say(f"{model}: {note}", quiet=quiet)


def _number(value: float | None) -> float:
    return float("-inf") if value is None else value


def _cell(by_model: dict[str, dict[str, Any]], name: str, model: str) -> str:
    value = by_model[model][name].value
    return "" if value is None else f"{value:.3f}"


def _mean_seconds(records: Any, name: str) -> float:
    times = [row.seconds for row in records if row.score == name and row.value is not None]
    return sum(times) / len(times) if times else 0.0
