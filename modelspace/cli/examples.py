"""The examples at the end of a help text."""

from __future__ import annotations

from textwrap import indent


def epilog(examples: str) -> str:
    r"""Example command lines as the end of a help text; the \b before them prevents rewrapping."""
    return "\b\nExamples:\n" + indent(examples.strip("\n"), "  ")
