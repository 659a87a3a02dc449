"""Directions of metrics."""

from __future__ import annotations

import pytest

from modelspace.errors import UsageError
from modelspace.tasks.metrics import DEFAULTS, KINDS, METRICS, direction


def test_known_metrics_have_their_direction() -> None:
    assert direction("accuracy", "classification", None) is True
    assert direction("rmse", "regression", None) is False
    assert direction("loss", "regression", False) is False
    assert all(kind in METRICS[DEFAULTS[kind]].kinds for kind in KINDS)


def test_an_unknown_metric_needs_one() -> None:
    assert direction("top5", "classification", True) is True
    assert direction("top5", "classification", False) is False
    with pytest.raises(UsageError) as caught:
        direction("top5", "classification", None)
    assert "`higher_is_better=True`" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "kind", "higher", "message"),
    [
        ("accuracy", "regression", None, "accuracy is not a metric of regression"),
        ("rmse", "classification", None, "rmse is not a metric of classification"),
        ("accuracy", "classification", False, "of accuracy, higher is better"),
        ("mae", "regression", True, "of mae, lower is better"),
    ],
)
def test_contradictions(name: str, kind: str, higher: bool | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        direction(name, kind, higher)  # type: ignore[arg-type]
