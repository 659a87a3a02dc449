"""The verb `import_published`: published accuracies of the models that a registry holds become outcomes of tasks.

A task is one data set of one table, "published.sfda-cnn.aircraft", without data. A model of the registry is a model of
the table only if it is the same checkpoint (`addresses`). Nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelspace.errors import ConflictError, NotFoundError
from modelspace.evaluation import published
from modelspace.evaluation.published import Measurement, Table
from modelspace.names import did_you_mean, to_name
from modelspace.registry import ModelRow, Registry, outcomes
from modelspace.registry.rows import OutcomeRow, TaskRow
from modelspace.results import PublishedInfo, Records

#: What stands for all tables.
ALL = "published"
HOW = "published"

#: The day on which the figures were taken from their sources. They say accuracies, but not when they were measured; one
#: day for all keeps an outcome the same in every registry.
TAKEN = datetime(2026, 11, 27, tzinfo=UTC)

#: Number of addresses in a note.
_EXAMPLES = 4


@dataclass(frozen=True)
class _Match:
    """The models of a registry that a table has.

    Attributes:
        models: the table's name to the model.
        ambiguous: the table's name to the names of several models that could be it.
    """

    models: dict[str, ModelRow]
    ambiguous: dict[str, list[str]]


def import_published(
    path: Path, tables: str | Sequence[str] = ALL, *, all_models: bool = False, dry_run: bool = False
) -> tuple[Records[PublishedInfo], tuple[str, ...]]:
    """See `modelspace.workspace.ModelSpace.import_published`."""
    chosen = _chosen([tables] if isinstance(tables, str) else list(tables))
    with Registry.open(path, write=not dry_run) as registry, nullcontext() if dry_run else registry.transaction():
        models = registry.models()
        known = {row.name: row for row in outcomes.tasks(registry)}
        records = []
        notes: list[str] = []
        for table in chosen:
            match = _match(table, models)
            records.append(_import(registry, table, match, known, all_models=all_models, dry_run=dry_run))
            notes += [_ambiguity(table, source, names) for source, names in match.ambiguous.items()]
    if not any(record.matched for record in records):
        notes.append(_nothing(chosen))
    return Records(records, PublishedInfo), tuple(notes)


def addresses(table: Table, source: str) -> tuple[str, ...]:
    """The addresses of the checkpoint that a table's name means; none if the source does not say it.

    A name of the Hugging Face hub is a checkpoint. A name of torchvision is its first weights if the source says so;
    timm has the same file under the tag tv_in1k.

    >>> table = published.tables()["sfda-cnn"]
    >>> addresses(table, "resnet50")
    ('torchvision:resnet50/IMAGENET1K_V1', 'timm:resnet50.tv_in1k')
    >>> addresses(published.tables()["emms-vit"], "swin_t")
    ()
    """
    if table.checkpoints == "torchvision":
        return f"torchvision:{source}/IMAGENET1K_V1", f"timm:{source}.tv_in1k"
    return (f"hf-hub:{source}",) if table.checkpoints == "huggingface" else ()


def task_name(table: Table, target: str) -> str:
    """The name of the task of a table's data set.

    >>> task_name(published.tables()["transfergraph-vtab1k"], "clevr/clevr_count")
    'published.transfergraph-vtab1k.clevr-clevr_count'
    """
    return to_name(f"published.{table.name}.{target}")


# --- which tables


def _chosen(names: Sequence[str]) -> list[Table]:
    """The tables of these names; for `ALL` those whose figures are in no other table."""
    tables = published.tables()
    chosen: dict[str, Table] = {}
    for name in names:
        if name == ALL:
            chosen |= {table.name: table for table in tables.values() if not table.part_of and not table.repeats}
            continue
        if name not in tables:
            hint = did_you_mean(name, tables, f"tables: {', '.join(tables)}")
            raise NotFoundError(f"there is no published table {name!r}", hint)
        whole = tables[name].part_of or tables[name].repeats or name
        chosen[whole] = tables[whole]
    return list(chosen.values())


# --- which models


def _match(table: Table, models: Sequence[ModelRow]) -> _Match:
    """The models that are checkpoints of the table: by address, else by a name that has all of it."""
    by_address: dict[str, list[ModelRow]] = {}
    by_name: dict[str, list[ModelRow]] = {}
    for model in models:
        by_address.setdefault(_address(model), []).append(model)
        by_name.setdefault(model.card.name.lower(), []).append(model)
    match = _Match({}, {})
    for source in dict.fromkeys(row.source for row in published.measurements(table)):
        places = [place.lower() for place in addresses(table, source)]
        candidates = [model for place in places for model in by_address.get(place, [])]
        candidates = candidates or [model for name in _full_names(places) for model in by_name.get(name, [])]
        if len(candidates) == 1:
            match.models[source] = candidates[0]
        elif candidates:
            match.ambiguous[source] = [model.card.name for model in candidates]
    return match


def _address(model: ModelRow) -> str:
    """A model's address in lower case, without a revision of the hub; "" if its weights are from a file.

    A file given for torchvision's NAME/WEIGHTS has those weights by definition; for other addresses it can have any.
    """
    uri = model.card.uri.lower()
    if model.card.tags.get("weights") and not uri.startswith("torchvision:"):
        return ""
    return uri.partition("@")[0] if uri.startswith("hf-hub:") else uri


def _full_names(places: Sequence[str]) -> list[str]:
    """Names of models that name a checkpoint: its address without the scheme.

    >>> _full_names(["torchvision:resnet50/imagenet1k_v1", "hf-hub:google/vit-base"])
    ['resnet50-imagenet1k_v1', 'google-vit-base']
    """
    return [to_name(place.partition(":")[2]) for place in places]


# --- storing


def _import(
    registry: Registry,
    table: Table,
    match: _Match,
    known: Mapping[str, TaskRow],
    *,
    all_models: bool,
    dry_run: bool,
) -> PublishedInfo:
    """Store the outcomes of one table, except those that are stored."""
    stored = _stored(registry, table, known)
    rows: list[OutcomeRow] = []
    claims: list[tuple[int, ModelRow]] = []
    n_known = 0
    for measurement in published.measurements(table):
        model = match.models.get(measurement.source)
        if measurement.own or (model is None and not all_models):
            continue
        others = stored.get((task_name(table, measurement.target), measurement.source), {})
        if (model is None and others) or (model is not None and model.card.weights_sha256 in others):
            n_known += 1
        elif model is not None and "" in others:
            claims.append((others[""], model))
        else:
            rows.append(_row(table, measurement, model))
    if not dry_run:
        for name in dict.fromkeys(row.task for row in rows):
            if name not in known:
                outcomes.add_task(registry, _task(name))
        outcomes.add_outcomes(registry, rows)
        for outcome_id, model in claims:
            outcomes.claim(registry, outcome_id, model.model_id, model.card.name, model.card.weights_sha256)
    return PublishedInfo(
        table=table.name,
        tasks=table.targets,
        matched={source: model.card.name for source, model in match.models.items()},
        added=len(rows) + len(claims),
        known=n_known,
        ambiguous=match.ambiguous,
        origin=table.source,
    )


def _stored(registry: Registry, table: Table, known: Mapping[str, TaskRow]) -> dict[tuple[str, str], dict[str, int]]:
    """(task, the table's name of a model) -> weights -> number of the outcome, of published outcomes.

    Raises:
        ConflictError: a task of that name is not of published figures.
    """
    stored: dict[tuple[str, str], dict[str, int]] = {}
    for name in dict.fromkeys(task_name(table, row.target) for row in published.measurements(table)):
        if name not in known:
            continue
        task = known[name]
        if task.data_sha256 or (task.metric, task.higher_is_better) != ("accuracy", True):
            raise ConflictError(
                f"task {name!r} is another one: it has data, or another metric than accuracy",
                "rename it: `space.rename_task(old, new)`",
            )
        for row in outcomes.outcomes(registry, name):
            if row.how == HOW and "source" in row.settings:
                pair = name, str(row.settings["source"])
                stored.setdefault(pair, {})[row.weights_sha256] = row.outcome_id
    return stored


def _row(table: Table, measurement: Measurement, model: ModelRow | None) -> OutcomeRow:
    return OutcomeRow(
        outcome_id=0,
        task=task_name(table, measurement.target),
        model=measurement.source if model is None else model.card.name,
        model_id=None if model is None else model.model_id,
        weights_sha256="" if model is None else model.card.weights_sha256,
        score=round(measurement.score / 100, 6),
        how=HOW,
        settings={"table": table.name, "target": measurement.target, "source": measurement.source},
        n_train=None,
        seed=None,
        seconds=None,
        measured_at=TAKEN,
        note=f"{table.origin}, commit {table.commit}",
    )


def _task(name: str) -> TaskRow:
    return TaskRow(0, name, "", "", "classification", "accuracy", True, None, (), 0, outcomes.now())


# --- notes


def _ambiguity(table: Table, source: str, names: Sequence[str]) -> str:
    return f"{source} of {table.name} could be {' or '.join(names)}, and none of them was given its outcomes"


def _nothing(tables: Sequence[Table]) -> str:
    """What the registry was searched for."""
    places: list[str] = []
    count = 0
    for table in tables:
        sources = dict.fromkeys(row.source for row in published.measurements(table))
        checkpoints = [place for source in sources for place in addresses(table, source)]
        count += len(checkpoints)
        places += checkpoints[: _EXAMPLES // 2]
    if not places:
        return f"no name in {', '.join(table.name for table in tables)} says which checkpoint it is"
    shown = ", ".join(places[:_EXAMPLES])
    return f"no model of the registry is one of these checkpoints; {count} addresses were looked for, such as {shown}"
