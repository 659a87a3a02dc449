"""Small registries for tests: synthetic models with exact coordinates, whose map bytes follow from their names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from modelspace.registry import EmbeddingRow, MapBlock, ProbeRow, Registry, schema
from modelspace.types import ModelCard, Preprocessing, SpaceSpec

N_IMAGES = 5
PROBES = ProbeRow("probes", "rooms", "rooms", {"seed": 1}, N_IMAGES, 64)
GI = SpaceSpec("gi", "probes", "gradient_x_input", N_IMAGES, 8)
SALIENCY = SpaceSpec("saliency", "probes", "saliency", N_IMAGES, 8)


def card(name: str, weights: str | None = None, **more: object) -> ModelCard:
    values: dict[str, object] = {"output_shape": (2, 3), "parameters": 7, "task": f"task of {name}", **more}
    size = Preprocessing((8, 6), mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    return ModelCard(name, f"test:{name}", weights or f"sha of {name}", "fc:in", "test", preprocessing=size, **values)  # type: ignore[arg-type]


def units(n: int, seed: int = 0) -> np.ndarray:
    """n independent unit vectors (n, 2n + 6) float64, in families."""
    rng = np.random.default_rng(seed)
    dimension = 2 * n + 6
    centres = rng.normal(size=(1 + n // 3, dimension))
    vectors = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.normal(size=(n, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(vectors: np.ndarray, ids: list[int] | range | None = None) -> list[EmbeddingRow]:
    """Embeddings of independent unit vectors (n, d): rows of the Cholesky factor of their Gram matrix."""
    gram = vectors @ vectors.T
    lower = np.linalg.cholesky(gram) if len(gram) else gram
    ids = range(1, len(gram) + 1) if ids is None else ids
    return [
        EmbeddingRow(ids[i], i, lower[i, : i + 1], gram[i, :i], i, float(lower[i, i] ** 2)) for i in range(len(gram))
    ]


def blocks(name: str, space: SpaceSpec = GI) -> Iterator[MapBlock]:
    """Two blocks, of 3 and 2 images; the first is longer than one part of the table `maps`."""
    seed = int(hashlib.sha256(f"{name} {space.name}".encode()).hexdigest()[:8], 16)
    rng = np.random.default_rng(seed)
    for first, n, size in ((0, 3, 9001), (3, 2, 12)):
        yield MapBlock(first, n, rng.bytes(size), rng.bytes(8 * n))


def make(path: Path, *spaces: SpaceSpec) -> None:
    """An empty registry with the probe set and these spaces (gi, if none); the first is the default."""

    def build() -> None:
        Registry.create(path)
        with Registry.open(path, write=True) as registry, registry.transaction():
            registry.add_probe_set(PROBES, None)
            for space in spaces or (GI,):
                registry.add_space(space, default=False)

    _once(path, f"empty {[space.name for space in spaces]}", build)


def fill(path: Path, names: list[str], vectors: np.ndarray, *spaces: SpaceSpec) -> None:
    """Add models with these unit vectors to an empty registry, each in a separate transaction, in all spaces."""
    with Registry.open(path, write=True) as registry:
        for name, row in zip(names, rows(vectors), strict=True):
            with registry.transaction():
                model_id = registry.add_model(card(name))
                for space in spaces or (GI,):
                    placed = EmbeddingRow(model_id, row.position, row.vector, row.affinities, row.axis, row.residual)
                    registry.add_embedding(space.space_id, placed, blocks(name, space))


def filled(path: Path, n: int = 6, seed: int = 0) -> np.ndarray:
    """A registry with one space and models m0, m1, ...; their unit vectors."""
    vectors = units(n, seed=seed)

    def build() -> None:
        make(path)
        fill(path, [f"m{i}" for i in range(n)], vectors)

    _once(path, f"filled {n} {seed}", build)
    return vectors


_built: dict[tuple[Path, str], bytes] = {}


def _once(path: Path, what: str, build: Callable[[], None]) -> None:
    """Build it once, and write the same bytes afterwards, to save time in tests."""
    key = (schema.FOLDER, what)
    if key not in _built:
        build()
        _built[key] = path.read_bytes()
    path.write_bytes(_built[key])
