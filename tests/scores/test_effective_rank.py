"""Effective rank by its definition, on kernels whose rank is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import UsageError
from modelspace.scores.effective_rank import effective_rank


def slow(kernel: np.ndarray) -> float:
    values = [max(float(value), 0.0) for value in np.linalg.eigvalsh(kernel)]
    shares = [value / sum(values) for value in values]
    return float(np.exp(-sum(p * np.log(p) for p in shares if p > 0)))


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_it_is_the_exponential_of_the_entropy(seed: int, n: int, d: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, d))
    kernel = features @ features.T
    value = effective_rank(kernel)
    assert value == pytest.approx(slow(kernel))
    assert 1 - 1e-9 <= value <= min(n, d) + 1e-6
    assert effective_rank(kernel * 1e-9) == pytest.approx(value)
    order = np.random.default_rng(0).permutation(n)
    assert effective_rank(kernel[np.ix_(order, order)]) == pytest.approx(value)


def test_known_ranks() -> None:
    assert effective_rank(np.eye(7)) == pytest.approx(7.0)
    assert effective_rank(np.ones((7, 7))) == pytest.approx(1.0)
    assert effective_rank(np.diag([1.0, 1.0, 0.0])) == pytest.approx(2.0)
    # Quantisation leaves small negative eigenvalues behind: they count as none.
    assert effective_rank(np.diag([1.0, 1.0, -1e-3])) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (np.ones((2, 3)), "square"),
        (np.ones(4), "square"),
        (np.ones((0, 0)), "square"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
        (np.zeros((3, 3)), "no positive eigenvalue"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: np.ndarray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        effective_rank(kernel)
