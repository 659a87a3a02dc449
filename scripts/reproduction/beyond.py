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

#: Figure -> (name in an evaluation, K, sign that makes a gain positive).
GAINS = {"Spearman": ("spearman", 5, 1), "Kendall": ("kendall", 5, 1), "regret@1": ("relative_regret", 1, -1)}
COLUMNS = {
    "P@5": ("precision", 5),
    "Spearman": ("spearman", 5),
    "Kendall": ("kendall", 5),
    "regret@1": ("relative_regret", 1),
    "regret@5": ("relative_regret", 5),
}

#: A blend of three kinds of views, in equal shares.
BLEND = "⅓ dds + ⅓ centred energy + ⅓ saliency of the energy"

#: What differences are taken to.
REFERENCES = (GXI, POPULARITY, MEAN_RANK, "SVCCA")


def gains(outcome: Evaluation, method: str, reference: str) -> dict[str, Interval]:
    """What a method gains over a reference in the figures of the rule; positive is better."""
    found = {}
    for figure, (name, k, sign) in GAINS.items():
        gap = outcome.difference(method, reference, name, k)
        found[figure] = gap if sign > 0 else Interval(-gap.mean, -gap.high, -gap.low)
    return found


def beyond(data: Data) -> Section:
    """Whether a space beyond the paper's is the better default."""
    by_probe = {probe: data.views(probe) for probe in (ORACLE, OTHER_WORLD)}
    names = list(by_probe[ORACLE])
    parts: dict[str, Evaluation] = {}
    for truth in (ORACLE, OTHER_WORLD):
        if oracle(truth) is None:
            continue
        for probe, matrices in by_probe.items():
            outcome = data.judge(matrices, truth)
            for half in (splits.SELECTION, splits.HELD_OUT):
                parts[f"oracle {truth}, {half} targets, probes {probe}"] = outcome.over(
                    splits.split(outcome.targets, half)
                )
            parts[f"oracle {truth}, all targets, probes {probe}"] = outcome
    found: dict[str, Retrieval] = {}
    for name in names:
        one = same_task(by_probe[ORACLE][name], data.task_of())
        assert one is not None
        found[name] = one
    aside = parts[f"oracle {ORACLE}, {splits.HELD_OUT} targets, probes {ORACLE}"]
    elsewhere = parts.get(f"oracle {OTHER_WORLD}, all targets, probes {ORACLE}")
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
        part: one.difference(measures.TRANSFER, MEAN_RANK, "spearman")
        for part, one in parts.items()
        if one is aside or part in others
    }
    kept = gains(aside, measures.TRANSFER, GXI)
    first = (float(found[measures.TRANSFER].first.mean), float(found[GXI].first.mean))
    order = [*names, RANDOM, POPULARITY, MEAN_RANK]
    chance = found[GXI]
    # What options were chosen on proves nothing, and is shown nowhere.
    shown_parts = {
        part: one
        for part, one in parts.items()
        if not part.startswith((f"oracle {ORACLE}, chosen", f"oracle {ORACLE}, all"))
    }
    body = [_tasks(found, order, len(data.models))]
    for part, outcome in shown_parts.items():
        if outcome is aside or part in others:
            rows = [
                [name, *(shown(measures.of(outcome, name, figure, k), False) for figure, k in COLUMNS.values())]
                for name in order
            ]
            body += [f"{part[:1].upper()}{part[1:]}: {', '.join(outcome.targets)}.", table(["space", *COLUMNS], rows)]
    parted = {part: one for part, one in shown_parts.items() if part not in others and one is not aside}
    if parted:
        rows = [
            [name, *(shown(measures.of(one, name, "spearman"), False) for one in parted.values())] for name in order
        ]
        body += ["Spearman on the two splits of the other world's oracle:", table(["space", *parted], rows)]
    differences = []
    for part, outcome in shown_parts.items():
        for method, reference in (*((measures.TRANSFER, one) for one in REFERENCES), (BLEND, GXI), (BLEND, "SVCCA")):
            gap = [outcome.difference(method, reference, "precision"), *gains(outcome, method, reference).values()]
            differences.append([part, f"{method} over {reference}", *map(shown, gap)])
    body += [
        "Paired differences; positive is better in every column:",
        table(["evaluated on", "gain of", "P@5", *GAINS], differences),
    ]
    body.append(_met(names, aside, elsewhere, found))
    passed = [name for name in names if name not in PAPER and _passes(name, aside, found)]
    judged = {f"Spearman, {ORACLE}, kept targets": aside}
    if elsewhere is not None:
        judged[f"Spearman, {OTHER_WORLD}, all targets"] = elsewhere
    panels = {
        heading: [_triple(measures.of(one, name, "spearman")) for name in order] for heading, one in judged.items()
    }
    nothing = {RANDOM: (chance.random_first,) * 3}
    panels["same task first"] = [
        _triple(found[name].first) if name in found else nothing.get(name, (np.nan,) * 3) for name in order
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
        f"beforehand, on the targets `chosen` of the oracle `{ORACLE}` alone: the outcome is the space `transfer`, "
        "dds with directed re-ranking at ridge 1. Reported on the other half, `kept`, and on all targets of the "
        f"other world's oracle `{OTHER_WORLD}`, which no option was chosen on (its targets are the same tasks). "
        "SVCCA, linear CKA, RSA and DDS are of the same T on the same images.",
        verdicts.VIEWS_RULE,
        verdicts.default(kept, others, first, popular),
        f"`transfer` over g\\*x: {', '.join(f'{figure} {value.mean:+.2f}' for figure, value in kept.items())} (kept)"
        + "".join(f"; Spearman {one['Spearman'].mean:+.2f} ({part})" for part, one in others.items())
        + f"; same task first {first[0]:.0%} against {first[1]:.0%}; {len(passed)} spaces meet the rule in means",
        body,
        {"beyond.png": ("Agreement and retrieval of every space, with intervals", picture)},
    )


