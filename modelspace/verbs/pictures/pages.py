"""Atlas and report of a registry's models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import Tree, build_tree, cluster_support, nearest_of_vectors
from modelspace.analysis.projection import MAX_EXACT
from modelspace.analysis.tree import MAX_OPTIMAL_ORDER
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.representations.maps import decode_unit
from modelspace.spaces import affinity
from modelspace.spaces.bootstrap import intervals
from modelspace.types import SpaceSpec
from modelspace.verbs.nearest import PLAIN, all_scores, in_order, settings
from modelspace.verbs.pictures.figures import RESAMPLES, Places, check_size
from modelspace.verbs.pictures.selection import Selection, affinities, columns

if TYPE_CHECKING:
    from modelspace.plots import Atlas, Report
    from modelspace.plots.report import Section

#: Nearest models that an atlas shows of each.
NEIGHBOURS = 10

#: Up to so many models an atlas has intervals, which are worked out from the stored maps, about 0.02 s per model.
MAX_INTERVALS = 1000

#: Up to so many models an atlas ranks neighbours as `nearest` does where that is by more than the affinity: n² scores.
MAX_SCORED = 300

#: Up to so many models an atlas shows the maps of the first probe images.
MAX_THUMBNAILS = 2000
THUMBNAIL_IMAGES = 3

#: Up to so many models their tree has bootstrap support in an atlas and a report.
MAX_SUPPORT = 100


def atlas_page(path: Path, found: Places, k: int = NEIGHBOURS, title: str = "") -> Atlas:
    """See `modelspace.workspace.ModelSpace.atlas`."""
    from modelspace.plots import make_atlas

    selection = found.selection
    spec = selection.row.spec
    n = len(selection.models)
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", "example: `k=10`")
    with Registry.open(path) as registry:
        if n <= MAX_EXACT:
            matrix = affinities(registry, selection)
            tree = _tree(registry, selection, matrix) if n <= MAX_OPTIMAL_ORDER else None
            numbers, values, bounds = _neighbours(registry, selection, matrix, min(k, n - 1))
        else:
            ids, vectors = registry.vectors(spec.space_id)
            tree, bounds = None, None
            numbers, products = nearest_of_vectors(vectors[np.isin(ids, selection.ids)], min(k, n - 1))
            values = products.astype(np.float64)
        thumbnails = _thumbnails(registry, selection) if n <= MAX_THUMBNAILS else {}
    return make_atlas(
        selection.names,
        found.coordinates,
        selection.groups,
        columns=columns(selection),
        neighbours=(numbers, values),
        intervals=bounds,
        tree=tree,
        thumbnails=thumbnails,
        recall=found.recall,
        title=title or f"{n:,} models, space {spec.name}{_order(spec, n)}",
    )


def report_page(path: Path, found: Places, threshold: float = 0.98, title: str = "") -> Report:
    """See `modelspace.workspace.ModelSpace.report`."""
    from modelspace.plots import make_report

    selection = found.selection
    check_size(selection, "a report")
    with Registry.open(path) as registry:
        matrix = affinities(registry, selection)
        tree = _tree(registry, selection, matrix)
        facts = _facts(registry, selection)
    return make_report(
        selection.names,
        matrix,
        selection.groups,
        coordinates=found.coordinates,
        tree=tree,
        facts=facts,
        threshold=threshold,
        more=_agreement(path, selection),
        title=title or f"Report of the space {selection.row.spec.name}",
    )


def _agreement(path: Path, selection: Selection) -> list[Section]:
    """A section on how far the space agrees with measured transfer, where the package has measured its models'."""
    from modelspace.plots.report import Section
    from modelspace.verbs.evaluate import evaluate

    try:
        outcome = evaluate(path, space=selection.row.spec.name)
    except ModelspaceError:
        return []  # too few of the oracle's models are registered: there is nothing to compare with
    figures = ("precision", 1), ("precision", 5), ("spearman", None), ("kendall", None), ("relative_regret", 5)
    rows: list[tuple[str, ...]] = [("ranking", "P@1", "P@5", "Spearman", "Kendall", "regret@5")]
    for row in outcome.rows:
        means = [np.atleast_1d(row.summary[name].mean)[k - 1 if k else 0] for name, k in figures]
        rows.append((row.method, *(f"{mean:.2f}" for mean in means)))
    words = (
        f"Against transfer measured between {len(outcome.sources)} of the models (oracle {outcome.oracle}), mean over "
        f"{len(outcome.targets)} targets. An evaluation of the registry has the intervals too.",
    )
    return [Section("Agreement with measured transfer", words, tuple(rows))]


def _tree(registry: Registry, selection: Selection, matrix: NDArray[np.float64]) -> Tree:
    tree = build_tree(selection.names, matrix)
    if len(selection.models) <= MAX_SUPPORT:
        cosines = affinity.all_cosines(registry, selection.row.spec, selection.ids)
        tree = tree.with_support(cluster_support(tree, cosines, n_resamples=RESAMPLES))
    return tree


