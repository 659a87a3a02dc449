"""The page docs/lab-book/attribution.md: what the sweep saw on `chosen`, and the winner on `kept` and `yards`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from reproduction import measures
from reproduction.page import wrapped

from attribution_sweep import gradients
from attribution_sweep.candidates import (
    MEAN_ABSOLUTE,
    NOTHING,
    PER_IMAGE,
    Candidate,
    affinity,
    centred,
    matrix,
    rows,
    unit,
)
from modelspace import evaluation
from modelspace.evaluation import Evaluation, splits
from modelspace.evaluation.comparison import cell
from modelspace.representations import kernels
from modelspace.spaces import hubness, predictability

Figures = tuple[float, float, float]
Stages = Sequence[Mapping[Candidate, Figures]]

#: The forms that the winner is compared with.
AS_IT_IS, SALIENCY = Candidate(), Candidate(times_input=False, channels=MEAN_ABSOLUTE)
WINNER, GRADIENT, ABSOLUTE, DDS, TRANSFER = "paper+", "gradient\\*input as it is", "saliency", "dds", "transfer"

TITLES = (
    "Stage 1: scalar, input and channels",
    "Stage 2: canvas, smoothing, centring, comparison",
    "Stage 3: scalar, input and channels again",
    "Stage 4: canvas, smoothing, centring, comparison again",
    "Stage 5: engines and layers",
)

HEAD = """\
# Attribution at its best

<!-- Written by scripts/measure_attribution.py: change that, and run it again. -->

```sh
python scripts/measure_attribution.py            # the sweep, on selection targets only; resumable
python scripts/measure_attribution.py --report   # held-out targets, and this page
```

How good can a ranking by attribution maps be? On the 20 task encoders of [the zoo](zoo.md) and the first
{images} rooms, {count} forms were compared: which scalar of T is explained, by which method, what is done with
channels, on which canvas, with which smoothing, centring and correction for hubs. They were compared only on the
selection targets (`chosen`) of the oracle `rooms`, by a rule fixed in advance, which is the docstring of
[measure_attribution.py](../../scripts/measure_attribution.py): mean rank of Spearman, P@5 and 1 - regret@1. The best
was then evaluated once on the targets `kept`, and once on the other world, `yards`. Maps are unrounded.

The best form: **{winner}**.

"""


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n\n"


def _figures(values: Figures) -> list[str]:
    spearman, precision, gain = values
    return [f"{spearman:.2f}", f"{precision:.2f}", f"{1 - gain:.2f}"]


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("|", "\\|")


#: Factors of the tables: title -> value of a candidate.
FACTORS: Mapping[str, Callable[[Candidate], str]] = {
    "scalar": lambda c: c.scalar,
    "map": lambda c: "gradient*input" if c.times_input else "gradient",
    "channels": lambda c: c.channels,
    "canvas": lambda c: str(c.canvas),
    "smoothing, px": lambda c: f"{c.sigma:g}",
    "subtracted": lambda c: c.centring,
    "compared": lambda c: c.compared,
    "hubs": lambda c: c.hubs,
    "engine": lambda c: c.engine,
    "layer": lambda c: c.layer or "T",
}


def of_stage(measured: Mapping[Candidate, Figures], ordered: Sequence[Candidate]) -> str:
    """The five best of a stage, and for each value of each factor the best candidate that has it."""
    text = table(
        ["best candidates", "Spearman", "P@5", "regret@1"],
        [[_escaped(str(candidate)), *_figures(measured[candidate])] for candidate in ordered[:5]],
    )
    body = []
    for factor, value in FACTORS.items():
        values = list(dict.fromkeys(value(candidate) for candidate in measured))
        if len(values) < 2:
            continue
        for each in values:
            first = next(candidate for candidate in ordered if value(candidate) == each)
            median = np.median([measured[c] for c in measured if value(c) == each], axis=0)
            place = ordered.index(first) + 1
            body.append(
                [factor, _escaped(each), str(place), *_figures(measured[first]), *_figures(tuple(median.tolist()))]
            )
    head = ["factor", "value", "place of its best", "Spearman", "P@5", "regret@1"]
    return text + table([*head, "median Spearman", "P@5", "regret@1"], body)


def held_out(
    names: Sequence[str], winner: Candidate, tables: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, Evaluation]]:
    """Evaluations of the winner and of what it is compared with: title -> (oracle and targets, evaluation)."""
    scores = {
        WINNER: hubness.corrected(matrix(names, winner), winner.hubs),
        GRADIENT: matrix(names, AS_IT_IS),
        ABSOLUTE: matrix(names, SALIENCY),
        **tables,
    }
    by_method = {name: (tuple(names), values) for name, values in scores.items()}
    rooms = evaluation.evaluate(by_method, evaluation.load("rooms"))
    yards = evaluation.evaluate(by_method, evaluation.load("yards"))
    return {
        "Selection targets (`rooms`, `chosen`), for comparison only": (
            "chosen",
            rooms.over(splits.select(rooms.targets, splits.SELECTION)),
        ),
        "Held-out targets (`rooms`, `kept`)": ("kept", rooms.over(splits.select(rooms.targets, splits.HELD_OUT))),
        "The other world (`yards`, all targets)": ("yards", yards),
    }


COLUMNS = (("spearman", 0), ("kendall", 0), ("precision", 5), ("relative_regret", 1))


def _cells(outcome: Evaluation, method: str) -> list[str]:
    summary = outcome.row(method).summary
    return [cell(summary[figure], k - 1 if k else None) for figure, k in COLUMNS]


def of_held_out(outcomes: Mapping[str, tuple[str, Evaluation]]) -> str:
    """Tables of all methods, and the winner's paired differences to them."""
    text = ""
    for title, (_, outcome) in outcomes.items():
        methods = [row.method for row in outcome.rows]
        body = [[method, *_cells(outcome, method)] for method in methods]
        text += f"### {title}\n\n" + table(["method", "Spearman", "Kendall", "P@5", "regret@1"], body)
        differences = []
        for method in methods:
            if method == WINNER:
                continue
            gaps = [outcome.difference(WINNER, method, figure, k or 5) for figure, k in COLUMNS]
            differences.append([f"{WINNER} minus {method}", *(_signed(gap) for gap in gaps)])
        text += table(["paired difference", "Spearman", "Kendall", "P@5", "regret@1"], differences)
    return text


