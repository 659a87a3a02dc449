"""Metrics of tasks: what a score means, and whether higher is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelspace.errors import UsageError

Kind = Literal["classification", "regression"]
KINDS: tuple[Kind, ...] = ("classification", "regression")


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    Attributes:
        name: what users type.
        kinds: kinds of labels that it is for.
        higher_is_better: its direction.
    """

    name: str
    kinds: tuple[Kind, ...]
    higher_is_better: bool


#: The metrics whose direction is known; any other name needs one.
METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", ("classification",), True),
        Metric("balanced_accuracy", ("classification",), True),
        Metric("f1", ("classification",), True),
        Metric("auroc", ("classification",), True),
        Metric("loss", ("classification", "regression"), False),
        Metric("r2", ("regression",), True),
        Metric("rmse", ("regression",), False),
        Metric("mae", ("regression",), False),
        Metric("spearman", ("regression",), True),
    )
}

#: The metric of a kind of labels if none is named.
DEFAULTS: dict[Kind, str] = {"classification": "accuracy", "regression": "r2"}


def direction(name: str, kind: Kind, higher_is_better: bool | None) -> bool:
    """Whether higher is better.

    Args:
        name: of the metric.
        kind: of the labels.
        higher_is_better: as the user says, or None.

    Raises:
        UsageError: the metric is for another kind of labels, its known direction is contradicted, or it is unknown and
            no direction is given.
    """
    metric = METRICS.get(name)
    if metric is None:
        if higher_is_better is None:
            raise UsageError(
                f"the direction of the metric {name!r} is not known",
                f"`higher_is_better=True` or `higher_is_better=False`; or use one of {', '.join(METRICS)}",
            )
        return higher_is_better
    if kind not in metric.kinds:
        usable = [other.name for other in METRICS.values() if kind in other.kinds]
        raise UsageError(f"{name} is not a metric of {kind}", f"use one of {', '.join(usable)}")
    if higher_is_better is not None and higher_is_better != metric.higher_is_better:
        better = "higher" if metric.higher_is_better else "lower"
        raise UsageError(f"of {name}, {better} is better", "leave the direction out, or give the metric another name")
    return metric.higher_is_better
