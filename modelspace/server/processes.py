"""Running the server: one process, or several that share one socket."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any

from modelspace.errors import ModelspaceError, ModelspaceWarning, UsageError
from modelspace.server.settings import Settings
from modelspace.server.token import read_token

#: Seconds for requests in progress when the server is asked to stop.
_GRACE_S = 10
#: Seconds after which an idle connection is closed.
_KEEP_ALIVE_S = 5
#: Bytes of a request's first line and headers.
_MOST_HEAD = 16 << 10
#: Workers are no longer replaced after this number of them ended within this number of seconds.
_MOST_ENDS, _ENDS_S = 5, 20.0
#: Connections of one process, beyond which it answers 503.
_MOST_CONNECTIONS = 2000


def run(space: Any, settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Answer queries until a signal asks to stop; see `modelspace.workspace.ModelSpace.serve`.

    Args:
        space: a `ModelSpace`.
        settings: how the server runs.
        on_ready: called with the server's address before it answers.

    Raises:
        UsageError: the address is in use or not of this machine, or the token file is not private.
        ModelspaceError: the extra is not installed.
    """
    try:
        import starlette
        import uvicorn
    except ImportError:
        raise ModelspaceError("the server needs uvicorn and starlette", 'pip install "modelspace-db[serve]"') from None
    del starlette, uvicorn
    token = None if settings.token_file is None else read_token(settings.token_file)
    listening = listen(settings)
    try:
        if on_ready is not None:
            on_ready(address(listening, settings.host))
        if settings.workers == 1:
            work(space, settings, token, listening)
        else:
            supervise(space, settings, token, listening)
    except KeyboardInterrupt:
        pass  # the server has stopped gracefully, and the signal was repeated for others
    finally:
        listening.close()


def work(space: Any, settings: Settings, token: str | None, listening: socket.socket) -> None:
    """Answer requests until a signal asks to stop."""
    import uvicorn

    config = uvicorn.Config(
        functools.partial(application, space, settings, token),
        factory=True,
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
    uvicorn.Server(config).run(sockets=[listening])


def _work_below(*arguments: Any) -> None:
    """`work`, in a process that ends with its parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="modelspace parent", daemon=True).start()
    with suppress(KeyboardInterrupt):
        work(*arguments)


def supervise(space: Any, settings: Settings, token: str | None, listening: socket.socket) -> None:
    """Run the workers, and start another one for one that ends, until a signal asks to stop.

    Raises:
        ModelspaceError: workers end as soon as they start.
    """
    context = multiprocessing.get_context("spawn")
    arguments = (space, settings, token, listening)
    workers: list[Any] = []
    ends: list[float] = []

    def start() -> None:
        worker = context.Process(target=_work_below, args=arguments, name="modelspace worker")
        worker.start()
        workers.append(worker)

    try:
        for _ in range(settings.workers):
            start()
        while True:
            connection.wait([worker.sentinel for worker in workers])
            for worker in [worker for worker in workers if not worker.is_alive()]:
                workers.remove(worker)
                ends = [*ends[-_MOST_ENDS:], time.monotonic()]
                if len(ends) > _MOST_ENDS and ends[-1] - ends[0] < _ENDS_S:
                    raise ModelspaceError(f"the workers end as soon as they start (exit code {worker.exitcode})")
                start()
    finally:
        _stop(workers)


def _stop(workers: Sequence[Any]) -> None:
    """End the workers: gracefully, and those that take too long by force."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _GRACE_S + 2
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


def application(space: Any, settings: Settings, token: str | None) -> Any:
    """The application, in the process that runs it."""
    from modelspace.server.app import make_app

    # Remarks on a condition are for those who type it, and there is no one at this terminal.
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
        return socket.create_server(place[:2], family=family, backlog=2048)
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
