"""A continuous scale of colours for the numbers of models, such as their number of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

#: Colours from low to high; they darken evenly, so a gray print keeps the order, and the lightest is visible on white.
STOPS = ("#F0BE4A", "#E08A3A", "#C4513F", "#8E2A5E", "#4A1A63", "#120B33")

#: Number of different colours of markers; neighbouring ones can't be told apart.
STEPS = 64

#: Fewest different numbers that are drawn as a scale; fewer are groups.
LEAST = 3


@dataclass(frozen=True)
class Scale:
    """A range of numbers, drawn from light to dark.

    Attributes:
        label: what the numbers are.
        low: the lowest number.
        high: the highest number.
        log: whether colours follow the logarithm.
    """

    label: str
    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, numbers: Sequence[float], label: str = "") -> Scale:
        """The scale of at least one number; logarithmic if all are positive and the highest is 10 times the lowest."""
        low, high = float(min(numbers)), float(max(numbers))
        return cls(label, low, high, low > 0 and high >= 10 * low)

    def step(self, number: float) -> int:
        """0..STEPS - 1: the number's colour."""
        low, high, value = np.log([self.low, self.high, number]) if self.log else (self.low, self.high, number)
        share = (value - low) / (high - low) if high > low else 0.5
        return int(np.clip(round(share * (STEPS - 1)), 0, STEPS - 1))

    def ends(self) -> tuple[str, str]:
        """The lowest and the highest number as texts."""
        return written_number(self.low), written_number(self.high)


def colour(step: int) -> str:
    """The colour "#RRGGBB" of a step 0..STEPS - 1."""
    place = step / (STEPS - 1) * (len(STOPS) - 1)
    first = min(int(place), len(STOPS) - 2)
    a, b = list(pairwise(STOPS))[first]
    channels = []
    for at in (1, 3, 5):
        low, high = int(a[at : at + 2], 16), int(b[at : at + 2], 16)
        channels.append(round(low + (place - first) * (high - low)))
    return "#" + "".join(f"{channel:02X}" for channel in channels)


def written_number(number: float) -> str:
    """A number of at most three or four digits.

    >>> [written_number(number) for number in (0.51234, 2019, 98_304, 3_312_000, 7e9, 0)]
    ['0.512', '2019', '98.3k', '3.31M', '7G', '0']
    """
    if abs(number) < 10_000:
        return f"{number:.0f}" if float(number).is_integer() else f"{number:.3g}"
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,999 is 1M, not 1e+03k.
        if abs(number) >= 0.9995 * unit and abs(number) < 1e15:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}"
