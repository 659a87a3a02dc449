"""Long tables on a terminal go through the pager: $PAGER, else less; `PAGER=cat` or an empty PAGER turns it off."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from modelspace.cli.screen import is_terminal

#: For less, unless LESS says otherwise: quit if all fits, keep colours, leave the text on the screen.
_LESS = "FRX"


def program() -> list[str]:
    """The words of the pager's command; empty if there is none, or it is turned off."""
    words = os.environ.get("PAGER")
    if words is None:
        less = shutil.which("less")
        return [less] if less else []
    try:
        parts = shlex.split(words)
    except ValueError:  # an unclosed quote
        return []
    return [] if not parts or os.path.basename(parts[0]) == "cat" else parts


def is_long(text: str) -> bool:
    """Whether a text does not fit the terminal that both reads and shows; False if there is none."""
    if not (is_terminal(sys.stdout) and is_terminal(sys.stdin)) or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return text.count("\n") >= shutil.get_terminal_size().lines


def show(text: str) -> bool:
    """Show a text in the pager until the user leaves it.

    Returns:
        False if nothing was shown: there is no pager, or it can't be started.
    """
    words = program()
    if not words:
        return False
    sys.stdout.flush()
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, env={"LESS": _LESS, **os.environ})
    except OSError:
        return False
    assert process.stdin is not None
    with _interruptions_left_to_the_pager():
        # A pager that is left early closes the pipe; that is no error.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(text.encode(sys.stdout.encoding or "utf-8", "replace"))
        process.wait()
    return True


@contextmanager
def _interruptions_left_to_the_pager() -> Iterator[None]:
    """Ctrl-C reaches the pager as well, where it stops a search, and must not end the command behind its back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
