"""Options that several commands share, with their help texts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import completion
from modelspace.cli.formats import Format
from modelspace.errors import UsageError

Home = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        show_default=False,
        help="Folder of the registry. Default: MODELSPACE_HOME, else the current folder if it holds registry.duckdb, "
        "else the nearest parent that does.",
    ),
]
NewHome = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        show_default=False,
        help="Folder to make the registry in. Default: MODELSPACE_HOME, else the current folder.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress, remarks or hints; errors and data only.")
]
FormatOption = Annotated[
    Format, typer.Option("--format", metavar="table|json|csv", help="How to print on standard output.")
]
Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="SPACE",
        show_default=False,
        autocompletion=completion.spaces,
        help="Space to compare in. Default: the registry's default space.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL",
        show_default=False,
        help="Only models that meet this SQL condition on the table models, for example \"task = 'curvature'\".",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.models, help="Name of the model.")]

Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", show_default=False, help="Weights to load: safetensors or a state dict."),
]
TrustCode = Annotated[
    str | None,
    typer.Option(
        "--trust-code",
        metavar="SHA256",
        show_default=False,
        help="SHA-256 of the file whose code may run, for file: addresses. Without it the file is refused and its "
        "SHA-256 is shown.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="LAYER",
        show_default=False,
        help="Layer to explain: a module's name or a pattern, NAME:in for its input, 'output' for the model's output. "
        "Default: found; 'modelspace layers URI' shows which.",
    ),
]
InputSize = Annotated[
    str | None,
    typer.Option("--input-size", metavar="S", show_default=False, help="Side of the input in pixels, or HEIGHTxWIDTH."),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="R,G,B", show_default=False, help="Subtracted from the input, per channel."),
]
Std = Annotated[
    str | None,
    typer.Option("--std", metavar="R,G,B", show_default=False, help="What the input is divided by, per channel."),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", metavar="rgb|bgr|gray|rgba", show_default=False, help="Order of the input's channels."),
]
ValueRange = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--value-range", metavar="LO HI", show_default=False, help="What 0 and 255 become before mean and std."
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
        metavar="S",
        show_default=False,
        help="Resize the image to this side (the shorter one), or HEIGHTxWIDTH, and take the middle of the input's size.",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="center|squash|border",
        show_default=False,
        help="With --resize: whether the image covers that box, takes its shape, or lies within it.",
    ),
]
Interpolation = Annotated[
    str | None,
    typer.Option(
        "--interpolation", metavar="bilinear|bicubic|nearest", show_default=False, help="How the image is resized."
    ),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="nchw|nhwc", show_default=False, help="Order of the input's axes."),
]
Alpha = Annotated[
    str | None,
    typer.Option("--alpha", metavar="A", show_default=False, help="Value of the fourth channel of rgba. Default: 1."),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to run the model; cuda:1 works too.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="B", show_default=False, help="Probe images per pass. Default: 16."),
]


def preprocessing(
    input_size: str | None,
    mean: str | None,
    std: str | None,
    channels: str | None,
    value_range: tuple[str, str] | None,
    resize: str | None = None,
    crop: str | None = None,
    interpolation: str | None = None,
    layout: str | None = None,
    alpha: str | None = None,
) -> Any:
    """The flags as `modelspace.sources.PreprocessingFlags`, or None where none is given."""
    if not any((input_size, mean, std, channels, value_range, resize, crop, interpolation, layout, alpha)):
        return None
    from modelspace.sources import PreprocessingFlags

    return PreprocessingFlags.parse(
        input_size=input_size,
        mean=mean,
        std=std,
        channels=channels,
        value_range=",".join(value_range) if value_range else None,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        layout=layout,
        alpha=alpha,
    )


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, so that the defaults stay where they are defined."""
    return {name: value for name, value in options.items() if value is not None}


def pairs(words: list[str] | None) -> dict[str, str]:
    """["licence=mit"] as a dictionary.

    >>> pairs(["licence=mit", "note=a=b"])
    {'licence': 'mit', 'note': 'a=b'}
    """
    tags = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"the tag {word!r} is not of the form KEY=VALUE", "example: licence=mit")
        if key in tags:
            raise UsageError(f"the tag {key!r} is given twice")
        tags[key] = value
    return tags


Hubs = Annotated[
    str | None,
    typer.Option(
        "--hubs",
        metavar="HOW",
        show_default=False,
        help="Correct for models that are near to everybody: none, centred, csls or mutual. Default: what the space says.",
    ),
]
Rerank = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="HOW",
        show_default=False,
        help="directed: rank candidates by how well their features foretell the target's. none: do not. Default: what the "
        "space says.",
    ),
]
