"""Scores of different metrics on one unbounded line, higher is better.

Accuracies crowd near 1, where a point is worth more than at one half: on the line of log odds, the spread between
models is about the same for easy and for hard tasks, which intervals need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Metrics between 0 and 1, also given in percent.
SHARES = frozenset({"accuracy", "balanced_accuracy", "f1", "auroc"})

#: Log odds end here, since 0 and 1 have none.
_EDGE = 0.002


@dataclass(frozen=True)
class Unit:
    """How a task's scores are put on the line.

    Attributes:
        is_share: between 0 and `full`.
        full: the largest score: 1, or 100 for percent.
        sign: 1 if higher is better, else -1.
    """

    is_share: bool
    full: float
    sign: float

    @classmethod
    def of(cls, metric: str, higher_is_better: bool, scores: ArrayLike) -> Unit:
        """The unit of a task, by its metric and the scores measured so far."""
        values = np.asarray(scores, dtype=np.float64)
        values = values[np.isfinite(values)]
        largest = float(values.max(initial=0.0))
        is_share = metric in SHARES and bool((values >= 0).all()) and largest <= 100
        return cls(is_share, 100.0 if largest > 1 else 1.0, 1.0 if higher_is_better else -1.0)

    def to_line(self, scores: ArrayLike) -> Array:
        """Scores on the line, NaN where there is none."""
        values = np.asarray(scores, dtype=np.float64)
        if not self.is_share:
            return self.sign * values
        share = (values / self.full).clip(_EDGE, 1 - _EDGE)
        odds: Array = self.sign * np.log(share / (1 - share))
        return odds

    def from_line(self, places: ArrayLike) -> Array:
        """The scores at some places of the line; the inverse of `to_line` between its edges."""
        values = self.sign * np.asarray(places, dtype=np.float64)
        if not self.is_share:
            return values
        shares: Array = self.full / (1 + np.exp(-values))
        return shares

    @property
    def kind(self) -> str:
        """What can be compared: shares with shares, and other units with their like."""
        return "share" if self.is_share else "other"
