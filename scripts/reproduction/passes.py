"""The only module that runs networks: maps and encoder outputs of the zoo on the probe sets, cached in a folder.

One file per model and probe set holds the maps at 32 bits, so that everything else is arithmetic on arrays, and a
killed run continues where it stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from modelspace import probes, zoo
from modelspace.embedding import prepare
from modelspace.embedding.embed import DEFAULT_BATCH_SIZE, embed
from modelspace.embedding.prepare import Request, prepared
from modelspace.probes.preprocess import to_input
from modelspace.representations import kernels
from modelspace.spaces.kinds import decode_unit
from modelspace.types import EMBEDDING_VERSION, SpaceSpec, canonical_json
from modelspace.verbs.pictures.gallery import spread

TOP = Path(__file__).resolve().parent.parent.parent
CACHE = TOP / ".cache" / "reproduce"

PROBES = ("rooms", "photographs", "yards")

#: Kinds of maps: name on the page -> (method, scalar).
KINDS = {
    "gradient*input": ("gradient_x_input", "sum"),
    "ε-LRP": ("epsilon_lrp", "sum"),
    "saliency": ("saliency", "sum"),
    "gradient*input of the energy": ("gradient_x_input", "energy"),
    "saliency of the energy": ("saliency", "energy"),
    "gradient*input of the centred energy": ("gradient_x_input", "centred_energy"),
}
PAPER = ("gradient*input", "ε-LRP", "saliency")

#: Half the side of the encoders' input, as in the shipped registry.
CANVAS = 32


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    Attributes:
        models: names in the zoo.
        images: number of probe images per set.
        many: number of images for the claim about size, for the twenty encoders.
        deep: number of images for the claim about depth.
        timed: numbers of images for the claim about cost.
    """

    models: tuple[str, ...]
    images: int = 200
    many: int = 800
    deep: int = 100
    timed: tuple[int, ...] = (100, 200, 1000)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The encoders of Taskonomy's twenty tasks among the models."""
        return tuple(name for name in self.models if zoo.card(name).architecture == "taskonomy_encoder")


FULL = Scale(tuple(zoo.names()))
QUICK = Scale(
    ("autoencoder", "class_1000", "curvature", "denoise", "edge2d", "reshade", "rgb2depth"),
    images=10,
    many=20,
    deep=4,
    timed=(10,),
)


@cache
def images(name: str, count: int) -> tuple[str, np.ndarray]:
    """Id of a probe set, and its first images (count, 128, 128, 3) uint8."""
    if name == "photographs":
        probe_set, pixels = probes.photographs(count)
        return probe_set.probe_id, pixels
    probe_set = {"rooms": probes.rooms, "yards": probes.yards}[name](count)
    return probe_set.probe_id, np.concatenate(list(probes.batches(probe_set, None, 0, count, DEFAULT_BATCH_SIZE)))


def batches(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[first : first + DEFAULT_BATCH_SIZE] for first in range(0, len(pixels), DEFAULT_BATCH_SIZE)]


def spec(kind: str, count: int, canvas: int = CANVAS) -> SpaceSpec:
    """A space with this kind of map unrounded; the cache's folder identifies the probe set."""
    method, scalar = KINDS[kind]
    return SpaceSpec(kind, "-", method, count, canvas, bits=32, scalar=scalar)


def _cache_file(folder: str, name: str, settings: object) -> Path:
    """The file with the arrays of a model; its name depends on the weights, the settings and the version."""
    key = canonical_json([zoo.card(name).sha256, EMBEDDING_VERSION, settings])
    return CACHE / folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"


#: Files that were read or computed -> the processor time that it took to compute them.
USED: dict[Path, float] = {}


