"""On real images, scikit-learn's handwritten digits, a good representation must score above a bad one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from modelspace import scores
from modelspace.scores import SCORES, ridge

datasets = pytest.importorskip("sklearn.datasets")
OF_FEATURES = [name for name, info in SCORES.items() if info.needs == "features"]


@cache
def digits(n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    pixels, labels = datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    picked = rng.permutation(len(pixels))[:n]
    pixels, labels = pixels[picked], labels[picked]
    directions = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)[2]
    representations = {
        "pixels": pixels,
        "16 components": pixels @ directions[:16].T,
        "2 components": pixels @ directions[:2].T,
        "brightness": pixels.mean(axis=1, keepdims=True),
        "random": rng.normal(size=pixels.shape),
        "other images": pixels[rng.permutation(n)],
    }
    return representations, labels


#: With d columns of noise and fewer images a class than that, TransRate takes the missing rank of the classes for
#: information: at 1,000 images the effect is small, at 120 noise scores above pixels.
@pytest.mark.first(6)
@pytest.mark.parametrize("name", OF_FEATURES)
@pytest.mark.parametrize("n", [120, 1000])
def test_a_good_representation_scores_above_a_bad_one(name: str, n: int) -> None:
    representations, labels = digits(n)
    value = {key: scores.score(name, features, labels) for key, features in representations.items()}
    assert value["pixels"] > value["other images"]
    assert value["16 components"] > value["2 components"] > value["brightness"] or name == "hscore"
    if name != "transrate" or n > 120:
        assert value["pixels"] > value["random"]


@pytest.mark.parametrize("name", [name for name in OF_FEATURES if "regression" in SCORES[name].handles])
def test_numbers_are_predicted_from_pixels_and_not_from_noise(name: str) -> None:
    representations, _ = digits(300)
    pixels = representations["pixels"]
    height = (pixels.reshape(-1, 8, 8).sum(axis=2) @ np.arange(8.0)) / pixels.sum(axis=1)
    value = {key: scores.score(name, representations[key], height) for key in ("pixels", "random", "other images")}
    assert value["pixels"] > max(value["random"], value["other images"])


def test_hscore_with_the_published_factor_collapses_where_all_directions_are_alike() -> None:
    representations, labels = digits(120)
    two = representations["2 components"]
    assert scores.score("hscore", two, labels) == pytest.approx(0.0, abs=0.05)
    assert scores.score("hscore", two, labels, shrink_means=False) > 1.0


def test_ridge_accuracy_is_that_of_a_linear_readout() -> None:
    representations, labels = digits(1000)
    assert ridge.leave_one_out(representations["pixels"], labels).accuracy > 0.9
    assert ridge.leave_one_out(representations["random"], labels).accuracy < 0.2
