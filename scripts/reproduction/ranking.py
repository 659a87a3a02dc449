"""Claims about rankings: methods (1), probe images (2), bits (3), the bad case (7)."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
from scipy.stats import spearmanr

from modelspace import evaluation, zoo
from modelspace.evaluation.comparison import MEAN_RANK, POPULARITY, RANDOM
from modelspace.plots import agreement_curves
from modelspace.representations import maps
from reproduction import drawing, measures, passes, structure, verdicts
from reproduction.data import ORACLE, OTHER_WORLD, PUBLISHED, Data, oracle
from reproduction.page import FIGURES, Section, agreement, table
from reproduction.passes import PAPER, PROBES
from reproduction.verdicts import shown

GXI, LRP, SALIENCY = PAPER


def methods(data: Data) -> Section:
    """Claim 1."""
    outcomes = {
        name: {probe: data.evaluate({kind: data.affinity(probe, kind) for kind in PAPER}, name) for probe in PROBES}
        for name in (ORACLE, PUBLISHED, OTHER_WORLD)
        if oracle(name) is not None
    }
    ours = outcomes[ORACLE]
    at = data.at(data.tasks)
    encoders = np.ix_(at, at)
    near = {
        probe: measures.rank_agreement(data.affinity(probe, GXI)[encoders], data.affinity(probe, LRP)[encoders])
        for probe in PROBES
    }
    gaps = {
        method: [
            (outcome.difference(method, SALIENCY, "precision"), outcome.difference(method, SALIENCY, "spearman"))
            for outcome in ours.values()
        ]
        for method in (GXI, LRP)
    }
    verdict = verdicts.methods(near, gaps)
    body = []
    for name, sets in outcomes.items():
        first = next(iter(sets.values()))
        rows = [row for probe, outcome in sets.items() for row in agreement(outcome, PAPER, [probe])]
        rows += agreement(first, (RANDOM, POPULARITY, MEAN_RANK), ["-"])
        body.append(f"Oracle `{name}`: {len(first.targets)} targets, {len(first.sources)} sources, first 5 relevant.")
        body.append(table(["probes", "method", *FIGURES], rows))
    differences = []
    for name, sets in outcomes.items():
        for probe, outcome in sets.items():
            for method, reference in ((GXI, SALIENCY), (GXI, POPULARITY), (GXI, MEAN_RANK), (SALIENCY, MEAN_RANK)):
                p, s = (outcome.difference(method, reference, figure) for figure in ("precision", "spearman"))
                r = outcome.difference(method, reference, "relative_regret", 1)
                differences.append([name, probe, f"{method} minus {reference}", shown(p), shown(s), shown(r)])
    body.append(
        "Paired differences over the same targets. Lower regret is better; it is in units of loss, or in ranks for the "
        "published order. ε-LRP differs from gradient\\*input by less than the digits shown."
    )
    body.append(table(["oracle", "probes", "difference", "P@5", "Spearman", "regret@1"], differences))
    correlations = {
        probe: (near[probe], measures.rank_agreement(data.affinity(probe, GXI), data.affinity(probe, LRP)))
        for probe in PROBES
    }
    body.append("Spearman between the affinities of gradient\\*input and of ε-LRP (ε = 1e-4):")
    body.append(
        table(
            ["probes", "20 encoders", f"all {len(data.models)} models"],
            [[probe, f"{few:.4f}", f"{all_models:.4f}"] for probe, (few, all_models) in correlations.items()],
        )
    )
    body.append(_canvas(data))
    published = outcomes[PUBLISHED]
    body.append(
        "The paper's curves against the published order, on Taskonomy's own networks: P@1 0.72 to 0.83 and P@5 0.67 "
        "to 0.74 for gradient\\*input and ε-LRP, 0.67 to 0.78 and 0.52 to 0.62 for saliency. Here, with other "
        "networks of the same tasks: "
        + "; ".join(
            f"{method.replace('*', chr(92) + '*')} P@1 {_range(published, method, 1)}, P@5 "
            f"{_range(published, method, 5)}"
            for method in PAPER
        )
        + "."
    )
    return Section(
        1,
        "Methods compared",
        "gradient\\*input and ε-LRP almost coincide, and both predict transfer better than saliency.",
        f"The {len(data.tasks)} encoders of Taskonomy's tasks; {data.scale.images} images of each of three probe "
        f"sets (rendered rooms, crops of photographs, rendered yards); maps on a canvas of {passes.CANVAS} x "
        f"{passes.CANVAS}, 32 bits. Evaluated against transfers measured with these networks (`rooms`: 18 targets, 3 "
        "seeds of the readout), against the published order of Taskonomy's networks for the same tasks, and against "
        "transfers measured in the other world (`yards`).",
        verdicts.METHODS_RULE,
        verdict,
        f"ρ(g\\*x, LRP) ≥ {verdicts.floored(min(near.values()))}; g\\*x − saliency in Spearman "
        + ", ".join(f"{s.mean:+.2f}" for _, s in gaps[GXI])
        + "; P@5 g\\*x "
        + ", ".join(f"{measures.of(outcome, GXI, 'precision').mean:.2f}" for outcome in ours.values())
        + f", popularity {measures.of(ours['rooms'], POPULARITY, 'precision').mean:.2f}",
        body,
        {
            "methods.png": (
                "P@K and R@K of the three methods on three probe sets, with popularity, against the oracle rooms",
                _curves(ours, "Agreement with measured transfer in rooms"),
            ),
            "methods_published.png": (
                "P@K and R@K of the three methods on three probe sets against Taskonomy's published order",
                _curves(published, "Agreement with Taskonomy's published order"),
            ),
        },
    )


def _range(sets: dict[str, evaluation.Evaluation], method: str, k: int) -> str:
    values = [float(measures.of(outcome, method, "precision", k).mean) for outcome in sets.values()]
    return f"{min(values):.2f} to {max(values):.2f}"


def _curves(sets: dict[str, evaluation.Evaluation], title: str) -> drawing.Picture:
    panels = {}
    for figure, word in (("precision", "P@K"), ("recall", "R@K")):
        for probe, outcome in sets.items():
            panels[f"{word}, {probe}"] = {
                method: list(outcome.curves(figure)[method].mean) for method in (*PAPER, POPULARITY, MEAN_RANK, RANDOM)
            }
    ks = next(iter(sets.values())).ks
    return drawing.line_panels(
        ks, panels, rows=2, xlabel="K", title=title, gray=(POPULARITY, MEAN_RANK, RANDOM), ticks=(1, 5, 10, 15, len(ks))
    )


def _canvas(data: Data) -> str:
    """The effect of the canvas: as large as the encoders' input, as in the paper."""
    side = 64
    at = np.ix_(data.at(data.tasks), data.at(data.tasks))
    parts = []
    for kind in (GXI, SALIENCY):
        large = measures.affinity(np.stack([passes.on_canvas(name, side, data.scale)[kind] for name in data.tasks]))
        small = data.affinity("rooms", kind)[at]
        tables = {"large": (data.tasks, large), "small": (data.tasks, small)}
        outcome = evaluation.evaluate(tables, evaluation.load(ORACLE))
        parts.append(
            f"{kind.replace('*', chr(92) + '*')} agrees with itself with Spearman "
            f"{measures.rank_agreement(large, small):.2f}, and has P@5 "
            f"{shown(measures.of(outcome, 'large', 'precision'), False)}, Spearman "
            f"{shown(measures.of(outcome, 'large', 'spearman'), False)}"
        )
    return (
        f"The paper's canvas is as wide as the encoders' input. With {side} x {side} instead of {passes.CANVAS} x "
        f"{passes.CANVAS}, on the rooms: " + "; ".join(parts) + "."
    )


