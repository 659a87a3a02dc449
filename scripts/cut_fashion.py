"""Cut a small part of Fashion-MNIST into one contact sheet, `scripts/data/clothing.png`.

    python scripts/cut_fashion.py --source FOLDER [--per-class 70] [--out FILE]

FOLDER holds the four files of the data set as published (Debian: the package `dataset-fashion-mnist`,
/usr/share/datasets/fashion-mnist). The sheet has one row per class, and in it the first images of the class in the
order of the training file: nothing is picked by hand.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
from pathlib import Path

import numpy as np
from labelled_images import CLOTHING, SHEET, SIDE
from numpy.typing import NDArray
from PIL import Image


def read_idx(file: Path) -> NDArray[np.uint8]:
    """The array of a gzipped IDX file of unsigned bytes (format: LeCun, Cortes & Burges, the MNIST database)."""
    content = gzip.decompress(file.read_bytes())
    zero, kind, n_axes = struct.unpack_from(">HBB", content)
    if zero or kind != 8:
        sys.exit(f"{file} is no IDX file of unsigned bytes")
    shape = struct.unpack_from(f">{n_axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def sheet(images: NDArray[np.uint8], labels: NDArray[np.uint8], per_class: int) -> NDArray[np.uint8]:
    """(classes * 28, per_class * 28): a row of the first images of each class."""
    rows = []
    for label in range(len(CLOTHING)):
        chosen = images[np.flatnonzero(labels == label)[:per_class]]
        if len(chosen) < per_class:
            sys.exit(f"class {label} has only {len(chosen)} images")
        rows.append(chosen.transpose(1, 0, 2).reshape(SIDE, per_class * SIDE))
    return np.concatenate(rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--per-class", type=int, default=70, metavar="N")
    parser.add_argument("--out", type=Path, default=SHEET, metavar="FILE")
    options = parser.parse_args(arguments)
    images = read_idx(options.source / "train-images-idx3-ubyte.gz")
    labels = read_idx(options.source / "train-labels-idx1-ubyte.gz")
    Image.fromarray(sheet(images, labels, options.per_class)).save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
