"""k-NN, PARC and GBC against versions written from the definition, one pair at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from modelspace.scores import gbc, knn, parc


def data(n: int, d: int, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n * d + seed)
    labels = np.concatenate([np.repeat(np.arange(k), 2), rng.integers(k, size=n - 2 * k)])
    return rng.normal(size=(n, d)) + np.eye(k)[labels] @ rng.normal(size=(k, d)), labels


def z_scored(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(axis=0)) / features.std(axis=0)


# ---- nearest neighbours


def slow_knn(features: np.ndarray, labels: np.ndarray, k: int) -> float:
    z = z_scored(features)
    credit = []
    for i in range(len(z)):
        cosines = [(z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]), j) for j in range(len(z)) if j != i]
        nearest = [labels[j] for _, j in sorted(cosines, reverse=True)[:k]]
        counts = [nearest.count(label) for label in range(labels.max() + 1)]
        credit.append((counts[labels[i]] == max(counts)) / counts.count(max(counts)))
    return float(np.mean(credit))


@pytest.mark.parametrize("shape", [(30, 4), (25, 40)])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_knn_is_a_vote_of_the_nearest(shape: tuple[int, int], k: int) -> None:
    features, labels = data(*shape)
    assert knn.score(features, labels, k=k) == pytest.approx(slow_knn(features, labels, k))


def test_knn_of_numbers_is_the_mean_of_the_nearest() -> None:
    features, _ = data(30, 4)
    numbers = features[:, 0] + np.random.default_rng(0).normal(size=30)
    z = z_scored(features)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    loss = base = 0.0
    for i in range(30):
        others = [j for j in range(30) if j != i]
        nearest = sorted(others, key=lambda j: -z[i] @ z[j])[:5]
        loss += (numbers[i] - numbers[nearest].mean()) ** 2
        base += (numbers[i] - numbers[others].mean()) ** 2
    assert knn.score(features, numbers) == pytest.approx(1 - loss / base)


def test_images_equally_near_share_the_vote() -> None:
    # Of three copies the two others tie for the one place of k = 1: half the vote each.
    features = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.1], [-1.0, 0.1]])
    labels = np.array([0, 0, 1, 1, 1])
    # Image 0: one neighbour of each class, a tie, credit 1/2; image 1 likewise; image 2: both of class 0, no credit.
    assert knn.score(features, labels, k=1) == pytest.approx((0.5 + 0.5 + 0 + 1 + 1) / 5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = data(50, 6)
    whole = knn.score(features, labels)
    monkeypatch.setattr(knn, "BLOCK", 7)
    assert knn.score(features, labels) == whole


# ---- PARC


def slow_parc(features: np.ndarray, wanted: np.ndarray | None, numbers: np.ndarray | None = None) -> float:
    z = z_scored(features)
    ours, theirs = [], []
    for i, j in itertools.combinations(range(len(z)), 2):
        ours.append(1 - np.corrcoef(z[i], z[j])[0, 1])
        if wanted is not None:
            theirs.append(round(1 - np.corrcoef(wanted[i], wanted[j])[0, 1], 9))
        elif numbers is not None:
            theirs.append(abs(numbers[i] - numbers[j]))
    return float(spearmanr(ours, theirs).statistic)


@pytest.mark.parametrize("shape", [(30, 4), (25, 40)])
def test_parc_is_a_rank_correlation_of_distances(shape: tuple[int, int]) -> None:
    features, labels = data(*shape)
    assert parc.score(features, labels) == pytest.approx(slow_parc(features, np.eye(3)[labels]))
    numbers = features[:, 0] + labels
    assert parc.score(features, numbers) == pytest.approx(slow_parc(features, None, numbers))


# ---- GBC


def slow_gbc(features: np.ndarray, labels: np.ndarray, spherical: bool, components: int) -> float:
    x = features - features.mean(axis=0)
    x = x @ np.linalg.svd(x, full_matrices=False)[2][:components].T
    total = 0.0
    for a, b in itertools.permutations(np.unique(labels), 2):
        covariances = []
        for c in (a, b):
            variances = x[labels == c].var(axis=0)
            covariances.append(np.diag(np.full(x.shape[1], variances.mean()) if spherical else variances))
        shift = x[labels == a].mean(axis=0) - x[labels == b].mean(axis=0)
        both = sum(covariances) / 2
        log_determinants = [np.linalg.slogdet(c)[1] for c in (both, *covariances)]
        distance = shift @ np.linalg.solve(both, shift) / 8
        distance += (log_determinants[0] - (log_determinants[1] + log_determinants[2]) / 2) / 2
        total += np.exp(-distance)
    return -float(total)


@pytest.mark.parametrize("shape", [(60, 4), (60, 90)])
@pytest.mark.parametrize("covariance", gbc.SHAPES)
@pytest.mark.parametrize("components", [2, 4])
def test_gbc_is_minus_the_overlap(shape: tuple[int, int], covariance: str, components: int) -> None:
    features, labels = data(*shape)
    expected = slow_gbc(features, labels, covariance == "spherical", components)
    ours = gbc.score(features, labels, covariance=covariance, components=components)
    assert ours == pytest.approx(expected, rel=1e-7)


def test_gbc_of_one_image_takes_the_variance_within_classes() -> None:
    features = np.array([[0.0], [2.0], [10.0]])
    labels = np.array([0, 0, 1])
    # Within classes: (1 + 1 + 0) / 3 = 2/3; class 0 has 1, class 1 takes 2/3.
    both = (1 + 2 / 3) / 2
    distance = 81 / both / 8 + 0.5 * np.log(both / np.sqrt(2 / 3))
    assert gbc.score(features, labels) == pytest.approx(-2 * np.exp(-distance))
