"""Merge: another registry's models are imported from their maps alone, and damaged ones are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tiny import add, near, net, space
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConflictError, NotFoundError, ProbeError, UsageError
from modelspace.home import REGISTRY
from modelspace.representations.maps import MapBlock
from modelspace.spaces.create import create_blend
from modelspace.spaces.kinds import MapSpace
from modelspace.spaces.ranking import PLAIN
from modelspace.types import SpaceSpec
from modelspace.workspace import ModelSpace


def fill(where: ModelSpace, **nets: int) -> ModelSpace:
    for name, seed in nets.items():
        add(where, name, near(seed, 0.1) if name.endswith("near") else net(seed), task=f"task of {name}")
    return where


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two registries with the same spaces, one model in common, and one with all of their models, added in turn."""
    folder = tmp_path_factory.mktemp("merge")
    fill(space(folder / "mine", methods=("gradient_x_input", "saliency")), a=1, both=2)
    fill(space(folder / "theirs", methods=("saliency", "gradient_x_input")), c_near=1, both=2, d=3)
    fill(space(folder / "whole", methods=("gradient_x_input", "saliency")), a=1, both=2, c_near=1, d=3)
    return folder


@pytest.fixture
def homes(originals: Path, tmp_path: Path) -> tuple[ModelSpace, ModelSpace]:
    """Copies, to change: mine, theirs."""
    return tuple(ModelSpace(shutil.copytree(originals / name, tmp_path / name)) for name in ("mine", "theirs"))  # type: ignore[return-value]


def by_name(records: object) -> dict[str, str]:
    return {record.theirs: record.status for record in records}  # type: ignore[attr-defined]


def spoil(where: ModelSpace, statement: str) -> None:
    """Change a registry's tables directly, as if it had been made so: without checksums that would tell."""
    duck = duckdb.connect(str(where.path))
    duck.execute(statement)
    duck.execute("UPDATE main.embeddings SET vector_checksum = NULL, affinities_checksum = NULL")
    duck.execute("UPDATE main.maps SET checksum = NULL")
    duck.close()


@pytest.mark.wide
def test_merging_gives_the_registry_that_adding_gives(homes: tuple[ModelSpace, ModelSpace], originals: Path) -> None:
    mine, theirs = homes
    before = theirs.path.read_bytes()
    done = mine.merge(theirs.home)
    assert by_name(done) == {"c_near": "added", "both": "unchanged", "d": "added"}
    assert sorted(done[0].spaces) == ["gradient_x_input", "saliency"]
    whole = ModelSpace(originals / "whole")
    for method in ("gradient_x_input", "saliency"):
        one, two = mine.affinity(method), whole.affinity(method)
        assert one.names == two.names == ("a", "both", "c_near", "d")
        np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-12)
        np.testing.assert_array_equal(mine.maps("c_near", method), whole.maps("c_near", method))
    assert mine.nearest("a", k=1)[0].name == "c_near"
    assert mine.show("d").task == "task of d"
    assert all(check.ok for check in mine.verify(deep=True))
    assert mine.spaces()[0].index == "fresh"
    assert theirs.path.read_bytes() == before
    after = mine.path.read_bytes()
    assert set(by_name(mine.merge(theirs.home)).values()) == {"unchanged"}
    assert mine.path.read_bytes() == after


def test_their_vectors_and_affinities_are_not_trusted(homes: tuple[ModelSpace, ModelSpace], originals: Path) -> None:
    mine, theirs = homes
    spoil(
        theirs,
        "UPDATE main.embeddings SET affinities = [0.99 FOR x IN affinities], vector = [0.5 FOR x IN vector]",
    )
    shutil.rmtree(theirs.home / "index")
    mine.merge(theirs.home)
    np.testing.assert_allclose(mine.affinity().matrix, ModelSpace(originals / "whole").affinity().matrix, atol=1e-12)


