"""``modelspace heatmap``"""

from __future__ import annotations

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format, print_csv, print_json
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace heatmap
modelspace heatmap --space saliency --out saliency.svg
modelspace heatmap --format csv > affinities.csv
"""


def command(
    space: options.Space = None,
    where: options.Where = None,
    group_by: drawing.GroupBy = None,
    method: drawing.Linkage = "average",
    title: drawing.Title = "",
    out: drawing.Out = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Draw the affinities of all pairs of models.

    Rows and columns stand in the order of the tree's leaves. With --format json or csv the pairs are printed, and drawn
    only with --out.
    """
    path = drawing.target(out, "heatmap.png", drawing.PICTURES) if out or format is Format.table else None
    with drawing.drawing("the heatmap", quiet=quiet):
        found = open_space(home).clusters(space=space, where=where, group_by=group_by, method=method, support=0)
        picture = None if path is None else found.heatmap(title)
        if picture is not None and path is not None:
            picture.save(path)
    if format is Format.json:
        print_json(found.pairs())
    elif format is Format.csv:
        print_csv(["a", "b", "affinity"], [list(pair.values()) for pair in found.pairs()])
    elif picture is not None and path is not None:
        low, high = picture.facts["range"]
        facts = {"models": picture.facts["models"], "colours": f"from {low:.3f} to {high:.3f}"}
        drawing.tell(path, facts, Format.table, quiet=quiet)
