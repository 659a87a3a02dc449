"""The arrays of an atlas as the page reads them: base64 of little-endian bytes, and texts as codes."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.neighbours import true_neighbours
from modelspace.analysis.tree import Tree
from modelspace.errors import UsageError
from modelspace.plots.groups import group_looks

#: Largest height of a thumbnail in pixels, and largest total size of thumbnails in bytes.
THUMBNAIL_SIDE = 64
MAX_THUMBNAIL_BYTES = 48_000_000


@dataclass(frozen=True, eq=False)
class NearestLists:
    """The k nearest models of each of n models, best first.

    Attributes:
        models: (n, k) indices of the models.
        affinity: (n, k); NaN where a list is shorter than k.
        low, high: (n, k) ends of the affinities' intervals, both or neither.
        score: (n, k) what the lists are ordered by; None if that is the affinity.
        tied: (n, k) bool, whether a model is tied with the next of its list.
        ordered_by: in words, what the lists are ordered by.
    """

    models: ArrayLike
    affinity: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    score: ArrayLike | None = None
    tied: ArrayLike | None = None
    ordered_by: str = "affinity"


@dataclass(frozen=True, eq=False)
class SecondMap:
    """A second map of the same models, shown next to the first.

    Attributes:
        space: its name.
        coordinates: (n, 2); NaN for a model that has no place in it.
        nearest: the nearest models in this space.
        note: a line below the map.
    """

    space: str
    coordinates: ArrayLike
    nearest: NearestLists | None = None
    note: str = ""


def pack(array: ArrayLike, kind: str) -> str:
    """An array as base64-encoded little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind)).tobytes()).decode("ascii")


def unit_square(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) points scaled into -1..1, by one factor for both axes: float32 is then precise enough at any zoom.

    Rows of NaN stay.
    """
    placed = points[~np.isnan(points).any(axis=1)]
    low, high = placed.min(axis=0), placed.max(axis=0)
    span = float((high - low).max()) or 1.0
    scaled: NDArray[np.float64] = (points - (low + high) / 2) * (2 / span)
    return scaled


def column_of(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A column as the page reads it.

    Raises:
        UsageError: a value is neither a number nor a string.
    """
    numbers = [value for value in values if value is not None and not isinstance(value, str)]
    texts = [value for value in values if isinstance(value, str)]
    if numbers and texts:
        values = [None if value is None else str(value) for value in values]
    if numbers and not texts:
        if any(isinstance(value, bool | np.bool_) for value in numbers):
            values = [None if value is None else ("yes" if value else "no") for value in values]
        else:
            try:
                array = np.array([math.nan if value is None else float(value) for value in values])
            except (TypeError, ValueError):
                raise UsageError(f"column {name!r} has values that are neither numbers nor strings") from None
            array[~np.isfinite(array)] = math.nan
            return {"name": name, "kind": "number", "values": pack(array, "<f8")}
    looks, legend = group_looks(list(values))
    distinct = {text: code for code, text in enumerate(sorted({value for value in values if value is not None}))}
    codes = [-1 if value is None else distinct[value] for value in values]
    place = {look.label: i for i, look in enumerate(legend)}
    look_of = {value: place.get(look.label, -1) for value, look in zip(values, looks, strict=True)}
    return {
        "name": name,
        "kind": "text",
        "texts": list(distinct),
        "values": pack(codes, "<i4"),
        "looks": [{"label": x.label, "colour": x.colour, "shape": x.marker, "count": x.count} for x in legend],
        "look_of": [look_of[text] for text in distinct],
    }


def lists_of(
    n: int,
    affinity: ArrayLike | None,
    neighbours: NearestLists | tuple[ArrayLike, ArrayLike] | None,
    intervals: tuple[ArrayLike, ArrayLike] | None,
    k: int,
) -> NearestLists | None:
    """The lists of nearest models from any of the forms that `make_atlas` takes; None if it got none of them.

    Raises:
        UsageError: the affinities are not (n, n), or there are intervals without neighbours.
    """
    if isinstance(neighbours, NearestLists):
        return neighbours
    if neighbours is not None:
        return NearestLists(*neighbours, *(intervals or (None, None)))
    if intervals is not None:
        raise UsageError("intervals belong to the neighbours", "give both, in the same order")
    if affinity is None or n < 2:
        return None
    matrix = np.asarray(affinity, dtype=np.float64)
    if matrix.shape != (n, n):
        raise UsageError(f"affinities have shape {matrix.shape}, but there are {n} models")
    numbers = true_neighbours(matrix, k)
    return NearestLists(numbers, np.take_along_axis(matrix, numbers, axis=1))


