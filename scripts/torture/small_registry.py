"""A small registry with a space of maps, one of kernels and a blend, tasks and outcomes, to be changed by the programs.

It is filled with drawn numbers instead of nets, by the code that registers models, so it passes `verify --deep`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from modelspace import probes
from modelspace.registry import ProbeRow, ProjectionRow, Registry
from modelspace.registry.schema import now
from modelspace.representations import kernels, maps
from modelspace.spaces import affinity
from modelspace.spaces.kinds import BlendSpace, Blocks, KernelSpace
from modelspace.types import ModelCard, Preprocessing, SpaceSpec, canonical_json
from modelspace.workspace import ModelSpace

#: Names of its models, of which the oracle `rooms` knows all.
NAMES = ("curvature", "denoise", "edge2d", "edge3d", "reshade")

N, SIDE = 12, 4
PROBES = probes.rooms(n_images=N, size=64, seed=1)
MAPS = SpaceSpec("gradient_x_input", PROBES.probe_id, "gradient_x_input", N, SIDE, 32)
KERNELS = KernelSpace.define("dds", "dds", PROBES.probe_id, N, 0, 32, "sum")
BLEND = BlendSpace.of("transfer", [(MAPS, 1.0), (KERNELS, 3.0)], "none", "none")
SPACES = (MAPS, KERNELS, BLEND)


def create(
    home: Path, names: Sequence[str] = NAMES, *, tasks: bool = True, projected: bool = True, **texts: Any
) -> Path:
    """Create the registry in a new folder, and return the folder.

    Args:
        home: the folder.
        names: of the models.
        tasks: whether it has the tasks flowers and birds, with outcomes.
        projected: whether it has a stored projection.
        texts: further fields of the models' cards.
    """
    home.mkdir(parents=True)
    Registry.create(home / "registry.duckdb")
    with Registry.open(home / "registry.duckdb", write=True) as registry:
        with registry.transaction():
            registry.add_probe_set(
                ProbeRow(PROBES.probe_id, PROBES.name, PROBES.kind, PROBES.spec, None, PROBES.size), None
            )
            for spec in SPACES:
                registry.add_space(spec, default=spec is BLEND)
        for seed, name in enumerate(names):
            with registry.transaction():
                append(registry, seed, name, texts)
        if projected:
            _project(registry)
    if tasks:
        space = ModelSpace.open(home)
        for task in ("flowers", "birds"):
            space.add_task(task)
            for name in names[:3]:
                space.observe(task, name, 0.5)
    return home


def add_drawn(path: Path, seed: int, name: str) -> None:
    """Add a model whose maps and kernel are drawn with this seed to a registry that `create` made."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        append(registry, seed, name, {})


def append(registry: Registry, seed: int, name: str, texts: Mapping[str, Any]) -> None:
    """The same in an open transaction."""
    model_id = registry.add_model(card(seed, name, texts))
    for spec in SPACES:
        affinity.append(registry, spec, model_id, blocks(seed), {})


def card(seed: int, name: str, texts: Mapping[str, Any] | None = None) -> ModelCard:
    """The card of a drawn model; `texts` are further fields."""
    return ModelCard(
        name,
        f"zoo:{name}",
        f"{seed:064x}",
        "fc:in",
        "stated by zoo",
        (2, 3),
        Preprocessing.raw((8, 6)),
        7,
        **{"task": name, "data": "rooms", "tags": {"group": "2D"}, "architecture": "net", **(texts or {})},
    )


def blocks(seed: int) -> Blocks:
    """What a pass over a drawn model could give: its maps and its kernel."""
    shared, own = np.random.default_rng(1000), np.random.default_rng(seed)
    amount = 0.4 + 0.15 * seed
    pixels = maps.unit(shared.normal(size=(N, SIDE**2)) + amount * own.normal(size=(N, SIDE**2)))
    features = shared.normal(size=(N, 6)) + amount * own.normal(size=(N, 6))
    writer = maps.MapWriter(SIDE, 32)
    writer.write(pixels.astype(np.float32).reshape(N, SIDE, SIDE))
    kernel = kernels.kernel("dds", features).astype(np.float32)
    return {MAPS.space_id: writer.close(), KERNELS.space_id: [kernels.to_block(kernel, 32)]}


def _project(registry: Registry) -> None:
    """Store coordinates, so that an atlas does not need UMAP, which takes long to import."""
    ids = np.array(registry.model_ids(BLEND.space_id), np.int64)
    angles = np.linspace(0.0, 5.0, len(ids))
    row = ProjectionRow(
        ids,
        np.column_stack([np.cos(angles), np.sin(angles)]),
        np.zeros(len(ids), bool),
        {"input": "distances", "method": "umap", "min_dist": 0.3, "n_neighbors": 4, "umap": "0"},
        0,
        now().astimezone(),
    )
    with registry.transaction():
        registry.set_projection(BLEND.space_id, row)


def ids(duck: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Id of each space -> its row number."""
    return dict(duck.execute("SELECT space_id, rowid FROM spaces").fetchall())


def give_ids(duck: duckdb.DuckDBPyConnection, before: Mapping[str, int]) -> None:
    """Give changed spaces the ids of their definitions, in all tables, as a program that knows the rule would."""
    columns = "probe_id, method, n_images, canvas, bits, scalar, parameters, version"
    rows = {row: values for row, *values in duck.execute(f"SELECT rowid, {columns} FROM spaces").fetchall()}
    for space_id, row in before.items():
        values = dict(zip(columns.split(", "), rows.get(row, ()), strict=False))
        try:
            values["parameters"] = json.loads(values["parameters"])
            new = hashlib.sha256(canonical_json(values).encode()).hexdigest()[:16]
        except (ValueError, KeyError):
            continue
        for table in ("spaces", "embeddings", "maps", "projections", "projection_points"):
            duck.execute(f"UPDATE {table} SET space_id = ? WHERE space_id = ?", [new, space_id])
