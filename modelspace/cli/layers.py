"""The command ``modelspace layers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspace.cli import figures, options
from modelspace.cli.formats import Format, print_csv, print_json
from modelspace.cli.groups import Loading, grouped
from modelspace.cli.messages import note, say
from modelspace.cli.progress import progress_bar

if TYPE_CHECKING:
    from modelspace.encoder.layers import Survey

EXAMPLES = """
modelspace layers zoo:curvature
modelspace layers python:nets.py:make_net --input-size 64 --mean 0.5 --std 0.5 --channels gray
modelspace layers zoo:curvature --layer 'encoder*'
"""

#: The end of a hint that leads here.
_LISTED = "`space.layers(model)` lists them"


@grouped
def command(
    uri: Annotated[str, typer.Argument(metavar="URI", help="Address of the model, for example zoo:curvature.")],
    *,
    loading: Loading,
    device: options.Device = "auto",
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """List the layers that a model executes, in order.

    Marks the layer that 'modelspace add' would explain with the same options, says which layers can't be explained and
    why, and lists which others could be the encoder output. Where 'modelspace add' refuses a model, lists what ran, and
    fails only where nothing did. Needs no registry.
    """
    from modelspace.workspace import ModelSpace

    with progress_bar(f"running {uri}", "images", quiet=quiet):
        survey = ModelSpace(Path()).survey(uri, device=device, **loading.arguments())
    if not survey.rows and survey.refusal is not None:
        raise survey.refusal
    records = _records(survey)
    if format is Format.json:
        print_json(records)
    elif format is Format.csv:
        columns = list(records[0]) if records else []
        print_csv(columns, [list(record.values()) for record in records])
    else:
        _print_tables(records, survey)
    if survey.tap is not None:
        say(f"explained: {survey.tap.layer} ({survey.tap.found_by})", quiet=quiet)
    if survey.refusal is not None:
        hint = survey.refusal.hint.removesuffix(_LISTED).strip()
        note([f"'modelspace add' refuses it: {survey.refusal.message}", *([hint] if hint else [])], quiet=quiet)


def _records(survey: Survey) -> list[dict[str, Any]]:
    """The rows as JSON has them. Of the explained one, `explained` says what: "output", "input" or "part NAME"."""
    name, side = ("", "") if survey.tap is None else _side(survey.tap.layer, [row.name for row in survey.rows])
    records = []
    for row in survey.rows:
        record = {**asdict(row), "explained": side if side and row.name == name else None}
        record["candidates"] = [{"layer": layer, "reason": reason} for layer, reason in row.candidates]
        records.append(record)
    return records


def _side(layer: str, names: Sequence[str]) -> tuple[str, str]:
    """The name of the module that a layer belongs to, and what of it the layer is."""
    if layer in names:
        return layer, "output"
    name = max((name for name in names if layer.startswith(f"{name}:")), key=len, default=layer)
    part = layer[len(name) + 1 :]
    return name, "input" if part == "in" else f"part {part}"


def _print_tables(records: Sequence[dict[str, Any]], survey: Survey) -> None:
    from modelspace.cli import tables
    from modelspace.cli.tables import Column

    columns = [
        Column("explained", lambda row: f"{row['explained']} of" if row["explained"] else "", style="bold"),
        Column("layer", lambda row: row["name"], least=24, fold=True),
        Column("kind", lambda row: row["kind"], rank=1),
        Column("shape", lambda row: figures.shape(row["shape"]), right=True),
        Column("parameters", lambda row: f"{row['parameters']:,}", right=True, rank=2),
        Column("calls", lambda row: str(row["calls"]), right=True, rank=3),
        Column("can't be explained", _why_not, least=24, fold=True, optional=True),
    ]
    tables.print_table(columns, records)
    if len(survey.candidates) > 1:
        print()
        columns = [
            Column("candidate", lambda each: each.layer, least=24, fold=True),
            Column("why", lambda each: each.reason, least=24, fold=True),
        ]
        tables.print_table(columns, survey.candidates)


def _why_not(row: dict[str, Any]) -> str:
    """Why a row's output or input can't be explained; empty where both can."""
    output, given = str(row["refusal"]), str(row["input_refusal"])
    if output == given or row["name"] == "output":
        return output
    return "; ".join(f"{side}: {why}" for side, why in (("output", output), ("input", given)) if why)
