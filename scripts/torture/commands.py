"""Running commands of the command line in this process, and what a run must never do."""

from __future__ import annotations

import io
import signal
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Exit code of an error inside the program.
INTERNAL = 70

#: Seconds by the clock per second of a processor that a command may take, since other programs use the machine too.
_PATIENCE = 10

#: Longest message in characters: a sentence and a hint, with a few names in them.
LONGEST = 2000


@dataclass(frozen=True)
class Answer:
    """What a command printed.

    Attributes:
        words: the command.
        code: exit code.
        output: standard output, bytes.
        errors: standard error.
        seconds: that it took.
    """

    words: tuple[str, ...]
    code: int
    output: bytes
    errors: str
    seconds: float

    @property
    def refused(self) -> bool:
        """Whether it ended with an error that is named."""
        return self.code not in (0, INTERNAL)

    def faults(self) -> list[str]:
        """What no command may do, whatever it reads; empty if there is nothing."""
        faults = []
        if self.code not in (0, 1, 2, 3):
            faults.append(f"exit code {self.code}: {self.errors[-300:]}")
        if self.code and "error:" not in self.errors and not self.output:
            faults.append("it failed without a word")
        messages = [line for line in self.errors.splitlines() if line.startswith(("error:", "hint:"))]
        if any(len(line) > LONGEST for line in messages):
            faults.append(f"a message of {max(map(len, messages))} characters")
        if controls := control_characters(self.errors):
            faults.append(f"control characters in messages: {controls}")
        return faults


def control_characters(text: str, keep: str = "\n") -> list[str]:
    """Characters that move the cursor, hide text or change its direction; also lone surrogates."""
    return sorted({c for c in text if c not in keep and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")})


class TooLongError(Exception):
    """A command did not end in time."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLongError(f"still busy after {seconds:g} s of a processor, or {_PATIENCE * seconds:g} s in all")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, _PATIENCE * seconds)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


class _Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(words: Sequence[str], seconds: float = 60.0, *, terminal: bool = False) -> Answer:
    """Run `modelspace WORDS` in this process.

    Args:
        words: the arguments.
        seconds: of a processor after which it is ended, which counts as exit code 70.
        terminal: whether standard output says that it is a terminal.
    """
    from modelspace.cli.app import app

    output, errors = io.BytesIO(), io.BytesIO()
    streams: dict[str, Any] = {
        "stdout": (_Terminal if terminal else io.TextIOWrapper)(
            output, "utf-8", errors="surrogateescape", write_through=True
        ),
        "stderr": io.TextIOWrapper(errors, "utf-8", errors="backslashreplace", write_through=True),
        "stdin": io.TextIOWrapper(io.BytesIO(), "utf-8"),
    }
    before = {name: getattr(sys, name) for name in streams}
    start = time.perf_counter()
    code: object = 0
    try:
        for name, stream in streams.items():
            setattr(sys, name, stream)
        with _at_most(seconds):
            app(args=list(words), prog_name="modelspace")
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # what got past the place where errors become messages
        code = INTERNAL
        streams["stderr"].write(f"uncaught {type(error).__name__}: {error}")
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
    number = code if isinstance(code, int) else int(code is not None)
    message = errors.getvalue().decode("utf-8", "backslashreplace")
    return Answer(tuple(words), number, output.getvalue(), message, time.perf_counter() - start)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Path inside the folder -> size and time of change in ns, of every file."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def changed_outside(before: dict[str, tuple[int, int]], folder: Path, inside: Sequence[str]) -> list[str]:
    """Files that were written, changed or deleted, except below the paths `inside`."""
    after = files(folder)
    return sorted(
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path) and not path.startswith(tuple(inside))
    )
