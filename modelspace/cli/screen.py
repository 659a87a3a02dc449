"""What a terminal can show, and what must not reach it."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour(stream: TextIO) -> bool:
    """Whether colours and bold may be used: a terminal that can, and NO_COLOR (no-color.org) not set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def has_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def printable(text: str, keep: str = "") -> str:
    """The text with control and invisible characters spelled out, so that none of them can move the cursor or hide.

    Args:
        text: from anywhere, for example a tag that somebody else wrote.
        keep: characters that may stay.

    >>> printable("red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape", "replace").decode() for c in text)
