"""The command ``modelspace map``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format
from modelspace.cli.groups import Selection, grouped
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace map
modelspace map --group-by architecture --out map.svg
modelspace map --where "parameters < 1e7" --space saliency --out small.pdf
modelspace map --refit
"""


@grouped
def command(
    *,
    selection: Selection,
    refit: Annotated[bool, typer.Option("--refit", help="Compute a new map, in which every model may move.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of a new map.")] = 0,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="N",
            show_default=False,
            help="Models that a new map is fitted to, drawn at random if there are more; the others are placed next to "
            "those that they are nearest to. Default: 20000.",
        ),
    ] = None,
    no_store: drawing.NoStore = False,
    title: drawing.Title = "",
    out: drawing.Out = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Draw the models as points, similar ones near each other (UMAP).

    Coordinates are stored in the registry: new models are placed among the existing ones, and only --refit moves
    those. If the registry is not writable, the map is drawn but not stored. To read the coordinates, query the view
    places: modelspace sql "FROM places".

    A map can mislead: the neighbour recall says how many of each model's 5 nearest are also its nearest on the map.
    """
    path = drawing.target(out, "map.png", drawing.PICTURES)
    with drawing.drawing("the map", quiet=quiet):
        picture = open_space(home).map(
            **selection.arguments(), refit=refit, store=not no_store, seed=seed, sample=sample, title=title
        )
        picture.save(path)
    recall, layout = picture.facts["recall"], picture.facts["layout"]
    if format is Format.table:
        origin = {
            "stored": "as stored",
            "fitted": "newly computed",
            "placed": f"as stored, with {layout.n_new} new",
        }[layout.origin]
        facts = {"models": picture.facts["models"], "neighbour recall": recall, "coordinates": origin}
    else:
        facts = {
            "models": picture.facts["models"],
            "recall": recall.mean,
            "recall k": recall.k,
            "recall by chance": recall.chance,
            "coordinates": layout.origin,
            "new": layout.n_new,
            "stored": layout.stored,
            "seed": layout.projection.seed,
            "fitted": layout.n_fitted,
        }
    drawing.print_written(path, facts, format, quiet=quiet, notes=picture.facts["notes"])
