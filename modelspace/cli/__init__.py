"""The command line. A command is: read the words, make one call on `modelspace.workspace.ModelSpace`, print.

`modelspace.cli.commands` has the table of commands; each is one file, imported when it is used. Data goes to standard
output, everything else to standard error, and an exception becomes two lines and an exit code in
`modelspace.cli.failures`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the interpreter.

    Args:
        words: the arguments; default: those of the process.
    """
    try:
        from modelspace.cli.app import app

        app(args=None if words is None else list(words), prog_name="modelspace")
        sys.exit(0)
    except KeyboardInterrupt as error:
        # Only an interruption while the command line itself is being imported comes here.
        from modelspace.cli.failures import report

        sys.exit(report(error))
