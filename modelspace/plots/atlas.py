"""The atlas: a space as one HTML file for up to 100,000 models that works from disk, without a network.

The page is written without a framework (`atlas_page/`). Models are WebGL point sprites in one draw call, because canvas
2D needs about a microsecond per sprite on the main thread, a whole frame for 100,000 models. Canvas 2D draws names,
rings and the tree, of which few are in view, and also the points if the browser has no WebGL.

Data can never become code: it is JSON in an inert element with every "<" escaped, the page writes text with
`textContent` only, and its Content-Security-Policy allows no network access, and only the script with the given hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelspace.analysis.neighbours import NeighbourRecall, true_neighbours
from modelspace.analysis.tree import Tree
from modelspace.errors import UsageError, unwritable
from modelspace.names import printable
from modelspace.plots.groups import as_list, group_looks

#: Largest number of models; more make a file of over 100 MB that browsers are slow to open.
MAX_MODELS = 200_000

#: Largest height of a thumbnail in pixels, and largest total size of thumbnails in bytes.
THUMBNAIL_SIDE = 64
MAX_THUMBNAIL_BYTES = 48_000_000

# A notebook stores its output; a larger page would make it slow to open and to save.
_LARGEST_SHOWN = 20_000_000

_SCRIPTS = (
    "data.js",
    "colours.js",
    "filter.js",
    "points.js",
    "grid.js",
    "overlay.js",
    "tree.js",
    "panel.js",
    "main.js",
)


@dataclass(frozen=True)
class Atlas:
    """An HTML page. Show it in a notebook, or `save` it.

    Attributes:
        html: the whole file.
        n_models: number of models on it.
    """

    html: str
    n_models: int

    def save(self, path: str | Path) -> Path:
        """Write the page to a file that ends in .html.

        Raises:
            UsageError: another suffix, or the file can't be written.
        """
        target = Path(path)
        if target.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"{target.name!r} is not the name of an HTML file", "end it in .html")
        try:
            target.write_text(self.html, encoding="utf-8", newline="\n")
        except OSError as error:
            raise unwritable(target, error) from error
        return target

    def __repr__(self) -> str:
        return f"<Atlas of {self.n_models:,} models, {len(self.html) / 1e6:.1f} MB>"

    def _repr_html_(self) -> str:
        if len(self.html) > _LARGEST_SHOWN:
            return f"<p>Atlas of {self.n_models:,} models: too large for a notebook; save it and open the file.</p>"
        page = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="640" style="border:0"></iframe>'


def make_atlas(
    names: Sequence[str],
    coordinates: ArrayLike,
    groups: Mapping[str, str | None] | Sequence[str | None] | None = None,
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    affinity: ArrayLike | None = None,
    neighbours: tuple[ArrayLike, ArrayLike] | None = None,
    intervals: tuple[ArrayLike, ArrayLike] | None = None,
    k: int = 10,
    tree: Tree | None = None,
    thumbnails: Mapping[str, ArrayLike] | None = None,
    recall: NeighbourRecall | None = None,
    title: str = "Atlas of models",
) -> Atlas:
    """Create an atlas.

    Args:
        names: n model names, all different, n <= `MAX_MODELS`.
        coordinates: (n, 2) coordinates of the projection.
        groups: the group of each model, by name or in order; the first column to colour by.
        columns: further columns, name -> n values: numbers (missing: None or NaN) or strings (missing: None). They are
            shown on a model's card, and models can be coloured and filtered by them.
        affinity: (n, n) affinities, to show each model's k nearest.
        neighbours: instead of `affinity`: (n, k) indices of each model's nearest, best first, and (n, k) affinities.
        intervals: (n, k) lower and (n, k) upper ends of those affinities' intervals; needs `neighbours`.
        k: number of nearest models to show, with `affinity`.
        tree: of the same models; shown next to the projection.
        thumbnails: name -> (h, w) attribution map, or several side by side; optional for each model. Signed values have
            diverging colours centred on zero. Larger maps are averaged down to `THUMBNAIL_SIDE` rows.
        recall: of the projection; printed below it.
        title: of the page.

    Raises:
        UsageError: shapes or lengths don't fit, a name is repeated, or the thumbnails take more than
            `MAX_THUMBNAIL_BYTES`.
    """
    names = [str(name) for name in names]
    n = len(names)
    points = np.asarray(coordinates, dtype=np.float64)
    if n < 1 or n > MAX_MODELS or len(set(names)) != n:
        raise UsageError(f"an atlas has 1 to {MAX_MODELS:,} models with unique names, not {n:,}")
    if points.shape != (n, 2) or not np.isfinite(points).all():
        raise UsageError(
            f"coordinates have shape {points.shape}, but there are {n} models", "each model needs a pair (x, y)"
        )
    document: dict[str, Any] = {"title": title, "names": names, "places": _pack(_unit_square(points), "<f4")}
    group_values = as_list(names, groups)
    table: dict[str, Sequence[Any]] = {}
    if any(group is not None for group in group_values):
        table["group"] = group_values
    for column, values in (columns or {}).items():
        if len(values) != n:
            raise UsageError(f"column {column!r} has {len(values)} values for {n} models")
        table[column] = values
    document["columns"] = [_column(name, values) for name, values in table.items()]
    document["nearest"] = _nearest(n, affinity, neighbours, intervals, k)
    document["tree"] = None if tree is None else _tree(tree, names)
    document["thumbnails"] = _thumbnails(thumbnails or {}, names)
    document["note"] = "" if recall is None else str(recall)
    return Atlas(_page(_printable(document), printable(title)), n)


def _printable(value: Any) -> Any:
    """The value with control characters escaped in all texts of it, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _printable(entry) for key, entry in value.items()}
    return [_printable(entry) for entry in value] if isinstance(value, list | tuple) else value


