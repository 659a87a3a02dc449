"""Rank sources by how well they predict what the target network *says*, not its features: tried, and dropped.

    python scripts/measure_outputs.py [--cache .cache/outputs]     # four minutes on a core

A ranking by features takes all of the target's features for its task, though its own head may read a part of them. So
each task encoder gets a head: the readout of `modelspace.lab.transfer` for its own task, trained on its features in
rooms (no source is involved, and no held-out scene). The score of a source is then the cross-validated R² of a ridge
regression from its features to the head's outputs on the probe images: from 3 x 3 cells to each cell's outputs, or
from the means of the image's quarters to a vector of outputs.

The table has the targets `chosen` of the oracle `rooms`, and `repainted`, with probe images of three worlds, beside the
same regression to the features and the mean of both. docs/lab-book/evaluation.md says what came out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure_dropped import figures
from measure_local import outputs
from numpy.typing import NDArray
from oracle_parts import oracle_part
from torch import Tensor

from modelspace import zoo
from modelspace.evaluation import oracles, splits
from modelspace.lab import transfer
from modelspace.lab.tasks import task
from modelspace.lab.transfer import Budget, Readouts, Scenes

TOP = Path(__file__).resolve().parent.parent

#: Probe images, folds over them, and the ridge in units of the mean eigenvalue.
IMAGES, FOLDS, RIDGE = 100, 4, 0.01

#: Each head is trained with these seeds, and says the mean of its outputs.
SEEDS = (0, 1, 2)

Array = NDArray[np.float64]


class Head:
    """What reads a network's own task from its features.

    Args:
        name: of the network.
        pool: scenes that it is trained on.
        budget: of its training.
    """

    def __init__(self, name: str, pool: Scenes, budget: Budget) -> None:
        target = task(name)
        self._pool = transfer.encode(zoo.load(name), target, pool.rgb, transfer.SIDE)
        self._channels = budget.channels
        patches = self._patches(self._pool)
        self._readouts = Readouts([target], SEEDS, patches.shape[-1], budget.hidden)
        self._readouts.fit(patches, pool.labels, budget)

    def outputs(self, features: Tensor) -> Array:
        """Of features (N, C, 8, 8): (N, 64, d), or (N, d) of a vector or classes."""
        patches = self._patches(features).expand(len(SEEDS), -1, -1, -1)
        with torch.no_grad():
            ((_, said),) = self._readouts.predict(patches)
        return np.asarray(said.mean(0).double().numpy())

    def _patches(self, features: Tensor) -> Tensor:
        return transfer.patches(self._pool, features, self._channels)[1]


def places(features: Tensor) -> Array:
    """The 3 x 3 neighbourhood of each cell: (N, 64, 9 C), of features with mean 0 and mean squared norm 1."""
    centred = features - features.mean((0, 2, 3), keepdim=True)
    scaled = centred / centred.square().mean((0, 2, 3)).sum().sqrt()
    return np.asarray(F.unfold(scaled, 3, padding=1).transpose(1, 2).double().numpy())


def quarters(features: Tensor) -> Array:
    """The means of an image's quarters: (N, 1, 4 C)."""
    means = F.adaptive_avg_pool2d(features, 2).flatten(1)
    centred = means - means.mean(0)
    scaled = centred / centred.square().sum(1).mean().sqrt()
    return np.asarray(scaled[:, None].double().numpy())


def r2(x: Array, y: Array) -> float:
    """Cross-validated R² of a ridge regression from (N, m, p) to (N, m, q), folds over the N images."""
    squares = total = 0.0
    for fold in range(FOLDS):
        is_test = np.arange(len(x)) % FOLDS == fold
        known, labels = x[~is_test].reshape(-1, x.shape[-1]), y[~is_test].reshape(-1, y.shape[-1])
        middle, mean = known.mean(0), labels.mean(0)
        gram = (known - middle).T @ (known - middle)
        gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram)
        weights = np.linalg.solve(gram, (known - middle).T @ (labels - mean))
        error = y[is_test] - mean - (x[is_test] - middle) @ weights
        squares += float(np.square(error).sum())
        total += float(np.square(y[is_test] - mean).sum())
    return 1 - squares / total


def table(cache: Path) -> Iterator[str]:
    """Spearman, P@5 and regret@1 for each world of probe images."""
    names, targets = oracles.load("rooms").sources, oracles.load("rooms").targets
    parts = [oracle_part(name, splits.SELECTION) for name in ("rooms", "repainted")]
    budget = Budget()
    pool, _ = transfer.prepare(cache, budget, targets)
    heads = {name: Head(name, pool, budget) for name in targets}
    yield "| probe images | predicted | rooms, chosen: Spearman (P@5, regret@1) | repainted |"
    yield "|---" * 4 + "|"
    for world in ("rooms", "repainted", "yards"):
        features = {
            name: torch.from_numpy(array[:IMAGES].astype(np.float32)) for name, array in outputs(names, world).items()
        }
        cells = {name: places(values) for name, values in features.items()}
        means = {name: quarters(values) for name, values in features.items()}
        by_output = np.zeros((len(names), len(names)))
        by_feature = np.zeros((len(names), len(names)))
        for row, target in enumerate(names):
            if target not in heads:
                continue
            said = heads[target].outputs(features[target])
            own = np.asarray(features[target].flatten(2).transpose(1, 2).double().numpy())
            for column, source in enumerate(names):
                is_dense = said.ndim == 3
                by_output[row, column] = r2(
                    cells[source] if is_dense else means[source], said.reshape(IMAGES, -1, said.shape[-1])
                )
                by_feature[row, column] = r2(cells[source], own)
        rankings = {"its features": by_feature, "its outputs": by_output, "both, the mean": by_feature + by_output}
        for label, matrix in rankings.items():
            yield f"| {world} | {label} | {' | '.join(figures(matrix, names, oracle) for oracle in parts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=TOP / ".cache" / "outputs", help="folder of rendered scenes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for line in table(options.cache):
        print(line, flush=True)


if __name__ == "__main__":
    main()
