"""The verb ``try``: models run on the images of a task, a few images first, and the best of them measured in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelspace.errors import UsageError
from modelspace.registry.rows import OutcomeRow
from modelspace.results import Trial, Trials
from modelspace.search.coverage import MANY, neighbourhood
from modelspace.search.race import FINALISTS, ROUNDS, ModelFailedError, Reading, Standing, race
from modelspace.types import ModelCard
from modelspace.verbs.bench import Bench
from modelspace.verbs.finals import Final, FineTuning, ReadoutFinal, Result, Script
from modelspace.verbs.knowledge import Knowledge, knowledge
from modelspace.verbs.prospects import BEST, basis_note, trying_order
from modelspace.verbs.tasks import HELD_OUT, VALUE, Observation, observe

#: Largest number of models that are run if no budget is given.
BUDGET = 100

#: Largest number of training images, and of test images, that a finalist sees.
MOST_IMAGES = 2000

#: Name of fine-tuning among the ways to measure finalists, and its number of epochs.
FINETUNE, EPOCHS = "finetune", 5

#: Called before each measurement with (round, rounds, model, models done, models of the round, images).
OnStep = Callable[[int, int, str, int, int, int], None]


@dataclass(frozen=True)
class Search:
    """How a search is done.

    Attributes:
        budget: number of models that are run; default: all, at most `BUDGET`.
        how: how finalists are measured: a readout (`modelspace.tasks.readout.READOUTS`), by which the rounds go too, or
            "finetune", before which the rounds go by the ridge readout.
        epochs: of fine-tuning.
        run: command line of a program that measures finalists (`modelspace.tasks.script`), instead of `how`.
        rounds: numbers of images of the rounds before the last.
        finalists: number of models that see all images.
        images: largest number of training images, and of test images; 0 for all.
        where: SQL condition on the models.
        space: see `modelspace.verbs.knowledge.knowledge`.
        device: of the models.
        batch_size: images per forward pass.
        models: name -> the module, or changes of the request that loads it.
    """

    budget: int | None = None
    how: str | None = None
    epochs: int | None = None
    run: str | None = None
    rounds: tuple[int, ...] = ROUNDS
    finalists: int = FINALISTS
    images: int = MOST_IMAGES
    where: str | None = None
    space: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    models: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.run is not None and self.how is not None:
            raise UsageError(f"a program measures the finalists, not {self.how}", "give either `run=` or `how=`")
        if self.epochs is not None and self.how != FINETUNE:
            raise UsageError("epochs are of fine-tuning", "add `how='finetune'`")
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"a budget of {self.budget} models runs none", "example: `budget=8`")
        if self.finalists < 1:
            raise UsageError(f"a search needs at least one finalist, not {self.finalists}", "example: `finalists=3`")
        if self.images < 0 or 0 < self.images < 10:
            raise UsageError(f"{self.images} images are too few to learn from", "use 0 for all, or hundreds")

    @property
    def readout(self) -> str:
        """Name of the readout of the rounds."""
        return self.how if self.how not in (None, FINETUNE) else "ridge"


def try_task(
    path: Path,
    task_name: str,
    search: Search,
    *,
    progress: Callable[[int, int], None] | None = None,
    on_step: OnStep | None = None,
    on_images: Callable[[int, int], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Trials:
    """See `modelspace.workspace.ModelSpace.try_task`."""
    known = knowledge(path, task_name, search.where, search.space)
    bench = Bench(
        known.task,
        search.readout,
        first=search.rounds[0] if search.rounds else ROUNDS[0],
        most=search.images or None,
        device=search.device,
        batch_size=search.batch_size,
        models=search.models,
        needs_metric=search.run is None,
        progress=progress,
    )
    bench.on_images = on_images
    runner = _Runner(path, bench, known, _final(bench, search, on_line))
    names = _field(known, runner, search)
    result = race(
        names,
        runner.measure,
        bench.n_train,
        rounds=search.rounds,
        finalists=search.finalists,
        expected=known.expected() or None,
        final=runner.final,
        on_step=on_step,
    )
    tied = {*result.tied, *_within_interval(runner, result.winner)}
    records = [
        _trial(rank, standing, runner, standing.model in tied)
        for rank, standing in enumerate(result.standings, start=1)
    ]
    notes = [
        *bench.images.notes,
        basis_note(known, "run in the order of"),
        *_verdict(records),
        *_chosen_by_score(runner),
        *_left(known, names, search),
    ]
    how = runner.last.how
    return Trials(records, task_name, known.task.metric, how, result.n_forwarded, bench.n_test, notes)


def _final(bench: Bench, search: Search, on_line: Callable[[str], None] | None) -> Final:
    if search.run is not None:
        return Script(bench, search.run, on_line)
    if search.how == FINETUNE:
        return FineTuning(bench, EPOCHS if search.epochs is None else search.epochs)
    return ReadoutFinal(bench)


class _Runner:
    """Measures models on a bench, and stores what was measured at once, so that an interruption loses nothing."""

    def __init__(self, path: Path, bench: Bench, known: Knowledge, last: Final) -> None:
        self.path, self.bench, self.last = path, bench, last
        self.cards: dict[str, ModelCard] = {model.card.name: model.card for model in known.models}
        self.metrics: dict[str, float | None] = {}
        self.results: dict[str, Result] = {}
        self._new: set[tuple[str, str, int]] = set()
        self._stored = [row for row in known.outcomes if row.seed == known.task.seed]

    def measure(self, model: str, n_images: int) -> Reading:
        """A readout on the first images."""
        card = self.cards[model]
        settings = {"readout": self.bench.readout.name}
        with self._failures(card, self.bench.readout.name, settings):
            reading, metric = self.bench.reading(card, n_images)
        self.metrics[model] = metric
        if metric is not None and n_images < self.bench.n_train:
            self._store(card, metric, HELD_OUT, n_images, settings, further={VALUE: reading.value})
        return reading

    def final(self, model: str) -> Reading:
        """The measurement of a finalist, on all training images and the test images."""
        card, last = self.cards[model], self.last
        earlier = self._earlier(card, last.how, self.bench.n_train, last.settings)
        if earlier is not None and earlier.score is not None and not last.is_cheap:
            result = last.recalled(earlier.score, earlier.settings)
        else:
            with self._failures(card, last.how, last.settings):
                result = last.measure(card)
            score, n_train = result.score.value, self.bench.n_train
            self._store(card, score, last.how, n_train, last.settings, result.note, result.further)
        self.results[model], self.metrics[model] = result, result.held_out
        return result.reading

    @contextmanager
    def _failures(self, card: ModelCard, how: str, settings: Mapping[str, Any]) -> Iterator[None]:
        """Store a model's failure on the data as an outcome, and pass it on."""
        try:
            yield
        except ModelFailedError as error:
            if error.by_model:
                self._store(card, None, how, 0, settings, str(error))
            raise

    def _store(
        self,
        card: ModelCard,
        score: float | None,
        how: str,
        n_train: int,
        settings: Mapping[str, Any],
        note: str = "",
        further: Mapping[str, Any] | None = None,
    ) -> None:
        """Store an outcome, unless one of the same settings is known; `further` settings are kept and not compared."""
        if (card.name, how, n_train) in self._new or self._earlier(card, how, n_train, settings) is not None:
            return
        self._new.add((card.name, how, n_train))
        task, seconds = self.bench.task, self.bench.seconds.get(card.name)
        observe(
            self.path,
            [
                Observation(
                    task.name,
                    card.name,
                    score,
                    how,
                    n_train,
                    task.seed,
                    seconds,
                    note,
                    settings={**settings, **(further or {})},
                )
            ],
        )

    def _earlier(self, card: ModelCard, how: str, n_train: int, settings: Mapping[str, Any]) -> OutcomeRow | None:
        """The outcome of an earlier search that was measured in the same way; its settings may hold more."""
        for row in self._stored:
            same = (row.model, row.weights_sha256, row.how) == (card.name, card.weights_sha256, how)
            if same and row.n_train == n_train and settings.items() <= dict(row.settings).items():
                return row
        return None


