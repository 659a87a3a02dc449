"""Atlas and report of a registry's models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import Tree, build_tree, cluster_support, nearest_of_vectors
from modelspace.analysis.projection import MAX_EXACT
from modelspace.analysis.tree import MAX_OPTIMAL_ORDER
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.spaces import affinity
from modelspace.spaces.bootstrap import intervals
from modelspace.spaces.kinds import MapSpace, space_of
from modelspace.spaces.neighbours import Ranker, Target
from modelspace.spaces.ranking import PLAIN, Ranking
from modelspace.types import SpaceSpec
from modelspace.verbs.pictures.caption import method_text
from modelspace.verbs.pictures.figures import RESAMPLES, Places, check_size
from modelspace.verbs.pictures.selection import Selection, affinities, columns

if TYPE_CHECKING:
    from modelspace.plots import Atlas, Report
    from modelspace.plots.report import Section

#: Number of nearest models of each model in an atlas.
NEIGHBOURS = 10

#: Largest number of models with intervals, which are computed from the stored maps in about 0.02 s per model.
MAX_INTERVALS = 1000

#: Largest number of models whose neighbours are ranked as by `nearest` if that needs more than affinities: n² scores.
MAX_SCORED = 300

#: Largest number of models in an atlas with the attribution maps of the first probe images.
MAX_THUMBNAILS = 2000
THUMBNAIL_IMAGES = 3

#: Largest number of models whose tree has bootstrap support in an atlas or a report.
MAX_SUPPORT = 100


def atlas_page(path: Path, layout: Places, k: int = NEIGHBOURS, title: str = "") -> Atlas:
    """See `modelspace.workspace.ModelSpace.atlas`."""
    from modelspace.plots import make_atlas

    selection = layout.selection
    spec = selection.row.spec
    n = len(selection.models)
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", "example: `k=10`")
    with Registry.open(path) as registry:
        if n <= MAX_EXACT:
            matrix = affinities(registry, selection)
            tree = _tree(registry, selection, matrix) if n <= MAX_OPTIMAL_ORDER else None
        else:
            matrix, tree = None, None
        nearest = _nearest(registry, selection, matrix, min(k, n - 1))
        thumbnails = _thumbnails(registry, selection) if n <= MAX_THUMBNAILS else {}
    return make_atlas(
        selection.names,
        layout.coordinates,
        selection.groups,
        columns=columns(selection),
        neighbours=(nearest.numbers, nearest.affinities),
        intervals=nearest.bounds,
        tree=tree,
        thumbnails=thumbnails,
        recall=layout.recall,
        title=title or f"{n:,} models, space {spec.name}{_order(spec, n)}",
    )


def report_page(path: Path, layout: Places, threshold: float = 0.98, title: str = "") -> Report:
    """See `modelspace.workspace.ModelSpace.report`."""
    from modelspace.plots import make_report

    selection = layout.selection
    check_size(selection, "a report")
    with Registry.open(path) as registry:
        matrix = affinities(registry, selection)
        tree = _tree(registry, selection, matrix)
        nearest = _nearest(registry, selection, matrix, 1)
        facts = _facts(registry, selection)
    return make_report(
        selection.names,
        matrix,
        selection.colours,
        coordinates=layout.coordinates,
        tree=tree,
        facts=facts,
        threshold=threshold,
        neighbours=(nearest.numbers, nearest.affinities),
        more=_agreement(path, selection),
        group_by=selection.group_by,
        caption=selection.caption,
        title=title or f"Report of the space {selection.row.spec.name}",
    )


def _agreement(path: Path, selection: Selection) -> list[Section]:
    """A section on agreement with measured transfer, if transfer between the space's models has been measured."""
    from modelspace.plots.report import Section
    from modelspace.verbs.evaluate import evaluate

    try:
        outcome = evaluate(path, space=selection.row.spec.name)
    except ModelspaceError:
        return []  # too few of the oracle's models are registered
    figures = ("precision", 1), ("precision", 5), ("spearman", None), ("kendall", None), ("relative_regret", 5)
    rows: list[tuple[str, ...]] = [("ranking", "P@1", "P@5", "Spearman", "Kendall", "regret@5")]
    for row in outcome.rows:
        means = [(np.atleast_1d(row.summary[name].mean), k) for name, k in figures]
        # With few models there are fewer than five sources to choose from.
        texts = ("" if k and k > len(mean) else f"{mean[k - 1 if k else 0]:.2f}" for mean, k in means)
        rows.append((row.method, *texts))
    words = (
        f"Against transfer measured between {len(outcome.sources)} of the models (oracle {outcome.oracle}), mean over "
        f"{len(outcome.targets)} targets. For intervals, evaluate the registry.",
    )
    return [Section("Agreement with measured transfer", words, tuple(rows))]


