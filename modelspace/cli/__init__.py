"""The command line. A command parses its options, makes one call on `modelspace.workspace.ModelSpace`, and prints.

`modelspace.cli.commands` has the table of commands; each is one file, imported on use. Data goes to standard output,
everything else to standard error. `modelspace.cli.failures` turns exceptions into two lines and an exit code.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        words: the arguments; default: those of the process.
    """
    from modelspace.cli import signals, streams, supervised

    if "_MODELSPACE_COMPLETE" in os.environ and words is None:
        _complete()
    # Python looks for garbage after every 700 new objects, which takes 7% of a query: imports make none.
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    streams.occupy()
    of_child = supervised.enter()
    if of_child is not None:
        sys.exit(of_child)
    code = 0  # no built-in `list` here: this package has a module of that name
    try:
        signals.install()  # inside: a signal may arrive before this returns
        from modelspace.cli.app import app
        from modelspace.cli.messages import show_warnings_plainly

        show_warnings_plainly()
        app(args=None if words is None else [*words], prog_name="modelspace")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt as error:
        # Only reached when interrupted while the command line itself is being imported, or while it reports.
        from modelspace.cli.failures import report

        code = report(error)
    finally:
        signals.uninstall()
    supervised.leave()
    signals.leave(code)


def run() -> NoReturn:
    """Run the command line as a program: as `main`, and end the process without taking the interpreter apart."""
    try:
        main()
    except SystemExit as ended:
        from modelspace.cli import signals

        signals.end(ended.code if isinstance(ended.code, int) else 0)


def _complete() -> None:
    """Answer the shell's question for completions and exit, if that takes no typer."""
    from modelspace.cli import words

    text = words.answer()
    if text is not None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        os._exit(0)  # nothing is open; taking the interpreter apart takes a tenth of the time
