"""Several models at once, and spaces: removed, renamed and tagged, all or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shelf
import small_spaces
from small_spaces import BOTH, KERNELS, MAPS

from modelspace.errors import ConflictError, ModelspaceError, NotFoundError, UsageError
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry
from modelspace.spaces.kinds import BlendSpace
from modelspace.types import SpaceSpec
from modelspace.verbs import passes, pending
from modelspace.verbs.passes import Computed
from modelspace.workspace import ModelSpace

SEEDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with small_spaces.create(folder / REGISTRY, MAPS, KERNELS, BOTH) as registry:
        for seed in SEEDS:
            small_spaces.add(registry, seed, MAPS, KERNELS, BOTH)
    ModelSpace(folder).rebuild()
    return folder


@pytest.fixture
def space(original: Path, tmp_path: Path) -> ModelSpace:
    return ModelSpace(shutil.copytree(original, tmp_path / "home"))


def content(space: ModelSpace) -> dict[str, list[Any]]:
    """All rows of all tables that a change could touch."""
    tables = ("models", "spaces", "embeddings", "maps", "projections", "projection_points", "probe_sets")
    with Registry.open(space.path) as registry:
        return {table: registry.rows(f"SELECT * FROM main.{table} ORDER BY ALL") for table in tables}


def is_sound(space: ModelSpace) -> bool:
    return all(check.ok for check in space.verify(deep=True) if not check.what.startswith("probe set"))


def names_of_spaces(space: ModelSpace) -> list[str]:
    return [info.name for info in space.spaces()]


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, method: str, after: int) -> Iterator[None]:
    """The registry's method fails after some calls, as if the process were interrupted then."""
    calls = 0
    real = getattr(Registry, method)

    def once_more(self: Registry, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return real(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, method, once_more)
        with pytest.raises(KeyboardInterrupt):
            yield


# ---- models


@pytest.mark.wide
def test_several_models_are_removed_at_once_and_the_others_keep_their_affinities(space: ModelSpace) -> None:
    assert space.remove_all(["m2", "m4"]) == ("m2", "m4")
    for spec in (MAPS, KERNELS, BOTH):
        left = space.affinity(spec.name)
        assert left.names == ("m1", "m3", "m5")
        np.testing.assert_allclose(left.matrix, small_spaces.expected(spec, (1, 3, 5)), atol=1e-6)
    assert is_sound(space)


@pytest.mark.wide
def test_several_are_removed_as_one_by_one(space: ModelSpace, original: Path, tmp_path: Path) -> None:
    other = ModelSpace(shutil.copytree(original, tmp_path / "other"))
    assert space.remove_all(where="name IN ('m1', 'm2', 'm5')") == ("m1", "m2", "m5")
    for name in ("m5", "m1", "m2"):
        other.remove(name)
    with Registry.open(space.path) as at_once, Registry.open(other.path) as singly:
        for spec in (MAPS, KERNELS, BOTH):
            pairs = zip(at_once.embeddings(spec.space_id), singly.embeddings(spec.space_id), strict=True)
            for mine, theirs in pairs:
                assert (mine.model_id, mine.position, mine.axis) == (theirs.model_id, theirs.position, theirs.axis)
                np.testing.assert_allclose(mine.vector, theirs.vector, atol=1e-12)


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"names": ["m1", "m9"]}, NotFoundError),
        ({"where": "task = 'nothing'"}, NotFoundError),
        ({}, UsageError),
        ({"names": ["m1"], "where": "true"}, UsageError),
        ({"where": "tusk = 1"}, UsageError),
    ],
)
def test_a_mistake_in_a_choice_changes_nothing(space: ModelSpace, options: dict[str, Any], error: Any) -> None:
    before = content(space)
    with pytest.raises(error):
        space.remove_all(**options)
    with pytest.raises(error):
        space.tag_all({"a": "b"}, **options)
    assert content(space) == before


def test_an_interruption_removes_all_or_none(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(space)
    with failing(monkeypatch, "remove_model", after=1):
        space.remove_all(["m1", "m2", "m3"])
    with failing(monkeypatch, "update_model", after=1):
        space.tag_all({"a": "b"}, ["m1", "m2"])
    assert content(space) == before


def test_tags_are_set_for_all_that_meet_a_condition(space: ModelSpace) -> None:
    space.tag("m1", {"owner": "me", "old": "x"})
    assert space.tag_all({"licence": "mit", "old": None}, where="name < 'm3'", task="depth") == ("m1", "m2")
    first, second, third, *_ = space.list()
    assert dict(first.tags).items() >= {"owner": "me", "licence": "mit"}.items()
    assert "old" not in first.tags
    assert (second.tags["licence"], second.task) == ("mit", "depth")
    assert "licence" not in third.tags


# ---- spaces


@pytest.mark.wide
def test_a_space_is_renamed_and_all_that_refers_to_it_stays(space: ModelSpace) -> None:
    with Registry.open(space.path) as registry:
        generations = [row.generation for row in registry.spaces()]
    expected = space.affinity("both").matrix
    space.rename_space("dds", "kernels")
    assert names_of_spaces(space) == ["saliency", "kernels", "both"]
    assert {info.index for info in space.spaces()} == {"fresh"}
    assert space.show("m1").spaces == ("both", "kernels", "saliency")
    np.testing.assert_array_equal(space.affinity("both").matrix, expected)
    with Registry.open(space.path) as registry:
        assert [row.generation for row in registry.spaces()] == generations
    space.rename_space("kernels", "kernels")
    assert is_sound(space)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("dsd", "x", NotFoundError),
        ("dds", "saliency", ConflictError),
        ("dds", "a b", UsageError),
        ("dds", "../x", UsageError),
        ("dds", "0123456789abcdef", UsageError),
    ],
)
def test_a_wrong_new_name_changes_nothing(space: ModelSpace, old: str, new: str, error: Any) -> None:
    with pytest.raises(error):
        space.rename_space(old, new)
    assert names_of_spaces(space) == ["saliency", "dds", "both"]


