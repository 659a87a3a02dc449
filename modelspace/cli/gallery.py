"""The command ``modelspace gallery``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion, drawing, options
from modelspace.cli.formats import Format
from modelspace.cli.groups import Files, InputOptions, Selection, grouped
from modelspace.cli.opening import open_space
from modelspace.errors import UsageError

EXAMPLES = """
modelspace gallery
modelspace gallery curvature denoise --image 0 --image 7 --out two.pdf
modelspace gallery --where "task = 'inpainting_whole'" --space saliency
modelspace gallery curvature --layers auto --out depth.png
modelspace gallery python:nets.py:make_net --layers conv1,conv3,fc:in \
    --input-size 64 --mean 0.5 --std 0.5 --channels gray
"""


@grouped
def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            autocompletion=completion.models,
            help="Models, in the order of the columns. Default: up to 16 of the space. With --layers: one name or "
            "address.",
        ),
    ] = None,
    image: Annotated[
        list[int] | None,
        typer.Option(
            "--image",
            metavar="K",
            show_default=False,
            help="Number of a probe image, from 0; may be given several times. Default: the first four.",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="auto|A,B,...",
            show_default=False,
            help="Show these layers of one model, or 'auto' for six from shallow to deep. Runs the model.",
        ),
    ] = None,
    *,
    selection: Selection,
    colours: Annotated[
        str,
        typer.Option("--colours", metavar="relief|redblue", help="Colours of signed maps; relief also works in gray."),
    ] = "relief",
    files: Files,
    float32: options.Float32 = False,
    preprocessing: InputOptions,
    device: options.Device = "auto",
    title: drawing.Title = "",
    out: drawing.Out = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Draw attribution maps side by side: what models look at.

    One column per model, one row per probe image, showing the stored maps. With --layers the columns are layers of one
    model; its loading options are those of 'modelspace add'.
    """
    path = drawing.target(out, "gallery.png", drawing.PICTURES)
    loading = {**files.given(), **options.given(float32=float32 or None, preprocessing=preprocessing.flags())}
    if device != "auto":
        loading["device"] = device
    with drawing.drawing("the gallery", quiet=quiet):
        picture = open_space(home).gallery(
            models or (),
            images=image or None,
            layers=_layer_names(layers),
            **selection.arguments(),
            colours=colours,
            title=title,
            **loading,
        )
        picture.save(path)
    facts: dict[str, Any] = {key: picture.facts[key] for key in ("models", "layers", "images") if key in picture.facts}
    if format is Format.table:
        facts = {key: ", ".join(map(str, value)) for key, value in facts.items()}
    drawing.print_written(path, facts, format, quiet=quiet, notes=picture.facts["notes"])


def _layer_names(layers: str | None) -> list[str]:
    names = [name.strip() for name in (layers or "").split(",") if name.strip()]
    if layers is not None and not names:
        raise UsageError("no layer is named", "give names separated by commas, or 'auto': --layers auto")
    return names
