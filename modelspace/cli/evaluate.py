"""The command ``modelspace evaluate``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from modelspace.cli import completion, options
from modelspace.cli.formats import Format, print_csv, print_json, to_csv, to_json
from modelspace.cli.messages import note, say
from modelspace.cli.opening import open_space
from modelspace.cli.progress import progress_bar
from modelspace.cli.spelling import flag, in_flags, record_in_flags
from modelspace.errors import UsageError

EXAMPLES = """
modelspace evaluate
modelspace evaluate --space all --out table.md
modelspace evaluate --space all --targets kept --oracle rooms
modelspace evaluate --space dds --rerank jaccard
modelspace evaluate --where "task IS DISTINCT FROM 'class_1000'" --format json
modelspace evaluate --oracle taskonomy --matrix affinities.csv
modelspace evaluate --oracle sfda-cnn
modelspace evaluate --search
modelspace evaluate --search --oracle sfda-cnn --oracle tll-cnn --format json
modelspace evaluate --search --task flowers --task birds --out search.md
modelspace evaluate --oracle measured.csv --matrix affinities.npy --names models.txt --space gradient_x_input
"""

WRITERS = (".json", ".csv", ".md")


def command(
    oracle: Annotated[
        list[str] | None,
        typer.Option(
            "--oracle",
            metavar="NAME_OR_CSV",
            show_default=False,
            help="Measured transfer: rooms, rooms-all, taskonomy, taskonomy-affinity and others in "
            "docs/lab-book/evaluation.md; sfda-cnn, tll-cnn and other published accuracies in "
            "docs/lab-book/published.md; or a CSV file with columns target, source and score, loss or rank. With "
            "--search several, or 'published', or 'all'. Default: rooms; with --search all.",
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Evaluate the search of 'suggest' and 'try': replay it on oracles, or on tasks (--task).",
        ),
    ] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="TASK",
            show_default=False,
            autocompletion=completion.tasks,
            help="With --search: run all models on this task's images; may be given several times, so that each is "
            "known to the others. 'all' for all tasks with data.",
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="SPACE",
            show_default=False,
            autocompletion=completion.spaces,
            help="Space to evaluate, or 'all'; may be given several times. Default: the registry's default space, or "
            "none with --matrix.",
        ),
    ] = None,
    matrix: Annotated[
        list[str] | None,
        typer.Option(
            "--matrix",
            metavar="FILE",
            show_default=False,
            help="Affinities to evaluate, CSV or NPY: row = target, column = source, higher = nearer; may be given "
            "several times.",
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            "--names",
            metavar="FILE",
            show_default=False,
            help="Names of the models of an NPY file, one per line. Default: the TXT or JSON file next to it.",
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            metavar="kept|chosen|NAME,...",
            show_default=False,
            help="Report on these targets only: names, 'chosen' (the split that options were selected on) or 'kept' "
            "(the held-out split). Default: all.",
        ),
    ] = None,
    hubs: options.Hubs = None,
    rerank: options.Rerank = None,
    where: options.Where = None,
    with_self: Annotated[
        bool,
        typer.Option("--with-self", help="Include each model's pair with itself, as some published figures do."),
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", show_default=False, help="Also write the report to a JSON, CSV or MD file."
        ),
    ] = None,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate the registry's rankings against measured transfer.

    For every target of the oracle, how well do the affinities rank the sources? Random order, popularity and the stored
    feature similarities are evaluated on the same pairs. Published accuracies need no registry: they are evaluated with
    static order (models by the other data sets) and a matrix, if any. Intervals are 95% bootstraps over targets.

    With --search: how good is the model that a search finds, after how many tries, and how often do its intervals
    cover? On tasks: at what cost in images, beside the order of each label score.
    """
    if out is not None and Path(out).suffix.lower() not in WRITERS:
        raise UsageError(f"can't tell how to write {out}", f"end its name in {', '.join(WRITERS)}")
    extra = options.given(targets=targets, hubs=hubs, rerank=rerank)
    if search:
        unused = {**options.given(space=space or None, matrix=matrix or None, names=names), **extra}
        _refuse([flag(name) for name in unused] + (["--with-self"] if with_self else []))
        report = _evaluate_search(task, oracle, where, home, quiet)
    else:
        if task:
            raise UsageError("--task is for the search", "add --search")
        if names is not None and not matrix:
            raise UsageError("--names needs a matrix, and none is given", "add --matrix FILE")
        report = _evaluate(_one(oracle), space, matrix, names, where, with_self, home, extra)
    columns = _columns(search)
    if out is not None:
        Path(out).write_text(_text(report, columns, Path(out).suffix.lower()), "utf-8")
        say(f"wrote {out}", quiet=quiet)
    if format is Format.json:
        print_json(record_in_flags(report.to_dict()))
    elif format is Format.csv:
        print_csv(columns, report.to_rows())
    else:
        (_print_search if search else _print)(report)
        return
    note(report.notes, quiet=quiet)


def _one(oracle: list[str] | None) -> str:
    if oracle and len(oracle) > 1:
        raise UsageError(f"{len(oracle)} oracles are given, and one is evaluated at a time", "give one --oracle")
    return oracle[0] if oracle else "rooms"


def _refuse(flags: Sequence[str]) -> None:
    if flags:
        raise UsageError(f"{' and '.join(flags)}: not for --search", "it evaluates no rankings; see the options above")


def _evaluate_search(
    task: list[str] | None, oracle: list[str] | None, where: str | None, home: str | None, quiet: bool
) -> Any:
    from modelspace.verbs.evaluate_search import evaluate_search

    if not task:
        return evaluate_search(None, None, oracle or None)
    opened = open_space(home)
    with progress_bar("measuring models", "models", quiet=quiet) as progress:
        return opened.evaluate_search(task, oracle or None, where=where, progress=progress)