SIZES = (25, 50, 100, 200, 400, 800)


def probe_sets(data: Data) -> Section:
    """Claim 2."""
    at = np.ix_(data.at(data.tasks), data.at(data.tasks))
    between, rows = [], []
    for kind in PAPER:
        for first, second in combinations(PROBES, 2):
            encoders = measures.rank_agreement(data.affinity(first, kind)[at], data.affinity(second, kind)[at])
            all_models = measures.rank_agreement(data.affinity(first, kind), data.affinity(second, kind))
            rows.append([kind, f"{first} and {second}", f"{encoders:.3f}", f"{all_models:.3f}"])
            if kind != SALIENCY:
                between.append(encoders)
    oracle_rows, precision = [], []
    for kind in PAPER:
        outcome = data.evaluate({probe: data.affinity(probe, kind) for probe in PROBES})
        oracle_rows += [[kind, *row] for row in agreement(outcome, PROBES)]
        if kind != SALIENCY:
            precision.append([float(measures.of(outcome, probe, "precision").mean) for probe in PROBES])
    sizes, results, panels = _sizes(data)
    full = {kind: results[kind][sizes[-1]] for kind in results}
    hundred = results[GXI][min(100, sizes[-1])]
    verdict = verdicts.probe_sets(
        between,
        precision,
        [float(np.mean(hundred["matrix"]))],
        [float(np.mean(np.abs(np.array(hundred["p5"]) - full[GXI]["p5"][0])))],
    )
    size_rows = [
        [
            kind,
            str(size),
            str(len(figures["p5"])),
            _spread(figures["matrix"], 3),
            _spread(figures["each other"], 3),
            _spread(figures["p5"]),
            _spread(figures["spearman"]),
        ]
        for kind, by_size in results.items()
        for size, figures in by_size.items()
    ]
    return Section(
        2,
        "Probe set and size",
        "The result hardly depends on the probe set (three very different ones), nor on its size (100 to 2,000 "
        "images).",
        f"The encoders, maps and oracle `{ORACLE}` of claim 1. Size: disjoint draws of n of {sizes[-1]} rooms, up to "
        f"{DRAWS} of a size, compared with all {sizes[-1]} (which include them) and with each other.",
        verdicts.PROBES_RULE,
        verdict,
        f"between sets ρ {min(between):.2f} to {max(between):.2f}; 100 images against {sizes[-1]}: ρ "
        f"{np.mean(hundred['matrix']):.3f}",
        [
            "Spearman between the affinities on two sets:",
            table(["method", "sets", f"{len(data.tasks)} encoders", f"all {len(data.models)} models"], rows),
            f"Agreement with the oracle `{ORACLE}` (random P@5 0.26, popularity as in claim 1):",
            table(["method", "probes", *FIGURES], oracle_rows),
            "Number of images; mean over the draws, with minimum and maximum in brackets:",
            table(
                [
                    "method",
                    "images",
                    "draws",
                    f"Spearman with {sizes[-1]}",
                    "Spearman with each other",
                    "P@5",
                    "Spearman, oracle",
                ],
                size_rows,
            ),
        ],
        {
            "size.png": (
                "Agreement with the matrix of all images, and with the oracle, against the number of probe images",
                drawing.line_panels(
                    sizes,
                    panels,
                    xlabel="probe images",
                    title="Number of probe images",
                    log=True,
                    ticks=sizes,
                    height=2.9,
                ),
            )
        },
    )


