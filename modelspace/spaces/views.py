"""Views: the spaces that hold what a re-ranking compares, and how it is read from them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import NotFoundError
from modelspace.late import dataclass
from modelspace.registry import Registry
from modelspace.representations import kernels
from modelspace.representations.maps import MapBlock
from modelspace.spaces import predictability, rerankings
from modelspace.spaces.kinds import LOCAL, GridSpace, KernelSpace, space_of
from modelspace.spaces.rerankings import Reranking
from modelspace.types import SpaceSpec

Array = NDArray[np.float64]

#: Bytes of what is kept of sources between the targets that one object ranks for.
_KEPT_BYTES = 512 << 20


@dataclass
class View:
    """What one re-ranking sees of models, in one space.

    Attributes:
        space: that holds it.
        reranking: that compares it.
    """

    space: KernelSpace | GridSpace
    reranking: Reranking
    #: What is kept of sources, by model id and number of images, 0 of all; and its bytes.
    _sources: OrderedDict[tuple[int, int], tuple[Any, int]] = field(default_factory=OrderedDict)
    _n_bytes: int = 0

    def decoded(self, blocks: Sequence[MapBlock]) -> Any:
        """What a model's blocks hold: its kernel, or its grid."""
        return self.space.kernel(blocks) if isinstance(self.space, KernelSpace) else self.space.grid(blocks)

    def stored(self, registry: Registry, model_ids: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield (model id, what it holds) of stored models."""
        for model_id, block in registry.map_blocks_at(self.space.spec.space_id, 0, list(model_ids)):
            yield model_id, self.decoded([block])

    def unknown(self, ids: Sequence[int], n_images: int = 0) -> list[int]:
        """The models of which `scores`, or `rough_scores` of this number of images, must read what is stored."""
        return [i for i in ids if (i, n_images) not in self._sources]

    def scores(
        self, registry: Registry, blocks: Mapping[str, Sequence[MapBlock]], ids: Sequence[int]
    ) -> dict[int, Array]:
        """What each probe image adds to the score of each source; sources that the space does not have are left out.

        Args:
            registry: an open registry.
            blocks: of the target, by space id.
            ids: the sources.
        """
        target = self.reranking.of_target(self.decoded(blocks[self.space.spec.space_id]))
        unknown = self.unknown(ids)
        scores = {i: self.reranking.per_image(target, self._known(i)) for i in {*ids}.difference(unknown)}
        for model_id, value in self.stored(registry, unknown):
            source = self.reranking.of_source(value)
            scores[model_id] = self.reranking.per_image(target, source)
            self._keep(model_id, source)
        return {i: scores[i] for i in ids if i in scores}

    def rough_scores(
        self, registry: Registry, blocks: Mapping[str, Sequence[MapBlock]], ids: Sequence[int], n_images: int
    ) -> dict[int, float]:
        """About the scores of sources, from a part of the images; sources without any are left out.

        Args:
            registry: an open registry.
            blocks: of the target, by space id.
            ids: the sources.
            n_images: about the number of images to use, spread over all.
        """
        space, rough = self.space, self.reranking.rough
        assert isinstance(space, KernelSpace)
        assert rough is not None
        chosen = kernels.spread(space.spec.n_images, n_images)
        unknown = self.unknown(ids, n_images)
        sources = {i: self._known(i, n_images) for i in {*ids}.difference(unknown)}
        stored = dict(registry.map_blocks_at(space.spec.space_id, 0, unknown)) if unknown else {}
        if stored:
            computed = rough.of_sources(space.rough_kernels(list(stored.values()), chosen))
            for model_id, source in zip(stored, computed, strict=True):
                sources[model_id] = source
                self._keep(model_id, source.copy(), n_images)
        if not sources:
            return {}
        (target,) = space.rough_kernels(blocks[space.spec.space_id], chosen)
        scores = rough.scores(target, np.stack(list(sources.values())))
        return dict(zip(sources, np.nan_to_num(scores, nan=-np.inf).tolist(), strict=True))

    def _known(self, model_id: int, n_images: int = 0) -> Any:
        self._sources.move_to_end((model_id, n_images))
        return self._sources[model_id, n_images][0]

    def _keep(self, model_id: int, source: Any, n_images: int = 0) -> None:
        size = _bytes_of(source)
        self._sources[model_id, n_images] = source, size
        self._n_bytes += size
        while self._n_bytes > _KEPT_BYTES:
            _, (_, left) = self._sources.popitem(last=False)
            self._n_bytes -= left


def _bytes_of(value: Any) -> int:
    """About the bytes of what a re-ranking needs of a source."""
    size = getattr(value, "n_bytes", getattr(value, "nbytes", None))
    return int(size) if size is not None else sum(map(_bytes_of, value)) if isinstance(value, tuple) else 0


def views(registry: Registry, spec: SpaceSpec, rerank: str) -> list[View]:
    """The views of a re-ranking of a space, one for each of its parts; none of "none".

    Raises:
        NotFoundError: the registry has no space that holds what one needs.
    """
    return [
        View(kernel_space(registry, spec) if reranking.kind is KernelSpace else grid_space(registry, spec), reranking)
        for reranking in map(rerankings.reranking, rerankings.parts(rerank))
    ]


def kernel_space(registry: Registry, spec: SpaceSpec) -> KernelSpace:
    """The kernel space that the re-rankings of a space use: itself, else a member, else one on the same images.

    Raises:
        NotFoundError: there is none.
    """
    for other in _related(registry, spec):
        if other.method in predictability.POSITIVE and other.n_images == spec.n_images:
            return KernelSpace(other)
    raise NotFoundError(
        f"re-ranking needs the features' kernels on the probe images of space {spec.name!r}",
        f"make a space of them with `space.init(methods=['dds'], probes={_probes(registry, spec)!r}, "
        f"images={spec.n_images})`, and fill it with `space.fill()`",
    )


def grid_space(registry: Registry, spec: SpaceSpec) -> GridSpace:
    """The space of grids that the re-rankings of a space use: itself, or one on the same images or the first of them.

    Raises:
        NotFoundError: there is none.
    """
    for other in _related(registry, spec):
        if other.method == LOCAL and other.n_images <= spec.n_images:
            return GridSpace(other)
    raise NotFoundError(
        f"re-ranking place by place needs the features' grids on the probe images of space {spec.name!r}",
        f"make a space of them with `space.init(methods=['local'], probes={_probes(registry, spec)!r}, "
        f"images={min(spec.n_images, GridSpace.usual_images)})`, and fill it with `space.fill()`",
    )


def _related(registry: Registry, spec: SpaceSpec) -> list[SpaceSpec]:
    """Itself, its members, and then all other spaces on the same probe set."""
    related = [spec, *(source.spec for source in space_of(spec).sources(registry))]
    everything = (*related, *(row.spec for row in registry.spaces()))
    return [other for other in everything if other.probe_id == spec.probe_id]


def _probes(registry: Registry, spec: SpaceSpec) -> str:
    return next((row.name for row in registry.probe_sets() if row.probe_id == spec.probe_id), "rooms")
