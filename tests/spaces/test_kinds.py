"""The table of kinds of spaces: each method has one kind, which knows how its spaces are defined and what they cost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from modelspace.attribution import METHODS
from modelspace.errors import ConflictError, UsageError
from modelspace.representations.kernels import KERNELS
from modelspace.spaces import kinds
from modelspace.spaces.kinds import BlendSpace, KernelSpace, MapSpace, Passes, space_of
from modelspace.types import SpaceSpec


def spec(method: str, scalar: str = "sum") -> SpaceSpec:
    kind = kinds.kind_of(method)
    return kind.define(method, method, "probes", 4, 8, None, scalar)


def test_every_method_has_a_kind_and_the_kinds_share_none() -> None:
    assert set(kinds.KIND_OF_METHOD) == {*METHODS, *KERNELS, "blend"}
    assert (*METHODS, *KERNELS) == kinds.EMBEDDED_METHODS

    class Twin(MapSpace):
        kind = "twin"

        @staticmethod
        def methods() -> Mapping[str, str]:
            return {"dds": "another dds"}

    with pytest.raises(ConflictError, match="'dds' belongs to two kinds of spaces, kernels and twin"):
        kinds._table([KernelSpace, Twin])


def test_a_kind_defines_its_spaces() -> None:
    maps, kernel = space_of(spec("saliency")), space_of(spec("dds"))
    assert isinstance(maps, MapSpace)
    assert isinstance(kernel, KernelSpace)
    assert (maps.spec.canvas, maps.spec.bits, maps.row_length, maps.has_maps) == (8, 8, 64, True)
    assert (kernel.spec.canvas, kernel.spec.bits, kernel.row_length, kernel.has_maps) == (0, 8, 4, False)
    assert space_of(spec("epsilon_lrp")).spec.parameters == METHODS["epsilon_lrp"].defaults
    with pytest.raises(UsageError, match="canvas of 2 or more"):
        space_of(SpaceSpec("x", "probes", "saliency", 4, canvas=1))
    with pytest.raises(UsageError, match="no scalar to choose"):
        spec("dds", scalar="energy")
    with pytest.raises(UsageError, match="no scalar to choose"):
        spec("integrated_gradients", scalar="energy")
    with pytest.raises(UsageError, match="did you mean saliency"):
        kinds.kind_of("salience")
    with pytest.raises(UsageError, match="'blend' is not known"):
        kinds.kind_of("blend")


def test_passes_per_image() -> None:
    assert space_of(spec("saliency")).passes == Passes(1, 1)
    assert space_of(spec("saliency", scalar="centred_energy")).passes == Passes(2, 1)
    assert space_of(spec("dds")).passes == Passes(1, 0)
    assert space_of(spec("integrated_gradients")).passes is None


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