DRAWS = 8


def _sizes(
    data: Data,
) -> tuple[list[int], dict[str, dict[int, dict[str, list[float]]]], dict[str, dict[str, list[float]]]]:
    """The sizes; method to size to figures, one value per draw; and the panels of the picture."""
    most = data.scale.many
    sizes = [size for size in SIZES if size < most] + [most]
    order = np.random.default_rng(0).permutation(most)
    results: dict[str, dict[int, dict[str, list[float]]]] = {}
    for kind in (GXI, SALIENCY):
        per_image = measures.cosines(passes.stacked("rooms", kind, data.scale, data.tasks, most))
        whole = per_image.mean(axis=0)
        results[kind] = {}
        for size in sizes:
            draws = [per_image[order[k : k + size]].mean(axis=0) for k in range(0, most - size + 1, size)][:DRAWS]
            outcome = evaluation.evaluate(
                {str(k): (data.tasks, matrix) for k, matrix in enumerate(draws)}, evaluation.load(ORACLE)
            )
            results[kind][size] = {
                "matrix": [measures.rank_agreement(matrix, whole) for matrix in draws],
                "each other": [measures.rank_agreement(a, b) for a, b in pairwise(draws)],
                "p5": [float(measures.of(outcome, str(k), "precision").mean) for k in range(len(draws))],
                "spearman": [float(measures.of(outcome, str(k), "spearman").mean) for k in range(len(draws))],
            }
    headings = {
        "matrix": f"Spearman with {most} images",
        "p5": f"P@5, oracle {ORACLE}",
        "spearman": f"Spearman, oracle {ORACLE}",
    }
    panels = {
        heading: {
            kind: [float(np.mean(figures[key])) for figures in by_size.values()] for kind, by_size in results.items()
        }
        for key, heading in headings.items()
    }
    return sizes, results, panels


