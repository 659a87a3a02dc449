"""How much memory this process has used, for the benchmarks."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_mb() -> float:
    """The largest memory of this process so far, in MB, of 10^6 bytes.

    Linux hands on the largest memory of a process to those that it starts, but for the one that /proc says.
    """
    with suppress(OSError):
        return _status("VmHWM")
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6


def own_mb() -> float:
    """The memory of this process that is no file's, at present, in MB; 0 where the system doesn't say."""
    with suppress(OSError):
        return _status("RssAnon")
    return 0.0


def _status(field: str) -> float:
    """A field of /proc/self/status, in MB.

    Raises:
        OSError: the system has no such file, or no such field in it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024 / 1e6
    raise OSError(f"no {field}")
