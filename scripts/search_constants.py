"""What happens to the search if its constants are others: the tables that they are judged by, for the page on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from modelspace.evaluation import Oracle
from modelspace.evaluation.replay import Replay
from modelspace.evaluation.replay_features import Measured, replay_measured
from modelspace.search import prediction, strength
from modelspace.search import race as races
from modelspace.verbs.evaluate_search import of_oracle

COLD, WARM = "race (60, 120), nothing known", "race (60, 120), other tasks known"


@contextmanager
def changed(module: Any, **values: Any) -> Iterator[None]:
    """Constants or functions of a module replaced for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def constants_text(tasks: Sequence[Measured], ranks: np.ndarray, accuracies: Sequence[Oracle]) -> str:
    """All tables, each with a line that says what was varied."""
    return "\n".join(
        [
            _noise_text(tasks),
            _race_text(tasks),
            _spread_text(accuracies),
            _slope_text(tasks, ranks),
            _tails_text(accuracies),
            _readings_text(tasks),
        ]
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; numbers have two digits."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def mean(replay: Replay, policy: str, figure: str) -> float:
    """Of a figure over the targets."""
    return float(np.nanmean(replay.policy(policy).figures[figure]))


def _noise_text(tasks: Sequence[Measured]) -> str:
    """The noise of a reading on n images: 1 / r² - 1 with r its correlation with what all images say, times n."""
    rows = []
    for size in races.ROUNDS:
        noise: dict[str, list[float]] = {
            "value": [],
            "accuracy": [],
            "value, of the test": [],
            "accuracy, of the test": [],
        }
        for task in tasks:
            models = [task.models[number] for number in task.candidates]
            line = task.task.unit.to_line
            truth = line(task.truth[task.candidates])
            whole = [task.shown[model][0, task.n_train] for model in models]
            for order in range(len(task.task.orders)):
                few = [task.shown[model][order, size] for model in models]
                values, accuracy = [each.reading.value for each in few], line([each.metric for each in few])
                noise["value"].append(_noise(values, [each.reading.value for each in whole]))
                noise["accuracy"].append(_noise(accuracy, line([each.metric for each in whole])))
                noise["value, of the test"].append(_noise(values, truth))
                noise["accuracy, of the test"].append(_noise(accuracy, truth))
        rows.append([size, *(f"{np.median(each):.2f} ({np.median(each) * size:.0f})" for each in noise.values())])
    text = (
        "**Noise of a reading.** The variance of a reading on the first images around the same reading on all training "
        "images, or around the score on the test images, in units of the variance between models: 1 / r² - 1, with "
        "r their correlation over models; the median over sets and orders. In parentheses, times the number of images, "
        f"which `race.NOISE` = {races.NOISE:.0f} (values) and `prediction.NOISE` = {prediction.NOISE:.0f} (accuracies "
        "on the line of log odds) stand for.\n\n"
    )
    return text + table(("images", "value", "accuracy", "value, of the test", "accuracy, of the test"), rows)


def _noise(few: Any, whole: Any) -> float:
    r = float(np.corrcoef(few, whole)[0, 1])
    return 1 / r**2 - 1 if r > 0.1 else 99.0


def _race_text(tasks: Sequence[Measured]) -> str:
    rows: list[list[object]] = []
    for rounds, finalists in (
        ((60,), 3),
        ((120,), 3),
        ((60, 120), 1),
        ((60, 120), 3),
        ((60, 120), 5),
        ((30, 60, 120), 3),
    ):
        known = [task for task in tasks if all((0, size) in task.shown[task.models[0]] for size in rounds)]
        if len(known) < len(tasks):
            continue
        replay = replay_measured(tasks, rounds=rounds, finalists=finalists)
        label = ", ".join(map(str, rounds))
        rows += [
            [f"({label}), {finalists}", kind]
            + [mean(replay, f"race ({label}), {kind}", figure) for figure in ("regret@1", "weighted_tau", "images")]
            for kind in ("nothing known", "other tasks known")
        ]
    for noise in (10.0, 20.0, 40.0, 80.0, 160.0):
        with changed(races, NOISE=noise):
            replay = replay_measured(tasks)
        rows.append(
            [f"NOISE = {noise:.0f}", "other tasks known"]
            + [mean(replay, WARM, figure) for figure in ("regret@1", "weighted_tau", "images")]
        )
    text = "**Rounds, finalists and `race.NOISE`**, which only matters where other tasks are known.\n\n"
    return text + table(("rounds, finalists", "before", "regret@1", "tau_w", "images per model"), rows)


def _spread_text(accuracies: Sequence[Oracle]) -> str:
    variants: dict[str, dict[str, Any]] = {
        f"median and quartiles, cut at {furthest:g}": {"FURTHEST": furthest} for furthest in (2.0, 3.0, 5.0, math.inf)
    }
    plain = {"_middle": _plain_mean, "_spread": _plain_spread}
    variants |= {f"mean and deviation, cut at {cut:g}": {**plain, "FURTHEST": cut} for cut in (3.0, math.inf)}
    rows: list[list[object]] = []
    for name, values in variants.items():
        with changed(strength, **values):
            replays = [of_oracle(oracle) for oracle in accuracies]
        rows.append(
            [name]
            + [
                float(np.mean([mean(replay, "search", figure) for replay in replays]))
                for figure in ("weighted_tau", "regret@1", "regret@3", "regret@quarter")
            ]
            + [
                float(np.mean([mean(replay, f"expected after {tries} tries", "coverage") for replay in replays]))
                for tries in (0, 3)
            ]
        )
    text = (
        f"**Spread of a row** (`strength.FURTHEST` and the quartiles), means over {len(accuracies)} published tables "
        f"({', '.join(oracle.name for oracle in accuracies)}).\n\n"
    )
    return text + table(
        ("row's middle and spread", "tau_w", "regret@1", "@3", "@¼", "coverage after 0", "after 3 tries"), rows
    )


def _plain_mean(row: np.ndarray) -> float:
    values = row[np.isfinite(row)]
    return float(values.mean()) if len(values) else math.nan


def _plain_spread(row: np.ndarray) -> float:
    values = row[np.isfinite(row)]
    return float(values.std()) if len(values) > 1 else math.nan


def _slope_text(tasks: Sequence[Measured], ranks: np.ndarray) -> str:
    rows: list[list[object]] = []
    for slope in (0.0, 0.3, 0.6):
        with changed(strength, _SLOPE=slope):
            replay = replay_measured(tasks, ranks)
        rows.append(
            [f"_SLOPE = {slope}"]
            + [
                mean(replay, policy, figure)
                for policy in ("search order", WARM)
                for figure in ("regret@1", "weighted_tau")
            ]
        )
    replay = replay_measured(tasks)
    rows.append(
        ["no effective rank"]
        + [mean(replay, policy, figure) for policy in ("search order", WARM) for figure in ("regret@1", "weighted_tau")]
    )
    per_task = [float(spearmanr(ranks, task.truth, nan_policy="omit").statistic) for task in tasks]
    agreement = ", ".join(f"{task.task.name} {value:.2f}" for task, value in zip(tasks, per_task, strict=True))
    text = (
        "**Slope on the effective rank** (`strength._SLOPE`), the search's order with the other sets known. Spearman's "
        f"correlation of effective rank with the score: {agreement}.\n\n"
    )
    return text + table(("", "order: regret@1", "tau_w", "race: regret@1", "tau_w"), rows)


def _tails_text(accuracies: Sequence[Oracle]) -> str:
    rows: list[list[object]] = []
    for tails in (1.0, 3.0, 6.0, 12.0):
        with changed(prediction, _TAILS=tails):
            replays = [of_oracle(oracle) for oracle in accuracies]
        row: list[object] = [f"{tails:.0f}"]
        for tries in (3, 8):
            policy = f"expected after {tries} tries"
            each = [mean(replay, policy, "coverage") for replay in replays]
            width = [mean(replay, policy, "width_in_spreads") for replay in replays]
            row += [float(np.mean(each)), f"{min(each):.2f} to {max(each):.2f}", float(np.mean(width))]
        rows.append(row)
    text = (
        "**Tails of scores** (`prediction._TAILS`), on the published tables: coverage of 80% intervals, and width.\n\n"
    )
    head = ("_TAILS", "after 3 tries", "tables", "width / spread", "after 8 tries", "tables", "width / spread")
    return text + table(head, rows)


def _readings_text(tasks: Sequence[Measured]) -> str:
    rows: list[list[object]] = []
    for noise, change, rise in (
        (40.0, 0.3, 3.0),
        (80.0, 0.3, 3.0),
        (160.0, 0.3, 3.0),
        (80.0, 0.1, 3.0),
        (80.0, 1.0, 3.0),
        (80.0, 0.3, 1.0),
        (80.0, 0.3, 6.0),
    ):
        with changed(prediction, NOISE=noise, _CHANGE=change, _RISE=rise):
            replay = replay_measured(tasks)
        rows.append(
            [f"NOISE = {noise:.0f}, _CHANGE = {change}, _RISE = {rise:.0f}"]
            + [
                mean(replay, policy, figure)
                for policy in (COLD, WARM)
                for figure in ("coverage", "above", "width_in_spreads", "tau_expected")
            ]
        )
    text = (
        "**Intervals after a race** (`prediction.NOISE`, `_CHANGE`, `_RISE`): the models that were not fully measured. "
        '"Above" is the share of scores above the interval; tau_w that of the expected scores.\n\n'
    )
    head = (
        "",
        *(
            f"{kind}: {figure}"
            for kind in ("nothing known", "others known")
            for figure in ("coverage", "above", "width / spread", "tau_w")
        ),
    )
    return text + table(head, rows)
