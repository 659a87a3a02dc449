"""Build the shipped registry: every model of the zoo, in the standard spaces and saliency on rendered rooms.

    python scripts/build_registry.py [--home DIR] [--models NAME,NAME,...]
    python scripts/build_registry.py --full

Writes `registry.duckdb` and `index/` into the folder (default: the project's top level), replacing existing ones only
once the new registry is complete and verified. The same sources give the same bytes on processors of the same kind: the
program restarts itself with one thread and fixed processor features, and seals the registry (`modelspace.lab.sealing`)
with the time of SOURCE_DATE_EPOCH.

With --full, the registry with all three methods and three probe sets, which docs/lab-book/evaluation.md evaluates, is
built into `.full/`, and not sealed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from modelspace import zoo
from modelspace.home import INDEX, REGISTRY
from modelspace.lab import sealing
from modelspace.spaces.kinds import GridSpace
from modelspace.workspace import ModelSpace

TOP = Path(__file__).resolve().parent.parent
FULL = TOP / ".full"

#: Methods of the map spaces. ε-LRP is not shipped: on the task encoders it equals gradient*input
#: (docs/lab-book/weight.md).
SHIPPED_METHODS = ("gradient_x_input", "saliency")
METHODS = (*SHIPPED_METHODS, "epsilon_lrp")

#: Probe sets of different styles; the default space uses the first, and only the first is shipped.
PROBES = ("rooms", "photographs", "yards")

#: 100 images on half the encoders' input side, so that the file stays small in git (docs/lab-book/weight.md).
IMAGES, CANVAS, BITS = 100, 32, 4

#: Kernels use more rooms, because rankings by features gain from them (docs/lab-book/reproduction.md). They have the
#: bits of `modelspace init`, so that this registry can be merged with registries of users.
FEATURE_IMAGES = 200

#: Names of the spaces with directed rankings, by probe set.
BLENDS = {"rooms": "transfer", "photographs": "transfer-photographs", "yards": "transfer-yards"}

#: The registry's time if SOURCE_DATE_EPOCH is not set: 1 January 2026, UTC.
EPOCH = 1767225600

#: Environment that fixes how sums are rounded, and the initial content of DuckDB's memory.
PINNED: Mapping[str, str] = MappingProxyType(
    {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "PYTHONHASHSEED": "0",
        sealing.VARIABLE: sealing.ZEROS,
    }
)


def make_spaces(
    folder: Path | str,
    images: int = IMAGES,
    canvas: int = CANVAS,
    bits: int = BITS,
    feature_images: int = FEATURE_IMAGES,
    probes: Sequence[str] = PROBES[:1],
    methods: Sequence[str] = SHIPPED_METHODS,
) -> ModelSpace:
    """An empty registry with at least the spaces of the shipped one; queries use `transfer`."""
    space = ModelSpace(folder)
    for name in probes:
        space.init(probes=name, methods=methods, images=images, canvas=canvas, bits=bits)
        (kernels,) = space.init(probes=name, methods=("dds",), images=feature_images if name == "rooms" else images)
        space.init(probes=name, methods=("local",), images=min(kernels.n_images, GridSpace.usual_images))
        space.blend(BLENDS[name], {kernels.name: 1.0}, rerank="combined", default=name == probes[0])
    return space


def fill(space: ModelSpace, names: Sequence[str]) -> None:
    """Add models of the zoo, and store projections of the first probe set's spaces, so that they don't change."""
    for number, name in enumerate(names, 1):
        added = space.add(f"zoo:{name}", device="cpu")
        print(f"{number:3d}/{len(names)} {name:24s} {added.card.layer:12s} {added.card.seconds:.1f} s", flush=True)
    for info in space.spaces():
        if info.probes == PROBES[0]:
            space.map(space=info.name)


def finish(space: ModelSpace, moment: datetime | None) -> None:
    """Seal the registry if a time is given, else compact it; then write its index files and verify it."""
    if moment is not None:
        sealing.seal(space.path, moment)
    space.rebuild(compact=moment is None)
    failed = [check for check in space.verify(deep=True) if not check.ok]
    if failed:
        sys.exit("\n".join(f"{check.what}: {check.detail}" for check in failed))


def is_repeatable(path: Path, moment: datetime) -> bool:
    """Whether sealing a registry again gives the same file; it does if DuckDB's memory is zeroed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder))
        sealing.seal(copy, moment)
        return copy.read_bytes() == path.read_bytes()


def build(home: Path, options: argparse.Namespace) -> None:
    """Build next to the target folder, verify, and move into place."""
    moment = None if options.full else datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH)), UTC)
    names = options.models.split(",") if options.models else zoo.names()
    spaces = {"probes": PROBES, "methods": METHODS} if options.full else {}
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".build-") as folder:
        space = make_spaces(folder, options.images, CANVAS, BITS, options.feature_images, **spaces)
        fill(space, names)
        finish(space, moment)
        if moment is not None and not is_repeatable(space.path, moment):
            print(
                "note: on this platform, DuckDB's file contains uninitialised memory, so builds differ in their bytes"
            )
        (Path(folder) / REGISTRY).replace(home / REGISTRY)
        shutil.rmtree(home / INDEX, ignore_errors=True)
        (Path(folder) / INDEX).replace(home / INDEX)
    print(f"{home / REGISTRY}: {len(names)} models, {(home / REGISTRY).stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all methods and probe sets")
    parser.add_argument(
        "--home", type=Path, help=f"folder (default: the project's top level; with --full {FULL.name}/)"
    )
    parser.add_argument("--models", help="networks of the zoo; default: all")
    parser.add_argument("--images", type=int, default=IMAGES, help="number of images for maps")
    parser.add_argument("--feature-images", type=int, default=FEATURE_IMAGES, help="number of rooms for kernels")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in PINNED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **PINNED})
    build((options.home or (FULL if options.full else TOP)).resolve(), options)


if __name__ == "__main__":
    main()