def _neighbours(
    registry: Registry, selection: Selection, matrix: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
    """Each model's k nearest (n, k), their affinities, and the intervals' ends: what `modelspace nearest` prints.

    In a space that ranks by more than the affinity, of more than `MAX_SCORED` models, they are the nearest by affinity.
    """
    spec, ids = selection.row.spec, selection.ids
    n = len(ids)
    if settings(spec, None, None) != PLAIN and n <= MAX_SCORED:
        return _scored(registry, selection, matrix, k)
    at = {model_id: i for i, model_id in enumerate(ids)}
    numbers = np.empty((n, k), dtype=np.int64)
    values, low, high = (np.empty((n, k)) for _ in range(3))
    exact = n <= MAX_INTERVALS
    for i, model_id in enumerate(ids):
        row = np.round(matrix[i], 12)
        row[i] = -np.inf
        order = [int(j) for j in np.lexsort((ids, -row))[:k]]
        if exact:
            maps = affinity.stored_maps(registry, spec, model_id)
            cosines = affinity.cosines(registry, spec, maps, [ids[j] for j in order])
            nearest = in_order(cosines)
            bounds = intervals(np.stack([cosines[other] for other in nearest]))
            order = [at[other] for other in nearest]
            low[i], high[i] = bounds.low, bounds.high
        numbers[i], values[i] = order, matrix[i, order]
    return numbers, values, (low, high) if exact else None


def _order(spec: SpaceSpec, n: int) -> str:
    """What neighbours are in order of, where that is not the affinity that is shown."""
    correction, again = settings(spec, None, None)
    if (correction, again) == PLAIN or n > MAX_SCORED:
        return ""
    return f", neighbours ranked by {'foretold features' if again != PLAIN[1] else f'affinity corrected for hubs ({correction})'}"


def _scored(
    registry: Registry, selection: Selection, matrix: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The same where a correction for hubs or a re-ranking decides the order; affinities are shown all the same."""
    spec, ids = selection.row.spec, selection.ids
    order, scores = all_scores(registry, spec, set(ids))
    if len(order) < len(ids):
        raise NotFoundError(
            f"some models of space {spec.name!r} lack the features that it ranks by",
            "add them again: `space.add(model)`",
        )
    scores = np.round(scores, 12)
    np.fill_diagonal(scores, -np.inf)
    numbers = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    low, high = (np.empty((len(ids), k)) for _ in range(2))
    for i, model_id in enumerate(ids):
        found = [ids[j] for j in numbers[i]]
        cosines = affinity.cosines(registry, spec, affinity.stored_maps(registry, spec, model_id), found)
        bounds = intervals(np.stack([cosines[other] for other in found]))
        low[i], high[i] = bounds.low, bounds.high
    return numbers.astype(np.int64), np.take_along_axis(matrix, numbers, axis=1), (low, high)


def _thumbnails(registry: Registry, selection: Selection) -> dict[str, NDArray[np.float64]]:
    """Stored maps of the first probe images side by side, by name of the model.

    A space of another kind shows those of the registry's first space of maps, if there is one.
    """
    specs = [selection.row.spec, *(row.spec for row in registry.spaces())]
    spec = next((spec for spec in specs if spec.kind == "maps"), None)
    if spec is None:
        return {}
    names = dict(zip(selection.ids, selection.names, strict=True))
    out = {}
    for model_id, block in registry.map_blocks_at(spec.space_id, 0, selection.ids):
        maps = decode_unit(block, spec)[:THUMBNAIL_IMAGES]
        # Each with colours of its own, as in a gallery.
        maps /= np.quantile(np.abs(maps), 0.99, axis=1, keepdims=True) + 1e-30
        out[names[model_id]] = np.hstack(list(np.clip(maps, -1, 1).reshape(-1, spec.canvas, spec.canvas)))
    return out


def _facts(registry: Registry, selection: Selection) -> dict[str, str]:
    spec = selection.row.spec
    return {
        "space": f"{spec.name} ({spec.space_id})",
        "method": _method(spec),
        "explained scalar": spec.scalar,
        "probe images": f"{spec.n_images} of {registry.probe_set(spec.probe_id).name}",
        **_stored(registry, spec),
        "groups by": selection.group_by,
    }


def _stored(registry: Registry, spec: SpaceSpec) -> dict[str, str]:
    """What a model's vector was made from."""
    if spec.members:
        parts = (f"{weight:.2g} {registry.space(member).spec.name}" for member, weight in spec.members.items())
        return {"blend of": ", ".join(parts)}
    if spec.kind == "geometry":
        return {"kernel": f"{spec.n_images} x {spec.n_images} images of {spec.bits} bits"}
    return {"maps": f"{spec.canvas} x {spec.canvas} pixels of {spec.bits} bits"}


def _method(spec: SpaceSpec) -> str:
    parameters: dict[str, Any] = {key: value for key, value in spec.parameters.items() if key != "members"}
    inside = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in parameters.items()
    )
    return f"{spec.method} ({inside})" if inside else spec.method
