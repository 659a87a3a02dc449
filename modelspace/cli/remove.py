"""``modelspace remove``"""

from __future__ import annotations

from modelspace.cli import options
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace remove curvature
"""


def command(name: options.Name, home: options.Home = None, quiet: options.Quiet = False) -> None:
    """Remove one model from the registry.

    Its entry, maps and vectors go, and nothing is asked. The affinities of the other models to each other stay exactly
    as they are. Adding the model again brings it back.
    """
    space = open_space(home)
    uri = space.show(name).uri
    space.remove(name)
    say(f"removed {name} ({uri})", quiet=quiet)
