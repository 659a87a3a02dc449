"""Bootstrap intervals of a ranking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelspace.errors import EmbeddingError
from modelspace.representations import kernels
from modelspace.spaces import bootstrap
from modelspace.spaces.bootstrap import Member, intervals
from modelspace.spaces.hubness import Score
from modelspace.workspace import ModelSpace


def test_coverage_is_about_the_nominal_level() -> None:
    rng = np.random.default_rng(0)
    # 400 "neighbours" with the true affinity 0.2, each seen on 100 images.
    contributions = 0.2 + 0.3 * rng.standard_normal((400, 100))
    bounds = intervals([Member(contributions)], draws=1000)
    covered = ((bounds.low <= 0.2) & (bounds.high >= 0.2)).mean()
    assert 0.91 <= covered <= 0.98


def test_interval_agrees_with_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(1)
    contributions = rng.uniform(-1, 1, (2, 30))
    bounds = intervals([Member(contributions)], draws=4000)
    means = np.array([contributions[:, rng.integers(0, 30, 30)].mean(axis=1) for _ in range(4000)])
    np.testing.assert_allclose(bounds.low, np.quantile(means, 0.025, axis=0), atol=0.02)
    np.testing.assert_allclose(bounds.high, np.quantile(means, 0.975, axis=0), atol=0.02)


def test_ties_use_paired_differences() -> None:
    rng = np.random.default_rng(2)
    shared = rng.standard_normal(200)
    # The same images are hard for the first two, so a small difference is certain although their intervals overlap.
    first, second = 0.5 + 0.3 * shared, 0.48 + 0.3 * shared + 0.001 * rng.standard_normal(200)
    third = 0.47 + 0.3 * rng.standard_normal(200)
    bounds = intervals([Member(np.stack([first, second, third]))])
    assert bounds.low[0] < bounds.high[1]
    assert bounds.tied_with_next.tolist() == [False, True, False]


def test_copies_are_tied_and_a_constant_has_no_width() -> None:
    bounds = intervals([Member(np.full((2, 10), 0.5))])
    assert bounds.tied_with_next.tolist() == [True, False]
    np.testing.assert_allclose([bounds.low, bounds.high], 0.5)


def test_same_seed_same_intervals() -> None:
    contributions = np.random.default_rng(3).uniform(size=(3, 20))
    first, same, other = (
        intervals([Member(contributions)], seed=1),
        intervals([Member(contributions)], seed=1),
        intervals([Member(contributions)], seed=2),
    )
    np.testing.assert_array_equal(first.low, same.low)
    assert not np.array_equal(first.low, other.low)


def test_by_default_2000_resamples_with_seed_0_and_95_percent() -> None:
    contributions = np.random.default_rng(4).uniform(size=(3, 20))
    default, stated = (
        intervals([Member(contributions)]),
        intervals([Member(contributions)], draws=2000, level=0.95, seed=0),
    )
    np.testing.assert_array_equal(default.low, stated.low)
    np.testing.assert_array_equal(default.high, stated.high)


def test_every_image_is_drawn() -> None:
    for image in range(5):
        bounds = intervals([Member(np.eye(5)[None, image])])
        # drawn with probability 1/5, five times: more often than twice in 6 % of the resamples
        np.testing.assert_allclose([bounds.low[0], bounds.high[0]], [0.0, 0.6])


def test_ties_are_those_of_the_scores_that_rank() -> None:
    rng = np.random.default_rng(5)
    equal = np.tile(rng.standard_normal(50), (3, 1))
    apart = equal + np.array([[4.0], [2.0], [0.0]])
    assert intervals([Member(equal)], apart).tied_with_next.tolist() == [False, False, False]
    assert intervals([Member(apart)], equal).tied_with_next.tolist() == [True, True, False]
    np.testing.assert_array_equal(intervals([Member(equal)], apart).low, intervals([Member(equal)]).low)


def test_one_neighbour_is_tied_with_none() -> None:
    assert intervals([Member(np.ones((1, 4)))]).tied_with_next.tolist() == [False]


# ---- kernels: the ratio


def unit_kernel(method: str, table: np.ndarray) -> np.ndarray:
    matrix = kernels.kernel(method, table)
    return matrix * np.sqrt(len(matrix)) / np.linalg.norm(matrix)


def member(target: np.ndarray, *sources: np.ndarray, least: float = -1.0) -> Member:
    """Of kernels whose rows have the mean squared norm 1."""
    products = np.stack([(target * source).sum(1) for source in sources])
    return Member(products, (target**2).sum(1), np.stack([(s**2).sum(1) for s in sources]), least=least)


def test_the_ratio_agrees_with_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((40, 6))
    t, s = (unit_kernel("linear_cka", table) for table in (x, x @ rng.standard_normal((6, 6))))
    bounds = intervals([member(t, s)], draws=4000)
    values = []
    for _ in range(4000):
        rows = rng.integers(0, 40, 40)
        values.append((t[rows] * s[rows]).sum() / np.linalg.norm(t[rows]) / np.linalg.norm(s[rows]))
    np.testing.assert_allclose([bounds.low[0], bounds.high[0]], np.quantile(values, [0.025, 0.975]), atol=0.01)


@pytest.mark.parametrize("method", kernels.SUMMARIES)
def test_exact_and_scaled_copies_have_no_width_and_near_copies_little(method: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 8)) * rng.lognormal(size=(60, 1))
    t, near, far = (unit_kernel(method, table) for table in (x, x + 0.05 * rng.standard_normal(x.shape), x**2))
    bounds = intervals([member(t, t, 7 * t, near, far)])
    np.testing.assert_allclose([bounds.low[:2], bounds.high[:2]], 1.0, atol=1e-12)
    assert 0.9 < bounds.low[2] < bounds.high[2] < 1.0
    assert bounds.low[3] < bounds.low[2]
    assert bounds.tied_with_next.tolist() == [True, False, False, False]
    # What it mends: the mean of resampled rows of the same kernel spreads around 1.
    old = intervals([Member((t * t).sum(1)[None])])
    assert old.high[0] - old.low[0] > 0.01


@st.composite
def tables(draw: st.DrawFn) -> list[np.ndarray]:
    """Features of a target and three sources on 3 to 20 images, related or not, on any scale, with outlying images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(3, 20)), draw(st.integers(2, 6))
    x = rng.standard_normal((n, d)) * rng.lognormal(sigma=draw(st.floats(0, 3)), size=(n, 1))
    noise = draw(st.floats(0, 2))
    return [x, *(x + noise * rng.standard_normal((n, d)) for _ in range(2)), rng.standard_normal((n, d))]


