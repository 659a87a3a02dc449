"""`ModelSpace`: the verbs. Each takes plain values and returns records (`modelspace.results`); none prints.

A verb that reads opens the registry read-only, and closes it again; `add` computes first and opens it for writing last,
so that a pass of minutes never blocks others and an interruption leaves the registry as it was. torch is imported by the
verbs that run a model, not by queries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace import names
from modelspace.errors import NotFoundError
from modelspace.home import INDEX, REGISTRY, VARIABLE, require_home
from modelspace.registry import Registry
from modelspace.results import (
    Added,
    AffinityMatrix,
    Check,
    Exported,
    Merged,
    ModelInfo,
    Neighbours,
    Outcome,
    ProbeInfo,
    Records,
    SpaceInfo,
)
from modelspace.spaces import affinity as affinities
from modelspace.spaces.create import DEFAULT_CANVAS, DEFAULT_METHODS, create_blend, create_spaces, create_standard
from modelspace.spaces.probe_sets import DEFAULT_PROBES, ProbeChoice, create_probes
from modelspace.spaces.probe_sets import images as probe_images
from modelspace.spaces.ranking import Ranking

if TYPE_CHECKING:
    from modelspace.embedding.embed import Progress
    from modelspace.encoder.layers import LayerRow
    from modelspace.plots import Atlas, Picture, Report
    from modelspace.probes import ProbeSet
    from modelspace.registry import ModelRow, ProbeRow
    from modelspace.registry.sql import Table
    from modelspace.verbs.add_many import BulkProgress
    from modelspace.verbs.evaluate import EvaluationReport
    from modelspace.verbs.manifest import Entry
    from modelspace.verbs.pictures.figures import Clustered


class ModelSpace:
    """A registry of models, in the folder `home`.

    Use `ModelSpace.open()` for one that is there and `ModelSpace.create()` for a new one. Objects hold no connection:
    several processes can read at once, and writers wait for each other.
    """

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home)
        self.path = self.home / REGISTRY

    def __repr__(self) -> str:
        return f"ModelSpace({str(self.home)!r})"

    # ---- opening and making

    @classmethod
    def open(cls, home: str | Path | None = None) -> ModelSpace:
        """The registry of a folder.

        Args:
            home: the folder; default: MODELSPACE_HOME, else the current folder or its nearest parent with a registry.

        Raises:
            NotFoundError: there is no registry.
        """
        return cls(require_home(home))

    @classmethod
    def create(cls, home: str | Path | None = None, **options: Any) -> ModelSpace:
        """A registry with its first spaces; takes the options of `init`. One that is there is opened and extended."""
        space = cls(home_for_new(home))
        space.init(**options)
        return space

    def init(
        self,
        *,
        probes: str | Path | ProbeSet = DEFAULT_PROBES,
        methods: Sequence[str] | None = None,
        images: int | None = None,
        canvas: int = DEFAULT_CANVAS,
        bits: int | None = None,
        seed: int = 0,
        per_subfolder: int | None = None,
        name: str | None = None,
        default: bool = False,
        scalar: str = "sum",
    ) -> Records[SpaceInfo]:
        """Make the registry if it is not there, and the spaces that it does not have yet.

        Args:
            probes: "rooms", "yards", "photographs", the name of a registered probe set, a folder of images, or a
                `ProbeSet` of rooms or yards.
            methods: attribution methods (`modelspace.attribution.METHODS`) or geometries (`modelspace.representations.kernels.KERNELS`); one
                space each. Default, without a name: the standard spaces (`modelspace.spaces.create.create_standard`).
            images: probe images per model; default 200, or as many as the folder has.
            canvas: side of the maps in pixels.
            bits: per stored element; default: 8.
            seed: of the rooms, yards or crops, or of the choice of images.
            per_subfolder: so many images of each subfolder.
            name: of the space, with a single method; default: the method, made unique by the probes' name.
            default: make the first of these the default space of queries (the first space of a registry always is).
            scalar: what is explained: "sum" as in the paper, "energy" or "centred_energy" (`modelspace.types.SCALARS`).

        Returns:
            The spaces asked for, new and old.

        Raises:
            UsageError: an unknown method, a number out of range, too few images.
            ConflictError: the name belongs to a space with another definition.
        """
        choice = ProbeChoice(probes, images, per_subfolder, None, seed)
        if methods is None and name is None and scalar == "sum":
            made = create_standard(self.path, choice, canvas, bits, default)
        else:
            methods = methods or DEFAULT_METHODS
            made = create_spaces(self.path, choice, methods, canvas, bits, name, default, scalar)
        return Records([info for info in self.spaces() if info.name in made], SpaceInfo)

    def blend(
        self,
        name: str,
        members: Mapping[str, float],
        *,
        hubs: str = "none",
        rerank: str = "none",
        default: bool = False,
    ) -> SpaceInfo:
        """Make a space out of others on the same probe images: its affinities are theirs, weighted. Nothing is embedded.

        Args:
            name: of the new space.
            members: space to weight; the weights are scaled to sum 1. One member alone gives it another way of ranking.
            hubs: correction of its rankings for hubs: "none", "centred", "csls" or "mutual" (`modelspace.spaces.hubness`).
            rerank: "none", or "directed" (`modelspace.spaces.predictability`); needs a space of dds or linear_cka on the same images.
            default: make it the default space of queries.

        Raises:
            UsageError: no members, weights that are not above zero, or members on different probe images.
            NotFoundError: there is no such member, or no space whose kernels the re-ranking could use.
        """
        made = create_blend(self.path, name, members, Ranking(hubs, rerank), default)
        self._refresh_index()
        return next(info for info in self.spaces() if info.name == made)

    def create_probes(
        self,
        name: str,
        source: str | Path = "rooms",
        *,
        images: int | None = None,
        per_subfolder: int | None = None,
        size: int | None = None,
        seed: int = 0,
    ) -> ProbeInfo:
        """Register a probe set: rendered rooms or yards, or photographs or a folder, whose images are copied into the
        registry.

        Raises:
            ProbeError: an image that can't be read; it is named.
            ConflictError: the name belongs to another set.
        """
        choice = ProbeChoice(source, images, per_subfolder, size, seed)
        return _probe_info(create_probes(self.path, name, choice))

    # ---- adding

    def add(
        self,
        model: Any,
        *,
        name: str | None = None,
        weights: str | Path | None = None,
        weights_key: str | None = None,
        layer: str | None = None,
        preprocessing: Any = None,
        task: str | None = None,
        data: str | None = None,
        tags: Mapping[str, str] | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        replace: bool = False,
        trust_code: str | None = None,
        float32: bool = False,
        stochastic: int | None = None,
        progress: Progress | None = None,
    ) -> Added:
        """Register a model: one embedding pass that fills every space of the registry.

        Args:
            model: a URI ("zoo:depth", "python:my.module:factory", ...) or a live `torch.nn.Module`.
            name: default: what the URI suggests; a live module needs one.
            weights: a safetensors file or a state dict to load into it; or the index of such files, or its folder.
            weights_key: which of the state dicts in that file is meant, for example "state_dict_ema".
            layer: the tensor to explain: a module's name or a glob, "NAME:in" for its input, "output"; default: found.
            preprocessing: `modelspace.types.Preprocessing`, a dictionary of its entries, or flags that override some.
            task, data, tags: metadata to query by.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            batch_size: images per pass.
            replace: let the model of the same name be replaced, whatever of it has changed; always computes.
            trust_code: SHA-256 of the one file whose code may run, for a "file:" address.
            float32: run the model in float32, also where it computes in half precision inside.
            stochastic: of a model whose forward pass is random, how many passes are averaged.
            progress: called with (images done, images in all).

        Returns:
            What was done; adding the same thing again changes nothing.

        Raises:
            ConflictError: the name belongs to another model and `replace` is False.
            ModelspaceError: the model can't be loaded or embedded. The registry is as before.
        """
        from modelspace.embedding.prepare import Request
        from modelspace.verbs.add import add

        file = str(weights) if weights is not None else None
        request = Request(
            model,
            name,
            file,
            layer,
            preprocessing,
            task,
            data,
            tags,
            device,
            trust_code,
            float32,
            stochastic,
            weights_key,
        )
        added = add(self.path, request, batch_size=batch_size, replacing=replace, progress=progress)
        if added.status != "unchanged":
            # The model is in; an interruption from here on only leaves the index to the next query.
            with suppress(KeyboardInterrupt):
                self._refresh_index()
        return added

    def add_all(
        self,
        models: str | Path | Iterable[Mapping[str, Any] | Entry],
        *,
        workers: int | None = None,
        ray: str | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        replace: bool = False,
        dry_run: bool = False,
        progress: BulkProgress | None = None,
        told: Callable[[Outcome], None] | None = None,
    ) -> Records[Outcome]:
        """Register many models, in their order. One that fails is reported, and the others go on.

        What is registered already is not loaded again, so that the same call does the rest of one that was interrupted.

        Args:
            models: a manifest (a TOML or CSV file), the name of a catalog that comes with modelspace ("zoo", "paper"), or
                dictionaries with the entries of a manifest, where "model" may be a live module.
            workers: embed in so many processes; default: in this one.
            ray: embed on a Ray cluster at this address; "local" starts one here.
            device, batch_size: as in `add`, where an entry does not say.
            replace: as in `add`, for all; everything is loaded and compared.
            dry_run: only say what would be done.
            progress: called with (models finished, models in all, what is under way, its images done, its images in all).
            told: called with each outcome as it is known.

        Returns:
            One outcome per model, in the order given.

        Raises:
            UsageError: mistakes in the manifest, all of them at once.
            modelspace.verbs.add_many.Interrupted: Ctrl-C. What was finished is stored.
        """
        from modelspace.verbs import add_many

        entries = add_many.entries_of(models)
        outcomes = add_many.add_all(
            self.path,
            entries,
            workers=workers,
            ray=ray,
            device=device,
            batch_size=batch_size,
            replacing=replace,
            dry_run=dry_run,
            progress=progress,
            told=told,
        )
        if any(outcome.status in ("added", "replaced", "completed") for outcome in outcomes):
            # As in `add`: from here on, an interruption leaves no more than the index to the next query.
            with suppress(KeyboardInterrupt):
                self._refresh_index()
        return Records(outcomes, Outcome)

    def merge(
        self,
        other: str | Path,
        *,
        spaces: str | Sequence[str] = "shared",
        where: str | None = None,
        on_conflict: str = "fail",
        suffix: str = "-2",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Records[Merged]:
        """Take in the models of another registry, from their stored maps; vectors and affinities are computed here.

        Models whose weights, layer and preprocessing are registered here are left as they are.

        Args:
            other: the other registry's folder, or its file; it is only read.
            spaces: "shared": those that both have (equal ids); "all": also those that only the other has; or names.
            where: SQL condition on the other's table `models`.
            on_conflict: what to do where a name belongs to another model here: "fail" (before anything is written), "skip"
                or "rename".
            suffix: put behind the name of a model that is renamed.
            dry_run: only say what would be done.
            progress: called with (models done, models in all).

        Returns:
            One record per model of the other that is in one of the spaces. Those whose maps are damaged are "refused".

        Raises:
            NotFoundError: no such registry, no such space, or none in common.
            ConflictError: names are taken, and `on_conflict` is "fail".
        """
        from modelspace.verbs.merge import merge

        done = merge(
            self.path,
            other,
            spaces=spaces,
            where=where,
            on_conflict=on_conflict,
            suffix=suffix,
            dry_run=dry_run,
            progress=progress,
        )
        if any(record.status in ("added", "completed") for record in done):
            with suppress(KeyboardInterrupt):
                self._refresh_index()
        return Records(done, Merged)

    def export(
        self,
        target: str | Path,
        what: str | Sequence[str] = (),
        *,
        format: str | None = None,
        space: str | None = None,
        where: str | None = None,
        force: bool = False,
        wide: bool = False,
        k: int = 10,
        dtype: str = "float64",
        method: str = "average",
    ) -> Records[Exported]:
        """Write files for other programs.

        Args:
            target: a file, whose suffix says the format, or a folder for several.
            what: "models", "affinity", "vectors", "neighbours", "tree", "maps"; default: by the file's format; into a
                folder, all but the maps.
            format: "parquet", "csv", "json", "npy" or "newick"; default: by the suffix.
            space: default: the registry's default space.
            where: SQL condition on the table `models`.
            force: overwrite files that are there.
            wide: affinities with a column per model, instead of a row per pair.
            k: neighbours of each model.
            dtype: of vectors and affinities in .npy files, "float64" or "float32".
            method: linkage of the tree, as in `tree`.

        Raises:
            UsageError: a combination that is not there.
            ConflictError: a file exists, and `force` is False.
        """
        from modelspace.verbs.export import Options, export

        asked = (what,) if isinstance(what, str) else tuple(what)
        options = Options(space, where, wide, k, dtype, method)
        return Records(export(self.path, Path(target), asked, format, force=force, options=options), Exported)

    def layers(self, model: Any, **options: Any) -> tuple[list[LayerRow], str, str]:
        """The executed layers of a model; with the layer that would be explained and how it was found.

        Takes the options of `add` that say how to load it. Needs no registry.
        """
        from modelspace import probes as probe_sets
        from modelspace.embedding.prepare import Request, layers

        images = next(probe_sets.batches(probe_sets.rooms(2), None, 0, 2, 2))
        rows, tap = layers(Request(model, **options), images)
        return rows, tap.layer, tap.found_by

    # ---- asking

    def nearest(
        self,
        model: Any,
        k: int = 5,
        *,
        where: str | None = None,
        space: str | None = None,
        hubs: str | None = None,
        rerank: str | None = None,
        progress: Progress | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> Neighbours:
        """The k best transfer sources of a model, nearest first.

        Args:
            model: a registered name; or a URI or a live module, which is embedded and not stored.
            k: how many.
            where: SQL condition on the table `models`, for example "task = 'depth' AND parameters < 1e7".
            space: default: the registry's default space; "paper": that of the published method.
            hubs: correction for models that are near to everybody: "none", "centred", "csls" or "mutual"
                (`modelspace.spaces.hubness`); default: what the space says.
            rerank: "directed": the candidates in order of how well their features foretell the target's
                (`modelspace.spaces.predictability`); "none"; default: what the space says.
            progress, batch_size, options: for a model that must be embedded, as in `add`.

        Raises:
            NotFoundError: no such model or space.
            UsageError: the condition is not SQL, or k is below 1.
        """
        from modelspace.verbs.nearest import nearest

        return nearest(
            self.path,
            model,
            k,
            where=where,
            space=space,
            progress=progress,
            batch_size=batch_size,
            options=options,
            hub_correction=hubs,
            rerank=rerank,
        )

    def evaluate(self, **options: Any) -> EvaluationReport:
        """How far the affinities agree with measured transfer; the options are those of `modelspace.verbs.evaluate.evaluate`."""
        from modelspace.verbs.evaluate import evaluate

        return evaluate(self.path, **options)

    def affinity(self, space: str | None = None, *, where: str | None = None) -> AffinityMatrix:
        """Affinities of all pairs of a space's models.

        Args:
            space: default: the registry's default space.
            where: SQL condition on the table `models`.
        """
        with Registry.open(self.path) as registry:
            row = registry.space(space)
            chosen = {model.model_id: model.card.name for model in registry.models(where)}
            ids, matrix = affinities.matrix(registry, row.spec, set(chosen))
        return AffinityMatrix(tuple(chosen[i] for i in ids), matrix, row.spec)

    def cosines(self, models: Sequence[str], space: str | None = None) -> np.ndarray:
        """Cosines per probe image of all pairs of the named models: (N, n, n) float32."""
        with Registry.open(self.path) as registry:
            spec = registry.space(space).spec
            rows = [registry.model(name) for name in models]
            for row in rows:
                if spec.name not in row.spaces:
                    raise NotFoundError(f"model {row.card.name!r} is not in space {spec.name!r}")
            return affinities.contributions_of_all(registry, spec, [row.model_id for row in rows])

    def maps(self, model: str, space: str | None = None, images: Sequence[int] | None = None) -> np.ndarray:
        """Stored attribution maps of a model, (n, canvas, canvas) float32, decoded, each of unit norm."""
        from modelspace.spaces.kinds import map_space

        with Registry.open(self.path) as registry:
            holder = map_space(registry.space(space).spec)
            spec = holder.spec
            row = registry.model(model)
            blocks = list(registry.map_blocks(spec.space_id, row.model_id))
        if not blocks:
            raise NotFoundError(f"model {model!r} is not in space {spec.name!r}")
        maps = np.concatenate([holder.unit_maps(block) for block in blocks]).astype(np.float32)
        return maps if images is None else maps[list(images)]

    def probe_images(self, name: str | None = None, images: Sequence[int] = (0,)) -> np.ndarray:
        """Images of a probe set (default: the default space's), (n, side, side, 3) uint8."""
        with Registry.open(self.path) as registry:
            row = registry.probe_set(name or registry.space().spec.probe_id)
        return np.concatenate([next(probe_images(self.path, row, k, 1, 1)) for k in images])

    def sql(self, query: str, *, timeout_s: float = 30.0, max_rows: int | None = None) -> Table:
        """Run SQL on a read-only connection that can reach nothing but the registry.

        Raises:
            UsageError: DuckDB refuses the query; its message is given.
        """
        from modelspace.registry import sql

        return sql.query(self.path, query, timeout_s=timeout_s, max_rows=max_rows)

    # ---- pictures

    def map(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        refit: bool = False,
        store: bool = True,
        seed: int = 0,
        title: str = "",
    ) -> Picture:
        """The models as points, near ones near (UMAP), groups as colours and shapes.

        Coordinates that the registry holds are used as they are; models without any are placed among them, and a space
        without a map gets one. What was made is stored, unless `store` is False or the registry can't be written to.

        Args:
            space: default: the registry's default space.
            where: SQL condition on the table `models`: which models are drawn. All of the space are on the map.
            group_by: column or tag; default: the tag "group" if a model has it, else the task.
            refit: make a new map, in which every model may move.
            store: keep what was made in the registry.
            seed: of a new map.
            title: printed above.

        Returns:
            A matplotlib figure; `facts["recall"]` says how far it can be trusted, `facts["layout"]` how it was made.

        Raises:
            NotFoundError: no such space, or fewer than two models.
            UsageError: the condition is not SQL, or no such column.
        """
        from modelspace.verbs.pictures.figures import places

        return places(self.path, space, where, group_by, refit=refit, store=store, seed=seed).draw(title)

    def clusters(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        method: str = "average",
        support: int | None = None,
        seed: int = 0,
    ) -> Clustered:
        """The tree, groups and affinities that `tree` and `heatmap` draw, without matplotlib; options as in `tree`."""
        from modelspace.verbs.pictures.figures import cluster

        return cluster(self.path, space, where, group_by, method=method, support=support, seed=seed)

    def tree(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        method: str = "average",
        support: int | None = None,
        seed: int = 0,
        title: str = "",
    ) -> Picture:
        """The clustering tree of the models, with bootstrap support.

        Args:
            space, where, group_by, title: as in `map`.
            method: "average", "single", "complete" or "ward".
            support: how many times the probe images are drawn anew to see which clusters stay; 0: none; default: 200 for
                up to 500 models, else none.
            seed: of the drawing.

        Returns:
            A matplotlib figure; `facts["tree"]` is the tree.

        Raises:
            NotFoundError: no such space, or fewer than two models.
            UsageError: an unknown method, support of too many models, or as in `map`.
        """
        from modelspace.verbs.pictures.figures import cluster

        return cluster(self.path, space, where, group_by, method=method, support=support, seed=seed).draw(title)

    def heatmap(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        method: str = "average",
        title: str = "",
    ) -> Picture:
        """All affinities, in the order of the leaves of the tree of linkage `method`; options and errors as in `tree`."""
        from modelspace.verbs.pictures.figures import cluster

        found = cluster(self.path, space, where, group_by, method=method, support=0, what="a heatmap")
        return found.heatmap(title)

    def gallery(
        self,
        models: Sequence[Any] = (),
        *,
        images: Sequence[int] | None = None,
        layers: Sequence[str] = (),
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        colours: str = "relief",
        title: str = "",
        **options: Any,
    ) -> Picture:
        """Attribution maps side by side: of models as they are stored, or of the layers of one model, computed now.

        Args:
            models: names, in the order of the columns; none: up to 16 of the space. With `layers`, one name, URI or live
                module.
            images: numbers of the probe images, from 0; default: the first four.
            layers: layers of the one model, as in `add`; "auto": six of them from shallow to deep. Runs the model.
            space, where, group_by, title: as in `map`.
            colours: "relief" or "redblue".
            options: with `layers`: weights, weights_key, preprocessing and device, as in `add`.

        Raises:
            NotFoundError: no such model, image, layer or space.
            UsageError: `layers` of several models, or options that load a model without `layers`.
            ModelspaceError: the model can't be loaded or embedded.
        """
        from modelspace.verbs.pictures import gallery

        shown: dict[str, Any] = {"images": images, "colours": colours, "title": title}
        if not layers:
            return gallery.gallery_of_models(self.path, models, space, where, group_by, **shown, options=options)
        return gallery.gallery_of_layers(self.path, models, layers, space, **shown, options=options)

    def atlas(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        k: int = 10,
        store: bool = True,
        title: str = "",
    ) -> Atlas:
        """The models as one HTML page to move about in: map, tree, cards, and each model's k nearest as `nearest` gives them.

        Args and errors as in `map`, whose coordinates it shows. Its neighbours are those among the models that are drawn.
        """
        from modelspace.verbs.pictures.figures import places
        from modelspace.verbs.pictures.pages import atlas_page

        return atlas_page(self.path, places(self.path, space, where, group_by, store=store, what="an atlas"), k, title)

    def report(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        threshold: float = 0.98,
        store: bool = True,
        title: str = "",
    ) -> Report:
        """A summary on paper: counts, map, tree, heatmap, duplicates (affinity of `threshold` or more), outliers, hubs.

        Args and errors as in `map`, whose coordinates it shows.
        """
        from modelspace.verbs.pictures.figures import places
        from modelspace.verbs.pictures.pages import report_page

        found = places(self.path, space, where, group_by, store=store, what="a report")
        return report_page(self.path, found, threshold, title)

    # ---- listing

    def list(self, where: str | None = None) -> Records[ModelInfo]:
        """The registered models, in the order in which they were added; `where` is an SQL condition on `models`."""
        with Registry.open(self.path) as registry:
            return Records([_model_info(row) for row in registry.models(where)], ModelInfo)

    def show(self, name: str) -> ModelInfo:
        """All that is known of one model."""
        with Registry.open(self.path) as registry:
            return _model_info(registry.model(name))

    def spaces(self) -> Records[SpaceInfo]:
        """The spaces, with the state of their index files."""
        from modelspace.spaces import index

        with Registry.open(self.path) as registry:
            probe_names = {row.probe_id: row.name for row in registry.probe_sets()}
            infos = []
            for row in registry.spaces():
                spec = row.spec
                state = index.status(self.home / INDEX, spec.space_id, registry.registry_id, row.generation)
                infos.append(
                    SpaceInfo(
                        name=spec.name,
                        is_default=row.is_default,
                        method=spec.method,
                        probes=probe_names[spec.probe_id],
                        n_images=spec.n_images,
                        canvas=spec.canvas,
                        bits=spec.bits,
                        scalar=spec.scalar,
                        parameters=dict(spec.parameters),
                        n_models=row.n_models,
                        space_id=spec.space_id,
                        index=state[0],
                    )
                )
        return Records(infos, SpaceInfo)

    def probe_sets(self) -> Records[ProbeInfo]:
        """The registered probe sets."""
        with Registry.open(self.path) as registry:
            return Records([_probe_info(row) for row in registry.probe_sets()], ProbeInfo)

    # ---- changing

    def remove(self, name: str) -> None:
        """Forget a model: its row, maps and vectors, in one transaction."""
        with Registry.open(self.path, write=True) as registry, registry.transaction():
            affinities.remove(registry, registry.model(name).model_id)
        self._refresh_index()

    def rename(self, old: str, new: str) -> None:
        """Give a model another name.

        Raises:
            ConflictError: the new name is taken.
        """
        names.check_name(new)
        with Registry.open(self.path, write=True) as registry, registry.transaction():
            registry.rename_model(old, new)

    def tag(
        self,
        name: str,
        tags: Mapping[str, str | None] | None = None,
        *,
        task: str | None = None,
        data: str | None = None,
    ) -> ModelInfo:
        """Set a model's tags, task or data; a tag set to None is removed."""
        with Registry.open(self.path, write=True) as registry, registry.transaction():
            row = registry.model(name)
            merged = {**row.card.tags, **(tags or {})}
            kept = {key: value for key, value in merged.items() if value is not None}
            registry.update_model(
                row.model_id,
                task=task if task is not None else row.card.task,
                data=data if data is not None else row.card.data,
                tags=kept,
            )
        return self.show(name)

    def set_default(self, space: str) -> None:
        """Make a space the one that queries use."""
        with Registry.open(self.path, write=True) as registry, registry.transaction():
            registry.set_default_space(space)

    def rebuild(
        self,
        *,
        coordinates: bool = False,
        compact: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Records[SpaceInfo]:
        """Make the index files anew from the registry.

        Args:
            coordinates: first make the vectors anew from the stored maps.
            compact: first write the registry anew without the room that removed and changed rows left in its file.
            progress: called with (models done, models in all) of each space.
        """
        from modelspace.spaces import index

        if coordinates:
            with Registry.open(self.path, write=True) as registry:
                for row in registry.spaces():
                    with registry.transaction():
                        affinities.rebuild(registry, row.spec, progress)
        if compact:
            from modelspace.registry.compaction import compact as write_anew

            write_anew(self.path)
        index.remove(self.home / INDEX, set())
        self._refresh_index()
        return self.spaces()

    def verify(self, *, deep: bool = False, progress: Callable[[int, int], None] | None = None) -> Records[Check]:
        """Check the registry against itself, and the index against the registry.

        Args:
            deep: recompute the affinities of all pairs from the stored maps, not of a sample.
        """
        from modelspace.verbs.verify import verify

        return Records(verify(self.home, deep=deep, progress=progress), Check)

    def _refresh_index(self) -> None:
        """Write the index files that are not fresh, and remove those of spaces that are gone."""
        from modelspace.spaces import index
        from modelspace.spaces.neighbours import load_index

        with Registry.open(self.path) as registry:
            rows = registry.spaces()
            for row in rows:
                load_index(registry, row)
        index.remove(self.home / INDEX, {row.spec.space_id for row in rows})


def home_for_new(home: str | Path | None = None) -> Path:
    """Where `create` makes a registry: the folder given, MODELSPACE_HOME, or the current folder, never a parent of it."""
    return Path(home or os.environ.get(VARIABLE) or Path.cwd())


def _probe_info(row: ProbeRow) -> ProbeInfo:
    return ProbeInfo(row.name, row.kind, row.n_images, row.size, row.probe_id, dict(row.spec))


def _model_info(row: ModelRow) -> ModelInfo:
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
    )
