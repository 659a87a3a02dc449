"""SIGTERM and SIGHUP end a command as Ctrl-C does: files and locks are cleaned up, and one line says what happened."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from modelspace.errors import ModelspaceError

#: What a command says that was ended by each signal.
WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}

#: Seconds that a thread that was started by a model may take to end.
GRACE = 1.0

#: Seconds after which a process that can't handle a signal is ended.
STUCK = 20.0

_received: list[int] = []


class Terminated(KeyboardInterrupt):
    """The process was asked to end; handled like Ctrl-C."""


def install() -> None:
    """Turn the signals into exceptions. One that the caller ignores, as `nohup` does, stays ignored.

    Python raises them when a call into a library returns. If none returns for `STUCK` seconds, the process ends without
    cleaning up, as it would have without this: a registry is never left half done.
    """
    for name in WORDS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    if os.name == "posix":
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reading,), name="modelspace signals", daemon=True).start()


def _watch(reading: int) -> None:
    """End the process if Python can't handle a signal; the system writes each signal's number into a pipe."""
    numbers = {getattr(signal, name, None) for name in WORDS}
    while data := os.read(reading, 1):
        if data[0] not in numbers or signal.getsignal(data[0]) == signal.SIG_IGN:
            continue
        deadline = time.monotonic() + STUCK
        while not _is_handled() and time.monotonic() < deadline:
            time.sleep(0.05)
        if not _is_handled():
            with suppress(OSError, ValueError, AttributeError):  # not always number 2: `modelspace.cli.supervised`
                os.write(
                    sys.stderr.fileno(),
                    f"{WORDS[signal.Signals(data[0]).name]} in a call that does not return\n".encode(),
                )
            os._exit(128 + data[0])


def _is_handled() -> bool:
    """Whether Python has handled a signal, if only by noting it until a transaction is complete."""
    interrupts = sys.modules.get("modelspace.registry.interrupts")
    return bool(_received or (interrupts is not None and interrupts.noted))


def uninstall() -> None:
    """Let the signals end the process at once: all that is left to do is to exit."""
    for name in WORDS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def is_interruption(error: BaseException) -> bool:
    """Whether an exception is one of ours, or what a library made of it: DuckDB raises an error of its own."""
    return isinstance(error, KeyboardInterrupt) or bool(_received and not isinstance(error, ModelspaceError))


def word() -> str:
    """What ended the command, "interrupted" for example."""
    return WORDS[signal.Signals(_received[0]).name] if _received else "interrupted"


def exit_code() -> int:
    """128 + the signal's number, what a shell reports for a program that it ended."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def leave(code: int) -> NoReturn:
    """Exit, also if a model has started threads that never end, for which Python would wait."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in (thread for thread in others if not thread.daemon):
        thread.join(GRACE)
        if thread.is_alive():
            _finish()
            os._exit(code)
    sys.exit(code)


def end(code: int) -> NoReturn:
    """End the process after `leave`, which waited for threads.

    Taking the interpreter and the libraries apart takes a fifth of a query, and nothing comes of it: registries and
    files are closed. Where torch was loaded, or somebody traces the program, the interpreter ends as usual.
    """
    if "torch" not in sys.modules and not _is_traced() and _finish():
        os._exit(code)
    sys.exit(code)


def _is_traced() -> bool:
    """Whether a profiler, a debugger or coverage is at work, which may print at the end."""
    tools = getattr(sys, "monitoring", None)  # since Python 3.12
    return bool(sys.gettrace() or sys.getprofile() or (tools and any(map(tools.get_tool, range(6)))))


def _finish() -> bool:
    """Do what `sys.exit` would before it takes the interpreter apart; False if an output can't be written."""
    atexit._run_exitfuncs()  # noqa: SLF001 - what sys.exit would do, without waiting for threads
    complete = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            complete = False
    return complete
