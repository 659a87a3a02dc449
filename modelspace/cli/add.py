"""The command ``modelspace add``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.cards import input_text
from modelspace.cli.formats import Format, print_record
from modelspace.cli.groups import Group, Loading, Messages, Metadata, grouped
from modelspace.cli.messages import note, now, say, suggest, timed
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
modelspace add --resume
"""


@dataclass(frozen=True)
class Many(Group):
    """Options for more than one model: the manifest and how its models are embedded, or the passes that wait."""

    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            show_default=False,
            help="Instead of URI: add all models of a TOML or CSV file, or of a shipped catalog: 'paper' or 'zoo'.",
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --manifest: check it and report what would be done, without a pass.")
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            show_default=False,
            help="With --manifest: embed in N processes, using all GPUs. Default: in this process.",
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
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Instead of URI: store the finished passes that could not be stored, "
            "as the registry was in use or the disk full.",
        ),
    ] = False


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
            "--name", metavar="N", show_default=False, help="Name in the registry. Default: the last part of the URI."
        ),
    ] = None,
    loading: Loading,
    metadata: Metadata,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another model of the same name.")] = False,
    home: options.Home = None,
    images: Annotated[
        int | None, typer.Option("--images", hidden=True, help="Refused: a stored model needs all probe images.")
    ] = None,
    format: options.FormatOption = Format.table,
    messages: Messages,
) -> None:
    """Register a model, or all models of a manifest.

    One pass over the probe images fills every space of the registry. In a folder without a registry, one is created
    first with the defaults of 'modelspace init'. Adding the same model again changes nothing. Input size, mean and std
    must be given if neither the model nor its source has them.

    With --manifest, a model that fails is reported and the others continue; running the same command again resumes.
    The exit code is 1 if a model failed.

    If the registry is in use or the disk is full after the pass, the pass is saved next to the registry; the next
    model that is added, or --resume, stores it.
    """
    quiet = messages.quiet
    if images is not None:
        raise UsageError(
            "models are compared image by image, so one is stored with all probe images of each space",
            f"a registry with fewer images: modelspace init --home small --images {max(images, 3)}; then add to it "
            "with --home small",
        )
    run_options = {"device": device, "batch_size": batch_size, "replace": replace}
    names = [*options.given(name=name), *loading.as_typed(), *metadata.as_typed()]
    if many.resume:
        _resume(uri, names, many, home, format, quiet=quiet)
        return
    if many.manifest is not None:
        # The options of a single model belong in its entry of the manifest.
        _refuse_options_of_one_model(uri, names)
        with timed(messages.verbose, quiet=quiet):
            _add_manifest(many, home, format, quiet=quiet, **run_options)
        return
    if uri is None:
        raise UsageError("nothing to add", "give an address: modelspace add zoo:curvature; or a --manifest")
    if many.dry_run or many.workers is not None or many.ray is not None:
        raise UsageError("--dry-run, --workers and --ray are for many models", "give a --manifest, or leave them out")
    from modelspace.sources import parse_uri

    parse_uri(uri)  # reports a bad address before a registry is created
    arguments = {**options.given(name=name), **loading.arguments(), **metadata.arguments(), **run_options}
    space = _open_or_make(home, quiet=quiet)
    with timed(messages.verbose, quiet=quiet), progress_bar(f"adding {uri}", "images", quiet=quiet) as progress:
        added = space.add(uri, **arguments, progress=progress, on_note=now(quiet=quiet))
    if format is not Format.table:
        print_record(added, format)
    elif not quiet:
        _print_added(added)
    note(added.notes, quiet=quiet)
    if added.status == "unchanged" and _has_other_metadata(added.card, **metadata.arguments()):
        say(f"note: task, data and tags were not changed; 'modelspace tag {added.name} ...' sets them", quiet=quiet)
    suggest(f"modelspace nearest {added.name}", quiet=quiet)


def _resume(
    uri: str | None, names: Sequence[str], many: Many, home: str | None, format: Format, *, quiet: bool
) -> None:
    """Store the passes that wait; exit with 1 if one could not be stored."""
    from modelspace.cli.many import print_outcomes

    if uri is not None or names or many.manifest is not None or many.dry_run:
        raise UsageError("--resume adds no other model", "give it alone, then add the model")
    outcomes = open_space(home).resume()
    if not outcomes and format is Format.table:
        say("no finished pass waits", quiet=quiet)
    else:
        print_outcomes(outcomes, format, quiet=quiet, complete=True)


def _refuse_options_of_one_model(uri: str | None, names: Sequence[str]) -> None:
    """Raise UsageError if a manifest is combined with an address or with options of a single model."""
    words = ["URI"] if uri is not None else [flag(name) for name in names]
    if words:
        raise UsageError(
            f"{words[0]} is for one model, and --manifest for many",
            f"put {words[0].lstrip('-')} into the model's entry in the manifest",
        )


def _add_manifest(many: Many, home: str | None, format: Format, *, quiet: bool, **run_options: Any) -> None:
    from modelspace.cli.many import add_many
    from modelspace.verbs.manifest import read

    assert many.manifest is not None
    entries = read(many.manifest)  # reports a bad manifest before a registry is created
    # A dry run writes nothing, so it creates no registry.
    space = open_space(home) if many.dry_run else _open_or_make(home, quiet=quiet)
    if not many.dry_run and space.waiting():
        from modelspace.verbs.pending import notes_of

        note(notes_of(space.resume()), quiet=quiet)
    add_many(
        space, entries, format, quiet=quiet, dry_run=many.dry_run, workers=many.workers, ray=many.ray, **run_options
    )


def _open_or_make(home: str | None, *, quiet: bool) -> Any:
    space, is_new = open_or_make(home)
    if is_new:
        say(f"created a registry in {space.home}, with rendered rooms and the standard spaces", quiet=quiet)
    return space


def _has_other_metadata(card: Any, task: str | None, data: str | None, tags: dict[str, str]) -> bool:
    """Whether the given metadata differ from the registered ones."""
    return (
        (task is not None and task != card.task)
        or (data is not None and data != card.data)
        or any(card.tags.get(key) != value for key, value in tags.items())
    )


_TITLES = {
    "added": "added {}",
    "replaced": "replaced {}",
    "completed": "{} was already registered; it is now in more spaces",
    "unchanged": "{} is already registered; nothing was changed",
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
