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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modelspace.analysis.neighbours import NeighbourRecall
from modelspace.analysis.tree import Tree
from modelspace.errors import UsageError, unwritable
from modelspace.names import printable
from modelspace.plots.atlas_data import (
    NearestLists,
    SecondMap,
    beside_of,
    column_of,
    images_of,
    lists_of,
    nearest_of,
    pack,
    thumbnails_of,
    tree_of,
    unit_square,
)
from modelspace.plots.groups import as_list

#: Largest number of models; more make a file of over 100 MB that browsers are slow to open.
MAX_MODELS = 200_000

# A notebook stores its output; a larger page would make it slow to open and to save.
_LARGEST_SHOWN = 20_000_000

_SCRIPTS = (
    "data.js",
    "colours.js",
    "filter.js",
    "points.js",
    "grid.js",
    "clusters.js",
    "overlay.js",
    "map.js",
    "tree.js",
    "panel.js",
    "table.js",
    "main.js",
)


@dataclass(frozen=True)
class Atlas:
    """An HTML page. Show it in a notebook, or `save` it.

    Attributes:
        html: the whole file.
        n_models: number of models on it.
        notes: remarks for the user.
    """

    html: str
    n_models: int
    notes: tuple[str, ...] = ()

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
        allowed = "allow-scripts allow-downloads"
        return f'<iframe srcdoc="{page}" sandbox="{allowed}" width="100%" height="640" style="border:0"></iframe>'


def make_atlas(
    names: Sequence[str],
    coordinates: ArrayLike,
    groups: Mapping[str, str | None] | Sequence[str | None] | None = None,
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    affinity: ArrayLike | None = None,
    neighbours: NearestLists | tuple[ArrayLike, ArrayLike] | None = None,
    intervals: tuple[ArrayLike, ArrayLike] | None = None,
    k: int = 10,
    tree: Tree | None = None,
    thumbnails: Mapping[str, ArrayLike] | None = None,
    images: ArrayLike | None = None,
    recall: NeighbourRecall | None = None,
    space: str = "",
    beside: SecondMap | None = None,
    title: str = "Atlas of models",
    notes: Sequence[str] = (),
) -> Atlas:
    """Create an atlas.

    Args:
        names: n model names, all different, n <= `MAX_MODELS`.
        coordinates: (n, 2) coordinates of the projection.
        groups: the group of each model, by name or in order; the first column to colour by.
        columns: further columns, name -> n values: numbers (missing: None or NaN) or strings (missing: None). They are
            shown on a model's card, and models can be coloured and filtered by them.
        affinity: (n, n) affinities, to show each model's k nearest.
        neighbours: instead of `affinity`: `NearestLists`, or (n, k) indices of each model's nearest, best first, and
            (n, k) affinities.
        intervals: (n, k) lower and (n, k) upper ends of those affinities' intervals; needs `neighbours` as a pair.
        k: number of nearest models to show, with `affinity`.
        tree: of the same models; shown next to the projection.
        thumbnails: name -> (h, w) attribution map, or several side by side; optional for each model. Signed values have
            diverging colours centred on zero. Larger maps are averaged down to `THUMBNAIL_SIDE` rows.
        images: (m, height, width, 3) uint8, the probe images of the m maps that each thumbnail has side by side.
        recall: of the projection; printed below it.
        space: name of the space, which the commands that the page offers to copy then name.
        beside: the same models in a second space, on a map next to the first. What is selected on one is on both.
        title: of the page.
        notes: remarks for the user, which are not on the page.

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
    document: dict[str, Any] = {"title": title, "names": names, "places": pack(unit_square(points), "<f4")}
    group_values = as_list(names, groups)
    table: dict[str, Sequence[Any]] = {}
    if any(group is not None for group in group_values):
        table["group"] = group_values
    for column, values in (columns or {}).items():
        if len(values) != n:
            raise UsageError(f"column {column!r} has {len(values)} values for {n} models")
        table[column] = values
    document["columns"] = [column_of(name, values) for name, values in table.items()]
    document["nearest"] = nearest_of(n, lists_of(n, affinity, neighbours, intervals, k))
    document["tree"] = tree_of(tree, names)
    document["thumbnails"] = thumbnails_of(thumbnails or {}, names)
    document["images"] = images_of(images)
    document["tiles"] = len(document["images"]) or _tiles(document["thumbnails"])
    document["note"] = "" if recall is None else str(recall)
    document["space"] = space
    document["beside"] = beside_of(n, beside)
    return Atlas(_page(_printable(document), printable(title)), n, tuple(notes))


def _tiles(thumbnails: dict[str, Any]) -> int:
    """Number of square maps that a thumbnail has side by side; 1 if they are not square."""
    width, height = next(iter(thumbnails.values()), (1, 1))[:2]
    return width // height if width % height == 0 else 1


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
