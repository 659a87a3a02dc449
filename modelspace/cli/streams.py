"""Standard streams that the caller has closed (`modelspace list >&-`).

A file opened later would get the number of a closed stream: DuckDB would open the registry as number 1, and whatever a
library prints would be written into it. So closed numbers are occupied before anything else is opened.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class ClosedOutput(io.RawIOBase):
    """A standard output that was closed at the start: the first write fails, as it does for other programs.

    Later ones do nothing: Python repeats a failed write when it exits, and would print a traceback of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._failed = False

    def writable(self) -> bool:
        """True, so that it can be buffered like any other output."""
        return True

    def fileno(self) -> int:
        """The number of standard output, which is occupied."""
        return 1

    def write(self, data: Any) -> int:
        """Fail once.

        Raises:
            OSError: the first time; it names the stream.
        """
        if self._failed or not len(data):  # click writes nothing, to see what kind of stream it is
            return len(data)
        self._failed = True
        raise OSError(errno.EBADF, f"write error: {os.strerror(errno.EBADF)}", "standard output")


def occupy() -> None:
    """Open the null device in place of each closed standard stream. Call it before any file is opened.

    A closed standard input is empty and no terminal. What is written to a closed standard error is lost, and changes
    nothing else. What is written to a closed standard output is an error: the caller would take the result for empty.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one; children inherit it, as they do other standard streams.
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the end
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(ClosedOutput(), encoding="utf-8", write_through=True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the end
