"""The figure class of all pictures, and how it is saved.

matplotlib is used without pyplot: a picture is a separate `Figure`, so drawing it does not affect other figures of the
program. The style is `LOOK` on top of matplotlib's defaults, independent of the user's matplotlibrc. Equal inputs give
equal bytes: the metadata has no dates, and names inside an SVG file have a fixed salt.
"""

from __future__ import annotations

import io
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from modelspace.errors import UsageError, unwritable
from modelspace.names import printable

#: File kinds by suffix.
SUFFIXES = (".png", ".svg", ".pdf")

#: Dots per inch of PNG files. Journals ask for 300; 240 prints well and is a third smaller.
DPI = 240

#: Font sizes in points. Figures are at most 7.2 inches wide, the width of a printed page, and are printed unscaled.
SMALL, BODY, TITLE = 6.0, 7.0, 8.5

#: Colours of text, of thin lines, and of background elements.
INK, LINE, FAINT = "#222222", "#8A8A8A", "#D9D9D9"

#: The font that texts are measured with. It comes with matplotlib.
FONT = "DejaVu Sans"

# SVG files hold text, not outlines. Verdana, which most systems have, is as wide as our font.
_SVG_FONT = re.compile(rf"""(style="[^"]*'{FONT}')""".encode())
_SVG_FALLBACK = rb"\1, Verdana, sans-serif"

LOOK: dict[Any, Any] = {
    "font.family": [FONT],
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
    "svg.fonttype": "none",
    "svg.hashsalt": "modelspace",
    "pdf.fonttype": 42,
    # Without hinting, a text has the same width at any resolution as when it was placed.
    "text.hinting": "none",
    # Model names may contain dollar signs, and no text here is TeX.
    "text.parse_math": False,
    "text.usetex": False,
}

# Settings of the backend, which are not part of the style.
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
    """matplotlib's defaults with `LOOK` inside the block; the caller's settings are restored after it."""
    defaults: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(_NOT_LOOK)
    }
    with mpl.rc_context({**defaults, **LOOK}), warnings.catch_warnings():
        # The font lacks some scripts; a box is drawn then, and a line per character on the terminal would not help.
        warnings.filterwarnings("ignore", "(?s)Glyph .* missing from", UserWarning)
        warnings.filterwarnings("ignore", "(?s)Matplotlib currently does not support", UserWarning)
        yield


def drawn(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: run a drawing function with our style."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with look():
            return function(*args, **kwargs)

    return inside


def shorten(name: str, longest: int) -> str:
    """A name on one line of at most `longest` characters; the middle is cut, since versions are at the end.

    >>> shorten("vit_base_patch16.imagenet_0001", 20)
    'vit_base_p…enet_0001'
    """
    line = printable(" ".join(name.split()))
    if len(line) <= longest:
        return line
    tail = (longest - 1) // 2
    return f"{line[: longest - 1 - tail]}…{line[len(line) - tail :]}"


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = SMALL, weight: str = "normal") -> float:
    """Width of a line of text in inches, at any resolution: that of its outlines, not of its pixels."""
    font = FontProperties(family=FONT, weight=weight, size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(printable(text), font, ismath=False)
    return float(width) / 72


def wrapped(text: str, width: float, size: float = BODY, weight: str = "normal") -> list[str]:
    """Lines of at most `width` inches; breaks at blanks, and inside words that are too long for a line."""
    # Measuring takes longer the longer a text is. No line holds more characters than this: few are a fifth of an em.
    most = max(1, int(width * 72 / (size / 5)))

    def fits(part: str) -> bool:
        return len(part) <= most and text_width(part, size, weight) <= width

    lines: list[str] = []
    line = ""
    for word in printable(" ".join(text.split())).split(" "):
        candidate = f"{line} {word}" if line else word
        if fits(candidate):
            line = candidate
            continue
        if line:
            lines.append(line)
        while not fits(word) and len(word) > 1:
            # The longest beginning that fits, and at least one character.
            tried = range(1, min(most + 1, len(word)))
            end = max(1, bisect_left(tried, True, key=lambda n: not fits(word[:n])))
            lines.append(word[:end])
            word = word[end:]
        line = word
    return [*lines, line] if line else lines


class Picture(Figure):
    """A matplotlib figure that is shown in a notebook and can be saved to a file.

    Attributes:
        facts: values computed for the drawing, for example the number of labels that fit.
    """

    def __init__(self, width: float, height: float) -> None:
        """An empty picture of width x height inches."""
        super().__init__(figsize=(width, height), dpi=100, layout=None)
        FigureCanvasAgg(self)
        self.facts: dict[str, Any] = {}

    def text(self, x: float, y: float, s: str, *args: Any, **options: Any) -> Text:
        """As matplotlib's, with control characters escaped: an SVG file can't hold them."""
        return super().text(x, y, printable(s), *args, **options)

    def to_bytes(self, kind: str = "png", dpi: float = DPI) -> bytes:
        """The picture as the bytes of a "png", "svg" or "pdf" file; equal pictures give equal bytes.

        Raises:
            UsageError: unknown kind.
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
        content = buffer.getvalue()
        return _SVG_FONT.sub(_SVG_FALLBACK, content) if kind == "svg" else content

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file; the suffix chooses the format: .png, .svg or .pdf.

        Raises:
            UsageError: unknown suffix, or the file can't be written.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"{target.name!r} has no suffix of a picture", f"use one of: {', '.join(SUFFIXES)}")
        content = self.to_bytes(suffix[1:])
        try:
            target.write_bytes(content)
        except OSError as error:
            raise unwritable(target, error) from error
        return target

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        # Twice the resolution of the page, for sharp text on high-density screens.
        width, height = (round(96 * side) for side in self.get_size_inches())
        return self.to_bytes("png", dpi=192), {"width": width, "height": height}
