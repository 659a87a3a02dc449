"""Compute the feature-similarity baselines of the zoo's task encoders: SVCCA, linear CKA, RSA and DDS.

    python scripts/compute_baselines.py [--models all|NAME,NAME,...] [--repeats R] [--out FILE]

The features are the encoder outputs T on the probe images of the shipped registry (scripts/build_registry.py). What
attribution takes on the same images is timed in the same run, model by model in turn with the features, so that the
costs can be compared. Times are processor time on one thread, which is wall time on a core that has nothing else to do,
and the least of the repeats; loading a model and drawing the images are in none of them. The figures but the times are
the same in every run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from build_registry import BITS, CANVAS, IMAGES, METHODS

from modelspace import spaces, zoo
from modelspace.embed import DEFAULT_BATCH_SIZE, embed
from modelspace.evaluation import Cost, similarity, stored
from modelspace.layers import Tap
from modelspace.maps import MapBlock, decode_unit
from modelspace.prepare import Request, prepared
from modelspace.probes.preprocess import to_input
from modelspace.registry import ProbeRow, Registry
from modelspace.types import Preprocessing, SpaceSpec
from modelspace.workspace import ModelSpace
from modelspace.zoo.tasks import TASKS

#: A map-shaped T of more elements is averaged over the cells of a grid first.
MOST, GRID = 8192, 8
FEATURES = f"T flattened; a T of channels and pixels with more than {MOST} elements averaged on an {GRID} x {GRID} grid"


def shipped(images: int) -> tuple[ProbeRow, list[SpaceSpec], np.ndarray]:
    """Probe set, spaces and images (N, side, side, 3) uint8 of the shipped registry."""
    with tempfile.TemporaryDirectory() as folder:
        space = ModelSpace.create(folder, methods=METHODS, images=images, canvas=CANVAS, bits=BITS)
        with Registry.open(space.path) as registry:
            specs = [row.spec for row in registry.spaces()]
            probes = registry.probe_set(specs[0].probe_id)
        return probes, specs, np.concatenate(list(spaces.images(space.path, probes, 0, images, DEFAULT_BATCH_SIZE)))


def batches(images: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(images), DEFAULT_BATCH_SIZE):
        yield images[first : first + DEFAULT_BATCH_SIZE]


@torch.no_grad()
def features(tap: Tap, preprocessing: Preprocessing, images: np.ndarray) -> np.ndarray:
    """T of every image as a row: (N, d) float32; see `FEATURES`."""
    tables = []
    for batch in batches(images):
        output = tap(to_input(batch, preprocessing, torch.device("cpu")))
        if output.ndim == 4 and output[0].numel() > MOST:
            output = F.adaptive_avg_pool2d(output, GRID)
        tables.append(output.flatten(1).numpy())
    return np.concatenate(tables)


def affinity(blocks: list[list[MapBlock]], spec: SpaceSpec) -> np.ndarray:
    """Affinities of all pairs, (n, n) float64, from stored maps."""
    rows = [np.concatenate([decode_unit(b, spec.canvas, spec.bits) for b in one]).ravel() for one in blocks]
    table = np.stack(rows).astype(np.float64)
    return table @ table.T / spec.n_images


def compute(names: list[str], images_wanted: int, repeats: int) -> stored.StoredBaselines:
    torch.set_num_threads(1)
    probes, specs, images = shipped(images_wanted)
    tables, weights, layers = [], [], []
    blocks: dict[str, list[list[MapBlock]]] = {spec.space_id: [] for spec in specs}
    forward = np.zeros((repeats, len(names)))
    backward = {spec.space_id: np.zeros((repeats, len(names))) for spec in specs}
    for i, name in enumerate(names):
        with prepared(Request(f"zoo:{name}", device="cpu"), images[:2]) as ready:
            weights.append(ready.card.weights_sha256)
            layers.append(ready.card.layer)
            for repeat in range(repeats):
                start = time.process_time()
                table = features(ready.tap, ready.card.preprocessing, images)
                forward[repeat, i] = time.process_time() - start
                for spec in specs:
                    start = time.process_time()
                    one = embed(ready.tap, ready.card.preprocessing, batches(images), [spec], device=ready.device)
                    backward[spec.space_id][repeat, i] = time.process_time() - start
                    if repeat == 0:
                        blocks[spec.space_id].append(one.blocks[spec.space_id])
            tables.append(table)
        spent = ", ".join(f"{spec.method} {backward[spec.space_id][:, i].min():.2f} s" for spec in specs)
        print(
            f"{i + 1:3d}/{len(names)} {name:20s} T {table.shape[1]}: {forward[:, i].min():.2f} s, {spent}", flush=True
        )
    passes = len(names) * len(images)
    space_costs = {}
    for spec in specs:
        took = []
        for _ in range(repeats):
            start = time.process_time()
            affinity(blocks[spec.space_id], spec)
            took.append(time.process_time() - start)
        embedding = float(backward[spec.space_id].min(axis=0).sum())
        space_costs[spec.space_id] = Cost(round(embedding + min(took), 4), passes, passes)
        print(f"{spec.method}: embedding {embedding:.2f} s, affinities {min(took):.3f} s")
    once = float(forward.min(axis=0).sum())
    costs = {}
    matrices = {}
    wide = [table.astype(np.float64) for table in tables]
    for method, similar in similarity.METHODS.items():
        took = []
        for _ in range(repeats):
            start = time.process_time()
            matrices[method] = similar(wide)
            took.append(time.process_time() - start)
        costs[method] = Cost(round(once + min(took), 4), passes, 0)
        print(f"{method}: features {once:.2f} s, comparisons {min(took):.3f} s")
    return stored.StoredBaselines(
        names=tuple(names),
        weights=tuple(weights),
        layers=tuple(layers),
        n_images=len(images),
        probe_id=probes.probe_id,
        features=FEATURES,
        matrices=matrices,
        costs=costs,
        space_costs=space_costs,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="networks of the zoo, or all; default: one for each task")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=stored.FILE)
    options = parser.parse_args()
    if options.models is None:
        names = [name for name in zoo.names() if name in TASKS]
    else:
        names = zoo.names() if options.models == "all" else options.models.split(",")
    text = stored.dump(compute(names, options.images, options.repeats))
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out.name}: {len(names)} models, {len(text) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
