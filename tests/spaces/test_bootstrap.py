"""Bootstrap intervals of a ranking."""

import numpy as np

from modelspace.spaces.bootstrap import intervals


def test_coverage_is_about_the_nominal_level() -> None:
    rng = np.random.default_rng(0)
    # 400 "neighbours" with the true affinity 0.2, each seen on 100 images.
    contributions = 0.2 + 0.3 * rng.standard_normal((400, 100))
    bounds = intervals(contributions, draws=1000)
    covered = ((bounds.low <= 0.2) & (bounds.high >= 0.2)).mean()
    assert 0.91 <= covered <= 0.98


def test_interval_agrees_with_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(1)
    contributions = rng.uniform(-1, 1, (2, 30))
    bounds = intervals(contributions, draws=4000)
    means = np.array([contributions[:, rng.integers(0, 30, 30)].mean(axis=1) for _ in range(4000)])
    np.testing.assert_allclose(bounds.low, np.quantile(means, 0.025, axis=0), atol=0.02)
    np.testing.assert_allclose(bounds.high, np.quantile(means, 0.975, axis=0), atol=0.02)


def test_ties_use_paired_differences() -> None:
    rng = np.random.default_rng(2)
    shared = rng.standard_normal(200)
    # The same images are hard for the first two, so a small difference is certain although their intervals overlap.
    first, second = 0.5 + 0.3 * shared, 0.48 + 0.3 * shared + 0.001 * rng.standard_normal(200)
    third = 0.47 + 0.3 * rng.standard_normal(200)
    bounds = intervals(np.stack([first, second, third]))
    assert bounds.low[0] < bounds.high[1]
    assert bounds.tied_with_next.tolist() == [False, True, False]


def test_copies_are_tied_and_a_constant_has_no_width() -> None:
    bounds = intervals(np.full((2, 10), 0.5))
    assert bounds.tied_with_next.tolist() == [True, False]
    np.testing.assert_allclose([bounds.low, bounds.high], 0.5)


def test_same_seed_same_intervals() -> None:
    contributions = np.random.default_rng(3).uniform(size=(3, 20))
    first, same, other = (
        intervals(contributions, seed=1),
        intervals(contributions, seed=1),
        intervals(contributions, seed=2),
    )
    np.testing.assert_array_equal(first.low, same.low)
    assert not np.array_equal(first.low, other.low)


def test_by_default_2000_resamples_with_seed_0_and_95_percent() -> None:
    contributions = np.random.default_rng(4).uniform(size=(3, 20))
    default, stated = intervals(contributions), intervals(contributions, draws=2000, level=0.95, seed=0)
    np.testing.assert_array_equal(default.low, stated.low)
    np.testing.assert_array_equal(default.high, stated.high)


def test_every_image_is_drawn() -> None:
    for image in range(5):
        bounds = intervals(np.eye(5)[None, image])
        # drawn with probability 1/5, five times: more often than twice in 6 % of the resamples
        np.testing.assert_allclose([bounds.low[0], bounds.high[0]], [0.0, 0.6])


def test_ties_are_those_of_the_scores_that_rank() -> None:
    rng = np.random.default_rng(5)
    equal = np.tile(rng.standard_normal(50), (3, 1))
    apart = equal + np.array([[4.0], [2.0], [0.0]])
    assert intervals(equal, apart).tied_with_next.tolist() == [False, False, False]
    assert intervals(apart, equal).tied_with_next.tolist() == [True, True, False]
    np.testing.assert_array_equal(intervals(equal, apart).low, intervals(equal).low)


def test_one_neighbour_is_tied_with_none() -> None:
    assert intervals(np.ones((1, 4))).tied_with_next.tolist() == [False]
