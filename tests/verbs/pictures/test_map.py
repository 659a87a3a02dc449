"""The map of a registry: it does not move, it is stored if possible, and drawn in any case."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from picture_space import NAMES, FakeFit, make
from tiny import add, net
from unprivileged_reader import open_folder, unprivileged

from modelspace.errors import NotFoundError, UsageError
from modelspace.verbs.pictures import layout as layouts
from modelspace.verbs.pictures.layout import layout
from modelspace.verbs.pictures.selection import Selection
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("map")).home


@pytest.fixture
def space(filled: Path, tmp_path: Path) -> ModelSpace:
    shutil.copytree(filled, tmp_path / "home")
    return ModelSpace.open(tmp_path / "home")


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> FakeFit:
    return FakeFit(monkeypatch)


def places(space: ModelSpace) -> dict[str, tuple[float, float]]:
    return {name: (x, y) for name, x, y in space.sql("SELECT name, x, y FROM places").rows}


@pytest.mark.wide
def test_a_map_is_made_once(space: ModelSpace, fit: FakeFit) -> None:
    first = space.map()
    assert first.facts["layout"].origin == "fitted"
    assert first.facts["layout"].stored
    before = places(space)
    assert list(before) == NAMES
    second = space.map()
    assert second.facts["layout"].origin == "stored"
    assert fit.calls == 1
    assert places(space) == before
    assert second.to_bytes() == first.to_bytes()
    assert second.facts["recall"].k == 5
    assert str(second.facts["recall"]) in " ".join(text.get_text() for text in second.texts)


@pytest.mark.wide
def test_it_stays_where_it_was_when_a_model_is_added(space: ModelSpace, fit: FakeFit) -> None:
    space.map()
    before = places(space)
    add(space, "e", net(5))
    layout = space.map().facts["layout"]
    assert (layout.origin, layout.n_new, layout.stored, fit.calls) == ("placed", 1, True, 1)
    after = places(space)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"e"}
    assert space.sql("SELECT name FROM places WHERE placed").rows == [("e",)]
    space.map(refit=True)
    assert fit.calls == 2
    moved = places(space)
    assert all(moved[name] != after[name] for name in after)
    assert space.sql("SELECT count(*) FROM places WHERE placed").rows == [(0,)]


@pytest.mark.wide
def test_a_removed_model_leaves_the_map_and_the_others_stay(space: ModelSpace, fit: FakeFit) -> None:
    space.map()
    before = places(space)
    space.remove("b")
    before.pop("b")
    assert places(space) == before
    assert space.map().facts["layout"].origin == "stored"
    assert all(check.ok for check in space.verify())


def test_each_space_has_its_own_map(space: ModelSpace, fit: FakeFit) -> None:
    space.map()
    space.map(space="saliency")
    assert fit.calls == 2
    rows = space.sql("SELECT space, count(*) FROM places GROUP BY space ORDER BY space").rows
    assert rows == [("gradient_x_input", 6), ("saliency", 6)]


def test_nothing_is_stored_where_the_user_says_so(space: ModelSpace, fit: FakeFit) -> None:
    content = space.path.read_bytes()
    picture = space.map(store=False)
    assert not picture.facts["layout"].stored
    assert "not stored" in picture.facts["notes"][-1]
    assert space.path.read_bytes() == content


def test_a_read_only_folder_has_maps_too(space: ModelSpace, fit: FakeFit) -> None:
    with open_folder() as folder:
        shutil.copytree(space.home, folder / "shipped")
        for file in [folder / "shipped", *(folder / "shipped").rglob("*")]:
            file.chmod(0o755 if file.is_dir() else 0o644)
        content = (folder / "shipped" / "registry.duckdb").read_bytes()
        with unprivileged():
            picture = ModelSpace.open(folder / "shipped").map()
        assert picture.facts["layout"].origin == "fitted"
        assert "not stored" in picture.facts["notes"][-1]
        assert (folder / "shipped" / "registry.duckdb").read_bytes() == content


def test_a_map_that_another_process_stored_meanwhile_wins(
    space: ModelSpace, fit: FakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, raced = layouts._store, []

    def store(*args: object) -> bool:
        if not raced:
            raced.append(True)
            layout(space.path)
            raced.append(places(space))
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(layouts, "_store", store)
    assert layout(space.path).origin == "stored"
    assert places(space) == raced[1]


def test_where_draws_fewer_and_moves_nobody(space: ModelSpace, fit: FakeFit) -> None:
    picture = space.map(where="task IN ('task a', 'task b')")
    assert picture.facts["models"] == 4
    assert picture.facts["recall"].k == 3
    assert len(places(space)) == 6
    before = places(space)
    space.map()
    assert places(space) == before


@pytest.mark.wide
def test_many_latecomers_are_remarked(space: ModelSpace, fit: FakeFit) -> None:
    for name in NAMES[1:]:
        space.remove(name)
    add(space, "z", net(9))
    space.map()
    for number in range(3):
        add(space, f"e{number}", net(10 + number))
    assert "`space.map(refit=True)`" in space.map().facts["notes"][0]
    assert "`space.map(refit=True)`" in space.map().facts["notes"][0]


@pytest.mark.wide
def test_groups(space: ModelSpace, fit: FakeFit) -> None:
    def legend(**options: str) -> str:
        return " ".join(text.get_text() for text in space.map(**options).findobj() if hasattr(text, "get_text"))

    assert "2D (2)" in legend()  # the tag
    assert "no group" in legend()
    assert "task a (2)" in legend(group_by="task")
    assert "2D" not in legend(where="name IN ('c', 'd')")  # nobody has the tag: the task
    with pytest.raises(UsageError, match="no column or tag 'grup'") as caught:
        space.map(group_by="grup")
    assert "group" in caught.value.hint


@pytest.mark.wide
def test_errors_say_what_to_do(space: ModelSpace, fit: FakeFit) -> None:
    with pytest.raises(NotFoundError, match="no space 'salience'") as caught:
        space.map(space="salience")
    assert "saliency" in caught.value.hint
    with pytest.raises(NotFoundError, match=r"1 model of the space .* meets the condition") as caught:
        space.map(where="name = 'a'")
    assert "`where=`" in caught.value.hint
    for name in NAMES[1:]:
        space.remove(name)
    for verb in (space.map, space.tree, space.heatmap, space.atlas, space.report):
        with pytest.raises(NotFoundError, match="holds 1 model") as caught:
            verb()
        assert "`space.add(model)`" in caught.value.hint
    assert fit.calls == 0


@pytest.mark.wide
@pytest.mark.slow
def test_umap_lays_out_families_together(space: ModelSpace) -> None:
    picture = space.map(seed=1)
    layout = picture.facts["layout"]
    assert layout.projection.parameters["method"] == "umap"
    assert layout.projection.seed == 1
    assert np.isfinite(layout.projection.coordinates).all()
    assert space.map().facts["layout"].projection.seed == 1


def test_old_names_of_a_layout_warn(space: ModelSpace) -> None:
    new = space.map().facts["layout"]
    with pytest.warns(DeprecationWarning, match=r"Layout\.made is now .*Layout\.origin"):
        assert new.made == new.origin
    with pytest.warns(DeprecationWarning, match=r"Layout\.map is now .*Layout\.projection"):
        assert new.map is new.projection


def caption_of(space: ModelSpace, where: str | None = None) -> str:
    (text,) = [text.get_text() for text in space.map(where=where, store=False).texts if text.get_gid() == "caption"]
    return str(text)


@pytest.mark.wide
def test_the_caption_names_space_method_probes_and_a_date_that_can_be_fixed(
    space: ModelSpace, fit: FakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    (row,) = [row for row in space.spaces() if row.is_default]
    source = f"Space {row.name}: {row.method}; {row.n_images} probe images of {row.probes}"
    assert caption_of(space) == f"{source}; 6 models; drawn 2026-01-01"
    assert caption_of(space, "name < 'b'") == f"{source}; models where name < 'b'; 2 models; drawn 2026-01-01"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        space.map()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    days = {datetime.now(UTC).date().isoformat() for _ in range(2)}
    assert caption_of(space).rpartition("drawn ")[2] in days | {datetime.now(UTC).date().isoformat()}


@pytest.mark.parametrize(
    ("values", "colours"),
    [
        (["2019", "2020", None], (2019.0, 2020.0, None)),
        (["2019", "newer", None], ("2019", "newer", None)),
        (["1e3", "nan", "2"], ("1e3", "nan", "2")),
        ([None, None, None], (None, None, None)),
    ],
)
def test_a_tag_whose_values_are_all_numbers_is_coloured_as_numbers(
    values: list[str | None], colours: tuple[object, ...]
) -> None:
    models = [SimpleNamespace(card=SimpleNamespace(tags={} if value is None else {"year": value})) for value in values]
    selection = Selection(None, tuple(models), tuple(values), "year")  # type: ignore[arg-type]
    assert selection.colours == colours


def test_numbers_of_a_column_are_a_scale(space: ModelSpace, fit: FakeFit) -> None:
    texts = [text.get_text() for text in space.map(group_by="seconds", store=False).texts]
    assert texts[0] == "seconds"
    assert "scale" in [axes.get_label() for axes in space.map(group_by="seconds", store=False).axes]
    assert "scale" not in [axes.get_label() for axes in space.map(group_by="parameters", store=False).axes], "all equal"
