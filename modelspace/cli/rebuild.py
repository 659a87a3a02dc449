"""The command ``modelspace rebuild``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import options
from modelspace.cli.formats import Format
from modelspace.cli.messages import say, timed
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.cli.spaces import print_spaces

EXAMPLES = """
modelspace rebuild
modelspace rebuild --coordinates
modelspace rebuild --compact
"""


def command(
    coordinates: Annotated[
        bool,
        typer.Option(
            "--coordinates", "--from-maps", help="First recompute affinities and vectors from the stored maps."
        ),
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="First rewrite the registry without the unused space in its file.")
    ] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Rebuild the index files from the registry. No model is run."""
    with timed(verbose, quiet=quiet), progress_bar("rebuilding", "models", quiet=quiet) as progress:
        spaces = open_space(home).rebuild(coordinates=coordinates, compact=compact, progress=progress)
    if format is not Format.table or not quiet:
        print_spaces(spaces, format)
    what = "vectors and index files" if coordinates else "index files"
    say(f"rebuilt the {what} of {len(spaces)} space{'' if len(spaces) == 1 else 's'}", quiet=quiet)
