"""The kinds of spaces: what each collects from a pass, stores of a model, and adds to an affinity.

`space_of` gives the object of a space's definition; `KINDS` is the table that a new kind is entered in. Whatever the kind, an
affinity is an inner product of unit vectors and a mean over probe images of what each image adds, so that coordinates,
index, intervals and trees are the same code for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, DamagedError, UsageError
from modelspace.names import did_you_mean
from modelspace.registry import Registry
from modelspace.representations import kernels, maps
from modelspace.representations.maps import MapBlock
from modelspace.spaces.collectors import Collector, KernelCollector, MapCollector
from modelspace.types import SpaceSpec

#: What is stored of one model, by space id: its own blocks, or for a space that stores nothing those that it is made of.
Blocks = Mapping[str, Sequence[MapBlock]]

Array = NDArray[np.float64]

#: The method of every blend.
BLEND = "blend"


@dataclass(frozen=True)
class Passes:
    """How often one probe image goes through a model, forward and backward, for one space alone."""

    forward: int
    backward: int


class Space(ABC):
    """A space of one kind.

    Attributes:
        spec: its definition.
        kind: name of the kind.
        default_bits: bits per stored element where none are asked for.
        least_images: with fewer probe images nothing can be compared.
        is_derived: whether its affinities follow from other spaces', so that nothing is embedded or stored for it.
        has_maps: whether it stores attribution maps, which can be drawn.
    """

    kind: ClassVar[str]
    default_bits: ClassVar[int]
    least_images: ClassVar[int] = 2
    is_derived: ClassVar[bool] = False
    has_maps: ClassVar[bool] = False

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec

    @staticmethod
    @abstractmethod
    def methods() -> Mapping[str, str]:
        """The methods of this kind, each with one line for people."""

    @classmethod
    @abstractmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        """The definition of a new space of this kind, from what the user says of all spaces that are made at once.

        Raises:
            UsageError: the method can't explain the scalar, or a space of this kind is made in another way.
        """

    @property
    @abstractmethod
    def row_length(self) -> int:
        """Stored elements per probe image."""

    @property
    def passes(self) -> Passes | None:
        """What an image costs, or None where that is not known."""
        return None

    def collector(self) -> Collector | None:
        """What takes its part of a pass; None where nothing is embedded."""
        return None

    def sources(self, registry: Registry) -> list[Space]:
        """The spaces whose blocks its affinities are computed from: itself, or its members."""
        return [self]

    @abstractmethod
    def own_blocks(self, blocks: Blocks) -> Sequence[MapBlock]:
        """What of a model's blocks is written for this space."""

    @abstractmethod
    def contributions(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, Array]:
        """What each probe image adds to the affinities of one model with stored ones; see `affinity.contributions`."""

    @abstractmethod
    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        """The same of every two of n stored models: (n_images, n, n) float32, in the order of the ids."""

    @abstractmethod
    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        """What a model's vector was made from, as lines for people."""


