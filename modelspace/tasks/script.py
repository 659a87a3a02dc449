"""A user's own script as the measurement: a command line with placeholders, whose last line of output is the score.

The command is split into arguments as a shell would split it, and placeholders are filled in afterwards, so that a
value with spaces stays one argument; no shell runs, so `|`, `>` and `$HOME` mean nothing. The program is looked up on
PATH: `python` is the first one there, which need not be the one that runs this package.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import queue
import re
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.names import did_you_mean
from modelspace.tasks.data import LABEL, PATH, LabelledImages
from modelspace.tasks.splits import Split

#: What may be written in braces, and what is put there.
PLACEHOLDERS = {
    "uri": "address of the model, as it was added",
    "name": "of the model in the registry",
    "weights": "path of the weights file that the model was added with",
    "layer": "of the model, as it was added",
    "data": "path of the folder or table of the task",
    "train": "path of a CSV file with the columns path and label: the images to train on",
    "test": "path of such a file: the images to score",
    "seed": "of the split, a whole number",
    "metric": "of the task",
}

#: Lines of output that a result or an error keeps.
LAST = 10
#: Seconds that a script has to end itself before it is killed, and to pass on output that is still in its pipes.
GRACE = 3.0

#: A doubled brace around a word stands for a single one; other braces are left alone.
_FIELD = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_HINT = "print the score alone on the last line of the output, as in: print(0.912)"

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class ScriptResult:
    """What a script measured.

    Attributes:
        score: the number on its last line.
        seconds: wall time.
        last_lines: of its standard output, the score among them.
    """

    score: float
    seconds: float
    last_lines: tuple[str, ...]


def run_script(
    command: str, values: Mapping[str, str], *, timeout: float | None = None, on_line: OnLine | None = None
) -> ScriptResult:
    """Run a command and read the score from its last line.

    The command runs in the current folder with the current environment, without input. Whatever it has started in the
    background is ended with it.

    Args:
        command: with placeholders, see `PLACEHOLDERS`.
        values: of placeholders.
        timeout: seconds after which it is ended; None: never.
        on_line: called with each line of output and of errors as it comes, without its end.

    Raises:
        UsageError: see `arguments`.
        NotFoundError: there is no such program.
        ModelspaceError: it ran too long, failed, or its last line of output is not a finite number alone.
    """
    words = arguments(command, values)
    started = time.monotonic()
    process = _start(words)
    lines = _Lines(process)
    try:
        finished = lines.follow(None if timeout is None else started + timeout, on_line)
    finally:
        _end(process)
    lines.rest(on_line)
    if not finished or process.returncode:
        reason = _ending(process.returncode) if finished else f"ran longer than {timeout:g} seconds"
        raise ModelspaceError(f"{words[0]} {reason}{_quoted(lines.last_of_both())}", f"the call: {shlex.join(words)}")
    return ScriptResult(_score(lines.output, words[0]), time.monotonic() - started, tuple(lines.output))


def arguments(command: str, values: Mapping[str, str]) -> list[str]:
    """The program and its arguments, with placeholders filled in.

    >>> arguments("python tune.py --model {uri} '{name}.pt'", {"uri": "timm:resnet50", "name": "my net"})
    ['python', 'tune.py', '--model', 'timm:resnet50', 'my net.pt']

    Args:
        command: as in a shell; {{word}} stands for {word}.
        values: of placeholders.

    Raises:
        UsageError: a quote is not closed, the command is empty, or a placeholder is unknown or has no value.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"the command can't be split into arguments: {error}", f"the command is: {command}") from error
    if not words:
        raise UsageError("the command is empty", "example: python finetune.py {uri} {train} {test}")
    return [_FIELD.sub(lambda match: _value(match, values), word) for word in words]


