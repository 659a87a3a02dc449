"""Pictures, pages and evaluations of 0 to 7 models, with copies, ties, one group or none: drawn, or one sentence.

Only the sizes at which the code branches are drawn in every way.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shelf
import small_spaces
from picture_space import FakeFit
from small_spaces import BOTH, KERNELS, MAPS

from modelspace import evaluation, probes
from modelspace.cli.formats import to_csv, to_json
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.registry import ProbeRow
from modelspace.spaces import affinity
from modelspace.types import SpaceSpec
from modelspace.verbs.evaluate import COLUMNS
from modelspace.verbs.pictures.curves import curves_picture, read_curves
from modelspace.workspace import ModelSpace

NAMES = ("curvature", "denoise", "edge2d", "edge3d", "reshade", "rgb2depth", "room_layout")

#: How a model's maps and kernels are drawn, by number: equal numbers are exact copies. And the groups.
KINDS: dict[str, tuple[tuple[int, ...], tuple[str | None, ...]]] = {
    "mixed": ((0, 1, 2, 3, 4, 5, 6), ("2D", "2D", None, "3D", None, "3D", "x")),
    "pairs of copies": ((0, 0, 1, 1, 0, 2, 3), ("2D",) * 7),
    "all copies": ((0,) * 7, (None,) * 7),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], ModelSpace]:
    """Registries by kind and number of models, each made once; their probe images can be drawn."""
    rooms = probes.rooms(n_images=small_spaces.N, size=16, seed=1)
    row = ProbeRow(rooms.probe_id, rooms.name, rooms.kind, rooms.spec, None, rooms.size)
    made: dict[tuple[str, int], ModelSpace] = {}

    def create(kind: str, n: int) -> ModelSpace:
        home = tmp_path_factory.mktemp("few")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(small_spaces, "PROBES", row)
            maps = SpaceSpec("saliency", row.probe_id, "saliency", MAPS.n_images, MAPS.canvas, MAPS.bits)
            kernels = SpaceSpec(
                KERNELS.name, row.probe_id, KERNELS.method, KERNELS.n_images, 0, KERNELS.bits,
                parameters=KERNELS.parameters,
            )  # fmt: skip
            both = type(small_spaces.BlendSpace).of if False else small_spaces.BlendSpace.of
            blend = both("both", [(maps, 1.0), (kernels, 3.0)], "none", "none")
            numbers, groups = KINDS[kind]
            with small_spaces.create(home / "registry.duckdb", blend, maps, kernels) as registry:
                for name, number, group in zip(NAMES[:n], numbers, groups, strict=False):
                    fields: dict[str, Any] = {"tags": {"group": group}} if group else {"task": None}
                    blocks = small_spaces.blocks_of(number)
                    parts = {maps.space_id: blocks[MAPS.space_id], kernels.space_id: blocks[KERNELS.space_id]}
                    with registry.transaction():
                        model_id = registry.add_model(shelf.card(name, **fields))
                        for spec in (maps, kernels, blend):
                            affinity.append(registry, spec, model_id, parts, {})
        return ModelSpace.open(home)

    def get(kind: str, n: int) -> ModelSpace:
        if (kind, n) not in made:
            made[kind, n] = create(kind, n)
        return made[kind, n]

    return get
