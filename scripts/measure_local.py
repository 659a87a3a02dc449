"""Choose how features are predicted place by place, and report the ranking that follows (docs/lab-book/evaluation.md).

    python scripts/measure_local.py              # the sweep, on the targets `chosen` of the oracle rooms alone
    python scripts/measure_local.py --report     # the ranking chosen: targets kept aside, yards, confidence

The sweep varies one thing at a time from what was chosen: neighbourhood, ridge, places that are predicted, images,
channels, bits, grid; alone and as the mean with the directed ranking by kernels of DDS or linear CKA. Features are the
encoder outputs of the 20 task encoders on rooms (`scripts/compute_baselines.py` has the same). Two minutes on a core.

The report has, for each ranking, P@1, P@5, Spearman, Kendall and regret@1 with random and popularity; what share of the
sources of each class of confidence (`spaces.evidence`) was among a target's best five; and the expected calibration
error of an isotonic map from scores to that share, fitted on `chosen`, in five bins of equal size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compute_baselines import features, shipped

from modelspace import zoo
from modelspace.embedding.prepare import Request, prepared
from modelspace.evaluation import evaluate, oracles, splits
from modelspace.evaluation.oracles import Oracle
from modelspace.representations import grids, kernels
from modelspace.spaces import local, predictability
from modelspace.spaces.evidence import HIGH, LOW

IMAGES = 200

#: Bins of the expected calibration error.
BINS = 5


@dataclass(frozen=True)
class Form:
    """A form of predicting place by place.

    Attributes:
        size: of the neighbourhood, in cells.
        ridge: in units of the mean eigenvalue.
        folds: over images.
        every: 2: every second row and column of places is predicted; 1: all.
        images: number of probe images, the first ones.
        channels: principal components kept.
        bits: per stored number.
        side: cells per side of the grid.
    """

    size: int = 3
    ridge: float = local.RIDGE
    folds: int = local.FOLDS
    every: int = 2
    images: int = 100
    channels: int = 16
    bits: int = 4
    side: int = 8


#: What was tried, one thing at a time.
FORMS = {
    "chosen": Form(),
    "the place alone": Form(size=1),
    "5 x 5": Form(size=5),
    "all places": Form(every=1),
    "ridge 0.001": Form(ridge=0.001),
    "ridge 0.1": Form(ridge=0.1),
    "ridge 1": Form(ridge=1.0),
    "2 folds": Form(folds=2),
    "25 images": Form(images=25),
    "50 images": Form(images=50),
    "200 images": Form(images=200),
    "8 channels": Form(channels=8),
    "8 bits": Form(bits=8),
    "4 x 4 cells, 200 images, all places": Form(side=4, images=200, every=1),
}


def outputs(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """T of task encoders on rooms: name -> (IMAGES, 16, 8, 8) float32."""
    _, _, images = shipped(IMAGES, IMAGES)
    out = {}
    for name in names:
        with prepared(Request(f"zoo:{name}", device="cpu"), images[:2]) as ready:
            table = features(ready.tap, ready.card.preprocessing, images)
        out[name] = table.reshape(len(table), -1, grids.SIDE, grids.SIDE)
    return out


def grid_of(output: np.ndarray, form: Form) -> np.ndarray:
    """The grid that a form sees: (images, side, side, channels) float32."""
    n, channels, side = form.images, output.shape[1], form.side
    step = grids.SIDE // side
    cells = output[:n].reshape(n, channels, side, step, side, step).mean(axis=(3, 5))
    table = cells.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
    table -= table.mean(axis=0)
    if form.channels < channels:
        _, directions = np.linalg.eigh(table.T @ table)
        table = table @ directions[:, ::-1][:, : form.channels]
    table /= np.sqrt(np.square(table).sum(axis=1).mean())
    rows = table.reshape(n, -1)
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    step_size = (high - low) / (2**form.bits - 1)
    rows = np.rint((rows - low) / step_size) * step_size + low
    return rows.reshape(n, side, side, -1).astype(np.float32)


def local_matrix(features_of: Mapping[str, np.ndarray], form: Form) -> np.ndarray:
    """Cross-validated R² place by place of all pairs, in this form: (n, n), row = target, column = source."""
    stored = [grid_of(output, form) for output in features_of.values()]
    chosen = slice(form.every - 1, None, form.every)
    targets = [grid[:, chosen, chosen].reshape(form.images, -1, grid.shape[3]) for grid in stored]
    out = np.empty((len(stored), len(stored)))
    for column, grid in enumerate(stored):
        x = _neighbourhoods(grid, form.size)[:, chosen, chosen]
        x = x.reshape(form.images, -1, x.shape[3])
        out[:, column] = [_r2(x, target, form) for target in targets]
    return out


def _neighbourhoods(grid: np.ndarray, size: int) -> np.ndarray:
    """(images, side, side, size² channels); the border is repeated."""
    margin, side = size // 2, grid.shape[1]
    padded = np.pad(grid, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    shifts = [(row, column) for row in range(size) for column in range(size)]
    return np.concatenate([padded[:, r : r + side, c : c + side] for r, c in shifts], axis=3)


def _r2(x: np.ndarray, y: np.ndarray, form: Form) -> float:
    width = x.shape[2]
    parts = [
        (x[f :: form.folds].reshape(-1, width), y[f :: form.folds].reshape(-1, y.shape[2])) for f in range(form.folds)
    ]
    grams = [(a.T @ a).astype(np.float64) for a, _ in parts]
    products = [(a.T @ b).astype(np.float64) for a, b in parts]
    total, target = sum(grams), sum(products)
    damping = form.ridge * np.trace(total) / width * np.eye(width)
    residual = 0.0
    for gram, product, (_, b) in zip(grams, products, parts, strict=True):
        weights = np.linalg.solve(total - gram + damping, target - product)
        residual += float(np.square(b).sum()) - 2 * np.sum(weights * product) + np.sum(weights * (gram @ weights))
    return 1 - residual / float(np.square(y).sum())


def directed(features_of: Mapping[str, np.ndarray], method: str) -> np.ndarray:
    """The directed ranking by kernels of whole images, (n, n)."""
    tables = [output.reshape(IMAGES, -1) for output in features_of.values()]
    return predictability.r2_matrix([kernels.kernel(method, table) for table in tables])


def rows(matrices: Mapping[str, np.ndarray], names: tuple[str, ...], oracle: Oracle) -> Iterator[str]:
    """A table in Markdown: a row for each ranking and baseline."""
    yield "| ranking | P@1 | P@5 | Spearman | Kendall | regret@1 |"
    yield "|---|---|---|---|---|---|"
    for row in evaluate({name: (names, matrix) for name, matrix in matrices.items()}, oracle, n_resamples=2).rows:
        means = {name: np.atleast_1d(interval.mean) for name, interval in row.summary.items()}
        values = (
            means["precision"][0],
            means["precision"][4],
            means["spearman"][0],
            means["kendall"][0],
            means["relative_regret"][0],
        )
        yield f"| {row.method} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


def pairs(matrix: np.ndarray, names: tuple[str, ...], oracle: Oracle) -> tuple[np.ndarray, np.ndarray]:
    """Of all measured pairs the score, and whether the source is among the target's best five."""
    scores, best = [], []
    for target, truth in zip(oracle.targets, oracle.truth(), strict=True):
        known = np.flatnonzero(np.isfinite(truth))
        line = matrix[names.index(target), [names.index(oracle.sources[j]) for j in known]]
        scores.append(line)
        best.append(truth[known] >= np.sort(truth[known])[-5])
    return np.concatenate(scores), np.concatenate(best)


