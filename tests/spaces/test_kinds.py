"""The table of kinds of spaces: each method has one kind, which knows how its spaces are defined and what they cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, DamagedError, UsageError
from modelspace.representations import maps
from modelspace.representations.kernels import KERNELS
from modelspace.spaces import kinds
from modelspace.spaces.kinds import BlendSpace, KernelSpace, MapSpace, Passes, StoredSpace, space_of
from modelspace.types import SpaceSpec


def spec(method: str, scalar: str = "sum") -> SpaceSpec:
    kind = kinds.kind_of(method)
    return kind.define(method, method, "probes", 4, 8, None, scalar)


def test_every_method_has_a_kind_and_the_kinds_share_none() -> None:
    assert set(kinds.KIND_OF_METHOD) == {*METHODS, *KERNELS, "local", "blend"}
    assert (*METHODS, *KERNELS, "local") == kinds.EMBEDDED_METHODS

    class Twin(MapSpace):
        kind = "twin"

        @staticmethod
        def methods() -> Mapping[str, str]:
            return {"dds": "another dds"}

    with pytest.raises(ConflictError, match="'dds' belongs to two kinds of spaces, kernels and twin"):
        kinds._table([KernelSpace, Twin])


def test_a_kind_defines_its_spaces() -> None:
    pictures, kernel = space_of(spec("saliency")), space_of(spec("dds"))
    assert isinstance(pictures, MapSpace)
    assert isinstance(kernel, KernelSpace)
    assert (pictures.spec.canvas, pictures.spec.bits, pictures.row_length, pictures.has_maps) == (8, 4, 64, True)
    assert (kernel.spec.canvas, kernel.spec.bits, kernel.row_length, kernel.has_maps) == (0, 8, 4, False)
    assert space_of(spec("epsilon_lrp")).spec.parameters == METHODS["epsilon_lrp"].defaults
    with pytest.raises(UsageError, match="canvas of 2 or more"):
        space_of(SpaceSpec("x", "probes", "saliency", 4, canvas=1))
    with pytest.raises(UsageError, match="no scalar to choose"):
        spec("dds", scalar="energy")
    with pytest.raises(UsageError, match="no scalar to choose"):
        spec("integrated_gradients", scalar="energy")
    with pytest.raises(UsageError, match="no scalar to choose"):
        spec("sensitivity", scalar="energy")
    with pytest.raises(UsageError, match="did you mean saliency"):
        kinds.kind_of("salience")
    with pytest.raises(UsageError, match="'blend' is not known"):
        kinds.kind_of("blend")


def test_passes_per_image() -> None:
    assert space_of(spec("saliency")).passes == Passes(1, 1)
    assert space_of(spec("saliency", scalar="centred_energy")).passes == Passes(2, 1)
    assert space_of(spec("sensitivity")).passes == Passes(1, 4)
    assert space_of(spec("dds")).passes == Passes(1, 0)
    assert space_of(spec("integrated_gradients")).passes is None


def test_maps_that_keep_their_scale_are_in_one_block_of_mean_squared_norm_one() -> None:
    def kept(n_images: int) -> StoredSpace:
        return MapSpace(SpaceSpec("x", "probes", "saliency", n_images, 2, parameters={"scale": "model"}))

    space = kept(3)
    rows = np.array([[1, 2, 3, 4], [10, 20, 30, 50], [0.5, 0, 0, 0]], dtype=np.float32)
    assert space.images_per_block == 3
    (whole,) = maps.whole_block(rows, 8)
    unit = space.unit_rows(whole)
    assert np.square(unit).sum() / 3 == pytest.approx(1)
    assert np.linalg.norm(unit[1]) / np.linalg.norm(unit[0]) == pytest.approx(
        np.linalg.norm(rows[1]) / np.linalg.norm(rows[0]), rel=1e-2
    )
    assert space.product(space.query(whole), space.operand(whole)) / 3 == pytest.approx(1, abs=1e-6)
    (part,) = maps.whole_block(rows[:2], 8)
    with pytest.raises(DamagedError, match="have 2 of 3 images in a block"):
        space.unit_rows(part)
    with pytest.raises(DamagedError, match="have 2 of 3 images in a block"):
        space.operand(part)
    with pytest.raises(UsageError, match="can't be of 5,000 images: 4,096 at most"):
        kept(5000)


def test_a_blend_weights_its_members() -> None:
    members = [(spec("saliency"), 1.0), (spec("dds"), 3.0)]
    blend = space_of(BlendSpace.of("both", members, "none", "none"))
    assert isinstance(blend, BlendSpace)
    ids = [member.space_id for member, _ in members]
    assert blend.weights == dict(zip(ids, (0.25, 0.75), strict=True))
    assert blend.follows_from({*ids, "another"})
    assert not blend.follows_from(ids[:1])
    assert blend.blended({ids[0]: {1: 0.5, 2: 1.0}}) is None
    assert blend.blended({ids[0]: {1: 0.5, 2: 1.0}, ids[1]: {1: 0.1}}) == {1: pytest.approx(0.2)}
    assert blend.collector() is None
    assert blend.own_blocks({}) == ()


def test_the_error_names_a_method_of_another_version() -> None:
    with pytest.raises(UsageError, match="'future', which this version does not know"):
        space_of(SpaceSpec("x", "probes", "future", 4, canvas=8))