def _page(document: dict[str, Any], title: str) -> str:
    folder = files("modelspace.plots") / "atlas_page"
    script = "(() => {\n'use strict';\n" + "\n".join((folder / s).read_text("utf-8") for s in _SCRIPTS) + "\n})();\n"
    style = (folder / "atlas.css").read_text("utf-8")
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # JSON has these characters in strings only, where \uXXXX is equivalent, and no HTML parser sees a tag.
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate (from a file name that is not UTF-8) can't be encoded.
    data = data.encode("utf-8", "replace").decode("utf-8")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'"
    page = (folder / "atlas.html").read_text("utf-8")
    # One pass over the template, so that inserted text is not searched.
    parts = {"TITLE": html.escape(title), "POLICY": policy, "STYLE": style, "DATA": data, "SCRIPT": script}
    pieces = page.split("%%")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _pack(array: ArrayLike, kind: str) -> str:
    """An array as base64-encoded little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind)).tobytes()).decode("ascii")


def _unit_square(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points scaled into -1..1, by the same factor on both axes: float32 is then precise enough at any zoom."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    scaled: NDArray[np.float64] = (points - (low + high) / 2) * (2 / span)
    return scaled


def _column(name: str, values: Sequence[Any]) -> dict[str, Any]:
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
            return {"name": name, "kind": "number", "values": _pack(array, "<f8")}
    looks, legend = group_looks(list(values))
    distinct = {text: code for code, text in enumerate(sorted({value for value in values if value is not None}))}
    codes = [-1 if value is None else distinct[value] for value in values]
    place = {look.label: i for i, look in enumerate(legend)}
    look_of = {value: place.get(look.label, -1) for value, look in zip(values, looks, strict=True)}
    return {
        "name": name,
        "kind": "text",
        "texts": list(distinct),
        "values": _pack(codes, "<i4"),
        "looks": [{"label": x.label, "colour": x.colour, "shape": x.marker, "count": x.count} for x in legend],
        "look_of": [look_of[text] for text in distinct],
    }


def _nearest(
    n: int,
    affinity: ArrayLike | None,
    neighbours: tuple[ArrayLike, ArrayLike] | None,
    intervals: tuple[ArrayLike, ArrayLike] | None,
    k: int,
) -> dict[str, Any] | None:
    if neighbours is None:
        if intervals is not None:
            raise UsageError("intervals belong to the neighbours", "give both, in the same order")
        if affinity is None or n < 2:
            return None
        matrix = np.asarray(affinity, dtype=np.float64)
        if matrix.shape != (n, n):
            raise UsageError(f"affinities have shape {matrix.shape}, but there are {n} models")
        numbers = true_neighbours(matrix, k)
        values = np.take_along_axis(matrix, numbers, axis=1)
    else:
        numbers = np.asarray(neighbours[0], dtype=np.int64)
        values = np.asarray(neighbours[1], dtype=np.float64)
    if numbers.ndim != 2 or len(numbers) != n or values.shape != numbers.shape:
        raise UsageError(f"neighbours have shapes {numbers.shape} and {values.shape}, but there are {n} models")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= n):
        raise UsageError(f"a neighbour has a number outside 0..{n - 1}")
    packed = {"k": numbers.shape[1], "models": _pack(numbers, "<u4"), "affinity": _pack(values, "<f4")}
    if intervals is not None:
        for key, ends in zip(("low", "high"), intervals, strict=True):
            array = np.asarray(ends, dtype=np.float64)
            if array.shape != numbers.shape:
                raise UsageError(f"intervals have shape {array.shape}, but neighbours {numbers.shape}")
            packed[key] = _pack(array, "<f4")
    return packed


def _tree(tree: Tree, names: list[str]) -> dict[str, Any]:
    if sorted(tree.names) != sorted(names):
        raise UsageError("the tree and the atlas have different models", "build it from the same names")
    number = {name: i for i, name in enumerate(names)}
    return {
        "method": tree.method,
        "leaves": _pack([number[name] for name in tree.names], "<u4"),
        "order": _pack(tree.order, "<u4"),
        "merges": _pack(tree.linkage[:, :2], "<u4"),
        "heights": _pack(tree.linkage[:, 2], "<f4"),
        "support": None if tree.support is None else _pack(tree.support, "<f4"),
    }


def _thumbnails(thumbnails: Mapping[str, ArrayLike], names: list[str]) -> dict[str, Any]:
    known = {name: i for i, name in enumerate(names)}
    packed: dict[str, Any] = {}
    total = 0
    for name, values in thumbnails.items():
        if name not in known:
            raise UsageError(f"there is a thumbnail for {name!r}, but no such model")
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
            raise UsageError(f"the thumbnail of {name!r} is not a (height, width) array of finite numbers")
        step = -(-array.shape[0] // THUMBNAIL_SIDE)
        if step > 1:
            height, width = (side // step * step for side in array.shape)
            array = array[:height, :width].reshape(height // step, step, -1, step).mean(axis=(1, 3))
        limit = float(np.quantile(np.abs(array), 0.99)) or float(np.abs(array).max()) or 1.0
        signed = bool((array < 0).any())
        levels = np.clip(np.rint(array / limit * 127), -127, 127)
        total += levels.size
        if total > MAX_THUMBNAIL_BYTES:
            raise UsageError(
                f"thumbnails take more than {MAX_THUMBNAIL_BYTES // 1_000_000} MB",
                "give smaller ones, or those of fewer models",
            )
        packed[str(known[name])] = [array.shape[1], array.shape[0], int(signed), _pack(levels, "<i1")]
    return packed
