"""The command ``modelspace rename``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import completion, options
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace rename curvature curvature-rooms
"""


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.models, help="Current name.")],
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", help="New name.")],
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Rename a model."""
    open_space(home).rename(name, new_name)
    say(f"{name} is now called {new_name}", quiet=quiet)
