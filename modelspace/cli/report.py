"""The command ``modelspace report``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import drawing, options
from modelspace.cli.formats import Format
from modelspace.cli.groups import Selection, grouped
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace report
modelspace report --out report.md --threshold 0.9
modelspace report --space saliency --out saliency.html
"""


@grouped
def command(
    *,
    selection: Selection,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="S", help="Affinity from which two models count as duplicates.")
    ] = 0.98,
    sample: drawing.Sample = None,
    no_store: drawing.NoStore = False,
    title: drawing.Title = "",
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="FILE", help="HTML file to write, or MD with its pictures in a folder next to it."
        ),
    ] = "report.html",
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Write a summary of a space.

    Counts, map, tree, heatmap, duplicates, outliers, and hubs: models that are near to many others. Of more models than
    are compared, the last three are looked for among the nearest of 1,000 models drawn at random.
    """
    path = drawing.target(out, "report.html", drawing.REPORTS)
    with drawing.drawing("the report", quiet=quiet):
        report = open_space(home).report(
            **selection.arguments(), threshold=threshold, sample=sample, store=not no_store, title=title
        )
        written = report.save(path)
    facts = {"sections": ", ".join(section.heading for section in report.sections)}
    facts["pictures"] = ", ".join(str(file) for file in written[1:])
    drawing.print_written(path, facts, format, quiet=quiet, notes=report.notes)
