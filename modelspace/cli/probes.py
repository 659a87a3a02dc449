"""The commands ``modelspace probes create``, ``list`` and ``show``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion, options
from modelspace.cli.commands import SETTINGS
from modelspace.cli.examples import epilog
from modelspace.cli.formats import Format, print_record, print_records
from modelspace.cli.messages import say, suggest
from modelspace.cli.opening import open_space
from modelspace.errors import NotFoundError
from modelspace.names import did_you_mean

CREATE_EXAMPLES = """
modelspace probes create photos photos/ --per-subfolder 15
modelspace probes create rooms-7 rooms --seed 7
modelspace probes create crops photographs --images 300
"""
LIST_EXAMPLES = """
modelspace probes list
"""
SHOW_EXAMPLES = """
modelspace probes show rooms
modelspace probes show rooms --format json
"""

group = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)


@group.callback(invoke_without_command=True)
def probes(context: typer.Context) -> None:
    """Probe sets: the images that every model of a space is run on."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@group.command("create", epilog=epilog(CREATE_EXAMPLES), context_settings=SETTINGS)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new set.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="rooms, yards, streets, repainted, photographs, or a folder of images, which are copied.",
        ),
    ] = "rooms",
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            show_default=False,
            help="Number of images to take from a folder (default: all), or of photographs to crop (default: 200).",
        ),
    ] = None,
    per_subfolder: options.PerSubfolder = None,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="S", show_default=False, help="Side of the stored images in pixels."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            show_default=False,
            help="Seed of the rendered images or crops, or of the choice of images. Default: 0.",
        ),
    ] = None,
    home: options.NewHome = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Register a probe set. Images that are already registered keep their set and its name."""
    from modelspace.workspace import ModelSpace, home_for_new

    arguments = options.given(images=images, per_subfolder=per_subfolder, size=size, seed=seed)
    probe_set = ModelSpace(home_for_new(home)).create_probes(name, source, **arguments)
    if format is not Format.table:
        print_record(probe_set, format)
    elif not quiet:
        _print_card(probe_set)
    if probe_set.name != name:
        say(f"note: these images are already registered as {probe_set.name}; {name} was not created", quiet=quiet)
    suggest(f"modelspace init --probes {probe_set.name}", quiet=quiet)


@group.command("list", epilog=epilog(LIST_EXAMPLES), context_settings=SETTINGS)
def list_sets(
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List the probe sets."""
    sets = open_space(home).probe_sets()
    if format is not Format.table:
        print_records(sets, format)
        return
    from modelspace.cli.tables import Column, print_table

    columns = [
        Column("name", lambda row: row.name, least=24, fold=True, style="bold"),
        Column("kind", lambda row: row.kind, rank=1),
        Column("images", lambda row: _images(row), right=True),
        Column("size", lambda row: str(row.size), right=True),
        Column("id", lambda row: row.probe_id, rank=2, least=12),
    ]
    print_table(columns, sets)


@group.command("show", epilog=epilog(SHOW_EXAMPLES), context_settings=SETTINGS)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=completion.probe_sets, help="Name of the probe set.")
    ],
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Print everything known about a probe set."""
    sets = open_space(home).probe_sets()
    probe_set = next((row for row in sets if row.name == name), None)
    if probe_set is None:
        hint = did_you_mean(name, [row.name for row in sets], "'modelspace probes list' shows the probe sets")
        raise NotFoundError(f"there is no probe set {name!r}", hint)
    if format is not Format.table:
        print_record(probe_set, format)
        return
    _print_card(probe_set)


def _images(row: Any) -> str:
    # A rendered set has any number of images.
    return "any" if row.n_images is None else str(row.n_images)


def _print_card(row: Any) -> None:
    from modelspace.cli.tables import print_card

    lines = [("kind", row.kind), ("images", _images(row)), ("size", f"{row.size}x{row.size}"), ("id", row.probe_id)]
    print_card(row.name, [*lines, *((str(key), str(value)) for key, value in row.spec.items() if key != "kind")])
