"""Beyond the paper (9): other views of the same pass, evaluated on targets that nothing was chosen on."""

from __future__ import annotations

import numpy as np

from modelspace.evaluation import Evaluation, Interval, splits
from modelspace.evaluation.comparison import MEAN_RANK, POPULARITY, RANDOM
from modelspace.evaluation.retrieval import Retrieval, same_task
from reproduction import drawing, measures, verdicts
from reproduction.data import ORACLE, OTHER_WORLD, Data, oracle
from reproduction.page import Section, table
from reproduction.passes import PAPER
from reproduction.verdicts import shown

GXI = PAPER[0]

#: Figure -> (name in an evaluation, K, sign: 1 if higher is better).
GAINS = {"Spearman": ("spearman", 5, 1), "Kendall": ("kendall", 5, 1), "regret@1": ("relative_regret", 1, -1)}
COLUMNS = {
    "P@5": ("precision", 5),
    "Spearman": ("spearman", 5),
    "Kendall": ("kendall", 5),
    "regret@1": ("relative_regret", 1),
    "regret@5": ("relative_regret", 5),
}

#: A blend of three kinds of spaces with equal weights.
BLEND = "⅓ dds + ⅓ centred energy + ⅓ saliency of the energy"

#: References of the paired differences.
REFERENCES = (GXI, POPULARITY, MEAN_RANK, "SVCCA")


def gains(outcome: Evaluation, method: str, reference: str) -> dict[str, Interval]:
    """The gains of a method over a reference in the figures of the rule; positive is better."""
    result = {}
    for figure, (name, k, sign) in GAINS.items():
        gap = outcome.difference(method, reference, name, k)
        result[figure] = gap if sign > 0 else Interval(-gap.mean, -gap.high, -gap.low)
    return result


def beyond(data: Data) -> Section:
    """Whether a space beyond the paper's is the better default."""
    by_probe = {probe: data.views(probe) for probe in (ORACLE, OTHER_WORLD)}
    names = list(by_probe[ORACLE])
    parts: dict[str, Evaluation] = {}
    for truth in (ORACLE, OTHER_WORLD):
        if oracle(truth) is None:
            continue
        for probe, matrices in by_probe.items():
            outcome = data.evaluate(matrices, truth)
            for part in (splits.SELECTION, splits.HELD_OUT):
                parts[f"oracle {truth}, {part} targets, probes {probe}"] = outcome.over(
                    splits.split(outcome.targets, part)
                )
            parts[f"oracle {truth}, all targets, probes {probe}"] = outcome
    retrieval: dict[str, Retrieval] = {}
    for name in names:
        figures = same_task(by_probe[ORACLE][name], data.task_of())
        assert figures is not None
        retrieval[name] = figures
    held_out = parts[f"oracle {ORACLE}, {splits.HELD_OUT} targets, probes {ORACLE}"]
    other_world = parts.get(f"oracle {OTHER_WORLD}, all targets, probes {ORACLE}")
    others = {
        part: gains(parts[part], measures.TRANSFER, GXI)
        for part in (
            f"oracle {ORACLE}, {splits.HELD_OUT} targets, probes {OTHER_WORLD}",
            f"oracle {OTHER_WORLD}, all targets, probes {ORACLE}",
            f"oracle {OTHER_WORLD}, all targets, probes {OTHER_WORLD}",
        )
        if part in parts
    }
    popular = {
        part: outcome.difference(measures.TRANSFER, MEAN_RANK, "spearman")
        for part, outcome in parts.items()
        if outcome is held_out or part in others
    }
    held_out_gains = gains(held_out, measures.TRANSFER, GXI)
    first = (float(retrieval[measures.TRANSFER].first.mean), float(retrieval[GXI].first.mean))
    order = [*names, RANDOM, POPULARITY, MEAN_RANK]
    chance = retrieval[GXI]
    # The targets that options were chosen on are no evidence, so their results are not shown.
    shown_parts = {
        part: outcome
        for part, outcome in parts.items()
        if not part.startswith((f"oracle {ORACLE}, chosen", f"oracle {ORACLE}, all"))
    }
    body = [_tasks(retrieval, order, len(data.models))]
    for part, outcome in shown_parts.items():
        if outcome is held_out or part in others:
            rows = [
                [name, *(shown(measures.of(outcome, name, figure, k), False) for figure, k in COLUMNS.values())]
                for name in order
            ]
            body += [f"{part[:1].upper()}{part[1:]}: {', '.join(outcome.targets)}.", table(["space", *COLUMNS], rows)]
    by_split = {
        part: outcome for part, outcome in shown_parts.items() if part not in others and outcome is not held_out
    }
    if by_split:
        rows = [
            [name, *(shown(measures.of(outcome, name, "spearman"), False) for outcome in by_split.values())]
            for name in order
        ]
        body += ["Spearman on the two splits of the other world's oracle:", table(["space", *by_split], rows)]
    differences = []
    for part, outcome in shown_parts.items():
        comparisons = [(measures.TRANSFER, reference) for reference in REFERENCES]
        for method, reference in (*comparisons, (BLEND, GXI), (BLEND, "SVCCA")):
            gap = [outcome.difference(method, reference, "precision"), *gains(outcome, method, reference).values()]
            differences.append([part, f"{method} over {reference}", *map(shown, gap)])
    body += [
        "Paired differences; positive is better in every column:",
        table(["evaluated on", "gain of", "P@5", *GAINS], differences),
    ]
    body.append(_met(names, held_out, other_world, retrieval))
    passed = [name for name in names if name not in PAPER and _passes(name, held_out, retrieval)]
    outcomes = {f"Spearman, {ORACLE}, kept targets": held_out}
    if other_world is not None:
        outcomes[f"Spearman, {OTHER_WORLD}, all targets"] = other_world
    panels = {
        heading: [_triple(measures.of(outcome, name, "spearman")) for name in order]
        for heading, outcome in outcomes.items()
    }
    baselines = {RANDOM: (chance.random_first,) * 3}
    panels["same task first"] = [
        _triple(retrieval[name].first) if name in retrieval else baselines.get(name, (np.nan,) * 3) for name in order
    ]
    picture = drawing.dots(
        order, panels, title="Spaces beyond the paper's, and baselines", gray=(RANDOM, POPULARITY, MEAN_RANK)
    )
    return Section(
        9,
        "Beyond the paper",
        "Nothing: the paper has one scalar (the sum of T) and no kernels of T. The spaces here come from the "
        "same pass.",
        "Maps of the energy and centred energy of T; kernels of T (dds, linear_cka, rsa); blends; corrections for "
        f"hubs; directed re-ranking. {len(data.tasks)} encoders, {data.scale.images} images. Options were chosen "
        f"beforehand, only on the targets `chosen` of the oracle `{ORACLE}`: the result is the space `transfer`, "
        "dds with directed re-ranking at ridge 1. Reported on the held-out targets, `kept`, and on all targets of the "
        f"other world's oracle `{OTHER_WORLD}`, on which no option was chosen (its targets are the same tasks). "
        "SVCCA, linear CKA, RSA and DDS use the same T on the same images.",
        verdicts.VIEWS_RULE,
        verdicts.default(held_out_gains, others, first, popular),
        "`transfer` over g\\*x: "
        + ", ".join(f"{figure} {value.mean:+.2f}" for figure, value in held_out_gains.items())
        + " (kept)"
        + "".join(f"; Spearman {gain['Spearman'].mean:+.2f} ({part})" for part, gain in others.items())
        + f"; same task first {first[0]:.0%} against {first[1]:.0%}; {len(passed)} spaces meet the rule in means",
        body,
        {"beyond.png": ("Agreement and retrieval of every space, with intervals", picture)},
    )


