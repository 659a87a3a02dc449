"""Exporting a registry to files for other programs: tables, matrices, vectors, maps, a tree.

All files of an export are written under temporary names and renamed at its end, so that an incomplete file is never
read, and an export that fails leaves nothing.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from modelspace.analysis.distances import distance_matrix
from modelspace.analysis.projection import MAX_EXACT
from modelspace.errors import ConflictError, DamagedError, ModelspaceWarning, UsageError
from modelspace.names import did_you_mean, file_name
from modelspace.registry import ModelRow, Registry, SpaceRow, outcomes
from modelspace.results import Exported
from modelspace.spaces import affinity, coordinates
from modelspace.spaces.kinds import map_space, with_maps
from modelspace.spaces.neighbours import Ranker, Target
from modelspace.spaces.ranking import Ranking
from modelspace.verbs.output_files import Columns, OutputFiles, names_file, output_files

#: What can be exported, and its formats; the first is the default in a folder.
WHAT: dict[str, tuple[str, ...]] = {
    "models": ("parquet", "csv", "json"),
    "affinity": ("parquet", "csv", "npy"),
    "vectors": ("npy", "parquet", "csv"),
    "neighbours": ("parquet", "csv", "json"),
    "tree": ("newick", "json"),
    "maps": ("npy",),
    "tasks": ("parquet", "csv", "json"),
    "outcomes": ("parquet", "csv", "json"),
}
#: Exported to a folder by default: all but the maps, which are large.
DEFAULT = ("models", "affinity", "vectors", "neighbours", "tree")
#: Default content of a single file, by its format.
DEFAULT_OF = {"parquet": "models", "csv": "models", "json": "models", "npy": "vectors", "newick": "tree"}
#: Formats by suffix; files in a folder get the first suffix of their format.
SUFFIXES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".npy": "npy",
    ".nwk": "newick",
    ".newick": "newick",
    ".tree": "newick",
}
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
DTYPES = ("float64", "float32")
#: Largest number of models of which all pairs are exported, by content; neighbours and vectors have no such limit.
MOST_IN_PAIRS = {"affinity": 8000, "tree": MAX_EXACT}


@dataclass(frozen=True)
class Options:
    """Export options.

    Attributes:
        space: name or id; None: the default space.
        where: SQL condition on the table `models`.
        wide: write the affinities as a square table with a column per model, instead of a row per pair.
        k: number of neighbours of each model.
        dtype: data type of .npy files of vectors and affinities; maps are float32.
        method: linkage of the tree.
    """

    space: str | None = None
    where: str | None = None
    wide: bool = False
    k: int = 10
    dtype: str = "float64"
    method: str = "average"


def export(
    path: Path, target: Path, what: Sequence[str], format: str | None, *, force: bool, options: Options
) -> list[Exported]:
    """See `modelspace.workspace.ModelSpace.export`."""
    if options.dtype not in DTYPES:
        raise UsageError(f"numbers can't be written as {options.dtype!r}", f"use {' or '.join(DTYPES)}")
    if options.k < 1:
        raise UsageError(f"k must be at least 1, not {options.k}", "example: `k=5`")
    files = _files(path, target, what, format, options)
    existing = [file for _, file, kind in files for file in _all_of(file, kind) if os.path.lexists(file)]
    if existing and not force:
        raise ConflictError(
            f"{existing[0]} exists already" + (f", and {len(existing) - 1} more" if len(existing) > 1 else ""),
            "choose another name, or `force=True` to overwrite",
        )
    _check_pairs(path, [name for name, *_ in files], options)
    if "maps" in (name for name, *_ in files):
        _check_maps(path, next(file for name, file, _ in files if name == "maps"), options, force)
    exported = []
    with output_files(target) as out:
        for name, file, kind in files:
            exported += _WRITERS[name](path, file, kind, options, out)
    return exported


def default_of(path: Path, options: Options | None = None) -> tuple[str, ...]:
    """What a folder gets by default: `DEFAULT`, but no tree of fewer than two models; tasks and outcomes if any.

    A warning says what is left out since it has all pairs of too many models.
    """
    with Registry.open(path) as registry:
        _, names = _chosen(registry, options or Options())
        contents = [name for name in DEFAULT if name != "tree" or len(names) >= 2]
        if large := [name for name in contents if len(names) > MOST_IN_PAIRS.get(name, len(names))]:
            contents = [name for name in contents if name not in large]
            text = f"{' and '.join(large)} of {len(names):,} models are not exported: too many pairs"
            warnings.warn(ModelspaceWarning(f"{text}; select fewer with `where=`"), stacklevel=2)
        return (*contents, "tasks", "outcomes") if outcomes.tasks(registry) else tuple(contents)


def _check_pairs(path: Path, contents: Sequence[str], options: Options) -> None:
    """Raise before anything is written if a content has all pairs of too many models."""
    most = {name: MOST_IN_PAIRS[name] for name in contents if name in MOST_IN_PAIRS}
    if not most:
        return
    with Registry.open(path) as registry:
        n = len(_chosen(registry, options)[1])
    for name, limit in most.items():
        if n > limit:
            raise UsageError(
                f"{name} of {n:,} models has too many pairs; the limit is {limit:,} models",
                "select fewer with `where=`, or export `what='neighbours'`",
            )


def _files(
    path: Path, target: Path, what: Sequence[str], format: str | None, options: Options
) -> list[tuple[str, Path, str]]:
    """(content, file, format) of each file to write.

    Raises:
        UsageError: target, contents and format don't fit together.
    """
    for name in what:
        if name not in WHAT:
            raise UsageError(f"{name!r} can't be exported", did_you_mean(name, WHAT, f"available: {', '.join(WHAT)}"))
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"unknown format {format!r}", did_you_mean(format, FORMATS, f"available: {', '.join(FORMATS)}")
        )
    if target.is_dir() or not target.suffix:
        contents = list(dict.fromkeys(what or default_of(path, options)))
        if what and format:
            for name in contents:
                _check(name, format)
        suffixes = {kind: suffix for suffix, kind in reversed(SUFFIXES.items())}
        files = []
        for name in contents:
            kind = format if format is not None and format in WHAT[name] else WHAT[name][0]
            files.append((name, target / ("maps" if name == "maps" else f"{name}{suffixes[kind]}"), kind))
        return files
    kind = format or SUFFIXES.get(target.suffix.lower(), "")
    if not kind:
        raise UsageError(
            f"unknown format of {target.name!r}",
            f"use one of the suffixes {', '.join(SUFFIXES)}; or name a folder",
        )
    if len(what) > 1:
        raise UsageError(f"{' and '.join(what)} don't fit into the single file {target.name}", "name a folder")
    name = what[0] if what else DEFAULT_OF[kind]
    if name == "maps":
        raise UsageError("maps are written to one file per model", "name a folder")
    _check(name, kind)
    return [(name, target, kind)]


def _check(name: str, kind: str) -> None:
    if kind not in WHAT[name]:
        raise UsageError(f"{name} can't be written as {kind}", f"use {' or '.join(WHAT[name])}")


def _all_of(file: Path, kind: str) -> list[Path]:
    """The files that an export will write, as far as they are known in advance; those of maps are not."""
    return [file, names_file(file)] if kind == "npy" and file.suffix else [file] if file.suffix else []


# ---- one writer per content


def _models(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    with Registry.open(path) as registry:
        rows = registry.models(options.where)
        if options.space is not None:
            members = set(registry.model_ids(registry.space(options.space).spec.space_id))
            rows = [row for row in rows if row.model_id in members]
    out.table(file, kind, model_columns(rows))
    return [out.exported(file, "models", kind, len(rows))]


def model_columns(rows: Sequence[ModelRow]) -> Columns:
    """The flat table `models`, with lists and tags in DuckDB's types."""
    cards = [row.card for row in rows]
    sizes = [card.preprocessing.input_size for card in cards]
    return {
        "name": ("VARCHAR", [card.name for card in cards]),
        "task": ("VARCHAR", [card.task for card in cards]),
        "data": ("VARCHAR", [card.data for card in cards]),
        "architecture": ("VARCHAR", [card.architecture for card in cards]),
        "parameters": ("BIGINT", [card.parameters for card in cards]),
        "layer": ("VARCHAR", [card.layer for card in cards]),
        "layer_found_by": ("VARCHAR", [card.layer_found_by for card in cards]),
        "output_shape": ("INTEGER[]", [list(card.output_shape) for card in cards]),
        "input_height": ("INTEGER", [height for height, _ in sizes]),
        "input_width": ("INTEGER", [width for _, width in sizes]),
        "preprocessing": (
            "VARCHAR",
            [json.dumps(card.preprocessing.to_dict(), sort_keys=True) for card in cards],
        ),
        "uri": ("VARCHAR", [card.uri for card in cards]),
        "weights_sha256": ("VARCHAR", [card.weights_sha256 for card in cards]),
        "seconds": ("DOUBLE", [card.seconds for card in cards]),
        # UTC, as in the registry; a time with a zone would need a DuckDB extension.
        "added_at": ("TIMESTAMP", [row.added_at.replace(tzinfo=None) for row in rows]),
        "spaces": ("VARCHAR[]", [list(row.spaces) for row in rows]),
        "tags": ("MAP(VARCHAR, VARCHAR)", [dict(card.tags) for card in cards]),
    }


