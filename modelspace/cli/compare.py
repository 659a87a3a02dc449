"""The command ``modelspace compare``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion, drawing, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import note, say
from modelspace.cli.opening import open_space
from modelspace.cli.remove import shortened

EXAMPLES = """
modelspace compare curvature edge2d
modelspace compare curvature edge2d --space saliency --out both.png
modelspace compare curvature edge2d --format json
"""

_Model = Annotated[str, typer.Argument(autocompletion=completion.models, help="Name of a registered model.")]


def command(
    a: _Model,
    b: _Model,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="SPACE",
            show_default=False,
            autocompletion=completion.spaces,
            help="Only this space. Default: all that hold both.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", show_default=False, help="Draw their attribution maps side by side: PNG, SVG, PDF."
        ),
    ] = None,
    image: Annotated[
        list[int] | None,
        typer.Option(
            "--image",
            metavar="K",
            show_default=False,
            help="With --out: number of a probe image, from 0; may be given several times. Default: the first four.",
        ),
    ] = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Compare two registered models in every space.

    Of each space: the affinity with its 95% interval over the probe images; how well A serves as a transfer source for
    B and B for A, where the ranking has a direction; and the height at which the clustering tree ('modelspace tree')
    merges the two, with the size of that cluster.
    """
    path = drawing.target(out, "compare.png", drawing.PICTURES) if out is not None else None
    opened = open_space(home)
    compared = opened.compare(a, b, space=space)
    if path is not None:
        with drawing.drawing("the maps", quiet=quiet):
            picture = opened.gallery([a, b], images=image or None, space=space)
            picture.save(path)
        note(picture.facts["notes"], quiet=quiet)
    if format is not Format.table:
        print_records(compared, format)
    else:
        _print(compared, a, b)
    if path is not None:
        say(f"wrote {path}", quiet=quiet)


def _print(compared: Any, a: str, b: str) -> None:
    from modelspace.cli import tables
    from modelspace.cli.tables import Column

    columns = [
        Column("space", lambda row: row.space, least=18, fold=True, style="bold"),
        Column("affinity", lambda row: f"{row.affinity:.4f}", right=True),
        Column("95% interval", lambda row: f"{row.low:.4f}..{row.high:.4f}", right=True, rank=3),
        Column("A for B", lambda row: _score(row, row.a_to_b), right=True, rank=1, optional=True),
        Column("B for A", lambda row: _score(row, row.b_to_a), right=True, rank=1, optional=True),
        Column("merged at", lambda row: "" if row.height is None else f"{row.height:.3f}", right=True, rank=2),
        Column("cluster", _size, right=True, rank=2),
    ]
    footnotes = []
    if trees := [row for row in compared if row.height is not None]:
        row = next((row for row in trees if row.ranked_by in ("combined", "directed")), trees[-1])
        parts = " with ".join(shortened(list(names)) for names in (row.with_a, row.with_b))
        footnotes.append(f"in the tree of {row.space}, the height {row.height:.3f} merges {parts}")
    tables.print_line(f"A: {a}, B: {b}")
    tables.print_table(columns, compared, footnotes=footnotes)


def _score(row: Any, score: float | None) -> str:
    """The score of a ranking that has a direction or a correction; the affinity is shown already."""
    return "" if score is None or row.ranked_by == "affinity" else f"{score:.4f}"


def _size(row: Any) -> str:
    return "" if row.height is None else f"{len(row.with_a) + len(row.with_b)} of {row.n_models}"
