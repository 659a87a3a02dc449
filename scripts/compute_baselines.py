"""Compute the feature-similarity baselines of the zoo's networks: SVCCA, linear CKA, RSA and DDS.

    python scripts/compute_baselines.py [--models NAME,NAME,...] [--timed NAME,NAME,...] [--repeats R] [--out FILE]

The features are the encoder outputs T on the rooms of the shipped registry's kernels (scripts/build_registry.py).
Similarities are computed for all networks; costs are measured for one network per task. The registry's spaces are timed
on the same images in the same run, model by model and alternating with the features, so that the costs are comparable.
Times are processor time on one thread, which is wall time on an otherwise idle core, and the minimum over the repeats;
they exclude loading models and rendering images. All figures except the times are the same in every run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from build_registry import BITS, CANVAS, FEATURE_IMAGES, IMAGES, METHODS, make_spaces

from modelspace import zoo
from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, embed
from modelspace.embedding.prepare import Request, prepared
from modelspace.encoder.layers import Tap
from modelspace.evaluation import Cost, stored
from modelspace.lab import similarity
from modelspace.lab.tasks import TASKS
from modelspace.probes.preprocess import to_input
from modelspace.registry import ProbeRow, Registry
from modelspace.representations import kernels
from modelspace.representations.maps import MapBlock
from modelspace.spaces import probe_sets, rerankings
from modelspace.spaces.kinds import LOCAL, BlendSpace, GridSpace, KernelSpace, decode_unit, space_of
from modelspace.spaces.ranking import Ranking
from modelspace.types import Preprocessing, SpaceSpec

FEATURES = (
    f"T flattened; a T of channels and pixels with more than {kernels.MOST} elements averaged on a grid of at most "
    f"{kernels.GRID} x {kernels.GRID}"
)


def shipped(images: int, feature_images: int) -> tuple[ProbeRow, list[SpaceSpec], np.ndarray]:
    """Probe set, spaces and images (feature_images, side, side, 3) uint8 of the full registry's rooms."""
    with tempfile.TemporaryDirectory() as folder:
        space = make_spaces(folder, images, CANVAS, BITS, feature_images, ("rooms",), METHODS)
        with Registry.open(space.path) as registry:
            specs = [row.spec for row in registry.spaces()]
            probes = registry.probe_set(specs[0].probe_id)
        return (
            probes,
            specs,
            np.concatenate(list(probe_sets.images(space.path, probes, 0, feature_images, DEFAULT_BATCH_SIZE))),
        )


def batches(images: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(images), DEFAULT_BATCH_SIZE):
        yield images[first : first + DEFAULT_BATCH_SIZE]


@torch.no_grad()
def features(tap: Tap, preprocessing: Preprocessing, images: np.ndarray) -> np.ndarray:
    """T of every image as a row: (N, d) float32; see `FEATURES`."""
    tables = []
    for batch in batches(images):
        output = tap(to_input(batch, preprocessing, torch.device("cpu")))
        tables.append(kernels.reduced(output).numpy())
    return np.concatenate(tables)


def affinity(blocks: list[list[MapBlock]], spec: SpaceSpec) -> np.ndarray:
    """Affinities of all pairs, (n, n) float64, from stored maps, kernels or grids."""
    space = space_of(spec)
    if isinstance(space, GridSpace):
        cells = [space.operand(only).rows for (only,) in blocks]
        return np.array([[float(np.square(a.T @ b).sum()) for b in cells] for a in cells])
    rows = [np.concatenate([decode_unit(block, spec) for block in maps]).ravel() for maps in blocks]
    table = np.stack(rows).astype(np.float64)
    return table @ table.T / spec.n_images


def held(
    name: str, member: SpaceSpec, specs: list[SpaceSpec], blocks: dict[str, list[list[MapBlock]]]
) -> list[np.ndarray]:
    """What a re-ranking of a blend compares: the kernels of its member, or the grids of the same images."""
    if rerankings.reranking(name).kind is KernelSpace:
        return [KernelSpace(member).kernel(kernel) for kernel in blocks[member.space_id]]
    spec = next(spec for spec in specs if spec.method == LOCAL and spec.probe_id == member.probe_id)
    return [GridSpace(spec).grid(grid) for grid in blocks[spec.space_id]]


