"""The command ``modelspace remove``."""

from __future__ import annotations

from modelspace.cli import options
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace remove curvature
"""


def command(name: options.Name, home: options.Home = None, quiet: options.Quiet = False) -> None:
    """Remove a model from the registry.

    Its entry, maps and vectors are deleted without confirmation. The affinities between the other models stay exactly
    the same. To restore the model, add it again.
    """
    space = open_space(home)
    uri = space.show(name).uri
    space.remove(name)
    say(f"removed {name} ({uri})", quiet=quiet)
