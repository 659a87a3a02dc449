"""Users' SQL on a registry, with a word on what its macros order by."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from modelspace.errors import ModelspaceError, OrderWarning
from modelspace.registry import Registry, schema, sql
from modelspace.registry.conditions import calls
from modelspace.registry.kept import reading
from modelspace.spaces.ranking import Ranking
from modelspace.types import SpaceSpec


def query(path: Path, text: str, *, timeout_s: float, max_rows: int | None) -> sql.Table:
    """See `modelspace.workspace.ModelSpace.sql`."""
    schema.check_definitions_of(path)
    table = sql.query(path, text, timeout_s=timeout_s, max_rows=max_rows)
    asked = calls(text, ("nearest", "nearest_in"))
    if asked:
        _warn_of_order(path, asked)
    return table


def _warn_of_order(path: Path, asked: list[tuple[str, str]]) -> None:
    """Warn if a query called `nearest` on a space that ranks in another way than by affinity."""
    with reading(path) as registry:
        for macro, arguments in asked:
            spec = _space(registry, macro, arguments)
            if spec is None or Ranking.of(spec).is_plain:
                continue
            ranking = Ranking.of(spec)
            order = "predicted features" if ranking.is_directed else ranking.order
            other = macro.replace("nearest", "nearest_by_affinity")
            warnings.warn(
                f"{macro}() orders by affinity, and the space {spec.name} ranks by {order}: `space.nearest(name)` has "
                f"that order; {other}() is the same macro under a name that says what it does",
                OrderWarning,
                stacklevel=4,
            )


def _space(registry: Registry, macro: str, arguments: str) -> SpaceSpec | None:
    """The space that a call asks, if that can be told from its text."""
    if macro == "nearest":
        return registry.space().spec
    name = re.match(r"\s*'([^']*)'", arguments)
    try:
        return registry.space(name[1]).spec if name else None
    except ModelspaceError:
        return None