def test_a_dry_run_writes_nothing_and_a_condition_chooses(homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, theirs = homes
    before = mine.path.read_bytes()
    assert by_name(mine.merge(theirs.home, dry_run=True, where="name <> 'd'")) == {
        "c_near": "would add",
        "both": "unchanged",
    }
    assert mine.path.read_bytes() == before
    with pytest.raises(UsageError, match="where"):
        mine.merge(theirs.home, where="nme = 'd'")


@pytest.mark.wide
def test_a_name_of_another_model_stops_all_or_is_left_out_or_changed(homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, theirs = homes
    theirs.rename("d", "a")
    before = mine.path.read_bytes()
    with pytest.raises(ConflictError, match="these names here: a; nothing was imported") as caught:
        mine.merge(theirs.home)
    assert "`on_conflict=" in caught.value.hint
    assert mine.path.read_bytes() == before
    left_out = mine.merge(theirs.home, on_conflict="skip")
    assert by_name(left_out) == {"c_near": "added", "both": "unchanged", "a": "skipped"}
    assert "belongs to another model" in left_out[2].message
    renamed = mine.merge(theirs.home, on_conflict="rename", suffix="-theirs")
    assert [(row.name, row.theirs, row.status) for row in renamed][2] == ("a-theirs", "a", "added")
    assert [info.name for info in mine.list()] == ["a", "both", "c_near", "a-theirs"]
    # It is known by its weights from now on, whatever it is called there.
    again = mine.merge(theirs.home)
    assert [(row.name, row.status) for row in again][2] == ("a-theirs", "unchanged")
    with pytest.raises(UsageError, match="'ask'"):
        mine.merge(theirs.home, on_conflict="ask")


def test_a_new_name_that_is_taken_too_is_refused(homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, theirs = homes
    theirs.rename("d", "a")
    theirs.rename("c_near", "a-2")
    with pytest.raises(ConflictError, match="'a' and 'a-2' are both taken"):
        mine.merge(theirs.home, on_conflict="rename")
    assert len(mine.list()) == 2


@pytest.mark.wide
def test_the_same_model_under_another_name_is_not_taken_twice(homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, theirs = homes
    theirs.rename("both", "something-else")
    done = mine.merge(theirs.home)
    assert [(row.name, row.status) for row in done if row.theirs == "something-else"] == [("both", "unchanged")]
    assert "something-else" not in [info.name for info in mine.list()]


@pytest.mark.wide
def test_only_shared_spaces_unless_more_is_asked_for(homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, theirs = homes
    theirs.init(methods=["saliency"], images=4, canvas=4, name="gradient_x_input-4")
    for name, seed in {"both": 2, "d": 3}.items():
        add(theirs, name, net(seed))
    assert "gradient_x_input-4" not in [info.name for info in mine.spaces()]
    mine.merge(theirs.home)
    assert len(mine.spaces()) == 2
    done = mine.merge(theirs.home, spaces="all")
    assert by_name(done) == {"c_near": "unchanged", "both": "completed", "d": "completed"}
    assert {info.name: info.n_models for info in mine.spaces()} == {
        "gradient_x_input": 4,
        "saliency": 4,
        "gradient_x_input-4": 2,
    }
    assert mine.spaces()[0].is_default
    assert all(check.ok for check in mine.verify(deep=True))
    with pytest.raises(NotFoundError, match="'nothing'"):
        mine.merge(theirs.home, spaces=["nothing"])


@pytest.mark.wide
def test_registries_without_a_common_space(homes: tuple[ModelSpace, ModelSpace], tmp_path: Path) -> None:
    mine, _ = homes
    other = fill(space(tmp_path / "other", methods=("saliency",), images=5), x=7)
    with pytest.raises(NotFoundError, match="no space in common") as caught:
        mine.merge(other.home)
    assert mine.spaces()[0].space_id in caught.value.message
    assert other.spaces()[0].space_id in caught.value.message
    # Its space is another one than ours of that name, and gets a name of its own.
    assert by_name(mine.merge(other.home, spaces="all")) == {"x": "added"}
    assert mine.spaces()[-1].name == f"saliency-{other.spaces()[0].space_id[:8]}"
    assert mine.affinity(mine.spaces()[-1].name).names == ("x",)


@pytest.mark.wide
def test_photographs_come_along_if_they_are_those_of_the_fingerprint(
    homes: tuple[ModelSpace, ModelSpace], tmp_path: Path
) -> None:
    from PIL import Image

    mine, _ = homes
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    other = fill(ModelSpace.create(tmp_path / "other", probes=folder, canvas=4), x=7)
    assert by_name(mine.merge(other.home, spaces="all")) == {"x": "added"}
    np.testing.assert_array_equal(mine.probe_images("photographs", [3]), other.probe_images("photographs", [3]))
    add(mine, "y", net(8))
    assert mine.spaces()[-1].n_models == 2
    fresh = space(tmp_path / "fresh")
    spoil(other, "UPDATE main.probe_images SET png = (SELECT any_value(png) FROM main.probe_images WHERE k = 0)")
    with pytest.raises(ProbeError, match="do not match its fingerprint"):
        fresh.merge(other.home, spaces="all")
    assert len(fresh.spaces()) == 3


@pytest.mark.wide
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM main.maps WHERE model_id = 3", "cover 0 of 6"),
        ("UPDATE main.maps SET codes = codes[:10] WHERE model_id = 3", "have the wrong size"),
        ("UPDATE main.maps SET n_images = 5 WHERE model_id = 3", "have the wrong size"),
        ("UPDATE main.maps SET first_image = 1 WHERE model_id = 3", "gap at image 0"),
        # The bytes of not-a-number in float32, in the maps (32 bits) and in their scales.
        (
            "UPDATE main.maps SET codes = unhex(repeat('0000C07F', octet_length(codes) // 4)) WHERE model_id = 3",
            "finite",
        ),
        (
            "UPDATE main.maps SET scales = unhex(repeat('0000C07F', octet_length(scales) // 4)) WHERE model_id = 3",
            "finite",
        ),
        ("UPDATE main.maps SET codes = unhex(repeat('00000000', octet_length(codes) // 4)) WHERE model_id = 3", "zero"),
        ("UPDATE main.models SET name = '../evil' WHERE model_id = 3", "can't be the name"),
    ],
)
def test_what_is_damaged_is_refused_and_named_and_the_others_come_in(
    homes: tuple[ModelSpace, ModelSpace], statement: str, words: str
) -> None:
    mine, theirs = homes
    spoil(theirs, statement)
    done = mine.merge(theirs.home)
    assert [row.status for row in done] == ["added", "unchanged", "refused"]
    assert words in done[2].message
    assert [info.name for info in mine.list()] == ["a", "both", "c_near"]
    assert all(check.ok for check in mine.verify(deep=True))
    result = CliRunner().invoke(app, ["merge", str(theirs.home), "--home", str(mine.home)])
    assert result.exit_code == 1
    assert "1 refused" in result.stderr
    assert "refused" in result.stdout


def test_the_same_folder_and_no_folder(homes: tuple[ModelSpace, ModelSpace], tmp_path: Path) -> None:
    mine, _ = homes
    with pytest.raises(UsageError, match="this registry itself"):
        mine.merge(mine.home / REGISTRY)
    with pytest.raises(NotFoundError, match=r"no registry\.duckdb"):
        mine.merge(tmp_path)


@pytest.mark.wide
def test_an_interruption_leaves_whole_models(
    homes: tuple[ModelSpace, ModelSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelspace.verbs import merge as merging

    mine, theirs = homes
    real: Callable[..., object] = merging.store
    calls = []

    def store(*words: object) -> object:
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*words)

    monkeypatch.setattr(merging, "store", store)
    with pytest.raises(KeyboardInterrupt):
        mine.merge(theirs.home)
    assert [info.name for info in mine.list()] == ["a", "both", "c_near"]
    assert all(check.ok for check in mine.verify(deep=True))
    assert by_name(mine.merge(theirs.home))["d"] == "added"


@pytest.mark.wide
def test_kernels_come_in_too_and_blends_follow_from_them(tmp_path: Path) -> None:
    options = {"methods": ("dds", "gradient_x_input"), "bits": 16}
    mine, theirs, whole = (space(tmp_path / name, **options) for name in ("mine", "theirs", "whole"))
    for where in (mine, whole):
        spec = {info.name: info.space_id for info in where.spaces()}
        assert set(spec) == {"dds", "gradient_x_input"}
        create_blend(where.path, "both", {"dds": 0.5, "gradient_x_input": 0.5}, PLAIN, False)
    fill(mine, a=1)
    fill(theirs, b=2, c=3)
    fill(whole, a=1, b=2, c=3)
    (first, _) = mine.merge(theirs.home)
    assert set(first.spaces) == {"dds", "gradient_x_input", "both"}
    for name in ("dds", "gradient_x_input", "both"):
        assert mine.affinity(name).names == ("a", "b", "c")
        np.testing.assert_allclose(mine.affinity(name).matrix, whole.affinity(name).matrix, atol=1e-9)
    assert all(check.ok for check in mine.verify(deep=True))
    # The other way round: a blend of theirs is not a space to take.
    spoil(whole, "UPDATE main.maps SET codes = codes[:7] WHERE model_id = 2")
    assert by_name(theirs.merge(whole.home, spaces="all"))["a"] == "added"
    assert "both" not in [info.name for info in theirs.spaces()]
    fresh = space(tmp_path / "fresh", **options)
    assert by_name(fresh.merge(whole.home)) == {"a": "added", "b": "refused", "c": "added"}


def test_blocks_of_another_size_are_cut_anew() -> None:
    spec = SpaceSpec("s", "p", "saliency", 5, 4, bits=8)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (5, 16), dtype=np.uint8)
    scales = np.tile(np.array([0, 1], dtype="<f4"), (5, 1))
    apart = [
        MapBlock(0, 2, codes[:2].tobytes(), scales[:2].tobytes()),
        MapBlock(2, 3, codes[2:].tobytes(), scales[2:].tobytes()),
    ]
    (whole,) = MapSpace(spec).checked(apart)
    assert whole == MapBlock(0, 5, codes.tobytes(), scales.tobytes())


@pytest.mark.wide
def test_the_command(homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, theirs = homes
    words = ["merge", str(theirs.home), "--home", str(mine.home)]
    dry = CliRunner().invoke(app, [*words, "--dry-run", "--format", "json"])
    assert [row["status"] for row in json.loads(dry.stdout)] == ["would add", "unchanged", "would add"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "2 added, 1 unchanged" in result.stderr


@pytest.mark.wide
def test_spaces_on_every_kind_of_probe_set_are_taken_over(tmp_path: Path, homes: tuple[ModelSpace, ModelSpace]) -> None:
    """A kind of probe set that was missing in one place raised an AssertionError for yards."""
    pytest.importorskip("skimage")
    mine, _ = homes
    other = ModelSpace.create(tmp_path / "other", methods=("saliency",), images=2, canvas=8, probes="yards")
    other.init(probes="photographs", methods=("saliency",), images=2, canvas=8)
    other.init(probes="rooms", methods=("dds",), images=3)
    fill(other, new=9)
    merged = mine.merge(other.home, spaces="all")
    assert [(record.name, record.status) for record in merged] == [("new", "added")]
    assert {row.kind for row in mine.probe_sets()} == {"rooms", "yards", "photographs"}
    assert mine.nearest("new", space=merged[0].spaces[0]).space in merged[0].spaces


def test_a_rendered_set_of_another_version_is_refused(tmp_path: Path, homes: tuple[ModelSpace, ModelSpace]) -> None:
    mine, _ = homes
    other = fill(
        ModelSpace.create(tmp_path / "other", methods=("saliency",), images=2, canvas=8, probes="yards"), new=9
    )
    with duckdb.connect(str(other.path)) as db:
        db.execute("UPDATE probe_sets SET probe_id = repeat('0', 16)")
        db.execute("UPDATE spaces SET probe_id = repeat('0', 16)")
    with pytest.raises(ProbeError, match="rendered differently"):
        mine.merge(other.home, spaces="all")
