"""From score and rank to the chance that a source is among a target's best five: fitted, and checked elsewhere.

    python scripts/measure_confidence.py [--home DIR]     # print the fit and the table
    python scripts/measure_confidence.py --page           # and write the table and the figure into the docs

A logistic regression on the score of the ranking `combined` and the logarithm of the rank (`spaces.evidence.chance`) is
fitted on the targets `chosen`: in rooms, where nearly every ranking is right, and in repainted rooms, where they err
more often; with the 20 tasks' networks as sources, and with all. It is checked on the targets kept aside, in the yards
and in the streets. The expected calibration error is that of five bins of equal size; what a map without any fault
would have, as the pairs are few, stands next to it. A minute on a core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from oracle_parts import oracle_part
from population.page import replace_section
from scipy.optimize import minimize
from scipy.stats import rankdata

from modelspace.evaluation import splits
from modelspace.evaluation.oracles import Oracle
from modelspace.plots.figure import BODY, INK, LINE, SMALL, Picture, drawn
from modelspace.plots.margins import QUIET
from modelspace.registry import Registry
from modelspace.spaces import evidence
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.workspace import ModelSpace

TOP = Path(__file__).resolve().parent.parent
PAGE, PICTURE = TOP / "docs" / "lab-book" / "evaluation.md", TOP / "docs" / "pictures" / "reliability.png"

#: Oracles and their targets: fitted on, and checked on.
FITTED = dict.fromkeys(("rooms", "rooms-all", "repainted", "repainted-all"), splits.SELECTION)
CHECKED = {"rooms": splits.HELD_OUT, "rooms-all": splits.HELD_OUT, "yards": None, "yards-all": None, "streets": None}
LABELS = {
    "rooms": "rooms, kept",
    "rooms-all": "rooms, kept, all networks",
    "yards": "yards",
    "yards-all": "yards, all networks",
    "streets": "streets",
}

#: Bins of the expected calibration error, and draws of what it would be for a map without fault.
BINS, DRAWS = 5, 500

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Measured pairs of a target and a source.

    Attributes:
        scores, ranks: (n,) of the source in the ranking of the target.
        best: (n,) bool: whether it is among the target's best five.
    """

    scores: Array
    ranks: Array
    best: NDArray[np.bool_]

    @classmethod
    def of(cls, matrix: Array, names: Sequence[str], oracle: Oracle) -> Pairs:
        """The pairs of an oracle; matrix: (n, n) scores, row = target, column = source."""
        parts = []
        for target, truth in zip(oracle.targets, oracle.truth(), strict=True):
            known = np.flatnonzero(np.isfinite(truth))
            scores = matrix[names.index(target), [names.index(oracle.sources[j]) for j in known]]
            parts.append((scores, rankdata(-scores), truth[known] >= np.sort(truth[known])[-evidence.BEST]))
        scores, ranks, best = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return cls(scores, ranks, best)

    def chances(self, weights: evidence.Weights = evidence.WEIGHTS) -> Array:
        """(n,) the chance of each."""
        pairs = zip(self.scores, self.ranks, strict=True)
        return np.array([evidence.chance_of(float(score), float(rank), weights) for score, rank in pairs])


def fitted(parts: Sequence[Pairs]) -> evidence.Weights:
    """The weights of largest likelihood."""
    table = np.concatenate([np.stack([np.ones_like(p.scores), p.scores, np.log(p.ranks)], axis=1) for p in parts])
    best = np.concatenate([p.best for p in parts])

    def loss(weights: Array) -> tuple[float, Array]:
        logits = table @ weights
        gradient = table.T @ (1 / (1 + np.exp(-logits)) - best)
        return float(np.logaddexp(0, logits).sum() - logits[best].sum()), gradient

    first, score, rank = minimize(loss, np.zeros(3), jac=True).x
    return evidence.Weights(float(first), float(score), float(rank))


def bins(chances: Array) -> list[NDArray[np.int64]]:
    """Positions in bins of equal size, by chance."""
    return np.array_split(np.argsort(chances, kind="stable"), BINS)


