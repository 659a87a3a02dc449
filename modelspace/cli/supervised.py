"""Commands under a limit of memory (`ulimit -v`), in a child process, so that somebody is left to say what happened.

Where a thread, a mapping or a thread's own data gets no memory, DuckDB, FAISS and the C library end the process, which
nothing in it can catch. So the process that the caller started waits for the child, passes signals on to it, and exits
as it does. Without such a limit, which is the rule, there is no second process.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from modelspace.errors import ModelspaceError

#: Signals by which a library ends the process. Others exit: OpenBLAS with 1, the loader of shared libraries with 127.
CRASHES = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"})

#: Signals that are passed on.
_PASSED = frozenset({"SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"})

#: prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


#: Exit codes from here on say that a signal ended the command.
_SIGNALLED = 129

#: Where the child notes that it ends by itself.
_notes: list[int] = []


class CrashError(ModelspaceError):
    """A library ended the process that ran the command."""


def limit() -> int | None:
    """Bytes of address space that this process may use, or None: as many as it likes (always, but on Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def enter() -> int | None:
    """Go on in a child process if memory is limited.

    Returns:
        None in the process that is to run the command. In the one that waited for it, its exit code, 1 after a crash
        that was reported.
    """
    allowed = limit()
    if allowed is None:
        return None
    passed = {getattr(signal, name) for name in _PASSED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*passed, signal.SIGCHLD})
    parent = os.getpid()
    try:
        reading, writing = os.pipe()
        child = os.fork()
    except OSError:  # no more processes, or files: without one, then
        child = 0
    if child:
        os.close(writing)
        code = _wait(child, passed)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.set_blocking(reading, False)
        return _ended(code, _has_note(reading), allowed)
    if os.getpid() != parent:
        os.close(reading)
        _notes.append(writing)
        _end_with(parent)
        _keep_words_of_libraries_out()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return None


def leave() -> None:
    """Note that the command has ended, and has said why if it failed."""
    while _notes:
        with suppress(OSError):
            os.write(_notes.pop(), b".")


def _has_note(reading: int) -> bool:
    try:
        return bool(os.read(reading, 1))
    except BlockingIOError:  # a process that the child started still holds the other end
        return False


def _wait(child: int, passed: set[signal.Signals]) -> int:
    """Exit code of the child, -n if signal n ended it; `passed` and SIGCHLD are blocked."""
    while True:
        arrived = signal.sigwaitinfo({*passed, signal.SIGCHLD})
        if arrived.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif arrived.si_code <= 0:  # from a process; what a terminal sends, it sends to the child as well
            os.kill(child, arrived.si_signo)


def _ended(code: int, noted: bool, allowed: int) -> int:
    """The exit code for that of the child; reports a crash, and ends as the child did by any other signal."""
    name = signal.Signals(-code).name if code < 0 else ""
    if name in CRASHES or (0 <= code < _SIGNALLED and not noted):
        from modelspace.cli.failures import OUT_OF_MEMORY, report

        cause = f", by {name}" if name else ""
        message = (
            f"a library ended the command{cause}: this process may use {allowed >> 20:,} MB of address space; what was "
            "stored until then is complete, and nothing else was changed"
        )
        return report(CrashError(message, OUT_OF_MEMORY))
    if name:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code if code >= 0 else 128 - code


def _end_with(parent: int) -> None:
    """Let the child be killed when its parent is, which is what the caller sees and kills."""
    with suppress(Exception):  # ctypes may be missing, or get no memory: then it goes on alone
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def _keep_words_of_libraries_out() -> None:
    """Keep Python's standard error, but not what libraries write of their own end, which tells the user nothing."""
    with suppress(OSError, AttributeError):
        kept = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        sys.stderr = open(kept, "w", 1, sys.stderr.encoding, sys.stderr.errors)  # noqa: SIM115 - open until the end
        os.dup2(null, 2)
        os.close(null)
