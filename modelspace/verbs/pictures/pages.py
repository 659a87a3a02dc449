"""Atlas and report of a registry's models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import Tree, build_tree, cluster_support, drawn
from modelspace.analysis.projection import MAX_EXACT
from modelspace.analysis.tree import MAX_OPTIMAL_ORDER
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.registry import ProbeRow, Registry
from modelspace.spaces import affinity
from modelspace.spaces.bootstrap import intervals
from modelspace.spaces.kinds import MapSpace, space_of
from modelspace.spaces.neighbours import Ranker, Target
from modelspace.spaces.ranking import PLAIN, Ranking
from modelspace.types import SpaceSpec
from modelspace.verbs.pictures.caption import method_text
from modelspace.verbs.pictures.figures import RESAMPLES, Places
from modelspace.verbs.pictures.gallery import probe_photographs
from modelspace.verbs.pictures.sampling import nearest_by_coordinates, remark, sampled
from modelspace.verbs.pictures.selection import Selection, affinities, columns

if TYPE_CHECKING:
    from modelspace.plots import Atlas, NearestLists, Report, SecondMap
    from modelspace.plots.report import Section, Whole

#: Number of nearest models of each model in an atlas.
NEIGHBOURS = 10

#: Largest number of models with intervals, which are computed from the stored maps in about 0.02 s per model.
MAX_INTERVALS = 1000

#: Largest number of models whose neighbours are ranked as by `nearest` if that needs more than affinities: n² scores.
MAX_SCORED = 300

#: Largest number of models in an atlas with the attribution maps of the first probe images.
MAX_THUMBNAILS = 2000
THUMBNAIL_IMAGES = 3

#: Number of models in a report of very many that are listed with their nearest, and of their neighbours: those that
#: tell hubs.
LISTED, _LISTED_NEIGHBOURS = 1000, 5

#: What very many models' neighbours are ordered by.
BY_COORDINATES = "affinity as their coordinates have it"

#: Largest number of models whose tree has bootstrap support in an atlas or a report.
MAX_SUPPORT = 100


def atlas_page(path: Path, layout: Places, k: int = NEIGHBOURS, title: str = "", beside: Places | None = None) -> Atlas:
    """See `modelspace.workspace.ModelSpace.atlas`; `beside` is the second map."""
    from modelspace.plots import make_atlas

    selection = layout.selection
    name = selection.row.spec.name
    n = len(selection.models)
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", "example: `k=10`")
    if beside is not None and beside.selection.row.spec.space_id == selection.row.spec.space_id:
        raise UsageError(f"both maps are of the space {name!r}", "choose another one with `beside=`, or leave it out")
    with Registry.open(path) as registry:
        matrix = affinities(registry, selection) if n <= MAX_EXACT else None
        tree = _tree(registry, selection, matrix) if matrix is not None and n <= MAX_OPTIMAL_ORDER else None
        nearest = _nearest(registry, selection, matrix, min(k, n - 1))
        thumbnails, pictured = _thumbnails(registry, selection) if n <= MAX_THUMBNAILS else ({}, None)
        second = None if beside is None else _second_map(registry, selection, beside, k)
        is_default = registry.space(None).spec.space_id == selection.row.spec.space_id
        probe_set = None if pictured is None else registry.probe_set(pictured.probe_id)
    count = 0 if pictured is None else next(iter(thumbnails.values())).shape[1] // pictured.canvas
    return make_atlas(
        selection.names,
        layout.coordinates,
        selection.groups,
        columns=columns(selection),
        neighbours=nearest.lists(),
        tree=tree,
        thumbnails=thumbnails,
        images=None if probe_set is None else _images(path, probe_set, count),
        recall=layout.recall,
        space="" if is_default and second is None else name,
        beside=second,
        title=title or f"{n:,} models, space {name}",
        notes=_notes(layout, beside, nearest),
    )


def _notes(layout: Places, beside: Places | None, nearest: _Nearest) -> list[str]:
    """Remarks on the maps of an atlas, and on its lists of neighbours."""
    notes = [note for place in (layout, beside) if place is not None for note in place.layout.notes]
    if nearest.ordered_by == BY_COORDINATES:
        notes.append(f"the nearest of more than {MAX_EXACT:,} models are ordered by {BY_COORDINATES}, not exactly")
    return list(dict.fromkeys(notes))


def _second_map(registry: Registry, selection: Selection, beside: Places, k: int) -> SecondMap:
    """The models of the first map in another space; those that it lacks have no place and no neighbours."""
    from modelspace.plots import SecondMap

    other = beside.selection
    n, m = len(selection.ids), len(other.ids)
    matrix = affinities(registry, other) if m <= MAX_EXACT else None
    nearest = _nearest(registry, other, matrix, min(k, m - 1))
    row_of = {model_id: row for row, model_id in enumerate(selection.ids)}
    rows = np.array([row_of.get(model_id, -1) for model_id in other.ids])
    shared = np.flatnonzero(rows >= 0)
    if not len(shared):
        raise NotFoundError(
            f"none of the models is in the space {other.row.spec.name!r}", "choose another one with `beside=`"
        )
    coordinates = np.full((n, 2), np.nan)
    coordinates[rows[shared]] = beside.coordinates[shared]
    note = str(beside.recall)
    if len(shared) < n:
        note += f" ({n - len(shared):,} of the models are not in this space)"
    return SecondMap(other.row.spec.name, coordinates, nearest.in_rows(rows, n).lists(), note)


def report_page(
    path: Path, layout: Places, threshold: float = 0.98, title: str = "", sample: int | None = None
) -> Report:
    """See `modelspace.workspace.ModelSpace.report`."""
    from modelspace.plots import make_report

    with Registry.open(path) as registry:
        selection = sampled(registry, layout.selection, sample)
        matrix = affinities(registry, selection)
        tree = _tree(registry, selection, matrix)
        facts = _facts(registry, selection)
        nearest, whole = None, None
        if selection.total is None:
            nearest = _nearest(registry, selection, matrix, 1)
        else:
            whole = _whole(registry, layout)
    return make_report(
        selection.names,
        matrix,
        selection.colours,
        coordinates=layout.coordinates,
        tree=tree,
        facts=facts,
        threshold=threshold,
        neighbours=None if nearest is None else (nearest.numbers, nearest.affinities),
        whole=whole,
        more=_agreement(path, selection),
        group_by=selection.group_by,
        caption=selection.caption,
        title=title or f"Report of the space {selection.row.spec.name}",
        notes=(*(remark(selection),) * (whole is not None), *layout.layout.notes),
    )


def _whole(registry: Registry, layout: Places) -> Whole:
    """All models of a report that draws pairs of a sample, and the neighbours of some of them among all.

    Those are drawn at random, since a sample that covers the others has no two models that are near each other.
    """
    from modelspace.plots.report import Whole

    selection = layout.selection
    names, ids = selection.names, selection.ids
    rows = drawn(len(selection.models), LISTED)
    index_of = {model_id: i for i, model_id in enumerate(ids)}
    k = min(_LISTED_NEIGHBOURS, len(selection.models) - 1)
    ranker = Ranker(registry, selection.row, PLAIN, None if len(ids) == selection.row.n_models else ids)
    numbers = np.empty((len(rows), k), dtype=np.int64)
    values = np.empty((len(rows), k))
    for i, row in enumerate(rows.tolist()):
        ranked = ranker.rank(Target(names[row], ids[row]), k)
        numbers[i] = [index_of[other] for other in ranked.model_ids[:k]]
        values[i] = ranked.affinities[:k].mean(axis=1)
    return Whole(names, layout.coordinates, selection.colours, layout.recall, selection.caption, rows, numbers, values)


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
        scores: (n, k) what decides the order; None if that is the affinity.
        tied: (n, k) whether a model is tied with the next in rank; None if not computed.
        ordered_by: in words, what decides the order.
    """

    numbers: NDArray[np.int64]
    affinities: NDArray[np.float64]
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    scores: NDArray[np.float64] | None = None
    tied: NDArray[np.bool_] | None = None
    ordered_by: str = "affinity"

    def lists(self) -> NearestLists:
        """The same for an atlas."""
        from modelspace.plots import NearestLists

        low, high = self.bounds or (None, None)
        return NearestLists(self.numbers, self.affinities, low, high, self.scores, self.tied, self.ordered_by)

    def in_rows(self, rows: NDArray[np.int64], n: int) -> _Nearest:
        """The lists of other models: model i becomes rows[i] of n.

        A model with the row -1 is left out of all lists, whose ends are then NaN; so are lists of models not in `rows`.
        """
        k = self.numbers.shape[1]
        kept = rows[self.numbers] >= 0
        # Left-out neighbours go to the end of their list, the others keep their order.
        order = np.argsort(~kept, axis=1, kind="stable")
        numbers = np.zeros((n, k), dtype=np.int64)
        known = rows >= 0
        numbers[rows[known]] = np.maximum(np.take_along_axis(rows[self.numbers], order, axis=1)[known], 0)

        def moved(values: NDArray[np.float64]) -> NDArray[np.float64]:
            placed = np.full((n, k), np.nan)
            placed[rows[known]] = np.take_along_axis(np.where(kept, values, np.nan), order, axis=1)[known]
            return placed

        # A tie is with the next in rank, which must still be the next.
        both = kept.copy()
        both[:, :-1] &= kept[:, 1:]
        tied = None if self.tied is None else np.nan_to_num(moved((self.tied & both).astype(np.float64))) > 0
        return _Nearest(
            numbers,
            moved(self.affinities),
            None if self.bounds is None else (moved(self.bounds[0]), moved(self.bounds[1])),
            None if self.scores is None else moved(self.scores),
            tied,
            self.ordered_by,
        )


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
    ranking = _ranking(spec, n)
    ranker = Ranker(registry, selection.row, ranking, selection.ids)
    numbers = np.empty((n, k), dtype=np.int64)
    values, low, high, scores = (np.empty((n, k)) for _ in range(4))
    tied = np.zeros((n, k), dtype=bool)
    for i, (model_id, name) in enumerate(zip(selection.ids, selection.names, strict=True)):
        ranked = ranker.rank(Target(name, model_id), k)
        if len(ranked.model_ids) < k:
            raise NotFoundError(
                f"some models of space {spec.name!r} lack the features that it ranks by",
                "embed those: `space.fill()`",
            )
        decides = None if ranked.scores is ranked.affinities else ranked.scores
        bounds = intervals(ranked.members, ranked.score or decides)
        numbers[i] = [index_of[other] for other in ranked.model_ids[:k]]
        values[i], scores[i] = ranked.affinities[:k].mean(axis=1), ranked.scores[:k].mean(axis=1)
        low[i], high[i], tied[i] = bounds.low[:k], bounds.high[:k], bounds.tied_with_next[:k]
    return _Nearest(numbers, values, (low, high), None if ranking.is_plain else scores, tied, _order(ranking))


