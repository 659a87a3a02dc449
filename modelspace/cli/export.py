"""The command ``modelspace export``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import drawing, options
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar

EXAMPLES = """
modelspace export models.parquet
modelspace export affinity.csv --what affinity --wide
modelspace export vectors.npy --dtype float32 --space saliency
modelspace export models.nwk
modelspace export folder --what models --what maps
"""


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="A file to write, in the format of its suffix; or a folder for several files.",
        ),
    ],
    what: Annotated[
        list[str] | None,
        typer.Option(
            "--what",
            metavar="WHAT",
            show_default=False,
            help="models, affinity, vectors, neighbours, tree, maps, tasks or outcomes; may be given several times for "
            "a folder. Default: by the format; for a folder, all but the maps.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="parquet|csv|json|npy|newick",
            show_default=False,
            help="Format of the files. Default: by the suffix.",
        ),
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Write affinities as a matrix with a column per model, not a row per pair.")
    ] = False,
    k: Annotated[
        int | None,
        typer.Option("-k", metavar="K", show_default=False, help="Neighbours of each model. Default: 10."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="float64|float32",
            show_default=False,
            help="Type of vectors and affinities in .npy files. Default: float64.",
        ),
    ] = None,
    method: drawing.Linkage = "average",
    space: options.Space = None,
    where: options.Where = None,
    index: options.Index = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Write tables, matrices, vectors or the tree for other programs.

    Parquet and CSV are tables; .npy is for numpy, with the models' names in a text file next to it; .nwk is the tree in
    Newick format. Nothing is overwritten without --force.
    """
    with progress_bar("exporting", "", quiet=quiet):
        written = open_space(home).export(
            target,
            what or (),
            format=format,
            space=space,
            where=where,
            force=force,
            wide=wide,
            method=method,
            **options.given(k=k, dtype=dtype, index=index),
        )
    if quiet:
        return
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("file", lambda row: row.file, least=20, fold=True),
        Column("what", lambda row: row.what),
        Column("format", lambda row: row.format),
        Column("space", lambda row: row.space, optional=True),
        Column("rows", lambda row: f"{row.rows:,}", right=True),
        Column("bytes", lambda row: f"{row.bytes:,}", right=True),
    ]
    print_table(columns, written)