def nearest_of(n: int, lists: NearestLists | None) -> dict[str, Any] | None:
    """The lists as the page reads them.

    Raises:
        UsageError: shapes don't fit, or an index is not one of the n models.
    """
    if lists is None:
        return None
    numbers = np.asarray(lists.models, dtype=np.int64)
    values = np.asarray(lists.affinity, dtype=np.float64)
    if numbers.ndim != 2 or len(numbers) != n or values.shape != numbers.shape:
        raise UsageError(f"neighbours have shapes {numbers.shape} and {values.shape}, but there are {n} models")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= n):
        raise UsageError(f"a neighbour has a number outside 0..{n - 1}")
    packed = {
        "k": numbers.shape[1],
        "ordered_by": lists.ordered_by,
        "models": pack(numbers, "<u4"),
        "affinity": pack(values, "<f4"),
    }
    further = {"low": (lists.low, "intervals"), "high": (lists.high, "intervals"), "score": (lists.score, "scores")}
    for key, (given, what) in {**further, "tied": (lists.tied, "ties")}.items():
        if given is None:
            continue
        array = np.asarray(given, dtype=np.float64)
        if array.shape != numbers.shape:
            raise UsageError(f"{what} have shape {array.shape}, but neighbours {numbers.shape}")
        packed[key] = pack(array, "<u1" if key == "tied" else "<f4")
    return packed


def beside_of(n: int, second: SecondMap | None) -> dict[str, Any] | None:
    """The second map as the page reads it.

    Raises:
        UsageError: its coordinates or lists don't fit n models, or no model has a place.
    """
    if second is None:
        return None
    points = np.asarray(second.coordinates, dtype=np.float64)
    if points.shape != (n, 2) or np.isinf(points).any() or np.isnan(points).all():
        raise UsageError(
            f"coordinates of the second map have shape {points.shape}, but there are {n} models",
            "each model needs a pair (x, y), or a pair of NaN if it has no place there",
        )
    return {
        "space": second.space,
        "places": pack(unit_square(points), "<f4"),
        "nearest": nearest_of(n, second.nearest),
        "note": second.note,
    }


def images_of(images: ArrayLike | None) -> list[list[Any]]:
    """The probe images as the page reads them: width, height, and RGB bytes of each, at most `THUMBNAIL_SIDE` high.

    Raises:
        UsageError: they are not (m, height, width, 3) uint8.
    """
    if images is None:
        return []
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise UsageError("probe images are not an (m, height, width, 3) array of uint8")
    return [[small.shape[1], small.shape[0], pack(small, "<u1")] for small in map(_smaller, array)]


def _smaller(image: NDArray[Any]) -> NDArray[Any]:
    """The image averaged down to at most `THUMBNAIL_SIDE` rows; (h, w) or (h, w, channels)."""
    step = -(-image.shape[0] // THUMBNAIL_SIDE)
    if step == 1:
        return image
    height, width = (side // step * step for side in image.shape[:2])
    parts = image[:height, :width].reshape(height // step, step, width // step, step, *image.shape[2:])
    mean: NDArray[Any] = parts.mean(axis=(1, 3))
    return np.rint(mean).astype(image.dtype) if image.dtype == np.uint8 else mean


def tree_of(tree: Tree | None, names: list[str]) -> dict[str, Any] | None:
    """The tree as the page reads it.

    Raises:
        UsageError: it has other models.
    """
    if tree is None:
        return None
    if sorted(tree.names) != sorted(names):
        raise UsageError("the tree and the atlas have different models", "build it from the same names")
    number = {name: i for i, name in enumerate(names)}
    return {
        "method": tree.method,
        "leaves": pack([number[name] for name in tree.names], "<u4"),
        "order": pack(tree.order, "<u4"),
        "merges": pack(tree.linkage[:, :2], "<u4"),
        "heights": pack(tree.linkage[:, 2], "<f4"),
        "support": None if tree.support is None else pack(tree.support, "<f4"),
    }


def thumbnails_of(thumbnails: Mapping[str, ArrayLike], names: list[str]) -> dict[str, Any]:
    """The thumbnails as the page reads them: number of a model -> width, height, whether signed, and levels as int8.

    Raises:
        UsageError: one is of no model, or no array of finite numbers, or they are too large together.
    """
    known = {name: i for i, name in enumerate(names)}
    packed: dict[str, Any] = {}
    total = 0
    for name, values in thumbnails.items():
        if name not in known:
            raise UsageError(f"there is a thumbnail for {name!r}, but no such model")
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
            raise UsageError(f"the thumbnail of {name!r} is not a (height, width) array of finite numbers")
        array = _smaller(array)
        limit = float(np.quantile(np.abs(array), 0.99)) or float(np.abs(array).max()) or 1.0
        signed = bool((array < 0).any())
        levels = np.clip(np.rint(array / limit * 127), -127, 127)
        total += levels.size
        if total > MAX_THUMBNAIL_BYTES:
            raise UsageError(
                f"thumbnails take more than {MAX_THUMBNAIL_BYTES // 1_000_000} MB",
                "give smaller ones, or those of fewer models",
            )
        packed[str(known[name])] = [array.shape[1], array.shape[0], int(signed), pack(levels, "<i1")]
    return packed
