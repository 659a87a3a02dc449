"""The command ``modelspace show``."""

from __future__ import annotations

from modelspace.cli import cards, options
from modelspace.cli.formats import Format, print_record
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace show curvature
modelspace show curvature --format json
"""


def command(
    name: options.Name,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Print everything known about a model.

    A table also says what was measured of it.
    """
    space = open_space(home)
    model = space.show(name)
    if format is not Format.table:
        print_record(model, format)
        return
    from modelspace.cli.tables import print_card

    print_card(model.name, [*cards.lines(model), ("outcomes", cards.outcomes_text(space.outcomes(model=model.name)))])
