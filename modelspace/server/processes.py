"""Running the server: one process, or several that share one socket."""

from __future__ import annotations

import functools
import logging
import socket
import warnings
from collections.abc import Callable
from typing import Any

from modelspace.errors import ModelspaceError, ModelspaceWarning, UsageError
from modelspace.server import Settings
from modelspace.server.token import read_token

#: Seconds for requests in progress when the server is asked to stop.
_GRACE_S = 10
#: Seconds after which an idle connection is closed.
_KEEP_ALIVE_S = 5
#: Bytes of a request's first line and headers.
_MOST_HEAD = 16 << 10
#: Connections of one process, beyond which it answers 503.
_MOST_CONNECTIONS = 2000


def run(space: Any, settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """See `modelspace.server.serve`."""
    try:
        import uvicorn
        from uvicorn.supervisors import Multiprocess
    except ImportError:
        raise ModelspaceError("the server needs uvicorn and starlette", 'pip install "modelspace-db[serve]"') from None
    token = None if settings.token_file is None else read_token(settings.token_file)
    listening = listen(settings)
    config = uvicorn.Config(
        functools.partial(application, space, settings, token),
        factory=True,
        workers=settings.workers,
        http="h11",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=_MOST_HEAD,
        limit_concurrency=_MOST_CONNECTIONS,
    )
    try:
        if on_ready is not None:
            on_ready(address(listening, settings.host))
        server = uvicorn.Server(config)
        if settings.workers == 1:
            server.run(sockets=[listening])
        else:
            Multiprocess(config, target=server.run, sockets=[listening]).run()
    except KeyboardInterrupt:
        pass  # uvicorn has stopped gracefully, and repeats the signal for others
    finally:
        listening.close()


def application(space: Any, settings: Settings, token: str | None) -> Any:
    """The application, in the process that runs it."""
    from modelspace.server.app import make_app

    # Remarks on a condition are for whoever types it, and there is no one at this terminal.
    warnings.simplefilter("ignore", ModelspaceWarning)
    logging.basicConfig(level=logging.WARNING)
    return make_app(space, settings, token)


def listen(settings: Settings) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is in use, is not of this machine, or needs rights.
    """
    host = settings.host.strip("[]")
    try:
        family, _, _, _, place = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(place[:2], family=family, backlog=2048)  # type: ignore[arg-type]
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"{settings.host} port {settings.port} can't be served: {reason}", "name another `port=`"
        ) from None


def address(listening: socket.socket, host: str) -> str:
    """The URL of a socket that listens.

    Args:
        listening: the socket.
        host: as the user named it.
    """
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{name}:{listening.getsockname()[1]}"