def compute(
    names: list[str], timed: list[str], n_images: int, n_feature_images: int, repeats: int
) -> stored.StoredBaselines:
    torch.set_num_threads(1)
    probes, all_specs, images = shipped(n_images, n_feature_images)
    specs = [spec for spec in all_specs if not space_of(spec).is_derived]
    tables, weights, layers = [], [], []
    blocks: dict[str, list[list[MapBlock]]] = {spec.space_id: [] for spec in specs}
    forward = np.zeros((repeats, len(timed)))
    backward = {spec.space_id: np.zeros((repeats, len(timed))) for spec in specs}
    for number, name in enumerate(names, 1):
        with prepared(Request(f"zoo:{name}", device="cpu"), images[:2]) as ready:
            weights.append(ready.card.weights_sha256)
            layers.append(ready.card.layer)
            tables.append(features(ready.tap, ready.card.preprocessing, images))
            times = ""
            if name in timed:
                i = timed.index(name)
                for repeat in range(repeats):
                    start = time.process_time()
                    features(ready.tap, ready.card.preprocessing, images)
                    forward[repeat, i] = time.process_time() - start
                    for spec in specs:
                        start = time.process_time()
                        embedding = embed(
                            ready.tap, ready.card.preprocessing, batches(images), [spec], device=ready.device
                        )
                        backward[spec.space_id][repeat, i] = time.process_time() - start
                        if repeat == 0:
                            blocks[spec.space_id].append(embedding.blocks[spec.space_id])
                times = f": {forward[:, i].min():.2f} s" + "".join(
                    f", {spec.method} {backward[spec.space_id][:, i].min():.2f} s" for spec in specs
                )
        print(f"{number:3d}/{len(names)} {name:20s} T {tables[-1].shape[1]}{times}", flush=True)
    passes = len(timed) * len(images)
    space_costs = {}
    for spec in all_specs:
        space = space_of(spec)
        # The blends here have one member, and re-rank by what spaces on the same images hold.
        member = next(
            o for o in specs if o.space_id in (space.weights if isinstance(space, BlendSpace) else [spec.space_id])
        )
        seconds = float(backward[member.space_id].min(axis=0).sum())
        comparisons = []
        for _ in range(repeats):
            start = time.process_time()
            for name in rerankings.parts(Ranking.of(spec).rerank) if space.is_derived else ():
                rerankings.score_matrix(name, held(name, member, specs, blocks))
            affinity(blocks[member.space_id], member)
            comparisons.append(time.process_time() - start)
        n_inputs = len(timed) * spec.n_images
        space_costs[spec.space_id] = Cost(
            round(seconds + min(comparisons), 4), n_inputs, n_inputs if space_of(member).has_maps else 0
        )
        print(f"{spec.name}: embedding {seconds:.2f} s, comparisons {min(comparisons):.3f} s")
    seconds = float(forward.min(axis=0).sum())
    costs = {}
    features64 = [table.astype(np.float64) for table in tables]
    timed_features = [features64[names.index(name)] for name in timed]
    for method, similar in similarity.METHODS.items():
        comparisons = []
        for _ in range(repeats):
            start = time.process_time()
            similar(timed_features)
            comparisons.append(time.process_time() - start)
        costs[method] = Cost(round(seconds + min(comparisons), 4), passes, 0)
        print(f"{method}: features {seconds:.2f} s, comparisons {min(comparisons):.3f} s")
    return stored.StoredBaselines(
        names=tuple(names),
        weights=tuple(weights),
        layers=tuple(layers),
        n_images=len(images),
        probe_id=probes.probe_id,
        features=FEATURES,
        matrices={method: similar(features64) for method, similar in similarity.METHODS.items()},
        timed=tuple(timed),
        costs=costs,
        space_costs=space_costs,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="networks of the zoo; default: all")
    parser.add_argument("--timed", help="those whose costs are measured; default: one per task")
    parser.add_argument("--images", type=int, default=IMAGES, help="number of images for maps")
    parser.add_argument(
        "--feature-images", type=int, default=FEATURE_IMAGES, help="number of images for comparing features"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=stored.FILE)
    options = parser.parse_args()
    names = options.models.split(",") if options.models else zoo.names()
    timed = options.timed.split(",") if options.timed else [name for name in names if name in TASKS]
    text = stored.dump(compute(names, timed, options.images, options.feature_images, options.repeats))
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out.name}: {len(names)} models, {len(text) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
