"""The command ``modelspace init``."""

from __future__ import annotations

from typing import Annotated

import typer

from modelspace.cli import completion, options
from modelspace.cli.confirm import confirm
from modelspace.cli.formats import Format
from modelspace.cli.messages import say, say_all, suggest
from modelspace.cli.spaces import print_spaces
from modelspace.errors import UsageError

EXAMPLES = """
modelspace init
modelspace init --method gradient_x_input --method saliency
modelspace init --probes photos/ --per-subfolder 15 --canvas 128
modelspace init --probes rooms --images 500 --space rooms500 --default
modelspace init --probes yards
modelspace init --space paper+
"""


def command(
    probes: Annotated[
        str | None,
        typer.Option(
            "--probes",
            metavar="SET|DIR",
            show_default=False,
            autocompletion=completion.probe_sets,
            help="Probe images: built-in rooms, yards, streets, repainted or photographs, a registered set, or a "
            "folder of images, which are copied into the registry. Default: rooms.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            show_default=False,
            autocompletion=completion.methods,
            help="Attribution method (gradient_x_input, saliency, sensitivity, epsilon_lrp, ...) or features: kernel "
            "of the encoder output (dds, linear_cka, rsa), or the output on a grid of places (local). Give it several "
            "times for several spaces. Default: gradient_x_input, dds and local, and a space called transfer, which "
            "ranks by how well features predict the target's. "
            "LRP (epsilon_lrp, attn_lrp) is patented and free for personal and scientific use only, according to the "
            "authors of LXT; it is computed only if named here.",
        ),
    ] = None,
    scalar: Annotated[
        str | None,
        typer.Option(
            "--scalar",
            metavar="SCALAR",
            show_default=False,
            help="Scalar of the encoder output to explain: sum, energy or centred_energy. Default: sum.",
        ),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(
            "--blend",
            metavar="SPACE=WEIGHT,...",
            show_default=False,
            help="Create a space as a weighted mean of other spaces' affinities. It has their registered models at "
            "once. Needs --space.",
        ),
    ] = None,
    hubs: options.Hubs = None,
    rerank: options.Rerank = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            show_default=False,
            help="Probe images per model. Default: 200, or all images of a smaller folder.",
        ),
    ] = None,
    canvas: Annotated[
        int | None,
        typer.Option(
            "--canvas", metavar="S", show_default=False, help="Side of the stored maps in pixels. Default: 16."
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            "--bits",
            metavar="B",
            show_default=False,
            help="Bits per stored element. Default: 4 of maps, 8 of kernels.",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="NAME",
            show_default=False,
            help="Name of the space. Default: the method. paper+ creates the best form of attribution maps that was "
            "measured.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            show_default=False,
            help="Seed of the rendered images or crops, or of the choice of images from a folder. Default: 0.",
        ),
    ] = None,
    per_subfolder: options.PerSubfolder = None,
    default: Annotated[bool, typer.Option("--default", help="Make this the space that queries use.")] = False,
    yes: options.Yes = False,
    home: options.NewHome = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Create a registry, or add spaces to one.

    A space is a set of probe images and a way to compare models on them: by attribution maps, by a kernel of the
    encoder output, or as a blend of other spaces. Models are compared within one space. Existing spaces are not
    changed.
    """
    from modelspace.attribution import METHODS
    from modelspace.results import Records, SpaceInfo
    from modelspace.workspace import ModelSpace, home_for_new

    folder = home_for_new(home)
    arguments = options.given(
        probes=probes,
        methods=method or None,
        images=images,
        canvas=canvas,
        bits=bits,
        name=space,
        seed=seed,
        per_subfolder=per_subfolder,
        scalar=scalar,
    )
    if blend is not None:
        if space is None or set(arguments) != {"name"}:
            raise UsageError(
                "--blend combines existing spaces: it needs --space NAME and takes neither probes nor methods",
                "example: modelspace init --space mixed --blend dds=0.5,gradient_x_input=0.5",
            )
        ranking = options.given(hubs=hubs, rerank=rerank)
        new_space = ModelSpace.open(home).blend(space, weights(blend), **ranking, default=default)
        spaces = Records([new_space], SpaceInfo)
        folder = ModelSpace.open(home).home
    elif hubs is not None or rerank is not None:
        raise UsageError(
            "--hubs and --rerank need --blend",
            "add --blend, for example --blend dds=1; or use them with 'modelspace nearest'",
        )
    else:
        if images is not None:
            arguments["on_cost"] = lambda cost: confirm(f"{cost}; create it", yes=yes)
        spaces = ModelSpace(folder).init(**arguments, default=default)
    if format is not Format.table or not quiet:
        print_spaces(spaces, format)
    say(f"registry: {folder}", quiet=quiet)
    say_all((METHODS[name].notice for name in method or () if name in METHODS and METHODS[name].notice), quiet=quiet)
    empty = [info.name for info in spaces if not info.n_models]
    if empty and any(info.n_models for info in ModelSpace(folder).spaces()):
        suggest(f"modelspace fill {empty[0] if len(empty) == 1 else ''}".strip(), quiet=quiet)
    else:
        suggest("modelspace add URI", quiet=quiet)


def weights(text: str) -> dict[str, float]:
    """Parse weights by space, such as "dds=0.5,gradient_x_input=0.5"; the default weight is 1.

    Raises:
        UsageError: a weight is not a number, or a space is named twice.
    """
    out: dict[str, float] = {}
    for part in text.split(","):
        name, sign, weight = part.strip().partition("=")
        try:
            value = float(weight) if sign else 1.0
        except ValueError as error:
            raise UsageError(
                f"--blend {part} is not a space with a weight", "example: --blend dds=0.5,saliency=0.5"
            ) from error
        if not name or name in out:
            raise UsageError(
                f"--blend {text} names {'no space' if not name else name + ' twice'}", "example: --blend dds=1"
            )
        out[name] = value
    return out
