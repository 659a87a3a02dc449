"""Attribution maps side by side: rows of probe images, columns of models (the paper's figure S1) or of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from modelspace.errors import UsageError
from modelspace.plots.figure import INK, LINE, SMALL, Picture, drawn, shorten, text_width
from modelspace.plots.groups import Colouring, GroupLook, Groups
from modelspace.plots.margins import Footer, Heading

# Diverging colours for signed maps, centred on zero. "relief" also gets lighter from blue to gold, so that the sign is
# visible in a gray print; in "redblue" both ends become the same gray.
SIGNED = {
    "relief": LinearSegmentedColormap.from_list(
        "modelspace_relief", ["#06163F", "#1F4E9A", "#5F7FA8", "#9A9A96", "#C9A878", "#F2CF7A", "#FFFBE6"]
    ),
    "redblue": LinearSegmentedColormap.from_list(
        "modelspace_redblue", ["#0B2F6B", "#2E6DB4", "#8DB9DD", "#F7F7F4", "#F3B38A", "#D65A2A", "#7A1A0C"]
    ),
}
# For saliency and other unsigned maps; white is zero.
UNSIGNED = LinearSegmentedColormap.from_list(
    "modelspace_unsigned", ["#FFFFF7", "#F6D9A8", "#E8985A", "#B8433A", "#5E1446", "#14061F"]
)

#: Each map's colours end at this quantile of its absolute values; otherwise a few extremes would make it pale.
CLIP = 0.99

# What the scale's ends are, and the room in inches for the scale with this note.
_NOTE = "v: 99th percentile of the map's absolute values"
_SCALE = 3.5

# Left edge of the scale in inches, at least: its first tick's text is wider than the tick.
_SCALE_LEFT = 0.12

#: Largest number of maps in one picture; more would be too small to see.
MAX_MAPS = 1200


@drawn
def gallery_figure(
    maps: ArrayLike,
    column_names: Sequence[str],
    row_names: Sequence[str] | None = None,
    *,
    images: ArrayLike | None = None,
    groups: Groups = None,
    headings: Sequence[str] | None = None,
    colours: str = "relief",
    group_by: str = "",
    title: str = "",
    caption: str = "",
    width: float = 7.2,
) -> Picture:
    """Draw attribution maps: one row per probe image, one column per model, or per layer of a model.

    Each map has its own colour scale, from −v to v (from 0 to v if no map has a negative value), with v the 99th
    percentile of its absolute values: scales differ by orders of magnitude, and the affinity compares unit maps.

    Args:
        maps: (n_columns, n_rows, height, width) finite floats. A column is a model, or a layer of one.
        column_names: n_columns names, printed above the columns.
        row_names: n_rows names of the probe images; None: no names.
        images: (n_rows, h, w, 3) uint8 probe images, drawn as the first column.
        groups: the groups of the columns; drawn as shapes above them. 3 or more different numbers have a scale.
        headings: n_columns headings; a heading shared by adjacent columns is printed once above them. For layers: the
            model's name for each column.
        colours: "relief" (readable in gray) or "redblue".
        group_by: what the groups are; printed beside a scale.
        title: printed above.
        caption: printed at the bottom: where the maps come from.
        width: in inches; narrower with few columns.

    Returns:
        The picture; `facts["signed"]` says whether any map has a negative value.

    Raises:
        UsageError: shapes don't fit, values are not finite, or the colours are unknown.
    """
    array = _check_maps(maps, column_names, row_names, headings)
    n_columns, n_rows = array.shape[:2]
    if colours not in SIGNED:
        raise UsageError(f"unknown colours {colours!r}", f"use one of: {', '.join(SIGNED)}")
    photographs = None if images is None else _check_images(images, n_rows)
    signed = bool((array < 0).any())
    colouring = Colouring.of(column_names, groups, group_by)
    texts = [shorten(name, 26) for name in column_names]
    rows = [] if row_names is None else [shorten(name, 18) for name in row_names]
    grid = _Grid.fitted(
        array.shape, texts, rows, width=width, title=title, caption=caption, colouring=colouring,
        photographs=photographs is not None, headings=headings is not None,
    )  # fmt: skip
    picture = Picture(grid.width, grid.height)
    picture.facts["signed"] = signed
    palette = SIGNED[colours] if signed else UNSIGNED
    for row in range(n_rows):
        if photographs is not None:
            _draw_cell(picture, grid, grid.at_left, row, photographs[row])
        for column in range(n_columns):
            values = array[column, row]
            limit = float(np.quantile(np.abs(values), CLIP)) or float(np.abs(values).max()) or 1.0
            low = -limit if signed else 0.0
            _draw_cell(picture, grid, grid.left_of(column), row, values, cmap=palette, vmin=low, vmax=limit)
        if rows:
            y = 1 - (grid.top_of(row) + grid.side * grid.ratio / 2) / grid.height
            picture.text((grid.at_left - 0.06) / grid.width, y, rows[row], fontsize=SMALL, ha="right", va="center")
    _draw_names(picture, grid, texts, column_names)
    if colouring.kinds:
        _draw_marks(picture, grid, colouring.looks)
    grid.heading.draw(picture)
    if headings is not None:
        y = 1 - (grid.above - grid.named - grid.marks - 0.02) / grid.height
        _draw_headings(picture, headings, grid.left_of, grid.side, y)
    _draw_scale(picture, palette, signed, max(grid.left_of(0), _SCALE_LEFT), grid.footer.height)
    grid.footer.draw(picture)
    return picture


@dataclass(frozen=True)
class _Grid:
    """The layout of a gallery, in inches from the left and from the top.

    Attributes:
        width: of the picture.
        height: of the picture.
        side: width of a map.
        ratio: height / width of a map.
        at_left: left edge of the first cell.
        photographs: whether the first cell of a row is the probe image.
        above: upper edge of the first row, below title, legend, headings, column names and group marks.
        heading: title and legend.
        footer: the caption.
        named: height of the column names.
        marks: height of the group marks.
        flat: whether the column names are horizontal; otherwise they are vertical.
    """

    width: float
    height: float
    side: float
    ratio: float
    at_left: float
    photographs: bool
    above: float
    heading: Heading
    footer: Footer
    named: float
    marks: float
    flat: bool

    GAP: ClassVar[float] = 0.03

    @classmethod
    def fitted(
        cls,
        shape: tuple[int, ...],
        texts: Sequence[str],
        rows: Sequence[str],
        *,
        width: float,
        title: str,
        caption: str,
        colouring: Colouring,
        photographs: bool,
        headings: bool,
    ) -> _Grid:
        """The layout for maps of shape (columns, rows, height, width) in a picture of at most `width`."""
        n_columns, n_rows, map_height, map_width = shape
        at_left = 0.04 + (max(map(text_width, rows)) + 0.06 if rows else 0.0)
        cells = n_columns + photographs
        extra = 0.06 if photographs else 0.0
        side = min(1.05, (width - at_left - extra - 0.04) / cells - cls.GAP)
        ratio = map_height / map_width
        longest = max(map(text_width, texts))
        flat = longest <= side
        named = (0.13 if flat else longest + 0.06) + 0.02
        marks = 0.12 if colouring.kinds else 0.0
        total = max(at_left + extra + cells * (side + cls.GAP) + 0.04, at_left + extra + side + cls.GAP + _SCALE)
        heading, footer = Heading.of(title, colouring, total), Footer.of((), caption, total)
        above = heading.height + (0.17 if headings else 0.0) + named + marks
        below = 0.36 + footer.height
        return cls(
            width=total,
            height=above + n_rows * (side * ratio + cls.GAP) + below,
            side=side,
            ratio=ratio,
            at_left=at_left,
            photographs=photographs,
            above=above,
            heading=heading,
            footer=footer,
            named=named,
            marks=marks,
            flat=flat,
        )

    def left_of(self, column: int) -> float:
        """Left edge of a column."""
        extra = 0.06 if self.photographs else 0.0
        return self.at_left + (column + self.photographs) * (self.side + self.GAP) + extra

    def top_of(self, row: int) -> float:
        """Upper edge of a row."""
        return self.above + row * (self.side * self.ratio + self.GAP)


def _draw_cell(picture: Picture, grid: _Grid, x: float, row: int, values: NDArray[Any], **options: Any) -> None:
    """Draw a map or a probe image with its left edge at `x`."""
    cell = grid.side * grid.ratio
    y = grid.height - grid.top_of(row) - cell
    axes = picture.add_axes((x / grid.width, y / grid.height, grid.side / grid.width, cell / grid.height))
    axes.imshow(values, aspect="auto", interpolation="antialiased", **options)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.3, color=LINE)


def _draw_names(picture: Picture, grid: _Grid, texts: Sequence[str], column_names: Sequence[str]) -> None:
    for column, text in enumerate(texts):
        x = (grid.left_of(column) + grid.side / 2) / grid.width
        y = 1 - (grid.above - 0.03 - grid.marks) / grid.height
        label = picture.text(x, y, text, fontsize=SMALL, ha="center", va="bottom", rotation=0 if grid.flat else 90)
        label.set_gid(f"column:{column_names[column]}")


def _draw_marks(picture: Picture, grid: _Grid, looks: Sequence[GroupLook]) -> None:
    """Draw the group marks of the columns."""
    strip = picture.add_axes((0.0, 1 - grid.above / grid.height, 1.0, grid.marks / grid.height))
    strip.set_axis_off()
    strip.set(xlim=(0, grid.width), ylim=(0, 1))
    for column, look in enumerate(looks):
        x = grid.left_of(column) + grid.side / 2
        strip.scatter([x], [0.5], s=16 * look.area, c=look.colour, marker=look.marker, lw=0)


def _check_maps(
    maps: ArrayLike, column_names: Sequence[str], row_names: Sequence[str] | None, headings: Sequence[str] | None
) -> NDArray[np.float64]:
    array = np.asarray(maps, dtype=np.float64)
    if array.ndim != 4 or array.shape[0] != len(column_names) or 0 in array.shape:
        raise UsageError(f"maps have shape {array.shape}, not ({len(column_names)} columns, rows, height, width)")
    n_columns, n_rows = array.shape[:2]
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise UsageError(f"a map of {column_names[bad[0]]!r} contains a value that is not finite")
    if row_names is not None and len(row_names) != n_rows:
        raise UsageError(f"there are {len(row_names)} names for {n_rows} rows of maps")
    if headings is not None and len(headings) != n_columns:
        raise UsageError(f"there are {len(headings)} headings for {n_columns} columns of maps")
    if n_columns * n_rows > MAX_MAPS:
        raise UsageError(f"{n_columns} x {n_rows} maps are too many for one picture", "select fewer models or images")
    return array


def _check_images(images: ArrayLike, n_rows: int) -> NDArray[np.uint8]:
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[0] != n_rows or array.shape[3] != 3 or array.dtype != np.uint8:
        raise UsageError(f"images are {array.dtype} of shape {array.shape}, not uint8 ({n_rows}, height, width, 3)")
    return array


def _draw_headings(
    picture: Picture, headings: Sequence[str], left_of: Callable[[int], float], side: float, y: float
) -> None:
    """Draw a line and the heading above each run of columns with the same heading."""
    width = picture.get_size_inches()[0]
    first = 0
    for column in range(1, len(headings) + 1):
        if column < len(headings) and headings[column] == headings[first]:
            continue
        x0, x1 = left_of(first) / width, (left_of(column - 1) + side) / width
        picture.add_artist(Line2D([x0, x1], [y, y], color=LINE, lw=0.6))
        room = int((x1 - x0) * width * 72 / (0.6 * SMALL))
        picture.text((x0 + x1) / 2, y, shorten(headings[first], max(room, 4)), fontsize=SMALL, ha="center", va="bottom")
        first = column


def _draw_scale(picture: Picture, palette: LinearSegmentedColormap, signed: bool, x: float, below: float) -> None:
    width, height = picture.get_size_inches()
    axes = picture.add_axes((x / width, (below + 0.20) / height, 1.1 / width, 0.06 / height))
    bar = picture.colorbar(
        ScalarMappable(Normalize(-1 if signed else 0, 1), palette), cax=axes, orientation="horizontal"
    )
    bar.set_ticks([-1, 0, 1] if signed else [0, 1], labels=["−v", "0", "v"] if signed else ["0", "v"])
    bar.outline.set_linewidth(0.4)
    axes.tick_params(labelsize=SMALL - 0.5, color=LINE, labelcolor=INK, pad=1.5)
    picture.text((x + 1.2) / width, (below + 0.23) / height, _NOTE, fontsize=SMALL, va="center")
