"""The command ``modelspace atlas``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format
from modelspace.cli.groups import Selection, grouped
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace atlas
modelspace atlas --out models.html --group-by architecture
modelspace atlas --where "task IS DISTINCT FROM 'inpainting'" -k 5
modelspace atlas --space dds --beside gradient_x_input
"""

Beside = Annotated[
    str | None,
    typer.Option("--beside", metavar="SPACE", show_default=False, help="Show a second map, of this space, next to it."),
]
Neighbours = Annotated[int, typer.Option("-k", metavar="K", help="Neighbours of each model.")]


@grouped
def command(
    *,
    selection: Selection,
    k: Neighbours = 10,
    beside: Beside = None,
    no_store: drawing.NoStore = False,
    title: drawing.Title = "",
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="HTML file to write.")] = "atlas.html",
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Write an interactive HTML page of the models.

    The page works from disk without a network. It has the map and tree of 'modelspace map' and 'modelspace tree', a
    card for each model, its nearest models as ranked by 'modelspace nearest', search, colours, filters, and a lasso
    whose selection is a table to download. Intervals are included for up to 1,000 models, the tree and attribution
    maps for up to 2,000. To see it at once: modelspace open.
    """
    path = drawing.target(out, "atlas.html", drawing.PAGES)
    with drawing.drawing("the atlas", quiet=quiet):
        page = open_space(home).atlas(**selection.arguments(), k=k, beside=beside, store=not no_store, title=title)
        page.save(path)
    drawing.print_written(path, {"models": page.n_models}, format, quiet=quiet, notes=page.notes)