def _field(known: Knowledge, runner: _Runner, search: Search) -> list[str]:
    """Names of the models that take part, the most promising first."""
    names = known.names
    count = search.budget or BUDGET
    # Models that were measured before take part as well: the best of all is asked for.
    order = [number for number in known.order() if known.twins.get(names[number]) is None]
    if len(names) >= MANY and not known.n_tasks and len(order) > count:
        order = _spread(known, runner, search, order, count)
    return [names[number] for number in order[:count]]


def _spread(known: Knowledge, runner: _Runner, search: Search, order: list[int], count: int) -> list[int]:
    """In a large registry of which nothing is known: the middles of clusters, then the neighbours of the best."""
    half = max(1, count // 2)
    first = trying_order(known, half)[:half]
    size = min(search.rounds[0] if search.rounds else ROUNDS[0], runner.bench.n_train)
    values: dict[int, float] = {}
    for number in first:
        try:
            values[number] = runner.measure(known.names[number], size).value
        except ModelFailedError:
            continue
    best = sorted(values, key=lambda number: -values[number])[:BEST]
    near = neighbourhood(known.affinity, best, first, len(known.names)) if best else []
    allowed = set(order)
    return [*first, *(number for number in near if number in allowed)][:count]


def _trial(rank: int, standing: Standing, runner: _Runner, is_tied: bool) -> Trial:
    result = runner.results.get(standing.model) if standing.stage == "finalist" else None
    score = None if result is None else result.score
    note = standing.why if result is None else result.note
    if standing.stage == "dropped" and standing.surely_worse:
        note = "its errors are surely larger than the leader's"
    return Trial(
        rank=rank,
        name=standing.model,
        stage=standing.stage,
        images=standing.n_images,
        held_out=runner.metrics.get(standing.model),
        score=None if score is None else score.value,
        low=None if score is None else score.low,
        high=None if score is None else score.high,
        tied=is_tied,
        seconds=runner.bench.seconds.get(standing.model, 0.0),
        note=note,
    )


def _within_interval(runner: _Runner, winner: str | None) -> set[str]:
    """Finalists of which no single image's error is known, with a score inside the interval of the winner's."""
    if winner is None or runner.results[winner].reading.errors is not None:
        return set()
    score = runner.results[winner].score
    if score.low is None or score.high is None:
        return set()
    return {
        name
        for name, result in runner.results.items()
        if name != winner and score.low <= result.score.value <= score.high
    }


def _verdict(records: list[Trial]) -> list[str]:
    """What the search found, in words."""
    if not records or records[0].stage != "finalist":
        return ["no model could be measured; the notes say why"]
    best = records[0].name
    tied = [record.name for record in records if record.tied]
    if not tied:
        return [f"start from {best}"]
    return [f"start from {best}; {' and '.join(tied)} can't be told apart from it with these data"]


def _chosen_by_score(runner: _Runner) -> list[str]:
    """A warning where the scores that are shown chose the winner."""
    if not isinstance(runner.last, Script) or len(runner.results) < 2:
        return []
    return ["the program's scores chose the winner, so its own is a little too good to be expected again"]


def _left(known: Knowledge, names: list[str], search: Search) -> list[str]:
    notes = []
    twins = [f"{name} (near-copy of {other})" for name, other in known.twins.items() if other in names]
    if twins:
        notes.append(f"not run: {', '.join(twins)}")
    if search.budget is None and len(known.models) - len(known.twins) > BUDGET:
        notes.append(f"the {BUDGET} most promising models were run; run more with `budget=`")
    return notes