class StoredSpace(Space):
    """A space that stores rows of its own, one per probe image, whose inner products make the affinity."""

    @abstractmethod
    def unit_rows(self, block: MapBlock) -> Array:
        """A block's rows as they are compared, (n_images, row_length).

        They are scaled so that the affinity of two models is the mean over rows of the rows' inner products, and that
        of a model with itself is 1.
        """

    @property
    @abstractmethod
    def images_per_block(self) -> int:
        """How many images share a stored block."""

    def code_bytes(self, n_images: int) -> int:
        """Length of the codes of a block of images."""
        return n_images * -(-self.row_length * self.spec.bits // 8)

    def own_blocks(self, blocks: Blocks) -> Sequence[MapBlock]:
        return blocks[self.spec.space_id]

    def contributions(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, Array]:
        out = {model_id: np.full(self.spec.n_images, np.nan) for model_id in model_ids}
        if not out:
            return out
        for block in self.own_blocks(blocks):
            rows = self.unit_rows(block)
            images = slice(block.first_image, block.first_image + block.n_images)
            for model_id, other in registry.map_blocks_at(self.spec.space_id, block.first_image, list(out)):
                out[model_id][images] = maps.cosines(rows, self.unit_rows(other))
        for model_id, values in out.items():
            if np.isnan(values).any():
                raise self._missing(f"model {model_id}")
        return out

    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        column = {model_id: i for i, model_id in enumerate(model_ids)}
        n = len(column)
        out = np.full((self.spec.n_images, n, n), np.nan, dtype=np.float32)
        # The rows of one block of images are held at a time, of all n models.
        for first in registry.block_starts(self.spec.space_id):
            rows: NDArray[np.float32] | None = None
            for model_id, block in registry.map_blocks_at(self.spec.space_id, first, list(column)):
                if rows is None:
                    rows = np.full((block.n_images, n, self.row_length), np.nan, dtype=np.float32)
                rows[:, column[model_id]] = self.unit_rows(block)
            if rows is not None:
                out[first : first + len(rows)] = rows @ rows.transpose(0, 2, 1)
        if np.isnan(out).any():
            raise self._missing("a model")
        return out

    def checked(self, blocks: Sequence[MapBlock]) -> list[MapBlock]:
        """Blocks of one model from elsewhere, found to be what the space says, and cut where this version cuts them.

        Raises:
            DamagedError: sizes that don't fit, images missing, or values that no map can have.
        """
        spec = self.spec
        covered = 0
        for block in blocks:
            if block.first_image != covered or block.n_images < 1:
                raise self._damaged(f"have a gap at image {covered}")
            if len(block.codes) != self.code_bytes(block.n_images) or len(block.scales) != block.n_images * 8:
                raise self._damaged(f"have another size than {spec.n_images} images of {spec.bits} bits need")
            covered += block.n_images
        if covered != spec.n_images:
            raise self._damaged(f"cover {covered} of {spec.n_images} images")
        for block in blocks:
            scales = np.frombuffer(block.scales, dtype="<f4")
            with np.errstate(all="ignore"):
                if not np.isfinite(scales).all() or not np.isfinite(self.unit_rows(block)).all():
                    raise self._damaged(f"are not finite, or zero, at images {block.first_image} and after")
        return maps.recut(blocks, self.images_per_block)

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(
            f"its maps in space {self.spec.name!r} {what}",
            "verify that registry: `ModelSpace.open(its_folder).verify()`",
        )

    def _missing(self, whose: str) -> DamagedError:
        return DamagedError(f"maps of {whose} in space {self.spec.name!r} are missing", "run `space.verify()`")


class MapSpace(StoredSpace):
    """A space of attribution maps: the affinity is the mean cosine of the maps, image by image (Song et al. 2019)."""

    kind = "maps"
    default_bits = 8
    has_maps = True

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        if spec.canvas < 2:
            raise UsageError(f"a space of maps needs a canvas of 2 or more pixels, not {spec.canvas}")

    @staticmethod
    def methods() -> Mapping[str, str]:
        return {name: info.summary for name, info in METHODS.items()}

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        if scalar != "sum" and METHODS[method].captum:
            raise _no_scalar(method)
        parameters = dict(METHODS[method].defaults)
        return SpaceSpec(name, probe_id, method, n_images, canvas, bits or cls.default_bits, scalar, parameters)

    @property
    def row_length(self) -> int:
        return self.spec.canvas**2

    @property
    def images_per_block(self) -> int:
        return maps.images_per_block(self.spec.canvas, self.spec.bits)

    @property
    def passes(self) -> Passes | None:
        # Captum's methods have passes of their own, whose number is not kept.
        if METHODS[self.spec.method].captum:
            return None
        return Passes(2 if self.spec.scalar == "centred_energy" else 1, 1)

    def collector(self) -> Collector:
        return MapCollector(self.spec)

    def unit_rows(self, block: MapBlock) -> Array:
        return maps.unit(maps.decode(block, self.row_length, self.spec.bits))

    def unit_maps(self, block: MapBlock) -> Array:
        """A block's maps, (n_images, canvas, canvas), each of unit norm."""
        return self.unit_rows(block).reshape(-1, self.spec.canvas, self.spec.canvas)

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        return {"maps": f"{self.spec.canvas} x {self.spec.canvas} pixels of {self.spec.bits} bits"}


class KernelSpace(StoredSpace):
    """A space of kernels of the encoder output: which probe images a model finds alike (`representations.kernels`)."""

    kind = "kernels"
    #: Nothing is lost at 8 bits (docs/lab-book/weight.md).
    default_bits = 8
    least_images = 3

    @staticmethod
    def methods() -> Mapping[str, str]:
        return kernels.SUMMARIES

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        if scalar != "sum":
            raise _no_scalar(method)
        parameters = {kernels.LAYOUT: kernels.TRIANGLE}
        return SpaceSpec(
            name, probe_id, method, n_images, canvas=0, bits=bits or cls.default_bits, parameters=parameters
        )

    @property
    def row_length(self) -> int:
        return self.spec.n_images

    @property
    def images_per_block(self) -> int:
        return self.spec.n_images

    @property
    def passes(self) -> Passes:
        return Passes(1, 0)

    def collector(self) -> Collector:
        return KernelCollector(self.spec)

    @property
    def is_packed(self) -> bool:
        """Whether kernels are stored as packed triangles, not row by row."""
        return self.spec.parameters.get(kernels.LAYOUT) == kernels.TRIANGLE

    def code_bytes(self, n_images: int) -> int:
        return kernels.packed_bytes(n_images, self.spec.bits) if self.is_packed else super().code_bytes(n_images)

    def unit_rows(self, block: MapBlock) -> Array:
        if self.is_packed:
            rows = kernels.from_block(block, self.spec.bits)
        else:
            rows = maps.decode(block, self.row_length, self.spec.bits).astype(np.float64)
        return rows * (np.sqrt(len(rows)) / np.linalg.norm(rows))

    def kernel(self, blocks: Sequence[MapBlock]) -> Array:
        """A model's kernel, (n_images, n_images), symmetric.

        Where rows were quantised one by one, the stored matrix is symmetric only to rounding.
        """
        (block,) = blocks
        rows = self.unit_rows(block)
        return (rows + rows.T) / 2

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        n, bits = self.spec.n_images, self.spec.bits
        return {"kernel": f"{n} x {n} images of {bits} bits"}


class BlendSpace(Space):
    """A weighted sum of other spaces' affinities on the same probe images; it stores vectors alone."""

    kind = "blend"
    default_bits = 32
    is_derived = True

    @property
    def weights(self) -> dict[str, float]:
        """Space id of each member -> its weight; they sum to 1."""
        return {str(key): float(value) for key, value in self.spec.parameters["members"].items()}

    @staticmethod
    def methods() -> Mapping[str, str]:
        return {BLEND: "weighted sum of other spaces' affinities"}

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        raise UsageError(
            "a blend is made of spaces, not by a method", "example: `members={'dds': 0.5, 'gradient_x_input': 0.5}`"
        )

    @classmethod
    def of(cls, name: str, members: Sequence[tuple[SpaceSpec, float]], hubs: str, rerank: str) -> SpaceSpec:
        """The definition of a blend of spaces.

        Args:
            name: of the blend.
            members: spaces with weights above zero, which are scaled to sum 1.
            hubs, rerank: how it ranks (`spaces.ranking`).

        Raises:
            UsageError: a member is a blend, or has other probe images than the first.
        """
        first = members[0][0]
        for spec, _ in members:
            if space_of(spec).is_derived:
                raise UsageError(f"{spec.name!r} is a blend itself", "name the spaces that it is made of")
            if (spec.probe_id, spec.n_images) != (first.probe_id, first.n_images):
                raise UsageError(
                    f"spaces {first.name!r} and {spec.name!r} have different probe images",
                    "blend spaces on the same images; `space.spaces()` lists them",
                )
        total = sum(weight for _, weight in members)
        weights: dict[str, float] = {}
        for spec, weight in members:
            weights[spec.space_id] = weights.get(spec.space_id, 0.0) + weight / total
        parameters = {"members": weights, "hubs": hubs, "rerank": rerank}
        return SpaceSpec(
            name, first.probe_id, BLEND, first.n_images, canvas=0, bits=cls.default_bits, parameters=parameters
        )

    @property
    def row_length(self) -> int:
        return 0

    def sources(self, registry: Registry) -> list[Space]:
        return [space_of(registry.space(space_id).spec) for space_id in self.weights]

    def follows_from(self, space_ids: Collection[str]) -> bool:
        """Whether a model that is in these spaces is in this one too."""
        return set(self.weights) <= set(space_ids)

    def own_blocks(self, blocks: Blocks) -> Sequence[MapBlock]:
        return ()

    def contributions(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, Array]:
        total = {model_id: np.zeros(self.spec.n_images) for model_id in model_ids}
        for member in self.sources(registry):
            weight = self.weights[member.spec.space_id]
            for model_id, values in member.contributions(registry, blocks, model_ids).items():
                total[model_id] += weight * values
        return total

    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        n = len(model_ids)
        total = np.zeros((self.spec.n_images, n, n), dtype=np.float32)
        for member in self.sources(registry):
            weight = np.float32(self.weights[member.spec.space_id])
            total += weight * member.contributions_of_all(registry, model_ids)
        return total

    def blended(self, known: Mapping[str, Mapping[int, float]]) -> dict[int, float] | None:
        """Affinities by model id out of those of its members, as far as all of them know; None where one is missing.

        Args:
            known: affinities by model id, by space id.
        """
        if not all(space_id in known for space_id in self.weights):
            return None
        shared = set.intersection(*(set(known[space_id]) for space_id in self.weights))
        return {i: sum(weight * known[space_id][i] for space_id, weight in self.weights.items()) for i in shared}

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        members = (f"{self.weights[member.spec.space_id]:.2g} {member.spec.name}" for member in self.sources(registry))
        return {"blend of": ", ".join(members)}


def _no_scalar(method: str) -> UsageError:
    return UsageError(
        f"a space of {method} has no scalar to choose", "`scalar=` goes with gradient_x_input, saliency and epsilon_lrp"
    )


def _table(kinds: Iterable[type[Space]]) -> Mapping[str, type[Space]]:
    """Method -> kind of its spaces.

    Raises:
        ConflictError: two kinds have a method of the same name.
    """
    table: dict[str, type[Space]] = {}
    for kind in kinds:
        for method in kind.methods():
            if method in table:
                raise ConflictError(
                    f"the method {method!r} belongs to two kinds of spaces, {table[method].kind} and {kind.kind}"
                )
            table[method] = kind
    return MappingProxyType(table)


#: Every kind of space. A new one is a class here, and everything else finds it by its methods.
KINDS: tuple[type[Space], ...] = (MapSpace, KernelSpace, BlendSpace)

#: Method -> kind.
KIND_OF_METHOD = _table(KINDS)

#: The methods that a space can be made with; a blend is made of spaces.
EMBEDDED_METHODS = tuple(method for method, kind in KIND_OF_METHOD.items() if not kind.is_derived)


def kind_of(method: str) -> type[Space]:
    """The kind of the spaces that are made with a method.

    Raises:
        UsageError: there is no such method to make a space with.
    """
    if method not in EMBEDDED_METHODS:
        raise UsageError(
            f"method {method!r} is not known",
            did_you_mean(method, EMBEDDED_METHODS, f"use one of: {', '.join(EMBEDDED_METHODS)}"),
        )
    return KIND_OF_METHOD[method]


def space_of(spec: SpaceSpec) -> Space:
    """The space of a definition, as its kind treats it.

    Raises:
        UsageError: this version has no such method.
    """
    if spec.method not in KIND_OF_METHOD:
        raise UsageError(
            f"space {spec.name!r} is of the method {spec.method!r}, which this version does not know",
            "install the version of modelspace that made it",
        )
    return KIND_OF_METHOD[spec.method](spec)


def map_space(spec: SpaceSpec) -> MapSpace:
    """The space of a definition, if it holds attribution maps.

    Raises:
        UsageError: it holds none.
    """
    space = space_of(spec)
    if not isinstance(space, MapSpace):
        raise UsageError(
            f"space {spec.name!r} ({spec.method}) holds no attribution maps",
            "name one that does with `space=`, for example `space='paper'`; `space.spaces()` lists them",
        )
    return space


def decode_unit(block: MapBlock, spec: SpaceSpec) -> Array:
    """A block's rows as they are compared, (n_images, row_length); see `StoredSpace.unit_rows`."""
    space = space_of(spec)
    assert isinstance(space, StoredSpace), f"a space of {space.kind} stores no rows"
    return space.unit_rows(block)
