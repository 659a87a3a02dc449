"""Racing: all models see a few images, the better ones more, the last ones all.

Successive halving (Jamieson & Talwalkar, AISTATS 2016) with a test after each round, as in Hoeffding races (Maron &
Moore, NIPS 1993): a model leaves early if its held-out errors are surely above the leader's, in a paired comparison
over the images that both have seen. The error of a readout on a hundred images tells models apart better than any
ranking without labels does (docs/lab-book/search.md), and costs a hundred forward passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from modelspace.errors import UsageError

Array = NDArray[np.float64]

#: Number of images that all models see, and that the better half sees.
ROUNDS = (60, 120)

#: Number of models that see all images.
FINALISTS = 3

#: Confidence of the paired comparison of two models.
CONFIDENCE = 0.95

#: The value of a readout on n images is taken to deviate from that on all images with a variance of this / n, in units
#: of the variance between models: 0.7 at 60 images. Measured are 0.2 to 0.3; the result of a race hardly depends on it
#: between 10 and 80 (docs/lab-book/search.md).
NOISE = 40.0


class ModelFailedError(Exception):
    """A measurement that failed because of the model; the search goes on without it.

    Attributes:
        by_model: False if the model could not even be loaded, which says nothing of how it does on the data.
    """

    def __init__(self, message: str, by_model: bool = True) -> None:
        super().__init__(message)
        self.by_model = by_model


@dataclass(frozen=True)
class Reading:
    """What a model showed on the first n training images.

    Attributes:
        value: higher is better; comparable between models on the same images.
        errors: (n,) error of each image, lower is better, `value` falls with their mean; None if only a total is known.
        mistakes: (n,) error of each image in the terms of the user: 1 if it is classified wrongly. Two finalists that
            differ in `errors` alone can't be told apart. Default: as `errors`.
    """

    value: float
    errors: Array | None = None
    mistakes: Array | None = None


@dataclass(frozen=True)
class Expected:
    """What other tasks let expect of a model, in units of the spread between models; 0 is the average model.

    Attributes:
        mean: the expectation.
        variance: of the score on this task around it, above 0.
    """

    mean: float
    variance: float


@dataclass(frozen=True)
class Standing:
    """Where a model stands at the end.

    Attributes:
        model: its name.
        n_images: images that it has seen.
        reading: its last reading.
        stage: "finalist"; "dropped" after a round; "failed"; "not loaded".
        surely_worse: whether it was dropped because its errors are surely above the leader's.
        why: of a failure.
    """

    model: str
    n_images: int
    reading: Reading | None
    stage: str
    surely_worse: bool = False
    why: str = ""


@dataclass
class Race:
    """The result of a race.

    Attributes:
        standings: all models that were run, the best first: finalists by their value on all images, then those that
            were dropped, the last to go first, then those that failed.
        tied: names of finalists whose mistakes are not surely more, or surely fewer, than the winner's.
        n_forwarded: images forwarded, summed over models.
    """

    standings: list[Standing] = field(default_factory=list)
    tied: tuple[str, ...] = ()
    n_forwarded: int = 0

    @property
    def winner(self) -> str | None:
        """The best finalist; None if all models failed."""
        first = self.standings[0] if self.standings else None
        return first.model if first is not None and first.stage == "finalist" else None


#: Called with a model and a number of images; raises ModelFailedError.
Measure = Callable[[str, int], Reading]

#: Called before each measurement with (round, rounds, model, models done in the round, models of the round, images).
OnStep = Callable[[int, int, str, int, int, int], None]


def race(
    models: Sequence[str],
    measure: Measure,
    n_images: int,
    *,
    rounds: Sequence[int] = ROUNDS,
    finalists: int = FINALISTS,
    expected: Mapping[str, Expected] | None = None,
    final: Callable[[str], Reading] | None = None,
    on_step: OnStep | None = None,
) -> Race:
    """Find the best of some models.

    Args:
        models: names, the most promising first: of models that are equally good so far, the first stays.
        measure: measures a model on the first n training images.
        n_images: number of training images.
        rounds: numbers of images of the rounds before the last, rising; those above half of `n_images` are left out.
        finalists: number of models that see all images.
        expected: what outcomes of other tasks let expect of each model.
        final: measures a finalist; default: as `measure` does, on all images.
        on_step: called before each measurement.

    Raises:
        UsageError: no model, the same one twice, or an argument out of range.
    """
    if not models or len(set(models)) != len(models):
        raise UsageError("a race needs at least one model, and each once")
    if finalists < 1 or n_images < 2 or any(b <= a for a, b in pairwise(rounds)):
        raise UsageError(
            f"a race can't have {finalists} finalists, {n_images} images and rounds of {tuple(rounds)}",
            "example: `rounds=(60, 120)`, `finalists=3`",
        )
    sizes = [size for size in rounds if 2 * size <= n_images and len(models) > finalists]
    result = Race()
    seen: dict[str, Standing] = {}
    left = list(models)
    for number, size in enumerate(sizes, start=1):
        readings = _round(left, measure, size, (number, len(sizes) + 1), seen, on_step)
        result.n_forwarded += _new_images(readings, size, sizes[number - 2] if number > 1 else 0)
        if not readings:
            break
        order = _order(readings, _belief(readings, expected, size))
        kept = max(finalists, math.ceil(len(order) / 2)) if number < len(sizes) else finalists
        leader = order[0]
        left = []
        for place, model in enumerate(order):
            worse = model != leader and _is_worse(readings[model], readings[leader])
            if place < kept and not (worse and not expected):
                left.append(model)
            seen[model] = Standing(model, size, readings[model], "dropped", worse)
    whole = measure if final is None else lambda model, _: final(model)
    last = _round(left, whole, n_images, (len(sizes) + 1, len(sizes) + 1), seen, on_step) if left else {}
    result.n_forwarded += _new_images(last, n_images, sizes[-1] if sizes else 0)
    ranked = _finalists(last, n_images)
    result.tied = tuple(each.model for each in ranked[1:] if _is_tied(last[each.model], last[ranked[0].model]))
    dropped = [standing for standing in seen.values() if standing.stage == "dropped" and standing.model not in last]
    dropped.sort(key=lambda standing: (-standing.n_images, -(standing.reading.value if standing.reading else 0.0)))
    failed = [standing for standing in seen.values() if standing.stage in ("failed", "not loaded")]
    result.standings = [*ranked, *dropped, *failed]
    return result


def _finalists(readings: Mapping[str, Reading], n_images: int) -> list[Standing]:
    """The models that saw all images, the best first."""
    order = _order(readings, {model: reading.value for model, reading in readings.items()})
    standings = []
    for model in order:
        worse = model != order[0] and _is_worse(readings[model], readings[order[0]])
        standings.append(Standing(model, n_images, readings[model], "finalist", worse))
    return standings


def _is_worse(reading: Reading, leader: Reading) -> bool:
    return reading.errors is not None and leader.errors is not None and is_surely_worse(reading.errors, leader.errors)


def _is_tied(reading: Reading, winner: Reading) -> bool:
    mistakes = reading.errors if reading.mistakes is None else reading.mistakes
    others = winner.errors if winner.mistakes is None else winner.mistakes
    return mistakes is not None and others is not None and difference_interval(mistakes, others)[0] <= 0


def is_surely_worse(errors: Array, of_leader: Array, confidence: float = CONFIDENCE) -> bool:
    """Whether a model's mean error is above the leader's by Student's paired test, two-sided, over images.

    Held-out errors of one readout depend on each other a little, so the confidence is approximate.

    Args:
        errors: (n,) of the model.
        of_leader: (n,) of the leader, for the same images.
        confidence: of the test.
    """
    low, _ = difference_interval(errors, of_leader, confidence)
    return low > 0


def difference_interval(errors: Array, others: Array, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the mean difference of two models' errors over the same images, errors - others."""
    gaps = np.asarray(errors, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return -math.inf, math.inf
    half = float(stdtrit(len(gaps) - 1, (1 + confidence) / 2) * gaps.std(ddof=1) / math.sqrt(len(gaps)))
    return mean - half, mean + half


def _round(
    models: Sequence[str],
    measure: Measure,
    size: int,
    number: tuple[int, int],
    seen: dict[str, Standing],
    on_step: OnStep | None,
) -> dict[str, Reading]:
    """The readings of the models that did not fail; failures are noted in `seen`."""
    readings = {}
    for done, model in enumerate(models):
        if on_step is not None:
            on_step(*number, model, done, len(models), size)
        try:
            reading = measure(model, size)
            if not (
                math.isfinite(reading.value) and np.isfinite(0.0 if reading.errors is None else reading.errors).all()
            ):
                raise ModelFailedError("its score is not finite")
        except ModelFailedError as error:
            before = seen.get(model)
            stage = "failed" if error.by_model else "not loaded"
            seen[model] = Standing(model, before.n_images if before else 0, None, stage, why=str(error))
        else:
            readings[model] = reading
    return readings


def _new_images(readings: Mapping[str, Reading], size: int, before: int) -> int:
    return len(readings) * (size - before)


def _order(readings: Mapping[str, Reading], belief: Mapping[str, float]) -> list[str]:
    """The models, the best first; of equals, in the order given."""
    return sorted(readings, key=lambda model: -belief[model])


def _belief(readings: Mapping[str, Reading], expected: Mapping[str, Expected] | None, size: int) -> dict[str, float]:
    """How good each model is taken to be: its value, and what is expected of it, weighted by their precision.

    With the value q of variance ν = `NOISE` / n around the truth, both in units of the spread between models, and the
    expectation N(m, v), the posterior mean is (m / v + q / ν) / (1 / v + 1 / ν).
    """
    values = np.array([reading.value for reading in readings.values()])
    if not expected or len(values) < 2:
        return dict(zip(readings, values.tolist(), strict=True))
    noise = NOISE / size
    seen = _standardised(values) * math.sqrt(1 + noise)
    unknown = Expected(0.0, 1.0)
    prior = [expected.get(model, unknown) for model in readings]
    mean = np.array([entry.mean for entry in prior])
    variance = np.array([entry.variance for entry in prior])
    belief = (mean / variance + seen / noise) / (1 / variance + 1 / noise)
    return dict(zip(readings, belief.tolist(), strict=True))


def _standardised(values: Array) -> Array:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))
