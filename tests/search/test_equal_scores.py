"""A task on which all models score the same tells nothing of models, nor of how far apart the scores of others lie."""

from __future__ import annotations

import numpy as np
import pytest

from modelspace.search.prediction import predict
from modelspace.search.strength import strength


@pytest.mark.parametrize("value", [0.1, 0.7, 0.99])
@pytest.mark.parametrize("n_models", [3, 9])
def test_equal_scores_have_no_spread(value: float, n_models: int) -> None:
    """np.std([0.1] * 3) is 1.4e-17: taken for a spread, it would make the next task's intervals infinitely wide."""
    rows = np.linspace(-1, 1, n_models) + np.arange(4)[:, None]
    flat = np.vstack([rows, np.full(n_models, value)])
    told, plain = strength(flat), strength(rows)
    assert told.row_spreads[-1] == 0
    nothing = np.full(n_models, np.nan)
    assert np.allclose(predict(told, nothing).high, predict(plain, nothing).high)
