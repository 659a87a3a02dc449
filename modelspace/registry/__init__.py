"""The registry: one DuckDB file with models, spaces, vectors and maps, from which everything else can be rebuilt.

This package is the only one that imports duckdb. `docs/reference/schema.md` describes the file. The names below are
imported on first use, because the process that runs users' SQL needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelspace.registry.rows import (
        AnchorRow,
        EmbeddingRow,
        MapBlock,
        ModelRow,
        ProbeRow,
        ProbeSets,
        Problem,
        ProjectionRow,
        SpaceRow,
    )
    from modelspace.registry.store import KEEP, Registry

__all__ = [
    "KEEP",
    "AnchorRow",
    "EmbeddingRow",
    "MapBlock",
    "ModelRow",
    "ProbeRow",
    "ProbeSets",
    "Problem",
    "ProjectionRow",
    "Registry",
    "SpaceRow",
]

_HOMES = {name: "store" if name in ("KEEP", "Registry") else "rows" for name in __all__}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
