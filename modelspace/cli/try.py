"""The command ``modelspace try``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import note, suggest
from modelspace.cli.opening import open_space
from modelspace.cli.progress import named_progress_bar
from modelspace.cli.spelling import in_flags
from modelspace.errors import UsageError

EXAMPLES = """
modelspace try flowers
modelspace try flowers --budget 8
modelspace try flowers --where "parameters < 3e7" --how finetune --epochs 10
modelspace try flowers --run "python finetune.py {uri} {train} {test} {seed}"
modelspace try flowers --rounds 120,240 --finalists 5 --format json
"""


def command(
    task: options.TaskName,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget",
            metavar="N",
            show_default=False,
            help="Number of models to run, the most promising first. Default: all, at most 100.",
        ),
    ] = None,
    how: Annotated[
        str | None,
        typer.Option(
            "--how",
            metavar="ridge|logistic|finetune",
            show_default=False,
            help="How the last models are measured: by a readout, or by training them. Default: ridge.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", show_default=False, help="Of --how finetune. Default: 5."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="COMMAND",
            show_default=False,
            help="Instead of --how, a program of yours that measures the last models; its last line of output is the "
            "score. {uri}, {train}, {test} and others stand for what they name.",
        ),
    ] = None,
    rounds: Annotated[
        str | None,
        typer.Option(
            "--rounds",
            metavar="N,N",
            show_default=False,
            help="Training images that all models see, then the better half, before the last see all. Default: 60,120.",
        ),
    ] = None,
    finalists: Annotated[
        int | None,
        typer.Option(
            "--finalists", metavar="N", show_default=False, help="Models that see all training images. Default: 3."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            show_default=False,
            help="Largest number of training images, and of test images; 0 for all. Default: 2000.",
        ),
    ] = None,
    where: options.Where = None,
    space: options.Space = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Run models on a task's images, and say which one to start from.

    All models see a few training images, the better half more, the last three all of them; their readouts are then
    tested on images that were held out. What was measured is kept ('modelspace outcomes'), features are cached, and
    after an interruption the same command goes on.
    """
    arguments: dict[str, Any] = options.given(
        budget=budget,
        how=how,
        epochs=epochs,
        run=run,
        rounds=None if rounds is None else _numbers(rounds),
        finalists=finalists,
        images=images,
        where=where,
        space=space,
        batch_size=batch_size,
        device=device if device != "auto" else None,
    )
    opened = open_space(home)
    with named_progress_bar(f"reading the images of {task}", "models", quiet=quiet) as report:
        steps = _Steps(report) if report is not None else None
        trials = opened.try_task(
            task,
            on_step=steps.step if steps else None,
            on_images=steps.images if steps else None,
            on_line=None if quiet else _print_line,
            **arguments,
        )
    if format is not Format.table:
        note(trials.notes, quiet=quiet)
        print_records(trials, format)
        return
    _print(trials)
    if trials.winner is not None:
        suggest(f"modelspace show {trials.winner.name}", quiet=quiet)


def _print_line(line: str) -> None:
    """A line of the user's program, among the messages."""
    typer.echo(line, err=True)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--rounds {text} are not numbers of images", "example: --rounds 60,120") from None


class _Steps:
    """Progress of a search. Each round has its own bar, since the number of models of later rounds is not known."""

    def __init__(self, report: Callable[[float, int, str], None]) -> None:
        self._report = report
        self._done, self._total, self._what = 0, 1, ""

    def step(self, number: int, rounds: int, model: str, done: int, total: int, n_images: int) -> None:
        """Another model begins."""
        self._done, self._total = done, total
        self._what = f"round {number} of {rounds}, {n_images} images: {model}"
        self._report(done, total, self._what)

    def images(self, done: int, total: int) -> None:
        """Images went through the model."""
        self._report(self._done + done / max(total, 1), self._total, self._what)


def _print(trials: Any) -> None:
    from modelspace.cli import tables
    from modelspace.cli.prospects import number
    from modelspace.cli.tables import Column

    mark = tables.tie()
    metric = trials.metric
    columns = [
        Column("rank", lambda row: str(row.rank), right=True),
        Column(" ", lambda row: mark if row.tied else ""),
        Column("name", lambda row: row.name, least=24, fold=True, style="bold"),
        Column(metric, lambda row: number(row.score), right=True),
        Column("95% interval", lambda row: "" if row.low is None else f"{number(row.low)}..{number(row.high)}", rank=1),
        Column("held out", lambda row: number(row.held_out), right=True, rank=2),
        Column("images", lambda row: str(row.images), right=True, rank=3),
        Column("stage", lambda row: row.stage, rank=4),
        Column("seconds", lambda row: figures.seconds(row.seconds), right=True, rank=5),
        Column("note", lambda row: row.note, rank=6, optional=True, fold=True, least=20),
    ]
    footnotes = _legend(trials)
    if any(row.tied for row in trials):
        footnotes.append(f"{mark} these data can't tell it apart from the first (95%)")
    tables.print_line(f"task {trials.target}: {len(trials)} models, {trials.n_forwarded:,} images forwarded")
    tables.print_table(columns, trials, footnotes=[*footnotes, *map(in_flags, trials.notes)], complete=True)


def _legend(trials: Any) -> list[str]:
    """What the scores were measured on, and which of them decided the rank: see `modelspace.verbs.finals`."""
    lines = [
        "held out: on as many training images as in 'images', each predicted by a readout without it; ranks follow the "
        "readout's errors there"
    ]
    if trials.how == "script":
        return [f"{trials.metric}: what the program printed, which ranks the finalists", *lines]
    if trials.how == "finetune":
        lines[0] += ", those of finalists the part of the training images that chose the epoch"
    return [f"{trials.metric}: on {trials.n_test} test images, which say what to expect and choose nothing", *lines]
