"""Benchmark queries on a synthetic registry: `nearest` in an open process and as a whole one, filters and SQL.

    python scripts/bench_queries.py --models 10000 --folder DIR [--images 200] [--queries 200] [--write-only]

The registry holds one kernel space of families (a base, fine-tunes, near-copies, and unrelated models), drawn from a
seed and written in bulk: kernels of `--images` probe images, coordinates on 512 anchors, checksums. It is kept in DIR
and used again. Times are medians and 99th percentiles over different targets, in seconds of wall clock and of the
process's CPU: on a busy machine the latter say more. Run it with OMP_NUM_THREADS=1 for figures of one core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from process_memory import peak_mb

from modelspace import probes
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import ProbeRow, Registry, checksums
from modelspace.registry.reading import PART_BYTES
from modelspace.spaces import index
from modelspace.spaces.kinds import KernelSpace
from modelspace.spaces.neighbours import load_index
from modelspace.types import Preprocessing, canonical_json
from modelspace.workspace import ModelSpace

#: Numbers that a model is drawn from, anchors, and models of a family.
LATENT, ANCHORS, FAMILY = 640, 512, 25

#: How far the members of a family are from its base: near-copies, fine-tunes, and models that share a little.
SPREADS = (0.02, 0.1, 0.3, 0.6)

BATCH = 1000
TASKS = ("classification", "depth", "detection", "normals", "segmentation")


class Population:
    """Models of families, the same for the same numbers.

    Args:
        n_models: number of models.
        n_images: probe images of a kernel.
    """

    def __init__(self, n_models: int, n_images: int) -> None:
        self.n_models, self.n_images = n_models, n_images
        n_packed = n_images * (n_images + 1) // 2
        self.latent = min(LATENT, n_packed)
        rng = np.random.default_rng(0)
        # Orthogonal in the inner product of kernels, where an element above the diagonal counts twice.
        weights = np.sqrt(np.where(np.arange(n_packed) < n_images, 1.0, 2.0))
        basis, _ = np.linalg.qr(rng.normal(size=(n_packed, self.latent)))
        self._basis = (basis.T / weights).astype(np.float32)
        self._shared = self._unit(rng.normal(size=(1, self.latent)))
        self._starts = np.concatenate(
            [[0], n_images + np.concatenate([[0], np.cumsum(np.arange(n_images - 1, 1, -1))])]
        )
        drawn = self.drawn(0, min(n_models, ANCHORS))
        self._anchors = drawn.astype(np.float64)
        self._factor = np.linalg.cholesky(self._anchors @ self._anchors.T + 1e-9 * np.eye(len(drawn)))

    @staticmethod
    def _unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def drawn(self, start: int, stop: int) -> np.ndarray:
        """Models start..stop-1 as unit vectors whose inner products are affinities, (stop - start, latent) float32."""
        rows = []
        for family in range(start // FAMILY, -(-stop // FAMILY)):
            rng = np.random.default_rng([1, family])
            base = self._unit(0.6 * self._shared + self._unit(rng.normal(size=(1, self.latent))))
            spread = rng.choice(SPREADS, (FAMILY, 1))
            rows.append(self._unit(base + spread * self._unit(rng.normal(size=(FAMILY, self.latent)))))
        first = start - start // FAMILY * FAMILY
        return np.vstack(rows)[first : first + stop - start].astype(np.float32)

    def coordinates(self, drawn: np.ndarray) -> np.ndarray:
        """Coordinates on the anchors, (n, anchors) float32."""
        known = drawn @ self._anchors.T
        return np.linalg.solve(self._factor, known.T).T.astype(np.float32)

    def blocks(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes and scales of the models' kernels, as `representations.kernels.to_block` makes them."""
        packed = drawn @ self._basis
        low = np.minimum.reduceat(packed, self._starts, axis=1)
        high = np.maximum.reduceat(packed, self._starts, axis=1)
        counts = np.diff(np.append(self._starts, packed.shape[1]))
        step = np.where(high > low, (high - low) / 255, 1)
        levels = (packed - np.repeat(low, counts, axis=1)) / np.repeat(step, counts, axis=1)
        scales = np.roll(np.stack([low, high], axis=2), -1, axis=1).astype("<f4")
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8), scales


