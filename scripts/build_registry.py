"""Build the shipped registry: every model of the zoo, in the spaces of the three methods, in one pass each.

    python scripts/build_registry.py [--home DIR] [--images N] [--canvas S] [--bits B]

Writes `registry.duckdb` and `index/` into the folder (default: the project's top level), replacing what is there only
once the new registry is complete and verified.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from modelspace import zoo
from modelspace.home import INDEX, REGISTRY
from modelspace.workspace import ModelSpace

METHODS = ("gradient_x_input", "saliency", "epsilon_lrp")

#: 100 images on half the encoders' input side: 0.1 MB per model and space, so that the file stays small in git.
IMAGES, CANVAS, BITS = 100, 32, 8


def build(home: Path, images: int, canvas: int, bits: int) -> None:
    """Build next to the target folder, verify, and move into place."""
    with tempfile.TemporaryDirectory(dir=home, prefix=".build-") as folder:
        space = ModelSpace.create(folder, methods=METHODS, images=images, canvas=canvas, bits=bits)
        names = zoo.names()
        for done, name in enumerate(names):
            added = space.add(f"zoo:{name}", device="cpu")
            print(
                f"{done + 1:3d}/{len(names)} {name:24s} {added.card.layer:12s} {added.card.seconds:.1f} s", flush=True
            )
        for method in METHODS:
            space.map(space=method)  # its coordinates are stored, so that the map stays where it is
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
