"""How many exact models and anchors a space should have: what coordinates on anchors keep of the ranking.

    python scripts/measure_anchors.py

Vectors are drawn: families, each a base with fine-tunes at several distances and near-copies, and unrelated models, in
order of a draw, so that most families have no member among the first models. The first `exact` models choose the
anchors; all are placed on them. The table has, over queries from models past those: the share of the true ten nearest
among the candidates that the caller ranks again with the maps (100 of them), by inner products of coordinates as they
are and of coordinates scaled to norm 1; and the error of an inner product of coordinates, its median within a family
and outside of one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from modelspace.spaces import coordinates  # noqa: E402

N_MODELS, DIMENSION, FAMILY, QUERIES, CANDIDATES = 8000, 3000, 10, 200, 100

#: Cosine of a base with its fine-tunes, from near-copies to ones that share little.
COSINES = (0.9999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)

#: Cosine of unrelated models, as that of networks on one set of images.
COMMON = 0.3


def population(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, d) of models in random order, and the number of the family of each."""

    def directions(n: int) -> np.ndarray:
        rows = draw.normal(size=(n, DIMENSION))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    common = directions(1)
    bases = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * directions(N_MODELS // FAMILY)
    rows, families = [bases], [np.arange(len(bases))]
    for cosine in COSINES:
        rows.append(cosine * bases + np.sqrt(1 - cosine**2) * directions(len(bases)))
        families.append(np.arange(len(bases)))
    vectors = np.concatenate(rows)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = draw.permutation(len(vectors))
    return vectors[order], np.concatenate(families)[order]


def recall(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean share of the ten largest of each row of `truth` among the `CANDIDATES` largest of `scores`."""
    kept = np.argpartition(-scores, CANDIDATES, axis=1)[:, :CANDIDATES]
    best = np.argsort(-truth, axis=1)[:, :10]
    return float(np.mean([np.isin(right, some).mean() for right, some in zip(best, kept, strict=True)]))


def main() -> None:
    vectors, families = population(np.random.default_rng(0))
    print(f"{'exact':>6} {'anchors':>8} {'recall':>7} {'scaled':>7} {'in family':>10} {'outside':>8}")
    for exact in (256, 512, 1024):
        for most in (64, 128, 256, 512, 1024):
            if most > exact:
                continue
            chosen, _ = coordinates.pivots(vectors[:exact], most)
            known = vectors @ vectors[chosen].T
            lower = np.linalg.cholesky(known[chosen])
            placed = np.linalg.solve(lower, known.T).T.astype(np.float32)
            queries = np.arange(exact, N_MODELS)[:: (N_MODELS - exact) // QUERIES][:QUERIES]
            truth, scores = vectors[queries] @ vectors.T, placed[queries] @ placed.T
            unit = placed / np.linalg.norm(placed, axis=1, keepdims=True)
            scaled = unit[queries] @ unit.T
            error, near = np.abs(truth - scores), families[queries][:, None] == families
            for table in (truth, scores, scaled):
                table[np.arange(len(queries)), queries] = -np.inf
            near[np.arange(len(queries)), queries] = False
            figures = f"{recall(scores, truth):7.3f} {recall(scaled, truth):7.3f} {np.median(error[near]):10.3f}"
            print(f"{exact:6} {len(chosen):8} {figures} {np.median(error[~near]):8.3f}", flush=True)


if __name__ == "__main__":
    main()
