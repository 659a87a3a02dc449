"""Random guessing and popularity, compared with their definitions."""

import math

import numpy as np
import pytest

from modelspace.errors import UsageError
from modelspace.evaluation import baselines, load, metrics

NAN = math.nan


def test_random_by_simulation() -> None:
    rng = np.random.default_rng(0)
    gains = np.linspace(0, 1, 19) ** 3
    orders = np.array([rng.permutation(19) for _ in range(20000)])
    relevant = orders >= 14
    k = np.arange(1, 20)
    assert baselines.random_precision(19) == pytest.approx((relevant.cumsum(1) / k).mean(0), abs=0.01)
    assert baselines.random_recall(19) == pytest.approx((relevant.cumsum(1) / 5).mean(0), abs=0.01)
    best = np.maximum.accumulate(gains[orders], axis=1).mean(0)
    assert baselines.random_regret(gains) == pytest.approx(1 - best, abs=0.01)
    assert baselines.random_precision(19)[0] == pytest.approx(0.263, abs=5e-4)


def test_random_is_what_equal_scores_give() -> None:
    truth = load("taskonomy").truth()
    precision = metrics.precision_at_k(np.zeros_like(truth), truth)
    assert np.allclose(precision, baselines.random_precision(19))
    assert np.allclose(metrics.recall_at_k(np.zeros_like(truth), truth), baselines.random_recall(19))
    gains = truth[0, np.isfinite(truth[0])]
    assert np.allclose(metrics.regret_at_k(np.zeros((1, 19)), gains[None]), baselines.random_regret(gains))


def test_popularity_on_the_published_order() -> None:
    truth = load("taskonomy").truth()
    precision = metrics.precision_at_k(baselines.popularity(truth), truth).mean(axis=0)
    assert precision[[0, 2, 4]].round(2).tolist() == [0.39, 0.56, 0.51]


@pytest.mark.parametrize("by", baselines.POPULARITIES)
def test_popularity_by_definition(by: str) -> None:
    rng = np.random.default_rng(3)
    truth = rng.permuted(np.tile(np.arange(7.0), (6, 1)), axis=1)
    truth[np.arange(6), np.arange(6)] = NAN
    result = baselines.popularity(truth, n_relevant=2, by=by)
    for target in range(6):
        keys: dict[int, tuple[float, ...]] = {}
        for source in range(7):
            if source == target:
                assert math.isnan(result[target, source])
                continue
            places = []
            for other in range(6):
                if other not in (target, source):
                    places.append(1 + sum(truth[other, s] > truth[other, source] for s in range(7) if s != other))
            reciprocal = sum(1 / p for p in places) / len(places)
            keys[source] = {
                "count": (round(sum(p <= 2 for p in places) / len(places), 9), round(reciprocal, 9)),
                "reciprocal": (round(reciprocal, 9),),
                "rank": (-round(sum((p - 1) / 5 for p in places) / len(places), 9),),
            }[by]
        for a in keys:
            for b in keys:
                assert (keys[a] > keys[b]) == (result[target, a] > result[target, b] + 1e-9)


def test_popularity_never_sees_the_targets_own_row() -> None:
    truth = load("taskonomy").truth()
    changed = truth.copy()
    known = np.isfinite(truth[4])
    changed[4, known] = truth[4, known][::-1]
    for by in baselines.POPULARITIES:
        a, b = baselines.popularity(truth, by=by), baselines.popularity(changed, by=by)
        assert np.array_equal(a[4], b[4], equal_nan=True)
        assert not np.array_equal(a[5], b[5], equal_nan=True)


def test_popularity_edges() -> None:
    with pytest.raises(UsageError, match="two or more targets"):
        baselines.popularity([[1.0, 2.0]])
    with pytest.raises(UsageError, match="not known"):
        baselines.popularity(np.ones((2, 2)), by="fame")
    lonely = baselines.popularity([[1.0, 2.0, NAN], [1.0, NAN, 3.0]])
    assert np.isnan(lonely).tolist() == [[False, True, True], [False, True, True]]
