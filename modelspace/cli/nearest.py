"""The command ``modelspace nearest``."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import typer

from modelspace.cli import completion, options
from modelspace.cli.formats import Format, print_records
from modelspace.cli.groups import Loading, Messages, grouped
from modelspace.cli.messages import note, now, say, suggest, timed
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.errors import UsageError

EXAMPLES = """
modelspace nearest curvature
modelspace nearest curvature -k 10 --where "group = '3D' AND parameters < 1e7"
modelspace nearest python:nets.py:make_net --input-size 64 --mean 0.5 --std 0.5 --channels gray
modelspace nearest curvature --space saliency --format json
modelspace nearest curvature --space paper --hubs csls
modelspace nearest curvature --rerank jaccard
modelspace nearest --task flowers -k 10
"""


@grouped
def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME_OR_URI]",
            show_default=False,
            autocompletion=completion.models,
            help="Name of a registered model, or the address of another one.",
        ),
    ] = None,
    *,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK",
            show_default=False,
            autocompletion=completion.tasks,
            help="Instead of a model, a task ('modelspace task add'): rank by the expected score, with an 80% "
            "interval.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="K", help="Number of neighbours.")] = 5,
    where: options.Where = None,
    space: options.Space = None,
    hubs: options.Hubs = None,
    rerank: options.Rerank = None,
    index: options.Index = None,
    loading: Loading,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    messages: Messages,
) -> None:
    """List the best models to transfer from, nearest first.

    The affinity of two models is the mean cosine of their attribution maps, or the similarity of the kernels of their
    encoder outputs, with a 95% interval over the probe images. The space determines how models are ranked; --space
    paper is the published method. An unregistered model is run once over the probe images and not stored; its loading
    options are those of 'modelspace add'.
    """
    quiet = messages.quiet
    run_options = {
        **loading.arguments(),
        **options.given(batch_size=batch_size, device=device if device != "auto" else None),
    }
    ranking_options = options.given(hubs=hubs, rerank=rerank, index=index)
    if task is not None:
        if model is not None or run_options or ranking_options:
            raise UsageError(
                "--task ranks the registered models by what is known of them on a task",
                f"modelspace nearest --task {task}",
            )
        opened = open_space(home)
        _print_prospects(opened.prospects(task, k, where=where, space=space), format, quiet)
        if format is Format.table and opened.task(task).location:
            suggest(f"modelspace try {task} --budget 8", quiet=quiet)
        return
    if model is None:
        raise UsageError("missing argument 'NAME_OR_URI'", "see 'modelspace nearest --help'")
    if run_options and ":" not in model:
        raise UsageError(
            f"{model!r} is a name, and names take no {', '.join(sorted(run_options))}",
            "these options are for loading a model from its address, for example zoo:curvature",
        )
    bar = progress_bar(f"running {model}", "images", quiet=quiet or ":" not in model)
    with timed(messages.verbose, quiet=quiet), bar as progress:
        ranking = open_space(home).nearest(
            model,
            k,
            where=where,
            space=space,
            progress=progress,
            on_note=now(quiet=quiet),
            **ranking_options,
            **run_options,
        )
    note(ranking.notes, quiet=quiet)
    if format is not Format.table:
        print_records(ranking, format)
    elif not ranking:
        say(f"no other model in space {ranking.space}" + (" matches the condition" if where else ""), quiet=quiet)
    else:
        _print_ranking(ranking)


def _print_prospects(prospects: Any, format: Format, quiet: bool) -> None:
    if format is not Format.table:
        note(prospects.notes, quiet=quiet)
        print_records(prospects, format)
        return
    from modelspace.cli.prospects import print_prospects

    print_prospects(f"models for task {prospects.target}, the most promising first", prospects)


def _print_ranking(ranking: Any) -> None:
    from modelspace.cli import tables
    from modelspace.cli.tables import Column
    from modelspace.spaces.hubness import CORRECTIONS

    mark = tables.tie()
    tied_above = {lower.rank for upper, lower in pairwise(ranking) if upper.tied_with_next}
    columns = [
        Column("rank", lambda row: str(row.rank), right=True),
        Column(" ", lambda row: mark if row.rank in tied_above else ""),
        Column("name", lambda row: row.name, least=18, fold=True, style="bold"),
        *(
            []
            if ranking.ranked_by == "affinity"
            else [Column("score", lambda row: f"{row.score:.4f}", right=True, rank=1)]
        ),
        Column("affinity", lambda row: f"{row.affinity:.4f}", right=True),
        Column("95% interval", lambda row: f"{row.low:.4f}..{row.high:.4f}", right=True, rank=2),
        Column("confidence", lambda row: row.confidence, rank=2, optional=True),
        Column("evidence", lambda row: ", ".join(row.evidence).replace("same ", ""), rank=3, least=16, optional=True),
        Column("uri", lambda row: row.uri, rank=1, least=14, fold=True),
        Column("task", lambda row: row.task or "", rank=3, least=10, optional=True),
        Column("data", lambda row: row.data or "", rank=4, least=8, optional=True),
        Column("architecture", lambda row: row.architecture, rank=5, least=12),
    ]
    footnotes = []
    if tied_above:
        footnotes.append(f"{mark} tied with the line above: these probe images do not separate the two (95%)")
    if ranking[-1].tied_with_next:
        n = len(ranking)
        footnotes.append(f"rank {n} is tied with the next: -k {n + 1} shows it")
    descriptions = {
        "affinity": "",
        "directed": ", ranked by how well their features predict the target's",
        "local": ", ranked by how well their features predict the target's place by place",
        "combined": ", ranked by how well their features predict the target's, whole and place by place",
    }
    kind = "corrected for hubs" if ranking.ranked_by in CORRECTIONS else "re-ranked by a similarity of kernels"
    ranked_by = descriptions.get(ranking.ranked_by, f", {kind}: {ranking.ranked_by}")
    tables.print_line(f"transfer sources for {ranking.target}, nearest first (space {ranking.space}{ranked_by})")
    tables.print_table(columns, ranking, footnotes=footnotes)
