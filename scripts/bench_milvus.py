"""What an index in Milvus costs: fill, check and search, in seconds, with drawn vectors.

    python scripts/bench_milvus.py --index milvus:/tmp/bench.db --models 10000 --dimension 256
    python scripts/bench_milvus.py --index milvus://127.0.0.1:19530 --models 100000 --dimension 256

Vectors are drawn in families of ten, like base models and their fine-tunes. The store is left without them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from modelspace.registry.copies import Sums
from modelspace.spaces import milvus, milvus_parts
from modelspace.spaces.milvus_client import Address
from modelspace.spaces.milvus_parts import Source

SPACE = "0123456789abcdef"


class Drawn:
    """Stands for a registry: n unit vectors in families of ten."""

    registry_id = "00000000-0000-0000-0000-0000000000be"

    def __init__(self, n: int, dimension: int) -> None:
        rng = np.random.default_rng(0)
        bases = rng.normal(size=(n // 10 + 1, dimension))
        rows = bases[np.arange(n) // 10] + 0.3 * rng.normal(size=(n, dimension))
        self.vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        self.ids = np.arange(1, n + 1)

    def vectors_after(self, space_id: str, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.ids[position + 1 :], np.arange(position + 1, len(self.ids)), self.vectors[position + 1 :]

    def rows(self, statement: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return [(i, f"model{i}", "task", "data", "net", 1000, ["group"], ["a"]) for i in self.ids.tolist()]


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True, metavar="ADDRESS")
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    registry: Any = Drawn(options.models, options.dimension)
    models = Sums(registry.ids, np.arange(options.models), registry.ids * 7)
    source = Source(registry, SPACE, "drawn", 1, models)
    store = milvus.store_at(Address.parse(options.index))
    milvus_parts.drop(store, source)
    print(f"fill: {seconds(lambda: milvus.update(store, source)):.1f} s")
    (part,) = milvus_parts.parts_of(store, source)
    print(f"exact: {part.exact}, recall at 10: {part.recall:.3f}")
    print(f"open, with comparison: {seconds(lambda: milvus.MilvusIndex(store, source)):.2f} s")
    print(f"deep comparison: {seconds(lambda: milvus_parts.check(store, source, part, deep=True)):.2f} s")
    milvus.SETTLED = 0.0  # as a minute after the fill
    time.sleep(6)
    index = milvus.MilvusIndex(store, source)
    rng = np.random.default_rng(1)
    for label, kept in (("all", None), ("1%", rng.choice(registry.ids, options.models // 100, replace=False))):
        times, recalls = [], []
        for query in registry.vectors[rng.choice(options.models, options.queries)]:
            start = time.perf_counter()
            _, ids = index.search(query[None], 10, kept)
            times.append(time.perf_counter() - start)
            rows = np.arange(options.models) if kept is None else kept - 1
            best = np.sort(registry.vectors[rows] @ query)[-10]
            recalls.append(np.mean(registry.vectors[ids[0] - 1] @ query >= best - 1e-6))
        print(
            f"search, {label}: p50 {1000 * np.median(times):.1f} ms, p99 {1000 * np.quantile(times, 0.99):.1f} ms,"
            f" recall at 10 {np.mean(recalls):.3f}"
        )
    milvus_parts.drop(store, source)
    milvus.close_stores()


if __name__ == "__main__":
    main()
