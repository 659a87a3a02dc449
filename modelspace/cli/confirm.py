"""Asking before much is deleted."""

from __future__ import annotations

import sys

import typer

from modelspace.cli.screen import is_terminal, printable
from modelspace.errors import UsageError


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, unless the answer was given as ``--yes``.

    Args:
        question: what will be done, without a question mark.
        yes: the option ``--yes``.

    Raises:
        UsageError: there is no terminal to ask on.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise UsageError(f"{question}? there is no terminal to ask on", "--yes does it without asking")
    typer.confirm(printable(question), abort=True, err=True)
