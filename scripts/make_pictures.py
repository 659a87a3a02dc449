"""Draw the pictures of the README and of docs/how-to/pictures.md from a registry.

    python scripts/make_pictures.py [--home DIR] [--out DIR]

Writes map, tree, heatmap and gallery as PNG files (and as SVG if that is small) into docs/pictures/. The registry is
only read: missing coordinates of the projection are computed, but not stored in it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from modelspace.errors import ModelspaceError
from modelspace.plots import Picture
from modelspace.workspace import ModelSpace

TOP = Path(__file__).resolve().parent.parent

#: Largest files to keep in git, in bytes; the resolution of a PNG is lowered until it fits.
MAX_PNG, MAX_SVG = 300_000, 150_000
DPI = (200, 170, 145, 125, 110, 95, 80)

#: Two models of each group, in the gallery's order, if the registry has them; and the probe images.
SHOWN = (
    *("autoencoder", "denoise", "rgb2depth", "reshade", "room_layout", "vanishing_point"),
    *("class_1000", "segmentsemantic"),
)
IMAGES = (0, 2, 3)


def write(picture: Picture, folder: Path, name: str) -> None:
    """PNG of at most `MAX_PNG` bytes, and SVG if it is small; a previous SVG is removed otherwise."""
    for dpi in DPI:
        content = picture.to_bytes("png", dpi=dpi)
        if len(content) <= MAX_PNG:
            break
    else:
        sys.exit(f"{name}.png is larger than {MAX_PNG} bytes even at {DPI[-1]} dots per inch")
    (folder / f"{name}.png").write_bytes(content)
    print(f"{folder / name}.png: {len(content) / 1000:.0f} kB, {dpi} dots per inch")
    vectors = picture.to_bytes("svg")
    (folder / f"{name}.svg").unlink(missing_ok=True)
    if len(vectors) <= MAX_SVG:
        (folder / f"{name}.svg").write_bytes(vectors)
        print(f"{folder / name}.svg: {len(vectors) / 1000:.0f} kB")


def draw(home: Path, folder: Path) -> None:
    """All four pictures of the default space."""
    space = ModelSpace.open(home)
    folder.mkdir(parents=True, exist_ok=True)
    known = {model.name for model in space.list()}
    shown = [name for name in SHOWN if name in known]
    picture = space.map(store=False)
    print(picture.facts["recall"])
    write(picture, folder, "map")
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