def calibration_error(scores: np.ndarray, best: np.ndarray, fitted: tuple[np.ndarray, np.ndarray]) -> float:
    """Expected calibration error of the isotonic map `fitted` (scores, shares), in bins of equal size."""
    chance = np.interp(scores, *fitted)
    bins = np.array_split(np.argsort(chance, kind="stable"), BINS)
    return float(sum(len(b) * abs(chance[b].mean() - best[b].mean()) for b in bins) / len(scores))


def confidence(matrix: np.ndarray, names: tuple[str, ...], parts: Mapping[str, Oracle]) -> Iterator[str]:
    """Shares of sources among the best five, by class of confidence, and the calibration error of an isotonic map."""
    from scipy.optimize import isotonic_regression

    scores, best = pairs(matrix, names, parts["rooms, chosen"])
    order = np.argsort(scores, kind="stable")
    fitted = scores[order], isotonic_regression(best[order].astype(float)).x
    yield "| targets | low | medium | high | calibration error |"
    yield "|---|---|---|---|---|"
    for part, oracle in parts.items():
        scores, best = pairs(matrix, names, oracle)
        classes = [scores < LOW, (scores >= LOW) & (scores < HIGH), scores >= HIGH]
        cells = [f"{best[inside].mean():.2f} of {inside.sum()}" for inside in classes]
        yield f"| {part} | {' | '.join(cells)} | {calibration_error(scores, best, fitted):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="the ranking chosen, on all targets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rooms = oracles.load("rooms")
    names = tuple(name for name in zoo.names() if name in rooms.sources)
    features_of = outputs(names)
    by_kernels = {f"directed {method}": directed(features_of, method) for method in ("dds", "linear_cka")}
    chosen = rooms.subset(splits.split(rooms.targets, splits.SELECTION), rooms.sources)
    if not arguments.report:
        matrices = dict(by_kernels)
        for name, form in FORMS.items():
            alone = local_matrix(features_of, form)
            matrices[f"local, {name}"] = alone
            for method, matrix in by_kernels.items():
                matrices[f"mean with {method}, {name}"] = (alone + matrix) / 2
        print("\n".join(rows(matrices, names, chosen)))
        return
    stored = [grids.from_block(grids.to_block(grids.grid(_cells(output)), 4), 4) for output in features_of.values()]
    alone = local.r2_matrix(stored)
    matrices = {**by_kernels, "local": alone, "combined": (alone + by_kernels["directed dds"]) / 2}
    kept = rooms.subset(splits.split(rooms.targets, splits.HELD_OUT), rooms.sources)
    parts = {"rooms, chosen": chosen, "rooms, kept": kept, "yards": oracles.load("yards")}
    if "streets" in oracles.available():
        parts["streets"] = oracles.load("streets")
    for part, oracle in parts.items():
        print(f"\n{part}\n")
        print("\n".join(rows(matrices, names, replace(oracle, weights={}))))
    print("\nconfidence\n")
    print("\n".join(confidence(matrices["combined"], names, parts)))


def _cells(output: np.ndarray) -> np.ndarray:
    """T (N, C, SIDE, SIDE) as `grids.grid` takes it, of the first images."""
    part = output[: Form().images]
    return np.ascontiguousarray(part.transpose(0, 2, 3, 1)).reshape(len(part), grids.SIDE**2, -1)


if __name__ == "__main__":
    main()
