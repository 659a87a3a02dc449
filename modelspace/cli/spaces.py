"""The commands ``modelspace spaces``, ``spaces remove`` and ``spaces rename``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion, options
from modelspace.cli.commands import SETTINGS
from modelspace.cli.confirm import confirm
from modelspace.cli.examples import epilog
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import say
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace spaces
modelspace spaces --set-default saliency
modelspace spaces --format csv
"""
REMOVE_EXAMPLES = """
modelspace spaces remove saliency
modelspace spaces remove transfer dds --yes
"""
RENAME_EXAMPLES = """
modelspace spaces rename saliency saliency-2026
"""

group = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)


@group.callback(invoke_without_command=True, epilog=epilog(EXAMPLES))
def spaces(
    context: typer.Context,
    set_default: Annotated[
        str | None,
        typer.Option(
            "--set-default",
            metavar="SPACE",
            show_default=False,
            autocompletion=completion.spaces,
            help="First make this the default space of queries.",
        ),
    ] = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List the spaces with their definitions; remove or rename one.

    The column "index" says whether the index file is fresh; the next query rebuilds one that is not.
    """
    if context.invoked_subcommand is not None:
        return
    space = open_space(home)
    if set_default is not None:
        space.set_default(set_default)
        say(f"queries now use the space {set_default}", quiet=quiet)
    print_spaces(space.spaces(), format)


@group.command("remove", epilog=epilog(REMOVE_EXAMPLES), context_settings=SETTINGS)
def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="SPACE...", autocompletion=completion.spaces, help="Names of the spaces.")
    ],
    yes: options.Yes = False,
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Remove spaces with the vectors and maps in them.

    All of the named spaces are removed, or none. Models and probe images stay. A space that another one is computed
    from, the default space of others, and the only space of a model are kept. To fill a space again its models have to
    be run again, so this asks first if models are in it.
    """
    space = open_space(home)
    full = {row.name: row.n_models for row in space.spaces() if row.n_models and {row.name, row.space_id} & set(names)}
    if full:
        counts = ", ".join(f"{name}: {count} model{'' if count == 1 else 's'}" for name, count in full.items())
        confirm(f"remove what is stored in {'this space' if len(full) == 1 else 'these spaces'} ({counts})", yes=yes)
    removed = space.remove_space(names)
    say(f"removed {', '.join(removed)}", quiet=quiet)


@group.command("rename", epilog=epilog(RENAME_EXAMPLES), context_settings=SETTINGS)
def rename(
    name: Annotated[str, typer.Argument(metavar="SPACE", autocompletion=completion.spaces, help="Current name.")],
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", help="New name.")],
    home: options.Home = None,
    quiet: options.Quiet = False,
) -> None:
    """Rename a space. Blends that use it, its index and its map stay as they are."""
    open_space(home).rename_space(name, new_name)
    say(f"the space {name} is now called {new_name}", quiet=quiet)


def print_spaces(spaces: Any, format: Format) -> None:
    """Print records of `modelspace.results.SpaceInfo`."""
    if format is not Format.table:
        print_records(spaces, format)
        return
    from modelspace.cli.tables import Column, print_table

    names = {row.space_id: row.name for row in spaces}
    columns = [
        Column("name", lambda row: row.name, least=24, fold=True, style="bold"),
        Column("default", lambda row: "yes" if row.is_default else "", rank=1),
        Column("method", lambda row: row.method, rank=3),
        Column("probes", lambda row: row.probes, rank=2),
        Column("images", lambda row: str(row.n_images), right=True),
        Column("canvas", lambda row: str(row.canvas or ""), right=True),
        Column("bits", lambda row: "" if row.method == "blend" else str(row.bits), right=True, rank=5),
        Column("models", lambda row: str(row.n_models), right=True),
        Column("index", lambda row: row.index, rank=6),
        Column("scalar", lambda row: row.scalar, rank=7),
        Column("id", lambda row: row.space_id, rank=8),
        Column("parameters", lambda row: _parameters(row.parameters, names), rank=4, optional=True),
    ]
    print_table(columns, spaces)


def _parameters(parameters: dict[str, Any], names: dict[str, str]) -> str:
    """Parameters as text: the members of a blend by name, without options that are "none"."""
    weights = parameters.get("members")
    words, plain = [], {key: value for key, value in parameters.items() if value != "none"}
    # A foreign registry may have anything there, and this list is one way to see it.
    if isinstance(weights, dict) and all(isinstance(weight, int | float) for weight in weights.values()):
        del plain["members"]
        members = sorted(weights.items(), key=lambda pair: -pair[1])
        words = [" + ".join(f"{weight:.3g} {names.get(member, member)}" for member, weight in members)]
    words += [f"{key}={value}" for key, value in plain.items()]
    return " ".join(words)
