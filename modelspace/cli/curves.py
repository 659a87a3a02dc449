"""The command ``modelspace curves``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format

EXAMPLES = """
modelspace curves evaluation.json
modelspace curves evaluation.csv --out curves.svg
"""


def command(
    evaluation: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON or CSV file of 'modelspace evaluate --out FILE'.")
    ],
    title: drawing.Title = "",
    out: drawing.Out = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Draw precision and recall at K of the rankings of an evaluation.

    Baselines are gray; random order is a line. Needs no registry.
    """
    from modelspace.verbs.pictures.curves import curves_picture

    path = drawing.target(out, "curves.png", drawing.PICTURES)
    picture = curves_picture(evaluation, title)
    picture.save(path)
    methods = list(picture.facts["curves"])
    drawing.print_written(
        path, {"methods": ", ".join(methods) if format is Format.table else methods}, format, quiet=quiet
    )
