"""What a terminal can show, and which characters must not reach it."""

from __future__ import annotations

import os
from typing import TextIO

from modelspace.names import printable as printable


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is an open terminal."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour(stream: TextIO) -> bool:
    """Whether colours and bold may be used: a capable terminal, and NO_COLOR (no-color.org) not set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def has_unicode(stream: TextIO) -> bool:
    """Whether a stream encodes all of Unicode."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")
