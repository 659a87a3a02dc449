"""The OpenAPI document of the server, and a page that shows it without any script or file from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from modelspace import __version__
from modelspace.server.answers import Endpoint
from modelspace.server.parameters import Parameter

_ERRORS = {
    "400": "A parameter is wrong.",
    "401": "The token is missing or wrong.",
    "404": "There is no such model, space, task or address.",
    "503": "The registry is being changed, or the server is busy: ask again.",
}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}code{background:#f3f3f3;padding:0 .2em}table{border-collapse:collapse}"
    "td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}h2{margin-top:2rem;font-size:1.1rem}"
)


def document(endpoints: Sequence[Endpoint], *, has_token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        endpoints: of the server.
        has_token: whether requests must carry a token.
    """
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "modelspace",
            "version": __version__,
            "description": "A vector database of neural networks, read-only.",
        },
        "paths": {endpoint.path: {"get": _operation(endpoint)} for endpoint in endpoints},
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["message", "hint"],
                            "properties": {"message": {"type": "string"}, "hint": {"type": "string"}},
                        }
                    },
                }
            }
        },
    }
    if has_token:
        whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"token": []}]
    return whole


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parts = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", endpoint.path)
    ]
    kind = "text/html" if endpoint.is_page else "application/json"
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": endpoint.text,
        "operationId": endpoint.answer.__name__,
        "parameters": [*parts, *map(_parameter, endpoint.parameters)],
        "responses": {
            "200": {"description": endpoint.text, "content": {kind: {}}},
            **{status: {"description": text, "content": error} for status, text in _ERRORS.items()},
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.most is not None:
        schema = {"type": "integer", "minimum": parameter.least, "maximum": parameter.most}
        if parameter.default is not None:
            schema["default"] = parameter.default
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.text,
        "schema": schema,
    }


def page(endpoints: Sequence[Endpoint]) -> str:
    """The endpoints as an HTML page."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>modelspace</title>'
        f"<style>{_STYLE}</style><h1>modelspace {html.escape(__version__)}</h1>"
        "<p>Read-only queries. Answers are JSON; an error is "
        "<code>{&quot;error&quot;: {&quot;message&quot;, &quot;hint&quot;}}</code>. "
        'The machine-readable form of this page is <a href="openapi.json">openapi.json</a>.</p>'
    ]
    for endpoint in endpoints:
        parts.append(f"<h2><code>GET {html.escape(endpoint.path)}</code></h2><p>{html.escape(endpoint.text)}</p>")
        if endpoint.parameters:
            rows = "".join(map(_row, endpoint.parameters))
            parts.append(f"<table><tr><th>parameter</th><th>meaning</th><th>values</th></tr>{rows}</table>")
    return "".join(parts)


def _row(parameter: Parameter) -> str:
    values = ", ".join(parameter.choices)
    if parameter.most is not None:
        values = f"{parameter.least}..{parameter.most}; default {parameter.default}"
    cells = (parameter.name + (" (required)" if parameter.required else ""), parameter.text, values)
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
