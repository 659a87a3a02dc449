"""``modelspace add``"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.cards import input_text
from modelspace.cli.formats import Format, print_record
from modelspace.cli.groups import Group, Loading, Metadata, grouped
from modelspace.cli.messages import note, say, suggest
from modelspace.cli.opening import open_or_make, open_space
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import flag
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


@dataclass(frozen=True)
class Many(Group):
    """A manifest, and how its models are embedded."""

    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            show_default=False,
            help="Instead of URI: add all models of a TOML or CSV file, or of a catalog that comes with modelspace: "
            "'paper', 'zoo'.",
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --manifest: check it, say what would be done, load nothing.")
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            show_default=False,
            help="With --manifest: embed in N processes, on several GPUs if there are. Default: in this process.",
        ),
    ] = None
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            show_default=False,
            help="With --manifest: embed on the Ray cluster at this address; 'local' starts one here.",
        ),
    ] = None


@grouped
def command(
    uri: Annotated[
        str | None,
        typer.Argument(
            metavar="URI",
            show_default=False,
            help="Address of the model, for example zoo:curvature or python:path/to/file.py:factory.",
        ),
    ] = None,
    *,
    many: Many,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="N", show_default=False, help="Name in the registry. Default: the end of the address."
        ),
    ] = None,
    loading: Loading,
    metadata: Metadata,
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

    With --manifest, one model that fails is reported and the others go on; the same command again does what is left.
    The exit code is 1 if one failed.
    """
    run_options = {"device": device, "batch_size": batch_size, "replace": replace}
    if many.manifest is not None:
        # What the options of one model say, an entry of the manifest says.
        names = [*options.given(name=name), *loading.as_typed(), *metadata.as_typed()]
        _refuse_options_of_one_model(uri, names)
        _add_manifest(many, home, format, quiet=quiet, **run_options)
        return
    if uri is None:
        raise UsageError("nothing to add", "give an address: modelspace add zoo:curvature; or a --manifest")
    if many.dry_run or many.workers is not None or many.ray is not None:
        raise UsageError("--dry-run, --workers and --ray are for many models", "give a --manifest, or leave them out")
    from modelspace.sources import parse_uri

    parse_uri(uri)  # before a registry is made for it
    arguments = {**options.given(name=name), **loading.arguments(), **metadata.arguments(), **run_options}
    space = _open_or_make(home, quiet=quiet)
    with progress_bar(f"adding {uri}", "images", quiet=quiet) as progress:
        added = space.add(uri, **arguments, progress=progress)
    if format is not Format.table:
        print_record(added, format)
    elif not quiet:
        _print_added(added)
    note(added.notes, quiet=quiet)
    if added.status == "unchanged" and _asks_for_more(added.card, **metadata.arguments()):
        say(f"note: its task, data and tags are as before; 'modelspace tag {added.name} ...' sets them", quiet=quiet)
    suggest(f"modelspace nearest {added.name}", quiet=quiet)


def _refuse_options_of_one_model(uri: str | None, names: Sequence[str]) -> None:
    """Raises UsageError where a manifest is given together with an address, or with options that its entries have."""
    words = ["URI"] if uri is not None else [flag(name) for name in names]
    if words:
        raise UsageError(
            f"{words[0]} is for one model, and --manifest for many", f"write {words[0].lstrip('-')} into its entry"
        )


def _add_manifest(many: Many, home: str | None, format: Format, *, quiet: bool, **run_options: Any) -> None:
    from modelspace.cli.many import add_many
    from modelspace.verbs.manifest import read

    assert many.manifest is not None
    entries = read(many.manifest)  # before a registry is made for it
    # A dry run writes nothing, a registry least of all.
    space = open_space(home) if many.dry_run else _open_or_make(home, quiet=quiet)
    add_many(
        space, entries, format, quiet=quiet, dry_run=many.dry_run, workers=many.workers, ray=many.ray, **run_options
    )


def _open_or_make(home: str | None, *, quiet: bool) -> Any:
    space, is_new = open_or_make(home)
    if is_new:
        say(f"made a registry in {space.home}, with rendered rooms and the standard spaces", quiet=quiet)
    return space


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
