"""The probe sets of rendered worlds."""

from dataclasses import replace

import numpy as np
import pytest

from modelspace import probes
from modelspace.errors import ProbeError, UsageError
from modelspace.probes import rendered
from modelspace.worlds import repainted, rooms, streets, yards
from modelspace.worlds.room_scenes import RENDERER_VERSION


def test_what_identifies_the_rooms():
    probe_set = probes.rooms()
    assert (probe_set.name, probe_set.kind, probe_set.n_images, probe_set.size) == ("rooms", "rooms", 200, 128)
    assert probe_set.spec == {"kind": "rooms", "renderer": RENDERER_VERSION, "seed": 0, "size": 128}
    assert probes.rooms(n_images=7).probe_id == probe_set.probe_id
    assert len({probe_set.probe_id, probes.rooms(seed=1).probe_id, probes.rooms(size=64).probe_id}) == 3
    # Registries hold this number: it never changes while the renderer's version is 1.
    assert (RENDERER_VERSION, probe_set.probe_id) == (1, "3de3af40cbb58019")


def test_what_identifies_the_yards():
    probe_set = probes.yards()
    assert (probe_set.name, probe_set.kind, probe_set.n_images, probe_set.size) == ("yards", "yards", 200, 128)
    assert probe_set.spec == {"kind": "yards", "renderer": yards.YARDS_VERSION, "seed": 0, "size": 128}
    assert (yards.YARDS_VERSION, probe_set.probe_id) == (1, "e3f615ee02a0b2d0")
    assert probes.yards(n_images=7).probe_id == probe_set.probe_id
    others = {probes.yards(seed=1).probe_id, probes.yards(size=64).probe_id, probes.rooms().probe_id}
    assert len(others | {probe_set.probe_id}) == 4


def test_what_identifies_the_streets():
    probe_set = probes.streets()
    assert (probe_set.name, probe_set.kind, probe_set.n_images, probe_set.size) == ("streets", "streets", 200, 128)
    assert probe_set.spec == {"kind": "streets", "renderer": streets.STREETS_VERSION, "seed": 0, "size": 128}
    assert (streets.STREETS_VERSION, probe_set.probe_id) == (1, "662df15e8174446c")
    assert probes.streets(n_images=7).probe_id == probe_set.probe_id
    others = {probes.streets(seed=1).probe_id, probes.streets(size=64).probe_id, probes.yards().probe_id}
    assert len(others | {probe_set.probe_id}) == 4


def test_what_identifies_the_repainted_rooms():
    probe_set = probes.repainted()
    assert (probe_set.name, probe_set.kind, probe_set.n_images) == ("repainted", "repainted", 200)
    assert probe_set.spec == {"kind": "repainted", "renderer": repainted.REPAINTED_VERSION, "seed": 0, "size": 128}
    assert (repainted.REPAINTED_VERSION, probe_set.probe_id) == (1, "441186f6a7476301")
    others = {probes.repainted(seed=1).probe_id, probes.repainted(size=64).probe_id, probes.rooms().probe_id}
    assert len(others | {probe_set.probe_id}) == 4


def test_every_rendered_kind_has_a_world():
    assert set(probes.RENDERED) == set(rendered.WORLDS)
    assert set(probes.RENDERED) < set(probes.BUILT_IN) < set(probes.KINDS)


@pytest.mark.parametrize("kind", ["rooms", "yards", "streets", "repainted"])
def test_another_renderer_makes_another_set(monkeypatch, kind):
    describe = getattr(probes, kind)
    before = describe()
    world = rendered.WORLDS[kind]
    monkeypatch.setattr(rendered, "WORLDS", {**rendered.WORLDS, kind: replace(world, version=world.version + 1)})
    assert describe().probe_id != before.probe_id
    with pytest.raises(ProbeError, match="was made with renderer") as caught:
        probes.batches(before, None, 0, 1, 1)
    assert "or create a new space" in caught.value.hint


@pytest.mark.parametrize("seed", ["../../x", None, -1, 2.5, float("inf")])
def test_a_seed_that_is_no_number_is_refused(seed):
    strange = replace(probes.rooms(), spec={**probes.rooms().spec, "seed": seed})
    for use in (lambda: rendered.take(strange, None, 0, 1), lambda: probes.kind_of(strange).require_same(strange, [])):
        with pytest.raises(ProbeError, match="not a number from 0 on"):
            use()


def test_names_tell_the_sets_apart():
    assert probes.rooms(seed=3).name == "rooms-seed3"
    assert probes.rooms(size=64, seed=3).name == "rooms-64-seed3"


def test_rooms_are_rendered_batch_by_batch_as_they_are_asked_for(monkeypatch):
    calls = []

    def render(first, count, seed, size):
        calls.append((first, count, seed, size))
        return np.zeros((count, size, size, 3), dtype=np.uint8)

    monkeypatch.setenv("MODELSPACE_CACHE", "")
    monkeypatch.setattr(rooms, "render_rgb8", render)
    stream = probes.batches(probes.rooms(2, size=16, seed=9), None, 5, 1_000_000, 4)
    assert calls == []
    assert next(stream).shape == (4, 16, 16, 3)
    next(stream)
    assert calls == [(5, 4, 9, 16), (9, 4, 9, 16)]


def test_image_k_depends_on_the_seed_and_k_alone(monkeypatch):
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    probe_set = probes.rooms(3, size=16, seed=1)
    one_by_one = np.concatenate(list(probes.batches(probe_set, None, 0, 3, 1)))
    at_once = next(probes.batches(probe_set, None, 0, 3, 3))
    assert (at_once.shape, at_once.dtype) == ((3, 16, 16, 3), np.uint8)
    assert np.array_equal(one_by_one, at_once)
    assert np.array_equal(next(probes.batches(probe_set, None, 2, 1, 1)), at_once[2:])
    assert not np.array_equal(at_once, next(probes.batches(probes.rooms(3, size=16, seed=2), None, 0, 3, 3)))


def test_yards_are_the_worlds_own_and_cached_apart_from_rooms(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path))
    of_rooms = next(probes.batches(probes.rooms(2, size=16), None, 0, 2, 2))
    images = next(probes.batches(probes.yards(2, size=16), None, 0, 2, 2))
    assert np.array_equal(images, yards.render_rgb8(0, 2, 0, 16))
    assert not np.array_equal(images, of_rooms)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(yards, "render_rgb8", None)  # the second time nothing is rendered
    assert np.array_equal(next(probes.batches(probes.yards(2, size=16), None, 1, 1, 1)), images[1:])


@pytest.mark.parametrize("options", [{"n_images": 0}, {"size": 8}, {"size": 9999}, {"seed": -1}, {"n_images": True}])
def test_arguments_out_of_range(options):
    with pytest.raises(UsageError, match="of a probe set can't be"):
        probes.rooms(**options)
