"""The page on the search: its tables are the code's, and its Gaussian process is the prediction plus residuals."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from modelspace.evaluation import load
from modelspace.search import race as races
from modelspace.search.prediction import predict
from modelspace.search.strength import strength
from modelspace.verbs import evaluate_search

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import search_constants  # noqa: E402
import search_page  # noqa: E402
import search_process  # noqa: E402

PAGE = (ROOT / "docs" / "lab-book" / "search.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["sfda-cnn", "tll-cnn", "rooms-all"])
def test_the_page_has_the_figures_of_the_code(name: str) -> None:
    row = search_page.outcome_text([evaluate_search.of_oracle(load(name))]).splitlines()[-1]
    assert row in PAGE


def test_the_page_names_the_constants_of_the_code() -> None:
    from modelspace.search import prediction
    from modelspace.search import strength as strengths

    for module, name in ((races, "NOISE"), (prediction, "NOISE"), (strengths, "FURTHEST"), (prediction, "_TAILS")):
        folder = module.__name__.rsplit(".", 1)[1]
        assert f"`{folder}.{name}` = {getattr(module, name):.0f}" in PAGE
    assert f"`race.ROUNDS` = {races.ROUNDS}" in PAGE


def table() -> tuple[np.ndarray, np.ndarray]:
    """Scores (8, 30) with residuals that go together within three families, and the families' affinities."""
    rng = np.random.default_rng(0)
    family = np.arange(30) % 3
    scores = rng.normal(size=30) + 1.5 * rng.normal(size=(8, 3))[:, family] + 0.2 * rng.normal(size=(8, 30))
    return scores, (family[:, None] == family).astype(float) * 0.9 + 0.1 * np.eye(30)


def test_a_process_of_share_0_is_the_prediction() -> None:
    scores, matrix = table()
    strong = strength(scores[1:])
    measured = np.where(np.arange(30) < 4, scores[0], np.nan)
    ours = search_process.expected(strong, measured, search_process.centred(matrix), 0.0)
    theirs = predict(strong, measured)
    assert np.allclose(ours.mean[4:], theirs.mean[4:])
    assert np.allclose(ours.high[4:], theirs.high[4:])


def test_families_are_found_and_pay() -> None:
    scores, matrix = table()
    kernel = search_process.centred(matrix)
    assert np.trace(kernel) == pytest.approx(30)
    assert np.allclose(kernel.sum(axis=0), 0)
    assert search_process.likeliest(scores, kernel) >= 0.75
    shuffled = np.random.default_rng(1).permutation(30)
    assert search_process.likeliest(scores, kernel[np.ix_(shuffled, shuffled)]) == 0
    gains = [
        search_process.replayed(scores, row, kernel, 0.9, 6)["tau_w"]
        - search_process.replayed(scores, row, kernel, 0.0, 6)["tau_w"]
        for row in range(8)
    ]
    assert np.mean(gains) > 0.1


def test_constants_are_restored() -> None:
    before = races.NOISE
    with search_constants.changed(races, NOISE=1.0):
        assert races.NOISE == 1.0
    assert before == races.NOISE
    with pytest.raises(ZeroDivisionError), search_constants.changed(races, NOISE=1.0):
        math.factorial(3) // 0
    assert before == races.NOISE


def test_a_set_is_split_into_halves_with_all_classes() -> None:
    labels = np.arange(1000) % 7
    task, images = search_page.drawn(("sevens", labels[:, None].astype(np.uint8), labels))
    assert len(task.train) == search_page.HALF == len(task.test)
    assert (images[:, 0] == np.concatenate([task.train, task.test])).all()
    assert len(set(task.orders)) == search_page.ORDERS
