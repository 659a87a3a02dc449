"""Racing: who sees how many images, who leaves, and what is said of the end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import UsageError
from modelspace.search.race import Expected, ModelFailedError, Reading, difference_interval, is_surely_worse, race


class Field:
    """Models with a mean error each; their errors on an image share the image's difficulty."""

    def __init__(self, means: dict[str, float], n_images: int = 400, noise: float = 0.3, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        hard = rng.normal(size=n_images)
        self.errors = {name: mean + hard + noise * rng.normal(size=n_images) for name, mean in means.items()}
        self.calls: list[tuple[str, int]] = []
        self.failing: dict[str, ModelFailedError] = {}

    def __call__(self, model: str, n_images: int) -> Reading:
        self.calls.append((model, n_images))
        if model in self.failing:
            raise self.failing[model]
        errors = self.errors[model][:n_images]
        return Reading(-float(errors.mean()), errors)


MANY = {f"m{number}": number / 2 for number in range(12)}


def test_rounds_halve_the_field_and_the_last_see_all_images() -> None:
    # Alike enough that none is surely worse.
    field = Field({f"m{number}": number / 1000 for number in range(12)}, noise=3.0)
    result = race(list(field.errors), field, 400)
    sizes = [n_images for _, n_images in field.calls]
    assert sizes == [60] * 12 + [120] * 6 + [400] * 3
    assert result.n_forwarded == 12 * 60 + 6 * 60 + 3 * 280
    assert [standing.stage for standing in result.standings] == ["finalist"] * 3 + ["dropped"] * 9
    assert [standing.n_images for standing in result.standings] == [400] * 3 + [120] * 3 + [60] * 6


def test_the_best_wins_and_surely_worse_models_leave_early() -> None:
    field = Field(MANY)
    result = race(list(MANY), field, 400)
    assert result.winner == "m0"
    assert all(standing.surely_worse for standing in result.standings[-6:])
    # All but the best are surely worse after sixty images, so nobody else is looked at again.
    assert [call for call in field.calls if call[1] == 120] == [("m0", 120)]
    assert result.tied == ()


def test_models_that_can_not_be_told_apart_are_named() -> None:
    field = Field({"a": 0.0, "b": 0.001, "c": 5.0, "d": 6.0}, noise=1.0)
    result = race(["a", "b", "c", "d"], field, 400)
    assert {result.winner, *result.tied} == {"a", "b"}


def test_mistakes_decide_what_is_tied_where_there_are_any() -> None:
    wrong = np.zeros(100)

    def measure(model: str, n_images: int) -> Reading:
        errors = np.full(n_images, 0.1 if model == "a" else 0.2) + np.arange(n_images) * 1e-6
        return Reading(-float(errors.mean()), errors, wrong[:n_images])

    result = race(["a", "b"], measure, 100)
    assert (result.winner, result.tied) == ("a", ("b",))


def test_failures_leave_the_race_and_stand_last() -> None:
    field = Field(MANY)
    field.failing = {"m0": ModelFailedError("out of memory"), "m4": ModelFailedError("no such file", by_model=False)}
    result = race(list(MANY), field, 400)
    assert result.winner == "m1"
    assert [(standing.model, standing.stage, standing.why) for standing in result.standings[-2:]] == [
        ("m0", "failed", "out of memory"),
        ("m4", "not loaded", "no such file"),
    ]


def test_a_race_in_which_all_fail_has_no_winner() -> None:
    field = Field(MANY)
    field.failing = {name: ModelFailedError("no") for name in MANY}
    result = race(list(MANY), field, 400)
    assert result.winner is None
    assert {standing.stage for standing in result.standings} == {"failed"}


def test_a_score_that_is_no_number_is_a_failure() -> None:
    result = race(["a", "b"], lambda model, n: Reading(float("nan") if model == "a" else 1.0, np.zeros(n)), 50)
    assert result.winner == "b"
    assert result.standings[-1].why == "its score is not finite"


def test_a_failure_in_the_last_round_leaves_the_others() -> None:
    field = Field(MANY)

    def final(model: str) -> Reading:
        raise ModelFailedError("diverged")

    result = race(["m0", "m1"], field, 400, final=final)
    assert result.winner is None
    assert [standing.stage for standing in result.standings] == ["failed", "failed"]


def test_few_images_or_few_models_need_no_rounds() -> None:
    field = Field(MANY)
    race(list(MANY), field, 100)
    assert {n_images for _, n_images in field.calls} == {100}
    field = Field(MANY)
    race(["m0", "m1", "m2"], field, 400)
    assert {n_images for _, n_images in field.calls} == {400}


def test_what_is_expected_of_a_model_keeps_it_in_the_race() -> None:
    # After sixty images m9 looks bad; it is known to be the best.
    field = Field({f"m{number}": number / 20 for number in range(12)}, noise=2.0)
    expected = {name: Expected(0.0, 0.5) for name in field.errors} | {"m9": Expected(8.0, 0.1)}
    with_it = race(list(field.errors), field, 400, expected=expected)
    assert "m9" in [standing.model for standing in with_it.standings if standing.stage == "finalist"]
    without = race(list(field.errors), field, 400)
    assert "m9" not in [standing.model for standing in without.standings if standing.stage == "finalist"]


def test_the_finals_may_be_measured_otherwise() -> None:
    field = Field({f"m{number}": number / 1000 for number in range(6)}, noise=3.0)
    seen = []

    def final(model: str) -> Reading:
        seen.append(model)
        return Reading(float(model == "m3"))

    result = race(list(field.errors), field, 400, final=final, finalists=6)
    assert len(seen) == 6
    assert result.winner == "m3"
    assert result.tied == ()  # without errors of images nothing can be said


def test_steps_are_announced() -> None:
    steps = []
    race(list(MANY), Field(MANY, noise=3.0), 400, on_step=lambda *step: steps.append(step))
    assert steps[0] == (1, 3, "m0", 0, 12, 60)
    assert steps[-1][0:2] == (3, 3)
    assert steps[-1][5] == 400


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 15), st.integers(2, 500), st.integers(1, 5), st.integers(0, 99))
def test_every_model_stands_once(models: int, n_images: int, finalists: int, seed: int) -> None:
    names = [f"m{number}" for number in range(models)]
    field = Field(dict.fromkeys(names, 0.0), n_images=500, noise=1.0, seed=seed)
    result = race(names, field, n_images, finalists=finalists)
    assert sorted(standing.model for standing in result.standings) == sorted(names)
    assert result.winner is not None
    # Nobody is looked at on fewer images than before, and the images forwarded add up.
    longest: dict[str, int] = {}
    for model, size in field.calls:
        assert size > longest.get(model, 0)
        longest[model] = size
    assert sum(longest.values()) == result.n_forwarded


def test_the_paired_test_has_its_level() -> None:
    rng = np.random.default_rng(0)
    false_alarms = [is_surely_worse(rng.normal(size=60), rng.normal(size=60)) for _ in range(2000)]
    assert 0.01 < np.mean(false_alarms) < 0.04  # one side of a two-sided 95% interval
    low, high = difference_interval(np.arange(5.0), np.arange(5.0))
    assert low == high == 0.0
    assert difference_interval(np.ones(1), np.zeros(1)) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("models", "options"),
    [([], {}), (["a", "a"], {}), (["a"], {"finalists": 0}), (["a"], {"rounds": (120, 60)})],
)
def test_senseless_races_are_refused(models: list[str], options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        race(models, lambda *_: Reading(1.0), 100, **options)  # type: ignore[arg-type]
