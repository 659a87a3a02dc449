"""The kinds of spaces: what each collects from a pass, stores for a model, and computes affinities from.

`space_of` turns a space's definition into an object; a new kind is added to the table `KINDS`. For every kind, an
affinity is an inner product of unit vectors, and a mean over probe images of what each image contributes, so all kinds
share the code for coordinates, index, intervals and trees.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, DamagedError, UsageError
from modelspace.late import dataclass
from modelspace.names import did_you_mean
from modelspace.registry import Registry
from modelspace.registry.reading import MOST_IMAGES
from modelspace.representations import grids, kernels, maps
from modelspace.representations.maps import MapBlock
from modelspace.representations.planes import MODEL, Form
from modelspace.spaces.bootstrap import Member
from modelspace.spaces.collectors import Collector, GridCollector, KernelCollector, MapCollector
from modelspace.spaces.predictability import POSITIVE
from modelspace.types import SpaceSpec

#: One model's stored blocks, by space id: those of the space itself, or those of the members of a derived space.
Blocks = Mapping[str, Sequence[MapBlock]]

Array = NDArray[np.float64]

#: The method of every blend, and that of every space of grids.
BLEND, LOCAL = "blend", "local"

#: Bytes of rows that are compared with others at a time where all pairs of models are, and columns of one product.
_TILE_BYTES, _COLUMNS = 256 << 20, 4096


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes per probe image that one space needs on its own."""

    forward: int
    backward: int


class Space(ABC):
    """A space of one kind.

    Attributes:
        spec: its definition.
        kind: name of the kind.
        default_bits: bits per stored element unless specified.
        least_images: minimum number of probe images.
        most_images: maximum number of them.
        is_derived: whether its affinities are computed from those of other spaces, so nothing is embedded or stored.
        has_maps: whether it stores attribution maps, which can be drawn.
    """

    kind: ClassVar[str]
    default_bits: ClassVar[int]
    least_images: ClassVar[int] = 2
    most_images: ClassVar[int] = MOST_IMAGES
    is_derived: ClassVar[bool] = False
    has_maps: ClassVar[bool] = False

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec

    @staticmethod
    @abstractmethod
    def methods() -> Mapping[str, str]:
        """The methods of this kind, each with a one-line description."""

    @classmethod
    @abstractmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        """The definition of a new space of this kind.

        Raises:
            UsageError: the method can't explain the scalar, or spaces of this kind are created in another way.
        """

    @property
    @abstractmethod
    def row_length(self) -> int:
        """Stored elements per probe image."""

    @property
    def passes(self) -> Passes | None:
        """Cost of one probe image; None if unknown."""
        return None

    def collector(self) -> Collector | None:
        """What collects this space's share of a pass; None for a derived space."""
        return None

    def sources(self, registry: Registry) -> list[Space]:
        """The spaces whose blocks its affinities are computed from: itself, or its members."""
        return [self]

    @abstractmethod
    def own_blocks(self, blocks: Blocks) -> Sequence[MapBlock]:
        """The blocks among these that are stored under this space."""

    @abstractmethod
    def contributions(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, Array]:
        """Contributions of each probe image to one model's affinities with stored models.

        See `affinity.contributions`.
        """

    @abstractmethod
    def affinities(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, float]:
        """One model's affinities with stored models, to the rounding of float32."""

    def members(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> list[Member]:
        """What the intervals of one model's affinities with stored models are computed from (`spaces.bootstrap`)."""
        values = self.contributions(registry, blocks, model_ids)
        return [Member(np.stack([values[i] for i in model_ids]))]

    @abstractmethod
    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        """The same for all pairs of n stored models: (n_images, n, n) float32, in the order of the ids."""

    @abstractmethod
    def affinities_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float64]:
        """The affinities of all pairs of n stored models, (n, n), to the rounding of float32, in the order of the ids.

        Raises:
            DamagedError: a model's maps do not cover the images.
        """

    @abstractmethod
    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        """What a model's vector was computed from, as label -> description."""


class Operand(NamedTuple):
    """A decoded block of a stored model, for `StoredSpace.product`.

    Attributes:
        n_images: number of its images.
        rows: the block's rows, or what stands for them.
        norms: what scales a product with them.
    """

    n_images: int
    rows: Array
    norms: Array

    @property
    def n_bytes(self) -> int:
        """Bytes of its arrays."""
        return self.rows.nbytes + self.norms.nbytes


#: Called with the first image of a block; returns a number and the operand of each model that is compared.
Operands = Callable[[int], Iterable[tuple[int, Operand]]]


