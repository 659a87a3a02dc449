"""The table of scores: what is in it, how it is called, and what it refuses."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest

from modelspace import scores
from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.scores import SCORES, ScoreInfo, inputs

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
FEATURES = RNG.normal(size=(60, 7)) + np.eye(3)[LABELS] @ RNG.normal(size=(3, 7)) * 2
OUTPUTS = RNG.dirichlet(np.ones(5), 60)


def test_every_score_says_what_it_is_and_where_it_comes_from() -> None:
    for name, info in SCORES.items():
        module = inspect.getmodule(info.function())
        assert info.name == name
        assert module is not None
        assert module.__doc__ is not None
        surname = info.source.split()[0].strip(",")
        assert surname in module.__doc__, f"{name} does not name its source"
        assert info.handles
        assert info.summary


def test_two_scores_of_one_name_are_refused() -> None:
    entry = ScoreInfo("twice", "", "features", ("classification",), "")
    with pytest.raises(ConflictError, match="two scores are called 'twice'"):
        scores.table(entry, entry)


@pytest.mark.parametrize("name", SCORES)
def test_score_by_name_is_the_score_of_its_module(name: str) -> None:
    given = OUTPUTS if SCORES[name].needs == "class outputs" else FEATURES
    value = scores.score(name, FEATURES, LABELS, class_outputs=OUTPUTS, n_classes=4)
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert value == SCORES[name].function()(given, LABELS)


def test_options_are_handed_on() -> None:
    few, many = (scores.score("knn", FEATURES, LABELS, k=k) for k in (1, 30))
    assert few != many


def test_timed_takes_all_scores_that_apply_unless_named() -> None:
    everything = scores.timed(FEATURES, LABELS, class_outputs=OUTPUTS)
    assert tuple(everything) == tuple(SCORES)
    assert all(entry.seconds > 0 for entry in everything.values())
    assert everything["ridge"].score == scores.score("ridge", FEATURES, LABELS)
    assert set(SCORES) - set(scores.timed(FEATURES, LABELS)) == {"leep", "nce"}
    assert tuple(scores.timed(None, LABELS, class_outputs=OUTPUTS)) == ("leep", "nce")
    assert tuple(scores.timed(FEATURES, LABELS, ["logme"])) == ("logme",)
    numbers = scores.timed(FEATURES, LABELS.astype(float))
    assert all("regression" in SCORES[name].handles for name in numbers)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "rigde"}, NotFoundError, "no score from labels is called 'rigde'"),
        ({"name": "gbc", "labels": LABELS / 2}, UsageError, "score gbc is not made for regression"),
        ({"name": "leep"}, UsageError, "needs class outputs, which were not given"),
        ({"features": None}, UsageError, "needs features, which were not given"),
        ({"n_classes": 2}, UsageError, "labels from 0 to 2 don't fit 2 classes"),
        ({"n_classes": 1}, UsageError, "1 classes leaves nothing"),
        ({"labels": LABELS.astype(str)}, UsageError, "neither classes nor numbers"),
        ({"labels": LABELS[1:]}, UsageError, r"labels have shape \(59,\), but there are 60 images"),
        ({"labels": np.zeros(60, int)}, UsageError, "all 60 images are of one class"),
        ({"labels": np.zeros(60, int), "n_classes": 3}, UsageError, "all 60 images are of one class"),
        ({"labels": np.arange(60)}, UsageError, "each of 60 classes has one image"),
        ({"labels": np.full(60, 2.5)}, UsageError, "all 60 labels are 2.5"),
        ({"labels": np.full(60, np.nan)}, UsageError, "labels hold a value that is not finite"),
        ({"features": FEATURES[0]}, UsageError, r"features have shape \(7,\)"),
        ({"features": FEATURES[:, :0]}, UsageError, r"features have shape \(60, 0\)"),
        ({"features": FEATURES[:1], "labels": LABELS[:1]}, UsageError, "1 images are too few"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    change: dict[str, object], error: type[ModelspaceError], words: str
) -> None:
    call: dict[str, object] = {"name": "ridge", "features": FEATURES, "labels": LABELS, **change}
    with pytest.raises(error, match=words):
        scores.score(**call)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_values_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    features, outputs = FEATURES.copy(), OUTPUTS.copy()
    features[3, 4] = outputs[3, 4] = bad
    with pytest.raises(UsageError, match="not finite"):
        scores.score(name, features, LABELS, class_outputs=outputs)


@pytest.mark.parametrize("name", ["leep", "nce"])
def test_logits_are_refused_as_class_outputs(name: str) -> None:
    for logits in (np.log(OUTPUTS), OUTPUTS * 2):
        with pytest.raises(UsageError, match="not probabilities"):
            scores.score(name, None, LABELS, class_outputs=logits)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ridge", {"penalties": (0.0, 1.0)}),
        ("ridge", {"penalties": ()}),
        ("knn", {"k": 0}),
        ("gbc", {"covariance": "full"}),
        ("transrate", {"epsilon": 0.0}),
        ("hscore", {"shrinkage": 1.5}),
        ("logistic", {"folds": 1}),
        ("logistic", {"c": 0.0}),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        scores.score(name, FEATURES, LABELS, **options)


def test_balanced_regression_is_refused() -> None:
    with pytest.raises(UsageError, match="no classes to balance"):
        scores.score("ridge", FEATURES, LABELS / 2, balanced=True)


@pytest.mark.wide
def test_the_table_is_read_without_numpy_and_all_but_one_score_without_scikit_learn() -> None:
    names = [name for name in SCORES if name != "logistic"]
    program = (
        "import sys, modelspace.scores as scores\n"
        "assert not {'numpy', 'scipy', 'sklearn', 'torch'} & set(sys.modules), 'loaded with the table'\n"
        f"for name in {names}: scores.SCORES[name].function()\n"
        "assert not {'sklearn', 'torch'} & set(sys.modules), 'loaded with the scores'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    loads = "import modelspace.scores as scores, sklearn\n" + program.split("\n", 1)[1]
    assert subprocess.run([sys.executable, "-c", loads], capture_output=True, check=False).returncode


def test_without_scikit_learn_the_logistic_score_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(UsageError, match="needs scikit-learn, which is not installed"):
        scores.score("logistic", FEATURES, LABELS)


def test_labels_may_be_any_integers() -> None:
    renamed = np.array([-7, 100, 3])[LABELS]
    assert scores.score("ridge", FEATURES, renamed) == pytest.approx(scores.score("ridge", FEATURES, LABELS))
    assert inputs.classes(np.array([True, False, True]), 3).tolist() == [1, 0, 1]
