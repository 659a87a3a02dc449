"""``modelspace add``"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.cards import input_text
from modelspace.cli.formats import Format, print_record
from modelspace.cli.messages import say, suggest
from modelspace.cli.opening import open_or_make, open_space
from modelspace.cli.progress import progress_bar
from modelspace.errors import UsageError

EXAMPLES = """
modelspace add zoo:curvature
modelspace add python:nets.py:make_net --input-size 64 --mean 0.5 --std 0.5 --channels gray
modelspace add python:my_package.models:resnet18 --weights resnet18.safetensors --name resnet18 \\
    --input-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --task classification
modelspace add zoo:curvature --name curvature-2 --layer output --tag owner=me
modelspace add --manifest zoo --workers 2
modelspace add --manifest mymodels.toml --dry-run
"""


def command(
    uri: Annotated[
        str | None,
        typer.Argument(
            metavar="URI",
            show_default=False,
            help="Address of the model, for example zoo:curvature or python:path/to/file.py:factory.",
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            show_default=False,
            help="Instead of URI: add all models of a TOML or CSV file, or of a catalog that comes with modelspace: "
            "'paper', 'zoo'.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --manifest: check it, say what would be done, load nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            show_default=False,
            help="With --manifest: embed in N processes, on several GPUs if there are. Default: in this process.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            show_default=False,
            help="With --manifest: embed on the Ray cluster at this address; 'local' starts one here.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="N", show_default=False, help="Name in the registry. Default: the end of the address."
        ),
    ] = None,
    weights: options.Weights = None,
    trust_code: options.TrustCode = None,
    layer: options.Layer = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channels: options.Channels = None,
    value_range: options.ValueRange = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    layout: options.Layout = None,
    alpha: options.Alpha = None,
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
    """Register a model, or all of a manifest: one pass over the images.

    The pass serves every space of the registry. In a folder without a registry, one is made first with the defaults of
    'modelspace init'. Adding the same model again changes nothing. What neither the model nor its source states of its
    input (size, mean, std) has to be given here.

    With --manifest, one model that fails is reported and the others go on; the same command again does what is left. The
    exit code is 1 if one failed.
    """
    if manifest is not None:
        # What the options of one model would say, an entry of the manifest says.
        said = options.given(
            name=name,
            weights=weights,
            trust_code=trust_code,
            layer=layer,
            input_size=input_size,
            mean=mean,
            std=std,
            channels=channels,
            value_range=value_range,
            resize=resize,
            crop=crop,
            interpolation=interpolation,
            layout=layout,
            alpha=alpha,
            task=task,
            data=data,
            tag=tag or None,
        )
        _add_manifest(
            manifest,
            uri,
            said,
            home,
            format,
            quiet=quiet,
            dry_run=dry_run,
            workers=workers,
            ray=ray,
            device=device,
            batch_size=batch_size,
            replace=replace,
        )
        return
    if uri is None:
        raise UsageError("nothing to add", "give an address: modelspace add zoo:curvature; or a --manifest")
    if dry_run or workers is not None or ray is not None:
        raise UsageError("--dry-run, --workers and --ray are for many models", "give a --manifest, or leave them out")
    from modelspace.sources import parse_uri

    parse_uri(uri)  # before a registry is made for it
    flags = options.preprocessing(
        input_size, mean, std, channels, value_range, resize, crop, interpolation, layout, alpha
    )
    tags = options.pairs(tag)
    space, made = open_or_make(home)
    if made:
        say(f"made a registry in {space.home}, with rendered rooms and the standard spaces", quiet=quiet)
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
            **options.given(trust_code=trust_code),
            progress=progress,
        )
    if format is not Format.table:
        print_record(added, format)
    elif not quiet:
        _print_added(added)
    for remark in added.notes:
        say(f"note: {remark}", quiet=quiet)
    if added.status == "unchanged" and _asks_for_more(added.card, task, data, tags):
        say(f"note: its task, data and tags are as before; 'modelspace tag {added.name} ...' sets them", quiet=quiet)
    suggest(f"modelspace nearest {added.name}", quiet=quiet)


def _add_manifest(
    manifest: str, uri: str | None, said: dict[str, Any], home: str | None, format: Format, *, quiet: bool, **rest: Any
) -> None:
    from modelspace.cli.many import add_many
    from modelspace.verbs.manifest import read

    if uri is not None or said:
        what = ["URI"] if uri is not None else [f"--{key.replace('_', '-')}" for key in said]
        raise UsageError(
            f"{what[0]} is for one model, and --manifest for many", f"write {what[0].lstrip('-')} into its entry"
        )
    entries = read(manifest)  # before a registry is made for it
    # A dry run writes nothing, a registry least of all.
    space, made = (open_space(home), False) if rest["dry_run"] else open_or_make(home)
    if made:
        say(f"made a registry in {space.home}, with rendered rooms and the standard spaces", quiet=quiet)
    add_many(space, entries, format, quiet=quiet, **rest)


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
