"""The command ``modelspace remove``."""

from __future__ import annotations

from modelspace.cli import options
from modelspace.cli.confirm import confirm
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError

EXAMPLES = """
modelspace remove curvature
modelspace remove curvature edge2d
modelspace remove --where "tags['trial'] = 'yes'" --yes
"""


def command(
    names: options.Names = None,
    where: options.Where = None,
    yes: options.Yes = False,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Remove models from the registry.

    Their entries, maps and vectors are deleted: of one model at once, of several after a question, and of all of them
    or none. The affinities between the other models stay exactly the same. To restore a model, add it again.
    """
    space = open_space(home)
    names = list(dict.fromkeys(names or ()))
    if len(names) == 1 and where is None:
        uri = space.show(names[0]).uri
        space.remove(names[0])
        say(f"removed {names[0]} ({uri})", quiet=quiet)
        return
    if bool(names) == (where is not None):
        raise UsageError("name the models, or choose them with --where", "example: modelspace remove curvature edge2d")
    if where is not None:
        names = [row.name for row in space.list(where)]
    if names:
        confirm(f"remove {len(names)} models ({shortened(names)})", yes=yes or len(names) == 1)
        space.remove_all(names)
        say(f"removed {', '.join(names)}", quiet=quiet)
    else:
        say("no model matches the condition", quiet=quiet)


def shortened(names: list[str], most: int = 8) -> str:
    """The first names of a list, and the number of the others.

    >>> shortened(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