class StoredSpace(Space):
    """A space that stores one row per probe image; affinities are mean inner products of rows."""

    @abstractmethod
    def unit_rows(self, block: MapBlock) -> Array:
        """A block's rows, scaled for comparison: (n_images, row_length).

        The affinity of two models is the mean over rows of their inner products; that of a model with itself is 1.
        """

    @property
    @abstractmethod
    def images_per_block(self) -> int:
        """Number of images per stored block."""

    def code_bytes(self, n_images: int) -> int:
        """Length in bytes of the codes of a block of images."""
        return n_images * -(-self.row_length * self.spec.bits // 8)

    def own_blocks(self, blocks: Blocks) -> Sequence[MapBlock]:
        """The blocks under this space's id."""
        return blocks[self.spec.space_id]

    def compared(self, block: MapBlock) -> Array:
        """What `shares` compares of a block, its first dimension the images."""
        return self.unit_rows(block)

    def shares(self, a: Array, b: Array) -> Array:
        """What each image adds to the affinity of two models, times the number of images: (n_images,)."""
        return maps.cosines(a, b)

    def contributions(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, Array]:
        """The `shares` of the images, one block at a time."""
        out = {model_id: np.full(self.spec.n_images, np.nan) for model_id in model_ids}
        if not out:
            return out
        for block in self.own_blocks(blocks):
            own = self.compared(block)
            images = slice(block.first_image, block.first_image + block.n_images)
            for model_id, other in registry.map_blocks_at(self.spec.space_id, block.first_image, list(out)):
                if other.n_images != block.n_images:
                    raise self._damaged(f"are cut into blocks of {other.n_images} and of {block.n_images} images")
                out[model_id][images] = self.shares(own, self.compared(other))
        for model_id, values in out.items():
            if np.isnan(values).any():
                raise self.missing(f"model {model_id}")
        return out

    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        """Inner products of all pairs, one block at a time."""
        column = {model_id: i for i, model_id in enumerate(model_ids)}
        n = len(column)
        out = np.full((self.spec.n_images, n, n), np.nan, dtype=np.float32)
        # In memory at a time: one block of images of all n models.
        for first in registry.block_starts(self.spec.space_id):
            rows: NDArray[np.float32] | None = None
            for model_id, block in registry.map_blocks_at(self.spec.space_id, first, list(column)):
                if rows is None:
                    self.require_size(block)
                    rows = np.full((block.n_images, n, self.row_length), np.nan, dtype=np.float32)
                if block.n_images != len(rows):
                    raise self._damaged(f"are cut into blocks of {block.n_images} and of {len(rows)} images")
                rows[:, column[model_id]] = self.unit_rows(block)
            if rows is not None:
                out[first : first + len(rows)] = rows @ rows.transpose(0, 2, 1)
        if np.isnan(out).any():
            raise self.missing("a model")
        return out

    def affinities(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, float]:
        """From `product`, one block at a time."""
        space_id, ids = self.spec.space_id, list(model_ids)

        def operands(first: int) -> Iterable[tuple[int, Operand]]:
            return ((i, self.operand(block)) for i, block in registry.map_blocks_at(space_id, first, ids))

        values, covered = self._products(operands, blocks)
        for model_id in sorted(ids):
            if covered.get(model_id) != self.spec.n_images:
                raise self.missing(f"model {model_id}")
        return values

    def products_with_anchors(self, operands: Operands, blocks: Blocks) -> Array:
        """A model's affinities with the anchors of this space, (d,) float64, one block of theirs at a time.

        They are computed in float32 with sums in float64: coordinates on anchors are float32.

        Args:
            operands: called with the first image of a block; returns (axis, `operand`) of the anchors' blocks, by axis.
            blocks: of the model.

        Raises:
            DamagedError: the anchors' blocks don't cover the images.
        """
        values, covered = self._products(operands, blocks)
        if list(covered) != list(range(len(covered))) or set(covered.values()) - {self.spec.n_images}:
            raise self.missing("an anchor")
        return np.array(list(values.values()))

    def affinities_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float64]:
        """Matrix products of some hundred models at a time, one block of images at a time."""
        ids = list(model_ids)
        total = np.zeros((len(ids), len(ids)))
        covered = np.zeros(len(ids), dtype=np.int64)
        images = min(self.images_per_block, self.spec.n_images)
        tile = max(1, _TILE_BYTES // (4 * images * self.row_length))
        for first in registry.block_starts(self.spec.space_id):
            for start in range(0, len(ids), tile):
                rows, n_images = self._flat_rows(registry, first, ids[start : start + tile])
                covered[start : start + tile] += n_images
                _add_products(total[start : start + tile, start : start + tile], rows, rows)
                for other in range(start + tile, len(ids), tile):
                    further, _ = self._flat_rows(registry, first, ids[other : other + tile])
                    _add_products(total[start : start + tile, other : other + tile], rows, further)
        if (covered != self.spec.n_images).any():
            raise self.missing(f"model {ids[int(np.argmax(covered != self.spec.n_images))]}")
        upper = np.triu(total / self.spec.n_images, 1)
        matrix: NDArray[np.float64] = np.clip(upper + upper.T, -1.0, 1.0)
        np.fill_diagonal(matrix, 1.0)
        return matrix

    def _flat_rows(
        self, registry: Registry, first: int, ids: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The unit rows of some models' blocks one after another, (m, n_images * row_length), and numbers of images.

        A model that lacks the block has zeros, and 0 images.
        """
        row_of = {model_id: i for i, model_id in enumerate(ids)}
        counts = np.zeros(len(ids), dtype=np.int64)
        flat = np.zeros((len(ids), 0), dtype=np.float32)
        for model_id, block in registry.map_blocks_at(self.spec.space_id, first, list(ids)):
            rows = self.unit_rows(block)
            if not flat.shape[1]:
                flat = np.zeros((len(ids), rows.size), dtype=np.float32)
            if rows.size != flat.shape[1]:
                raise self._damaged(f"are cut into blocks of {block.n_images} and of another number of images")
            flat[row_of[model_id]] = rows.ravel()
            counts[row_of[model_id]] = block.n_images
        return flat, counts

    def _products(self, operands: Operands, blocks: Blocks) -> tuple[dict[int, float], dict[int, int]]:
        """A model's affinities with others, by number, and the number of images that they cover."""
        total: dict[int, float] = {}
        covered: dict[int, int] = {}
        for block in self.own_blocks(blocks):
            query = self.query(block)
            for number, other in operands(block.first_image):
                if other.n_images != block.n_images:
                    raise self._damaged(f"are cut into blocks of {other.n_images} and of {block.n_images} images")
                total[number] = total.get(number, 0.0) + self.product(query, other)
                covered[number] = covered.get(number, 0) + other.n_images
        return {number: value / self.spec.n_images for number, value in total.items()}, covered

    def query(self, block: MapBlock) -> NDArray[np.float32]:
        """What `product` compares with operands of the same images."""
        return self.unit_rows(block).astype(np.float32)

    def operand(self, block: MapBlock) -> Operand:
        """What `product` compares a query with."""
        return Operand(block.n_images, self.unit_rows(block), np.ones(1))

    def product(self, query: NDArray[np.float32], other: Operand) -> float:
        """Sum over images of the inner products of two models' unit rows, in float32; one model's are a `query`."""
        return float(maps.cosines(query, other.rows).sum())

    def _only(self, blocks: Sequence[MapBlock]) -> MapBlock:
        """The block of a model that has all its rows in one."""
        if len(blocks) != 1:
            raise DamagedError(
                f"a model has {len(blocks)} blocks in the space {self.spec.name!r}, not one", _DEFINITION
            )
        return blocks[0]

    def _members_of_one_block(
        self, registry: Registry, blocks: Blocks, model_ids: Sequence[int], least: float
    ) -> Member:
        """What intervals are computed from where only the mean of a model's `shares` with itself is 1."""
        own = self.compared(self._only(self.own_blocks(blocks)))
        products, norms = {}, {}
        for model_id, other_block in registry.map_blocks_at(self.spec.space_id, 0, list(model_ids)):
            other = self.compared(other_block)
            products[model_id], norms[model_id] = self.shares(own, other), self.shares(other, other)
        if missing := set(model_ids) - set(products):
            raise self.missing(f"model {min(missing)}")
        return Member(
            np.stack([products[i] for i in model_ids]),
            self.shares(own, own),
            np.stack([norms[i] for i in model_ids]),
            least=least,
        )

    def require_size(self, block: MapBlock) -> None:
        """Check that a stored block can hold the rows it should.

        Raises:
            DamagedError: it covers images that the space lacks, or its codes or scales have another length.
        """
        first, n = block.first_image, block.n_images
        if n < 1 or first < 0 or first + n > self.spec.n_images:
            raise self._damaged(f"have a block of {n} images from image {first} on")
        if len(block.codes) != self.code_bytes(n) or len(block.scales) != n * 8:
            raise self._damaged(f"have the wrong size for {self.spec.n_images} images of {self.spec.bits} bits")

    def checked(self, blocks: Sequence[MapBlock]) -> list[MapBlock]:
        """One model's blocks from another registry, validated and re-cut at this version's block size.

        Raises:
            DamagedError: wrong sizes, missing images, or values that are zero or not finite.
        """
        spec = self.spec
        covered = 0
        for block in blocks:
            if block.first_image != covered:
                raise self._damaged(f"have a gap at image {covered}")
            self.require_size(block)
            covered += block.n_images
        if covered != spec.n_images:
            raise self._damaged(f"cover {covered} of {spec.n_images} images")
        for block in blocks:
            scales = np.frombuffer(block.scales, dtype="<f4")
            with np.errstate(all="ignore"):
                if not np.isfinite(scales).all() or not np.isfinite(self.unit_rows(block)).all():
                    raise self._damaged(f"are zero or not finite in the block from image {block.first_image} on")
        return maps.recut(blocks, self.images_per_block)

    def _damaged(self, problem: str) -> DamagedError:
        return DamagedError(
            f"its maps in space {self.spec.name!r} {problem}",
            "verify that registry: `ModelSpace.open(its_folder).verify()`",
        )

    def missing(self, owner: str) -> DamagedError:
        """The error for maps, or a kernel, that the registry should hold."""
        return DamagedError(f"maps of {owner} in space {self.spec.name!r} are missing", "run `space.verify()`")


class MapSpace(StoredSpace):
    """A space of attribution maps: affinity is the mean cosine of the maps, image by image (Song et al. 2019)."""

    kind = "maps"
    #: Nothing is lost at 4 bits, on a canvas of 16 x 16 either (docs/lab-book/weight.md).
    default_bits = 4
    has_maps = True

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        if spec.canvas < 2:
            raise UsageError(
                f"a space of maps needs a canvas of 2 or more pixels, not {spec.canvas}", "example: `canvas=64`"
            )
        self.form = Form.of(spec.parameters)
        if self.form.scale == MODEL and spec.n_images > kernels.MAX_IMAGES:
            raise UsageError(
                f"maps that keep their scale can't be of {spec.n_images:,} images: {kernels.MAX_IMAGES:,} at most",
                "leave the scale out of the form",
            )

    @staticmethod
    def methods() -> Mapping[str, str]:
        """The attribution methods, without those of plug-ins."""
        return {name: info.summary for name, info in METHODS.built_in.items()}

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        """A space of maps of the scalar; Captum's methods explain only the sum."""
        if scalar != "sum" and (METHODS[method].captum or not METHODS[method].of_scalar):
            raise _no_scalar(method)
        parameters = dict(METHODS[method].defaults)
        return SpaceSpec(name, probe_id, method, n_images, canvas, bits or cls.default_bits, scalar, parameters)

    @property
    def row_length(self) -> int:
        """Pixels of a map, of all its planes."""
        return self.spec.canvas**2 * self.form.n_planes

    @property
    def images_per_block(self) -> int:
        """As many maps as keep a block small enough to fetch for many models."""
        return self.form.per_block(self.spec.canvas, self.spec.bits, self.spec.n_images)

    @property
    def passes(self) -> Passes | None:
        """One forward and one backward pass; centred energy needs one more forward pass, for the mean output."""
        # Captum's methods run their own passes, which we don't count.
        if METHODS[self.spec.method].captum:
            return None
        backward = int(self.spec.parameters.get("projections", 1))
        return Passes(2 if self.spec.scalar == "centred_energy" else 1, backward)

    def collector(self) -> Collector:
        """Collects the maps."""
        return MapCollector(self.spec)

    def unit_rows(self, block: MapBlock) -> Array:
        """The maps, flattened, each of unit norm, or of mean squared norm 1 if they keep their scale."""
        self.require_size(block)
        rows = maps.decode(block, self.row_length, self.spec.bits)
        if self.form.scale == MODEL:
            self._require_all(block)
            scaled: Array = rows.astype(np.float64) / self._root_mean_square(rows)
            return scaled
        return maps.unit(rows)

    def operand(self, block: MapBlock) -> Operand:
        """The maps, which are not scaled, and their norms, or the one norm of all of them."""
        self.require_size(block)
        rows = maps.decode(block, self.row_length, self.spec.bits)
        if self.form.scale == MODEL:
            self._require_all(block)
            return Operand(block.n_images, rows, np.array([self._root_mean_square(rows)]))
        return Operand(block.n_images, rows, np.sqrt(np.einsum("ij,ij->i", rows, rows).astype(np.float64)))

    @staticmethod
    def _root_mean_square(rows: NDArray[np.float32]) -> float:
        return float(np.sqrt(np.square(rows, dtype=np.float64).sum() / len(rows)))

    def _require_all(self, block: MapBlock) -> None:
        if block.n_images != self.spec.n_images:
            raise self._damaged(f"have {block.n_images} of {self.spec.n_images} images in a block")

    def product(self, query: NDArray[np.float32], other: Operand) -> float:
        """Sum over images of cosines of maps."""
        return float((np.einsum("ij,ij->i", query, other.rows) / other.norms).sum())

    def members(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> list[Member]:
        """Inner products of the maps, and their squared norms if those are not 1."""
        if self.form.scale != MODEL:
            return super().members(registry, blocks, model_ids)
        return [self._members_of_one_block(registry, blocks, model_ids, least=-1.0)]

    def unit_maps(self, block: MapBlock) -> Array:
        """A block's maps, (n_images, canvas, canvas), each of unit norm unless zero; the mean of their planes."""
        canvas = self.spec.canvas
        planes = self.unit_rows(block).reshape(block.n_images, -1, canvas, canvas).mean(axis=1)
        if self.form.n_planes > 1 or self.form.scale == MODEL:
            norms = np.linalg.norm(planes, axis=(1, 2), keepdims=True)
            planes = planes / np.where(norms > 0, norms, 1)
        drawn: Array = planes
        return drawn

    def maps_of(self, blocks: Sequence[MapBlock], owner: str) -> NDArray[np.float32]:
        """The maps of a model from all of its blocks, (n_images, canvas, canvas), each of unit norm.

        Args:
            blocks: its blocks.
            owner: whose they are, for the message.

        Raises:
            DamagedError: one is missing, or can't be decoded.
        """
        if not blocks:
            raise self.missing(owner)
        # Checked, since after a gap each map would be taken for that of another image.
        return np.concatenate([self.unit_maps(block) for block in self.checked(blocks)]).astype(np.float32)

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        """Size and bits of the maps."""
        planes = f" x {self.form.n_planes}" if self.form.n_planes > 1 else ""
        return {"maps": f"{self.spec.canvas} x {self.spec.canvas}{planes} pixels of {self.spec.bits} bits"}


class KernelSpace(StoredSpace):
    """A space of kernels of the encoder output: similarities between probe images (`representations.kernels`)."""

    kind = "kernels"
    #: Nothing is lost at 8 bits (docs/lab-book/weight.md).
    default_bits = 8
    least_images = 3
    most_images = kernels.MAX_IMAGES

    @staticmethod
    def methods() -> Mapping[str, str]:
        """The kernels."""
        return kernels.SUMMARIES

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        """A space of packed kernels; there is no scalar to choose, and no canvas."""
        if scalar != "sum":
            raise _no_scalar(method)
        parameters = {kernels.LAYOUT: kernels.TRIANGLE}
        return SpaceSpec(
            name, probe_id, method, n_images, canvas=0, bits=bits or cls.default_bits, parameters=parameters
        )

    @property
    def row_length(self) -> int:
        """One entry per probe image."""
        return self.spec.n_images

    @property
    def images_per_block(self) -> int:
        """All: a kernel is one block."""
        return self.spec.n_images

    @property
    def passes(self) -> Passes:
        """One forward pass."""
        return Passes(1, 0)

    def collector(self) -> Collector:
        """Collects the features."""
        return KernelCollector(self.spec)

    @property
    def is_packed(self) -> bool:
        """Whether kernels are stored as packed triangles instead of full rows."""
        return self.spec.parameters.get(kernels.LAYOUT) == kernels.TRIANGLE

    def code_bytes(self, n_images: int) -> int:
        """Length in bytes of the codes of a kernel, packed or not."""
        return kernels.packed_bytes(n_images, self.spec.bits) if self.is_packed else super().code_bytes(n_images)

    def unit_rows(self, block: MapBlock) -> Array:
        """The kernel, scaled so that the mean squared norm of its rows is 1."""
        self._require_whole(block)
        if self.is_packed:
            packed, factor = self._packed(block)
            packed *= factor
            return kernels.unpack_triangle(packed)
        rows: Array = maps.decode(block, self.row_length, self.spec.bits).astype(np.float64)
        rows *= np.sqrt(len(rows)) / np.linalg.norm(rows)
        return rows

    def _packed(self, block: MapBlock) -> tuple[Array, float]:
        """The packed triangle, and the factor that gives the kernel's rows a mean squared norm of 1."""
        packed, n = kernels.packed_triangle(block, self.spec.bits), block.n_images
        norm = _squared_norm(packed, n)
        return packed, float(np.sqrt(np.divide(n, norm)))  # infinite if all are zero, which no command stores

    def query(self, block: MapBlock) -> NDArray[np.float32]:
        """The kernel's packed triangle, whose elements above the diagonal count twice."""
        if not self.is_packed:
            return super().query(block)
        self._require_whole(block)
        unit = self.operand(block)
        packed: NDArray[np.float32] = (unit.rows * unit.norms[0]).astype(np.float32)
        packed[self.spec.n_images :] *= 2
        return packed

    def operand(self, block: MapBlock) -> Operand:
        """The kernel's packed triangle, and the factor that scales products with it."""
        if not self.is_packed:
            return super().operand(block)
        self.require_size(block)
        packed, factor = self._packed(block)
        return Operand(block.n_images, packed, np.array([factor]))

    def affinities(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, float]:
        """Cosines of packed triangles in float32, whose sums are not in float64 here: a query compares a hundred."""
        if not self.is_packed:
            return super().affinities(registry, blocks, model_ids)
        query, n = self.query(self._only(self.own_blocks(blocks))), self.spec.n_images
        values = {}
        for model_id, block in registry.map_blocks_at(self.spec.space_id, 0, list(model_ids)):
            self._require_whole(block)
            other = kernels.rough_triangle(block, self.spec.bits)
            norm = _squared_norm(other, n)
            if not norm > 0:
                raise self._damaged("are zero, or not finite")
            values[model_id] = float(query @ other) / math.sqrt(n * norm)
        for model_id in sorted(model_ids):
            if model_id not in values:
                raise self.missing(f"model {model_id}")
        return values

    def product(self, query: NDArray[np.float32], other: Operand) -> float:
        """The inner product of two kernels, times the number of images, from their packed triangles."""
        if not self.is_packed:
            return super().product(query, other)
        return float(query @ other.rows) * float(other.norms[0])

    def members(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> list[Member]:
        """Inner products of the kernels' rows, and their squared norms, of which only the mean is 1."""
        # The inner product of two positive semi-definite matrices is not negative.
        least = 0.0 if self.spec.method in POSITIVE else -1.0
        return [self._members_of_one_block(registry, blocks, model_ids, least)]

    def kernel(self, blocks: Sequence[MapBlock]) -> Array:
        """A model's kernel, (n_images, n_images), symmetric.

        If rows were quantised one by one, the stored matrix is only approximately symmetric.
        """
        rows = self.unit_rows(self._only(blocks))
        return rows if self.is_packed else (rows + rows.T) / 2

    def rough_kernels(self, blocks: Sequence[MapBlock], chosen: slice) -> NDArray[np.float32]:
        """The kernels of n models, of m of the images alone, each up to a positive factor: (n, m, m).

        Args:
            blocks: the only block of each model.
            chosen: the images.
        """
        if not self.is_packed:
            return np.stack([self.kernel([block])[chosen, chosen] for block in blocks]).astype(np.float32)
        for block in blocks:
            self._require_whole(block)
        return kernels.rough_submatrices(blocks, self.spec.bits, chosen)

    def _require_whole(self, block: MapBlock) -> None:
        """Raise DamagedError if a block is not of this space's size."""
        self.require_size(block)
        if block.n_images != self.spec.n_images:
            raise self._damaged(f"have {block.n_images} of {self.spec.n_images} rows")

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        """Size and bits of the kernel."""
        n, bits = self.spec.n_images, self.spec.bits
        return {"kernel": f"{n} x {n} images of {bits} bits"}


class GridSpace(StoredSpace):
    """A space of features on a grid of places (`representations.grids`).

    The affinity is the linear CKA of the cells of all probe images. What it is made for is `spaces.local`: how well a
    source's features around a place predict the target's.
    """

    kind = "grids"
    #: Nothing is lost at 4 bits, nor by 100 images (docs/lab-book/evaluation.md).
    default_bits = 4
    usual_images = 100

    @staticmethod
    def methods() -> Mapping[str, str]:
        """The one method of grids."""
        return {LOCAL: "encoder output on a grid of places, for predicting it place by place (linear CKA of places)"}

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        """A space of grids; there is no scalar to choose, and no canvas."""
        if scalar != "sum":
            raise _no_scalar(method)
        parameters = {"side": grids.SIDE, "channels": grids.CHANNELS}
        return SpaceSpec(
            name, probe_id, method, n_images, canvas=0, bits=bits or cls.default_bits, parameters=parameters
        )

    @property
    def row_length(self) -> int:
        """Channels of all cells."""
        return grids.SIDE**2 * grids.CHANNELS

    @property
    def images_per_block(self) -> int:
        """All: the principal components are those of all images."""
        return self.spec.n_images

    @property
    def passes(self) -> Passes:
        """One forward pass."""
        return Passes(1, 0)

    def collector(self) -> Collector:
        """Collects the features."""
        return GridCollector(self.spec)

    def grid(self, blocks: Sequence[MapBlock]) -> NDArray[np.float32]:
        """A model's features: (n_images, SIDE², CHANNELS) float32.

        Raises:
            DamagedError: there is not one block, of this space's size.
        """
        if len(blocks) != 1:
            raise DamagedError(f"a model has {len(blocks)} grids in the space {self.spec.name!r}, not one", _DEFINITION)
        self.require_size(blocks[0])
        if blocks[0].n_images != self.spec.n_images:
            raise self._damaged(f"have {blocks[0].n_images} of {self.spec.n_images} images")
        return grids.from_block(blocks[0], self.spec.bits)

    def unit_rows(self, block: MapBlock) -> Array:
        """The features, scaled so that the mean squared norm of rows is 1.

        Affinities are no inner products of these rows; see `shares`.
        """
        rows = self.grid([block]).astype(np.float64).reshape(block.n_images, -1)
        scaled: Array = rows * (np.sqrt(len(rows)) / np.linalg.norm(rows))
        return scaled

    def compared(self, block: MapBlock) -> Array:
        """(n_images, SIDE², CHANNELS) float64, scaled so that the Frobenius norm of XᵀX over all cells is 1."""
        values = self.grid([block]).astype(np.float64)
        scaled: Array = values / np.sqrt(np.linalg.norm(_product(values, values)))
        return scaled

    def shares(self, a: Array, b: Array) -> Array:
        """What each image adds to |XᵀY|², times the number of images: (n_images,)."""
        shares: Array = len(a) * np.einsum("npc,npc->n", a @ _product(a, b), b)
        return shares

    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        """The same for all pairs of n stored models: (n_images, n, n) float32, in the order of the ids."""
        place = {model_id: i for i, model_id in enumerate(model_ids)}
        features = np.zeros((self.spec.n_images, grids.SIDE**2, len(model_ids), grids.CHANNELS), dtype=np.float32)
        for model_id, block in registry.map_blocks_at(self.spec.space_id, 0, list(model_ids)):
            features[:, :, place.pop(model_id)] = self.compared(block)
        if place:
            raise self.missing(f"model {min(place)}")
        n = len(model_ids)
        out = np.empty((self.spec.n_images, n, n), dtype=np.float32)
        table = features.reshape(-1, n * grids.CHANNELS)
        for i in range(n):
            own = np.ascontiguousarray(features[:, :, i]).reshape(-1, grids.CHANNELS)
            predicted = (own @ (own.T @ table)).reshape(features.shape)
            out[:, i] = self.spec.n_images * np.einsum("kpnc,kpnc->kn", predicted, features)
        return out

    def query(self, block: MapBlock) -> NDArray[np.float32]:
        """The features of all cells, (n_images SIDE², CHANNELS)."""
        features: NDArray[np.float32] = self.compared(block).reshape(-1, grids.CHANNELS).astype(np.float32)
        return features

    def operand(self, block: MapBlock) -> Operand:
        """The same."""
        return Operand(block.n_images, self.compared(block).reshape(-1, grids.CHANNELS), np.ones(1))

    def product(self, query: NDArray[np.float32], other: Operand) -> float:
        """The affinity, times the number of images."""
        covariance = query.T @ other.rows.astype(np.float32)
        return other.n_images * float(np.einsum("ij,ij->", covariance, covariance, dtype=np.float64))

    def members(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> list[Member]:
        """What each image adds to |XᵀY|², |XᵀX|² and |YᵀY|², of which only the means are 1."""
        return [self._members_of_one_block(registry, blocks, model_ids, least=0.0)]

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        """Size and bits of the grid."""
        side, n = grids.SIDE, self.spec.n_images
        return {"grid": f"{n} images, {side} x {side} places, {grids.CHANNELS} channels of {self.spec.bits} bits"}


def _product(a: Array, b: Array) -> Array:
    """XᵀY of the cells of all images, (channels, channels)."""
    product: Array = a.reshape(-1, a.shape[2]).T @ b.reshape(-1, b.shape[2])
    return product


class BlendSpace(Space):
    """A weighted sum of other spaces' affinities on the same probe images; it stores only vectors."""

    kind = "blend"
    default_bits = 32
    is_derived = True

    def __init__(self, spec: SpaceSpec) -> None:
        super().__init__(spec)
        members = spec.parameters.get("members")
        if not isinstance(members, Mapping) or not members:
            raise DamagedError(f"the blend {spec.name!r} names no spaces", _DEFINITION)
        for weight in members.values():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1 + 1e-9:
                raise DamagedError(f"the blend {spec.name!r} has a weight that is not from 0 to 1", _DEFINITION)

    @property
    def weights(self) -> dict[str, float]:
        """Space id of each member -> its weight; they sum to 1."""
        try:
            return {str(key): float(value) for key, value in self.spec.parameters["members"].items()}
        except (KeyError, AttributeError, TypeError, ValueError):
            raise DamagedError(f"the members of the blend {self.spec.name!r} can't be read", _DEFINITION) from None

    @staticmethod
    def methods() -> Mapping[str, str]:
        """The one method of blends."""
        return {BLEND: "weighted sum of other spaces' affinities"}

    @classmethod
    def define(
        cls, name: str, method: str, probe_id: str, n_images: int, canvas: int, bits: int | None, scalar: str
    ) -> SpaceSpec:
        """Refuse: blends are defined by `of`."""
        raise UsageError(
            "a blend is made from spaces, not by a method", "example: `members={'dds': 0.5, 'gradient_x_input': 0.5}`"
        )

    @classmethod
    def of(cls, name: str, members: Sequence[tuple[SpaceSpec, float]], hubs: str, rerank: str) -> SpaceSpec:
        """The definition of a blend of spaces.

        Args:
            name: of the blend.
            members: spaces and their weights, which are positive and are scaled to sum to 1.
            hubs: hubness correction (`spaces.ranking`).
            rerank: re-ranking (`spaces.ranking`).

        Raises:
            UsageError: a member is a blend, or its probe images differ from the first member's.
        """
        first = members[0][0]
        for spec, _ in members:
            if space_of(spec).is_derived:
                raise UsageError(f"{spec.name!r} is itself a blend", "name the spaces that it is made from")
            if (spec.probe_id, spec.n_images) != (first.probe_id, first.n_images):
                raise UsageError(
                    f"spaces {first.name!r} and {spec.name!r} have different probe images ({first.n_images} and "
                    f"{spec.n_images})",
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
        """Zero: it stores no rows."""
        return 0

    def sources(self, registry: Registry) -> list[Space]:
        """Its members.

        Raises:
            DamagedError: a member is missing, or is itself a blend.
        """
        specs = {row.spec.space_id: row.spec for row in registry.spaces()}
        if missing := set(self.weights) - set(specs):
            raise DamagedError(f"the space {min(missing)} of the blend {self.spec.name!r} is missing", _DEFINITION)
        spaces = [space_of(specs[space_id]) for space_id in self.weights]
        if any(space.is_derived or space.spec.n_images != self.spec.n_images for space in spaces):
            raise DamagedError(f"the blend {self.spec.name!r} is of spaces that can't be blended", _DEFINITION)
        return spaces

    def follows_from(self, space_ids: Collection[str]) -> bool:
        """Whether a model in these spaces is also in this one."""
        return set(self.weights) <= set(space_ids)

    def own_blocks(self, blocks: Blocks) -> Sequence[MapBlock]:
        """None."""
        return ()

    def contributions(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, Array]:
        """The weighted sum of its members' contributions."""
        total = {model_id: np.zeros(self.spec.n_images) for model_id in model_ids}
        for member in self.sources(registry):
            weight = self.weights[member.spec.space_id]
            for model_id, values in member.contributions(registry, blocks, model_ids).items():
                total[model_id] += weight * values
        return total

    def affinities(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> dict[int, float]:
        """The weighted sum of its members' affinities."""
        total = dict.fromkeys(model_ids, 0.0)
        for member in self.sources(registry):
            for model_id, value in member.affinities(registry, blocks, model_ids).items():
                total[model_id] += self.weights[member.spec.space_id] * value
        return total

    def members(self, registry: Registry, blocks: Blocks, model_ids: Sequence[int]) -> list[Member]:
        """Those of its members, with their weights."""
        return [
            replace(part, weight=self.weights[member.spec.space_id] * part.weight)
            for member in self.sources(registry)
            for part in member.members(registry, blocks, model_ids)
        ]

    def contributions_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float32]:
        """The weighted sum of its members' contributions, for all pairs."""
        n = len(model_ids)
        total = np.zeros((self.spec.n_images, n, n), dtype=np.float32)
        for member in self.sources(registry):
            weight = np.float32(self.weights[member.spec.space_id])
            total += weight * member.contributions_of_all(registry, model_ids)
        return total

    def affinities_of_all(self, registry: Registry, model_ids: Sequence[int]) -> NDArray[np.float64]:
        """The weighted sum of its members' affinities, for all pairs."""
        total = np.zeros((len(model_ids), len(model_ids)))
        for member in self.sources(registry):
            total += self.weights[member.spec.space_id] * member.affinities_of_all(registry, model_ids)
        return total

    def blended(self, known: Mapping[str, Mapping[int, float]]) -> dict[int, float] | None:
        """Affinities by model id, for the models that all members have; None if a member's affinities are not known.

        Args:
            known: space id -> model id -> affinity.
        """
        if not all(space_id in known for space_id in self.weights):
            return None
        shared = set.intersection(*(set(known[space_id]) for space_id in self.weights))
        return {i: sum(weight * known[space_id][i] for space_id, weight in self.weights.items()) for i in shared}

    def stored_of_a_model(self, registry: Registry) -> dict[str, str]:
        """Weights and names of the members."""
        members = (f"{self.weights[member.spec.space_id]:.2g} {member.spec.name}" for member in self.sources(registry))
        return {"blend of": ", ".join(members)}


def _squared_norm(packed: NDArray[np.floating], n: int) -> float:
    """Of the (n, n) kernel of a packed triangle, whose elements above the diagonal count twice."""
    return 2 * float(packed @ packed) - float(packed[:n] @ packed[:n])


def _add_products(total: NDArray[np.float64], first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    """Add the inner products of two sets of rows to a matrix: some columns at a time in float32, their sum in float64.

    Args:
        total: (p, q), changed.
        first: (p, d).
        second: (q, d); or d may be 0 where nothing is stored.
    """
    for start in range(0, min(first.shape[1], second.shape[1]), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        total += first[:, part] @ second[:, part].T


#: What to do about a space whose definition no command can have written.
_DEFINITION = "restore a copy of the registry; `space.verify()` checks it"


def _no_scalar(method: str) -> UsageError:
    return UsageError(
        f"a space of {method} has no scalar to choose",
        "`scalar=` goes with gradient_x_input, saliency, epsilon_lrp and attn_lrp",
    )


def _table(kinds: Iterable[type[Space]]) -> Mapping[str, type[Space]]:
    """Map each method to its kind of space.

    Raises:
        ConflictError: two kinds share a method name.
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


#: All kinds of spaces. A new kind is added here; everything else looks it up by its methods.
KINDS: tuple[type[Space], ...] = (MapSpace, KernelSpace, GridSpace, BlendSpace)

#: Method -> kind.
KIND_OF_METHOD = _table(KINDS)

#: The methods that embed models; a blend is made from spaces instead.
EMBEDDED_METHODS = tuple(method for method, kind in KIND_OF_METHOD.items() if not kind.is_derived)


def kind_of(method: str) -> type[Space]:
    """The kind of space that a method makes.

    Raises:
        UsageError: unknown method, or "blend".
    """
    if method in EMBEDDED_METHODS:
        return KIND_OF_METHOD[method]
    if method in METHODS:
        return MapSpace
    names = (*EMBEDDED_METHODS, *METHODS.added)
    raise UsageError(f"method {method!r} is not known", did_you_mean(method, names, f"use one of: {', '.join(names)}"))


def space_of(spec: SpaceSpec) -> Space:
    """The space object for a definition.

    Raises:
        UsageError: this version does not have the method.
    """
    if spec.method in KIND_OF_METHOD:
        return KIND_OF_METHOD[spec.method](spec)
    if spec.method in METHODS:
        return MapSpace(spec)
    raise UsageError(
        f"space {spec.name!r} uses method {spec.method!r}, which this version does not know",
        "install the version of modelspace that made it, or the plug-in that has the method",
    )


def map_space(spec: SpaceSpec) -> MapSpace:
    """The space object for a definition, if the space holds attribution maps.

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


def with_maps(registry: Registry, space: str | None) -> str:
    """The name of a space of maps: the given or default space, or the first space of maps if none is given.

    Raises:
        UsageError: the given space, or every space, holds none.
    """
    spec = registry.space(space).spec
    if space is None and not space_of(spec).has_maps:
        spec = next((row.spec for row in registry.spaces() if space_of(row.spec).has_maps), spec)
    return map_space(spec).spec.name


def decode_unit(block: MapBlock, spec: SpaceSpec) -> Array:
    """A block's rows, scaled for comparison: (n_images, row_length); see `StoredSpace.unit_rows`."""
    space = space_of(spec)
    assert isinstance(space, StoredSpace), f"a space of {space.kind} stores no rows"
    return space.unit_rows(block)
