"""How well similarities of stored kernels rank transfer sources, and what a pair costs: docs/lab-book/similarities.md.

    python scripts/measure_similarities.py --choose [--home DIR] [--space NAME ...]
    python scripts/measure_similarities.py [--home DIR] [--space NAME ...] [--repeats R]

With --choose, on the targets `chosen` of the oracle `rooms` alone: each similarity that compares neighbours, for 5, 10,
20 and 50 of them, and the others. Without it, with the default number of neighbours: the targets `kept` of `rooms`, all
targets of `yards`, and processor time per model and per pair of models (the minimum over the repeats), on one thread.
Both print Markdown. Kernels are read from the registry; no model is loaded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelspace import evaluation
from modelspace.evaluation import Evaluation, splits
from modelspace.evaluation.comparison import MEAN_RANK, POPULARITY, RANDOM
from modelspace.home import REGISTRY
from modelspace.registry import Registry
from modelspace.spaces import affinity, predictability, rerankings, similarities
from modelspace.spaces.neighbours import kernel_space

#: The numbers of neighbours that were tried.
NUMBERS = (5, 10, 20, 50)

#: Figure -> (name in an evaluation, K of a curve).
FIGURES = {
    "P@5": ("precision", 5),
    "Spearman": ("spearman", None),
    "Kendall": ("kendall", None),
    "regret@1": ("relative_regret", 1),
}

Tables = dict[str, tuple[tuple[str, ...], np.ndarray]]


def kernels_of(home: Path, space: str, measured: Collection[str]) -> dict[str, np.ndarray]:
    """Model name -> kernel, (N, N) float64, of the models of a space that were measured."""
    with Registry.open(home / REGISTRY) as registry:
        space_of_kernels = kernel_space(registry, registry.space(space).spec)
        names = {row.model_id: row.card.name for row in registry.models()}
        ids = [i for i in registry.model_ids(space_of_kernels.spec.space_id) if names[i] in measured]
        return {names[i]: kernel for i, kernel in affinity.kernels(registry, space_of_kernels, ids)}


def tables_of(space: str, kernels: Mapping[str, np.ndarray], numbers: tuple[int, ...] | None) -> Tables:
    """The scores of every ranking of a space's kernels; with numbers, each of them as number of neighbours."""
    names = tuple(kernels)
    rows = np.stack([kernel.ravel() / np.linalg.norm(kernel) for kernel in kernels.values()])
    tables: Tables = {
        f"{space}, affinity": (names, rows @ rows.T),
        f"{space}, directed": (names, predictability.r2_matrix(list(kernels.values()))),
    }
    for name, similarity in similarities.SIMILARITIES.items():
        for k in numbers if numbers and similarity.has_neighbours else (None,):
            label = f"{space}, {name}" + ("" if k is None else f", k = {k}")
            tables[label] = names, similarities.similarity_matrix(name, list(kernels.values()), k)
    return tables


def table(outcome: Evaluation) -> str:
    """A Markdown table of the figures with their intervals, baselines last."""
    lines = [f"| ranking | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    methods = [row.method for row in outcome.rows if row.method not in (RANDOM, POPULARITY, MEAN_RANK)]
    for method in (*methods, RANDOM, POPULARITY, MEAN_RANK):
        cells = []
        for figure, k in FIGURES.values():
            value = outcome.row(method).summary[figure]
            mean, low, high = (part if k is None else part[k - 1] for part in (value.mean, value.low, value.high))
            cells.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def choice(outcome: Evaluation) -> str:
    """The mean over all spaces and similarities of the Spearman correlation of each number of neighbours."""
    lines = ["| k | mean of Spearman | mean of P@5 |", "|---|---|---|"]
    for k in NUMBERS:
        rows = [row.summary for row in outcome.rows if row.method.endswith(f", k = {k}")]
        spearman = np.mean([float(row["spearman"].mean) for row in rows])
        precision = np.mean([float(row["precision"].mean[4]) for row in rows])
        lines.append(f"| {k} | {spearman:.3f} | {precision:.3f} |")
    return "\n".join(lines)


def milliseconds(function: Callable[..., object], calls: list[tuple[Any, ...]], repeats: int) -> float:
    """Processor time of one of the calls with these arguments; the minimum over the repeats."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for arguments in calls:
            function(*arguments)
        times.append(time.process_time() - start)
    return 1000 * min(times) / len(calls)


def costs(kernels: list[np.ndarray], repeats: int) -> str:
    """A Markdown table of what every re-ranking costs per model and per pair, for up to ten models."""
    kernels = kernels[:10]
    lines = [f"| re-ranking, {len(kernels[0])} images | ms per model | ms per pair |", "|---|---|---|"]
    for name in rerankings.RERANKINGS[1:]:
        reranking = rerankings.reranking(name)
        sources = [reranking.of_source(kernel) for kernel in kernels]
        target = reranking.of_target(kernels[0])
        once = milliseconds(reranking.of_source, [(kernel,) for kernel in kernels], repeats)
        pairs = milliseconds(reranking.per_image, [(target, source) for source in sources], repeats)
        lines.append(f"| {name} | {once:.2f} | {pairs:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, default=Path())
    parser.add_argument("--space", nargs="+", default=["dds"])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    oracle = evaluation.load("rooms")
    measured = {*oracle.targets, *oracle.sources}
    by_space = {space: kernels_of(options.home, space, measured) for space in options.space}
    tables: Tables = {}
    for space, kernels in by_space.items():
        tables |= tables_of(space, kernels, NUMBERS if options.choose else None)
    rooms = evaluation.evaluate(tables, oracle)
    if options.choose:
        chosen = rooms.over(splits.select(rooms.targets, splits.SELECTION))
        print(f"Oracle rooms, targets chosen: {', '.join(chosen.targets)}\n\n{table(chosen)}\n\n{choice(chosen)}")
        return
    kept = rooms.over(splits.select(rooms.targets, splits.HELD_OUT))
    yards = evaluation.evaluate(tables, evaluation.load("yards"))
    for title, outcome in (("rooms, targets kept", kept), ("yards, all targets", yards)):
        print(f"Oracle {title}: {', '.join(outcome.targets)}\n\n{table(outcome)}\n")
    print(costs(list(next(iter(by_space.values())).values()), options.repeats))


if __name__ == "__main__":
    main()
