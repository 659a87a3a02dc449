"""The examples below a help text."""

from __future__ import annotations

from textwrap import indent


def epilog(examples: str) -> str:
    """Example command lines as the end of a help text; the mark before them keeps their lines as they are."""
    return "\b\nExamples:\n" + indent(examples.strip("\n"), "  ")
