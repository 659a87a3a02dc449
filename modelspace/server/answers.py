"""The endpoints: what each is asked, and what it answers as plain values. Nothing here knows of HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelspace.errors import NotFoundError
from modelspace.names import did_you_mean
from modelspace.registry import Registry
from modelspace.server import parameters
from modelspace.server.parameters import Parameter
from modelspace.verbs import contents

#: Fields of records that name files of the server's machine.
_PRIVATE = frozenset({"location"})


@dataclass(frozen=True)
class Endpoint:
    """An address, and the function that answers it.

    Attributes:
        path: as Starlette writes it; `{name}` is a parameter of the function.
        text: what it answers, in a sentence.
        answer: function of an open `ModelSpace`, the parts of the path and the parameters.
        parameters: of the URL's query.
        kind: "plain", "ranking" (which takes time), or "page": HTML, as text, instead of values.
    """

    path: str
    text: str
    answer: Callable[..., Any]
    parameters: Sequence[Parameter] = ()
    kind: str = "plain"

    @property
    def is_page(self) -> bool:
        """Whether the answer is an HTML page."""
        return self.kind == "page"


def nearest(
    opened: Any, name: str, *, k: int, where: str | None, hubs: str | None, rerank: str | None, space: str | None
) -> dict[str, Any]:
    """The best transfer sources of a registered model. An address is refused: loading a model can run its code."""
    _check_registered(opened, name)
    chosen = {key: value for key, value in (("hubs", hubs), ("rerank", rerank)) if value is not None}
    ranking = opened.nearest(name, k, where=where, space=space, **chosen)
    return {
        "target": ranking.target,
        "space": ranking.space,
        "ranked_by": ranking.ranked_by,
        "notes": list(ranking.notes),
        "neighbours": ranking.to_dicts(),
    }


def _check_registered(opened: Any, name: str) -> None:
    """Raise for a name that no model has."""
    with Registry.open(opened.path) as registry:
        if ":" in name:  # no name has one, and `nearest` would take it for an address
            raise NotFoundError(f"there is no model {name!r}", did_you_mean(name, registry.model_names()))
        registry.model(name)


def models(opened: Any, *, where: str | None, after: int, limit: int) -> dict[str, Any]:
    """A page of the registered models."""
    records, following = contents.page(opened.path, where, after, limit)
    return {"models": [_dict(record) for record in records], "next": following}


def model(opened: Any, name: str) -> dict[str, Any]:
    """Everything known about a model."""
    return _dict(opened.show(name))


def affinity(opened: Any, *, a: str, b: str, space: str | None) -> dict[str, Any]:
    """The affinity of two models."""
    return _dict(contents.pair(opened.path, a, b, space))


def spaces(opened: Any) -> dict[str, Any]:
    """The spaces of the registry."""
    return {"spaces": opened.spaces().to_dicts()}


def tasks(opened: Any) -> dict[str, Any]:
    """The tasks of the registry."""
    return {"tasks": [_public(row) for row in opened.tasks().to_dicts()]}


def task(opened: Any, name: str) -> dict[str, Any]:
    """A task."""
    return _public(_dict(opened.task(name)))


def outcomes(opened: Any, name: str) -> dict[str, Any]:
    """What was measured on a task."""
    return {"task": name, "outcomes": opened.outcomes(name).to_dicts()}


def prospects(opened: Any, name: str, *, k: int, where: str | None, space: str | None) -> dict[str, Any]:
    """The models to try first on a task."""
    rows = opened.prospects(name, k, where=where, space=space)
    return {"task": name, "notes": list(rows.notes), "models": rows.to_dicts()}


def atlas(opened: Any, *, space: str | None) -> str:
    """The atlas of the models as an HTML page."""
    html: str = opened.atlas(space=space, store=False).html
    return html


ENDPOINTS = (
    Endpoint(
        "/v1/nearest/{name}",
        "The best transfer sources of a registered model, nearest first.",
        nearest,
        (parameters.K, parameters.WHERE, parameters.SPACE, parameters.HUBS, parameters.RERANK),
        kind="ranking",
    ),
    Endpoint(
        "/v1/models",
        "The registered models in the order in which they were added, a page at a time.",
        models,
        (parameters.WHERE, parameters.AFTER, parameters.LIMIT),
    ),
    Endpoint("/v1/models/{name}", "Everything known about a model.", model),
    Endpoint(
        "/v1/affinity",
        "The affinity of two models, with its 95% interval over the probe images.",
        affinity,
        (parameters.A, parameters.B, parameters.SPACE),
    ),
    Endpoint("/v1/spaces", "The spaces: where models are compared, and how.", spaces),
    Endpoint("/v1/tasks", "The tasks.", tasks),
    Endpoint("/v1/tasks/{name}", "A task.", task),
    Endpoint("/v1/tasks/{name}/outcomes", "What was measured on a task, the best first.", outcomes),
    Endpoint(
        "/v1/tasks/{name}/prospects",
        "The models to try first on a task, with expected scores.",
        prospects,
        (parameters.K, parameters.WHERE, parameters.SPACE),
        kind="ranking",
    ),
    Endpoint("/atlas", "The atlas: all models on an interactive page.", atlas, (parameters.SPACE,), kind="page"),
)


def _dict(record: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(record)


def _public(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _PRIVATE}


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; NaN and infinities, which it lacks, become null."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