def _evaluate(
    oracle: str,
    space: list[str] | None,
    matrix: list[str] | None,
    names: str | None,
    where: str | None,
    with_self: bool,
    home: str | None,
    extra: dict[str, Any],
) -> Any:
    from modelspace.evaluation.published import tables
    from modelspace.verbs.evaluate import evaluate, read_matrices

    matrices = read_matrices(matrix, names) if matrix else {}
    arguments = {**options.given(space=space or None, where=where), **extra}
    if (matrices or oracle in tables()) and not space:
        return evaluate(None, oracle=oracle, matrices=matrices, with_self=with_self, **arguments)
    return open_space(home).evaluate(oracle=oracle, matrices=matrices, with_self=with_self, **arguments)


def _columns(search: bool) -> Sequence[str]:
    from modelspace.verbs import evaluate, evaluate_search

    return evaluate_search.COLUMNS if search else evaluate.COLUMNS


def _text(report: Any, columns: Sequence[str], suffix: str) -> str:
    if suffix == ".json":
        return to_json(record_in_flags(report.to_dict())) + "\n"
    return to_csv(columns, report.to_rows()) if suffix == ".csv" else str(report.to_markdown())


def _print(report: Any) -> None:
    from modelspace.cli import tables
    from modelspace.cli.tables import Column
    from modelspace.evaluation.comparison import TITLES

    retrieval = report.retrieval
    figures: list[tuple[str, str, int | None]] = [
        *((f"P@{k}", "precision", k) for k in (1, 3, 5) if k in report.ks),
        *((TITLES[metric], metric, None) for metric in report.shown),
        *((f"regret@{k}", report.regret, k) for k in ((1, 3, 5) if report.is_accuracy else (1, 5)) if k in report.ks),
    ]
    columns = [Column("method", lambda row: row.method, least=16, fold=True, style="bold")]
    for place, (header, figure, k) in enumerate(figures, start=1):
        columns += [
            Column(header, partial(_mean, figure, k), right=True, rank=place),
            # If there is no room, intervals are dropped before the figures themselves.
            Column(f"{header} 95%", partial(_interval, figure, k), rank=20 + place),
        ]
    if retrieval:
        columns.append(
            Column(
                "same task",
                lambda row: f"{retrieval[row.method].first.mean:.3f}" if row.method in retrieval else "",
                right=True,
            )
        )
    columns += [
        Column("seconds", lambda row: _seconds(row.cost), right=True, rank=10, optional=True),
        Column("forward", lambda row: _passes(row.cost, "forward_passes"), right=True, rank=11, optional=True),
        Column("backward", lambda row: _passes(row.cost, "backward_passes"), right=True, rank=12, optional=True),
    ]
    tables.print_line(
        f"oracle {report.oracle}: {len(report.targets)} targets, {len(report.sources)} sources, {report.relevance}"
    )
    tables.print_table(columns, report.rows, footnotes=_footnotes(report))


def _print_search(report: Any) -> None:
    from modelspace.cli import tables
    from modelspace.cli.tables import Column
    from modelspace.verbs.evaluate_search import TITLES, headline, rows, shown

    for number, table in enumerate(report.tables, start=1):
        figures = [figure for figure in TITLES if any(figure in shown(policy) for policy in table.policies)]
        columns = [Column("policy", lambda row: row.name, least=16, fold=True, style="bold")]
        for place, figure in enumerate(figures, start=1):
            columns.append(Column(TITLES[figure], partial(_search_cell, figure), right=True, rank=place))
        tables.print_line(headline(table))
        notes = list(map(in_flags, report.notes)) if number == len(report.tables) else []
        tables.print_table(columns, rows(table), footnotes=notes)


def _search_cell(figure: str, row: Any) -> str:
    from modelspace.verbs.evaluate_search import cell, shown

    return cell(row, figure) if figure in shown(row) else ""


def _footnotes(report: Any) -> list[str]:
    lines = ["regret@K: extra loss of the best source among the first K; 1 is that of one random source"]
    if report.is_accuracy:
        lines = [report.explanation, report.origin, *([report.report] if report.reported else [])]
    if report.with_self:
        lines.append("pairs of a model with itself are included, so these are not only predictions")
    if report.reliability is not None:
        r = report.reliability
        at = f"P@5 {r.precision[4]:.3f}, " if len(r.precision) > 4 else ""
        lines.append(f"one seed of the oracle against another: {at}Spearman {r.spearman:.3f}, Kendall {r.kendall:.3f}")
    if report.left_out:
        lines.append(f"not evaluated, since the oracle or another method lacks them: {', '.join(report.left_out)}")
    if report.unmeasured:
        lines.append(f"{report.unmeasured} pairs are not in the oracle and are ignored for all methods")
    return [*lines, *map(in_flags, report.notes)]


def _mean(figure: str, k: int | None, row: Any) -> str:
    mean = row.summary[figure].mean
    value = float(mean if k is None else mean[k - 1])
    return f"{value:.3f}" if math.isfinite(value) else ""


def _interval(figure: str, k: int | None, row: Any) -> str:
    interval = row.summary[figure]
    low, high = (float(part if k is None else part[k - 1]) for part in (interval.low, interval.high))
    return f"{low:.2f}..{high:.2f}" if math.isfinite(low) else ""


def _seconds(cost: Any) -> str:
    return "" if cost is None or math.isnan(cost.seconds) else f"{cost.seconds:.3g}"


def _passes(cost: Any, kind: str) -> str:
    return "" if cost is None or not getattr(cost, kind) else str(getattr(cost, kind))
