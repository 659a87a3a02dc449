"""The command ``modelspace fill``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from modelspace.cli import completion, options
from modelspace.cli.formats import Format
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace fill dds
modelspace fill --dry-run
modelspace fill dds --model resnet --weights resnet=moved/resnet.safetensors
"""


def command(
    space: Annotated[
        str | None,
        typer.Argument(
            metavar="[SPACE]",
            show_default=False,
            autocompletion=completion.spaces,
            help="Name of the space to fill. Default: all spaces.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            show_default=False,
            autocompletion=completion.models,
            help="Only this model; may be given several times. Default: all models that a space lacks.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="NAME=FILE",
            show_default=False,
            help="Where the weights of a model are now, if they were moved; may be given several times.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print which models would be loaded, and which can't be.")
    ] = False,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Embed the registered models that a space lacks.

    A space that was made after its models is empty. Each model is loaded again from its address, with the weights
    file, layer, preprocessing and options that the registry knows, and refused if its weights or code are not those
    that were registered. What can't be loaded is listed with the reason. Finished models are stored at once: after
    Ctrl-C, the same command goes on.
    """
    from modelspace.cli.many import embed_many

    given = options.given(batch_size=batch_size, device=device if device != "auto" else None, dry_run=dry_run or None)
    files = options.pairs(weights, "NAME=FILE", "resnet=moved/resnet.safetensors", "weights")
    method = partial(open_space(home).fill, space, models=tuple(model or ()), weights=files, **given)
    embed_many(method, format, quiet=quiet, dry_run=dry_run)
