"""Words to the person, on standard error, so that standard output stays data."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from modelspace.cli.screen import printable


def say(text: str, *, quiet: bool) -> None:
    """One line, unless the user wants quiet."""
    if not quiet:
        print(printable(text), file=sys.stderr)


def say_all(lines: Iterable[str], *, quiet: bool) -> None:
    for line in lines:
        say(line, quiet=quiet)


def suggest(command: str, *, quiet: bool) -> None:
    """What to type next."""
    say(f"next: {command}", quiet=quiet)
