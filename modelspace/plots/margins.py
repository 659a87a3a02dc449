"""What is printed above and below a picture: title, legend, notes, and a caption of where the numbers come from.

All texts are wrapped to the picture's width, and the picture grows with them: nothing is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelspace.plots.figure import BODY, SMALL, TITLE, Picture, wrapped
from modelspace.plots.groups import Colouring
from modelspace.plots.legend import draw_legend, legend_height

#: Colour of the caption.
QUIET = "#5F5F5F"

# Inches: left and right margin, and height of a line of the title, of a note and of the caption.
_SIDE = 0.08
_TITLE_LINE, _NOTE_LINE, _CAPTION_LINE = 0.155, 0.128, 0.112


@dataclass(frozen=True)
class Heading:
    """Title and legend.

    Attributes:
        lines: of the title.
        colouring: of the legend.
        width: of the picture in inches.
    """

    lines: tuple[str, ...]
    colouring: Colouring
    width: float

    @classmethod
    def of(cls, title: str, colouring: Colouring, width: float) -> Heading:
        """The heading of a picture of `width` inches."""
        return cls(tuple(wrapped(title, width - 2 * _SIDE, TITLE, "bold")), colouring, width)

    @property
    def title_height(self) -> float:
        """In inches, with the margin above."""
        return 0.125 + _TITLE_LINE * len(self.lines) if self.lines else 0.04

    @property
    def height(self) -> float:
        """In inches."""
        return self.title_height + legend_height(self.colouring, self.width)

    def draw(self, picture: Picture) -> None:
        """Print both at the top of a picture that has at least one panel."""
        height = picture.get_size_inches()[1]
        for number, line in enumerate(self.lines):
            y = 1 - (0.07 + number * _TITLE_LINE) / height
            picture.text(_SIDE / self.width, y, line, fontsize=TITLE, weight="bold", va="top")
        if self.colouring.kinds:
            draw_legend(picture, self.colouring, y=1 - self.title_height / height)


@dataclass(frozen=True)
class Footer:
    """Notes, and below them the caption.

    Attributes:
        notes: lines of the notes.
        caption: lines of the caption.
    """

    notes: tuple[str, ...]
    caption: tuple[str, ...]

    @classmethod
    def of(cls, notes: Sequence[str], caption: str, width: float) -> Footer:
        """The footer of a picture of `width` inches; each note begins on a new line."""
        lines = [line for note in notes for line in wrapped(note, width - 2 * _SIDE)]
        return cls(tuple(lines), tuple(wrapped(caption, width - 2 * _SIDE, SMALL)))

    @property
    def height(self) -> float:
        """In inches, with the margins; 0 if there is nothing to print."""
        if not self.notes and not self.caption:
            return 0.0
        return 0.14 + _NOTE_LINE * len(self.notes) + _CAPTION_LINE * len(self.caption)

    def draw(self, picture: Picture) -> None:
        """Print both at the bottom of a picture."""
        width, height = picture.get_size_inches()
        y = 0.06
        for line in reversed(self.caption):
            picture.text(_SIDE / width, y / height, line, fontsize=SMALL, color=QUIET, va="bottom", gid="caption")
            y += _CAPTION_LINE
        for line in reversed(self.notes):
            picture.text(_SIDE / width, y / height, line, fontsize=BODY, va="bottom", gid="note")
            y += _NOTE_LINE
