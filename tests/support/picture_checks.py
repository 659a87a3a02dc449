"""The texts of a drawn figure, their boxes and overlaps, for the tests of the plots."""

from __future__ import annotations

from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts_of(picture: Figure, prefix: str) -> list[Text]:
    return [text for text in picture.findobj(Text) if (text.get_gid() or "").startswith(prefix)]


def boxes_of(picture: Figure, texts: list[Text], dpi: float) -> list[Bbox]:
    """Boxes of texts at a resolution, in pixels."""
    picture.set_dpi(dpi)
    picture.canvas.draw()  # legends and ticks find their places when they are drawn
    renderer = picture.canvas.get_renderer()  # type: ignore[attr-defined]
    return [text.get_window_extent(renderer) for text in texts]


def written(picture: Figure) -> list[Text]:
    """Every drawn text: ticks outside an axis also exist as objects, but are not drawn."""
    found = list(picture.texts)
    for axes in picture.axes:
        found += [*axes.texts, axes.title, axes._left_title]  # type: ignore[attr-defined]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            found.append(axis.label)
            for tick in axis.get_major_ticks():
                if low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    found += [label for label in (tick.label1, tick.label2) if label.get_visible()]
    for legend in picture.legends:
        found += legend.get_texts()
    return [text for text in found if text.get_text() and text.get_visible()]


def overlaps(boxes: list[Bbox]) -> int:
    """Pairs of boxes that share more than a pixel in both directions."""
    return sum(
        min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        for a, b in combinations(boxes, 2)
    )


def all_inside(picture: Figure, boxes: list[Bbox]) -> bool:
    frame = picture.bbox
    return all(b.x0 >= -1 and b.y0 >= -1 and b.x1 <= frame.x1 + 1 and b.y1 <= frame.y1 + 1 for b in boxes)