@given(features=tables(), method=st.sampled_from(sorted(kernels.SUMMARIES)), weight=st.floats(0.05, 0.95))
@settings(max_examples=80, deadline=None)
def test_intervals_hold_the_affinity_and_stay_in_its_range(
    features: list[np.ndarray], method: str, weight: float
) -> None:
    try:
        target, *sources = (unit_kernel(method, table) for table in features)
    except EmbeddingError:  # images that no feature tells apart
        assume(False)
    least = -1.0 if method == "rsa" else 0.0
    kernel_part = member(target, *sources, least=least)
    rng = np.random.default_rng(0)
    maps_part = Member(rng.uniform(-1, 1, kernel_part.products.shape))
    for parts, low in (
        ([kernel_part], least),
        ([replace(kernel_part, weight=weight), replace(maps_part, weight=1 - weight)], -1.0),
    ):
        point = sum(part.weight * part.products.mean(1) for part in parts)
        bounds = intervals(parts, draws=200)
        assert (bounds.low <= point + 1e-12).all()
        assert (bounds.high >= point - 1e-12).all()
        assert (bounds.low >= low).all()
        assert (bounds.high <= 1 + 1e-12).all()


def test_a_blend_of_copies_has_no_width() -> None:
    rng = np.random.default_rng(6)
    t = unit_kernel("dds", rng.standard_normal((30, 5)))
    kernel_part = member(t, t)
    parts = [
        Member(np.ones((1, 30)), weight=0.5),
        Member(kernel_part.products, kernel_part.target, kernel_part.sources, 0.5),
    ]
    bounds = intervals(parts)
    np.testing.assert_allclose([bounds.low, bounds.high], 1.0, atol=1e-12)


def test_ties_of_corrected_scores_follow_from_the_same_resamples() -> None:
    rng = np.random.default_rng(7)
    shared = 0.5 + 0.3 * rng.standard_normal(200)
    part = Member(np.stack([shared, shared + 0.02 + 0.001 * rng.standard_normal(200)]))
    assert not intervals([part]).tied_with_next[0]
    # A correction that makes up for the difference ties the two.
    level = Score(np.ones(2), np.array([0.02, 0.0]))
    assert intervals([part], level).tied_with_next[0]


# ---- in a registry


@pytest.mark.sampled(3)
@pytest.mark.wide
@pytest.mark.parametrize("method", ["dds", "linear_cka", "rsa"])
def test_copies_in_a_registry(tmp_path: Path, method: str) -> None:
    space = ModelSpace.create(tmp_path, methods=[method], images=12)
    space.init(methods=["gradient_x_input"], images=12, canvas=8)
    tiny.add(space, "a", tiny.net(0))
    scaled = tiny.net(0)
    with torch.no_grad():
        scaled.fc.weight.mul_(3)  # after T, so that the kernel is the same
    tiny.add(space, "copy", scaled)
    tiny.add(space, "near", tiny.near(0, 0.05))
    tiny.add(space, "other", tiny.net(3))
    space.blend("both", {method: 0.5, "gradient_x_input": 0.5})
    for name in (method, "both"):
        first, *others = space.nearest("a", 3, space=name)
        assert first.name == "copy"
        assert first.low == pytest.approx(1, abs=1e-9)
        assert first.high == pytest.approx(1, abs=1e-9)
        for each in others:
            assert each.low <= each.affinity <= each.high <= 1 + 1e-12
        assert not first.tied_with_next


def test_ratios_are_clipped_to_what_is_possible() -> None:
    """By default from -1 to 1; without norms of one of the two there is no ratio."""
    weights, norms = np.full((2, 1), 0.5), np.ones(2)
    products = np.array([[-0.4, -0.2], [-3.0, -1.0], [3.0, 1.0]])
    member = Member(products, norms, np.ones((3, 2)))
    np.testing.assert_allclose(member.replicates(weights), [[-0.3], [-1.0], [1.0]])
    for half in (Member(products, target=norms), Member(products, sources=np.ones((3, 2)))):
        np.testing.assert_allclose(half.replicates(weights), [[-0.3], [-2.0], [2.0]])


@pytest.mark.parametrize("draws", [2, 3, 40, 1000])
def test_quantiles_are_numpys(draws: int) -> None:
    values = np.random.default_rng(draws).normal(size=(5, draws))
    shares = (0.0, 0.025, 0.5, 0.9, 0.975, 1.0)
    np.testing.assert_array_equal(bootstrap.quantiles(values, shares), np.quantile(values, shares, axis=1))
    for share in shares:
        np.testing.assert_array_equal(bootstrap.quantiles(values, [share])[0], np.quantile(values, share, axis=1))
