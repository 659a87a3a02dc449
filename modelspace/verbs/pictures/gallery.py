"""Attribution maps side by side: the stored maps of registered models, or newly computed maps of a model's layers."""

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
from modelspace.spaces.kinds import map_space, with_maps
from modelspace.types import SpaceSpec
from modelspace.verbs.pictures.caption import caption, source_of
from modelspace.verbs.pictures.selection import Selection, grouped, select

if TYPE_CHECKING:
    from modelspace.encoder.layers import LayerRow
    from modelspace.plots import Picture

T = TypeVar("T")

#: Default numbers of models, probe images and layers in a gallery.
MODELS, IMAGES, LAYERS = 16, 4, 6

#: Choose the layers automatically.
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
            f"a gallery of stored maps takes no {', '.join(sorted(options))}",
            "these options are for loading a model, to show its layers with `layers=['auto']`",
        )
    from modelspace.plots import gallery_figure

    with Registry.open(path) as registry:
        space = with_maps(registry, space)
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
        images=probe_photographs(path, probe_set, numbers),
        groups=selection.colours,
        colours=colours,
        group_by=selection.group_by,
        title=title,
        caption=selection.caption,
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
            f"layers can be shown of one model, not of {len(models)}",
            "example: `space.gallery(['zoo:curvature'], layers=['auto'])`",
        )
    (model,) = models
    from modelspace.embedding import prepare
    from modelspace.embedding.embed import embed
    from modelspace.plots import gallery_figure

    with Registry.open(path) as registry:
        row = registry.space(with_maps(registry, space))
        probe_set = registry.probe_set(row.spec.probe_id)
        source = source_of(registry, row.spec)
        stored = affinity.find(registry, model) if isinstance(model, str) else None
        if stored is None and isinstance(model, str) and not sources.is_uri(model):
            if ":" in model:  # no name has one
                sources.parse_uri(model)  # raises, with similar schemes as a hint
            registry.model(model)  # raises, with similar names as a hint
    numbers = _numbers(row.spec, images)
    photographs = probe_photographs(path, probe_set, numbers)
    if stored is not None:
        model, name = stored.card.uri, stored.card.name
        options = {"preprocessing": stored.card.preprocessing, **stored.card.options, **options}
        tags = stored.card.tags
        if "weights_key" in tags and options.get("weights") == tags.get("weights"):
            options.setdefault("weights_key", tags["weights_key"])
    else:
        name = options.pop("name", None) or (model if isinstance(model, str) else type(model).__name__)
    loaded = prepare.load(prepare.Request(model, **options))
    if stored is not None and loaded.weights_sha256 != stored.card.weights_sha256:
        raise ConflictError(
            f"the weights at {stored.card.uri} differ from those that {name!r} was registered with",
            "name the file of the registered weights with `weights=file`",
        )
    device = options.get("device", "auto")
    request = prepare.Request(loaded.module, preprocessing=loaded.preprocessing, name="module", device=device)
    if device == "auto" and isinstance(model, str):
        # "auto" keeps a live module on its device; this module was loaded here, so it moves to the fastest one.
        from modelspace.embedding.embed import pick_device

        request = replace(request, device=str(pick_device()))
    example = next(probe_sets.images(path, probe_set, 0, 2, 2))
    shown = [layer for layer in layers if layer != AUTO]
    if len(shown) < len(layers):
        explained = stored.card.layer if stored is not None else loaded.layer
        rows, tap = prepare.layers(replace(request, layer=explained), example)
        shown += [layer for layer in spread(rows, tap.layer) if layer not in shown]
    # Like the space, but with these images only and not quantised.
    spec = replace(row.spec, n_images=len(numbers), bits=32)
    columns, names = [], []
    for layer in shown:
        with prepare.prepared(replace(request, layer=layer), example) as tapped:
            embedding = embed(tapped.tap, tapped.card.preprocessing, [photographs], [spec], device=tapped.device)
            names.append(tapped.card.layer)
        blocks = embedding.blocks[spec.space_id]
        columns.append(np.concatenate([map_space(spec).unit_maps(block) for block in blocks]))
    picture = gallery_figure(
        np.stack(columns),
        names,
        [f"image {k}" for k in numbers],
        images=photographs,
        headings=[name] * len(names),
        colours=colours,
        title=title,
        caption=caption(source, 1),
    )
    picture.facts |= {"layers": names, "images": numbers, "notes": ()}
    return picture


