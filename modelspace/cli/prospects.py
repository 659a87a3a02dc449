"""How expected scores are shown: by ``nearest --task`` and ``suggest``."""

from __future__ import annotations

from typing import Any

from modelspace.cli import tables
from modelspace.cli.spelling import in_flags
from modelspace.cli.tables import Column


def print_prospects(title: str, prospects: Any) -> None:
    """Print the models with their expected scores, and the notes below."""
    has_scores = any(row.score is not None for row in prospects)
    columns = [
        Column("rank", lambda row: str(row.rank), right=True),
        Column("name", lambda row: row.name, least=18, fold=True, style="bold"),
    ]
    if has_scores:
        columns += [
            Column(prospects.metric, lambda row: number(row.score), right=True),
            Column("80% interval", _interval, right=True, rank=2),
        ]
    columns += [
        Column("uri", lambda row: row.uri, rank=1, least=14, fold=True),
        Column("what is known", lambda row: row.why, rank=3, least=24, fold=True),
        Column("stands for", lambda row: ", ".join(row.stands_for), rank=4, optional=True, fold=True),
        Column("architecture", lambda row: row.architecture, rank=5, least=12),
    ]
    tables.print_line(title)
    tables.print_table(columns, prospects, footnotes=[in_flags(note) for note in prospects.notes])


def number(value: float | None) -> str:
    """A score, or nothing."""
    return "" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def _interval(row: Any) -> str:
    if row.low is None or row.low == row.high:
        return ""
    return f"{number(row.low)}..{number(row.high)}"
