"""``modelspace init``"""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import completion, options
from modelspace.cli.formats import Format
from modelspace.cli.messages import say, suggest
from modelspace.cli.spaces import print_spaces

EXAMPLES = """
modelspace init
modelspace init --method gradient_x_input --method saliency
modelspace init --probes photos/ --per-subfolder 15 --canvas 128
modelspace init --probes rooms --images 500 --space rooms500 --default
"""


def command(
    probes: Annotated[
        str | None,
        typer.Option(
            "--probes",
            metavar="rooms|NAME|DIR",
            show_default=False,
            autocompletion=completion.probe_sets,
            help="Probe images: the built-in rendered rooms, a registered set, or a folder of images, which are copied "
            "into the registry. Default: rooms.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            show_default=False,
            autocompletion=completion.methods,
            help="Attribution method: gradient_x_input, saliency, epsilon_lrp, ... Give it several times for several "
            "spaces. Default: gradient_x_input.",
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            show_default=False,
            help="Probe images per model. Default: 200, or as many as a folder has if those are fewer.",
        ),
    ] = None,
    canvas: Annotated[
        int | None,
        typer.Option(
            "--canvas", metavar="S", show_default=False, help="Side of the stored maps in pixels. Default: 64."
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option("--bits", metavar="B", show_default=False, help="Bits per stored map element. Default: 8."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="NAME", show_default=False, help="Name of the space. Default: the method."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            show_default=False,
            help="Of the rendered rooms, or of the choice of images from a folder. Default: 0.",
        ),
    ] = None,
    per_subfolder: Annotated[
        int | None,
        typer.Option(
            "--per-subfolder", metavar="N", show_default=False, help="Take so many images of each subfolder of DIR."
        ),
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Make this the space that queries use.")] = False,
    home: options.NewHome = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Make a registry, or add spaces to one.

    A space is a set of probe images with an attribution method and a map size. Models are compared inside one space. A
    space that is there already is left as it is.
    """
    from modelspace.workspace import ModelSpace, home_for_new

    folder = home_for_new(home)
    chosen = options.given(
        probes=probes,
        methods=method or None,
        images=images,
        canvas=canvas,
        bits=bits,
        name=space,
        seed=seed,
        per_subfolder=per_subfolder,
    )
    spaces = ModelSpace(folder).init(**chosen, default=default)
    if format is not Format.table or not quiet:
        print_spaces(spaces, format)
    say(f"registry: {folder}", quiet=quiet)
    suggest("modelspace add URI", quiet=quiet)