def _chosen(registry: Registry, options: Options) -> tuple[SpaceRow, dict[int, str]]:
    """The space, and id -> name of its models that meet the condition, in order of position."""
    row = registry.space(options.space)
    names = {model.model_id: model.card.name for model in registry.models(options.where)}
    return row, {i: names[i] for i in registry.model_ids(row.spec.space_id) if i in names}


def _matrix(path: Path, options: Options) -> tuple[str, list[str], np.ndarray]:
    """The name of the space, and names and affinities of its models."""
    with Registry.open(path) as registry:
        row, names = _chosen(registry, options)
        ids, matrix = affinity.matrix(registry, row.spec, set(names))
    return row.spec.name, [names[i] for i in ids], matrix


def _affinity(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    space, names, matrix = _matrix(path, options)
    if kind == "npy":
        out.array(file, matrix.astype(options.dtype), names)
        return [out.exported(file, "affinity", kind, len(names), space)]
    columns: Columns
    if options.wide:
        columns = {"name": ("VARCHAR", names)}
        columns |= {name: ("DOUBLE", matrix[:, i].tolist()) for i, name in enumerate(names) if name != "name"}
        if "name" in names:
            raise UsageError("a model is called 'name', like the first column of a wide table", "leave `wide=` out")
    else:
        first, second = np.triu_indices(len(names), 1)
        columns = {
            "a": ("VARCHAR", [names[i] for i in first]),
            "b": ("VARCHAR", [names[j] for j in second]),
            "affinity": ("DOUBLE", matrix[first, second].tolist()),
        }
    out.table(file, kind, columns)
    return [out.exported(file, "affinity", kind, len(next(iter(columns.values()))[1]), space)]


def _vectors(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    with Registry.open(path) as registry:
        space, name_of = _chosen(registry, options)
        if space.has_anchors:
            ids, vectors = registry.vectors(space.spec.space_id)
            chosen = np.isin(ids, list(name_of))
            names, matrix = [name_of[i] for i in ids[chosen].tolist()], vectors[chosen].astype(np.float64)
        else:
            rows = [row for row in registry.embeddings(space.spec.space_id) if row.model_id in name_of]
            names, matrix = [name_of[row.model_id] for row in rows], coordinates.matrix([row.vector for row in rows])
    if kind == "npy":
        out.array(file, matrix.astype(options.dtype), names)
    elif kind == "csv":
        columns: Columns = {"name": ("VARCHAR", names)}
        columns |= {f"v{i}": ("DOUBLE", matrix[:, i].tolist()) for i in range(matrix.shape[1])}
        out.table(file, kind, columns)
    else:
        out.table(file, kind, {"name": ("VARCHAR", names), "vector": ("DOUBLE[]", matrix.tolist())})
    return [out.exported(file, "vectors", kind, len(names), space.spec.name)]


#: Columns of the neighbours table, with DuckDB's types.
NEIGHBOUR_COLUMNS = {
    "name": "VARCHAR",
    "rank": "INTEGER",
    "neighbour": "VARCHAR",
    "affinity": "DOUBLE",
    "distance": "DOUBLE",
    "score": "DOUBLE",
}


def _neighbours(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    """Each model's neighbours, ranked as by `nearest`, among the models that meet the condition."""
    rows: list[tuple[str, int, str, float, float, float]] = []
    with Registry.open(path) as registry:
        space, names = _chosen(registry, options)
        models = {model.model_id: model for model in registry.models(options.where)}
        ranker = Ranker(registry, space, Ranking.of(space.spec), models if options.where else None)
        for model_id, name in names.items():
            ranked = ranker.rank(Target(name, model_id), options.k)
            means = (values[: options.k].mean(axis=1).tolist() for values in (ranked.affinities, ranked.scores))
            for i, (other, value, score) in enumerate(zip(ranked.model_ids, *means, strict=False)):
                rows.append((name, i + 1, models[other].card.name, value, float(distance_matrix(value)), score))
    columns: Columns = {
        name: (type_, [row[i] for row in rows]) for i, (name, type_) in enumerate(NEIGHBOUR_COLUMNS.items())
    }
    out.table(file, kind, columns)
    return [out.exported(file, "neighbours", kind, len(rows), space.spec.name)]


def _tree(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    from modelspace.analysis import to_json, to_newick
    from modelspace.verbs.pictures.figures import cluster

    clustered = cluster(path, options.space, options.where, None, method=options.method, sample=MAX_EXACT)
    out.text(file, to_newick(clustered.tree) if kind == "newick" else to_json(clustered.tree, clustered.groups))
    return [out.exported(file, "tree", kind, clustered.tree.n_leaves, clustered.selection.row.spec.name)]


def _map_files(path: Path, folder: Path, options: Options) -> tuple[SpaceRow, dict[int, str], dict[int, Path]]:
    """The space whose maps are exported, by default the first of maps; id -> name, and id -> file of its models."""
    with Registry.open(path) as registry:
        row, names = _chosen(registry, replace(options, space=with_maps(registry, options.space)))
    files = {model_id: folder / file_name(name, ".npy") for model_id, name in names.items()}
    if len(set(files.values())) < len(files):
        raise DamagedError(
            "several models have one name, so that one's maps would replace the other's", "`space.verify()`"
        )
    return row, names, files


def _check_maps(path: Path, folder: Path, options: Options, force: bool) -> None:
    """Raise before anything is written if there are no maps to export, or files would be overwritten."""
    _, _, files = _map_files(path, folder, options)
    existing = [file for file in files.values() if os.path.lexists(file)]
    if existing and not force:
        raise ConflictError(f"{existing[0]} exists already", "choose another folder, or `force=True` to overwrite")


def _maps(path: Path, folder: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    row, names, files = _map_files(path, folder, options)
    space = map_space(row.spec)
    out.folder(folder)
    exported = []
    for model_id, file in files.items():
        with Registry.open(path) as registry:
            blocks = list(registry.map_blocks(row.spec.space_id, model_id))
        maps = space.maps_of(blocks, f"model {names[model_id]!r}")
        out.array(file, maps)
        exported.append(out.exported(file, "maps", kind, len(maps), row.spec.name))
    return exported


#: Columns of the tables of tasks and outcomes, with DuckDB's types.
TASK_COLUMNS = {
    "name": "VARCHAR",
    "kind": "VARCHAR",
    "metric": "VARCHAR",
    "higher_is_better": "BOOLEAN",
    "n_images": "BIGINT",
    "classes": "VARCHAR[]",
    "location": "VARCHAR",
    "data_sha256": "VARCHAR",
    "seed": "BIGINT",
    "added_at": "TIMESTAMP",
}
OUTCOME_COLUMNS = {
    "task": "VARCHAR",
    "model": "VARCHAR",
    "weights_sha256": "VARCHAR",
    "score": "DOUBLE",
    "how": "VARCHAR",
    "settings": "VARCHAR",
    "n_train": "BIGINT",
    "seed": "BIGINT",
    "seconds": "DOUBLE",
    "measured_at": "TIMESTAMP",
    "note": "VARCHAR",
}


def _tasks(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    with Registry.open(path) as registry:
        rows = outcomes.tasks(registry)
    out.table(file, kind, _columns_of(rows, TASK_COLUMNS))
    return [out.exported(file, "tasks", kind, len(rows))]


def _outcomes(path: Path, file: Path, kind: str, options: Options, out: OutputFiles) -> list[Exported]:
    with Registry.open(path) as registry:
        rows = outcomes.outcomes(registry)
    out.table(file, kind, _columns_of(rows, OUTCOME_COLUMNS))
    return [out.exported(file, "outcomes", kind, len(rows))]


def _columns_of(rows: Sequence[object], types: Mapping[str, str]) -> Columns:
    return {name: (type_, [_stored_as(getattr(row, name)) for row in rows]) for name, type_ in types.items()}


def _stored_as(value: object) -> object:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)  # UTC, as in the registry
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return list(value) if isinstance(value, tuple) else value


_WRITERS: dict[str, Callable[[Path, Path, str, Options, OutputFiles], list[Exported]]] = {
    "models": _models,
    "affinity": _affinity,
    "vectors": _vectors,
    "neighbours": _neighbours,
    "tree": _tree,
    "maps": _maps,
    "tasks": _tasks,
    "outcomes": _outcomes,
}