def _spread(values: list[float], digits: int = 2) -> str:
    if not values:
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def bits(data: Data) -> Section:
    """Claim 3."""
    levels = [1, 2, 3, 4, 8, 16]
    n = data.scale.images
    rows, curves, measured = [], {}, {}
    for kind in PAPER:
        stacked = passes.stacked("rooms", kind, data.scale, data.models)
        plain = measures.cosines(stacked)
        matrices = {"32": plain.mean(axis=0)}
        intervals: dict[int, tuple[float, float, float]] = {}
        for level in levels:
            rounded = measures.cosines(np.stack([_rounded(rows_of_model, level) for rows_of_model in stacked]))
            matrices[str(level)] = rounded.mean(axis=0)
            rho = measures.rank_agreement(matrices[str(level)], matrices["32"])
            margin = 1.96 * _jackknife(rounded, plain)
            intervals[level] = (rho, rho - margin, min(1.0, rho + margin))
        outcome = data.evaluate(matrices)
        for level in levels:
            rho, low, high = intervals[level]
            paper = verdicts.PAPER_BITS.get(level)
            rows.append(
                [
                    kind,
                    str(level),
                    f"{rho:.4f} [{low:.4f}, {high:.4f}]",
                    "" if paper is None else f"{paper:.2f}",
                    shown(measures.of(outcome, str(level), "precision"), False),
                    shown(outcome.difference(str(level), "32", "precision")),
                    shown(outcome.difference(str(level), "32", "spearman")),
                ]
            )
        rows.append([kind, "32", "1", "1", shown(measures.of(outcome, "32", "precision"), False), "", ""])
        curves[kind] = [intervals[level][0] for level in levels]
        if kind == GXI:
            measured = {level: intervals[level][0] for level in levels}
    curves["the paper"] = [verdicts.PAPER_BITS.get(level, np.nan) for level in levels]
    finite = [i for i, level in enumerate(levels) if level in verdicts.PAPER_BITS]
    picture = agreement_curves(
        [levels[i] for i in finite],
        {name: [values[i] for i in finite] for name, values in curves.items()},
        xlabel="bits per map element",
        ylabel="Spearman with the affinities of 32 bits",
        log=True,
        baselines=("the paper",),
    )
    verdict = verdicts.bits(measured)
    return Section(
        3,
        "Bits per map element",
        "Maps of 1, 2, 4, 8 and 16 bits keep Spearman 0.56, 0.71, 0.85, 0.96 and 0.99 of the 32-bit affinity matrix.",
        f"All {len(data.models)} models, {n} rooms; each map rounded as when stored "
        "(`modelspace.representations.maps`: uniform between the image's extremes at 8 bits and more, a companded "
        "scale at 2 to 4, the sign at 1). Intervals over the probe images: jackknife over tenths.",
        verdicts.BITS_RULE,
        verdict,
        "g\\*x ρ " + ", ".join(f"{level} bit{'s' * (level > 1)} {measured[level]:.3f}" for level in levels),
        [
            table(
                [
                    "method",
                    "bits",
                    "Spearman with 32 bits",
                    "paper",
                    "P@5",
                    "P@5 minus 32 bits",
                    "Spearman, oracle, minus 32 bits",
                ],
                rows,
            )
        ],
        {"bits.png": ("Spearman with the affinities of 32 bits against the bits per element", picture)},
    )


def _jackknife(first: np.ndarray, second: np.ndarray, parts: int = 10) -> float:
    """Standard error over the images of the rank agreement of two mean matrices, leaving out one part at a time.

    A bootstrap would be biased: repeated images alone lower the agreement.
    """
    fold = np.arange(len(first)) % parts
    values = [
        measures.rank_agreement(first[fold != k].mean(axis=0), second[fold != k].mean(axis=0)) for k in range(parts)
    ]
    return float(np.sqrt((parts - 1) * np.var(values)))


def _rounded(rows: np.ndarray, level: int) -> np.ndarray:
    """Maps as read back from storage, with unit norm."""
    codes, scales = maps.quantise(rows, level)
    return maps.unit(maps.dequantise(codes, scales, level, rows.shape[1])).astype(np.float32)


PLACES = "class_places"


