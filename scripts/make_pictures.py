"""Draw the pictures of the documentation: those of a registry, and one of each of two worlds.

    python scripts/make_pictures.py [--home DIR] [--out DIR]

Writes choices (the README's first picture), map, tree, heatmap, gallery, streets and repainted as PNG files into
docs/pictures/. The registry is only read: missing coordinates of the projection are computed, but not stored in it. The
pictures' date is that of SOURCE_DATE_EPOCH, or else the day on which the newest model was added, so the same registry
gives the same files.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from modelspace import evaluation
from modelspace.errors import ModelspaceError
from modelspace.evaluation import splits
from modelspace.plots import Picture, choices_figure
from modelspace.verbs.pictures.caption import TIME
from modelspace.workspace import ModelSpace
from modelspace.worlds import WORLDS

TOP = Path(__file__).resolve().parent.parent

#: Largest file to keep in git, in bytes; the resolution of a PNG is lowered until it fits.
MAX_PNG = 300_000
DPI = (280, 240, 200, 170, 145, 125, 110, 95, 80)

#: Measured transfer of the first picture.
ORACLE = "rooms"

#: Two models of each group, in the gallery's order, if the registry has them; and the probe images.
SHOWN = (
    *("autoencoder", "denoise", "rgb2depth", "reshade", "room_layout", "vanishing_point"),
    *("class_1000", "segmentsemantic"),
)
IMAGES = (0, 2, 3)


def write(picture: Picture, folder: Path, name: str) -> None:
    """PNG of at most `MAX_PNG` bytes, about 1,400 pixels wide: twice the width at which GitHub shows it."""
    width = picture.get_size_inches()[0]
    for dpi in (dpi for dpi in DPI if dpi * width <= 1450):
        content = picture.to_bytes("png", dpi=dpi)
        if len(content) <= MAX_PNG:
            break
    else:
        sys.exit(f"{name}.png is larger than {MAX_PNG} bytes even at {DPI[-1]} dots per inch")
    (folder / f"{name}.png").write_bytes(content)
    print(f"{folder / name}.png: {len(content) / 1000:.0f} kB, {dpi} dots per inch")


def choices(space: ModelSpace, caption: str) -> Picture:
    """The first answer of `nearest` for each target of the oracle, among all sources that were measured."""
    oracle = evaluation.load(ORACLE)
    measured = {
        target: {
            source: float(score)
            for source, score in zip(oracle.sources, scores, strict=True)
            if source != target and math.isfinite(score)
        }
        for target, scores in zip(oracle.targets, oracle.score, strict=True)
    }
    chosen = {}
    for target, sources in measured.items():
        names = ", ".join(f"'{name}'" for name in sources)
        chosen[target] = next(iter(space.nearest(target, k=1, where=f"name IN ({names})"))).name
    held_out = splits.split(oracle.targets, splits.HELD_OUT)
    others = [target for target in oracle.targets if target not in held_out]
    return choices_figure(
        measured,
        chosen,
        blocks={"targets that the ranking was not chosen on": held_out, "the other targets": others},
        chooser="first answer of modelspace nearest",
        title="Which network should each task start from?",
        caption=f"Transfer measured in rendered rooms: frozen encoders, three seeds (oracle {ORACLE}). {caption}",
    )


def sheet(path: Path, world: str, rows: int = 2, columns: int = 6, side: int = 112) -> None:
    """The first images of a world with seed 0 in rows on white, each pixel twice as large, as a PNG of 128 colours."""
    gap = 6
    table = np.full((rows * (side + gap) + gap, columns * (side + gap) + gap, 3), 255, np.uint8)
    for number, image in enumerate(WORLDS[world].load().render_rgb8(0, rows * columns, 0, side)):
        row, column = divmod(number, columns)
        top, left = row * (side + gap) + gap, column * (side + gap) + gap
        table[top : top + side, left : left + side] = image
    table = table.repeat(2, 0).repeat(2, 1)
    Image.fromarray(table).quantize(128).save(path, optimize=True)


def draw(home: Path, folder: Path) -> None:
    """All five pictures of the default space, and the worlds."""
    space = ModelSpace.open(home)
    newest = max(datetime.fromisoformat(model.added_at) for model in space.list())
    os.environ.setdefault(TIME, str(int(newest.timestamp())))
    folder.mkdir(parents=True, exist_ok=True)
    for world in ("streets", "repainted"):
        sheet(folder / f"{world}.png", world)
    known = {model.name for model in space.list()}
    shown = [name for name in SHOWN if name in known]
    picture = space.map(store=False)
    print(picture.facts["recall"])
    write(picture, folder, "map")
    write(choices(space, picture.facts["caption"]), folder, "choices")
    write(space.tree(), folder, "tree")
    write(space.heatmap(), folder, "heatmap")
    write(space.gallery(shown, images=IMAGES), folder, "gallery")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=TOP, help="folder of the registry (default: the project)")
    parser.add_argument("--out", type=Path, default=TOP / "docs" / "pictures", help="folder for the pictures")
    options = parser.parse_args()
    try:
        draw(options.home, options.out)
    except ModelspaceError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
