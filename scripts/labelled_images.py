"""Write one of two small sets of real, labelled images as a folder with one subfolder per class.

    python scripts/labelled_images.py digits FOLDER [--per-class N]
    python scripts/labelled_images.py clothing FOLDER [--per-class N]

digits: handwritten digits of scikit-learn (`sklearn.datasets.load_digits`, the test part of UCI's "Optical Recognition
of Handwritten Digits"), 8 x 8 pixels, enlarged to 64 x 64. clothing: photographs from Fashion-MNIST, 28 x 28 pixels,
cut out of `scripts/data/clothing.png` (licence and source: `scripts/data/README.md`).

The examples of docs/how-to/try-models.md, `make try-demo` and tests use them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHEET = Path(__file__).resolve().parent / "data" / "clothing.png"

#: Names of the classes of Fashion-MNIST, in the order of its labels, which is that of the rows of the sheet.
CLOTHING = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")

#: Height and width of an image of Fashion-MNIST, in pixels.
SIDE = 28

#: Height and width of the digits as they are written, in pixels.
DIGIT_SIDE = 64

Pictures = dict[str, list[NDArray[np.uint8]]]


def digits() -> Pictures:
    """Name of a class -> its images, (64, 64) uint8, ink white on black; 174 to 183 images per class."""
    from sklearn.datasets import load_digits

    table = load_digits()
    pictures: Pictures = {str(digit): [] for digit in range(10)}
    for image, digit in zip(table.images, table.target, strict=True):
        small = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
        large = small.resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
        pictures[str(digit)].append(np.asarray(large, dtype=np.uint8))
    return pictures


def clothing() -> Pictures:
    """Name of a class -> its images, (28, 28) uint8, white on black; the same number per class."""
    with Image.open(SHEET) as sheet:
        table = np.asarray(sheet.convert("L"), dtype=np.uint8)
    rows = np.split(table, len(CLOTHING))
    return {name: np.split(row, row.shape[1] // SIDE, axis=1) for name, row in zip(CLOTHING, rows, strict=True)}


#: Name of a set -> what reads it.
SETS: dict[str, Callable[[], Pictures]] = {"digits": digits, "clothing": clothing}


def write(name: str, folder: Path, per_class: int | None = None) -> int:
    """Write a set as PNG files, FOLDER/CLASS/NUMBER.png; returns the number of files.

    Args:
        name: "digits" or "clothing".
        folder: is created.
        per_class: number of images of each class, the first ones; default: all.
    """
    count = 0
    for label, images in SETS[name]().items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images[:per_class]):
            Image.fromarray(image).save(folder / label / f"{number:03}.png")
            count += 1
    return count


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-class", type=int, metavar="N")
    options = parser.parse_args(arguments)
    count = write(options.name, options.folder, options.per_class)
    print(f"{count} images of {len(SETS[options.name]())} classes in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
