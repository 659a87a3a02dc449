"""The command ``modelspace tag``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import completion, options
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError

EXAMPLES = """
modelspace tag curvature licence=mit owner=me
modelspace tag curvature edge2d --unset owner
modelspace tag --where "uri LIKE 'zoo:%'" origin=zoo
modelspace tag curvature --task "surface curvature" --data "rendered rooms"
"""


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...|K=V...",
            show_default=False,
            autocompletion=completion.models,
            help="Names of models, and the tags to set: words with an equals sign.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset",
            metavar="K",
            show_default=False,
            autocompletion=completion.tags,
            help="Tag to remove; may be given several times.",
        ),
    ] = None,
    task: options.Task = None,
    data: options.Data = None,
    where: options.Where = None,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Set or remove tags, task or data of models.

    All models that are named or meet the condition are changed, or none. Tags can be queried with --where and
    'modelspace sql'.
    """
    names = [word for word in words or () if "=" not in word]
    changes: dict[str, str | None] = dict(options.pairs([word for word in words or () if "=" in word]))
    if bool(names) == (where is not None):
        raise UsageError(
            "name the models, or choose them with --where", "example: modelspace tag curvature licence=mit"
        )
    if both := sorted(set(changes) & set(unset or [])):
        raise UsageError(f"the tag {both[0]!r} is both set and unset")
    if not changes and not unset and task is None and data is None:
        which = " ".join(names) or "--where CONDITION"
        raise UsageError(
            "there is nothing to set", f"tags are of the form KEY=VALUE: modelspace tag {which} licence=mit"
        )
    changes.update(dict.fromkeys(unset or []))
    space = open_space(home)
    if len(names) == 1:
        model = space.tag(names[0], changes, task=task, data=data)
        text = ", ".join(f"{key}={value}" for key, value in model.tags.items()) or "none"
        say(f"{names[0]}: task {model.task or 'not set'}, data {model.data or 'not set'}, tags {text}", quiet=quiet)
    else:
        changed = space.tag_all(changes, names, where=where, task=task, data=data)
        say(f"changed {', '.join(changed)}", quiet=quiet)
