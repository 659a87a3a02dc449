"""Ranking metrics, compared with slow versions that enumerate all orders of tied values."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr

from modelspace.errors import UsageError
from modelspace.evaluation import metrics
from modelspace.evaluation.metrics import bootstrap, kendall, precision_at_k, recall_at_k, regret_at_k, spearman
from modelspace.evaluation.rankings import best_of_first, inclusion

NAN = math.nan


def orders(values: np.ndarray) -> list[list[int]]:
    """All descending orders of the positions, which are equally likely."""
    groups = [[i for i in range(len(values)) if values[i] == v] for v in sorted(set(values.tolist()), reverse=True)]
    ways = itertools.product(*(itertools.permutations(group) for group in groups))
    return [list(itertools.chain.from_iterable(parts)) for parts in ways]


def tied_tables(seed: int, rows: int = 6, columns: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores, truth = (rng.integers(0, 4, (rows, columns)).astype(float) for _ in range(2))
    truth[np.arange(rows), rng.integers(columns, size=rows)] = NAN
    return scores, truth


@pytest.mark.parametrize("seed", range(4))
def test_precision_and_recall_are_means_over_all_orders_of_ties(seed: int) -> None:
    scores, truth = tied_tables(seed)
    precision, recall = metrics.precision_at_k(scores, truth, 2), metrics.recall_at_k(scores, truth, 2)
    for row in range(len(truth)):
        known = np.isfinite(truth[row])
        ours, theirs = orders(scores[row, known]), orders(truth[row, known])
        for k in range(1, known.sum() + 1):
            hits = [len(set(a[:k]) & set(b[:2])) for a in ours for b in theirs]
            assert precision[row, k - 1] == pytest.approx(np.mean(hits) / k, abs=1e-12)
            assert recall[row, k - 1] == pytest.approx(np.mean(hits) / 2, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_regret_is_the_mean_over_all_orders_of_ties(seed: int) -> None:
    scores, truth = tied_tables(seed)
    truth += np.random.default_rng(seed).random(truth.shape) * (seed % 2)
    regret, relative = metrics.regret_at_k(scores, truth), metrics.regret_at_k(scores, truth, relative=True)
    for row in range(len(truth)):
        t = truth[row, np.isfinite(truth[row])]
        ways = orders(scores[row, np.isfinite(truth[row])])
        for k in range(1, len(t) + 1):
            expected = np.mean([t.max() - max(t[i] for i in way[:k]) for way in ways])
            assert regret[row, k - 1] == pytest.approx(expected, abs=1e-12)
            assert relative[row, k - 1] == pytest.approx(expected / (t.max() - t.mean()), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_and_kendall_by_definition(seed: int) -> None:
    scores, truth = tied_tables(seed, columns=9)
    rho, tau = metrics.spearman(scores, truth), metrics.kendall(scores, truth)
    for row in range(len(truth)):
        known = np.isfinite(truth[row])
        s, t = scores[row, known], truth[row, known]
        assert rho[row] == pytest.approx(spearmanr(s, t).statistic, abs=1e-12)
        pairs = list(itertools.combinations(range(len(s)), 2))
        signs = [(np.sign(s[i] - s[j]), np.sign(t[i] - t[j])) for i, j in pairs]
        n_s, n_t = sum(a != 0 for a, _ in signs), sum(b != 0 for _, b in signs)
        assert tau[row] == pytest.approx(sum(a * b for a, b in signs) / math.sqrt(n_s * n_t), abs=1e-12)


def test_perfect_reversed_and_constant_scores() -> None:
    truth = np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    assert metrics.spearman(truth * 10, truth)[0] == pytest.approx(1)
    assert metrics.kendall(-truth, truth)[0] == pytest.approx(-1)
    assert metrics.regret_at_k(truth, truth).tolist() == [[0.0] * 6]
    assert metrics.precision_at_k(truth, truth, 2)[0].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 4, 2 / 5, 2 / 6])
    constant = np.zeros_like(truth)
    assert metrics.spearman(constant, truth)[0] == 0
    assert metrics.kendall(constant, truth)[0] == 0
    assert metrics.precision_at_k(constant, truth, 2)[0].tolist() == pytest.approx([2 / 6] * 6)
    assert math.isnan(metrics.spearman(truth, constant)[0])
    assert np.isnan(metrics.regret_at_k(truth, constant, relative=True)).all()


def test_targets_with_fewer_sources_stop_early() -> None:
    truth = np.array([[3.0, 2.0, 1.0], [NAN, 2.0, 1.0], [NAN, NAN, NAN]])
    precision = metrics.precision_at_k(np.zeros((3, 3)), truth, 1)
    assert np.isnan(precision).tolist() == [[False] * 3, [False, False, True], [True] * 3]
    assert precision[1, 0] == 0.5


def test_more_relevant_than_sources_means_all_are() -> None:
    assert metrics.precision_at_k([[1.0, 2.0]], [[1.0, 2.0]], 5).tolist() == [[1.0, 1.0]]


def test_missing_scores_are_refused_but_missing_measurements_are_not() -> None:
    metrics.spearman([[NAN, 2.0, 1.0]], [[NAN, 2.0, 1.0]])
    with pytest.raises(UsageError, match="1 pairs of the oracle have no finite score, the first at row 0, column 0"):
        metrics.spearman([[NAN, 2.0, 1.0]], [[3.0, 2.0, 1.0]])
    with pytest.raises(UsageError, match="infinite"):
        metrics.spearman([[1.0, 2.0]], [[np.inf, 2.0]])
    with pytest.raises(UsageError, match="equal shape"):
        metrics.spearman([[1.0, 2.0]], [[1.0, 2.0, 3.0]])


def test_inclusion_rows_sum_to_k() -> None:
    table = inclusion([2.0, 2.0, 5.0, 1.0, 2.0])
    assert table.sum(axis=1).tolist() == pytest.approx([1, 2, 3, 4, 5])


def test_best_of_first_reaches_the_best() -> None:
    gains = [0.3, -1.0, 7.0, 2.0]
    assert best_of_first([1.0, 1.0, 0.0, 5.0], gains).tolist() == pytest.approx([2.0, 2.0, 2.0, 7.0])
    assert best_of_first(np.zeros(4), gains)[0] == pytest.approx(np.mean(gains))


def test_bootstrap_by_definition() -> None:
    values = np.array([[0.1, 1.0], [0.4, NAN], [0.9, 3.0], [0.2, NAN]])
    interval = metrics.bootstrap(values, n_resamples=300, confidence=0.9, seed=7)
    picks = np.random.default_rng(7).integers(4, size=(300, 4))
    with np.errstate(all="ignore"):
        draws = np.array([[np.nan if np.isnan(c[p]).all() else np.nanmean(c[p]) for c in values.T] for p in picks])
    assert interval.mean.tolist() == pytest.approx([0.4, 2.0])
    assert interval.low.tolist() == pytest.approx(np.nanquantile(draws, 0.05, axis=0).tolist())
    assert interval.high.tolist() == pytest.approx(np.nanquantile(draws, 0.95, axis=0).tolist())
    repeated = metrics.bootstrap(values, n_resamples=300, confidence=0.9, seed=7)
    assert np.array_equal(repeated.low, interval.low)
    assert metrics.bootstrap(values, seed=8).low[0] != interval.low[0]


def test_bootstrap_coverage_is_about_the_nominal_level() -> None:
    rng = np.random.default_rng(0)
    intervals = [metrics.bootstrap(rng.normal(size=30), n_resamples=200) for _ in range(200)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert 0.88 <= covered <= 0.98


def test_bootstrap_edges() -> None:
    single = metrics.bootstrap([0.5])
    assert (float(single.mean), float(single.low), float(single.high)) == (0.5, 0.5, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown = metrics.bootstrap([NAN, NAN])
    assert np.isnan([unknown.mean, unknown.low, unknown.high]).all()
    with pytest.raises(UsageError, match="between 0 and 1"):
        metrics.bootstrap([0.5], confidence=1.0)
    with pytest.raises(UsageError, match="targets"):
        metrics.bootstrap([])


def test_metrics_do_not_depend_on_the_unit_of_the_oracle() -> None:
    rng = np.random.default_rng(11)
    scores, truth = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    for unit in (1e-3, 1e3):
        for metric in (spearman, kendall, precision_at_k, recall_at_k):
            np.testing.assert_allclose(metric(scores, unit * truth), metric(scores, truth))
            np.testing.assert_allclose(metric(unit * scores, truth), metric(scores, truth))
        np.testing.assert_allclose(regret_at_k(scores, unit * truth), unit * regret_at_k(scores, truth))
        np.testing.assert_allclose(
            regret_at_k(scores, unit * truth, relative=True), regret_at_k(scores, truth, relative=True)
        )


def test_targets_that_decide_nothing_have_no_correlation_and_no_relative_regret() -> None:
    scores, truth = np.arange(8.0).reshape(2, 4), np.array([[2.0, 2, 2, 2], [1, np.nan, np.nan, np.nan]])
    with np.errstate(all="raise"):
        assert np.isnan(spearman(scores, truth)).all()
        assert np.isnan(kendall(scores, truth)).all()
        assert np.isnan(regret_at_k(scores, truth, relative=True)).all()
        np.testing.assert_array_equal(regret_at_k(scores, truth), [[0, 0, 0, 0], [0, np.nan, np.nan, np.nan]])


def test_no_relevant_source_is_refused() -> None:
    for metric in (precision_at_k, recall_at_k):
        with pytest.raises(UsageError, match="at least one source must be relevant, not 0"):
            metric(np.ones((1, 2)), np.ones((1, 2)), 0)


def test_a_bootstrap_has_2000_resamples_of_seed_0_and_covers_95_percent() -> None:
    values = np.random.default_rng(12).normal(size=(9, 2))
    values[3, 1] = np.nan
    default, stated = bootstrap(values), bootstrap(values, 2000, 0.95, 0)
    np.testing.assert_array_equal(default.low, stated.low)
    np.testing.assert_array_equal(default.high, stated.high)
    column = bootstrap(values[:, 0])
    assert (column.low, column.high) == (default.low[0], default.high[0])
    for confidence, resamples in ((0.0, 10), (1.0, 10), (0.5, 0)):
        with pytest.raises(UsageError, match="confidence between 0 and 1"):
            bootstrap(values, resamples, confidence)
    for shape in ((0,), (0, 2), (2, 2, 2)):
        with pytest.raises(UsageError, match="needs a"):
            bootstrap(np.ones(shape))


def test_one_resample_is_enough_and_targets_without_sources_have_no_columns() -> None:
    single = bootstrap([0.0, 1.0], n_resamples=1)
    assert single.low == single.high
    assert precision_at_k(np.ones((2, 3)), np.full((2, 3), NAN)).shape == (2, 0)


def test_at_most_a_third_of_the_sources_are_relevant() -> None:
    truth = np.full((6, 20), np.nan)
    for row, n in enumerate((1, 2, 4, 11, 15, 20)):
        truth[row, :n] = np.arange(n)
    assert metrics.relevant_counts(truth).tolist() == [1, 1, 1, 3, 5, 5]
    assert metrics.relevant_counts(truth, 2).tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(UsageError, match="at least one source"):
        metrics.relevant_counts(truth, 0)
    # One number per target gives each target what that number alone would give.
    scores = np.random.default_rng(0).normal(size=truth.shape)
    counts = metrics.relevant_counts(truth)
    for figure in (metrics.precision_at_k, metrics.recall_at_k):
        together = figure(scores, truth, counts)
        for row, count in enumerate(counts):
            n = int(np.isfinite(truth[row]).sum())
            alone = figure(scores[row : row + 1], truth[row : row + 1], int(count))
            np.testing.assert_array_equal(together[row, :n], alone[0, :n])
