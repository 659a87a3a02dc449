"""Attribution maps side by side: of registered models, as they are stored, or of a model's layers, computed now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelspace import sources
from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.registry import ProbeRow, Registry
from modelspace.spaces import affinity, probe_sets
from modelspace.spaces.kinds import map_space, space_of
from modelspace.types import SpaceSpec
from modelspace.verbs.pictures.selection import Selection, grouped, select

if TYPE_CHECKING:
    from modelspace.encoder.layers import LayerRow
    from modelspace.plots import Picture

T = TypeVar("T")

#: What a gallery shows where nothing is named: so many models, so many probe images, so many layers.
MODELS, IMAGES, LAYERS = 16, 4, 6

#: Let the layers be chosen.
AUTO = "auto"


def gallery_of_models(
    path: Path,
    models: Sequence[str],
    space: str | None,
    where: str | None,
    group_by: str | None,
    *,
    images: Sequence[int] | None,
    colours: str,
    title: str,
    options: dict[str, Any],
) -> Picture:
    """See `modelspace.workspace.ModelSpace.gallery`, without `layers`."""
    if options:
        raise UsageError(
            f"stored maps are shown as they are, and need no {', '.join(sorted(options))}",
            "these options say how to load a model, whose layers are shown with `layers=['auto']`",
        )
    from modelspace.plots import gallery_figure

    with Registry.open(path) as registry:
        space = _with_maps(registry, space)
        selection = select(registry, space, where, group_by, least=1, what="a gallery")
        selection, notes = _chosen(registry, selection, models, group_by)
        spec = selection.row.spec
        numbers = _numbers(spec, images)
        maps = np.stack([stored_maps(registry, spec, model_id, numbers) for model_id in selection.ids])
        probe_set = registry.probe_set(spec.probe_id)
    picture = gallery_figure(
        maps,
        selection.names,
        [f"image {k}" for k in numbers],
        images=_photographs(path, probe_set, numbers),
        groups=selection.groups,
        colours=colours,
        title=title,
    )
    picture.facts |= {"models": selection.names, "images": numbers, "notes": notes}
    return picture


def gallery_of_layers(
    path: Path,
    models: Sequence[Any],
    layers: Sequence[str],
    space: str | None,
    *,
    images: Sequence[int] | None,
    colours: str,
    title: str,
    options: dict[str, Any],
) -> Picture:
    """See `modelspace.workspace.ModelSpace.gallery`, with `layers`."""
    if len(models) != 1:
        raise UsageError(
            f"layers are shown of one model, not of {len(models)}",
            "example: `space.gallery(['zoo:curvature'], layers=['auto'])`",
        )
    (model,) = models
    from modelspace.embedding import prepare
    from modelspace.embedding.embed import embed
    from modelspace.plots import gallery_figure

    with Registry.open(path) as registry:
        row = registry.space(_with_maps(registry, space))
        probe_set = registry.probe_set(row.spec.probe_id)
        stored = affinity.find(registry, model) if isinstance(model, str) else None
        if stored is None and isinstance(model, str) and not sources.is_uri(model):
            registry.model(model)  # raises: not there, and what is near
    numbers = _numbers(row.spec, images)
    photographs = _photographs(path, probe_set, numbers)
    if stored is not None:
        model, name = stored.card.uri, stored.card.name
        options = {"preprocessing": stored.card.preprocessing, **stored.card.options, **options}
    else:
        name = options.pop("name", None) or (model if isinstance(model, str) else type(model).__name__)
    loaded = prepare.load(prepare.Request(model, **options))
    if stored is not None and loaded.weights_sha256 != stored.card.weights_sha256:
        raise ConflictError(
            f"the weights at {stored.card.uri} are not those that {name!r} was registered with",
            "name the file that holds them with `weights=file`",
        )
    device = options.get("device", "auto")
    request = prepare.Request(loaded.module, preprocessing=loaded.preprocessing, name="module", device=device)
    if device == "auto" and isinstance(model, str):
        # "auto" leaves a live module where it is; this one was loaded here, so it goes where it is fastest.
        from modelspace.embedding.embed import pick_device

        request = replace(request, device=str(pick_device()))
    example = next(probe_sets.images(path, probe_set, 0, 2, 2))
    wanted = [layer for layer in layers if layer != AUTO]
    if len(wanted) < len(layers):
        explained = stored.card.layer if stored is not None else loaded.layer
        rows, tap = prepare.layers(replace(request, layer=explained), example)
        wanted += [layer for layer in spread(rows, tap.layer) if layer not in wanted]
    # As the space has it, but for these images only and not quantised.
    spec = replace(row.spec, n_images=len(numbers), bits=32)
    columns, names = [], []
    for layer in wanted:
        with prepare.prepared(replace(request, layer=layer), example) as ready:
            made = embed(ready.tap, ready.card.preprocessing, [photographs], [spec], device=ready.device)
            names.append(ready.card.layer)
        blocks = made.blocks[spec.space_id]
        columns.append(np.concatenate([map_space(spec).unit_maps(block) for block in blocks]))
    picture = gallery_figure(
        np.stack(columns),
        names,
        [f"image {k}" for k in numbers],
        images=photographs,
        headings=[name] * len(names),
        colours=colours,
        title=title,
    )
    picture.facts |= {"layers": names, "images": numbers, "notes": ()}
    return picture


def _with_maps(registry: Registry, space: str | None) -> str:
    """A space that holds maps: the one that is named, or the default one, or the first that does."""
    spec = registry.space(space).spec
    if space is None and not space_of(spec).has_maps:
        spec = next((row.spec for row in registry.spaces() if space_of(row.spec).has_maps), spec)
    return map_space(spec).spec.name


def spread(rows: Sequence[LayerRow], explained: str, count: int = LAYERS) -> list[str]:
    """Layers from shallow to deep, the explained one last.

    Containers are opened, outermost first, until there are `count` parts that follow each other; of those, `count` are
    taken at even steps.

    Args:
        rows: the executed layers, in the order in which they are entered; the last is "output".
        explained: as `modelspace.encoder.layers.Tap.layer`.
        count: at most so many; at least 1.
    """
    names = [row.name for row in rows[:-1]]
    module, side = (explained[:-3], "in") if explained.endswith(":in") else (explained, "out")
    parts = _children(names, "")
    while len(parts) < count:
        # The container with the most parts is the one whose depth is worth seeing.
        widest = max(parts, key=lambda name: len(_children(names, name)), default="")
        inner = _children(names, widest) if widest else []
        if len(inner) < 2:
            break
        at = parts.index(widest)
        parts[at : at + 1] = inner
    if module in names:
        end = names.index(module)
        # What is explained, and what comes after it or holds it, is not before it.
        parts = [
            name
            for name in parts
            if names.index(name) < end and not module.startswith(f"{name}.") and not name.startswith(f"{module}.")
        ]
    elif parts and explained == "output":
        parts = parts[:-1]
    return [*_evenly(parts, count - 1), f"{module}:in" if side == "in" else module]


def _evenly(entries: Sequence[T], count: int) -> list[T]:
    """At most `count` entries at even steps, the first and the last among them."""
    if len(entries) <= count:
        return list(entries)
    return [entries[int(i)] for i in np.linspace(0, len(entries) - 1, count).round()]


def _children(names: Sequence[str], parent: str) -> list[str]:
    start = f"{parent}." if parent else ""
    return [name for name in names if name.startswith(start) and "." not in name[len(start) :] and name != parent]


def _chosen(
    registry: Registry, selection: Selection, models: Sequence[str], group_by: str | None
) -> tuple[Selection, tuple[str, ...]]:
    """The named models in their order; or where none is named, some of all, group by group."""
    rows = {row.card.name: row for row in selection.models}
    if models:
        for name in models:
            if name not in rows:
                registry.model(name)  # raises where there is no such model at all
                raise NotFoundError(
                    f"model {name!r} is not among the models of space {selection.row.spec.name!r} that were asked for",
                    "leave `where=` out, or choose another space with `space=`",
                )
        kept = [rows[name] for name in dict.fromkeys(models)]
        notes: tuple[str, ...] = ()
    else:
        ranked = sorted(
            zip(selection.groups, selection.models, strict=True), key=lambda pair: (pair[0] is None, pair[0])
        )
        kept = [row for _, row in _evenly(ranked, MODELS)]
        notes = (
            () if len(kept) == len(rows) else (f"{len(kept)} of {len(rows)} models are shown; name others to see them",)
        )
    column, groups = grouped(kept, group_by or selection.group_by)
    return Selection(selection.row, tuple(kept), groups, column), notes


def _numbers(spec: SpaceSpec, images: Sequence[int] | None) -> list[int]:
    """Numbers of probe images, checked."""
    numbers = list(range(min(IMAGES, spec.n_images))) if images is None else list(dict.fromkeys(images))
    if bad := [k for k in numbers if not 0 <= k < spec.n_images]:
        raise NotFoundError(
            f"space {spec.name!r} has no probe image {bad[0]}", f"its images are numbered 0 to {spec.n_images - 1}"
        )
    if not numbers:
        raise UsageError("a gallery needs a probe image", "example: `space.gallery(images=[0])`")
    return numbers


def stored_maps(registry: Registry, spec: SpaceSpec, model_id: int, images: Sequence[int]) -> NDArray[np.float64]:
    """Stored maps of some images, (n, canvas, canvas) float64, each of unit norm; only their blocks are read."""
    space = map_space(spec)
    starts = np.array(registry.block_starts(spec.space_id))
    out = np.empty((len(images), spec.canvas, spec.canvas))
    holder = np.searchsorted(starts, images, side="right") - 1
    for number in np.unique(holder):
        first = int(starts[number])
        ((_, block),) = registry.map_blocks_at(spec.space_id, first, [model_id])
        maps = space.unit_maps(block)
        for at in np.flatnonzero(holder == number):
            out[at] = maps[images[int(at)] - first]
    return out


def _photographs(path: Path, probe_set: ProbeRow, numbers: Sequence[int]) -> NDArray[np.uint8]:
    """The probe images, (n, side, side, 3) uint8."""
    return np.concatenate([next(probe_sets.images(path, probe_set, k, 1, 1)) for k in numbers])
