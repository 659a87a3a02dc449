"""The one place where exceptions become two lines on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import typer

from modelspace.cli import signals
from modelspace.cli.screen import printable, wants_colour
from modelspace.cli.spelling import in_flags
from modelspace.errors import ModelspaceError, UsageError
from modelspace.names import did_you_mean

DEBUG = "MODELSPACE_DEBUG"

#: sysexits.h: an error inside the program.
INTERNAL = 70
#: 128 + SIGPIPE, what a shell reports for a program ended by this signal.
OUTPUT_CLOSED = 141

#: Longest line of a message, in characters; what is left of a longer one at its beginning and at its end.
LONGEST, _BEGINNING, _END = 1500, 1000, 300

#: What to do when memory is used up.
OUT_OF_MEMORY = (
    "close other programs or raise the limit (ulimit -v); of a model, run fewer images at once: --batch-size 1"
)


class UnknownCommandError(UsageError):
    """There is no command of that name."""

    def __init__(self, name: str, commands: Iterable[str]) -> None:
        super().__init__(
            f"there is no command {name!r}", did_you_mean(name, commands, "'modelspace --help' lists the commands")
        )


def report(error: BaseException) -> int:
    """Print the error, and return the exit code."""
    if isinstance(error, BrokenPipeError):
        # The reader closed the pipe (`modelspace list | head -1`). Flushing the rest at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    if signals.is_interruption(error):
        _print("", f"{signals.word()}; {_state()}")
        return signals.exit_code()
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    message, hint, code = _describe(error)
    _print("error", message)
    if hint:
        _print("hint", hint)
    return code


def _state() -> str:
    """What an interrupted command has changed; the module is only loaded by a command that opened a registry."""
    connection = sys.modules.get("modelspace.registry.connection")
    if connection is None or not connection.changes.committed:
        return "the registry is unchanged"
    return "what was finished until then is stored in the registry"


def _describe(error: BaseException) -> tuple[str, str, int]:
    """Message, hint and exit code."""
    if isinstance(error, ModelspaceError):
        return in_flags(error.message), in_flags(error.hint), error.exit_code
    if _is_out_of_memory(error):
        return "the memory of this machine, or what is allowed of it, is used up", OUT_OF_MEMORY, 1
    if isinstance(error, typer.Abort):
        return "aborted", "", 1
    # Parsing errors are typer's own class or click's, depending on the version of typer; both have this method.
    if hasattr(error, "format_message"):
        return (*_of_parsing(error), UsageError.exit_code)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}", "", ModelspaceError.exit_code
    if isinstance(error, ModuleNotFoundError) and f"{error.name}.".startswith("modelspace."):
        hint = "look at the permissions of its files, or install it again"
        return f"a part of modelspace can't be read: {error.name}", hint, ModelspaceError.exit_code
    text = str(error).strip().splitlines()
    name = type(error).__name__
    return (
        f"unexpected {name}: {text[0]}" if text else f"unexpected {name}",
        f"this is a bug in modelspace: set {DEBUG}=1 to see the traceback, and report it with what 'modelspace doctor' "
        "prints",
        INTERNAL,
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: for an object, a library, or in torch or DuckDB, which are not imported for that."""
    is_unloadable = isinstance(error, ImportError) and ("failed to map" in str(error) or "allocate" in str(error))
    is_threadless = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    is_named = type(error).__name__ in ("OutOfMemoryError", "OutOfMemoryException")
    return isinstance(error, MemoryError) or is_named or is_unloadable or is_threadless


def _of_parsing(error: Any) -> tuple[str, str]:
    """Message and hint of a parsing error."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "modelspace"
    hint = f"see '{path} --help'"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        if context is None or context.parent is None:
            hint = f"options come after the command: modelspace COMMAND {option}"
        elif error.possibilities:
            hint = f"did you mean {' or '.join(error.possibilities)}? {hint}"
        return f"there is no option {option}", hint
    message = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    return message[:1].lower() + message[1:], hint


def _shortened(line: str) -> str:
    """A line of a message without its middle if it is too long: it quotes what somebody typed or stored."""
    if len(line) <= LONGEST:
        return line
    left_out = len(line) - _BEGINNING - _END
    return f"{line[:_BEGINNING]} ... [{left_out:,} characters] ... {line[-_END:]}"


def _print(label: str, text: str) -> None:
    text = "\n".join(map(_shortened, printable(text, keep="\n").split("\n")))
    if label:
        start, end = (
            ("\033[1;31m" if label == "error" else "\033[1m", "\033[0m") if wants_colour(sys.stderr) else ("", "")
        )
        text = f"{start}{label}:{end} {text}"
    with suppress(OSError):  # a full disk behind standard error must not hide the exit code
        print(text, file=sys.stderr)
