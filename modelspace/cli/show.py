"""The command ``modelspace show``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from modelspace.cli import cards, options
from modelspace.cli.formats import Format, print_record
from modelspace.cli.messages import note
from modelspace.cli.opening import open_space
from modelspace.errors import ModelspaceError

EXAMPLES = """
modelspace show curvature
modelspace show curvature --format json
"""

#: Number of neighbours that are shown.
NEIGHBOURS = 5


def command(
    name: options.Name,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Print everything known about a model, with its five nearest.

    The nearest are those of 'modelspace nearest' in the default space. A table also says what was measured of it.
    """
    space = open_space(home)
    model = space.show(name)
    neighbours = _neighbours(space, model.name, quiet)
    if format is not Format.table:
        nearest = [asdict(row) for row in neighbours] if neighbours is not None else []
        print_record({**asdict(model), "neighbours": nearest}, format)
        return
    from modelspace.cli.tables import print_card

    lines = [*cards.lines(model), ("outcomes", cards.outcomes_text(space.outcomes(model=model.name)))]
    print_card(model.name, [*lines, ("nearest", cards.neighbours_text(neighbours) if neighbours else "")])


def _neighbours(space: Any, name: str, quiet: bool) -> Any:
    """The nearest models; None, with a note, where there can't be any."""
    try:
        return space.nearest(name, k=NEIGHBOURS)
    except ModelspaceError as error:
        note([f"no neighbours: {error.message}"], quiet=quiet)
        return None
