"""A small registry with a space of maps, one of kernels and a blend of both, filled with drawn numbers instead of nets.

Affinities are computed here once more, from their definitions, so that tests have something to compare with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import shelf

from modelspace.home import INDEX
from modelspace.registry import ProbeRow, Registry
from modelspace.representations import kernels, maps
from modelspace.spaces import affinity
from modelspace.spaces.kinds import BlendSpace, Blocks, KernelSpace
from modelspace.types import SpaceSpec

N, SIDE = 12, 4
PROBES = ProbeRow("probes", "rooms", "rooms", {"seed": 1}, 2 * N, 64)
MAPS = SpaceSpec("saliency", "probes", "saliency", N, SIDE, 32)
KERNELS = KernelSpace.define("dds", "dds", "probes", N, 0, 32, "sum")
BOTH = BlendSpace.of("both", [(MAPS, 1.0), (KERNELS, 3.0)], "none", "none")


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit maps (N, SIDE²) and a kernel (N, N) of one model, float32; a smaller seed is nearer to all others."""
    shared, own = np.random.default_rng(1000), np.random.default_rng(seed)
    amount = 0.4 + 0.15 * seed
    pixels = maps.unit(shared.normal(size=(N, SIDE**2)) + amount * own.normal(size=(N, SIDE**2)))
    features = shared.normal(size=(N, 6)) + amount * own.normal(size=(N, 6))
    return pixels.astype(np.float32), kernels.kernel("dds", features).astype(np.float32)


def blocks_of(seed: int) -> Blocks:
    """What a pass over that model gives: its maps in blocks of 8 and 4 images, and its kernel."""
    pixels, kernel = drawn(seed)
    writer = maps.MapWriter(SIDE, 32)
    writer.write(pixels.reshape(N, SIDE, SIDE))
    return {MAPS.space_id: maps.recut(writer.close(), 8), KERNELS.space_id: [kernels.to_block(kernel, 32)]}


def images(spec: SpaceSpec, a: int, b: int) -> np.ndarray:
    """What each image adds to the affinity of two models, (N,), by definition."""
    if spec == BOTH:
        return 0.25 * images(MAPS, a, b) + 0.75 * images(KERNELS, a, b)
    first, second = (drawn(seed)[spec == KERNELS].astype(np.float64) for seed in (a, b))
    if spec == KERNELS:
        first, second = (np.sqrt(N) * table / np.linalg.norm(table) for table in (first, second))
    else:
        first, second = maps.unit(first), maps.unit(second)
    return np.einsum("ij,ij->i", first, second)


def expected(spec: SpaceSpec, seeds: Sequence[int]) -> np.ndarray:
    """Affinities of all pairs, (n, n)."""
    return np.array([[images(spec, a, b).mean() for b in seeds] for a in seeds])


def create(path: Path, *specs: SpaceSpec) -> Registry:
    """A new registry with these spaces, open for writing."""
    Registry.create(path)
    registry = Registry.open(path, write=True)
    with registry.transaction():
        registry.add_probe_set(PROBES, None)
        for spec in specs:
            registry.add_space(spec, default=False)
    return registry


def add(registry: Registry, seed: int, *specs: SpaceSpec) -> int:
    """Register the model m<seed> in these spaces; its id."""
    with registry.transaction():
        model_id = registry.add_model(shelf.card(f"m{seed}", data=f"data of m{seed}", architecture=f"net {seed}"))
        for spec in specs:
            affinity.append(registry, spec, model_id, blocks_of(seed), {})
    return model_id


def fill(path: Path, seeds: Iterable[int]) -> None:
    """Make a registry of these models in all three spaces, and an empty folder for its index."""
    with create(path, MAPS, KERNELS) as registry:
        for seed in seeds:
            add(registry, seed, MAPS, KERNELS)
        with registry.transaction():
            registry.add_space(BOTH, default=False)
            affinity.fill(registry, BOTH)
    (path.parent / INDEX).mkdir()


def place(registry: Registry, model_id: int, seed: int, *specs: SpaceSpec) -> None:
    """Add a registered model to more spaces."""
    with registry.transaction():
        for spec in specs:
            affinity.append(registry, spec, model_id, blocks_of(seed), {})


def seeds_of(registry: Registry, ids: Collection[int]) -> list[int]:
    """The numbers that models were drawn with, from their names."""
    names = {row.model_id: row.card.name for row in registry.models()}
    return [int(names[i][1:]) for i in ids]