def _cached(path: Path, work: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a file, computed and written if it is missing."""
    if path.is_file():
        with np.load(path) as stored:
            arrays = dict(stored)
    else:
        started = time.process_time()
        arrays = work()
        arrays["seconds"] = np.array(time.process_time() - started)
        print(f"{path.parent.name:12s} {path.stem.rpartition('-')[0]:26s} {arrays['seconds']:5.1f} s", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, **arrays)  # type: ignore[arg-type]  # arrays, none called allow_pickle
        unfinished.replace(path)
    USED[path] = float(arrays["seconds"])
    return arrays


def unit_maps(ready: prepare.Prepared, pixels: np.ndarray, specs: Sequence[SpaceSpec]) -> dict[str, np.ndarray]:
    """Space name to rows (images, elements) float32 of unit norm each."""
    blocks = embed(ready.tap, ready.card.preprocessing, batches(pixels), specs, device=ready.device).blocks
    return {
        spec.name: np.concatenate([decode_unit(block, spec) for block in blocks[spec.space_id]]).astype(np.float32)
        for spec in specs
    }


@torch.no_grad()
def outputs(ready: prepare.Prepared, pixels: np.ndarray, whole: bool = False) -> np.ndarray:
    """T of every image as a row, reduced as in kernel spaces, or whole: (images, d) float32."""
    tables = []
    for batch in batches(pixels):
        output = ready.tap(to_input(batch, ready.card.preprocessing, ready.device))
        tables.append((output.flatten(1) if whole else kernels.reduced(output)).numpy())
    return np.concatenate(tables)


def embedded(name: str, probe: str, scale: Scale) -> dict[str, np.ndarray]:
    """Arrays of a model on a probe set: each of `KINDS` (images, canvas²), and "T" (images, d).

    The twenty encoders have gradient*input, saliency and T of `scale.many` rooms, and the other kinds of the first
    `scale.images`.
    """
    many = probe == "rooms" and name in scale.tasks
    count = scale.many if many else scale.images

    def work() -> dict[str, np.ndarray]:
        _, pixels = images(probe, count)
        with prepared(Request(f"zoo:{name}", device="cpu"), pixels[:2]) as ready:
            specs = [spec(kind, count if kind in ("gradient*input", "saliency") else scale.images) for kind in KINDS]
            return unit_maps(ready, pixels, specs) | {"T": outputs(ready, pixels)}

    return _cached(_cache_file(probe, name, [probe, count, scale.images, CANVAS]), work)


def layers(name: str, count: int) -> list[str]:
    """Layers of a model from shallow to deep, the explained one last."""
    _, pixels = images("rooms", 2)
    rows, tap = prepare.layers(Request(f"zoo:{name}", device="cpu"), pixels)
    return spread(rows, tap.layer, count)


def at_layer(name: str, layer: str, scale: Scale) -> dict[str, np.ndarray]:
    """gradient*input and saliency of one layer on `scale.deep` rooms, and its "T"."""

    def work() -> dict[str, np.ndarray]:
        _, pixels = images("rooms", scale.deep)
        with prepared(Request(f"zoo:{name}", layer=layer, device="cpu"), pixels[:2]) as ready:
            specs = [spec(kind, scale.deep) for kind in ("gradient*input", "saliency")]
            return unit_maps(ready, pixels, specs) | {"T": outputs(ready, pixels)}

    return _cached(_cache_file("layers", name, [layer, scale.deep, CANVAS]), work)


def on_canvas(name: str, canvas: int, scale: Scale) -> dict[str, np.ndarray]:
    """gradient*input and saliency on another canvas, on the rooms."""

    def work() -> dict[str, np.ndarray]:
        _, pixels = images("rooms", scale.images)
        with prepared(Request(f"zoo:{name}", device="cpu"), pixels[:2]) as ready:
            specs = [spec(kind, scale.images, canvas) for kind in ("gradient*input", "saliency")]
            return unit_maps(ready, pixels, specs)

    return _cached(_cache_file("canvas", name, [canvas, scale.images]), work)


def stacked(probe: str, kind: str, scale: Scale, names: Sequence[str], count: int = 0) -> np.ndarray:
    """(models, images, elements) of the named models."""
    count = count or scale.images
    return np.stack([embedded(name, probe, scale)[kind][:count] for name in names])


def all_of(scale: Scale) -> Iterator[None]:
    """Compute all passes, yielding after each model."""
    for probe in PROBES:
        for name in scale.models:
            embedded(name, probe, scale)
            yield