def write(folder: Path, population: Population) -> None:
    """Write the registry."""
    folder.mkdir(parents=True)
    path = folder / REGISTRY
    probe = probes.rooms(n_images=population.n_images, size=64, seed=1)
    spec = KernelSpace.define("dds", "dds", probe.probe_id, population.n_images, 0, 8, "sum")
    Registry.create(path)
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_probe_set(ProbeRow(probe.probe_id, probe.name, probe.kind, probe.spec, None, probe.size), None)
        registry.add_space(spec, default=True)
    duck = duckdb.connect(str(path))
    try:
        for start in range(0, population.n_models, BATCH):
            stop = min(start + BATCH, population.n_models)
            duck.execute("BEGIN")
            _write_models(duck, start, stop)
            _write_vectors(duck, spec.space_id, start, population.drawn(start, stop), population)
            duck.execute("COMMIT")
            print(f"\r{stop:,} models", end="", file=sys.stderr)
        duck.execute("UPDATE spaces SET next_position = ?, generation = generation + 7", [population.n_models])
    finally:
        duck.close()
    print(file=sys.stderr)


def _write_models(duck: duckdb.DuckDBPyConnection, start: int, stop: int) -> None:
    preprocessing = canonical_json(Preprocessing.raw((64, 64)).to_dict())
    duck.execute(
        "INSERT INTO models (model_id, name, uri, weights_sha256, identity, architecture, task, data, layer,"
        " layer_found_by, output_shape, input_height, input_width, preprocessing, parameters, seconds, tags, added_at,"
        " code_sha256, options, torch) SELECT i + 1, 'family-' || (i // 25) || '-' || (i % 25), 'zoo:model-' || i,"
        " sha256(i::VARCHAR), sha256('id' || i), 'net-' || (i // 25 % 97), list_extract(?, 1 + i % 5),"
        " 'data-' || (i % 101), 'fc:in', 'stated by zoo', [512], 64, 64, ?, 1000000 + i, 1.0,"
        " map(['group'], ['g' || (i % 10)]), now()::TIMESTAMP, '', '{}', '2.13.0' FROM range(?, ?) t(i)",
        [list(TASKS), preprocessing, start, stop],
    )


def _write_vectors(
    duck: duckdb.DuckDBPyConnection, space_id: str, start: int, drawn: np.ndarray, population: Population
) -> None:
    import pandas as pd

    coordinates = population.coordinates(drawn)
    codes, scales = population.blocks(drawn)
    ids = np.arange(start + 1, start + 1 + len(drawn))
    sums = [checksums.of_coordinates(space_id, int(i), row) for i, row in zip(ids, coordinates, strict=True)]
    empty = checksums.of_vector(space_id, 0, np.zeros(0), None, 0.0)
    assert empty >= 0
    table = pd.DataFrame({"id": ids, "coordinates": list(coordinates), "checksum": sums})
    duck.register("new_rows", table)
    duck.execute(
        "INSERT INTO embeddings SELECT ?, id, id - 1, []::DOUBLE[], []::DOUBLE[], NULL, 0.5, NULL, NULL,"
        " coordinates::FLOAT[], checksum FROM new_rows ORDER BY id",
        [space_id],
    )
    duck.unregister("new_rows")
    parts = []
    for model_id, code, scale in zip(ids.tolist(), codes, scales, strict=True):
        owner = checksums.of_owner(space_id, model_id, 0, population.n_images)
        for part, first in enumerate(range(0, len(code), PART_BYTES)):
            data = code[first : first + PART_BYTES].tobytes()
            scaled = scale.tobytes()[first : first + PART_BYTES]
            parts.append((model_id, part, data, scaled, checksums.of_part(owner, part, data, scaled)))
    duck.execute(
        "INSERT INTO maps SELECT ?, unnest(?::BIGINT[]), 0, ?, unnest(?::INTEGER[]), unnest(?::BLOB[]),"
        " unnest(?::BLOB[]), unnest(?::UINTEGER[])",
        [space_id, [p[0] for p in parts], population.n_images, *([p[i] for p in parts] for i in range(1, 5))],
    )


