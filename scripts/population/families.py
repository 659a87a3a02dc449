"""Who descends from whom: bases, fine-tunes, quantised copies, and models without relatives.

Model i joins the family of an earlier model drawn uniformly, so large families grow faster (Yule 1925; Simon 1955),
and the sizes of families have a power-law tail as on public hubs. What a model is depends on the seed and on earlier
models alone: a larger population begins with the smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from population import draws
from population.draws import Integers

BASE, FINE_TUNE, COPY = 0, 1, 2
ROLES = ("base", "fine-tune", "quantised copy")

#: Shares of new models that are bases, and fine-tunes; the rest are quantised copies. Share of copies with 4 bits; the
#: others have 8.
BASES, FINE_TUNES, FOUR_BITS = 0.3, 0.5, 0.4

#: First keys of the draws, so that no two draws share random bits.
_ROLE, _RELATIVE, _BITS = 101, 102, 103


@dataclass(frozen=True, eq=False)
class Families:
    """The descent of models 0..n-1.

    Attributes:
        role: (n,) BASE, FINE_TUNE or COPY.
        base: (n,) the base that a model goes back to; its own number for a base.
        parent: (n,) the model that a copy was made of, a base or a fine-tune; of a fine-tune its base; of a base its
            own number.
        four_bits: (n,) whether a copy has weights of 4 bits.
    """

    role: NDArray[np.int8]
    base: Integers
    parent: Integers
    four_bits: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.role)


def families(seed: int, n: int) -> Families:
    """The descent of the first n models of a population."""
    numbers = np.arange(n)
    chance = draws.uniform(seed, _ROLE, numbers)
    role = np.where(chance < BASES, BASE, np.where(chance < BASES + FINE_TUNES, FINE_TUNE, COPY)).astype(np.int8)
    role[:1] = BASE
    relative = draws.below(numbers, seed, _RELATIVE, numbers)
    base = _ends(np.where(role == BASE, numbers, relative))
    original = _ends(np.where(role == COPY, relative, numbers))  # a copy of a copy is a copy of the original
    four_bits = (role == COPY) & (draws.uniform(seed, _BITS, numbers) < FOUR_BITS)
    return Families(role, base, np.where(role == FINE_TUNE, base, original), four_bits)


def _ends(link: Integers) -> Integers:
    """Where each chain of links ends: at the model that is linked to itself."""
    while (link[link] != link).any():
        link = link[link]
    return link
