"""The figure that every picture is drawn on, and how it becomes a file.

matplotlib is used without pyplot: a picture is a `Figure` of its own, so drawing one changes nothing in a program that
draws too. The look comes from `LOOK` on top of matplotlib's defaults, whatever the user's matplotlibrc says. Equal
inputs give equal bytes: no dates in the metadata, and a fixed salt for the names inside an SVG file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from modelspace.errors import UsageError

#: File kinds by suffix.
SUFFIXES = (".png", ".svg", ".pdf")

#: Dots per inch of PNG files. Journals ask for 300; 240 prints well and is a third smaller.
DPI = 240

#: Text in points. Figures are 7.2 inches wide or less, the width of a printed page, and need no scaling there.
SMALL, BODY, TITLE = 6.0, 7.0, 8.5

#: Text, thin lines, and things that are there only for comparison.
INK, LINE, FAINT = "#222222", "#8A8A8A", "#D9D9D9"

LOOK: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": BODY,
    "axes.titlesize": TITLE,
    "axes.titlelocation": "left",
    "axes.labelsize": BODY,
    "axes.linewidth": 0.6,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": BODY,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "patch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "modelspace",
    "pdf.fonttype": 42,
    # Without hinting a text is as wide on paper as it was when its place was chosen, at any number of dots per inch.
    "text.hinting": "none",
    # Names of models may hold dollar signs; none of our own text is TeX.
    "text.parse_math": False,
    "text.usetex": False,
}

# Settings that say where to draw and not how.
_NOT_LOOK = (
    "backend",
    "backend_fallback",
    "interactive",
    "toolbar",
    "timezone",
    "webagg",
    "tk.",
    "date",
    "docstring",
    "text.hinting_factor",
)

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def look() -> Iterator[None]:
    """matplotlib's defaults with `LOOK` for as long as the block runs; the caller's settings come back after it."""
    defaults: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(_NOT_LOOK)
    }
    with mpl.rc_context({**defaults, **LOOK}):
        yield


def drawn(function: Callable[P, R]) -> Callable[P, R]:
    """A drawing function that always draws in our look."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with look():
            return function(*args, **kwargs)

    return inside


def shorten(name: str, longest: int) -> str:
    """A name on one line of at most `longest` characters; the middle goes first, since versions stand at the end.

    >>> shorten("vit_base_patch16.imagenet_0001", 20)
    'vit_base_p…enet_0001'
    """
    line = " ".join(name.split())
    if len(line) <= longest:
        return line
    tail = (longest - 1) // 2
    return f"{line[: longest - 1 - tail]}…{line[len(line) - tail :]}"


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook and writes itself to a file.

    Attributes:
        facts: plain values that were worked out for the drawing, for example how many labels found room.
    """

    def __init__(self, width: float, height: float) -> None:
        """An empty picture of width x height inches."""
        super().__init__(figsize=(width, height), dpi=100, layout=None)
        FigureCanvasAgg(self)
        self.facts: dict[str, Any] = {}

    def to_bytes(self, kind: str = "png", dpi: float = DPI) -> bytes:
        """The picture as the bytes of a "png", "svg" or "pdf" file; equal pictures give equal bytes.

        Raises:
            UsageError: for another kind.
        """
        if f".{kind}" not in SUFFIXES:
            raise UsageError(f"pictures can't be written as {kind!r}", f"use one of: {', '.join(SUFFIXES)}")
        metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}.get(
            kind, {"CreationDate": None, "Creator": None, "Producer": None}
        )
        buffer = io.BytesIO()
        before = self.dpi
        with look():
            try:
                self.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
            finally:
                self.set_dpi(before)
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, of the kind that the suffix names: .png, .svg or .pdf.

        Raises:
            UsageError: for another suffix, or when the file can't be written.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(
                f"{target.name!r} does not say what kind of picture it is", f"end it in one of: {', '.join(SUFFIXES)}"
            )
        content = self.to_bytes(suffix[1:])
        try:
            target.write_bytes(content)
        except OSError as error:
            raise UsageError(f"{target} can't be written: {error.strerror or error}") from error
        return target

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        # Twice the dots that the page shows, for sharp text on screens of high density.
        width, height = (round(96 * side) for side in self.get_size_inches())
        return self.to_bytes("png", dpi=192), {"width": width, "height": height}