@contextlib.contextmanager
def measured(label: str, results: dict[str, Any]) -> Iterator[None]:
    """The wall and CPU time of a block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    results[label] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(f"{label:44}{results[label]['wall']:9.3f} s wall{results[label]['cpu']:9.3f} s CPU", flush=True)


def timed(label: str, calls: list[Callable[[], object]], results: dict[str, Any]) -> None:
    """The times of some calls, after one that does not count."""
    calls[0]()
    walls, cpus = [], []
    for call in calls[1:]:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    results[label] = {
        "p50": statistics.median(walls),
        "p99": float(np.quantile(walls, 0.99)),
        "cpu p50": statistics.median(cpus),
        "cpu p99": float(np.quantile(cpus, 0.99)),
    }
    figures = "".join(f"{name} {1000 * value:8.1f} ms  " for name, value in results[label].items())
    print(f"{label:36}{figures}", flush=True)


def processes(label: str, arguments: list[str], runs: int, results: dict[str, Any]) -> None:
    """Times and peak memory of whole processes."""
    code = (
        "import resource, sys\n"
        "from modelspace.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "finally:\n"
        "    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0]\n"
        "    print('used', usage.ru_utime + usage.ru_stime, peak, file=sys.stderr)"
    )
    walls, cpus, peak = [], [], 0
    for _ in range(runs + 1):
        started = time.perf_counter()
        ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        walls.append(time.perf_counter() - started)
        _, cpu, used = ran.stderr.rstrip().rsplit("\n", 1)[-1].split()
        cpus.append(float(cpu))
        peak = max(peak, int(used))
    results[label] = {
        "p50": statistics.median(walls[1:]),
        "cpu p50": statistics.median(cpus[1:]),
        "peak MB": peak / 1024,
    }
    figures = "".join(f"{name} {value:8.3f}  " for name, value in results[label].items())
    print(f"{label:36}{figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5, help="whole processes of each kind")
    parser.add_argument("--small", type=Path, default=Path(__file__).resolve().parent.parent, help="home of 39 models")
    parser.add_argument("--write-only", action="store_true")
    parser.add_argument("--index-only", action="store_true", help="no registry: the index of the same coordinates")
    options = parser.parse_args()
    results: dict[str, Any] = {"models": options.models, "images": options.images}
    if options.index_only:
        return _index_only(options, results)
    if not options.folder.exists():
        with measured("population written", results):
            write(options.folder, Population(options.models, options.images))
    if options.write_only:
        return
    space = ModelSpace.open(options.folder)
    _build(space, results)
    names = [f"family-{i // 25}-{i % 25}" for i in np.random.default_rng(5).permutation(options.models)]
    names = names[: options.queries + 1]
    _ask(space, names, results)
    _ask_processes(options, names, results)
    results["peak MB"] = peak_mb()
    print(f"peak memory of this process {results['peak MB']:.0f} MB")
    (options.folder / "queries.json").write_text(json.dumps(results, indent=1))


def _build(space: ModelSpace, results: dict[str, Any]) -> None:
    with Registry.open(space.path) as registry:
        row = registry.space()
        state = index.status(space.path.parent / INDEX, row.spec.space_id, registry.registry_id, row.generation)
        if state.state != "fresh":
            with measured("index built", results):
                load_index(registry, row)
    manifest = json.loads(next((space.path.parent / INDEX).glob("*.json")).read_text())
    shown = ("kind", "probes", "recall", "recall_filtered", "dimension", "bytes")
    results["index"] = {name: manifest.get(name) for name in shown}
    print(results["index"])


def _index_only(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Build the index of a population, load it as another process would, and search it."""
    n = options.models
    ids = np.arange(1, n + 1)
    population = Population(n, options.images)
    vectors = np.empty((n, min(n, ANCHORS)), np.float32)
    for start in range(0, n, 10 * BATCH):
        stop = min(start + 10 * BATCH, n)
        vectors[start:stop] = population.coordinates(population.drawn(start, stop))
    queries = vectors[np.random.default_rng(5).permutation(n)[: options.queries + 1]].copy()
    del population
    settings: dict[str, Any] = {"registry_id": "bench", "generation": 1}
    growth = index.Growth(0, n, lambda _: (ids[:0], ids[:0], vectors[:0]), lambda: (ids, ids))
    with measured("index built", results):
        loaded = index.load(options.folder, "0" * 16, fetch=lambda: (ids, vectors), growth=growth, **settings)
    recall = loaded.base.recall
    print(loaded.base.kind, recall, getattr(loaded.base, "probes", ""), f"peak {peak_mb():.0f} MB")
    with measured("index loaded again", results):
        loaded = index.load(options.folder, "0" * 16, fetch=lambda: (ids, vectors), growth=growth, **settings)
    few = np.sort(np.random.default_rng(6).permutation(ids)[: n // 100])
    many = np.sort(np.random.default_rng(7).permutation(ids)[: n // 10])
    for label, kept in (("search", None), ("search among 1%", few), ("search among 10%", many)):
        calls = [lambda query=query, kept=kept: loaded.search(query[None], 56, kept) for query in queries]  # type: ignore[misc]
        timed(label, calls, results)


def _ask(space: ModelSpace, names: list[str], results: dict[str, Any]) -> None:
    few = "data = 'data-7'"
    plain: dict[str, Any] = {"rerank": "none"}
    timed("nearest", [lambda name=name: space.nearest(name, **plain) for name in names], results)  # type: ignore[misc]
    with space.kept_open():
        calls = [lambda name=name: space.nearest(name, **plain) for name in names]  # type: ignore[misc]
        timed("nearest, kept open", calls, results)  # type: ignore[arg-type]
        calls = [lambda name=name: space.nearest(name, where=few, **plain) for name in names[:50]]  # type: ignore[misc]
        timed("nearest of 1%, kept open", calls, results)  # type: ignore[arg-type]
    sql = {
        "SQL nearest()": f"SELECT * FROM nearest_in('dds', '{names[0]}', 10)",
        "SQL filter": "SELECT name FROM models WHERE parameters < 1010000 AND task = 'depth' LIMIT 100",
        "SQL list": "SELECT name, task, architecture FROM models ORDER BY model_id LIMIT 100",
        "SQL join": "SELECT m.task, count(*) FROM models m JOIN embeddings e USING (model_id) GROUP BY m.task",
    }
    for label, text in sql.items():
        timed(label, [lambda text=text: space.sql(text) for _ in range(6)], results)  # type: ignore[misc]
    # As other programs ask, without the process of its own that `sql` starts.
    with duckdb.connect(str(space.home / REGISTRY), read_only=True, config={"threads": 1}) as client:
        calls = [lambda: client.execute(sql["SQL nearest()"]).fetchall() for _ in range(6)]
        timed("SQL nearest(), of DuckDB", calls, results)


def _ask_processes(options: argparse.Namespace, names: list[str], results: dict[str, Any]) -> None:
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    small = ModelSpace.open(options.small)
    arguments = ["nearest", next(iter(small)), "--rerank", "none", "--home", str(options.small)]
    processes("process, small registry", arguments, options.runs, results)
    arguments = ["nearest", names[0], "--rerank", "none", "--home", str(options.folder)]
    processes("process, this registry", arguments, options.runs, results)
    processes("process, of 1%", [*arguments, "--where", "data = 'data-7'"], options.runs, results)


if __name__ == "__main__":
    main()
