"""The command ``modelspace tree``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format, print_text, visible_json
from modelspace.cli.groups import Selection, grouped
from modelspace.cli.messages import note
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace tree
modelspace tree --method ward --support 0 --out tree.svg
modelspace tree --format newick > models.nwk
modelspace tree --where "group = '2D'" --format json
modelspace tree --sample 200 --out overview.svg
"""


class TreeFormat(StrEnum):
    """The choices of ``--format``."""

    table = "table"
    text = "text"
    newick = "newick"
    json = "json"


@grouped
def command(
    *,
    selection: Selection,
    method: drawing.Linkage = "average",
    support: Annotated[
        int | None,
        typer.Option(
            "--support",
            metavar="N",
            show_default=False,
            help="Bootstrap resamples of the probe images, to see which clusters are stable; 0: none. Default: 200 for "
            "up to 500 models, else 0.",
        ),
    ] = None,
    sample: drawing.Sample = None,
    title: drawing.Title = "",
    out: drawing.Out = None,
    home: options.Home = None,
    format: Annotated[
        TreeFormat,
        typer.Option(
            "--format",
            metavar="table|text|newick|json",
            help="table: draw the tree and print where it is; others: print the tree, and draw it only with --out.",
        ),
    ] = TreeFormat.table,
    quiet: options.Quiet = False,
) -> None:
    """Draw the hierarchical clustering of the models as a tree.

    Numbers at the merges are their bootstrap support in percent: a cluster with low support may not appear with other
    probe images. Newick is for phylogeny viewers, JSON for d3 and data frames.
    """
    path = drawing.target(out, "tree.png", drawing.PICTURES) if out or format is TreeFormat.table else None
    with drawing.drawing("the tree", quiet=quiet):
        clustered = open_space(home).clusters(**selection.arguments(), method=method, support=support, sample=sample)
        if path is not None:
            clustered.draw(title).save(path)
    tree = clustered.tree
    if format is not TreeFormat.table:
        print_text(_text(clustered, format))
        note(clustered.notes, quiet=quiet)
    elif path is not None:
        support_text = "not computed" if tree.support is None else "in percent at the merges"
        facts = {"models": tree.n_leaves, "linkage": tree.method, "support": support_text}
        drawing.print_written(path, facts, Format.table, quiet=quiet, notes=clustered.notes)


def _text(clustered: Any, format: TreeFormat) -> str:
    from modelspace.analysis import to_json, to_newick

    if format is TreeFormat.newick:
        return to_newick(clustered.tree)
    if format is TreeFormat.json:
        return visible_json(to_json(clustered.tree, clustered.groups, clustered.selection.total))
    return f"{clustered.tree.to_text()}\n"
