"""How many of the best sources of very many models a directed query finds, and what it takes: docs/scale.md.

    python scripts/simulate_population.py HOME --models 100000 --spaces dds
    python scripts/measure_proposals.py HOME [--targets 40] [--seed 0]

HOME is a registry with a space of kernels. Its best sources are looked for among all models: each is scored on half of
the probe images, with one image left out at a time. The best `--kept` by that and the `SCREENED` nearest by affinity
are scored by the directed R² as it is defined. Recall is the share of the best 1, 5 and 10 that a query of ten
neighbours finds. Ways of querying are: comparing the `RERANKED` nearest, as earlier versions did; the `SCREENED`
nearest; and what `index/<space>.proposals` proposes. Times are processor time of a query of an open registry, each
model asked for twice, of which the second counts. It also says how alike the order by the images that proposals use
and that by R² are. It takes two minutes for 100,000 models, and prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from modelspace.home import REGISTRY
from modelspace.registry import MapBlock, Registry
from modelspace.spaces import block_files, neighbours, predictability, proposals
from modelspace.spaces.kinds import KernelSpace
from modelspace.workspace import ModelSpace

#: Models that are read at once.
ROWS = 1000

#: Numbers of best sources.
NUMBERS = (1, 5, 10)

#: Scores that differ by less are the same.
ROUNDING = 1e-9

Kernel = NDArray[np.float32]


class Truth(NamedTuple):
    """What the queries should find.

    Attributes:
        best: (targets, max(NUMBERS)) the largest directed R² of each target, largest first.
        agreement: Spearman correlation of R² and the rough score by the images of proposals, mean over targets.
    """

    best: NDArray[np.float64]
    agreement: float


def truth(registry: Registry, space: KernelSpace, targets: Sequence[int], kept: int) -> Truth:
    """Score the sources of some targets."""
    space_id, n_images = space.spec.space_id, space.spec.n_images
    ids = np.array(registry.model_ids(space_id))
    block_files.attach(registry, space)
    own = dict(registry.map_blocks_at(space_id, 0, targets))
    rough = rough_scores(registry, space, ids, [own[i] for i in targets], slice(None, None, 2))
    index = neighbours.load_index(registry, registry.space(space_id))
    best, agreement = np.empty((len(targets), max(NUMBERS))), []
    for row, target in enumerate(targets):
        _, (near,) = index.search(index.vector(target)[None], neighbours.SCREENED + 1)
        several = sorted({*ids[np.argsort(-rough[row])[: kept + 1]].tolist(), *near.tolist()} - {target})
        kernel = space.kernel([own[target]])
        blocks = read(registry, space_id, several)
        weights = (predictability.out_of_fold_weights(space.kernel([blocks[i]])) for i in several)
        scores = np.array([predictability.r2_per_image(kernel, each).mean() for each in weights])
        best[row] = np.sort(scores)[::-1][: max(NUMBERS)]
        chosen = proposals.chosen_images(n_images)
        (proposing,) = rough_scores(registry, space, np.array(several), [own[target]], chosen)
        agreement.append(spearmanr(scores, proposing).statistic)
    return Truth(best, float(np.mean(agreement)))


def rough_scores(
    registry: Registry, space: KernelSpace, ids: NDArray[np.int64], targets: Sequence[MapBlock], images: slice
) -> NDArray[np.float32]:
    """R² of sources for targets on some images, with one left out at a time: (targets, sources)."""
    kernels = space.rough_kernels(targets, images)
    small = (kernels / np.trace(kernels, axis1=1, axis2=2)[:, None, None]).reshape(len(kernels), -1)
    rough = np.empty((len(targets), len(ids)), np.float32)
    for start in range(0, len(ids), ROWS):
        part = ids[start : start + ROWS].tolist()
        blocks = read(registry, space.spec.space_id, part)
        matrices = predictability.rough_matrices(space.rough_kernels([blocks[i] for i in part], images))
        rough[:, start : start + len(part)] = small @ matrices.reshape(len(part), -1).T
    return rough


def read(registry: Registry, space_id: str, ids: Sequence[int]) -> dict[int, MapBlock]:
    """The blocks of some models, from the copies next to the index if there are some."""
    blocks: dict[int, MapBlock] = {}
    for start in range(0, len(ids), ROWS):
        part = ids[start : start + ROWS]
        registry.fetch_blocks(space_id, part)
        blocks |= registry.map_blocks_at(space_id, 0, part)
        registry.forget_blocks()
    return blocks


@contextmanager
def without_proposals(screened: int) -> Iterator[None]:
    """Compare a number of the nearest, as if no file proposed any."""
    kept = neighbours.SCREENED, proposals.opened
    neighbours.SCREENED, proposals.opened = screened, lambda *_: None
    try:
        yield
    finally:
        neighbours.SCREENED, proposals.opened = kept


def measured(space: ModelSpace, name: str, targets: Sequence[str], best: NDArray[np.float64]) -> tuple[str, ...]:
    """Recall at each of `NUMBERS`, and milliseconds of a query."""
    shares, spent = [], []
    with space.kept_open():
        for target, row in zip(targets, best, strict=True):
            for _ in range(2):
                started = time.process_time()
                result = space.nearest(target, k=max(NUMBERS), space=name, rerank="directed")
                last = time.process_time() - started
            spent.append(1e3 * last)
            scores = np.array([neighbour.score for neighbour in result])
            shares.append([np.mean(scores[:k] >= row[k - 1] - ROUNDING) for k in NUMBERS])
    return *(f"{value:.2f}" for value in np.mean(shares, axis=0)), f"{np.median(spent):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--space", default="dds", help="a space of kernels")
    parser.add_argument("--targets", type=int, default=40, help="number of models that are asked for")
    parser.add_argument("--kept", type=int, default=300, help="models that are scored as it is defined")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of targets")
    options = parser.parse_args()
    with Registry.open(options.home / REGISTRY) as registry:
        row = registry.space(options.space)
        kernels = neighbours.kernel_space(registry, row.spec)
        ids = registry.model_ids(row.spec.space_id)
        chosen = np.random.default_rng(options.seed).choice(len(ids), min(options.targets, len(ids)), replace=False)
        targets = [ids[i] for i in chosen]
        names = [registry.labels([i])[i].name for i in targets]
        best, agreement = truth(registry, kernels, targets, options.kept)
    space = ModelSpace.open(options.home)
    print(
        f"{len(ids):,} models, {len(targets)} of them asked for; Spearman of R² and the rough score {agreement:.3f}\n"
    )
    print(f"| compared | {' | '.join(f'of the best {k}' for k in NUMBERS)} | ms |\n|---|{'---|' * (len(NUMBERS) + 1)}")
    for screened in (neighbours.RERANKED, neighbours.SCREENED):
        with without_proposals(screened):
            figures = measured(space, options.space, names, best)
        print(f"| the {screened:,} nearest | {' | '.join(figures)} |")
    print(f"| what is proposed | {' | '.join(measured(space, options.space, names, best))} |")


if __name__ == "__main__":
    main()
