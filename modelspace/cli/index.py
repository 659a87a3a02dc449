"""The commands ``modelspace index push``, ``status`` and ``drop``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import options
from modelspace.cli.commands import SETTINGS
from modelspace.cli.confirm import confirm
from modelspace.cli.examples import epilog
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar

PUSH_EXAMPLES = """
modelspace index push --index milvus:models.db
modelspace index push --index milvus://db.example:19530 --space transfer
modelspace index push --whole
"""
STATUS_EXAMPLES = """
modelspace index status
modelspace index status --index milvus:models.db --deep --format json
"""
DROP_EXAMPLES = """
modelspace index drop --space saliency --yes
"""

group = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)


@group.callback(invoke_without_command=True)
def index(context: typer.Context) -> None:
    """Copies of the vectors in Milvus, for registries that one machine does not search.

    The registry stays the truth; 'modelspace nearest --index ADDRESS' searches in the copy.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


Space = Annotated[
    str | None, typer.Option("--space", metavar="SPACE", show_default=False, help="This space. Default: all spaces.")
]


@group.command("push", epilog=epilog(PUSH_EXAMPLES), context_settings=SETTINGS)
def push(
    index: options.Index = None,
    space: Space = None,
    whole: Annotated[bool, typer.Option("--whole", help="Fill all of it again, not only what is new.")] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Bring the copies in Milvus up to date.

    Models that were added are filled in, and what disagrees with the registry is filled again. A copy is replaced at
    once when the new one is complete and was compared with the registry.
    """
    with progress_bar("filling", "models", quiet=quiet) as progress:
        infos = open_space(home).push_index(index, space=space, whole=whole, progress=progress)
    _print(infos, format, quiet=quiet)
    say(f"wrote {sum(info.n_written for info in infos):,} vectors", quiet=quiet)


@group.command("status", epilog=epilog(STATUS_EXAMPLES), context_settings=SETTINGS)
def status(
    index: options.Index = None,
    space: Space = None,
    deep: Annotated[bool, typer.Option("--deep", help="Compare all rows, also of large copies.")] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Compare the copies with the registry. The exit code is 1 if one is damaged."""
    infos = open_space(home).index_status(index, space=space, deep=deep)
    _print(infos, format, quiet=quiet)
    damaged = [info for info in infos if info.state == "damaged"]
    for info in damaged:
        say(f"{info.space}: {info.reason}", quiet=quiet)
    if damaged:
        say("to fix: modelspace index push", quiet=quiet)
        raise typer.Exit(1)


@group.command("drop", epilog=epilog(DROP_EXAMPLES), context_settings=SETTINGS)
def drop(
    index: options.Index = None,
    space: Space = None,
    yes: options.Yes = False,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Drop the copies of this registry. Other collections of the store, and the registry, stay as they are."""
    opened = open_space(home)
    confirm(f"drop the copies of {'all spaces' if space is None else f'space {space}'}", yes=yes)
    names = opened.drop_index(index, space=space)
    say(f"dropped {', '.join(names)}" if names else "there is no copy", quiet=quiet)


def _print(infos: Any, format: Format, *, quiet: bool) -> None:
    if format is not Format.table:
        print_records(infos, format)
    elif not quiet:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("space", lambda row: row.space, least=16, fold=True, style="bold"),
            Column("state", lambda row: row.state),
            Column("models", lambda row: f"{row.n_models:,}", right=True),
            Column("indexed", lambda row: f"{row.n_indexed:,}", right=True),
            Column("parts", lambda row: str(row.parts), right=True, rank=2),
            Column("recall", lambda row: f"{row.recall:.3f}", right=True, rank=3),
            Column("reason", lambda row: row.reason, least=16, fold=True, rank=1, optional=True),
        ]
        print_table(columns, infos)
