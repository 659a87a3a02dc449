"""Random guessing, popularity, AHP and hub corrections, each against its definition."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from modelspace.errors import UsageError
from modelspace.evaluation import ahp, baselines, hubs, load, metrics

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
    with pytest.raises(UsageError, match="two targets"):
        baselines.popularity([[1.0, 2.0]])
    with pytest.raises(UsageError, match="not known"):
        baselines.popularity(np.ones((2, 2)), by="fame")
    lonely = baselines.popularity([[1.0, 2.0, NAN], [1.0, NAN, 3.0]])
    assert np.isnan(lonely).tolist() == [[False, True, True], [False, True, True]]


def test_win_matrix_by_definition() -> None:
    losses = np.random.default_rng(0).integers(0, 5, (4, 30)).astype(float)
    wins = ahp.win_matrix(losses)
    for i in range(4):
        for j in range(4):
            points = [1.0 if a < b else 0.5 if a == b else 0.0 for a, b in zip(losses[i], losses[j], strict=True)]
            assert wins[i, j] == pytest.approx(sum(points) / 30)
    rates = ahp.win_rates(wins)
    assert rates[2] == pytest.approx((wins[2, 0] + wins[2, 1] + wins[2, 3]) / 3)


def test_ahp_by_power_iteration() -> None:
    wins = ahp.win_matrix(np.random.default_rng(1).random((6, 40)) + np.arange(6)[:, None] / 5)
    odds = [
        [min(max(wins[i, j], 0.001), 0.999) / min(max(wins[j, i], 0.001), 0.999) for j in range(6)] for i in range(6)
    ]
    vector = [1.0] * 6
    for _ in range(500):
        vector = [sum(row[j] * vector[j] for j in range(6)) for row in odds]
        vector = [v / sum(vector) for v in vector]
    assert ahp.affinities(wins) == pytest.approx(vector, rel=1e-9)
    assert np.argsort(ahp.affinities(wins)).tolist() == [5, 4, 3, 2, 1, 0]


def test_ahp_recovers_a_consistent_table() -> None:
    # Odds of a_i : a_j between every pair have the vector a itself as principal eigenvector.
    a = np.array([0.5, 0.3, 0.15, 0.05])
    assert ahp.affinities(a[:, None] / (a[:, None] + a[None, :])) == pytest.approx(a)


def test_ahp_survives_a_clean_sweep_and_refuses_nonsense() -> None:
    swept = ahp.affinities(ahp.win_matrix([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    assert np.isfinite(swept).all()
    assert swept.tolist() == sorted(swept.tolist(), reverse=True)
    with pytest.raises(UsageError, match="summing to 1"):
        ahp.affinities([[0.5, 0.9], [0.9, 0.5]])
    with pytest.raises(UsageError, match="finite"):
        ahp.win_matrix([[1.0, NAN]])


def random_affinity(n: int = 8) -> np.ndarray:
    x = np.random.default_rng(5).normal(size=(n, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_hub_corrections_by_definition() -> None:
    s = random_affinity() + np.random.default_rng(6).normal(size=(8, 8)) / 10
    n = len(s)
    results = hubs.centred(s), hubs.csls(s, k=3), hubs.mutual_z(s), hubs.mutual_proximity(s)
    for t in range(n):
        row = [s[t, j] for j in range(n) if j != t]
        for i in range(n):
            if i == t:
                continue
            column = [s[j, i] for j in range(n) if j != i]
            z_row = (s[t, i] - np.mean(row)) / np.std(row)
            z_column = (s[t, i] - np.mean(column)) / np.std(column)
            expected = (
                s[t, i] - np.mean(column),
                2 * s[t, i] - np.mean(sorted(row)[-3:]) - np.mean(sorted(column)[-3:]),
                z_row + z_column,
                norm.cdf(z_row) * norm.cdf(z_column),
            )
            assert [result[t, i] for result in results] == pytest.approx(expected, abs=1e-12)


def test_hub_corrections_ignore_and_keep_the_diagonal() -> None:
    s = random_affinity()
    other = s.copy()
    np.fill_diagonal(other, NAN)
    outside = ~np.eye(len(s), dtype=bool)
    for correct in (hubs.centred, hubs.csls, hubs.mutual_z, hubs.mutual_proximity):
        a, b = correct(s), correct(other)
        assert np.array_equal(a[outside], b[outside])
        assert np.array_equal(np.diag(a), np.diag(s))
        if correct is not hubs.centred:
            assert np.allclose(a, a.T)


def test_a_hub_stops_being_everybodys_first() -> None:
    s = random_affinity(12)
    s[:, 0] += 1.6
    s[0, :] += 1.6
    itself = np.eye(12, dtype=bool)

    def fooled(matrix: np.ndarray) -> int:
        return int((np.argmax(np.where(itself, -np.inf, matrix), axis=1)[1:] == 0).sum())

    assert fooled(s) >= 10
    for correct in (hubs.centred, hubs.csls, hubs.mutual_z, hubs.mutual_proximity):
        assert fooled(correct(s)) <= 5


def test_hub_corrections_refuse_nonsense() -> None:
    with pytest.raises(UsageError, match="square"):
        hubs.centred(np.ones((2, 3)))
    with pytest.raises(UsageError, match="not finite"):
        hubs.csls([[1.0, NAN], [0.5, 1.0]])
    with pytest.raises(UsageError, match="k = 1"):
        hubs.csls(np.eye(3), k=0)
