"""The probe set `photographs`: square crops of the photographs in the wheels of scikit-learn and scikit-image.

Only the installed image files are opened. Neither package is imported, so nothing can trigger a download.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from modelspace.errors import ProbeError
from modelspace.probes.base import MAX_SIZE, ProbeSet, check_range, fingerprint_of_hashes, pixel_hash
from modelspace.probes.pictures import MAX_BYTES

KIND = "photographs"
DEFAULT_SIZE = 128

#: To be raised when the same (seed, index, size) gives another crop than before.
CROPS_VERSION = 1

#: A crop before resizing has at least this standard deviation of luma (0..255): bare sky reveals little about a model.
MIN_CONTRAST = 24.0
#: Shortest side of a crop as a share of the photograph's shorter side.
SMALLEST = 0.3
_TRIES = 24
#: ITU-R BT.601 luma of red, green and blue.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Photograph:
    """One file of an installed package; author and licence as stated by the package.

    docs/how-to/choose-probe-images.md has the sources.
    """

    package: str
    path: str
    author: str
    licence: str

    @property
    def name(self) -> str:
        """Its name in a set's `spec`."""
        return f"{self.package}/{self.path}"


#: Every round shuffles this order. Images without a stated licence, or that are not photographs, are left out.
PHOTOGRAPHS = (
    Photograph("sklearn", "datasets/images/china.jpg", "danielbuechele", "CC BY 2.0"),
    Photograph("sklearn", "datasets/images/flower.jpg", "vultilion", "CC BY 2.0"),
    Photograph("skimage", "data/astronaut.png", "NASA", "public domain"),
    Photograph("skimage", "data/camera.png", "Lav Varshney", "CC0"),
    Photograph("skimage", "data/chelsea.png", "Stefan van der Walt", "CC0"),
    Photograph("skimage", "data/coffee.png", "Rachel Michetti", "CC0"),
    Photograph("skimage", "data/rocket.jpg", "SpaceX", "public domain"),
    Photograph("skimage", "data/grass.png", "linolafett", "CC0"),
)

_PROJECTS = {"sklearn": "scikit-learn", "skimage": "scikit-image"}


class _Draw:
    """Uniform draws for one purpose: the raw stream of Philox (Salmon et al., SC 2011), the same on every machine."""

    def __init__(self, purpose: str, seed: int, number: int) -> None:
        words = hashlib.sha256(f"{purpose}/{seed}/{number}".encode()).digest()
        self._bits = np.random.Philox(key=np.frombuffer(words[:16], dtype="<u8").astype(np.uint64))

    def unit(self) -> float:
        return float(int(self._bits.random_raw()) >> 11) * 2.0**-53

    def below(self, n: int) -> int:
        return int(self.unit() * n)


def make(n_images: int, size: int, seed: int) -> tuple[ProbeSet, np.ndarray]:
    """See `modelspace.probes.photographs`."""
    check_range("number of images", n_images, 1)
    check_range("image size", size, 16, MAX_SIZE)
    check_range("seed", seed, 0)
    if (needed := n_images * size * size * 3) > MAX_BYTES:
        raise ProbeError(
            f"{n_images} images of {size} x {size} pixels take {needed / 2**30:.1f} GiB of memory, "
            f"more than the limit of {MAX_BYTES / 2**30:.0f} GiB",
            f"a few hundred suffice; ask for {MAX_BYTES // (size * size * 3)} or fewer",
        )
    photographs = [_open(photograph) for photograph in PHOTOGRAPHS]
    images = np.empty((n_images, size, size, 3), dtype=np.uint8)
    crops, hashes = [], []
    for k in range(n_images):
        index = turn(seed, k)
        images[k], box = _crop(photographs[index], size, _Draw("crop", seed, k))
        crops.append([PHOTOGRAPHS[index].name, *box])
        hashes.append(pixel_hash(images[k]))
    spec = {
        "kind": KIND,
        "version": CROPS_VERSION,
        "n_images": n_images,
        "seed": seed,
        "size": size,
        "licences": {p.name: f"{p.author}, {p.licence}" for p in PHOTOGRAPHS},
        "crops": crops,
        "duplicates": len(hashes) - len(set(hashes)),
    }
    name = KIND + (f"-{size}" if size != DEFAULT_SIZE else "") + (f"-seed{seed}" if seed else "")
    return ProbeSet(name, KIND, spec, n_images, size, fingerprint_of_hashes(hashes, size)), images


def turn(seed: int, k: int) -> int:
    """Index in `PHOTOGRAPHS` of the source of image k: they take turns, reshuffled every round (Fisher and Yates)."""
    draw, order = _Draw("round", seed, k // len(PHOTOGRAPHS)), list(range(len(PHOTOGRAPHS)))
    for last in range(len(order) - 1, 0, -1):
        other = draw.below(last + 1)
        order[last], order[other] = order[other], order[last]
    return order[k % len(PHOTOGRAPHS)]


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the luma (0..255) of an image (H, W, 3) uint8."""
    return float((image.astype(np.float64) @ np.array(_LUMA)).std())


def _crop(photograph: Image.Image, size: int, draw: _Draw) -> tuple[np.ndarray, tuple[int, int, int]]:
    """A crop (size, size, 3) uint8, and its left edge, upper edge and side in the photograph.

    The side is drawn uniformly on a log scale, the position uniformly, and both are redrawn while the contrast is too
    low. If it always is, the crop with the most contrast is used. The box does not depend on `size`.
    """
    short = min(photograph.size)
    best, best_box, best_contrast = photograph, (0, 0, 0), -1.0
    for _ in range(_TRIES):
        side = max(1, round(short * math.exp(draw.unit() * math.log(SMALLEST))))
        left, upper = draw.below(photograph.width - side + 1), draw.below(photograph.height - side + 1)
        cut = photograph.crop((left, upper, left + side, upper + side))
        if (cut_contrast := contrast(np.asarray(cut))) > best_contrast:
            best, best_box, best_contrast = cut, (left, upper, side), cut_contrast
        if best_contrast >= MIN_CONTRAST:
            break
    return np.asarray(best.resize((size, size), Image.Resampling.BILINEAR)), best_box


def _open(photograph: Photograph) -> Image.Image:
    project = _PROJECTS[photograph.package]
    spec = importlib.util.find_spec(photograph.package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise ProbeError(
            f"the probe set {KIND!r} needs the photographs in {project}, which is not installed",
            "install it with: pip install 'modelspace-db[photographs]'",
        )
    file = Path(folders[0]) / photograph.path
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            return image.convert("RGB")
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error and others.
        raise ProbeError(
            f"the installed {project} has no readable photograph {photograph.path}",
            f"reinstall it: pip install --force-reinstall {project}",
        ) from error