def _tasks(retrieval: dict[str, Retrieval], order: list[str], n: int) -> str:
    """How well models of the same task are retrieved."""
    first = next(iter(retrieval.values()))
    rows = [
        [name, shown(retrieval[name].first, False), shown(retrieval[name].average_precision, False)]
        for name in order
        if name in retrieval
    ]
    rows.append([RANDOM, f"{first.random_first:.2f}", f"{first.random_average_precision:.2f}"])
    return (
        f"Retrieving models of the same task among all {n}, probes {ORACLE}; {first.queries} models share their task "
        "with another:\n\n" + table(["space", "same task first", "average precision"], rows)
    )


def _passes(name: str, held_out: Evaluation, retrieval: dict[str, Retrieval]) -> bool:
    better = all(value.mean > 0 for value in gains(held_out, name, GXI).values())
    return better and bool(retrieval[name].first.mean >= retrieval[GXI].first.mean)


def _met(
    names: list[str], held_out: Evaluation, other_world: Evaluation | None, retrieval: dict[str, Retrieval]
) -> str:
    rows = []
    for name in names:
        if name == GXI:
            continue
        near = gains(held_out, name, GXI)
        far = gains(other_world, name, GXI) if other_world is not None else {}
        rows.append(
            [
                name,
                *(_better(value) for value in near.values()),
                *(_better(value) for value in far.values()),
                f"{retrieval[name].first.mean - retrieval[GXI].first.mean:+.2f}",
                "yes" if _passes(name, held_out, retrieval) else "no",
            ]
        )
    head = [f"{figure}, kept" for figure in GAINS] + (
        [f"{figure}, {OTHER_WORLD}" for figure in GAINS] if other_world is not None else []
    )
    return (
        "The rule, space by space, against gradient\\*input (+ or − if its interval excludes 0, else ~; the last "
        "column is of means):\n\n" + table(["space", *head, "same task first", "meets the rule"], rows)
    )


def _better(value: Interval) -> str:
    sign = "+" if value.low > 0 else "−" if value.high < 0 else "~"
    return f"{sign} ({value.mean:+.2f})"


def _triple(value: Interval) -> tuple[float, float, float]:
    return float(value.mean), float(value.low), float(value.high)
