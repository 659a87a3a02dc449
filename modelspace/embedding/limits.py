"""An end to model code that does not end by itself."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from modelspace.errors import EmbeddingError

#: Seconds that loading, and checks with the pass, may each take beyond `max_seconds`, which is a limit of an estimate.
PATIENCE = 30.0

#: Seconds after which code that caught the exception is stopped once more.
_REPEAT = 5.0


class _TimeUp(BaseException):
    """Raised inside model code; no Exception, so that `except Exception` in it does not stop it."""


@contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Stop Python code that runs longer than a limit; what runs in C is stopped when it returns.

    In the main thread an alarm is used, where the system has them and the program does not use it otherwise. It also
    ends `time.sleep`. In other threads a timer raises the exception.

    Args:
        seconds: the limit; None: no limit.
        what: what is limited, as the subject of a sentence.

    Raises:
        EmbeddingError: the time was up.
    """
    if seconds is None:
        yield
        return
    is_main = threading.current_thread() is threading.main_thread()
    has_alarm = hasattr(signal, "SIGALRM") and is_main and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    limit: _Alarm | _Timer = _Alarm(seconds) if has_alarm else _Timer(seconds)
    try:
        limit.start()
        yield
    except BaseException as error:
        # DuckDB makes an error of its own of an alarm.
        if isinstance(error, _TimeUp) or (limit.is_over and isinstance(error, RuntimeError)):
            raise EmbeddingError(
                f"{what} did not end within {seconds:g} seconds; nothing was stored",
                "allow more with `max_seconds=`, use another `device=`, or see where the model's code does not end",
            ) from None
        raise
    finally:
        limit.stop()


class _Alarm:
    """SIGALRM, whose handler runs in the main thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False

    def start(self) -> None:
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds, _REPEAT)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self.is_over = True
        raise _TimeUp


class _Timer:
    """A thread that raises the exception in the thread that made this object."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self._target = ctypes.c_ulong(threading.get_ident())
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="modelspace time limit", daemon=True).start()

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            # An exception that was set and not yet raised would end what comes after.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(self._target, None)

    def _watch(self) -> None:
        wait = self.seconds
        while not self._stopped.wait(wait):
            with self._lock:
                if not self._stopped.is_set():
                    self.is_over = True
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._target, ctypes.py_object(_TimeUp))
            wait = _REPEAT
