"""How the last models of a search are measured: by a readout, by fine-tuning, or by a program of the user."""

from __future__ import annotations

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.search.race import ModelFailedError, Reading
from modelspace.types import ModelCard
from modelspace.verbs.bench import Bench, Score, as_failure, sentence

#: Share of the training images of each class that choose the epoch of a fine-tuned model.
VALIDATION = 0.2

#: Quantile of the normal distribution for 95% intervals.
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Result:
    """A finalist's measurement.

    Attributes:
        reading: by which finalists are put in order.
        score: on the test images.
        held_out: the metric on training or validation images; None if there is none.
        note: for the outcome.
    """

    reading: Reading
    score: Score
    held_out: float | None = None
    note: str = ""


class Final(ABC):
    """A way to measure a finalist.

    Attributes:
        how: its name in outcomes.
        is_cheap: whether measuring again costs little, since features are cached; else an earlier outcome is taken.
    """

    how: str
    is_cheap = False

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What the score depends on besides model, data and seed; values of JSON."""

    @abstractmethod
    def measure(self, card: ModelCard) -> Result:
        """Measure a model.

        Raises:
            ModelFailedError: it can't be loaded, or fails on the data.
        """

    def recalled(self, score: float) -> Result:
        """The result of an earlier search, of which only the score is known."""
        return Result(Reading(self._sign * score), self._of_share(score), note="measured before")

    @property
    def _sign(self) -> float:
        return 1.0 if self.bench.task.higher_is_better else -1.0

    def _of_share(self, value: float) -> Score:
        """A score of which only the value is known: with Wilson's interval (JASA 1927) if it is a share of images."""
        n = self.bench.n_test
        if self.bench.task.metric != "accuracy" or not 0 <= value <= 1:
            return Score(value, None, None)
        square = _NORMAL_95**2 / n
        middle = (value + square / 2) / (1 + square)
        half = math.sqrt(square * (value * (1 - value) + square / 4)) / (1 + square)
        return Score(value, middle - half, middle + half)


class ReadoutFinal(Final):
    """A readout of all training images."""

    is_cheap = True

    @property
    def how(self) -> str:  # type: ignore[override]
        """Name of the readout."""
        return self.bench.readout.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `Final`."""
        return {"readout": self.bench.readout.name, "n_test": self.bench.n_test}

    def measure(self, card: ModelCard) -> Result:
        """See `Final`."""
        reading, held_out = self.bench.reading(card, self.bench.n_train)
        return Result(reading, self.bench.score(card), held_out)


class FineTuning(Final):
    """All parameters trained by a plain recipe (`modelspace.embedding.finetune`)."""

    how = "finetune"

    def __init__(self, bench: Bench, epochs: int) -> None:
        super().__init__(bench)
        self._epochs = epochs
        self._train, self._validation = _parts(bench)

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `Final`."""
        from modelspace.embedding.finetune import RECIPE

        return {"epochs": self._epochs, "recipe": RECIPE, "n_test": self.bench.n_test}

    def measure(self, card: ModelCard) -> Result:
        """See `Final`."""
        from modelspace.embedding.finetune import finetune

        bench = self.bench
        with bench.timed(card), bench.prepared(card) as model, as_failure():
            tuned = finetune(
                model,
                bench.pixels,
                bench.labels,
                train=self._train,
                validation=self._validation,
                test=bench.split.test,
                metric=bench.task.metric,
                epochs=self._epochs,
                seed=bench.task.seed,
                progress=bench.on_images,
            )
        note = "; ".join([f"epoch {tuned.best_epoch} of {tuned.epochs} was the best", *tuned.notes])
        reading = Reading(self._sign * tuned.validation)
        return Result(reading, self._of_share(tuned.test), tuned.validation, note)


class Script(Final):
    """A program of the user, whose last line of output is the score (`modelspace.tasks.script`)."""

    how = "script"

    def __init__(self, bench: Bench, command: str, on_line: Callable[[str], None] | None = None) -> None:
        super().__init__(bench)
        from modelspace.tasks.script import PLACEHOLDERS, arguments

        self._command, self._on_line = command, on_line
        # Wrong placeholders are found before any model is run.
        arguments(command, dict.fromkeys(PLACEHOLDERS, "x"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `Final`."""
        return {"command": self._command}

    def measure(self, card: ModelCard) -> Result:
        """See `Final`."""
        from modelspace.tasks.script import run_script, write_split

        bench = self.bench
        with bench.timed(card), tempfile.TemporaryDirectory(prefix="modelspace-") as folder:
            values = {
                "uri": card.uri,
                "name": card.name,
                "weights": card.tags.get("weights", ""),
                "layer": card.layer,
                "data": bench.task.location,
                "seed": str(bench.task.seed),
                "metric": bench.task.metric,
                **write_split(bench.images, bench.split, Path(folder)),
            }
            try:
                result = run_script(self._command, values, on_line=self._on_line)
            except (NotFoundError, UsageError):
                raise  # there is no such program, for no model
            except ModelspaceError as error:
                raise ModelFailedError(" ".join(sentence(error).split())) from error
        return Result(Reading(self._sign * result.score), self._of_share(result.score))


def _parts(bench: Bench) -> tuple[list[int], list[int]]:
    """The training images in two parts, to train on and to choose the epoch by; each class is in both if it can be."""
    classes = bench.labels.tolist() if bench.images.classes else [0] * len(bench.labels)
    members: dict[int, list[int]] = {}
    for number in bench.split.train:
        members.setdefault(classes[number], []).append(number)
    train, validation = [], []
    for numbers in members.values():
        count = round(VALIDATION * len(numbers)) or (1 if len(numbers) > 2 else 0)
        train += numbers[: len(numbers) - count]
        validation += numbers[len(numbers) - count :]
    return train, validation or train[-1:]
