"""Curves from the file that `modelspace evaluate --out` writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.errors import NotFoundError, UsageError
from modelspace.evaluation.comparison import ACCURACY_BASELINES, BASELINES, RANDOM
from modelspace.files import read_text

if TYPE_CHECKING:
    from modelspace.plots import Picture

_HINT = "write one as JSON: `space.evaluate().to_dict()`"

#: Method -> figure -> means at K = 1, 2, ...
Curves = dict[str, dict[str, list[float]]]


def curves_picture(source: str | Path, title: str = "") -> Picture:
    """P@K and R@K of every method of an evaluation, with the baselines in gray.

    Args:
        source: a JSON file of `Evaluation.to_dict`, or a CSV file with the columns method, figure, k, mean.
        title: printed above the curves.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it contains no evaluation.
    """
    from modelspace.plots import ranking_curves

    curves = read_curves(Path(source))
    # The random ranking has the same precision at every K, so it is drawn as a line.
    chance = curves.get(RANDOM, {}).get("precision", [])
    drawn = {method: figures for method, figures in curves.items() if method != RANDOM}
    picture = ranking_curves(
        {method: figures["precision"] for method, figures in drawn.items()},
        {method: figures["recall"] for method, figures in drawn.items()},
        chance=chance[0] if chance else None,
        baselines=[method for method in drawn if method in (*BASELINES, *ACCURACY_BASELINES)],
        title=title,
    )
    picture.facts["curves"] = curves
    return picture


def read_curves(path: Path) -> Curves:
    """The curves "precision" and "recall" of every method in an evaluation's file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it contains no evaluation.
    """
    if path.suffix.lower() not in (".json", ".csv"):
        raise UsageError(f"{path.name!r} is neither a JSON nor a CSV file", _HINT)
    try:
        text = read_text(path, "utf-8-sig")
    except OSError as error:
        raise NotFoundError(f"{path} can't be read: {error.strerror}", _HINT) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text", _HINT) from None
    try:
        curves = _of_json(json.loads(text)) if path.suffix.lower() == ".json" else _of_csv(text)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error):
        raise UsageError(f"{path} contains no evaluation", _HINT) from None
    if not any(method != RANDOM for method in curves):
        raise UsageError(f"{path} contains no curve of a method", _HINT)
    return curves


def _of_json(value: Any) -> Curves:
    return {
        str(row["method"]): {
            figure: [float(mean) for mean in row["summary"][figure]["mean"]] for figure in ("precision", "recall")
        }
        for row in value["methods"]
    }


def _of_csv(text: str) -> Curves:
    means: dict[str, dict[str, dict[int, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        if row["figure"] in ("precision", "recall"):
            means.setdefault(row["method"], {}).setdefault(row["figure"], {})[int(row["k"])] = float(row["mean"])
    curves = {
        method: {figure: [values[k] for k in range(1, len(values) + 1)] for figure, values in figures.items()}
        for method, figures in means.items()
    }
    return {
        method: {"precision": figures["precision"], "recall": figures["recall"]} for method, figures in curves.items()
    }
