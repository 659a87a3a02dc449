"""Compute the feature-similarity baselines of the zoo's networks: SVCCA, linear CKA, RSA and DDS.

    python scripts/compute_baselines.py [--models NAME,NAME,...] [--timed NAME,NAME,...] [--repeats R] [--out FILE]

The features are the encoder outputs T on the rooms of the shipped registry's kernels (scripts/build_registry.py).
Similarities are computed of all networks; costs are taken of one network for each task. What the registry's own spaces
take on the same images is timed in the same run, model by model in turn with the features, so that the costs can be
compared. Times are processor time on one thread, which is wall time on a core that has nothing else to do, and the
least of the repeats; loading a model and drawing the images are in none of them. The figures but the times are the
same in every run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from build_registry import BITS, CANVAS, FEATURE_IMAGES, IMAGES, make_spaces

from modelspace import zoo
from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, embed
from modelspace.embedding.prepare import Request, prepared
from modelspace.encoder.layers import Tap
from modelspace.evaluation import Cost, similarity, stored
from modelspace.probes.preprocess import to_input
from modelspace.registry import ProbeRow, Registry
from modelspace.representations import kernels
from modelspace.representations.maps import MapBlock
from modelspace.spaces import predictability, probe_sets
from modelspace.spaces.kinds import BlendSpace, KernelSpace, decode_unit, space_of
from modelspace.types import Preprocessing, SpaceSpec
from modelspace.zoo.tasks import TASKS

FEATURES = (
    f"T flattened; a T of channels and pixels with more than {kernels.MOST} elements averaged on a grid of at most "
    f"{kernels.GRID} x {kernels.GRID}"
)


def shipped(images: int, feature_images: int) -> tuple[ProbeRow, list[SpaceSpec], np.ndarray]:
    """Probe set, spaces and images (N, side, side, 3) uint8 of the shipped registry; N is for the features."""
    with tempfile.TemporaryDirectory() as folder:
        space = make_spaces(folder, images, CANVAS, BITS, feature_images, ("rooms",))
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
    """Affinities of all pairs, (n, n) float64, from stored maps."""
    rows = [np.concatenate([decode_unit(b, spec) for b in one]).ravel() for one in blocks]
    table = np.stack(rows).astype(np.float64)
    return table @ table.T / spec.n_images


def compute(
    names: list[str], timed: list[str], images_wanted: int, features_wanted: int, repeats: int
) -> stored.StoredBaselines:
    torch.set_num_threads(1)
    probes, everything, images = shipped(images_wanted, features_wanted)
    specs = [spec for spec in everything if not space_of(spec).is_derived]
    tables, weights, layers = [], [], []
    blocks: dict[str, list[list[MapBlock]]] = {spec.space_id: [] for spec in specs}
    forward = np.zeros((repeats, len(timed)))
    backward = {spec.space_id: np.zeros((repeats, len(timed))) for spec in specs}
    for done, name in enumerate(names):
        with prepared(Request(f"zoo:{name}", device="cpu"), images[:2]) as ready:
            weights.append(ready.card.weights_sha256)
            layers.append(ready.card.layer)
            tables.append(features(ready.tap, ready.card.preprocessing, images))
            spent = ""
            if name in timed:
                i = timed.index(name)
                for repeat in range(repeats):
                    start = time.process_time()
                    features(ready.tap, ready.card.preprocessing, images)
                    forward[repeat, i] = time.process_time() - start
                    for spec in specs:
                        start = time.process_time()
                        one = embed(ready.tap, ready.card.preprocessing, batches(images), [spec], device=ready.device)
                        backward[spec.space_id][repeat, i] = time.process_time() - start
                        if repeat == 0:
                            blocks[spec.space_id].append(one.blocks[spec.space_id])
                spent = f": {forward[:, i].min():.2f} s" + "".join(
                    f", {spec.method} {backward[spec.space_id][:, i].min():.2f} s" for spec in specs
                )
        print(f"{done + 1:3d}/{len(names)} {name:20s} T {tables[-1].shape[1]}{spent}", flush=True)
    passes = len(timed) * len(images)
    space_costs = {}
    for spec in everything:
        space = space_of(spec)
        # A blend here has one member, whose kernels it re-ranks with.
        ranked = next(iter(space.weights)) if isinstance(space, BlendSpace) else spec.space_id
        member = next(other for other in specs if other.space_id == ranked)
        embedding = float(backward[ranked].min(axis=0).sum())
        took = []
        for _ in range(repeats):
            start = time.process_time()
            if space_of(spec).is_derived:
                predictability.r2_matrix([KernelSpace(member).kernel(one) for one in blocks[ranked]])
            affinity(blocks[ranked], member)
            took.append(time.process_time() - start)
        shown = len(timed) * spec.n_images
        space_costs[spec.space_id] = Cost(
            round(embedding + min(took), 4), shown, shown if space_of(member).has_maps else 0
        )
        print(f"{spec.name}: embedding {embedding:.2f} s, comparisons {min(took):.3f} s")
    once = float(forward.min(axis=0).sum())
    costs = {}
    wide = [table.astype(np.float64) for table in tables]
    few = [wide[names.index(name)] for name in timed]
    for method, similar in similarity.METHODS.items():
        took = []
        for _ in range(repeats):
            start = time.process_time()
            similar(few)
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
        matrices={method: similar(wide) for method, similar in similarity.METHODS.items()},
        timed=tuple(timed),
        costs=costs,
        space_costs=space_costs,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="networks of the zoo; default: all")
    parser.add_argument("--timed", help="those of them whose costs are taken; default: one for each task")
    parser.add_argument("--images", type=int, default=IMAGES, help="of the spaces of maps")
    parser.add_argument("--feature-images", type=int, default=FEATURE_IMAGES, help="of all that compares features")
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