def error(chances: Array, best: NDArray[np.bool_]) -> float:
    """Expected calibration error."""
    return sum(len(b) * abs(float(chances[b].mean() - best[b].mean())) for b in bins(chances)) / len(best)


def error_without_fault(chances: Array) -> float:
    """The mean calibration error if every chance were right."""
    rng = np.random.default_rng(0)
    return float(np.mean([error(chances, rng.random(len(chances)) < chances) for _ in range(DRAWS)]))


def table(checked: dict[str, Pairs]) -> Iterator[str]:
    """The table in Markdown."""
    yield "| targets | low | medium | high | calibration error | of a map without fault |"
    yield "|---|---|---|---|---|---|"
    for label, pairs in checked.items():
        chances = pairs.chances()
        classes = np.array([evidence.class_of(chance) for chance in chances])
        cells = []
        for name in evidence.CLASSES:
            inside = pairs.best[classes == name]
            cells.append(f"{inside.mean():.2f} of {len(inside)}" if len(inside) else "none")
        cells += [f"{error(chances, pairs.best):.3f}", f"{error_without_fault(chances):.3f}"]
        yield f"| {label} | {' | '.join(cells)} |"


@drawn
def picture(checked: dict[str, Pairs]) -> Picture:
    """A reliability diagram of each part: the share that was among the best five against the chance that was given."""
    width, height, left, bottom, top = 7.2, 1.95, 0.5, 0.5, 0.3
    figure = Picture(width, height)
    panel = (width - left - 0.1) / len(checked)
    for number, (label, pairs) in enumerate(checked.items()):
        place = (
            (left + number * panel) / width,
            bottom / height,
            (panel - 0.14) / width,
            (height - bottom - top) / height,
        )
        axes = figure.add_axes(place)
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)
        chances = pairs.chances()
        points = [(chances[b].mean(), pairs.best[b].mean(), len(b)) for b in bins(chances)]
        x, y = np.array([p[0] for p in points]), np.array([p[1] for p in points])
        half = 1.96 * np.sqrt(y * (1 - y) / np.array([p[2] for p in points]))
        axes.vlines(x, np.clip(y - half, 0, 1), np.clip(y + half, 0, 1), color=INK, linewidth=0.8)
        axes.plot(x, y, "o-", color=INK, markersize=3.4, linewidth=0.9)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_xticklabels(["0", "0.5", "1"], fontsize=SMALL)
        axes.set_yticklabels(["0", "0.5", "1"] if number == 0 else [], fontsize=SMALL)
        axes.set_title(label.replace(", all networks", ",\nall networks"), fontsize=SMALL, pad=3)
        if number == 0:
            axes.set_ylabel("among the best five", fontsize=SMALL)
    figure.text(0.5, 0.06 / height, "chance given", fontsize=BODY, color=QUIET, ha="center")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=TOP, help="folder of the registry")
    parser.add_argument("--page", action="store_true", help="write the table and the figure into the docs")
    options = parser.parse_args()
    with Registry.open(ModelSpace.open(options.home).path) as registry:
        spec = registry.space("transfer").spec
        ids, matrix = score_matrix(registry, spec, set(registry.model_ids(spec.space_id)), Ranking.of(spec))
        rows = registry.labels(ids)
        names = [rows[i].name for i in ids]
    fits = [Pairs.of(matrix, names, oracle_part(name, targets)) for name, targets in FITTED.items()]
    weights = fitted(fits)
    print(f"fitted: {weights}\nin use: {evidence.WEIGHTS}")
    checked = {LABELS[name]: Pairs.of(matrix, names, oracle_part(name, targets)) for name, targets in CHECKED.items()}
    text = "\n".join(table(checked)) + "\n"
    print(text)
    if options.page:
        replace_section("confidence", text, PAGE)
        PICTURE.write_bytes(picture(checked).to_bytes("png", dpi=200))


if __name__ == "__main__":
    main()
