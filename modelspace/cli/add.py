"""``modelspace add``"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.cards import input_text
from modelspace.cli.formats import Format, print_record
from modelspace.cli.messages import say, suggest
from modelspace.cli.opening import open_or_make
from modelspace.cli.progress import progress_bar

EXAMPLES = """
modelspace add zoo:curvature
modelspace add python:nets.py:make_net --input-size 64 --mean 0.5 --std 0.5 --channels gray
modelspace add python:my_package.models:resnet18 --weights resnet18.safetensors --name resnet18 \\
    --input-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --task classification
modelspace add zoo:curvature --name curvature-2 --layer output --tag owner=me
"""


def command(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI", help="Address of the model, for example zoo:curvature or python:path/to/file.py:factory."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="N", show_default=False, help="Name in the registry. Default: the end of the address."
        ),
    ] = None,
    weights: options.Weights = None,
    layer: options.Layer = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    value_range: options.ValueRange = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="T", show_default=False, help="What the model was trained to do.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="D", show_default=False, help="What it was trained on.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="K=V", show_default=False, help="Anything else; may be given several times."),
    ] = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let it take the place of another model of the same name.")
    ] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Register a model: one pass over the probe images.

    The pass serves every space of the registry. In a folder without a registry, one is made first with the defaults of
    'modelspace init'. Adding the same model again changes nothing. What neither the model nor its source states of its
    input (size, mean, std) has to be given here.
    """
    from modelspace.sources import parse_uri

    parse_uri(uri)  # before a registry is made for it
    flags = options.preprocessing(input_size, mean, std, channels, value_range)
    tags = options.pairs(tag)
    space, made = open_or_make(home)
    if made:
        say(f"made a registry in {space.home}, with rendered rooms and gradient*input", quiet=quiet)
    with progress_bar(f"adding {uri}", "images", quiet=quiet) as progress:
        added = space.add(
            uri,
            name=name,
            weights=weights,
            layer=layer,
            preprocessing=flags,
            task=task,
            data=data,
            tags=tags,
            device=device,
            batch_size=batch_size,
            replace=replace,
            progress=progress,
        )
    if format is not Format.table:
        print_record(added, format)
    elif not quiet:
        _print_added(added)
    for remark in added.notes:
        if not remark.startswith("explains "):  # said by the card
            say(f"note: {remark}", quiet=quiet)
    if added.status == "unchanged" and _asks_for_more(added.card, task, data, tags):
        say(f"note: its task, data and tags are as before; 'modelspace tag {added.name} ...' sets them", quiet=quiet)
    suggest(f"modelspace nearest {added.name}", quiet=quiet)


def _asks_for_more(card: Any, task: str | None, data: str | None, tags: dict[str, str]) -> bool:
    """Whether the words of an `add` that changed nothing would have changed the metadata."""
    return (
        (task is not None and task != card.task)
        or (data is not None and data != card.data)
        or any(card.tags.get(key) != value for key, value in tags.items())
    )


_TITLES = {
    "added": "added {}",
    "replaced": "replaced {}",
    "completed": "{} was registered; it is now in more spaces",
    "unchanged": "{} is registered already; nothing was changed",
}


def _print_added(added: Any) -> None:
    from modelspace.cli.tables import print_card

    card = added.card
    print_card(
        _TITLES[added.status].format(added.name),
        [
            ("layer", f"{card.layer} ({card.layer_found_by}), {figures.shape(card.output_shape)}"),
            ("input", input_text(card.preprocessing.to_dict())),
            ("parameters", figures.count(card.parameters)),
            ("spaces filled", ", ".join(added.spaces)),
            ("seconds", "" if added.status == "unchanged" else figures.seconds(card.seconds)),
        ],
    )