def _nearest_by_affinity(
    registry: Registry, selection: Selection, matrix: NDArray[np.float64] | None, k: int
) -> _Nearest:
    """The nearest models without intervals: by affinity, or by coordinates if there are too many models for all."""
    if matrix is None:
        return _Nearest(*nearest_by_coordinates(registry, selection, k), None, ordered_by=BY_COORDINATES)
    others = np.round(matrix, 12)
    np.fill_diagonal(others, -np.inf)
    numbers = np.argsort(-others, axis=1, kind="stable")[:, :k]
    return _Nearest(numbers, np.take_along_axis(matrix, numbers, axis=1), None)


def _order(ranking: Ranking) -> str:
    """What a ranking orders by, in words."""
    return "how well their features predict this model's" if ranking.is_directed else ranking.order


def _thumbnails(registry: Registry, selection: Selection) -> tuple[dict[str, NDArray[np.float64]], SpaceSpec | None]:
    """Stored maps of the first probe images side by side, by model name, and the space that they are of.

    If the space has no maps, those of the registry's first space of maps are shown, if there is one.
    """
    specs = [selection.row.spec, *(row.spec for row in registry.spaces())]
    space = next((space for spec in specs if isinstance(space := space_of(spec), MapSpace)), None)
    if space is None:
        return {}, None
    names = dict(zip(selection.ids, selection.names, strict=True))
    out = {}
    for model_id, block in registry.map_blocks_at(space.spec.space_id, 0, selection.ids):
        maps = space.unit_maps(block)[:THUMBNAIL_IMAGES]
        # Each map has its own colour scale, as in a gallery.
        maps /= np.quantile(np.abs(maps), 0.99, axis=(1, 2), keepdims=True) + 1e-30
        out[names[model_id]] = np.hstack(list(np.clip(maps, -1, 1)))
    return out, space.spec if out else None


def _images(path: Path, probe_set: ProbeRow, count: int) -> NDArray[np.uint8] | None:
    """(count, side, side, 3) the first probe images; None if this machine can't produce them."""
    try:
        return probe_photographs(path, probe_set, range(count))
    except ModelspaceError:
        return None


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
