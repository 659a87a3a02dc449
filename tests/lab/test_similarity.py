"""Feature similarities, compared with slow float64 versions written from the papers' definitions."""

import itertools
import math

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.stats import spearmanr

from modelspace.errors import UsageError
from modelspace.lab import similarity

N = 14


@pytest.fixture
def features() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(N, 3))
    return [
        base @ rng.normal(size=(3, 5)) + 0.3 * rng.normal(size=(N, 5)) + 2,
        base @ rng.normal(size=(3, 40)) + 0.5 * rng.normal(size=(N, 40)),
        np.maximum(rng.normal(size=(N, 9)), 0),
    ]


def pearson(a: list[float], b: list[float]) -> float:
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b))


def check(result: np.ndarray, features: list[np.ndarray], slow: object) -> None:
    assert np.array_equal(result, result.T)
    assert (np.diag(result) == 1).all()
    for i, j in itertools.combinations(range(len(features)), 2):
        assert result[i, j] == pytest.approx(slow(features[i], features[j]), abs=1e-9)  # type: ignore[operator]


def test_linear_cka(features: list[np.ndarray]) -> None:
    def slow(x: np.ndarray, y: np.ndarray) -> float:
        x, y = x - x.mean(0), y - y.mean(0)
        norm = np.linalg.norm
        return float(norm(y.T @ x, "fro") ** 2 / (norm(x.T @ x, "fro") * norm(y.T @ y, "fro")))

    check(similarity.linear_cka(features), features, slow)


def test_rsa(features: list[np.ndarray]) -> None:
    def slow(x: np.ndarray, y: np.ndarray) -> float:
        pairs = list(itertools.combinations(range(N), 2))
        return spearmanr(*([1 - pearson(list(t[i]), list(t[j])) for i, j in pairs] for t in (x, y))).statistic

    check(similarity.rsa(features), features, slow)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("kernel", similarity.DDS_KERNELS)
def test_dds(features: list[np.ndarray], kernel: str, unbiased: bool) -> None:
    def gram(table: np.ndarray) -> np.ndarray:
        z = np.array([[(v - table[:, u].mean()) / table[:, u].std() for u, v in enumerate(row)] for row in table])
        d = z.shape[1]
        kernels = {
            "cosine": lambda a, b: sum(a * b) / math.sqrt(sum(a * a) * sum(b * b)),
            "linear": lambda a, b: sum(a * b),
            "laplacian": lambda a, b: math.exp(-sum(abs(a - b)) / d),
            "rbf": lambda a, b: math.exp(-sum((a - b) ** 2) / d),
        }
        return np.array([[kernels[kernel](a, b) for b in z] for a in z])

    def centre(k: np.ndarray) -> np.ndarray:
        if not unbiased:
            h = np.eye(N) - np.ones((N, N)) / N
            return h @ k @ h
        out = np.zeros((N, N))
        off = k - np.diag(np.diag(k))
        for i, j in itertools.permutations(range(N), 2):
            out[i, j] = off[i, j] - off[i].sum() / (N - 2) - off[:, j].sum() / (N - 2)
            out[i, j] += off.sum() / ((N - 1) * (N - 2))
        return out

    def slow(x: np.ndarray, y: np.ndarray) -> float:
        a, b = centre(gram(x)), centre(gram(y))
        return (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())

    check(similarity.dds(features, kernel, unbiased), features, slow)


