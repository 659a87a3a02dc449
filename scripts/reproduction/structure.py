"""Claims about the space itself: depth (4), clusters (5), trees of subsets (6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from modelspace import evaluation, zoo
from modelspace.analysis.tree import build_tree
from modelspace.evaluation.comparison import MEAN_RANK, POPULARITY
from modelspace.evaluation.retrieval import same_task
from modelspace.plots import gallery_figure, tree_figure
from reproduction import drawing, measures, passes, verdicts
from reproduction.data import ORACLE, Data
from reproduction.page import FIGURES, Section, agreement, table
from reproduction.passes import PAPER, PROBES
from reproduction.verdicts import shown

GXI, LRP, SALIENCY = PAPER

#: Layers of the encoders, shallow to deep; all twenty have the same.
DEPTH = ("stem", "stages.0", "stages.1", "stages.2", "stages.3", "stages.4", "output")

#: Other architectures, only for uniformity, and the number of their layers.
OTHERS = ("vgg19_objects", "resnet152_objects", "inpainting_rooms", "fcn_segmentation", "fcrn_depth")
LAYERS = 7

#: Columns of the gallery, and its probe images.
GALLERY, ROWS = ("autoencoder", "rgb2depth"), (0, 2, 3)


def depth(data: Data) -> Section:
    """Claim 4."""
    kinds = (GXI, SALIENCY)
    maps = {layer: {name: passes.at_layer(name, layer, data.scale) for name in data.tasks} for layer in DEPTH}
    uniform = {
        kind: np.array(
            [[measures.participation(maps[layer][name][kind]).mean() for layer in DEPTH] for name in data.tasks]
        )
        for kind in kinds
    }
    entropies = {
        kind: np.array([[measures.entropy(maps[layer][name][kind]).mean() for layer in DEPTH] for name in data.tasks])
        for kind in kinds
    }
    trend = {
        kind: measures.mean_and_interval([spearmanr(range(len(DEPTH)), row).statistic for row in uniform[kind]])
        for kind in kinds
    }
    matrices: dict[str, np.ndarray] = {}
    for layer in DEPTH:
        for kind in kinds:
            matrices[f"{kind}, {layer}"] = measures.affinity(np.stack([maps[layer][name][kind] for name in data.tasks]))
        tables = [maps[layer][name]["T"] for name in data.tasks]
        matrices[f"dds, {layer}"] = measures.inner(measures.kernels("dds", tables))
    outcome = evaluation.evaluate(
        {name: (data.tasks, matrix) for name, matrix in matrices.items()}, evaluation.load(ORACLE)
    )
    gain = outcome.difference(f"{GXI}, {DEPTH[-1]}", f"{GXI}, {DEPTH[0]}", "spearman")
    verdict = verdicts.depth(trend, gain)
    rows = []
    for i, layer in enumerate(DEPTH):
        row = [layer]
        for kind in kinds:
            row += [
                shown(measures.mean_and_interval(uniform[kind][:, i]), False),
                f"{entropies[kind][:, i].mean():.3f}",
                f"{measures.pairs(matrices[f'{kind}, {layer}']).mean():.3f}",
            ]
        rows.append(row)
    oracle_rows = agreement(outcome, [f"{kind}, {layer}" for kind in (*kinds, "dds") for layer in DEPTH])
    oracle_rows += agreement(outcome, [POPULARITY, MEAN_RANK])
    last = {
        kind: [
            (layer, outcome.difference(f"{kind}, {DEPTH[-1]}", f"{kind}, {layer}", "spearman")) for layer in DEPTH[:-1]
        ]
        for kind in (*kinds, "dds")
    }
    panels = {
        "uniformity: participation ratio": {kind: list(uniform[kind].mean(axis=0)) for kind in kinds},
        "mean affinity of two encoders": {
            kind: [float(measures.pairs(matrices[f"{kind}, {layer}"]).mean()) for layer in DEPTH]
            for kind in (*kinds, "dds")
        },
        f"Spearman, oracle {ORACLE}": {
            kind: [float(measures.of(outcome, f"{kind}, {layer}", "spearman").mean) for layer in DEPTH]
            for kind in (*kinds, "dds")
        },
    }
    picture = drawing.line_panels(
        range(len(DEPTH)), panels, xlabel="layer, from shallow to deep", title="Depth of the explained layer",
        ticks=range(len(DEPTH)),
        labels=["stem", "0", "1", "2", "3", "4", "T"], top=None, bottom=None, height=2.9,
    )  # fmt: skip
    return Section(
        4,
        "Depth of the explained layer",
        "Shallow layers give uniform maps, deep layers focus on what the task needs.",
        f"The {len(data.tasks)} encoders at {len(DEPTH)} layers, {data.scale.deep} rooms, gradient\\*input and "
        f"saliency of the sum of that layer's output; {len(OTHERS)} other architectures for uniformity. "
        "Participation ratio (Σ|a|)² / (n Σa²) and entropy of |a| / Σ|a| over log n: 1 for a map that is equally "
        "strong everywhere.",
        verdicts.DEPTH_RULE,
        verdict,
        f"depth against uniformity: ρ {trend[GXI].mean:+.2f} (g\\*x), {trend[SALIENCY].mean:+.2f} (saliency); "
        f"deepest less shallowest layer, Spearman {shown(gain)}",
        [
            "Over the encoders: participation ratio [interval over encoders], entropy, mean affinity of two encoders.",
            table(
                ["layer"] + [f"{kind}, {what}" for kind in kinds for what in ("participation", "entropy", "affinity")],
                rows,
            ),
            "Other architectures: participation ratio by layer, shallow to deep.",
            _others(data),
            f"Agreement with the oracle `{ORACLE}` if all encoders are explained at that layer:",
            table(["method, layer", *FIGURES], oracle_rows),
            "Spearman at T minus that at an earlier layer: "
            + "; ".join(
                f"{kind.replace('*', chr(92) + '*')}: " + ", ".join(f"{layer} {shown(value)}" for layer, value in gaps)
                for kind, gaps in last.items()
            )
            + ".",
        ],
        {
            "depth.png": (
                "Uniformity, affinity between encoders and agreement with the oracle from shallow to deep layers",
                picture,
            ),
            "layers.png": ("Maps of two encoders from the shallowest layer to the deepest", _gallery(data, maps)),
        },
    )


def _gallery(data: Data, maps: dict[str, dict[str, dict[str, np.ndarray]]]) -> drawing.Picture:
    models = [name for name in GALLERY if name in data.tasks]
    layers = [layer for layer in DEPTH if layer not in ("stages.1", "stages.3")]
    side = passes.CANVAS
    columns = [[maps[layer][name][GXI][row].reshape(side, side) for row in ROWS] for name in models for layer in layers]
    _, pixels = passes.images("rooms", max(ROWS) + 1)
    return gallery_figure(
        np.array(columns),
        [layer for _ in models for layer in layers],
        [f"room {row}" for row in ROWS],
        images=pixels[list(ROWS)],
        headings=[name for name in models for _ in layers],
        title="gradient*input of the sum of a layer, from shallow to deep",
    )


def _others(data: Data) -> str:
    rows = []
    for name in OTHERS:
        if name not in data.models:
            continue
        for kind in (GXI, SALIENCY):
            values = [
                (layer, float(measures.participation(passes.at_layer(name, layer, data.scale)[kind]).mean()))
                for layer in passes.layers(name, LAYERS)
            ]
            trend = spearmanr(range(len(values)), [value for _, value in values]).statistic
            rows.append(
                [f"`{name}`", kind, ", ".join(f"{layer} {value:.2f}" for layer, value in values), f"{trend:+.2f}"]
            )
    return table(["model", "method", "layers", "ρ with depth"], rows)


#: Family of each classifier, by the building blocks of its architecture.
FAMILIES = {
    "inception": "inception",
    "inception_resnet": "inception",
    **{f"resnet{n}": "resnet" for n in (50, 101, 152)},
    **{f"vgg{n}": "vgg" for n in (16, 19)},
    **{f"mobilenet_{n}": "mobilenet" for n in ("100", "050", "025")},
}
INPAINTING = tuple(f"inpainting_{world}" for world in ("rooms", "faces", "portraits", "patterns"))
SECOND, FIRST = "colorization_2", "colorization"


def clusters(data: Data) -> Section:
    """Claim 5."""
    models = data.models
    objects = tuple(name for name in models if name.endswith("_objects"))
    family = [FAMILIES[zoo.card(name).architecture] for name in objects]
    rows, verdict = [], None
    key = ""
    for probe in PROBES:
        for kind in (*PAPER, "dds", measures.TRANSFER, "gradient*input, hubs csls"):
            matrix = data.views(probe)[kind] if kind not in PAPER else data.affinity(probe, kind)
            symmetric = (matrix + matrix.T) / 2
            four = measures.cluster(symmetric, data.at(INPAINTING))
            five = measures.cluster(symmetric, data.at((*INPAINTING, "inpainting_whole")))
            ten = measures.cluster(symmetric, data.at(objects))
            at = data.at(objects)
            same_family = measures.families(symmetric[np.ix_(at, at)], family)
            rank = _rank(models, matrix, SECOND, FIRST)
            encoder = _rank(models, matrix, "class_1000", None, objects)
            retrieval = same_task(matrix, data.task_of())
            assert retrieval is not None
            rows.append(
                [
                    probe, kind,
                    *(f"{each.share:.2f} (AUC {each.auc:.2f}, p {each.p:.3f})" for each in (four, five, ten)),
                    f"{same_family[0]:.2f} (p {same_family[1]:.3f})", str(rank), str(encoder),
                    shown(retrieval.first, False), shown(retrieval.average_precision, False),
                ]
            )  # fmt: skip
            if (probe, kind) == (PROBES[0], GXI):
                verdict = verdicts.clusters(
                    (four.share, four.p), (ten.share, ten.p), same_family, rank, len(models) - 1
                )
                key = (
                    f"inpainting {four.share:.0%}, classifiers {ten.share:.0%} of the nearest; family AUC "
                    f"{same_family[0]:.2f}; colorization at rank {rank}; same task first {retrieval.first.mean:.0%} "
                    f"(random {retrieval.random_first:.0%})"
                )
                chance = (
                    four.chance,
                    five.chance,
                    ten.chance,
                    retrieval.random_first,
                    retrieval.random_average_precision,
                )
    assert verdict is not None
    near = [
        [
            f"`{name}`",
            *(", ".join(_nearest(models, data.affinity(PROBES[0], kind), name, 4)) for kind in (GXI, SALIENCY)),
        ]
        for name in (*INPAINTING, "inpainting_whole", SECOND, *objects)
    ]
    rows.append(
        [
            "-",
            "random",
            *(f"{value:.2f} (AUC 0.50)" for value in chance[:3]),
            "0.50",
            f"{len(models) / 2:.0f}",
            "",
            f"{chance[3]:.2f}",
            f"{chance[4]:.2f}",
        ]
    )
    tree = build_tree(models, data.affinity(PROBES[0], GXI))
    groups = {name: _label(name, objects) for name in models}
    return Section(
        5,
        "Clusters",
        "Models of one task cluster even across training domains (4 inpainting models); classifiers of one data set "
        "cluster across architectures, the closer the more similar the architectures (10 models); the nearest "
        "neighbour of a second colorization model is the first one.",
        f"All {len(models)} models on {data.scale.images} images of each set: 20 encoders, 18 others (4 inpainting "
        "networks of one architecture trained on rooms, faces, portraits and patterns, 10 classifiers of the rooms' "
        "objects, ...), and a second colorization network of another architecture. First figure: share of each "
        "model's nearest neighbours that belong to its cluster; AUC: probability that a pair within is closer than a "
        "pair across; p: share of random sets, or relabellings of the architectures, that score as high (1,000 draws).",
        verdicts.CLUSTERS_RULE,
        verdict,
        key,
        [
            table(
                [
                    "probes", "method", "4 inpainting", "with inpainting_whole", "10 classifiers", "same family",
                    "rank of colorization", "rank of a classifier for class_1000", "same task first",
                    "average precision",
                ],
                rows,
            ),
            "Nearest four on the rooms:",
            table(["model", GXI, SALIENCY], near),
        ],
        {
            "clusters.png": (
                f"Clustering tree of all {len(models)} models by gradient*input on the rooms",
                tree_figure(tree, groups, title=f"gradient*input, {data.scale.images} rooms, average linkage"),
            )
        },
    )  # fmt: skip


def _label(name: str, objects: Sequence[str]) -> str:
    if name in INPAINTING or name == "inpainting_whole":
        return "inpainting"
    if name in (FIRST, SECOND):
        return "colorization"
    return "classifiers" if name in objects else zoo.card(name).group


def _nearest(models: Sequence[str], matrix: np.ndarray, name: str, count: int) -> list[str]:
    row = matrix[models.index(name)]
    return [models[i] for i in np.argsort(-row, kind="stable") if models[i] != name][:count]


def _rank(
    models: Sequence[str], matrix: np.ndarray, target: str, source: str | None, any_of: Sequence[str] = ()
) -> int:
    """The rank of a source, or of the first of several, for a target."""
    order = _nearest(models, matrix, target, len(models))
    return 1 + min(order.index(name) for name in ((source,) if source else any_of))


def trees(data: Data) -> Section:
    """Claim 6."""
    others = tuple(name for name in data.models if name not in data.tasks and name != SECOND)
    merged = (*data.tasks, *others)
    subsets = {f"{len(data.tasks)} encoders": data.tasks, f"{len(others)} collected models": others}
    rows, shapes = [], {}
    for probe in PROBES:
        for kind in (*PAPER, "dds"):
            matrix = data.views(probe)[kind] if kind == "dds" else data.affinity(probe, kind)
            for method in ("average", "ward"):
                at = data.at(merged)
                large = build_tree(merged, matrix[np.ix_(at, at)], method)
                for name, subset in subsets.items():
                    members = data.at(subset)
                    shape = measures.shape(build_tree(subset, matrix[np.ix_(members, members)], method), large)
                    rows.append(
                        [
                            probe, kind, method, name,
                            f"{shape.correlation:.3f}", f"{shape.random[0]:.2f}, {shape.random[1]:.2f}",
                            f"{shape.kept:.2f}", f"{1 - shape.kept:.2f}",
                            f"{shape.random_kept[0]:.2f}, {shape.random_kept[1]:.2f}",
                        ]
                    )  # fmt: skip
                    if (probe, kind, method) == (PROBES[0], GXI, "average"):
                        shapes[name] = (shape.correlation, shape.kept, shape.random_kept[1])
    at = data.at(merged)
    groups = {name: "encoders of 20 tasks" if name in data.tasks else "collected models" for name in merged}
    large = build_tree(merged, data.affinity(PROBES[0], GXI)[np.ix_(at, at)])
    return Section(
        6,
        "Trees of subsets",
        f"The tree over a subset of models keeps its shape inside the tree over all of them ({len(merged)} = "
        f"{len(data.tasks)} + {len(others)}).",
        f"Trees of the {len(data.tasks)} encoders and of the {len(others)} collected models, each against the tree of "
        f"all {len(merged)}, restricted to the subset. Heights: correlation, over pairs of models, of the heights "
        "at which they join. Clusters: share of the subset's clusters that are also in the merged tree; "
        "Robinson-Foulds: one minus that. Next to them: mean and 97.5th percentile of 1,000 random relabellings.",
        verdicts.TREES_RULE,
        verdicts.trees(shapes),
        "; ".join(
            f"{name}: heights {height:.3f}, clusters kept {share:.0%}" for name, (height, share, _) in shapes.items()
        ),
        [
            table(
                [
                    "probes", "method", "linkage", "subset", "heights", "relabelled", "clusters kept",
                    "Robinson-Foulds", "relabelled kept",
                ],
                rows,
            ),
            "A subset's affinities do not depend on the other models of the space, so only the linkage's averages can "
            "change.",
        ],
        {
            "trees.png": (
                f"The merged tree of {len(merged)} models, with the two subsets marked",
                tree_figure(large, groups, title="The merged tree: gradient*input, rooms, average linkage"),
            )
        },
    )  # fmt: skip
