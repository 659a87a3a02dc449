"""`ModelSpace`, the public class. Its methods take plain values and return records (`modelspace.results`); none prints.

Methods that read open the registry read-only and close it again. `add` computes first and opens it for writing last, so
a pass of minutes never blocks others and an interruption leaves the registry unchanged. torch is imported only by
methods that run a model, not by queries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelspace import names
from modelspace.deprecated import renamed_argument
from modelspace.errors import BusyError, ModelspaceError, NotFoundError, StorageError, UsageError
from modelspace.files import expanded
from modelspace.frames import escaped
from modelspace.home import INDEX, REGISTRY, VARIABLE, check_folder, require_home
from modelspace.registry import ProbeSets, Registry, outcomes
from modelspace.results import (
    Added,
    AffinityMatrix,
    BackupInfo,
    Check,
    Compared,
    Exported,
    Finding,
    IndexInfo,
    LabelScore,
    Merged,
    ModelInfo,
    Neighbours,
    Outcome,
    OutcomeInfo,
    ProbeInfo,
    Prospects,
    PublishedInfo,
    Records,
    Reembedding,
    Restored,
    Scanned,
    SpaceInfo,
    TaskInfo,
    Trials,
)
from modelspace.spaces import affinity as affinities
from modelspace.spaces.defaults import DEFAULT_PROBES
from modelspace.spaces.ranking import Ranking
from modelspace.spaces.vector_index import is_local, using
from modelspace.timing import phase
from modelspace.verbs import contents

if TYPE_CHECKING:
    from modelspace.embedding.embed import Progress
    from modelspace.encoder.layers import LayerRow, Survey
    from modelspace.evaluation import Oracle
    from modelspace.plots import Atlas, Picture, Report
    from modelspace.probes import ProbeSet
    from modelspace.registry import ProbeRow
    from modelspace.registry.sql import Table
    from modelspace.spaces.create import OnCost
    from modelspace.tasks.metrics import Kind
    from modelspace.verbs.add import OnNote
    from modelspace.verbs.add_many import BulkProgress
    from modelspace.verbs.evaluate import EvaluationReport
    from modelspace.verbs.evaluate_search import SearchReport
    from modelspace.verbs.manifest import Entry
    from modelspace.verbs.pictures.figures import Clustered, Places
    from modelspace.verbs.try_task import OnStep


class ModelSpace:
    """A registry of models, in the folder `home`.

    Use `ModelSpace.open()` for an existing one and `ModelSpace.create()` for a new one. Objects hold no connection:
    several processes can read at once, and writers wait for each other.
    """

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home)
        self.path = self.home / REGISTRY

    def __repr__(self) -> str:
        return f"ModelSpace({str(self.home)!r})"

    # ---- as a collection: of the names of its models, like a dictionary of name -> `ModelInfo`

    def __len__(self) -> int:
        """Number of models."""
        return len(contents.names(self.path))

    def __bool__(self) -> bool:
        """True, also of an empty registry."""
        return True

    def __iter__(self) -> Iterator[str]:
        """Names of the models, in the order in which they were added; `list` has the models."""
        return iter(contents.names(self.path))

    def __contains__(self, name: object) -> bool:
        """Whether a model has this name."""
        return name in contents.names(self.path)

    def __getitem__(self, name: str) -> ModelInfo:
        """Everything known about a model, as `show`."""
        return self.show(name)

    def _repr_html_(self) -> str:
        try:
            return contents.summary(self.path)
        except ModelspaceError as error:
            return f"<pre>{escaped(error)}</pre>"

    # ---- opening and creating

    @classmethod
    def open(cls, home: str | Path | None = None) -> ModelSpace:
        """Open the registry of a folder.

        Args:
            home: the folder; default: MODELSPACE_HOME, else the current folder or its nearest parent with a registry.

        Raises:
            NotFoundError: there is no registry.
        """
        return cls(require_home(home))

    @classmethod
    def create(cls, home: str | Path | None = None, **options: Any) -> ModelSpace:
        """Create a registry with its first spaces, or extend an existing one; takes the options of `init`."""
        space = cls(home_for_new(home))
        space.init(**options)
        return space

    def init(
        self,
        *,
        probes: str | Path | ProbeSet = DEFAULT_PROBES,
        methods: Sequence[str] | None = None,
        images: int | None = None,
        canvas: int | None = None,
        bits: int | None = None,
        seed: int = 0,
        per_subfolder: int | None = None,
        name: str | None = None,
        default: bool = False,
        scalar: str = "sum",
        form: Mapping[str, Any] | None = None,
        on_cost: OnCost | None = None,
    ) -> Records[SpaceInfo]:
        """Create the registry if it does not exist, and the spaces that it lacks.

        Args:
            probes: "rooms", "yards", "streets", "repainted", "photographs", the name of a registered probe set, a
                folder of images, or a `ProbeSet` of a rendered world.
            methods: attribution methods (`modelspace.attribution.METHODS`) or kernels
                (`modelspace.representations.kernels.KERNELS`); one space each. Default, without a name: the standard
                spaces (`modelspace.spaces.create.create_standard`).
            images: probe images per model; default: 200, or all of a smaller folder.
            canvas: side of the maps in pixels; default: 16, or that of "paper+".
            bits: bits per stored element; default: 4 for maps, 8 for kernels.
            seed: seed of the rendered images or crops, or of the choice of images.
            per_subfolder: number of images to take from each subfolder.
            name: name of the space, with a single method; default: the method, made unique by the probes' name. Without
                methods, "paper+" creates the best form of attribution maps that was measured
                (`modelspace.registry.aliases.PLUS`).
            default: make the first of these the default space of queries (the first space of a registry always is).
            scalar: the explained scalar: "sum" as in the paper, "energy" or "centred_energy"
                (`modelspace.types.SCALARS`).
            form: of the maps: channels, smoothing and centring (`modelspace.representations.planes.Form`).
            on_cost: called with a sentence if `images` takes more than an hour of rendering and passes, or 256 MiB
                per model; an exception that it raises stops the creation.

        Returns:
            The requested spaces, new and existing.

        Raises:
            UsageError: an unknown method, a number out of range, too few images, or more than the memory can hold.
            ConflictError: the name belongs to a space with another definition.
        """
        from modelspace.spaces.create import create
        from modelspace.spaces.probe_sets import ProbeChoice

        choice = ProbeChoice(probes, images, per_subfolder, None, seed)
        space_names = create(self.path, choice, methods, canvas, bits, name, default, scalar, form, on_cost)
        return Records([info for info in self.spaces() if info.name in space_names], SpaceInfo)

    def blend(
        self,
        name: str,
        members: Mapping[str, float],
        *,
        hubs: str = "none",
        rerank: str = "none",
        default: bool = False,
    ) -> SpaceInfo:
        """Create a space whose affinities are a weighted mean of other spaces' on the same probe images.

        Nothing is embedded; models in all members are in the blend at once.

        Args:
            name: name of the new space.
            members: mapping of space to weight; the weights are scaled to sum to 1. A single member gives that space
                another ranking.
            hubs: hub correction of its rankings: "none", "centred", "csls" or "mutual" (`modelspace.spaces.hubness`).
            rerank: "none", "directed" (`modelspace.spaces.predictability`), or a similarity of kernels
                (`modelspace.spaces.similarities`), which need a space of dds or linear_cka on the same images; "local"
                (`modelspace.spaces.local`), which needs one of local on these or the first of them; or "combined", the
                mean of directed and local.
            default: make it the default space of queries.

        Raises:
            UsageError: no members, weights that are not positive, or members on different probe images.
            NotFoundError: there is no such member, or no space with kernels for the re-ranking.
        """
        from modelspace.spaces.create import create_blend

        space_name = create_blend(self.path, name, members, Ranking(hubs, rerank), default)
        self._refresh_index()
        return next(info for info in self.spaces() if info.name == space_name)

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
        """Register a probe set: a rendered world, photographs, or a folder.

        Images of photographs and folders are copied into the registry.

        Raises:
            ProbeError: an image can't be read; the message names it.
            ConflictError: the name belongs to another set.
        """
        from modelspace.spaces.probe_sets import ProbeChoice, create_probes

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
        max_seconds: float | None = None,
        dtype: str = "float32",
        progress: Progress | None = None,
        on_note: OnNote | None = None,
    ) -> Added:
        """Register a model: one embedding pass that fills every space of the registry.

        Args:
            model: a URI ("zoo:depth", "python:my.module:factory", ...) or a live `torch.nn.Module`.
            name: default: derived from the URI; required for a live module.
            weights: a safetensors file or a state dict to load into it; or the index of such files, or its folder.
            weights_key: which of the state dicts in that file is meant, for example "state_dict_ema".
            layer: the tensor to explain: a module's name or a glob, "NAME:in" for its input, "output"; default: found
                automatically.
            preprocessing: `modelspace.types.Preprocessing`, a dictionary of its entries, or flags that override some.
            task: what the model was trained to do.
            data: what it was trained on.
            tags: any other metadata.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            batch_size: images per pass.
            replace: recompute, and replace a model of the same name even if it differs.
            trust_code: SHA-256 of the one file whose code may run, for a "file:" address.
            float32: run the model in float32, including its half-precision parts.
            stochastic: number of passes to average, for a model with a random forward pass.
            max_seconds: stop after the first batch, with an error, if the pass is expected to take longer; and stop
                Python code that does not end, half a minute after that. All of a space's models are compared image by
                image, so a model can't be stored with fewer images than the others.
            dtype: "bf16": run the model in bfloat16, faster on GPUs, if its maps on the first images keep a cosine of
                0.999 with float32's; else it runs in float32, and a note says so.
            progress: called with (images done, total images).
            on_note: called with a remark that can't wait for the result: after the first batch, the expected time of a
                pass that takes more than half a minute.

        Returns:
            What was done; adding the same model again changes nothing.

        Raises:
            ConflictError: the name belongs to another model and `replace` is False.
            BusyError: other processes held the registry after the pass, which is saved: see `resume`.
            StorageError: the disk is full; likewise.
            ModelspaceError: the model can't be loaded or embedded. The registry is unchanged.
        """
        with phase("imports"):
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
            max_seconds,
            dtype,
        )
        added = add(self.path, request, batch_size=batch_size, replacing=replace, progress=progress, on_note=on_note)
        if added.status != "unchanged":
            # The model is stored; if interrupted from here on, the next query rebuilds the index.
            with suppress(KeyboardInterrupt, BusyError):
                self._refresh_index()
        return added

    def resume(self) -> Records[Outcome]:
        """Store the finished passes that could not be stored, because the registry was in use or the disk was full.

        `add` and `add_all` do this first as well, and say so in a note.

        Returns:
            One outcome per pass: "added", "replaced", "completed", "unchanged", or "failed" with message and hint; the
            file of a failed one stays. Empty if none waits.
        """
        from modelspace.verbs import pending

        outcomes = pending.store_waiting(self.path)
        if any(outcome.status in ("added", "replaced", "completed") for outcome in outcomes):
            with suppress(KeyboardInterrupt, BusyError):
                self._refresh_index()
        return Records(outcomes, Outcome)

    def waiting(self) -> tuple[str, ...]:
        """Names of the models whose finished passes wait to be stored (`resume`), oldest first."""
        from modelspace.verbs import pending

        return tuple(map(pending.name_of, pending.waiting(self.path)))

    @renamed_argument("told", "on_outcome")
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
        on_outcome: Callable[[Outcome], None] | None = None,
    ) -> Records[Outcome]:
        """Register many models, in order. A model that fails is reported, and the others continue.

        Models that are already registered are not loaded again, so the same call resumes an interrupted one.

        Args:
            models: a manifest (a TOML or CSV file), the name of a shipped catalog ("zoo", "paper"), or the entries of a
                manifest as dictionaries, where "model" may be a live module.
            workers: number of processes to embed in; default: only this process.
            ray: address of a Ray cluster to embed on; "local" starts one here.
            device: as in `add`, for entries without their own.
            batch_size: as in `add`, for entries without their own.
            replace: as in `add`, for all; every model is loaded and compared.
            dry_run: only report what would be done.
            progress: called with (models done, total models, current model, its images done, its total images).
            on_outcome: called with each outcome as soon as it is known.

        Returns:
            One outcome per model, in the order of `models`.

        Raises:
            UsageError: errors in the manifest, all reported at once.
            modelspace.verbs.add_many.Interrupted: Ctrl-C. Finished models are stored.
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
            on_outcome=on_outcome,
        )
        if any(outcome.status in ("added", "replaced", "completed") for outcome in outcomes):
            # As in `add`: if interrupted from here on, the next query rebuilds the index.
            with suppress(KeyboardInterrupt):
                self._refresh_index()
        return Records(outcomes, Outcome)

    def fill(
        self,
        space: str | None = None,
        *,
        models: Sequence[str] = (),
        weights: Mapping[str, str | Path] | None = None,
        modules: Mapping[str, Any] | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        dry_run: bool = False,
        progress: BulkProgress | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
    ) -> Records[Outcome]:
        """Embed the models that a space lacks, for example one that was made after them.

        Each is loaded again from its address, with the weights file, layer, preprocessing and options that are stored,
        and refused if its weights or code are not those that were registered. Finished models stay if it is
        interrupted.

        Args:
            space: name of the space; default: all spaces.
            models: only these; default: all.
            weights: model name to its weights file, where that was moved.
            modules: model name to the module itself, for models that were added as modules in memory.
            device: as in `add`.
            batch_size: as in `add`.
            dry_run: only report what would be done.
            progress: as in `add_all`.
            on_outcome: called with each outcome as soon as it is known.

        Returns:
            One outcome per model that lacked a space: "completed", or "failed" with message and hint.

        Raises:
            NotFoundError: there is no such space or model.
            modelspace.verbs.add_many.Interrupted: Ctrl-C. Finished models are stored.
        """
        from modelspace.verbs.fill import Sources, fill

        files = {name: str(file) for name, file in (weights or {}).items()}
        sources = Sources(files, modules or {}, device, batch_size)
        outcomes = fill(self.path, space, models, sources, dry_run=dry_run, progress=progress, on_outcome=on_outcome)
        if any(outcome.status == "completed" for outcome in outcomes):
            with suppress(KeyboardInterrupt, BusyError):
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
        """Import the models of another registry with their stored maps; vectors and affinities are recomputed.

        Models whose weights, layer and preprocessing are already registered here stay unchanged.

        Args:
            other: folder or file of the other registry; it is only read.
            spaces: "shared": those in both registries (equal ids); "all": also those only in the other; or names.
            where: SQL condition on the other registry's table `models`.
            on_conflict: what to do if a name belongs to a different model here: "fail" (before anything is written),
                "skip" or "rename".
            suffix: appended to the name of a renamed model.
            dry_run: only report what would be done.
            progress: called with (models done, total models).

        Returns:
            One record per model of the other registry in these spaces, and one per task. Models with damaged maps are
            "refused".

        Raises:
            NotFoundError: no such registry, no such space, or no shared space.
            ConflictError: names are taken, and `on_conflict` is "fail".
        """
        from modelspace.verbs.merge import merge

        records = merge(
            self.path,
            other,
            spaces=spaces,
            where=where,
            on_conflict=on_conflict,
            suffix=suffix,
            dry_run=dry_run,
            progress=progress,
        )
        if any(record.status in ("added", "completed") for record in records):
            with suppress(KeyboardInterrupt):
                self._refresh_index()
        return Records(records, Merged)

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
        index: str | None = None,
    ) -> Records[Exported]:
        """Write files for other programs: all of them, or none if one fails.

        Args:
            target: a file, whose suffix gives the format, or a folder for several files.
            what: "models", "affinity", "vectors", "neighbours", "tree", "maps", "tasks", "outcomes"; default: by the
                file's format; for a folder, all but the maps.
            format: "parquet", "csv", "json", "npy" or "newick"; default: by the suffix.
            space: default: the registry's default space.
            where: SQL condition on the table `models`.
            force: overwrite existing files.
            wide: affinities with a column per model, instead of a row per pair.
            k: neighbours per model.
            dtype: dtype of vectors and affinities in .npy files, "float64" or "float32".
            method: linkage of the tree, as in `tree`.
            index: where neighbours are searched, as in `nearest`.

        Raises:
            UsageError: an unsupported combination of content and format.
            ConflictError: a file exists, and `force` is False.
        """
        from modelspace.verbs.export import Options, export

        contents = (what,) if isinstance(what, str) else tuple(what)
        options = Options(space, where, wide, k, dtype, method)
        with using(index):
            return Records(export(self.path, Path(target), contents, format, force=force, options=options), Exported)

    def layers(self, model: Any, **options: Any) -> tuple[list[LayerRow], str, str]:
        """The executed layers of a model, the layer that would be explained, and how it was chosen.

        Takes the loading options of `add`. Needs no registry. Where no layer can be explained, its name is "" and the
        reason for the refusal comes instead of how it was chosen; `survey` has more.
        """
        result = self.survey(model, **options)
        if result.tap is None:
            return result.rows, "", str(result.refusal)
        return result.rows, result.tap.layer, result.tap.found_by

    def survey(self, model: Any, **options: Any) -> Survey:
        """What a model's forward pass runs through, which layer would be explained, and which others could be.

        Takes the loading options of `add`. Needs no registry. A model that `add` refuses has a survey, too: of what
        ran.

        Raises:
            ModelspaceError: the model can't be loaded, or its preprocessing is not stated.
        """
        from modelspace import probes as probe_sets
        from modelspace.embedding.prepare import Request, survey

        images = next(probe_sets.batches(probe_sets.rooms(2), None, 0, 2, 2))
        return survey(Request(model, **options), images)

    def scan(
        self,
        place: str | Path,
        *,
        out: str | Path | None = None,
        force: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Records[Scanned]:
        """Say what the files of weights in a folder are, by the names and shapes of their tensors.

        They are compared with the architectures of timm, torchvision and transformers, which need not be installed.
        Needs no registry; nothing is registered, and no code of a file is run.

        Args:
            place: a folder, which is searched with those below it, or a file.
            out: a manifest to write for `add_all`, with what was found out and comments for what was not.
            force: overwrite an existing manifest.
            dry_run: write nothing, but load what can be loaded from here, to see that the weights fit.
            progress: called with (files done, total files).

        Raises:
            NotFoundError: there is no such folder, or no model in it.
            ConflictError: the manifest exists.
        """
        from modelspace.verbs.scan import scan

        target = None if out is None else Path(out)
        return Records(scan(Path(place), target, force=force, dry_run=dry_run, progress=progress), Scanned)

    # ---- queries

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
        on_note: OnNote | None = None,
        index: str | None = None,
        **options: Any,
    ) -> Neighbours:
        """The k best transfer sources of a model, nearest first.

        Args:
            model: a registered name; or a URI or a live module, which is embedded but not stored.
            k: number of neighbours.
            where: SQL condition on the table `models`, for example "task = 'depth' AND parameters < 1e7".
            space: default: the registry's default space; "paper": that of the published method; "paper+": that of the
                best form of attribution maps that was measured.
            hubs: correction for hubs, models that are near to most others: "none", "centred", "csls" or "mutual"
                (`modelspace.spaces.hubness`); default: the space's own.
            rerank: "directed", "local" or "combined": rank the candidates by how well their features predict the
                target's (`modelspace.spaces.predictability`, `modelspace.spaces.local`); a similarity of kernels, such
                as "jaccard" (`modelspace.spaces.similarities`); "none"; default: the space's own.
            progress: called with (images done, total images) while an unregistered model is embedded.
            batch_size: images per pass of an unregistered model.
            on_note: as in `add`.
            index: where to search: "local", or a Milvus store, as in `push_index`; default: MODELSPACE_INDEX, else
                "local".
            options: how to load an unregistered model, as in `add`.

        Raises:
            NotFoundError: no such model or space.
            UsageError: the condition is not SQL, or k is below 1.
        """
        from modelspace.verbs.nearest import nearest

        with using(index):
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
                on_note=on_note,
            )

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """In the block, `nearest` keeps the registry open between queries, which saves most of a query's time.

        A process that wants to write is let in between two queries (`modelspace.registry.kept`). A program that opens
        the file with DuckDB itself finds it in use.
        """
        from modelspace.registry.kept import kept_open

        with kept_open(self.path):
            yield

    def compare(self, a: str, b: str, *, space: str | None = None) -> Records[Compared]:
        """Two registered models in each space that holds both: affinity, scores in both directions, common cluster.

        Args:
            a: name of a model.
            b: name of another.
            space: default: all spaces.

        Raises:
            NotFoundError: no such model or space, or no space holds both.
            UsageError: both are the same model.
        """
        from modelspace.verbs.compare import compare

        return Records(compare(self.path, a, b, space=space), Compared)

    def evaluate(self, **options: Any) -> EvaluationReport:
        """How well the affinities agree with measured transfer; options as in `modelspace.verbs.evaluate.evaluate`."""
        from modelspace.verbs.evaluate import evaluate

        return evaluate(self.path, **options)

    def evaluate_search(
        self,
        tasks: str | Sequence[str] | None = None,
        oracles: str | Oracle | Sequence[str | Oracle] | None = None,
        *,
        where: str | None = None,
        space: str | None = None,
        images: int = 400,
        repeats: int = 3,
        device: str = "auto",
        batch_size: int | None = None,
        models: Mapping[str, Any] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> SearchReport:
        """How good the search is: replayed on measured outcomes, and on the images of registered tasks.

        On an oracle, models are tried in the order of `suggest`, of their mean rank, or at random, with the other
        targets' outcomes as what is known. On tasks, all models are measured in full, and every policy is replayed:
        the race of `try`, the order of each label score, and orders that need no image, with what they cost.

        Args:
            tasks: names of tasks that have data, or "all" of those.
            oracles: names of oracles or CSV files, or oracles; "published" for all published tables, "all" for these
                and the measured ones. Default: all, if no task is given.
            where: SQL condition on the models.
            space: whose kernels give effective ranks; default: the default space.
            images: largest number of training images, and of test images.
            repeats: number of orders in which training images are spent; their results are averaged.
            device: of the models.
            batch_size: images per forward pass.
            models: as for `try_task`.
            progress: called with (models measured, models to measure) over all tasks.

        Raises:
            NotFoundError: there is no such task or oracle.
            UsageError: a task has no data, or fewer than three models can be measured on it.
            ConflictError: the data of a task changed since it was registered.
        """
        from modelspace.verbs.evaluate_search import evaluate_search

        return evaluate_search(
            self.path,
            tasks,
            oracles,
            where=where,
            space=space,
            images=images,
            repeats=repeats,
            device=device,
            batch_size=batch_size,
            models=models,
            progress=progress,
        )

    def affinity(self, space: str | None = None, *, where: str | None = None) -> AffinityMatrix:
        """Affinities of all pairs of a space's models.

        Args:
            space: default: the registry's default space.
            where: SQL condition on the table `models`.
        """
        with Registry.open(self.path) as registry:
            row = registry.space(space)
            name_of = {model.model_id: model.card.name for model in registry.models(where)}
            ids, matrix = affinities.matrix(registry, row.spec, set(name_of))
        return AffinityMatrix(tuple(name_of[i] for i in ids), matrix, row.spec)

    def cosines(self, models: Sequence[str], space: str | None = None) -> np.ndarray:
        """Cosines of all pairs of the named models for each probe image: (N, n, n) float32."""
        with Registry.open(self.path) as registry:
            spec = registry.space(space).spec
            rows = [registry.model(name) for name in models]
            for row in rows:
                if spec.name not in row.spaces:
                    raise NotFoundError(f"model {row.card.name!r} is not in space {spec.name!r}")
            return affinities.contributions_of_all(registry, spec, [row.model_id for row in rows])

    def maps(self, model: str, space: str | None = None, images: Sequence[int] | None = None) -> np.ndarray:
        """Stored attribution maps of a model, decoded to unit norm: (n, canvas, canvas) float32."""
        from modelspace.spaces.kinds import map_space

        with Registry.open(self.path) as registry:
            kind = map_space(registry.space(space).spec)
            spec = kind.spec
            row = registry.model(model)
            blocks = list(registry.map_blocks(spec.space_id, row.model_id))
        if spec.name not in row.spaces:
            raise NotFoundError(f"model {model!r} is not in space {spec.name!r}")
        maps = kind.maps_of(blocks, f"model {model!r}")
        return maps if images is None else maps[list(images)]

    def probe_images(self, name: str | None = None, images: Sequence[int] = (0,)) -> np.ndarray:
        """Images of a probe set (default: the default space's), (n, side, side, 3) uint8."""
        from modelspace.spaces.probe_sets import images as pictures

        with Registry.open(self.path) as registry:
            row = registry.probe_set(name or registry.space().spec.probe_id)
        return np.concatenate([next(pictures(self.path, row, k, 1, 1)) for k in images])

    def probe_names(self, name: str | None = None) -> list[str]:
        """Names of the images of a probe set, in the order of the set: that of maps, kernels and `probe_images`.

        Args:
            name: of the probe set; default: the default space's.

        Returns:
            Of a folder, the paths inside it: not sorted, but in the order of a hash of the seed and the path
            (`modelspace.probes.listing.choose`). Of photographs, "FILE left,upper side" of each crop. Of a rendered
            world, its name and number, for as many images as a space of this registry uses.
        """
        return contents.probe_names(self.path, name)

    def kernels(self, models: str | Sequence[str], space: str | None = None) -> np.ndarray:
        """Stored kernels: which probe images a model finds similar (`modelspace.representations.kernels`).

        Args:
            models: a name, or several.
            space: one that holds kernels; default: the one that the default space ranks by or is made of.

        Returns:
            Of one name (N, N) float64, symmetric, of Frobenius norm 1, with rows and columns in the order of
            `probe_names`; of several (n, N, N). The inner product of two is the affinity of the models in that space.

        Raises:
            NotFoundError: no such model or space, or the model is not in it.
            UsageError: the space holds no kernels.
        """
        return contents.kernels(self.path, models, space)

    def sql(self, query: str, *, timeout_s: float = 30.0, max_rows: int | None = None) -> Table:
        """Run SQL on a read-only connection with access to the registry only.

        Warns:
            OrderWarning: the query calls `nearest`, which orders by affinity, and the space has another order.

        Raises:
            UsageError: DuckDB rejects the query; the message is DuckDB's.
            DamagedError: `nearest`, `catalog` or another of our macros and views is defined in another way in the file.
        """
        from modelspace.verbs import sql

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
        sample: int | None = None,
        title: str = "",
    ) -> Picture:
        """The models as points, similar models near each other (UMAP), groups as colours and shapes.

        Stored coordinates are used unchanged; new models are placed among them, and a space without a projection gets
        one. New coordinates are stored, unless `store` is False or the registry is not writable.

        Args:
            space: default: the registry's default space.
            where: SQL condition on the table `models`: which models are drawn. The projection is fitted to all models.
            group_by: column or tag; numbers have a scale; default: the tag "group" if a model has it, else the task.
            refit: fit a new projection, in which every model may move.
            store: store new coordinates in the registry.
            seed: seed of a new projection.
            sample: number of models that a new projection is fitted to if there are more, drawn at random; the others
                are placed next to their nearest ones. Default: 20,000.
            title: printed above the picture.

        Returns:
            A matplotlib figure; `facts["recall"]` is its neighbour recall, `facts["layout"]` its coordinates.

        Raises:
            NotFoundError: no such space, or fewer than two models.
            UsageError: the condition is not valid SQL, or no such column.
        """
        from modelspace.verbs.pictures.figures import places

        return places(self.path, space, where, group_by, refit=refit, store=store, seed=seed, sample=sample).draw(title)

    def clusters(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        method: str = "average",
        support: int | None = None,
        seed: int = 0,
        sample: int | None = None,
        what: str = "a tree",
    ) -> Clustered:
        """What `tree` and `heatmap` draw, without drawing; options as in `tree`, and `what` it is called in errors."""
        from modelspace.verbs.pictures.figures import cluster

        options: dict[str, Any] = {"method": method, "support": support, "seed": seed, "sample": sample, "what": what}
        return cluster(self.path, space, where, group_by, **options)

    def tree(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        method: str = "average",
        support: int | None = None,
        seed: int = 0,
        sample: int | None = None,
        title: str = "",
    ) -> Picture:
        """The clustering tree of the models, with bootstrap support.

        Args:
            space: as in `map`.
            where: as in `map`.
            group_by: as in `map`.
            method: "average", "single", "complete" or "ward".
            support: number of bootstrap resamples of the probe images; 0: no support values; default: 200 for up to 500
                models, else 0.
            seed: seed of the bootstrap.
            sample: largest number of models, up to 2,000. Of more, this number is shown, chosen so that they cover the
                others (each time the model that is furthest from those chosen so far). Default: 1,000.
            title: as in `map`.

        Returns:
            A matplotlib figure; `facts["tree"]` is the tree, `facts["notes"]` says if it is of a sample.

        Raises:
            NotFoundError: no such space, or fewer than two models.
            UsageError: an unknown method, support of too many models, or as in `map`.
        """
        from modelspace.verbs.pictures.figures import cluster

        options: dict[str, Any] = {"method": method, "support": support, "seed": seed, "sample": sample}
        return cluster(self.path, space, where, group_by, **options).draw(title)

    def heatmap(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        method: str = "average",
        sample: int | None = None,
        title: str = "",
    ) -> Picture:
        """All affinities, ordered by the leaves of the tree of linkage `method`; options and errors as in `tree`."""
        from modelspace.verbs.pictures.figures import cluster

        options: dict[str, Any] = {"method": method, "support": 0, "sample": sample, "what": "a heatmap"}
        return cluster(self.path, space, where, group_by, **options).heatmap(title)

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
        """Attribution maps side by side: stored maps of models, or newly computed maps of one model's layers.

        Args:
            models: names, in the order of the columns; none: up to 16 of the space. With `layers`, one name, URI or
                live module.
            images: numbers of the probe images, from 0; default: the first four.
            layers: layers of one model, as in `add`; "auto": six of them from shallow to deep. Runs the model.
            space: as in `map`.
            where: as in `map`.
            group_by: as in `map`.
            colours: "relief" or "redblue".
            title: as in `map`.
            options: with `layers`: weights, weights_key, preprocessing and device, as in `add`.

        Raises:
            NotFoundError: no such model, image, layer or space.
            UsageError: `layers` with several models, or loading options without `layers`.
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
        beside: str | None = None,
        store: bool = True,
        title: str = "",
    ) -> Atlas:
        """An interactive HTML page: the projection, the tree, model cards, and the k nearest neighbours of every model.

        Args and errors as in `map`, whose coordinates it shows. Neighbours are ranked as by `nearest`, among the models
        that are drawn. `beside` names another space: its map is shown too, and what is selected on one is on both.
        """
        from modelspace.verbs.pictures.figures import places
        from modelspace.verbs.pictures.pages import atlas_page

        def in_space(name: str | None) -> Places:
            return places(self.path, name, where, group_by, store=store, what="an atlas")

        return atlas_page(self.path, in_space(space), k, title, None if beside is None else in_space(beside))

    def report(
        self,
        *,
        space: str | None = None,
        where: str | None = None,
        group_by: str | None = None,
        threshold: float = 0.98,
        sample: int | None = None,
        store: bool = True,
        title: str = "",
    ) -> Report:
        """A printable summary: counts, projection, tree, heatmap, duplicates, outliers, hubs.

        Two models with an affinity of at least `threshold` are duplicates. Args and errors as in `map`, whose
        coordinates it shows. `sample` is that of `tree`; duplicates, outliers and hubs are then looked for among the 5
        nearest of 1,000 models drawn at random.
        """
        from modelspace.verbs.pictures.figures import places
        from modelspace.verbs.pictures.pages import report_page

        layout = places(self.path, space, where, group_by, store=store, what="a report")
        return report_page(self.path, layout, threshold, title, sample)

    def serve(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8265,
        token_file: str | Path | None = None,
        workers: int = 1,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        """Answer queries over HTTP until the process is interrupted or terminated; needs the extra "serve".

        Args:
            host: name or address to listen at; anything else than this machine should have a token.
            port: 0 for any free one.
            token_file: file with a token that every request must carry; only its owner may be able to read it.
            workers: number of processes.
            on_ready: called with the address before the first request is answered.

        Raises:
            UsageError: the address is taken or not of this machine, or the token file is not private.
            ModelspaceError: the extra is not installed.
        """
        from modelspace.server.processes import run
        from modelspace.server.settings import Settings

        run(self, Settings(host, port, None if token_file is None else Path(token_file), workers), on_ready)

    # ---- listing

    def list(self, where: str | None = None) -> Records[ModelInfo]:
        """The registered models, in the order they were added; `where` is an SQL condition on the table `models`."""
        with Registry.open(self.path) as registry:
            counts = outcomes.counts(registry)
            rows = registry.models(where)
            return Records([contents.model_info(row, counts.get(row.model_id, 0)) for row in rows], ModelInfo)

    def show(self, name: str) -> ModelInfo:
        """Everything known about a model."""
        with Registry.open(self.path) as registry:
            row = registry.model(name)
            return contents.model_info(row, outcomes.counts(registry).get(row.model_id, 0))

    def spaces(self) -> Records[SpaceInfo]:
        """The spaces, with the state of their index files."""
        from modelspace.spaces import index

        with Registry.open(self.path) as registry:
            probe_sets = ProbeSets(registry.probe_sets())
            infos = []
            for row in registry.spaces():
                spec = row.spec
                place = self.home / INDEX, spec.space_id, registry.registry_id, row.generation
                state = index.status(*place, deep=False)
                infos.append(
                    SpaceInfo(
                        name=spec.name,
                        is_default=row.is_default,
                        method=spec.method,
                        probes=probe_sets[spec.probe_id].name,
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
        """Remove a model: its row, maps and vectors, in one transaction."""
        self.remove_all((name,))

    def remove_all(self, names: Sequence[str] = (), *, where: str | None = None) -> tuple[str, ...]:
        """Remove several models, all in one transaction or none, and return their names.

        Args:
            names: of the models.
            where: instead of names, an SQL condition on the table `models`.

        Raises:
            NotFoundError: there is no model of one of the names, or none meets the condition.
            UsageError: neither names nor a condition, or both.
        """
        from modelspace.verbs import change

        removed = change.remove_models(self.path, names, where)
        self._refresh_index(removed)
        return tuple(removed.values())

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
            remaining = {key: value for key, value in merged.items() if value is not None}
            registry.update_model(
                row.model_id,
                task=task if task is not None else row.card.task,
                data=data if data is not None else row.card.data,
                tags=remaining,
            )
        return self.show(name)

    def tag_all(
        self,
        tags: Mapping[str, str | None] | None = None,
        names: Sequence[str] = (),
        *,
        where: str | None = None,
        task: str | None = None,
        data: str | None = None,
    ) -> tuple[str, ...]:
        """Set tags, task or data of several models, all in one transaction or none, and return their names.

        Args:
            tags: a tag set to None is removed.
            names: of the models.
            where: instead of names, an SQL condition on the table `models`.
            task: of all of them.
            data: of all of them.

        Raises:
            NotFoundError: there is no model of one of the names, or none meets the condition.
            UsageError: neither names nor a condition, or both.
        """
        from modelspace.verbs import change

        return change.tag_models(self.path, tags or {}, names, where, task, data)

    def remove_space(self, name: str | Sequence[str]) -> tuple[str, ...]:
        """Remove spaces with the vectors, maps and projections that they hold; in one transaction, all or none.

        Models and probe sets stay. A space of the same definition that is created later is empty: its models have to be
        run again.

        Args:
            name: of the space, or of several; a blend can be removed together with the spaces that it is computed from.

        Returns:
            The names of the removed spaces.

        Raises:
            NotFoundError: there is no such space.
            ConflictError: another space is computed from it, it is the default space, or it is the only space that
                holds a model. The hint says what to do first.
        """
        from modelspace.verbs import change

        return change.remove_spaces(self.path, name)

    def rename_space(self, old: str, new: str) -> None:
        """Give a space another name; blends that use it, its index and its projection stay as they are.

        Raises:
            NotFoundError: there is no such space.
            ConflictError: another space has the new name.
            UsageError: it can't be the name of a space.
        """
        from modelspace.verbs import change

        change.rename_space(self.path, old, new)

    def set_default(self, space: str) -> None:
        """Make a space the default of queries."""
        with Registry.open(self.path, write=True) as registry, registry.transaction():
            registry.set_default_space(space)

    # ---- tasks and what was measured on them

    def add_task(
        self,
        name: str,
        data: str | Path | None = None,
        *,
        metric: str | None = None,
        higher_is_better: bool | None = None,
        kind: Kind | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> tuple[TaskInfo, Sequence[str]]:
        """Register a task: a labelled data set, or only a name under which outcomes are collected.

        Images are read and hashed, not copied.

        Args:
            name: its name.
            data: a folder with one subfolder per class, or a CSV or Parquet file with the columns "path" and "label";
                None for a task without data.
            metric: what scores mean (`modelspace.tasks.metrics.METRICS`, or any other name); default: accuracy, or R²
                for regression.
            higher_is_better: direction of a metric that is not in that table.
            kind: "classification" or "regression"; default: by the labels (`modelspace.tasks.data.read`).
            seed: of the splits into training and test images.
            progress: called with (images read, total images).

        Returns:
            The task, and notes on its data.

        Raises:
            ConflictError: a task of that name exists.
            NotFoundError: the data or an image is missing.
            UsageError: the labels can't be learned, or the metric does not fit them.
            ModelspaceError: more than 1% of the images can't be read.
        """
        from modelspace.verbs import tasks

        return tasks.add_task(
            self.path,
            name,
            data,
            metric=metric,
            higher_is_better=higher_is_better,
            kind=kind,
            seed=seed,
            progress=progress,
        )

    def tasks(self) -> Records[TaskInfo]:
        """All tasks, in the order in which they were added."""
        from modelspace.verbs import tasks

        return tasks.tasks(self.path)

    def task(self, name: str) -> TaskInfo:
        """A task.

        Raises:
            NotFoundError: there is no such task.
        """
        from modelspace.verbs import tasks

        return tasks.task(self.path, name)

    def remove_task(self, name: str) -> int:
        """Remove a task with its outcomes, and return their number; its images stay where they are.

        Features of its images that `try_task` cached are deleted.

        Raises:
            NotFoundError: there is no such task.
        """
        from modelspace.verbs import tasks

        return tasks.remove_task(self.path, name)

    def rename_task(self, old: str, new: str) -> None:
        """Rename a task.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: another task has the new name.
        """
        from modelspace.verbs import tasks

        tasks.rename_task(self.path, old, new)

    def observe(
        self,
        task: str,
        model: str,
        score: float | None = None,
        *,
        failed: str = "",
        note: str = "",
        **details: Any,
    ) -> OutcomeInfo:
        """Store what was measured of a model on a task.

        Args:
            task: name of the task.
            model: name of the model.
            score: in the task's metric; None if the model failed.
            failed: why the model failed.
            note: free text.
            details: how, n_train, seed, seconds, measured_at and settings, as in `modelspace.verbs.tasks.Observation`.

        Raises:
            NotFoundError: there is no such task or model.
            UsageError: the score is not finite, or there is neither a score nor a reason.
        """
        from modelspace.verbs import tasks

        return tasks.observe(self.path, [tasks.Observation(task, model, score, note=failed or note, **details)])[0]

    def observe_file(self, file: str | Path, task: str | None = None) -> Records[OutcomeInfo]:
        """Store the outcomes in a CSV file, all or none.

        Args:
            file: with the columns "model" and "score" (`modelspace.verbs.tasks.read_observations`).
            task: the task of lines without one.

        Raises:
            NotFoundError: there is no such file, task or model.
            UsageError: a column or a line is wrong.
        """
        from modelspace.verbs import tasks

        return Records(tasks.observe(self.path, tasks.read_observations(expanded(Path(file)), task)), OutcomeInfo)

    def outcomes(self, task: str | None = None, *, model: str | None = None) -> Records[OutcomeInfo]:
        """What was measured; of one task the best first, else in the order in which it was stored.

        Held-out scores of `try_task`, on a few training images, come after the others.

        Args:
            task: only of this task.
            model: only of this model.

        Raises:
            NotFoundError: there is no such task, or neither a model nor an outcome of that name.
        """
        from modelspace.verbs import tasks

        return tasks.measured(self.path, task, model)

    def prospects(self, task: str, k: int = 5, *, where: str | None = None, space: str | None = None) -> Prospects:
        """What to expect of the models on a task, the most promising first; no model is run.

        Measured scores stand as they are. Others are predicted with an 80% interval: from what was measured on this
        task, and from the models' outcomes on other tasks (`modelspace.search.prediction`). Without any outcome the
        order is that of the effective rank of the stored kernels, and there is no score.

        Args:
            task: name of the task.
            k: how many models to return, at most.
            where: SQL condition on the models, for example "parameters < 1e7".
            space: whose affinities tell near-copies; default: the default space.

        Raises:
            NotFoundError: there is no such task or space.
            UsageError: k is below 1, or no model meets the condition.
        """
        from modelspace.verbs import prospects

        return prospects.prospects(self.path, task, k, where=where, space=space)

    def suggest(self, task: str, n: int = 1, *, where: str | None = None, space: str | None = None) -> Prospects:
        """The models to try next on a task, and why; then `observe` what came out.

        As `prospects`, without the models that were measured on the task and without near-copies of others. In a
        registry of 500 models or more without any outcome the middles of clusters come first, then the neighbours of
        the best.

        Args:
            task: name of the task.
            n: how many to suggest, at most.
            where: as in `prospects`.
            space: as in `prospects`.

        Raises:
            NotFoundError: there is no such task or space.
            UsageError: n is below 1, or no model meets the condition.
        """
        from modelspace.verbs import prospects

        return prospects.suggest(self.path, task, n, where=where, space=space)

    def try_task(
        self,
        task: str,
        *,
        budget: int | None = None,
        progress: Progress | None = None,
        on_step: OnStep | None = None,
        on_images: Progress | None = None,
        on_line: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Trials:
        """Run models on a task's images and find the one to start from.

        All models see the first 60 training images, the better half 120, and the last three all of them
        (`modelspace.search.race`). A model's features are computed once and cached. Choices are made by held-out
        predictions of training images; the score of a finalist is that on the test images, which no choice sees. What
        is measured is stored as outcomes at once; an interrupted search goes on where it was.

        Args:
            task: name of the task; it needs data.
            budget: how many models to run; default: all, at most 100.
            progress: called with (images read, total images) while the data are read.
            on_step: called before each measurement with (round, number of rounds, model, models done, models of the
                round, images).
            on_images: called with (images done, images of this measurement) while a model runs.
            on_line: called with each line that a program given by `run=` prints.
            options: the other attributes of `modelspace.verbs.try_task.Search`.

        Raises:
            NotFoundError: there is no such task, or its data are gone.
            UsageError: the task has no data, its metric can't be computed, or an option is out of range.
            ConflictError: the data changed since the task was registered.
            ModelspaceError: more than 1% of the images can't be read.
        """
        from modelspace.verbs.try_task import Search, try_task

        try:
            search = Search(budget=budget, **options)
        except TypeError as error:
            raise UsageError(
                f"try_task got an unknown option: {error}",
                "its options are the attributes of modelspace.verbs.try_task.Search",
            ) from None
        return try_task(
            self.path, task, search, progress=progress, on_step=on_step, on_images=on_images, on_line=on_line
        )

    def label_scores(
        self,
        task: str,
        models: Sequence[str] = (),
        *,
        names: Sequence[str] = (),
        images: int = 120,
        where: str | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> Records[LabelScore]:
        """Scores from labels (`modelspace.scores`) of models on the first training images of a task.

        They say how well a model's features tell the labels apart, without training. `try_task` ranks by one of them,
        the error of a ridge readout. LEEP and NCE need a model with a classifier of its own. Nothing is stored, except
        features in the cache.

        Args:
            task: name of the task; it needs data.
            models: names; default: all models.
            names: of scores; default: all that are defined for such labels.
            images: number of training images, balanced over the classes.
            where: SQL condition on the models, if none are named.
            device: as in `add`.
            batch_size: images per forward pass.
            progress: called with (models done, total models).

        Returns:
            A record for each model and score.

        Raises:
            NotFoundError: there is no such task, model or score, or the data are gone.
            UsageError: the task has no data, or a score is not for such labels.
            ConflictError: the data changed since the task was registered.
        """
        from modelspace.verbs.label_scores import label_scores

        return label_scores(
            self.path,
            task,
            models,
            names=names,
            images=images,
            where=where,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )

    def import_published(
        self, tables: str | Sequence[str] = "published", *, all_models: bool = False, dry_run: bool = False
    ) -> tuple[Records[PublishedInfo], tuple[str, ...]]:
        """Store published accuracies of the registry's models as outcomes; what is stored already is skipped.

        A data set of a table becomes a task without data, such as "published.sfda-cnn.aircraft". A model has the
        outcomes of a table if it is the same checkpoint: its address, or a name that has all of it, says so. Pairs of
        a model with the data set that it was trained on are left out.

        Args:
            tables: names of tables (`modelspace.evaluation.published.tables`), or "published" for all of them.
            all_models: also store the outcomes of models that are not in the registry, by the table's names, so that
                it is known how hard a data set is. A model that is added later is given them by the next call.
            dry_run: only report what would be stored.

        Returns:
            One record per table, and notes: which models are ambiguous, or what was looked for in vain.

        Raises:
            NotFoundError: there is no such table.
            ConflictError: a task of such a name exists and is another one.
        """
        from modelspace.verbs.published import import_published

        return import_published(self.path, tables, all_models=all_models, dry_run=dry_run)

    def rebuild(
        self,
        *,
        coordinates: bool = False,
        compact: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Records[SpaceInfo]:
        """Rebuild the index files from the registry.

        Args:
            coordinates: first recompute affinities and vectors from the stored maps.
            compact: first rewrite the registry without the unused space that removed and changed rows left in its file.
            progress: called with (models done, total models) for each space.

        Raises:
            StorageError: an index file can't be written. Everything before that is done, and queries work without it.
        """
        from modelspace.spaces import index

        if coordinates:
            with phase("vectors"), Registry.open(self.path, write=True) as registry:
                for row in registry.spaces():
                    with registry.transaction():
                        affinities.rebuild(registry, row.spec, progress)
        if compact:
            from modelspace.registry import compaction

            compaction.compact(self.path)
        index.remove(self.home / INDEX, set())
        self._renew_index("the vectors are recomputed, but " if coordinates else "")
        return self.spaces()

    def push_index(
        self,
        index: str | None = None,
        *,
        space: str | None = None,
        whole: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Records[IndexInfo]:
        """Copy the vectors to a Milvus store, or bring a copy there up to date.

        The old copy answers until the new one is complete and was compared with the registry.

        Args:
            index: "milvus:FILE.db" (milvus-lite), "milvus://HOST:PORT" or "milvus+tls://HOST:PORT"; default:
                MODELSPACE_INDEX.
            space: default: all spaces.
            whole: fill all of it again, not only what is new.
            progress: called with (models done, total models) for each space.

        Raises:
            UsageError: no store is named, or the address is none.
            ModelspaceError: pymilvus is not installed, or the store does not answer. Copies are as they were before.
        """
        from modelspace.verbs.index import push

        return Records(push(self.path, index, space, whole=whole, progress=progress), IndexInfo)

    def index_status(
        self, index: str | None = None, *, space: str | None = None, deep: bool = False
    ) -> Records[IndexInfo]:
        """Compare the copies in a Milvus store with the registry; nothing is changed.

        Args:
            index: as in `push_index`.
            space: default: all spaces.
            deep: compare all rows, also of copies of more than 50,000 models.
        """
        from modelspace.verbs.index import status

        return Records(status(self.path, index, space, deep=deep), IndexInfo)

    def drop_index(self, index: str | None = None, *, space: str | None = None) -> tuple[str, ...]:
        """Drop this registry's copies from a Milvus store; the names of the spaces that had one.

        Args:
            index: as in `push_index`.
            space: default: all spaces.
        """
        from modelspace.verbs.index import drop

        return tuple(drop(self.path, index, space))

    def verify(
        self,
        *,
        deep: bool = False,
        progress: Callable[[int, int], None] | None = None,
        on_check: Callable[[Check], None] | None = None,
    ) -> Records[Check]:
        """Check the consistency of the registry and its index.

        Args:
            deep: recompute the affinities of all pairs from the stored maps, not just a sample.
            progress: called with (models done, total models).
            on_check: called with each check as soon as it is finished.
        """
        from modelspace.verbs.verify import verify

        return Records(verify(self.home, deep=deep, progress=progress, on_check=on_check), Check)

    def doctor(self, *, private: bool = False, progress: Callable[[int, int], None] | None = None) -> Records[Finding]:
        """What a bug report needs: versions, optional parts, devices, and the health of the registry, if there is one.

        Args:
            private: full paths; otherwise the home folder and the user's name are replaced.
            progress: called with (models done, total models) while the registry is checked.
        """
        from modelspace.verbs.doctor import doctor

        return Records(doctor(self.home, private=private, progress=progress), Finding)

    def reembed(
        self,
        name: str,
        *,
        module: Any = None,
        weights: str | Path | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> Reembedding:
        """Run a registered model once more, and say how far its maps, kernels and affinities are from the stored ones.

        It is loaded from its address with the same weights, layer, preprocessing and options. Nothing is changed. On
        the machine that stored it, with the same versions and batch size, the result is the same bits.

        Args:
            name: of the model.
            module: the module itself, for a model that was added as a module in memory.
            weights: where its weights are now, if they were moved.
            device: as in `add`.
            batch_size: as in `add`.
            progress: called with (images done, total images).

        Raises:
            NotFoundError: there is no such model, or it was a module in memory and `module` is missing.
            ConflictError: the weights differ from those that were registered.
            ModelspaceError: the model can't be loaded or run.
        """
        from modelspace.verbs.reembed import reembed

        file = str(weights) if weights is not None else None
        return reembed(
            self.path, name, module=module, weights=file, device=device, batch_size=batch_size, progress=progress
        )

    def _renew_index(self, so_far: str) -> None:
        """Write all index files.

        Args:
            so_far: what was done before, as the first part of an error's sentence.

        Raises:
            StorageError: one can't be written.
        """
        from modelspace.spaces.neighbours import load_index

        with phase("index"), Registry.open(self.path) as registry:
            rows = registry.spaces()
            for done, row in enumerate(rows):
                try:
                    load_index(registry, row, renew=True)
                except OSError as error:
                    names = ", ".join(other.spec.name for other in rows[done:])
                    raise StorageError(
                        f"{so_far}the index files of {names} were not written: {self.home / INDEX}: {error.strerror}",
                        "queries work without them, more slowly; make that folder writable, then `space.rebuild()`",
                    ) from None

    def repair(
        self, file: str | Path, *, force: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> Records[Check]:
        """Write a new registry with all that is intact in this one, which is not changed.

        Vectors and affinities are recomputed from the maps. A model whose maps are damaged is left out, and so is an
        outcome that is not what was stored. `restore` puts the new registry in this one's place.

        Args:
            file: the new registry.
            force: replace an existing file.
            progress: called with (models done, total models).

        Returns:
            What was kept, and what was lost (`ok` is false), with what to do about it.

        Raises:
            ConflictError: the file exists.
            DamagedError: the registry can't be opened at all; the hint names the last backup.
        """
        from modelspace.verbs.repair import repair

        return Records(repair(self.path, Path(file), force=force, progress=progress), Check)

    def backup(
        self,
        file: str | Path | None = None,
        *,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> BackupInfo:
        """Copy the registry, complete with its log, and read all of the copy to see that it is intact.

        Writers wait in the meantime; readers don't. The copy is listed next to the registry, so that an error about a
        damaged registry names the last one.

        Args:
            file: the copy, or a folder for it. Default: a file named by the time in the folder `backups` of the home.
            force: replace an existing file.
            progress: called with (spaces checked, total spaces).

        Raises:
            ConflictError: the file exists.
            DamagedError: the registry is damaged. No copy is kept, and existing ones stay.
            BusyError: another process was still writing after ten seconds.
            ModelspaceError: the file can't be written.
        """
        from modelspace.verbs import backup as verb

        return verb.backup(self.path, None if file is None else Path(file), force=force, progress=progress)

    def backups(self) -> Records[BackupInfo]:
        """The backups that are listed next to the registry and still exist, oldest first."""
        from modelspace.verbs.backup import known

        return Records(known(self.home), BackupInfo)

    def restore(self, file: str | Path | None = None, *, force: bool = False) -> Restored:
        """Put a backup in the place of the registry, which is moved aside and not deleted.

        Args:
            file: the backup; default: the last one that is listed.
            force: also if the backup is of another registry.

        Raises:
            NotFoundError: there is no such file, or none is listed.
            DamagedError: the backup is damaged. The registry stays as it is.
            ConflictError: the backup is of another registry.
            BusyError: another process was still writing after ten seconds.
        """
        from modelspace.spaces import index
        from modelspace.verbs import backup as verb

        restored = verb.restore(self.path, None if file is None else Path(file), force=force)
        index.remove(self.home / INDEX, set())
        self._refresh_index()
        return restored

    def _refresh_index(self, removed: Collection[int] = ()) -> None:
        """Write the index files that are missing or stale, and remove those of deleted spaces.

        Args:
            removed: ids of the models that were just removed.
        """
        from modelspace.registry import catalogue
        from modelspace.spaces import index
        from modelspace.spaces.neighbours import load_index

        with phase("index"), Registry.open(self.path) as registry:
            rows = catalogue.remember(registry).spaces  # for the next model that is added
            for row in rows if is_local() else ():
                load_index(registry, row, removed=removed)
        index.remove(self.home / INDEX, {row.spec.space_id for row in rows})


def home_for_new(home: str | Path | None = None) -> Path:
    """The folder for a new registry: `home`, else MODELSPACE_HOME, else the current folder, never a parent of it.

    Raises:
        UsageError: it is a file.
    """
    folder = Path(home or os.environ.get(VARIABLE) or Path.cwd())
    check_folder(folder)
    return folder


def _probe_info(row: ProbeRow) -> ProbeInfo:
    return ProbeInfo(row.name, row.kind, row.n_images, row.size, row.probe_id, dict(row.spec))
