"""The application: requests are checked, answered in threads, and errors become JSON.

Every request is a GET without a body. Questions with a condition, whose time the client decides, have threads of their
own, so that they can't take those of the others.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from modelspace.errors import BusyError, ModelspaceError, UsageError
from modelspace.server.answers import ENDPOINTS, Endpoint, to_json
from modelspace.server.document import document, page
from modelspace.server.parameters import LONGEST_QUERY, values_of
from modelspace.server.settings import Settings
from modelspace.server.snapshot import Snapshot
from modelspace.server.spelling import for_http, status_of
from modelspace.server.token import is_authorised

#: Threads by kind of question, and how many requests may wait for each kind. Rankings are arithmetic: more threads than
#: cores would only take turns.
_THREADS = {"plain": 4, "ranking": 2, "condition": 2, "page": 1}
_MOST_WAITING = 500

#: Of every answer.
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
#: Of pages: nothing is loaded from anywhere, and nothing is sent.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_log = logging.getLogger("modelspace.server")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with JSON."""
    body = value if isinstance(value, bytes) else to_json(value)
    return Response(body, status, {**_HEADERS, **(headers or {})}, "application/json")


def error_response(status: int, message: str, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    """A response with an error."""
    return json_response({"error": {"message": message, "hint": hint}}, status, headers)


class Guard:
    """Refuses requests before they reach the application: a wrong host or token, a body, a long URL.

    Args:
        app: the application.
        settings: of the server.
        token: that requests must carry; None for none.
    """

    def __init__(self, app: ASGIApp, settings: Settings, token: str | None) -> None:
        self._app = app
        self._settings = settings
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            refusal = self._refusal(Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if self._settings.is_local and not _is_of_this_machine(headers.get("host", "")):
            # A page from elsewhere whose name was made to lead to this machine (DNS rebinding).
            return error_response(421, "this server answers under the names of this machine alone")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return error_response(413, "requests have no body", headers={"Connection": "close"})
        if len(request.scope["query_string"]) > LONGEST_QUERY:
            return error_response(414, f"the query is longer than {LONGEST_QUERY} characters")
        if self._token is None or request.scope["path"] == "/healthz":
            return None
        if len(headers.getlist("authorization")) == 1 and is_authorised(headers["authorization"], self._token):
            return None
        challenge = {"WWW-Authenticate": 'Bearer realm="modelspace"'}
        return error_response(401, "the token is missing or wrong", "send it: Authorization: Bearer TOKEN", challenge)


def _is_of_this_machine(host: str) -> bool:
    """Whether a Host header names this machine.

    >>> [_is_of_this_machine(host) for host in ("localhost:80", "127.0.0.1", "[::1]:8265", "example.org", "")]
    [True, True, True, False, False]
    """
    name = host[: host.find("]") + 1] if host.startswith("[") else host.rpartition(":")[0] or host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"


class Answering:
    """Answers the endpoints for one registry.

    Args:
        space: a `ModelSpace`.
    """

    def __init__(self, space: Any) -> None:
        self._space = space
        self._snapshot = Snapshot(space.path)
        self._limits: dict[str, anyio.CapacityLimiter] = {}

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """While the server runs."""
        self._limits = {name: anyio.CapacityLimiter(count) for name, count in _THREADS.items()}
        try:
            yield
        finally:
            self._snapshot.close()
            from modelspace.registry import sandbox

            sandbox.end_idle()

    def route(self, endpoint: Endpoint) -> Route:
        """The route of an endpoint."""

        async def answer(request: Request) -> Response:
            try:
                body = await self._body(endpoint, request)
            except ModelspaceError as error:
                return self._error(error, endpoint)
            except FileNotFoundError:
                return error_response(503, "the registry is gone", headers={"Retry-After": "1"})
            except Exception:
                _log.exception("%s failed", endpoint.path)
                return error_response(500, "the server failed on this request; its log says why")
            if not endpoint.is_page:
                return json_response(body)
            return Response(body, 200, {**_HEADERS, "Content-Security-Policy": _PAGE_POLICY}, "text/html")

        return Route(endpoint.path, answer, methods=["GET"])

    async def _body(self, endpoint: Endpoint, request: Request) -> bytes:
        pairs = _pairs(request)
        values = values_of(endpoint.parameters, pairs)
        arguments = {**request.path_params, **values}
        kind = "condition" if values.get("where") is not None else endpoint.kind
        limit = self._limits[kind]
        if limit.statistics().tasks_waiting >= _MOST_WAITING:
            raise BusyError("too many requests wait", "ask again later")

        def compute() -> bytes:
            value = endpoint.answer(self._space, **arguments)
            return value.encode("utf-8", "replace") if endpoint.is_page else to_json(value)

        key = repr((endpoint.path, sorted(arguments.items())))
        known = self._snapshot.known(key)
        if known is not None:
            return known
        return await anyio.to_thread.run_sync(self._snapshot.answer, key, compute, limiter=limit)

    def _error(self, error: ModelspaceError, endpoint: Endpoint) -> Response:
        status = status_of(error)
        private = (str(self._space.path), str(self._space.path.resolve()), str(self._space.home))
        names = [parameter.name for parameter in endpoint.parameters]
        texts = [
            for_http(text, names, (path for path in private if len(path) > 1)) for text in (error.message, error.hint)
        ]
        return error_response(status, texts[0], texts[1], {"Retry-After": "1"} if status == 503 else None)


def _pairs(request: Request) -> list[tuple[str, str]]:
    """The parameters of a request's URL, decoded.

    Raises:
        UsageError: they are not UTF-8.
    """
    text = request.scope["query_string"].decode("latin-1")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise UsageError("the query is not of the form name=value&..., percent-encoded UTF-8") from None


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {404: "there is no such address", 405: "this server only reads: use GET"}
    hint = "/docs lists the addresses" if error.status_code == 404 else ""
    return error_response(
        error.status_code, messages.get(error.status_code, error.detail), hint, dict(error.headers or {})
    )


def _fixed(value: Any, *, is_page: bool = False) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if is_page:
            return Response(value, 200, {**_HEADERS, "Content-Security-Policy": _PAGE_POLICY}, "text/html")
        return json_response(value)

    return answer


def make_app(space: Any, settings: Settings, token: str | None) -> Guard:
    """The application for one registry.

    Args:
        space: a `ModelSpace`.
        settings: of the server.
        token: that requests must carry; None for none.
    """
    answering = Answering(space)

    async def health(request: Request) -> Response:
        if space.path.is_file():
            return json_response({"status": "ok"})
        return error_response(503, "the registry is gone")

    inner = Starlette(
        routes=[
            *map(answering.route, ENDPOINTS),
            Route("/healthz", health, methods=["GET"]),
            Route("/openapi.json", _fixed(document(ENDPOINTS, has_token=token is not None)), methods=["GET"]),
            Route("/docs", _fixed(page(ENDPOINTS), is_page=True), methods=["GET"]),
            Route("/", _fixed(page(ENDPOINTS), is_page=True), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=answering.running,
    )
    inner.router.redirect_slashes = False
    return Guard(inner, settings, token)