@pytest.mark.wide
def test_a_space_is_removed_with_all_that_it_holds(space: ModelSpace) -> None:
    with pytest.raises(ConflictError, match="'both' is computed from 'saliency'"):
        space.remove_space("saliency")
    space.set_default("dds")
    assert space.remove_space(["saliency", "both", "saliency"]) == ("saliency", "both")
    assert names_of_spaces(space) == ["dds"]
    left = {row[0] for table in ("embeddings", "maps") for row in content(space)[table]}
    assert left == {KERNELS.space_id}
    assert {file.name.partition(".")[0] for file in (space.home / INDEX).iterdir()} == {KERNELS.space_id}
    assert len(space.list()) == len(SEEDS)
    assert len(space.probe_sets()) == 1
    assert is_sound(space)


def test_the_default_space_and_the_last_space_of_a_model_stay(space: ModelSpace) -> None:
    before = content(space)
    with pytest.raises(ConflictError, match="default space") as error:
        space.remove_space(["saliency", "both"])
    assert "set_default('dds')" in error.value.hint
    with pytest.raises(ConflictError, match="no other space holds m1, m2, m3, m4, m5"):
        space.remove_space(["saliency", "dds", "both"])
    with pytest.raises(NotFoundError, match="'dsd'"):
        space.remove_space(["both", "dsd"])
    with pytest.raises(UsageError):
        space.remove_space([])
    assert content(space) == before


def test_a_space_whose_kernels_a_directed_ranking_uses_stays(tmp_path: Path) -> None:
    ranked = BlendSpace.of("ranked", [(MAPS, 1.0)], "none", "directed")
    with small_spaces.create(tmp_path / REGISTRY, MAPS, KERNELS, ranked) as registry:
        small_spaces.add(registry, 1, MAPS, KERNELS, ranked)
    space = ModelSpace(tmp_path)
    with pytest.raises(ConflictError, match="'ranked' is computed from 'dds'") as error:
        space.remove_space("dds")
    assert "['dds', 'ranked']" in error.value.hint
    assert space.remove_space(["dds", "ranked"]) == ("dds", "ranked")


def test_all_spaces_of_a_registry_without_models_can_go(tmp_path: Path) -> None:
    small_spaces.create(tmp_path / REGISTRY, MAPS).close()
    space = ModelSpace(tmp_path)
    space.remove_space("saliency")
    assert not space.spaces()
    assert is_sound(space)


@pytest.mark.wide
def test_an_interrupted_removal_of_spaces_changes_nothing(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    space.set_default("dds")
    before = content(space)
    with failing(monkeypatch, "remove_space", after=1):
        space.remove_space(["saliency", "both"])
    assert content(space) == before
    assert is_sound(space)


def test_a_space_made_again_is_no_older_copy(space: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generations begin at a random number: the index of the removed space must not pass for a later state."""
    space.set_default("dds")
    space.remove_space(["saliency", "both"])
    monkeypatch.setattr("modelspace.registry.store._step", lambda: 1)
    with Registry.open(space.path, write=True) as registry, registry.transaction():
        registry.add_space(MAPS, default=False)
    assert {info.name: info.index for info in space.spaces()} == {"dds": "fresh", "saliency": "missing"}


# ---- passes that were computed before


def computed(space: ModelSpace, *specs: SpaceSpec) -> Computed:
    with Registry.open(space.path) as registry:
        identity = registry.registry_id
    names, ids = tuple(spec.name for spec in specs), tuple(spec.space_id for spec in specs)
    blocks = {space_id: list(parts) for space_id, parts in small_spaces.blocks_of(9).items()}
    return Computed(shelf.card("m9"), names, blocks, (), identity, ids)


@pytest.mark.wide
def test_a_saved_pass_is_stored_under_the_new_names_and_without_removed_spaces(space: ModelSpace) -> None:
    waiting = computed(space, MAPS, KERNELS, BOTH)
    pending.keep(space.path, waiting, False)
    space.set_default("dds")
    space.rename_space("dds", "kernels")
    space.remove_space(["saliency", "both"])
    (outcome,) = space.resume()
    assert (outcome.status, outcome.spaces) == ("added", ("kernels",)), outcome
    assert space.show("m9").spaces == ("kernels",)
    assert is_sound(space)


def test_a_pass_for_removed_spaces_says_so(space: ModelSpace) -> None:
    waiting = computed(space, MAPS)
    pending.keep(space.path, waiting, False)
    space.set_default("dds")
    space.remove_space(["saliency", "both"])
    (outcome,) = space.resume()
    assert outcome.status == "failed"
    assert "were removed after it was computed" in outcome.message
    with pytest.raises(ModelspaceError, match="removed in the meantime"):
        passes.store(space.path, waiting, False)
    assert [info.name for info in space.list()] == [f"m{seed}" for seed in SEEDS]


@pytest.mark.wide
def test_spaces_renamed_apart_still_merge(space: ModelSpace, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    small_spaces.create(tmp_path / "other" / REGISTRY, MAPS, KERNELS, BOTH).close()
    other = ModelSpace(tmp_path / "other")
    other.rename_space("saliency", "dots")
    other.rename_space("dds", "saliency")
    merged = other.merge(space.home)
    assert {row.status for row in merged} == {"added"}, merged
    assert {row.spaces for row in merged} == {("dots", "saliency", "both")}
    np.testing.assert_allclose(other.affinity("dots").matrix, small_spaces.expected(MAPS, SEEDS), atol=1e-6)
    assert is_sound(other)
