"""Choose how features are predicted place by place, and report the ranking that follows (docs/lab-book/evaluation.md).

    python scripts/measure_local.py              # the sweep, on the targets `chosen` of the oracle rooms alone
    python scripts/measure_local.py --report     # the ranking chosen: targets kept aside, yards, streets
    python scripts/measure_local.py --probes     # the same with probe images of each world: which ones to take

The sweep varies one thing at a time from what was chosen: neighbourhood, ridge, places that are predicted, images,
channels, bits, grid; alone and as the mean with the directed ranking by kernels of DDS or linear CKA. Features are the
encoder outputs of the 20 task encoders on rooms (`scripts/compute_baselines.py` has the same). Two minutes on a core.

The report has, for each ranking, P@1, P@5, Spearman, Kendall and regret@1 with random and popularity; `--probes` has
them for the default ranking alone. Confidence is checked by `scripts/measure_confidence.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compute_baselines import features, shipped
from oracle_parts import oracle_part

from modelspace import zoo
from modelspace.embedding.prepare import Request, prepared
from modelspace.evaluation import evaluate, oracles, splits
from modelspace.evaluation.oracles import Oracle
from modelspace.representations import grids, kernels
from modelspace.spaces import local, predictability
from modelspace.worlds import WORLDS

IMAGES = 200

#: Side of the probe images in pixels.
SIZE = 128


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


def outputs(names: Sequence[str], world: str = "rooms") -> dict[str, np.ndarray]:
    """T of task encoders on images of a world: name -> (IMAGES, 16, 8, 8) float32."""
    if world == "rooms":
        _, _, images = shipped(IMAGES, IMAGES)
    else:
        images = WORLDS[world].load().render_rgb8(0, IMAGES, 0, SIZE)
    return outputs_on(images, names)


def outputs_on(images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """T of task encoders on images (N, side, side, 3) uint8: name -> (N, 16, 8, 8) float32."""
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


def combined(features_of: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The default ranking and its parts, as the registry stores what they need: name -> (n, n)."""
    stored = [grids.from_block(grids.to_block(grids.grid(_cells(output)), 4), 4) for output in features_of.values()]
    places, whole = local.r2_matrix(stored), directed(features_of, "dds")
    return {"directed dds": whole, "local": places, "combined": (places + whole) / 2}


def probes(names: tuple[str, ...], parts: Mapping[str, Oracle]) -> Iterator[str]:
    """A table in Markdown: the default ranking with probe images of each world, on each part."""
    yield "| probe images | " + " | ".join(f"{part}: P@5 | Spearman | regret@1" for part in parts) + " |"
    yield "|---" * (1 + 3 * len(parts)) + "|"
    tables = {world: combined(outputs(names, world))["combined"] for world in WORLDS}
    outcomes = {
        part: evaluate({world: (names, matrix) for world, matrix in tables.items()}, oracle, n_resamples=2)
        for part, oracle in parts.items()
    }
    for method in [row.method for row in next(iter(outcomes.values())).rows]:
        cells = []
        for outcome in outcomes.values():
            (row,) = (row for row in outcome.rows if row.method == method)
            means = {name: np.atleast_1d(interval.mean) for name, interval in row.summary.items()}
            values = means["precision"][4], means["spearman"][0], means["relative_regret"][0]
            cells += [f"{value:.2f}" for value in values]
        yield f"| {method} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="the ranking chosen, on all targets")
    parser.add_argument("--probes", action="store_true", help="the ranking chosen, with probe images of each world")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rooms = oracles.load("rooms")
    names = tuple(name for name in zoo.names() if name in rooms.sources)
    chosen = oracle_part("rooms", splits.SELECTION)
    parts = {"rooms, chosen": chosen, "rooms, kept": oracle_part("rooms", splits.HELD_OUT)}
    parts |= {world: oracles.load(world) for world in ("repainted", "yards", "streets") if world in oracles.available()}
    parts = {part: replace(oracle, weights={}) for part, oracle in parts.items()}
    if arguments.probes:
        print("\n".join(probes(names, parts)))
        return
    features_of = outputs(names)
    by_kernels = {f"directed {method}": directed(features_of, method) for method in ("dds", "linear_cka")}
    if not arguments.report:
        matrices = dict(by_kernels)
        for name, form in FORMS.items():
            alone = local_matrix(features_of, form)
            matrices[f"local, {name}"] = alone
            for method, matrix in by_kernels.items():
                matrices[f"mean with {method}, {name}"] = (alone + matrix) / 2
        print("\n".join(rows(matrices, names, chosen)))
        return
    matrices = by_kernels | combined(features_of)
    for part, oracle in parts.items():
        print(f"\n{part}\n")
        print("\n".join(rows(matrices, names, oracle)))


def _cells(output: np.ndarray) -> np.ndarray:
    """T (N, C, SIDE, SIDE) as `grids.grid` takes it, of the first images."""
    part = output[: Form().images]
    return np.ascontiguousarray(part.transpose(0, 2, 3, 1)).reshape(len(part), grids.SIDE**2, -1)


if __name__ == "__main__":
    main()