def test_svcca(features: list[np.ndarray]) -> None:
    def reduced(x: np.ndarray) -> np.ndarray:
        x = x - x.mean(0)
        values, vectors = np.linalg.eigh(x.T @ x)
        values, vectors = values[::-1], vectors[:, ::-1]
        n_kept = next(k for k in range(1, len(values) + 1) if values[:k].sum() >= 0.9 * values.sum())
        return x @ vectors[:, :n_kept]

    def slow(x: np.ndarray, y: np.ndarray) -> float:
        # Canonical correlations as the generalised eigenvalue problem of Hotelling (1936).
        x, y = reduced(x), reduced(y)
        a, b = x.shape[1], y.shape[1]
        left, right = np.zeros((a + b, a + b)), np.zeros((a + b, a + b))
        left[:a, a:], left[a:, :a] = x.T @ y, y.T @ x
        right[:a, :a], right[a:, a:] = x.T @ x, y.T @ y
        return float(np.sort(eigh(left, right, eigvals_only=True))[::-1][: min(a, b)].mean())

    check(similarity.svcca(features, variance=0.9, images_per_direction=1), features, slow)


def test_svcca_limits_the_number_of_directions() -> None:
    rng = np.random.default_rng(4)
    unrelated = [rng.normal(size=(100, 300)) for _ in range(2)]
    assert similarity.svcca(unrelated, images_per_direction=1)[0, 1] > 0.95
    assert similarity.svcca(unrelated)[0, 1] < 0.45
    bases = [np.linalg.svd(x - x.mean(0))[0][:, :20] for x in unrelated]
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean()
    assert similarity.svcca(unrelated)[0, 1] == pytest.approx(expected)


def test_invariances(features: list[np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    x = features[0]
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert similarity.linear_cka([x, 3 * x @ rotation + 7])[0, 1] == pytest.approx(1)
    assert similarity.svcca([x, x @ rng.normal(size=(5, 5)) - 4], variance=1.0, images_per_direction=1)[
        0, 1
    ] == pytest.approx(1)
    assert similarity.dds([x, x * [1, -2, 3, 4, 5] + 1])[0, 1] == pytest.approx(1)
    assert similarity.rsa([x, 3 * x + 1])[0, 1] == pytest.approx(1)


def test_image_shaped_and_float32_features_are_flattened() -> None:
    maps = np.random.default_rng(2).normal(size=(2, N, 3, 4, 4)).astype(np.float32)
    for method in similarity.METHODS.values():
        assert np.allclose(method(list(maps)), method([m.reshape(N, -1) for m in maps]))


def test_constant_units_and_images_have_no_effect(features: list[np.ndarray]) -> None:
    x, y = features[:2]
    dead = np.concatenate([x, np.full((N, 2), 0.1)], axis=1)
    assert similarity.dds([dead, y])[0, 1] == pytest.approx(similarity.dds([x, y])[0, 1])
    flat = x.copy()
    flat[3] = 2.5
    assert np.isfinite(similarity.rsa([flat, y])).all()


def test_compare_times_every_method(features: list[np.ndarray]) -> None:
    outcome = similarity.compare(features)
    assert list(outcome) == ["SVCCA", "linear CKA", "RSA", "DDS"]
    for name, timed in outcome.items():
        assert timed.seconds > 0
        assert np.array_equal(timed.matrix, similarity.METHODS[name](features))
    with pytest.raises(UsageError, match="not known"):
        similarity.compare(features, ["CCA"])


def test_refusals(features: list[np.ndarray]) -> None:
    constant = np.ones((N, 4))
    for method in similarity.METHODS.values():
        with pytest.raises(UsageError, match="same for every image"):
            method([constant, features[0]])
        with pytest.raises(UsageError, match="not finite"):
            method([np.full((N, 2), np.nan)])
        with pytest.raises(UsageError, match="same images"):
            method([features[0], features[1][:-1]])
        with pytest.raises(UsageError, match="too few"):
            method([features[0][:2]])
        with pytest.raises(UsageError, match="no features"):
            method([])
    with pytest.raises(UsageError, match="kernel"):
        similarity.dds(features, kernel="sigmoid")
    with pytest.raises(UsageError, match="variance"):
        similarity.svcca(features, variance=0.0)
    with pytest.raises(UsageError, match="images per direction"):
        similarity.svcca(features, images_per_direction=0.0)
    with pytest.raises(UsageError, match="4 images"):
        similarity.dds([features[0][:3]], unbiased=True)
