"""The command ``modelspace suggest``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import messages, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace suggest flowers
modelspace suggest flowers -n 3 --where "parameters < 3e7"
modelspace suggest flowers -n 8 --format csv
"""


def command(
    task: options.TaskName,
    n: Annotated[int, typer.Option("-n", metavar="N", help="Number of models.")] = 3,
    where: options.Where = None,
    space: options.Space = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Suggest which models to try next on a task, and say why.

    For those who train elsewhere: try them, and tell what came out with 'modelspace observe'. Models that were measured
    and near-copies of others are left out. 'modelspace try' runs the models itself.
    """
    prospects = open_space(home).suggest(task, n, where=where, space=space)
    if format is not Format.table:
        messages.note(prospects.notes, quiet=quiet)
        print_records(prospects, format)
        return
    from modelspace.cli.prospects import print_prospects

    print_prospects(f"models to try next on task {task}", prospects)
    if prospects:
        messages.suggest(f"modelspace observe {task} {prospects[0].name} SCORE", quiet=quiet)
