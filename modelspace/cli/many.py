"""Embedding many models: the progress and summary of `modelspace add --manifest` and `modelspace fill`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer

from modelspace.cli import figures, signals
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say, suggest
from modelspace.cli.progress import terminal
from modelspace.cli.screen import is_terminal, printable
from modelspace.cli.spelling import in_flags

#: Statuses and their words in the summary, in this order.
_SUMMARY = (
    ("added", "added"),
    ("replaced", "replaced"),
    ("completed", "completed"),
    ("would add", "to be added"),
    ("would complete", "to be completed"),
    ("would compare", "to be loaded and compared"),
    ("unchanged", "unchanged"),
    ("needs", "skipped, as something must be supplied"),
    ("not reached", "not reached"),
    ("failed", "FAILED"),
)


def add_many(space: Any, entries: Any, format: Format, *, quiet: bool, **options: Any) -> None:
    """Add the models of a manifest, print the outcomes, and exit with 1 if a model failed."""
    embed_many(partial(space.add_all, entries, **options), format, quiet=quiet, dry_run=options.get("dry_run", False))


def embed_many(embed: Callable[..., Any], format: Format, *, quiet: bool, dry_run: bool) -> None:
    """Run a method that embeds many models, print its outcomes, and exit with 1 if a model failed.

    Args:
        embed: takes `progress` and `on_outcome`.
        format: of standard output.
        quiet: print nothing but the failures.
        dry_run: whether nothing is done.
    """
    from modelspace.results import Outcome, Records
    from modelspace.verbs.add_many import Interrupted

    interrupted = False
    with _live_output(quiet=quiet or dry_run) as (progress, on_outcome):
        try:
            outcomes = embed(progress=progress, on_outcome=on_outcome)
        except Interrupted as stopped:
            outcomes, interrupted = Records(stopped.outcomes, Outcome), True
    if interrupted:
        _print(outcomes, format, quiet=quiet)
        say(f"{signals.word()}; finished models are stored, run the same command again to resume", quiet=False)
        raise typer.Exit(signals.exit_code())
    print_outcomes(outcomes, format, quiet=quiet, complete=dry_run)
    if not dry_run:
        suggest("modelspace nearest NAME", quiet=quiet)


def print_outcomes(outcomes: Sequence[Any], format: Format, *, quiet: bool, complete: bool = False) -> None:
    """Print outcomes and their summary, and exit with 1 if a model failed.

    Args:
        outcomes: to print.
        format: of standard output.
        quiet: print nothing but the failures.
        complete: whether a table has all outcomes, instead of those that had no line when they were done.
    """
    _print(outcomes, format, quiet=quiet, complete=complete)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed and quiet and format is Format.table:
        for outcome in failed:
            say(f"error: {outcome.name}: {in_flags(outcome.message)}", quiet=False)
    if failed:
        raise typer.Exit(1)


def _print(outcomes: Sequence[Any], format: Format, *, quiet: bool, complete: bool = False) -> None:
    if format is not Format.table:
        print_records(outcomes, format)
    elif not quiet:
        _print_table([outcome for outcome in outcomes if complete or outcome.status in ("failed", "needs")])
    say(summary(outcomes), quiet=quiet)


def summary(outcomes: Sequence[Any]) -> str:
    """Counts in one line.

    >>> summary([])
    'no models'
    """
    counts = Counter(outcome.status for outcome in outcomes)
    parts = [f"{counts[status]} {words}" for status, words in _SUMMARY if counts[status]]
    if not parts:
        return "no models"
    return f"{len(outcomes)} model{'' if len(outcomes) == 1 else 's'}: {', '.join(parts)}"


def _line(outcome: Any) -> str:
    duration = f" ({figures.seconds(outcome.seconds)})" if outcome.seconds else ""
    reason = f": {in_flags(outcome.message)}" if outcome.message else ""
    return f"{outcome.status} {outcome.name}{duration}{reason}"


def _print_table(outcomes: Sequence[Any]) -> None:
    if not outcomes:
        return
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("name", lambda outcome: outcome.name, least=12, fold=True),
        Column("status", lambda outcome: outcome.status),
        Column("spaces", lambda outcome: ", ".join(outcome.spaces), rank=2, least=10, optional=True),
        Column(
            "seconds",
            lambda outcome: f"{outcome.seconds:.1f}" if outcome.seconds else "",
            right=True,
            rank=1,
            optional=True,
        ),
        Column(
            "reason",
            lambda outcome: " | ".join(map(in_flags, filter(None, (outcome.message, outcome.hint, *outcome.notes)))),
            least=30,
            fold=True,
            optional=True,
        ),
    ]
    print_table(columns, outcomes)


OnOutcome = Callable[[Any], None]
Progress = Callable[[int, int, str, int, int], None]


@contextmanager
def _live_output(*, quiet: bool) -> Iterator[tuple[Progress | None, OnOutcome | None]]:
    """A progress bar over the models, and a line for each finished model, on standard error.

    In a pipe there are only the lines. Unchanged models get no line, since a rerun would begin with hundreds of them.
    """
    if quiet:
        yield None, None
        return

    def silent(outcome: Any) -> bool:
        return outcome.status in ("unchanged", "needs")

    if not is_terminal(sys.stderr):
        yield None, lambda outcome: None if silent(outcome) else say(_line(outcome), quiet=False)
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from modelspace.cli.time_left import TimeLeft

    console = terminal()
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}", markup=False),
        TimeLeft(),
        TextColumn("{task.fields[current]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, count="", current="")

        def progress(models: int, total: int, label: str, images: int, total_images: int) -> None:
            # The current model counts by its fraction of images, so that the bar moves within a large model.
            fraction = images / total_images if total_images else 0.0
            current = f"{label} {images}/{total_images} images" if total_images else ""
            bar.update(
                task,
                completed=models + fraction,
                total=total,
                count=f"{models}/{total} models",
                current=printable(current),
            )

        def on_outcome(outcome: Any) -> None:
            if not silent(outcome):
                console.print(printable(_line(outcome)), markup=False, soft_wrap=True)

        yield progress, on_outcome
