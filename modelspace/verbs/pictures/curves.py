"""Curves from the file that `modelspace evaluate --out` writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.errors import NotFoundError, UsageError
from modelspace.evaluation.comparison import ACCURACY_BASELINES, BASELINES, RANDOM
from modelspace.files import read_text
from modelspace.verbs.pictures.caption import date

if TYPE_CHECKING:
    from modelspace.plots import Picture

_HINT = "write one as JSON: `space.evaluate().to_dict()`"

#: Method -> figure -> means at K = 1, 2, ...
Curves = dict[str, dict[str, list[float]]]

#: Method -> figure -> lower and upper ends of the intervals of the means.
Bands = dict[str, dict[str, tuple[list[float], list[float]]]]

_FIGURES = ("precision", "recall")


@dataclass(frozen=True)
class Curved:
    """What the file of an evaluation holds.

    Attributes:
        curves: the means.
        bands: the intervals of those methods that have them.
        source: what a caption says of the evaluation.
    """

    curves: Curves
    bands: Bands
    source: tuple[str, ...] = ()


def curves_picture(source: str | Path, title: str = "") -> Picture:
    """P@K and R@K of every method of an evaluation, with intervals as bands, and with the baselines in gray.

    Args:
        source: a JSON file of `Evaluation.to_dict`, or a CSV file with the columns method, figure, k, mean, low, high.
        title: printed above the curves.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it contains no evaluation.
    """
    from modelspace.plots import ranking_curves

    read = _read(Path(source))
    # The random ranking has the same precision at every K, so it is drawn as a line.
    chance = read.curves.get(RANDOM, {}).get("precision", [])
    drawn = {method: figures for method, figures in read.curves.items() if method != RANDOM}
    picture = ranking_curves(
        *({method: figures[figure] for method, figures in drawn.items()} for figure in _FIGURES),
        intervals={
            figure: {method: read.bands[method][figure] for method in drawn if figure in read.bands.get(method, {})}
            for figure in _FIGURES
        },
        chance=chance[0] if chance else None,
        baselines=[method for method in drawn if method in (*BASELINES, *ACCURACY_BASELINES)],
        title=title,
        caption="; ".join([*read.source, f"drawn {date()}"]),
    )
    picture.facts["curves"] = read.curves
    return picture


def read_curves(path: Path) -> Curves:
    """The curves "precision" and "recall" of every method in an evaluation's file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it contains no evaluation.
    """
    return _read(path).curves


def _read(path: Path) -> Curved:
    if path.suffix.lower() not in (".json", ".csv"):
        raise UsageError(f"{path.name!r} is neither a JSON nor a CSV file", _HINT)
    try:
        text = read_text(path, "utf-8-sig")
    except OSError as error:
        raise NotFoundError(f"{path} can't be read: {error.strerror}", _HINT) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text", _HINT) from None
    try:
        read = _of_json(json.loads(text)) if path.suffix.lower() == ".json" else _of_csv(text)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error):
        raise UsageError(f"{path} contains no evaluation", _HINT) from None
    if not any(method != RANDOM for method in read.curves):
        raise UsageError(f"{path} contains no curve of a method", _HINT)
    return read


def _of_json(value: Any) -> Curved:
    curves: Curves = {}
    bands: Bands = {}
    for row in value["methods"]:
        method = str(row["method"])
        summaries = {figure: row["summary"][figure] for figure in _FIGURES}
        curves[method] = {figure: _numbers(summary["mean"]) for figure, summary in summaries.items()}
        bands[method] = {
            figure: (_numbers(summary["low"]), _numbers(summary["high"]))
            for figure, summary in summaries.items()
            if summary.get("low") and summary.get("high")
        }
    return Curved(curves, bands, _source(value))


def _source(value: Mapping[str, Any]) -> tuple[str, ...]:
    """What the evaluation was: the oracle, its size, and what the intervals are."""
    parts = []
    if "oracle" in value:
        parts.append(f"Oracle {value['oracle']}: {len(value['targets'])} targets, {len(value['sources'])} sources")
    if "confidence" in value:
        parts.append(f"bands: {float(value['confidence']):.0%} intervals over targets")
    return tuple(parts)


def _numbers(values: Sequence[Any]) -> list[float]:
    """Numbers, with NaN for a missing one."""
    return [math.nan if value is None else float(value) for value in values]


def _of_csv(text: str) -> Curved:
    table: dict[str, dict[str, dict[int, tuple[float, float, float]]]] = {}
    for row in csv.DictReader(text.splitlines()):
        if row["figure"] in _FIGURES:
            low, high = (_number(row.get(end)) for end in ("low", "high"))
            table.setdefault(row["method"], {}).setdefault(row["figure"], {})[int(row["k"])] = (
                float(row["mean"]), low, high
            )  # fmt: skip
    curves: Curves = {}
    bands: Bands = {}
    for method, figures in table.items():
        columns = {
            figure: [[figures[figure][k][part] for k in range(1, len(figures[figure]) + 1)] for part in range(3)]
            for figure in _FIGURES
        }
        curves[method] = {figure: mean for figure, (mean, _, _) in columns.items()}
        bands[method] = {
            figure: (low, high) for figure, (_, low, high) in columns.items() if not all(map(math.isnan, low + high))
        }
    return Curved(curves, bands)


def _number(text: str | None) -> float:
    return float(text) if text else math.nan
