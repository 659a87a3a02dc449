"""Add the same models again and again, and compare what is stored.

    python scripts/torture/determinism.py            # 2 trained encoders, 20 probe images
    python scripts/torture/determinism.py --full     # 6 encoders, 200 probe images
    python scripts/torture/determinism.py --count 5 --seed 2

On one machine, the same models added twice in one process, and once more in another process, must give the same bits:
maps, kernels, vectors and affinities. With other numbers of threads and other batch sizes, affinities may differ by
rounding, at most 1e-6. A fresh pass (`ModelSpace.reembed`) must be the same bits as what is stored.

Where 8 or 4 bits are stored of an element, rounding of the pass can move an element to the next of 256 or 16 levels:
one of the two has to be right, and no rule can make both passes choose the same. In 8 bits that changes the affinity by
about 1e-5 divided by the number of images, so 1e-6 is asked of the standard 200 images, in proportion more of fewer
images, and 16 times as much in 4 bits.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from modelspace import zoo
from modelspace.registry import Registry
from modelspace.spaces.kinds import space_of
from modelspace.workspace import ModelSpace

METHODS = ("gradient_x_input", "saliency", "dds", "linear_cka")
COUNT, IMAGES, COUNT_IN_FULL, STANDARD_IMAGES = 2, 20, 6, 200

#: Number of threads and of images per batch of the passes that are compared with the first one.
VARIANTS = [(1, 1), (1, 7), (2, 7), (2, 32), (4, 5), (3, 16)]
BASE = (1, 16)

#: Largest accepted difference of an affinity.
EXACT = 1e-6

#: (space, bits per element, model) -> what is stored: bytes of its maps or kernel, vector, affinities.
Content = dict[tuple[str, int, str], tuple[bytes, bytes, bytes]]


def build(home: Path, names: Sequence[str], images: int, threads: int, batch: int) -> Content:
    """Create a registry, add encoders of the zoo, and return all that follows from a pass."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        space = ModelSpace.create(home, methods=METHODS, images=images)
        for method in METHODS:
            space.init(methods=[method], images=images, bits=32, name=f"{method}-in-float32")
        space.blend("both", {METHODS[0]: 1.0, METHODS[-1]: 1.0})
        for name in names:
            space.add(f"zoo:{name}", batch_size=batch, device="cpu")
    finally:
        torch.set_num_threads(before)
    return content(home)


def content(home: Path) -> Content:
    """What is stored, without ids and times."""
    stored: Content = {}
    with Registry.open(ModelSpace.open(home).path) as registry:
        models = {row.model_id: row.card.name for row in registry.models()}
        for space in registry.spaces():
            bits = min(row.spec.bits for row in space_of(space.spec).sources(registry))
            for row in registry.embeddings(space.spec.space_id):
                blocks = registry.map_blocks(space.spec.space_id, row.model_id)
                maps = b"".join(block.codes + block.scales for block in blocks)
                key = space.spec.name, bits, models[row.model_id]
                stored[key] = maps, row.vector.tobytes(), row.affinities.tobytes()
    return stored


def differing(a: Content, b: Content) -> list[str]:
    """What is not the same bits, as "model in space"."""
    keys = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
    return [f"{model} in {space}" for space, _, model in keys]


def distance(a: Content, b: Content, bits: int) -> float:
    """Largest difference of an affinity in the spaces of this number of bits; infinite if models differ."""
    if a.keys() != b.keys():
        return float("inf")
    keys = [key for key in a if key[1] == bits]
    sizes = [np.abs(np.frombuffer(a[key][2]) - np.frombuffer(b[key][2])).max(initial=0.0) for key in keys]
    return float(max(sizes))


class Torture:
    """Builds registries in a folder, and collects figures and failures."""

    def __init__(self, folder: Path, names: Sequence[str], images: int) -> None:
        self.folder, self.names, self.images = folder, list(names), images
        self.failures: list[str] = []
        self.figures: dict[str, float] = {"models": len(self.names), "probe images": images, "passes": 0}

    def build(self, label: str, threads: int, batch: int) -> Content:
        """A registry of its own."""
        self.figures["passes"] += len(self.names)
        return build(self.folder / label, self.names, self.images, threads, batch)

    def same_bits(self) -> Content:
        """Build the same registry in this process twice and in another one."""
        first = self.build("first", *BASE)
        second = self.build("second", *BASE)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            other = pool.submit(build, self.folder / "other", self.names, self.images, *BASE).result()
        self.figures["passes"] += len(self.names)
        pairs = {"again in one process": differing(first, second), "in another process": differing(first, other)}
        for label, names in pairs.items():
            self.figures[f"not the same bits {label}"] = len(names)
            self.failures += [f"{name} is not the same bits {label}" for name in names]
        return first

    def variants(self, first: Content) -> None:
        """Other numbers of threads and batch sizes."""
        coarse = EXACT * max(1.0, STANDARD_IMAGES / self.images)
        limits = {bits: EXACT if bits == 32 else coarse * 2 ** (8 - bits) for bits in sorted({key[1] for key in first})}
        for threads, batch in VARIANTS:
            variant = self.build(f"threads-{threads}-batch-{batch}", threads, batch)
            label = f"not the same bits with {threads} {'thread' if threads == 1 else 'threads'}"
            self.figures[label] = self.figures.get(label, 0) + len(differing(first, variant))
            for bits, limit in limits.items():
                off = distance(first, variant, bits)
                label = f"largest difference of an affinity in {'float32' if bits == 32 else f'{bits} bits'}"
                self.figures[label] = max(self.figures.get(label, 0.0), off)
                if not off <= limit:
                    self.failures.append(f"{threads} threads, batches of {batch}: {label} is {off:.1e}")

    def reembedded(self) -> None:
        """A fresh pass of each model of the first registry."""
        space = ModelSpace.open(self.folder / "first")
        threads = torch.get_num_threads()
        torch.set_num_threads(BASE[0])
        try:
            passes = {name: space.reembed(name, batch_size=BASE[1], device="cpu") for name in self.names}
        finally:
            torch.set_num_threads(threads)
        rows = [(name, row) for name, spaces in passes.items() for row in spaces if row.same_bits is not None]
        off = [f"a fresh pass of {name} in {row.space} is not the same bits" for name, row in rows if not row.same_bits]
        self.figures["fresh passes that are not the same bits"] = len(off)
        self.failures += off


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="number of encoders of the zoo")
    parser.add_argument("--images", type=int, default=IMAGES, help="number of probe images")
    parser.add_argument("--full", action="store_true", help=f"{COUNT_IN_FULL} encoders, {STANDARD_IMAGES} images")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of encoders")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    count, images = (COUNT_IN_FULL, STANDARD_IMAGES) if options.full else (options.count, options.images)
    names = random.Random(options.seed).sample(sorted(zoo.names()), min(count, len(zoo.names())))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        torture = Torture(Path(folder), names, images)
        torture.variants(torture.same_bits())
        torture.reembedded()
    seconds = time.monotonic() - started
    if options.out:
        options.out.write_text(json.dumps({"figures": torture.figures, "seconds": round(seconds, 1)}, indent=2) + "\n")
    for failure in torture.failures:
        print(f"FAILED: {failure} (--seed {options.seed} --count {count} --images {images})")
    figures = ", ".join(f"{label}: {value:.3g}" for label, value in torture.figures.items())
    print(f"determinism: {figures} ({seconds:.0f} s)")
    return 1 if torture.failures else 0


if __name__ == "__main__":
    sys.exit(main())
