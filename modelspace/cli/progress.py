"""A progress bar on standard error, in a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelspace.cli.screen import is_terminal, printable, wants_colour

if TYPE_CHECKING:
    from rich.console import Console


def terminal() -> Console:
    """Standard error, which is a terminal, for a progress bar."""
    from rich.console import Console

    return Console(
        file=sys.stderr, force_terminal=True, highlight=False, color_system="auto" if wants_colour(sys.stderr) else None
    )


@contextmanager
def progress_bar(what: str, unit: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar that shows activity from the start, and progress once it is reported; see `named_progress_bar`."""
    with named_progress_bar(what, unit, quiet=quiet) as report:
        yield None if report is None else lambda done, total: report(done, total, what)


@contextmanager
def named_progress_bar(what: str, unit: str, *, quiet: bool) -> Iterator[Callable[[float, int, str], None] | None]:
    """A bar that shows activity from the start, and progress once it is reported.

    Args:
        what: description of the work.
        unit: what is counted, for example "images".
        quiet: show no bar.

    Yields:
        A function to call with (done, total, description of the work at hand); None if there is no bar.
    """
    if quiet or not is_terminal(sys.stderr):
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from modelspace.cli.time_left import TimeLeft

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}", markup=False),
        TimeLeft(),
    )
    with Progress(*columns, console=terminal(), transient=True) as bar:
        task = bar.add_task(printable(what), total=None, count="")

        def report(done: float, total: int, at_hand: str) -> None:
            bar.update(
                task,
                completed=done,
                total=total,
                count=f"{int(done)}/{total} {unit}",
                description=printable(at_hand),
            )

        yield report
