"""What a registry holds: names of probe images, kernels of models, and a summary for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modelspace import frames
from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import ModelRow, ProbeRow, Registry, outcomes
from modelspace.representations.maps import MapBlock
from modelspace.results import ModelInfo, PairAffinity
from modelspace.spaces import affinity
from modelspace.spaces.bootstrap import intervals
from modelspace.spaces.kinds import KernelSpace, space_of
from modelspace.spaces.views import kernel_space


def model_info(row: ModelRow, n_outcomes: int) -> ModelInfo:
    """A model as a flat record.

    Args:
        row: of the registry.
        n_outcomes: number of its measurements.
    """
    card = row.card
    return ModelInfo(
        name=card.name,
        task=card.task,
        data=card.data,
        architecture=card.architecture,
        parameters=card.parameters,
        layer=card.layer,
        layer_found_by=card.layer_found_by,
        output_shape=card.output_shape,
        uri=card.uri,
        preprocessing=card.preprocessing.to_dict(),
        weights_sha256=card.weights_sha256,
        seconds=card.seconds,
        added_at=row.added_at.isoformat(timespec="seconds"),
        spaces=row.spaces,
        tags=dict(card.tags),
        outcomes=n_outcomes,
        torch=card.torch,
    )


def page(path: Path, where: str | None, after: int, count: int) -> tuple[list[ModelInfo], int | None]:
    """Some models in the order in which they were added, and what to pass as `after` for the next ones.

    Args:
        path: the registry file.
        where: SQL condition on the table `models`.
        after: number of a model, whose successors are wanted; 0 for the first models.
        count: largest number of models.

    Returns:
        The models, and None if there are no more.
    """
    with Registry.open(path) as registry:
        if where is None:
            ids = registry.ids_after(after, count + 1)
        else:
            ids = sorted(model_id for model_id in registry.ids_where(where) if model_id > after)[: count + 1]
        counts = outcomes.counts(registry)
        rows = registry.models_by_id(ids[:count])
        models = [model_info(row, counts.get(model_id, 0)) for model_id, row in rows.items()]
    return models, ids[count - 1] if len(ids) > count else None


def pair(path: Path, a: str, b: str, space: str | None) -> PairAffinity:
    """The affinity of two registered models, with its 95% interval.

    Raises:
        NotFoundError: there is no such model or space, or a model is not in the space.
    """
    with Registry.open(path) as registry:
        spec = registry.space(space).spec
        rows = [registry.model(name) for name in (a, b)]
        for row in rows:
            if spec.name not in row.spaces:
                raise NotFoundError(f"model {row.card.name!r} is not in space {spec.name!r}")
        blocks = affinity.stored_blocks(registry, spec, rows[0].model_id)
        members = space_of(spec).members(registry, blocks, [rows[1].model_id])
    value = sum(float(member.weight * member.products[0].mean()) for member in members)
    bounds = intervals(members)
    return PairAffinity(
        rows[0].card.name, rows[1].card.name, spec.name, value, float(bounds.low[0]), float(bounds.high[0])
    )


def names_by_kind(path: Path) -> dict[str, list[str]]:
    """What the command line completes: names of models, spaces, probe sets and tasks, and keys of tags."""
    with Registry.open(path) as registry:
        return {
            "models": registry.model_names(),
            "spaces": [row.spec.name for row in registry.spaces()],
            "probe_sets": [row.name for row in registry.probe_sets()],
            "tasks": [row.name for row in outcomes.tasks(registry)],
            "tags": registry.tag_keys(),
        }


def probe_names(path: Path, name: str | None) -> list[str]:
    """See `modelspace.workspace.ModelSpace.probe_names`."""
    with Registry.open(path) as registry:
        row = registry.probe_set(name or registry.space().spec.probe_id)
        used = [space.spec.n_images for space in registry.spaces() if space.spec.probe_id == row.probe_id]
    return _names(row, max(used, default=0))


def _names(row: ProbeRow, used: int) -> list[str]:
    """The names of a probe set's images; of a rendered set those of the first `used`."""
    if "files" in row.spec:
        return [str(file) for file in row.spec["files"]]
    if "crops" in row.spec:
        return [f"{crop[0]} {crop[1]},{crop[2]} {crop[3]}" for crop in row.spec["crops"]]
    return [f"{row.kind} {k}" for k in range(row.n_images or used)]


def kernels(path: Path, models: str | Sequence[str], space: str | None) -> np.ndarray:
    """See `modelspace.workspace.ModelSpace.kernels`."""
    names = [models] if isinstance(models, str) else list(models)
    with Registry.open(path) as registry:
        kind = _kernels_of(registry, space)
        chosen = [kind.kernel(_blocks(registry, kind, name)) for name in names]
    stack = np.stack([kernel / np.linalg.norm(kernel) for kernel in chosen]) if chosen else np.empty((0, 0, 0))
    return stack[0] if isinstance(models, str) else stack


def _kernels_of(registry: Registry, space: str | None) -> KernelSpace:
    """The space of that name; by default the one with kernels that the default space ranks by, or is made of.

    Raises:
        UsageError: it holds no kernels.
    """
    spec = registry.space(space).spec
    kind = space_of(spec)
    if isinstance(kind, KernelSpace):
        return kind
    try:
        if space is None:
            return kernel_space(registry, spec)
    except NotFoundError:
        pass
    raise UsageError(
        f"space {spec.name!r} ({spec.method}) holds no kernels",
        "name one that does with `space=`, for example `space='dds'`; `space.spaces()` lists them",
    )


def _blocks(registry: Registry, kind: KernelSpace, name: str) -> list[MapBlock]:
    row = registry.model(name)
    if kind.spec.name not in row.spaces:
        raise NotFoundError(f"model {name!r} is not in space {kind.spec.name!r}")
    blocks = list(registry.map_blocks(kind.spec.space_id, row.model_id))
    if not blocks:
        raise kind.missing(f"model {name!r}")
    return blocks


def names(path: Path) -> list[str]:
    """Names of all models, in the order in which they were added."""
    with Registry.open(path) as registry:
        return registry.model_names()


def summary(path: Path) -> str:
    """The registry in HTML: its folder, number of models, and spaces."""
    with Registry.open(path) as registry:
        count, rows = len(registry.model_names()), registry.spaces()
        sets = {row.probe_id: row.name for row in registry.probe_sets()}
    columns = ("space", "method", "probes", "images", "models", "default")
    spaces = [
        (
            row.spec.name,
            row.spec.method,
            sets.get(row.spec.probe_id, ""),
            row.spec.n_images,
            row.n_models,
            "default" if row.is_default else "",
        )
        for row in rows
    ]
    return f"<p>{frames.escaped(path.parent)}: {count} models</p>{frames.table(columns, spaces)}"
