"""The command ``modelspace tag``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import options
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError

EXAMPLES = """
modelspace tag curvature licence=mit owner=me
modelspace tag curvature --unset owner
modelspace tag curvature --task "surface curvature" --data "rendered rooms"
"""


def command(
    name: options.Name,
    tags: Annotated[list[str] | None, typer.Argument(metavar="K=V", show_default=False, help="Tags to set.")] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="K", show_default=False, help="Tag to remove; may be given several times."),
    ] = None,
    task: options.Task = None,
    data: options.Data = None,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Set or remove a model's tags, task or data. They can be queried with --where and 'modelspace sql'."""
    changes: dict[str, str | None] = dict(options.pairs(tags))
    if both := sorted(set(changes) & set(unset or [])):
        raise UsageError(f"the tag {both[0]!r} is both set and unset")
    if not changes and not unset and task is None and data is None:
        raise UsageError("there is nothing to set", f"example: modelspace tag {name} licence=mit")
    changes.update(dict.fromkeys(unset or []))
    model = open_space(home).tag(name, changes, task=task, data=data)
    text = ", ".join(f"{key}={value}" for key, value in model.tags.items()) or "none"
    say(f"{name}: task {model.task or 'not set'}, data {model.data or 'not set'}, tags {text}", quiet=quiet)