def write_split(images: LabelledImages, split: Split, folder: Path) -> dict[str, str]:
    """Write the parts of a split as tables for a script.

    Args:
        images: the data set.
        split: of it.
        folder: existing, for train.csv and test.csv.

    Returns:
        {"train": path, "test": path}: CSV files in UTF-8 with the columns path (absolute) and label (the name of the
        class, or the number), which `modelspace.tasks.data.read` reads too.
    """
    written = {}
    for part, numbers in (("train", split.train), ("test", split.test)):
        table = (folder / f"{part}.csv").absolute()
        with table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow((PATH, LABEL))
            writer.writerows((images.files[number].absolute(), _label(images, number)) for number in numbers)
        written[part] = str(table)
    return written


def _label(images: LabelledImages, number: int) -> str:
    label = images.labels[number]
    return images.classes[int(label)] if images.classes else repr(float(label))


def _value(match: re.Match[str], values: Mapping[str, str]) -> str:
    doubled, name = match.groups()
    if doubled is not None:
        return f"{{{doubled}}}"
    if name in values:
        return values[name]
    usable = ", ".join(f"{{{known}}}" for known in values)
    if name in PLACEHOLDERS:
        raise UsageError(f"{{{name}}} has no value for this model and task", f"use {usable}")
    meant = did_you_mean(name, list(PLACEHOLDERS), "example: python finetune.py {uri} {train} {test}")
    raise UsageError(f"there is no placeholder {{{name}}}; there are {usable}", meant)


# --- the process


def _start(words: Sequence[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Python scripts otherwise keep their lines back until they end.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # A group of its own, so that whatever the script starts ends with it.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no program {words[0]}", "give its path, or put its folder on PATH") from error
    except OSError as error:
        raise UsageError(
            f"{words[0]} can't be run: {error.strerror}", "begin with the program, as in: python"
        ) from error


class _Lines:
    """The lines of a process as they come; the last ones are kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.output: deque[str] = deque(maxlen=LAST)
        self.errors: deque[str] = deque(maxlen=LAST)
        self._process = process
        self._queue: queue.Queue[tuple[deque[str], str]] = queue.Queue()
        self._readers = []
        for stream, kept in ((process.stdout, self.output), (process.stderr, self.errors)):
            assert stream is not None
            reader = threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, stream: IO[str], kept: deque[str]) -> None:
        with contextlib.suppress(ValueError), stream:
            for line in stream:
                self._queue.put((kept, line.rstrip()))

    def follow(self, deadline: float | None, on_line: OnLine | None) -> bool:
        """Pass lines on until the process ends; False if the deadline came first."""
        while self._process.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                return False
            with contextlib.suppress(queue.Empty):
                self._take(self._queue.get(timeout=0.05), on_line)
        return True

    def rest(self, on_line: OnLine | None) -> None:
        """Pass on what was still in the pipes of a process that has ended."""
        for reader in self._readers:
            reader.join(GRACE)
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._queue.get_nowait(), on_line)

    def _take(self, entry: tuple[deque[str], str], on_line: OnLine | None) -> None:
        kept, line = entry
        if line.strip():
            kept.append(line)
        if on_line is not None:
            on_line(line)

    def last_of_both(self) -> Sequence[str]:
        """The last lines of the errors, or of the output if there are none."""
        return self.errors or self.output


def _end(process: subprocess.Popen[str]) -> None:
    """End the whole group of processes: politely if the script still runs, and what is left at once."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


# --- what it said


def _score(lines: Sequence[str], program: str) -> float:
    if not lines:
        raise ModelspaceError(f"{program} printed nothing", _HINT)
    last = lines[-1].strip()
    try:
        value = float(last)
    except ValueError as error:
        raise ModelspaceError(f"the last line of {program} is not a number: {_short(last)}", _HINT) from error
    if not math.isfinite(value):
        raise ModelspaceError(f"the score that {program} printed is {last}", "a failed training is not a score")
    return value


def _ending(code: int) -> str:
    if code > 0:
        return f"failed with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _quoted(lines: Sequence[str]) -> str:
    """The last lines of a script, after a colon, each on a line of its own."""
    return ":" + "".join(f"\n    {_short(line)}" for line in lines) if lines else ""


def _short(line: str, most: int = 300) -> str:
    return line if len(line) <= most else line[: most - 3] + "..."
