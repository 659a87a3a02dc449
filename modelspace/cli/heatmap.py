"""The command ``modelspace heatmap``."""

from __future__ import annotations

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format, print_csv, print_json
from modelspace.cli.groups import Selection, grouped
from modelspace.cli.messages import note
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace heatmap
modelspace heatmap --space saliency --out saliency.svg
modelspace heatmap --format csv > affinities.csv
"""


@grouped
def command(
    *,
    selection: Selection,
    method: drawing.Linkage = "average",
    sample: drawing.Sample = None,
    title: drawing.Title = "",
    out: drawing.Out = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Draw the affinities of all pairs of models.

    Rows and columns are in the order of the tree's leaves. --format json and csv print the pairs, and draw them only
    with --out.
    """
    path = drawing.target(out, "heatmap.png", drawing.PICTURES) if out or format is Format.table else None
    with drawing.drawing("the heatmap", quiet=quiet):
        clustered = open_space(home).clusters(
            **selection.arguments(), method=method, support=0, sample=sample, what="a heatmap"
        )
        picture = None if path is None else clustered.heatmap(title)
        if picture is not None and path is not None:
            picture.save(path)
    if format is Format.json:
        print_json(clustered.pairs())
    elif format is Format.csv:
        print_csv(["a", "b", "affinity"], [list(pair.values()) for pair in clustered.pairs()])
    elif picture is not None and path is not None:
        low, high = picture.facts["range"]
        facts = {"models": picture.facts["models"], "colours": f"from {low:.3f} to {high:.3f}"}
        drawing.print_written(path, facts, Format.table, quiet=quiet)
    note(clustered.notes, quiet=quiet)
