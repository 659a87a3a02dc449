"""Map, tree and heatmap of a registry's models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelspace.analysis import (
    NeighbourRecall,
    Tree,
    build_tree,
    cluster_support,
)
from modelspace.analysis.support import MAX_SUPPORT_MODELS
from modelspace.errors import UsageError
from modelspace.registry import Registry
from modelspace.spaces.affinity import contributions_of_all
from modelspace.verbs.pictures.layout import Layout, layout
from modelspace.verbs.pictures.sampling import recall_of, remark, sampled
from modelspace.verbs.pictures.selection import Selection, affinities, select

if TYPE_CHECKING:
    from modelspace.plots import Picture

#: Number of resampled probe sets for the support of a tree's clusters.
RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Places:
    """The selected models in the projection of their space.

    Attributes:
        selection: the models.
        coordinates: (n, 2) float64.
        recall: share of each model's true neighbours, among the selected models, that are near it in the projection.
        layout: the projection of the whole space.
    """

    selection: Selection
    coordinates: NDArray[np.float64]
    recall: NeighbourRecall
    layout: Layout

    def draw(self, title: str = "") -> Picture:
        """The projection as a figure; its facts hold the recall, the layout and notes."""
        from modelspace.plots import map_figure

        names = self.selection.names
        picture = map_figure(
            names,
            self.coordinates,
            self.selection.colours,
            recall=self.recall,
            group_by=self.selection.group_by,
            title=title,
            caption=self.selection.caption,
        )
        picture.facts |= {"recall": self.recall, "layout": self.layout, "models": len(names)}
        picture.facts["caption"] = self.selection.caption
        picture.facts["notes"] = self.layout.notes
        return picture


def places(
    path: Path,
    space: str | None,
    where: str | None,
    group_by: str | None,
    *,
    refit: bool = False,
    store: bool = True,
    seed: int = 0,
    sample: int | None = None,
    what: str = "a map",
) -> Places:
    """See `modelspace.workspace.ModelSpace.map`."""
    with Registry.open(path) as registry:  # first, so that invalid arguments fail before the projection is fitted
        select(registry, space, where, group_by, what=what)
    full = layout(path, space, refit=refit, store=store, seed=seed, sample=sample)
    with Registry.open(path) as registry:
        selection = select(registry, space, where, group_by, what=what)
        projected = {int(model_id) for model_id in full.projection.model_ids}
        if missing := [row.card.name for row in selection.models if row.model_id not in projected]:
            raise UsageError(f"{missing[0]!r} was added while the map was computed", "try again")
        coordinates = full.places(selection.ids)
        recall = recall_of(registry, selection, coordinates)
    return Places(selection, coordinates, recall, full)


@dataclass(frozen=True, eq=False)
class Clustered:
    """The selected models as a tree, or a sample of them.

    Attributes:
        selection: the models; `selection.total` is the number of which they are a sample.
        affinity: (n, n) float64, in the order of the selection.
        tree: its leaves are the models, in the same order.
    """

    selection: Selection
    affinity: NDArray[np.float64]
    tree: Tree

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user."""
        return tuple(filter(None, [remark(self.selection)]))

    @property
    def groups(self) -> dict[str, str | None]:
        """Name -> group."""
        return dict(zip(self.selection.names, self.selection.groups, strict=True))

    def draw(self, title: str = "") -> Picture:
        """The tree as a figure; `facts["tree"]` is the tree."""
        from modelspace.plots import tree_figure

        chosen = self.selection
        picture = tree_figure(self.tree, chosen.colours, group_by=chosen.group_by, title=title, caption=chosen.caption)
        picture.facts |= {"tree": self.tree, "notes": self.notes}
        return picture

    def _repr_png_(self) -> Any:
        return self.draw()._repr_png_()

    def heatmap(self, title: str = "") -> Picture:
        """The affinities in the order of the tree's leaves as a figure."""
        from modelspace.plots import heatmap_figure

        chosen, names = self.selection, self.selection.names
        picture = heatmap_figure(
            names,
            self.affinity,
            chosen.colours,
            tree=self.tree,
            group_by=chosen.group_by,
            title=title,
            caption=chosen.caption,
        )
        picture.facts |= {"tree": self.tree, "models": len(names), "notes": self.notes}
        return picture

    def pairs(self) -> list[dict[str, Any]]:
        """One dictionary per pair of different models: a, b (in the order of the space), affinity."""
        names = self.selection.names
        return [
            {"a": a, "b": b, "affinity": float(self.affinity[i, i + 1 + j])}
            for i, a in enumerate(names)
            for j, b in enumerate(names[i + 1 :])
        ]


def cluster(
    path: Path,
    space: str | None,
    where: str | None,
    group_by: str | None,
    *,
    method: str = "average",
    support: int | None = None,
    seed: int = 0,
    sample: int | None = None,
    what: str = "a tree",
) -> Clustered:
    """See `modelspace.workspace.ModelSpace.tree`."""
    with Registry.open(path) as registry:
        selection = sampled(registry, select(registry, space, where, group_by, what=what), sample)
        matrix = affinities(registry, selection)
        tree = build_tree(selection.names, matrix, method)
        n = len(selection.models)
        if support is None:
            support = RESAMPLES if n <= MAX_SUPPORT_MODELS else 0
        if support < 0:
            raise UsageError(f"{support} resampled probe sets are too few", f"use 0 for none, or {RESAMPLES}")
        if support and n > MAX_SUPPORT_MODELS:
            raise UsageError(
                f"bootstrap support is computed for at most {MAX_SUPPORT_MODELS} models, not {n:,}",
                "use `support=0`, or fewer models with `sample=` or `where=`",
            )
        if support:
            cosines = contributions_of_all(registry, selection.row.spec, selection.ids)
            tree = tree.with_support(cluster_support(tree, cosines, n_resamples=support, seed=seed))
    return Clustered(selection, matrix, tree)
