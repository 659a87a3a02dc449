"""Random numbers that are functions of a seed and of integers: no state, so any model can be computed on its own."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def words(*keys: ArrayLike) -> Words:
    """64 random bits for each combination of integer keys, which are broadcast against each other.

    The keys go one after the other through the finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
    """
    state = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = state + _STEP + np.asarray(key).astype(np.uint64) * _SECOND
            state = (state ^ (state >> np.uint64(30))) * _FIRST
            state = (state ^ (state >> np.uint64(27))) * _SECOND
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*keys: ArrayLike) -> Floats:
    """Numbers in 0..1, without 1."""
    return np.asarray((words(*keys) >> np.uint64(11)) * 2.0**-53)


def below(limit: ArrayLike, *keys: ArrayLike) -> Integers:
    """Integers from 0 to limit - 1."""
    return np.asarray(uniform(*keys) * np.asarray(limit)).astype(np.int64)


def normal(*keys: ArrayLike) -> Floats:
    """Standard normal numbers (Box & Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(*keys, 1)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(*keys, 2)))