def bad_case(data: Data) -> Section:
    """Claim 7."""
    truth = evaluation.load(ORACLE)
    matrices = {kind: data.views("rooms")[kind] for kind in (GXI, SALIENCY, measures.TRANSFER, "SVCCA")}
    outcome = data.evaluate(matrices)
    targets = outcome.targets
    by_method = {name: outcome.row(name).per_target for name in (*matrices, POPULARITY)}
    assert truth.loss is not None
    assert truth.seed_losses is not None
    loss = np.where(truth.self_pairs(), np.nan, truth.loss)
    between_seeds = np.where(truth.self_pairs(), np.nan, truth.seed_losses.std(axis=0))
    at = [truth.targets.index(name) for name in targets]
    constant = np.array([zoo.card(name).details["constant_loss"] for name in targets])
    deviation = np.nanstd(loss, axis=1)[at]
    facts = {
        "spread": deviation / constant,
        "spread over mean": deviation / np.nanmean(loss, axis=1)[at],
        "best to median": ((np.nanmedian(loss, axis=1) - np.nanmin(loss, axis=1))[at]) / constant,
        "noise": np.nanmean(between_seeds, axis=1)[at] / deviation,
        "undertrained": np.array([zoo.card(name).ratio for name in targets]),
        "nearness": np.array([np.delete(matrices[GXI][i], i).max() for i in data.at(targets)]),
    }
    labels = {
        "spread": "standard deviation of the losses over sources / constant predictor's loss",
        "spread over mean": "standard deviation of the losses over sources / their mean",
        "best to median": "median minus best loss / constant predictor's loss",
        "noise": "standard deviation between seeds / over sources",
        "undertrained": "the target's own loss / constant predictor's loss",
        "nearness": "largest gradient\\*input affinity to another encoder",
    }
    rho = by_method[GXI]["spearman"]
    place = targets.index(PLACES)
    order = list(np.argsort(facts["spread"], kind="stable"))
    verdict = verdicts.places(
        (float(rho[place]), float(np.median(rho))),
        (float(facts["spread"][place]), order.index(place) + 1, len(targets)),
    )
    rows = []
    for i in np.argsort(rho, kind="stable"):
        row = [f"`{targets[i]}`"]
        for method in (GXI, SALIENCY, measures.TRANSFER, POPULARITY):
            figures = by_method[method]
            row.append(
                f"{figures['spearman'][i]:+.2f} / {figures['precision'][i, 4]:.1f} "
                f"/ {figures['relative_regret'][i, 0]:.2f}"
            )
        row += [f"{facts[name][i]:.3f}" for name in ("spread", "best to median", "noise", "undertrained")]
        row += [", ".join(_first(data, matrices[GXI], targets[i], 2)), ", ".join(_best(truth, targets[i], 2))]
        rows.append(row)
    why = []
    for name, values in facts.items():
        cells = []
        for method in (GXI, SALIENCY, measures.TRANSFER):
            cells.append(_correlation(values, by_method[method]["spearman"]))
        why.append([labels[name], *cells])
    picture = drawing.scatter_panels(
        list(targets),
        [zoo.card(name).group for name in targets],
        [
            (
                "spread of losses over sources / constant predictor's loss",
                "Spearman of gradient*input",
                facts["spread"],
                rho,
            ),
            (
                "the target's own loss / constant predictor's loss",
                "Spearman of gradient*input",
                facts["undertrained"],
                rho,
            ),
        ],
        marked=[PLACES, *(targets[i] for i in np.argsort(rho)[:4])],
        title="Where gradient*input ranks badly",
    )
    return Section(
        7,
        "The bad case",
        "For the place-classification target the ranking differs from the oracle's, since most sources transfer "
        "about equally there.",
        f"The encoders, {data.scale.images} rooms and oracle `{ORACLE}` of claim 1, target by target.",
        verdicts.PLACES_RULE,
        verdict,
        f"class_places: Spearman {rho[place]:+.2f} (median {np.median(rho):+.2f}), spread rank "
        f"{order.index(place) + 1} of {len(targets)}",
        [
            "Targets, worst for gradient\\*input first. Figures of a method: Spearman / P@5 / regret@1.",
            table(
                [
                    "target", GXI, SALIENCY, measures.TRANSFER, POPULARITY, "spread", "median − best", "seed noise",
                    "own loss", "gradient\\*input's first two", "best two",
                ],
                rows,
            ),
            "Correlates of a bad ranking: Spearman, over the targets, of each property with the method's Spearman "
            "(p in brackets, 10,000 permutations):",
            table(["property of the target", GXI, SALIENCY, measures.TRANSFER], why),
            _why(targets, rho, matrices[GXI], truth, data),
            _layers(data, [targets[i] for i in np.argsort(rho, kind="stable")[:6]]),
            _published_spread(),
        ],
        {
            "bad_case.png": (
                "Agreement of each target against the spread of its losses and against its own loss", picture,
            )
        },
    )  # fmt: skip