def spread(rows: Sequence[LayerRow], explained: str, count: int = LAYERS) -> list[str]:
    """Layers from shallow to deep, the explained one last.

    Containers are opened, outermost first, until there are at least `count` consecutive parts, of which `count` evenly
    spaced ones are chosen.

    Args:
        rows: the executed layers, in execution order; the last is "output".
        explained: the explained layer, as `modelspace.encoder.layers.Tap.layer`.
        count: maximum number of layers, at least 1.
    """
    names = [row.name for row in rows[:-1]]
    module, side = (explained[:-3], "in") if explained.endswith(":in") else (explained, "out")
    parts = _children(names, "")
    while len(parts) < count:
        # Open the container with the most parts, whose depth is the most interesting.
        widest = max(parts, key=lambda name: len(_children(names, name)), default="")
        inner = _children(names, widest) if widest else []
        if len(inner) < 2:
            break
        position = parts.index(widest)
        parts[position : position + 1] = inner
    if module in names:
        end = names.index(module)
        # Drop the explained layer, its containers and its parts, and all later layers.
        parts = [
            name
            for name in parts
            if names.index(name) < end and not module.startswith(f"{name}.") and not name.startswith(f"{module}.")
        ]
    elif parts and explained == "output":
        parts = parts[:-1]
    return [*_evenly(parts, count - 1), f"{module}:in" if side == "in" else module]


def _evenly(entries: Sequence[T], count: int) -> list[T]:
    """At most `count` evenly spaced entries, including the first and the last."""
    if len(entries) <= count:
        return list(entries)
    return [entries[int(i)] for i in np.linspace(0, len(entries) - 1, count).round()]


def _children(names: Sequence[str], parent: str) -> list[str]:
    start = f"{parent}." if parent else ""
    return [name for name in names if name.startswith(start) and "." not in name[len(start) :] and name != parent]


def _chosen(
    registry: Registry, selection: Selection, models: Sequence[str], group_by: str | None
) -> tuple[Selection, tuple[str, ...]]:
    """The named models in the given order; without names, an evenly spaced selection, group by group."""
    rows = {row.card.name: row for row in selection.models}
    if models:
        for name in models:
            if name not in rows:
                registry.model(name)  # raises if there is no such model
                raise NotFoundError(
                    f"model {name!r} is not among the selected models of space {selection.row.spec.name!r}",
                    "leave `where=` out, or choose another space with `space=`",
                )
        shown = [rows[name] for name in dict.fromkeys(models)]
        notes: tuple[str, ...] = ()
    else:
        ranked = sorted(
            zip(selection.groups, selection.models, strict=True), key=lambda pair: (pair[0] is None, pair[0])
        )
        shown = [row for _, row in _evenly(ranked, MODELS)]
        notes = (
            ()
            if len(shown) == len(rows)
            else (f"{len(shown)} of {len(rows)} models are shown; name others to see them",)
        )
    column, groups = grouped(shown, group_by or selection.group_by)
    return replace(selection, models=tuple(shown), groups=groups, group_by=column), notes


def _numbers(spec: SpaceSpec, images: Sequence[int] | None) -> list[int]:
    """The numbers of the probe images to show, validated."""
    numbers = list(range(min(IMAGES, spec.n_images))) if images is None else list(dict.fromkeys(images))
    if bad := [k for k in numbers if not 0 <= k < spec.n_images]:
        raise NotFoundError(
            f"space {spec.name!r} has no probe image {bad[0]}", f"its images are numbered 0 to {spec.n_images - 1}"
        )
    if not numbers:
        raise UsageError("a gallery needs a probe image", "example: `space.gallery(images=[0])`")
    return numbers


def stored_maps(registry: Registry, spec: SpaceSpec, model_id: int, images: Sequence[int]) -> NDArray[np.float64]:
    """Stored maps of the given images, (n, canvas, canvas) float64, each of unit norm; reads only their blocks.

    Raises:
        DamagedError: a map is missing.
    """
    space = map_space(spec)
    starts = np.array(registry.block_starts(spec.space_id))
    out = np.empty((len(images), spec.canvas, spec.canvas))
    block_of = np.searchsorted(starts, images, side="right") - 1
    for number in np.unique(block_of):
        places = np.flatnonzero(block_of == number)
        first = int(starts[number]) if number >= 0 else 0
        blocks = [block for _, block in registry.map_blocks_at(spec.space_id, first, [model_id])]
        if not blocks or max(images[int(i)] for i in places) - first >= blocks[0].n_images:
            raise space.missing(f"model {model_id}")
        maps = space.unit_maps(blocks[0])
        for i in places:
            out[i] = maps[images[int(i)] - first]
    return out


def probe_photographs(path: Path, probe_set: ProbeRow, numbers: Sequence[int]) -> NDArray[np.uint8]:
    """The probe images, (n, side, side, 3) uint8."""
    return np.concatenate([next(probe_sets.images(path, probe_set, k, 1, 1)) for k in numbers])
