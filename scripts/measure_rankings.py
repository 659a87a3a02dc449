"""The rankings against measured transfer on data that they were not chosen on: the table and figure of the docs.

    python scripts/measure_rankings.py [--home DIR]          # print the table
    python scripts/measure_rankings.py --page                # and write it, with the figure, into docs/evaluation.md

Evaluates the shipped registry on the targets `kept` of the oracle `rooms`, and on all targets of the other rendered
worlds that the package has measurements of. A minute on a core.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from population.page import replace_section

from modelspace import evaluation
from modelspace.evaluation.metrics import Interval
from modelspace.plots.figure import BODY, INK, LINE, SMALL, Picture, drawn
from modelspace.plots.margins import QUIET
from modelspace.verbs.evaluate import EvaluationReport
from modelspace.workspace import ModelSpace

TOP = Path(__file__).resolve().parent.parent
PAGE, PICTURE = TOP / "docs" / "evaluation.md", TOP / "docs" / "pictures" / "rankings.png"

#: Spaces, the ranking asked for, and what the table calls them.
RANKINGS = (
    ("transfer", None, "`transfer`, the default"),
    ("local", "local", "place by place alone"),
    ("dds", "directed", "whole images alone"),
    ("dds", "none", "`dds`, by affinity"),
    ("saliency", None, "saliency"),
    ("gradient_x_input", None, "gradient*input, the paper's"),
)

#: Similarities of features and baselines that `evaluate` adds, and what the table calls them.
OTHERS = {
    "SVCCA": "SVCCA of features",
    "linear CKA": "linear CKA of features",
    "popularity": "popularity",
    "popularity by mean rank": "static order (mean rank)",
    "random": "random",
}

#: Oracles, their targets, and headings.
PARTS = {
    "rooms": ("kept", "rooms, targets kept aside"),
    "yards": (None, "yards"),
    "streets": (None, "streets"),
}

Figures = Mapping[str, Mapping[str, Interval]]


def measured(space: ModelSpace) -> dict[str, tuple[Figures, EvaluationReport]]:
    """Heading -> figures of each ranking, and the report of the default."""
    out = {}
    for oracle, (targets, heading) in PARTS.items():
        if oracle not in evaluation.available():
            continue
        figures: dict[str, Mapping[str, Interval]] = {}
        for number, (name, rerank, label) in enumerate(RANKINGS):
            options = {} if rerank is None else {"rerank": rerank}
            report = space.evaluate(oracle=oracle, targets=targets, space=name, **options)
            figures[label] = _figures(report.rows[0].summary)
            if number == 0:
                first = report
                others = {OTHERS[row.method]: _figures(row.summary) for row in report.rows if row.method in OTHERS}
        out[heading] = figures | {label: others[label] for label in OTHERS.values() if label in others}, first
    return out


def _figures(summary: Mapping[str, Interval]) -> dict[str, Interval]:
    precision = summary["precision"]
    at = {k: Interval(precision.mean[k - 1], precision.low[k - 1], precision.high[k - 1]) for k in (1, 5)}
    regret = summary["relative_regret"]
    return {
        "P@5": at[5],
        "Spearman": summary["spearman"],
        "regret@1": Interval(regret.mean[0], regret.low[0], regret.high[0]),
    }


def table(parts: Mapping[str, tuple[Figures, EvaluationReport]]) -> str:
    """The table in Markdown."""
    names = ("P@5", "Spearman", "regret@1")
    headings = [f"{heading}: {names[0]}" if k == 0 else names[k] for heading in parts for k in range(len(names))]
    lines = [f"| ranking | {' | '.join(headings)} |", "|---" * (1 + len(headings)) + "|"]
    for label in next(iter(parts.values()))[0]:
        cells = [f"{float(figures[label][name].mean):.2f}" for figures, _ in parts.values() for name in names]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@drawn
def picture(parts: Mapping[str, tuple[Figures, EvaluationReport]]) -> Picture:
    """Spearman of each ranking with its 95% interval over targets, a panel for each part."""
    labels = list(next(iter(parts.values()))[0])
    width, left, row, top, bottom = 7.2, 1.75, 0.19, 0.38, 0.42
    height = top + row * len(labels) + bottom
    figure = Picture(width, height)
    panel = (width - left - 0.15) / len(parts)
    for number, (heading, (figures, _)) in enumerate(parts.items()):
        place = ((left + number * panel) / width, bottom / height, (panel - 0.18) / width, row * len(labels) / height)
        axes = figure.add_axes(place)
        static = float(figures[OTHERS["popularity by mean rank"]]["Spearman"].mean)
        axes.axvline(static, color=LINE, linewidth=0.6, linestyle=(0, (3, 2)), zorder=0)
        for y, label in enumerate(labels):
            value = figures[label]["Spearman"]
            colour = "#B4451F" if y == 0 else INK if y < len(RANKINGS) else QUIET
            axes.plot([value.low, value.high], [y, y], color=colour, linewidth=1.0, solid_capstyle="butt")
            axes.plot([float(value.mean)], [y], "o", color=colour, markersize=3.6)
        axes.set(xlim=(-0.3, 1.02), ylim=(len(labels) - 0.5, -0.5), yticks=range(len(labels)))
        axes.set_yticklabels(
            [label.replace("`", "") for label in labels] if number == 0 else [], fontsize=BODY, color=INK
        )
        axes.tick_params(axis="y", length=0)
        axes.set_xticks(np.arange(0, 1.01, 0.25))
        axes.set_xticklabels(["0", "", "0.5", "", "1"], fontsize=SMALL)
        axes.set_title(heading, fontsize=BODY, pad=4)
        axes.set_xlabel("Spearman with measured transfer", fontsize=SMALL, color=QUIET)
    figure.text(
        0.08 / width, 0.05 / height, "bars: 95% over targets; dashed: static order", fontsize=SMALL, color=QUIET
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=TOP, help="folder of the registry")
    parser.add_argument("--page", action="store_true", help="write the table and the figure into the docs")
    options = parser.parse_args()
    parts = measured(ModelSpace.open(options.home))
    text = table(parts)
    print(text)
    for report in (report for _, report in parts.values()):
        retrieval = report.retrieval
        print(f"{report.oracle}: same task first {retrieval['transfer'].first.mean:.2f}")
    if options.page:
        PICTURE.write_bytes(picture(parts).to_bytes("png", dpi=200))
        replace_section("rankings", text, PAGE)


if __name__ == "__main__":
    main()