def _correlation(first: np.ndarray, second: np.ndarray) -> str:
    rho = spearmanr(first, second).statistic
    rng = np.random.default_rng(0)
    ranks = np.argsort(np.argsort(second))
    centred = np.argsort(np.argsort(first)) - (len(first) - 1) / 2
    drawn = np.array([centred @ rng.permutation(ranks) for _ in range(10_000)])
    reached = (np.abs(drawn) >= abs(centred @ ranks) - 1e-9).mean()
    return f"{rho:+.2f} ({reached:.3f})"


def _first(data: Data, matrix: np.ndarray, target: str, count: int) -> list[str]:
    at = data.at(data.tasks)
    row = matrix[data.models.index(target), at]
    return [data.tasks[i] for i in np.argsort(-row, kind="stable") if data.tasks[i] != target][:count]


def _best(truth: evaluation.Oracle, target: str, count: int) -> list[str]:
    row = truth.truth()[truth.targets.index(target)]
    return [truth.sources[i] for i in np.argsort(-np.where(np.isnan(row), -np.inf, row), kind="stable")][:count]


def _why(targets: tuple[str, ...], rho: np.ndarray, matrix: np.ndarray, truth: evaluation.Oracle, data: Data) -> str:
    """The groups of the first-ranked models, and the agreement for targets where that is wrongly a 2D model."""
    group = data.group_of(data.tasks)
    first = {name: group[_first(data, matrix, name, 1)[0]] for name in targets}
    best = {name: group[_best(truth, name, 1)[0]] for name in targets}
    wrong = [name for name in targets if first[name] == "2D" and best[name] != "2D"]
    right = [name for name in targets if name not in wrong]
    means = [np.mean([rho[targets.index(name)] for name in names]) for names in (wrong, right)]
    return (
        f"gradient\\*input ranks a model of the group 2D first for {sum(value == '2D' for value in first.values())} of "
        f"{len(targets)} targets, the oracle for {sum(value == '2D' for value in best.values())}. Where it does "
        f"and the oracle does not ({', '.join(wrong)}), its mean Spearman is {means[0]:+.2f}, for the other targets "
        f"{means[1]:+.2f}."
    )


def _layers(data: Data, worst: list[str]) -> str:
    """Whether another layer is better for the worst targets."""
    matrices = {
        layer: measures.affinity(np.stack([passes.at_layer(name, layer, data.scale)[GXI] for name in data.tasks]))
        for layer in structure.DEPTH
    }
    outcome = evaluation.evaluate(
        {layer: (data.tasks, matrix) for layer, matrix in matrices.items()}, evaluation.load(ORACLE)
    )
    by_layer = {
        layer: dict(zip(outcome.targets, outcome.row(layer).per_target["spearman"], strict=True)) for layer in matrices
    }
    rows = [[f"`{name}`", *(f"{values[name]:+.2f}" for values in by_layer.values())] for name in worst]
    return f"The worst targets at other layers, Spearman of gradient\\*input, {data.scale.deep} rooms:\n\n" + table(
        ["target", *by_layer], rows
    )


def _published_spread() -> str:
    """The spread of class_places in Taskonomy's measurements, which is the claim's reason."""
    parts = []
    for name, description in (
        ("taskonomy-wins-pixels-16k", "win rates over training from pixels"),
        ("taskonomy-wins-task-16k", "win rates over the target's task-specific network"),
    ):
        truth = evaluation.load(name)
        spread = np.nanstd(truth.truth(), axis=1)
        place = int((spread < spread[truth.targets.index(PLACES)]).sum()) + 1
        parts.append(
            f"{description}: {spread[truth.targets.index(PLACES)]:.3f}, rank {place} of {len(spread)} from the lowest "
            f"(median {np.median(spread):.3f})"
        )
    return (
        "In Taskonomy's measurements, the standard deviation over the sources of class_places is, for "
        + "; for ".join(parts)
        + "."
    )
