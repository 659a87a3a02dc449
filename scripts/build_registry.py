"""Build the shipped registry: every model of the zoo, in the spaces of three methods and of the encoder output's geometry on
three probe sets, in one pass per probe set.

    python scripts/build_registry.py [--home DIR] [--images N] [--canvas S] [--bits B]

Writes `registry.duckdb` and `index/` into the folder (default: the project's top level), replacing what is there only
once the new registry is complete and verified.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from modelspace import zoo
from modelspace.home import INDEX, REGISTRY
from modelspace.workspace import ModelSpace

METHODS = ("gradient_x_input", "saliency", "epsilon_lrp")

#: Probe sets of different style; the first is that of the default space.
PROBES = ("rooms", "photographs", "yards")

#: 100 images on half the encoders' input side, so that the file stays small in git.
IMAGES, CANVAS, BITS = 100, 32, 4

#: Kernels of the rooms are of more images: rankings by features gain by them (docs/lab-book/reproduction.md), and 80 kB is little.
FEATURE_IMAGES = 200

#: What the spaces whose rankings are directed are called, by probe set.
BLENDS = {"rooms": "transfer", "photographs": "transfer-photographs", "yards": "transfer-yards"}


def make_spaces(
    folder: Path | str,
    images: int,
    canvas: int,
    bits: int,
    feature_images: int = FEATURE_IMAGES,
    probes: Sequence[str] = PROBES,
) -> ModelSpace:
    """An empty registry with the shipped one's spaces; queries use `transfer`."""
    space = ModelSpace(folder)
    for name in probes:
        space.init(probes=name, methods=METHODS, images=images, canvas=canvas, bits=bits)
        (geometry,) = space.init(probes=name, methods=("dds",), images=feature_images if name == "rooms" else images)
        space.blend(BLENDS[name], {geometry.name: 1.0}, rerank="directed", default=name == probes[0])
    return space


def build(home: Path, images: int, canvas: int, bits: int) -> None:
    """Build next to the target folder, verify, and move into place."""
    with tempfile.TemporaryDirectory(dir=home, prefix=".build-") as folder:
        space = make_spaces(folder, images, canvas, bits)
        names = zoo.names()
        for done, name in enumerate(names):
            added = space.add(f"zoo:{name}", device="cpu")
            print(
                f"{done + 1:3d}/{len(names)} {name:24s} {added.card.layer:12s} {added.card.seconds:.1f} s", flush=True
            )
        for info in space.spaces():
            if info.probes == PROBES[0]:
                space.map(space=info.name)  # its coordinates are stored, so that the map stays where it is
        space.rebuild(compact=True)
        failed = [check for check in space.verify(deep=True) if not check.ok]
        if failed:
            sys.exit("\n".join(f"{check.what}: {check.detail}" for check in failed))
        (Path(folder) / REGISTRY).replace(home / REGISTRY)
        shutil.rmtree(home / INDEX, ignore_errors=True)
        (Path(folder) / INDEX).replace(home / INDEX)
    size = (home / REGISTRY).stat().st_size / 2**20
    print(f"{home / REGISTRY}: {len(names)} models, {size:.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--canvas", type=int, default=CANVAS)
    parser.add_argument("--bits", type=int, default=BITS)
    options = parser.parse_args()
    build(options.home.resolve(), options.images, options.canvas, options.bits)


if __name__ == "__main__":
    main()
