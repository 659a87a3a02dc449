"""Messages to the user, on standard error, so that standard output has only data."""

from __future__ import annotations

import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from modelspace.cli.screen import printable
from modelspace.cli.spelling import in_flags
from modelspace.errors import ModelspaceWarning
from modelspace.plugins import PlugInWarning


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
def warnings_as_notes(*, quiet: bool) -> Iterator[None]:
    """Print the library's own warnings as notes, each text once; all others are shown as Python does."""
    shown: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ModelspaceWarning)
        python_way = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *others: Any, **more: Any) -> None:
            if not issubclass(category, ModelspaceWarning):
                python_way(message, category, *others, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                note([str(message)], quiet=quiet)

        warnings.showwarning = show
        yield


def use_notes(command: Any) -> Any:
    """Let a command, or its subcommands, print the library's warnings as notes, and return it."""
    for subcommand in getattr(command, "commands", {}).values():
        use_notes(subcommand)
    run = command.callback
    if run is not None:

        @functools.wraps(run)
        def noted(*arguments: Any, **options: Any) -> Any:
            with warnings_as_notes(quiet=bool(options.get("quiet"))):
                return run(*arguments, **options)

        command.callback = noted
    return command


def show_warnings_plainly() -> None:
    """Show warnings about plug-ins as one line, without the line of code that Python would add."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, PlugInWarning):
            say(f"warning: {message}", quiet=False)
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show


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
