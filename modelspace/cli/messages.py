"""Words to the person, on standard error, so that standard output stays data."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from modelspace.cli.screen import printable
from modelspace.cli.spelling import in_flags


def say(text: str, *, quiet: bool) -> None:
    """One line, unless the user wants quiet."""
    if not quiet:
        print(printable(text), file=sys.stderr)


def say_all(lines: Iterable[str], *, quiet: bool) -> None:
    for line in lines:
        say(line, quiet=quiet)


def note(remarks: Iterable[str], *, quiet: bool) -> None:
    """The library's remarks, one a line."""
    say_all((f"note: {in_flags(remark)}" for remark in remarks), quiet=quiet)


def suggest(command: str, *, quiet: bool) -> None:
    """What to type next."""
    say(f"next: {command}", quiet=quiet)
