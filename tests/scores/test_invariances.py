"""What must not change a score, and what each score makes of awkward data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace import scores
from modelspace.scores import SCORES

OF_FEATURES = [name for name, info in SCORES.items() if info.needs == "features"]
#: Its folds depend on the order of the images.
ORDERED = {"logistic"}
#: Scores that standardise each column take any units; the others keep the geometry of the features.
STANDARDISED = {"ridge", "logistic", "knn", "parc", "alignment"}
GEOMETRIC = {"logme", "hscore", "gbc", "transrate"}


def data(seed: int, n: int = 36, d: int = 6, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    return rng.normal(size=(n, d)) + (np.eye(k)[labels] @ rng.normal(size=(k, d))) * 1.5, labels


def both_kinds(name: str, labels: np.ndarray) -> list[np.ndarray]:
    kinds = [labels, labels + np.random.default_rng(5).normal(size=len(labels))]
    return [kinds[kind == "regression"] for kind in SCORES[name].handles]


def test_every_score_is_covered() -> None:
    assert set(OF_FEATURES) == STANDARDISED | GEOMETRIC


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ORDERED])
@pytest.mark.parametrize("d", [4, 90])
def test_the_order_of_the_images_changes_nothing(name: str, d: int) -> None:
    features, labels = data(1, d=d)
    outputs = np.abs(features) / np.abs(features).sum(axis=1, keepdims=True)
    order = np.random.default_rng(2).permutation(len(labels))
    for wanted in both_kinds(name, labels):
        before = scores.score(name, features, wanted, class_outputs=outputs)
        after = scores.score(name, features[order], wanted[order], class_outputs=outputs[order])
        assert after == pytest.approx(before, rel=1e-6 if name == "logme" else 1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_the_names_of_the_classes_change_nothing(name: str) -> None:
    features, labels = data(3)
    outputs = np.abs(features) / np.abs(features).sum(axis=1, keepdims=True)
    renamed = np.array([2, 0, 1])[labels]
    before = scores.score(name, features, labels, class_outputs=outputs)
    tolerance = 0.1 if name == "logistic" else 1e-9  # folds are cut class by class
    assert scores.score(name, features, renamed, class_outputs=outputs) == pytest.approx(before, abs=tolerance)


@pytest.mark.parametrize("name", sorted(STANDARDISED))
@pytest.mark.parametrize("d", [4, 90])
def test_the_unit_and_the_zero_of_each_feature_change_nothing_once_standardised(name: str, d: int) -> None:
    features, labels = data(4, d=d)
    rng = np.random.default_rng(0)
    other = features * rng.uniform(0.01, 100, size=d) + rng.normal(size=d) * 10
    for wanted in both_kinds(name, labels):
        assert scores.score(name, other, wanted) == pytest.approx(scores.score(name, features, wanted), abs=1e-7)


@pytest.mark.parametrize("name", sorted(GEOMETRIC))
@pytest.mark.parametrize("d", [4, 90])
@pytest.mark.parametrize("scale", [1e-6, 300.0])
def test_rotation_and_scale_of_all_features_change_nothing_where_they_are_not_standardised(
    name: str, d: int, scale: float
) -> None:
    features, labels = data(5, d=d)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0]
    shift = 0.0 if name == "logme" else 3.0  # LogME has no intercept
    for wanted in both_kinds(name, labels):
        before = scores.score(name, features, wanted)
        assert scores.score(name, (features @ rotation + shift) * scale, wanted) == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("name", ["ridge", "knn", "alignment", "logistic"])
def test_a_column_that_is_constant_changes_nothing(name: str) -> None:
    features, labels = data(6)
    more = np.column_stack([features, np.full(len(labels), 0.1)])
    assert scores.score(name, more, labels) == pytest.approx(scores.score(name, features, labels), abs=1e-9)


CONSTANT = {"ridge": 0.0, "hscore": 0.0, "parc": 0.0, "gbc": -6.0, "transrate": 0.0, "alignment": 0.0}


@pytest.mark.parametrize("name", OF_FEATURES)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_constant_features_have_a_defined_value_below_that_of_real_ones(name: str, value: float) -> None:
    features, labels = data(7)
    constant = scores.score(name, np.full(features.shape, value), labels)
    assert math.isfinite(constant)
    assert constant <= scores.score(name, features, labels)
    if name in CONSTANT:
        assert constant == CONSTANT[name]


@pytest.mark.parametrize("name", OF_FEATURES)
def test_a_class_with_one_image_has_a_defined_value(name: str) -> None:
    features, labels = data(8)
    labels = np.where(labels == 2, 1, labels)
    labels[0] = 2
    assert math.isfinite(scores.score(name, features, labels))


@pytest.mark.parametrize("name", OF_FEATURES)
def test_classes_that_are_told_apart_perfectly_have_a_defined_value(name: str) -> None:
    labels = np.arange(12) % 3
    assert math.isfinite(scores.score(name, np.eye(3)[labels] * 5, labels))


@pytest.mark.parametrize("name", OF_FEATURES)
def test_the_smallest_data_have_a_defined_value(name: str) -> None:
    assert math.isfinite(scores.score(name, np.array([[0.0], [1.0], [2.0]]), np.array([0, 0, 1])))
    if "regression" in SCORES[name].handles:
        assert math.isfinite(scores.score(name, np.array([[0.0], [1.0]]), np.array([0.5, 1.0])))


@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(1, 40), st.integers(2, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_scores_are_finite_and_in_their_range_whatever_the_shape(
    seed: int, n: int, d: int, k: int, copies: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    labels[:3] = 0, 1, 1
    if len(np.unique(labels)) == n:
        labels[-1] = 0
    features = rng.normal(size=(n, d)).astype(np.float32)
    if copies:
        features[1::2] = features[0]
    top = len(np.unique(labels)) - 1
    bounds = {
        "ridge": (0, 1), "knn": (0, 1), "logme": (-math.inf, math.inf), "hscore": (0, top), "parc": (-1, 1),
        "gbc": (-top * (top + 1), 0), "transrate": (0, math.inf), "alignment": (0, 1),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        value = scores.score(name, features, labels)
        assert math.isfinite(value)
        assert low - 1e-9 <= value <= high + 1e-9, name
