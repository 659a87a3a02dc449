"""The command ``modelspace verify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from modelspace.cli import completion, options, signals
from modelspace.cli.formats import Format, print_records
from modelspace.cli.messages import note, say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import flag, in_flags
from modelspace.errors import UsageError

EXAMPLES = """
modelspace verify
modelspace verify --deep --format json
modelspace verify --reembed curvature
modelspace verify --repair repaired.duckdb
"""


def command(
    deep: Annotated[
        bool, typer.Option("--deep", help="Recompute the affinities of all pairs from the maps, not just a sample.")
    ] = False,
    repair: Annotated[
        str | None,
        typer.Option(
            "--repair",
            metavar="FILE",
            show_default=False,
            help="Instead: write all that is intact into this new registry, and print what was lost.",
        ),
    ] = None,
    reembed: Annotated[
        str | None,
        typer.Option(
            "--reembed",
            metavar="NAME",
            show_default=False,
            autocompletion=completion.models,
            help="Instead: run this model once more, and print how far the result is from what is stored.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="FILE", show_default=False, help="With --reembed: where the model's weights are now."
        ),
    ] = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Check the registry, and the index files against it.

    The exit code is 1 if a check failed. Ctrl-C prints the checks that were finished.

    With --repair, the registry stays as it is, and 'modelspace restore FILE' puts the repaired one in its place. The
    exit code is 1 if something was lost.

    With --reembed, the model is loaded from its address with the weights, layer, preprocessing and options that are
    stored, and nothing is changed. Distances are those of maps, or rows of a kernel, of unit norm.
    """
    if sum((deep, repair is not None, reembed is not None)) > 1:
        raise UsageError("--deep, --repair and --reembed do different things", "give one of them")
    if repair is not None:
        _repair(repair, home, format, quiet=quiet)
        return
    if reembed is not None:
        _reembed(reembed, {"weights": weights, "device": device, "batch_size": batch_size}, home, format, quiet=quiet)
        return
    if given := options.given(weights=weights, device=None if device == "auto" else device, batch_size=batch_size):
        raise UsageError(f"{flag(next(iter(given)))} is for the model of --reembed", "give its name, or leave it out")
    finished: list[Any] = []
    try:
        with progress_bar("verifying", "models", quiet=quiet) as progress:
            checks = open_space(home).verify(deep=deep, progress=progress, on_check=finished.append)
    except BaseException as error:
        if signals.is_interruption(error):
            # Finished checks of an hour are worth having.
            _print(finished, format, quiet=quiet)
        raise
    failed = _print(checks, format, quiet=quiet)
    say(f"{failed} of {len(checks)} checks FAILED" if failed else "all checks passed", quiet=quiet)
    if failed:
        raise typer.Exit(1)


def _print(finished: Sequence[Any], format: Format, *, quiet: bool, failed: str = "FAILED") -> int:
    """Print checks, and how to fix those that failed; returns the number of these."""
    from modelspace.results import Check, Records

    checks = Records(finished, Check)
    if format is not Format.table:
        print_records(checks, format)
    else:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("", lambda check: "ok" if check.ok else failed),
            Column("what", lambda check: check.what, least=24, fold=True),
            Column("detail", lambda check: in_flags(check.detail), least=20, fold=True),
        ]
        print_table(columns, checks)
    for check in checks:
        if check.hint:
            label = "hint" if check.ok else "to fix"
            say(f"{label}: {check.what}: {in_flags(check.hint)}", quiet=quiet and check.ok)
    return sum(not check.ok for check in checks)


def _repair(file: str, home: str | None, format: Format, *, quiet: bool) -> None:
    """Write a repaired registry, and print what is in it and what was lost."""
    with progress_bar("repairing", "models", quiet=quiet) as progress:
        steps = open_space(home).repair(file, progress=progress)
    lost = _print(steps, format, quiet=quiet, failed="LOST")
    say(f"written: {file}; 'modelspace restore {file}' puts it in place of the registry", quiet=quiet)
    if lost:
        raise typer.Exit(1)


def _reembed(name: str, run_options: dict[str, Any], home: str | None, format: Format, *, quiet: bool) -> None:
    """Run a model once more, and print how far the result is from what is stored."""
    with progress_bar(f"running {name}", "images", quiet=quiet) as progress:
        spaces = open_space(home).reembed(name, **run_options, progress=progress)
    if format is not Format.table:
        print_records(spaces, format)
    else:
        from modelspace.cli.tables import Column, print_table

        columns = [
            Column("space", lambda row: row.space, least=12, fold=True),
            Column("maps or kernel", _stored_difference),
            Column("affinities", _affinity_difference),
        ]
        print_table(columns, spaces)
    note(spaces.notes, quiet=quiet)
    kept = [row for row in spaces if row.same_bits is not None]
    same = sum(bool(row.same_bits) for row in kept)
    worst = max(row.largest_affinity for row in spaces)
    say(f"{name}: the same bits in {same} of {len(kept)} spaces; affinities differ by at most {worst:.1e}", quiet=quiet)


def _stored_difference(row: Any) -> str:
    if row.same_bits is None:
        return "none stored"
    return "the same bits" if row.same_bits else f"largest distance {row.largest:.1e}, mean {row.mean:.1e}"


def _affinity_difference(row: Any) -> str:
    if not row.n_affinities:
        return "no other model"
    return f"largest difference {row.largest_affinity:.1e}, mean {row.mean_affinity:.1e}, of {row.n_affinities}"