def _signed(gap: evaluation.Interval) -> str:
    return f"{float(gap.mean) + 0.0:+.2f} [{float(gap.low) + 0.0:+.2f}, {float(gap.high) + 0.0:+.2f}]"


def shares(values: np.ndarray) -> tuple[float, float, float, float]:
    """Shares of the squared norm of unit maps (models, images, elements) that add to 1.

    They are: the mean over models and images; what an image adds to it, in all models; what a model adds, in all
    images; and the rest, which alone belongs to a model and an image.
    """
    scaled = unit(values)
    grand = scaled.mean(axis=(0, 1), keepdims=True)
    image = scaled.mean(axis=0, keepdims=True) - grand
    model = scaled.mean(axis=1, keepdims=True) - grand
    rest = scaled - grand - image - model
    total = float(np.square(scaled).sum(-1).mean())
    parts = [float(np.square(part).sum(-1).mean()) / total for part in (grand, image, model, rest)]
    return parts[0], parts[1], parts[2], parts[3]


def reliability(values: np.ndarray, candidate: Candidate) -> float:
    """Spearman's correlation, over pairs of models, of affinities on even and on odd images."""
    scaled = centred(values, candidate.centring, candidate.compared)
    return measures.rank_agreement(affinity(scaled[:, ::2]), affinity(scaled[:, 1::2]))


def why(names: Sequence[str], winner: Candidate, features: np.ndarray) -> str:
    """What maps have in common, how reliable their affinities are, and how they agree with those of features."""
    forms = {GRADIENT: AS_IT_IS, ABSOLUTE: SALIENCY, WINNER: winner}
    body, per_form = [], {}
    for name, form in forms.items():
        values = rows(names, form)
        affinities = affinity(centred(values, form.centring, form.compared))
        per_form[name] = affinities
        parts = shares(values)
        body.append(
            [
                name,
                *(f"{100 * part:.0f} %" for part in parts),
                f"{reliability(values, form):.2f}",
                f"{measures.rank_agreement(affinities, features):.2f}",
            ]
        )
    head = ["maps", "mean of all", "image", "model", "model and image", "even against odd images", "against dds"]
    text = table(head, body)
    other = {}
    for scalar in ("sum", "absolute", "1 random projection", "centred energy"):
        plain = replace(AS_IT_IS, scalar=scalar, centring=NOTHING, compared=PER_IMAGE)
        other[scalar] = measures.rank_agreement(per_form[GRADIENT], matrix(names, plain))
    parts = ", ".join(f"{scalar} {value:.2f}" for scalar, value in other.items() if scalar != "sum")
    return text + f"Agreement (Spearman over pairs of models) of gradient\\*input of ΣT with that of: {parts}.\n\n"


def features_of(names: Sequence[str], stored: np.ndarray) -> dict[str, np.ndarray]:
    """Affinities of dds and the directed ranking, from stored kernels (models, N, N)."""
    unit_kernels = [kernels.unit(kernel) for kernel in stored]
    return {DDS: measures.inner(unit_kernels), TRANSFER: predictability.r2_matrix(list(stored))}


def page(
    names: Sequence[str],
    stages: Stages,
    orders: Sequence[Sequence[Candidate]],
    winner: Candidate,
    outcomes: Mapping[str, tuple[str, Evaluation]],
    features: np.ndarray,
    comment: str,
) -> str:
    """The whole page; comment: what the figures say."""
    count = len(set().union(*stages))
    text = HEAD.format(images=gradients.IMAGES, count=f"{count:,}", winner=_escaped(str(winner)))
    text += comment
    text += "## The best form on what it was not chosen on\n\n" + of_held_out(outcomes)
    text += "## Why\n\n" + WHY + why(names, winner, features)
    text += "## The sweep, on selection targets\n\n" + SWEEP
    for title, measured, order in zip(TITLES, stages, orders, strict=True):
        text += f"### {title}\n\n{of_stage(measured, order)}"
    return wrapped(text)


WHY = """\
Each map is scaled to norm 1, and its squared norm is split: into the mean over all models and images, what an image
adds to that in every model, what a model adds on every image, and the rest, which alone depends on both. "Even
against odd images" is Spearman's correlation, over the pairs of models, of affinities on one half of the images with
those on the other; "against dds" that of the affinities with those of features.

"""

SWEEP = """\
"Place of its best" is the rank of the best candidate with that value; the medians are over all candidates that have
it. The figures are means over the selection targets, so the best of many is better here than elsewhere.

"""