def _tasks(found: dict[str, Retrieval], order: list[str], n: int) -> str:
    """How well models of the same task are found."""
    one = next(iter(found.values()))
    rows = [
        [name, shown(found[name].first, False), shown(found[name].average_precision, False)]
        for name in order
        if name in found
    ]
    rows.append([RANDOM, f"{one.random_first:.2f}", f"{one.random_average_precision:.2f}"])
    return (
        f"Finding models of the same task among all {n}, probes {ORACLE}; {one.queries} models share their task with "
        "another:\n\n" + table(["space", "same task first", "average precision"], rows)
    )


def _passes(name: str, aside: Evaluation, found: dict[str, Retrieval]) -> bool:
    better = all(value.mean > 0 for value in gains(aside, name, GXI).values())
    return better and bool(found[name].first.mean >= found[GXI].first.mean)


def _met(names: list[str], aside: Evaluation, elsewhere: Evaluation | None, found: dict[str, Retrieval]) -> str:
    rows = []
    for name in names:
        if name == GXI:
            continue
        near = gains(aside, name, GXI)
        far = gains(elsewhere, name, GXI) if elsewhere is not None else {}
        rows.append(
            [
                name,
                *(_better(value) for value in near.values()),
                *(_better(value) for value in far.values()),
                f"{found[name].first.mean - found[GXI].first.mean:+.2f}",
                "yes" if _passes(name, aside, found) else "no",
            ]
        )
    head = [f"{figure}, kept" for figure in GAINS] + (
        [f"{figure}, {OTHER_WORLD}" for figure in GAINS] if elsewhere is not None else []
    )
    return (
        "The rule, space by space, against gradient\\*input (+ or − if its interval excludes 0, else ~; the last "
        "column is of means):\n\n" + table(["space", *head, "same task first", "meets the rule"], rows)
    )


def _better(value: Interval) -> str:
    word = "+" if value.low > 0 else "−" if value.high < 0 else "~"
    return f"{word} ({value.mean:+.2f})"


def _triple(value: Interval) -> tuple[float, float, float]:
    return float(value.mean), float(value.low), float(value.high)
