"""How a server runs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from modelspace.errors import UsageError

#: Where the server listens unless told otherwise.
HOST, PORT = "127.0.0.1", 8265

#: Most processes of one server.
MOST_WORKERS = 64


@dataclass(frozen=True)
class Settings:
    """How the server runs.

    Attributes:
        host: name or address to listen at.
        port: 0 for any free one.
        token_file: file of the token that every request must carry; None for no token.
        workers: number of processes.
    """

    host: str = HOST
    port: int = PORT
    token_file: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"the port must be in 0..65535, not {self.port}", "example: `port=8265`")
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"the number of workers must be in 1..{MOST_WORKERS}, not {self.workers}", "`workers=2`")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"
