"""The registry: one DuckDB file with models, spaces, vectors and maps, from which everything else can be rebuilt.

This package is the only one that imports duckdb. `docs/reference/schema.md` describes the file.
"""

from modelspace.registry.rows import EmbeddingRow, MapBlock, ModelRow, ProbeRow, Problem, ProjectionRow, SpaceRow
from modelspace.registry.store import KEEP, Registry

__all__ = [
    "KEEP",
    "EmbeddingRow",
    "MapBlock",
    "ModelRow",
    "ProbeRow",
    "Problem",
    "ProjectionRow",
    "Registry",
    "SpaceRow",
]
