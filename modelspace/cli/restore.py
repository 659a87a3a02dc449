"""The command ``modelspace restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelspace.cli import options
from modelspace.cli.messages import say

EXAMPLES = """
modelspace restore
modelspace restore backups/registry-20260101-120000.duckdb
"""


def command(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", show_default=False, help="The backup. Default: the last one that is listed."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also if the backup is of another registry.")] = False,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Put a backup in the place of the registry.

    The former registry is moved aside, to a name that says when, and is not deleted.
    """
    from modelspace.home import find_home
    from modelspace.workspace import ModelSpace

    # The registry may be gone: then its folder is the one that is named, or this one.
    restored = ModelSpace(find_home(home) or Path.cwd()).restore(file, force=force)
    say(f"restored {restored.models} models from {restored.file}", quiet=quiet)
    if restored.former:
        say(f"the former registry is now {restored.former}", quiet=quiet)