def _tree(registry: Registry, selection: Selection, matrix: NDArray[np.float64]) -> Tree:
    tree = build_tree(selection.names, matrix)
    if len(selection.models) <= MAX_SUPPORT:
        cosines = affinity.contributions_of_all(registry, selection.row.spec, selection.ids)
        tree = tree.with_support(cluster_support(tree, cosines, n_resamples=RESAMPLES))
    return tree


@dataclass(frozen=True, eq=False)
class _Nearest:
    """The k nearest models of each selected model, best first.

    Attributes:
        numbers: (n, k) indices into the selection.
        affinities: (n, k).
        bounds: lower and upper ends of the affinities' intervals, (n, k) each; None if not computed.
    """

    numbers: NDArray[np.int64]
    affinities: NDArray[np.float64]
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def _ranking(spec: SpaceSpec, n: int) -> Ranking:
    """How a page ranks neighbours: like the space, or by affinity for more than `MAX_SCORED` models."""
    return Ranking.of(spec) if n <= MAX_SCORED else PLAIN


def _nearest(registry: Registry, selection: Selection, matrix: NDArray[np.float64] | None, k: int) -> _Nearest:
    """The neighbours as by `modelspace nearest`; by affinity alone for more than `MAX_INTERVALS` models.

    Args:
        registry: open.
        selection: n models.
        matrix: (n, n) affinities, or None if there are too many models for them.
        k: number of neighbours.
    """
    spec, n = selection.row.spec, len(selection.ids)
    if n > MAX_INTERVALS:
        return _nearest_by_affinity(registry, selection, matrix, k)
    index_of = {model_id: i for i, model_id in enumerate(selection.ids)}
    ranker = Ranker(registry, selection.row, _ranking(spec, n), selection.ids)
    numbers = np.empty((n, k), dtype=np.int64)
    values, low, high = (np.empty((n, k)) for _ in range(3))
    for i, (model_id, name) in enumerate(zip(selection.ids, selection.names, strict=True)):
        ranked = ranker.rank(Target(name, model_id), k)
        if len(ranked.model_ids) < k:
            raise NotFoundError(
                f"some models of space {spec.name!r} lack the features that it ranks by",
                "embed those: `space.fill()`",
            )
        bounds = intervals([member.of(range(k)) for member in ranked.members])
        numbers[i] = [index_of[other] for other in ranked.model_ids[:k]]
        values[i], low[i], high[i] = ranked.affinities[:k].mean(axis=1), bounds.low, bounds.high
    return _Nearest(numbers, values, (low, high))


def _nearest_by_affinity(
    registry: Registry, selection: Selection, matrix: NDArray[np.float64] | None, k: int
) -> _Nearest:
    """The nearest models without intervals, which needs no stored maps."""
    if matrix is None:
        ids, vectors = registry.vectors(selection.row.spec.space_id)
        numbers, products = nearest_of_vectors(vectors[np.isin(ids, selection.ids)], k)
        return _Nearest(numbers, products.astype(np.float64), None)
    others = np.round(matrix, 12)
    np.fill_diagonal(others, -np.inf)
    numbers = np.argsort(-others, axis=1, kind="stable")[:, :k]
    return _Nearest(numbers, np.take_along_axis(matrix, numbers, axis=1), None)


def _order(spec: SpaceSpec, n: int) -> str:
    """A note on what neighbours are ranked by, if it is not the affinity shown."""
    ranking = _ranking(spec, n)
    if ranking.is_plain:
        return ""
    words = "predicted features" if ranking.is_directed else f"affinity corrected for hubs ({ranking.correction})"
    return f", neighbours ranked by {words}"


def _thumbnails(registry: Registry, selection: Selection) -> dict[str, NDArray[np.float64]]:
    """Stored maps of the first probe images side by side, by model name.

    If the space has no maps, those of the registry's first space of maps are shown, if there is one.
    """
    specs = [selection.row.spec, *(row.spec for row in registry.spaces())]
    space = next((space for spec in specs if isinstance(space := space_of(spec), MapSpace)), None)
    if space is None:
        return {}
    names = dict(zip(selection.ids, selection.names, strict=True))
    out = {}
    for model_id, block in registry.map_blocks_at(space.spec.space_id, 0, selection.ids):
        maps = space.unit_maps(block)[:THUMBNAIL_IMAGES]
        # Each map has its own colour scale, as in a gallery.
        maps /= np.quantile(np.abs(maps), 0.99, axis=(1, 2), keepdims=True) + 1e-30
        out[names[model_id]] = np.hstack(list(np.clip(maps, -1, 1)))
    return out


def _facts(registry: Registry, selection: Selection) -> dict[str, str]:
    spec = selection.row.spec
    return {
        "space": f"{spec.name} ({spec.space_id})",
        "method": method_text(spec),
        "explained scalar": spec.scalar,
        "probe images": f"{spec.n_images} of {registry.probe_set(spec.probe_id).name}",
        **space_of(spec).stored_of_a_model(registry),
        "groups by": selection.group_by,
    }
