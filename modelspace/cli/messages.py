"""Messages to the user, on standard error, so that standard output has only data."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from modelspace.cli.screen import printable
from modelspace.cli.spelling import in_flags


def say(text: str, *, quiet: bool) -> None:
    """Print one line, unless `quiet`."""
    if not quiet:
        # What a command did and its exit code don't depend on whether a message can be shown.
        with suppress(OSError):
            print(printable(text), file=sys.stderr)


def say_all(lines: Iterable[str], *, quiet: bool) -> None:
    """Print several lines, unless `quiet`."""
    for line in lines:
        say(line, quiet=quiet)


def note(remarks: Iterable[str], *, quiet: bool) -> None:
    """Print notes of the library, one per line."""
    say_all((f"note: {in_flags(remark)}" for remark in remarks), quiet=quiet)


def now(*, quiet: bool) -> Callable[[str], None]:
    """A function that prints a note of the library at once, also while a progress bar is shown."""
    return lambda remark: note([remark], quiet=quiet)


@contextmanager
def timed(verbose: bool, *, quiet: bool) -> Iterator[None]:
    """Print how long the phases of the block took, at its end or where an exception leaves it, if `verbose`."""
    if not verbose or quiet:
        yield
        return
    from modelspace.cli import figures
    from modelspace.timing import recorded

    started = time.perf_counter()
    with recorded() as phases:
        try:
            yield
        finally:
            total = time.perf_counter() - started
            parts = [f"{name} {figures.seconds(seconds)}" for name, seconds in phases.items()]
            parts.append(f"other {figures.seconds(max(total - sum(phases.values()), 0.0))}")
            say(f"time: {', '.join(parts)}; {figures.seconds(total)} in all", quiet=False)


def suggest(command: str, *, quiet: bool) -> None:
    """Print what to type next."""
    say(f"next: {command}", quiet=quiet)
