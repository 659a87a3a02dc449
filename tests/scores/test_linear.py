"""Alignment, H-score, LogME and TransRate against versions written from the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from modelspace.scores import alignment, hscore, logme, transrate
from modelspace.scores.inputs import centred
from modelspace.scores.spectrum import spectrum

SHAPES = [(40, 5), (30, 29), (20, 70)]


def data(n: int, d: int, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n * d)
    labels = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    return rng.normal(size=(n, d)) * 3 + np.eye(k)[labels] @ rng.normal(size=(k, d)) * 4 + 1.0, labels


# ---- alignment


def slow_alignment(features: np.ndarray, wanted: np.ndarray) -> float:
    n = len(features)
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    centre = np.eye(n) - np.ones((n, n)) / n
    k, l = (centre @ m @ m.T @ centre for m in (z, wanted))
    return float(np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l)))


@pytest.mark.parametrize("shape", SHAPES)
def test_alignment_is_the_cosine_of_centred_kernels(shape: tuple[int, int]) -> None:
    features, labels = data(*shape)
    assert alignment.score(features, labels) == pytest.approx(slow_alignment(features, np.eye(4)[labels]))
    numbers = labels + features[:, 0]
    assert alignment.score(features, numbers) == pytest.approx(slow_alignment(features, numbers[:, None]))


# ---- H-score


def slow_hscore(features: np.ndarray, labels: np.ndarray, a: float) -> float:
    d = features.shape[1]
    total = np.cov(features, rowvar=False, bias=True)
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    between = np.cov(means, rowvar=False, bias=True)
    shrunk = (1 - a) * total + a * np.trace(total) / d * np.eye(d)
    return float(np.trace(np.linalg.pinv(shrunk, rcond=1e-10, hermitian=True) @ ((1 - a) * between)))


def slow_ledoit_wolf(features: np.ndarray) -> float:
    n, d = features.shape
    x = features - features.mean(axis=0)
    s = x.T @ x / n
    mu = np.trace(s) / d
    distance = ((s - mu * np.eye(d)) ** 2).sum() / d
    noise = sum(((np.outer(row, row) - s) ** 2).sum() / d for row in x) / n**2
    return float(min(noise, distance) / distance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("a", [0.0, 0.2, 0.9])
def test_hscore_is_the_trace_of_its_definition(shape: tuple[int, int], a: float) -> None:
    features, labels = data(*shape)
    expected = slow_hscore(features, labels, a)
    assert hscore.score(features, labels, shrinkage=a) == pytest.approx(expected, rel=1e-7)
    assert hscore.score(features, labels, shrinkage=a, shrink_means=False) == pytest.approx(expected / (1 - a))


@pytest.mark.parametrize("shape", SHAPES)
def test_shrinkage_is_that_of_ledoit_and_wolf(shape: tuple[int, int]) -> None:
    features, labels = data(*shape)
    a = slow_ledoit_wolf(features)
    table = centred(features)
    assert hscore.ledoit_wolf(table, spectrum(table)[1]) == pytest.approx(a, rel=1e-9)
    assert hscore.score(features, labels) == pytest.approx(slow_hscore(features, labels, a), rel=1e-7)
    covariance = pytest.importorskip("sklearn.covariance")
    assert covariance.ledoit_wolf(features)[1] == pytest.approx(a, rel=1e-9)


def test_hscore_counts_classes_that_are_points() -> None:
    labels = np.arange(40) % 4
    assert hscore.score(np.eye(4)[labels], labels, shrinkage=0.0) == pytest.approx(3.0)


# ---- LogME


def slow_evidence(features: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """Log evidence as in the paper, by the d x d matrix A."""
    n, d = features.shape
    a = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(a, features.T @ y)
    misfit = ((features @ m - y) ** 2).sum()
    value = n * np.log(beta) + d * np.log(alpha) - n * np.log(2 * np.pi) - beta * misfit - alpha * m @ m
    return float(value - np.linalg.slogdet(a)[1]) / 2


def largest_evidence(features: np.ndarray, y: np.ndarray) -> float:
    def loss(logs: np.ndarray) -> float:
        return -slow_evidence(features, y, *np.exp(np.clip(logs, -25, 25)))

    starts = itertools.product((-6.0, -2.0, 0.0, 3.0), (-2.0, 1.0, 4.0))
    return max(-float(minimize(loss, start, method="Nelder-Mead").fun) for start in starts) / len(y)


def test_the_twin_is_the_evidence() -> None:
    features, labels = data(12, 3)
    alpha, beta, y = 0.7, 2.0, (labels == 1).astype(float)
    covariance = features @ features.T / alpha + np.eye(12) / beta
    expected = multivariate_normal(np.zeros(12), covariance).logpdf(y)
    assert slow_evidence(features, y, alpha, beta) == pytest.approx(expected)


@pytest.mark.first(1)
@pytest.mark.parametrize("shape", [(40, 5), (30, 29), (20, 45)])
def test_logme_is_the_largest_evidence(shape: tuple[int, int]) -> None:
    features, labels = data(*shape)
    columns = np.eye(4)[labels]
    expected = [largest_evidence(features, column) for column in columns.T]
    assert logme.evidence(features, columns) == pytest.approx(expected, abs=2e-4)
    assert logme.score(features, labels) == pytest.approx(np.mean(expected), abs=2e-4)
    numbers = features @ np.random.default_rng(0).normal(size=shape[1]) + labels
    assert logme.score(features, numbers) == pytest.approx(largest_evidence(features, numbers), abs=2e-4)


# ---- TransRate


def slow_transrate(features: np.ndarray, labels: np.ndarray, epsilon: float) -> float:
    z = features - features.mean(axis=0)
    z = z / np.sqrt((z**2).sum(axis=1).mean())

    def rate(part: np.ndarray) -> float:
        n, d = part.shape
        return 0.5 * np.log(np.linalg.eigvalsh(np.eye(d) + part.T @ part / (n * epsilon))).sum()

    return float(rate(z) - sum((labels == c).mean() * rate(z[labels == c]) for c in np.unique(labels)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [1e-4, 0.5])
def test_transrate_is_a_difference_of_coding_rates(shape: tuple[int, int], epsilon: float) -> None:
    features, labels = data(*shape)
    expected = slow_transrate(features, labels, epsilon)
    assert transrate.score(features, labels, epsilon=epsilon) == pytest.approx(expected, rel=1e-9)


# ---- singular directions


@pytest.mark.parametrize("shape", SHAPES)
def test_spectrum_is_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    table = centred(data(*shape)[0])
    left, values = spectrum(table)
    expected = np.linalg.svd(table, compute_uv=False) ** 2
    expected = expected[expected > 1e-10 * expected[0]]
    assert values == pytest.approx(expected, rel=1e-9)
    assert left.T @ left == pytest.approx(np.eye(len(values)), abs=1e-9)
    assert left @ (left.T @ table) == pytest.approx(table, abs=1e-9)
