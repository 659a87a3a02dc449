"""Pictures of a space: functions of arrays and plain values that return a matplotlib figure, an atlas or a report.

Each module is imported when one of its names is used, so a command that only writes an atlas does not load matplotlib.
Nothing here loads umap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelspace.plots.atlas import Atlas, make_atlas
    from modelspace.plots.atlas_data import NearestLists, SecondMap
    from modelspace.plots.choices import choices_figure
    from modelspace.plots.curves import agreement_curves, ranking_curves
    from modelspace.plots.figure import Picture
    from modelspace.plots.gallery import gallery_figure
    from modelspace.plots.groups import GroupLook, group_looks
    from modelspace.plots.heatmap import heatmap_figure
    from modelspace.plots.map import map_figure
    from modelspace.plots.report import Report, make_report
    from modelspace.plots.tree import tree_figure

_HOME = {
    "Atlas": "atlas",
    "GroupLook": "groups",
    "NearestLists": "atlas_data",
    "Picture": "figure",
    "Report": "report",
    "SecondMap": "atlas_data",
    "agreement_curves": "curves",
    "choices_figure": "choices",
    "gallery_figure": "gallery",
    "group_looks": "groups",
    "heatmap_figure": "heatmap",
    "make_atlas": "atlas",
    "make_report": "report",
    "map_figure": "map",
    "ranking_curves": "curves",
    "tree_figure": "tree",
}

__all__ = [
    "Atlas",
    "GroupLook",
    "NearestLists",
    "Picture",
    "Report",
    "SecondMap",
    "agreement_curves",
    "choices_figure",
    "gallery_figure",
    "group_looks",
    "heatmap_figure",
    "make_atlas",
    "make_report",
    "map_figure",
    "ranking_curves",
    "tree_figure",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
