"""Pictures, pages and evaluations of 0 to 7 models, with copies, ties, one group or none: drawn, or one sentence.

Only the sizes at which the code branches are drawn in every way.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shelf
import small_spaces
from picture_space import FakeFit

from modelspace import evaluation, probes
from modelspace.cli.formats import to_csv, to_json
from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import ProbeRow, Registry
from modelspace.spaces import affinity
from modelspace.spaces.kinds import BlendSpace
from modelspace.verbs.evaluate import COLUMNS
from modelspace.verbs.pictures.curves import curves_picture, read_curves
from modelspace.workspace import ModelSpace

NAMES = ("curvature", "denoise", "edge2d", "edge3d", "reshade", "rgb2depth", "room_layout")

#: How a model's maps and kernels are drawn, by number: equal numbers are exact copies. And the groups.
KINDS: dict[str, tuple[tuple[int, ...], tuple[str | None, ...]]] = {
    "mixed": ((0, 1, 2, 3, 4, 5, 6), ("2D", "2D", None, "3D", None, "3D", "x")),
    "pairs of copies": ((0, 0, 1, 1, 0, 2, 3), ("2D",) * 7),
    "all copies": ((0,) * 7, (None,) * 7),
}


ROOMS = probes.rooms(n_images=small_spaces.N, size=16, seed=1)
ROW = ProbeRow(ROOMS.probe_id, ROOMS.name, ROOMS.kind, ROOMS.spec, None, ROOMS.size)
MAPS = replace(small_spaces.MAPS, probe_id=ROW.probe_id)
KERNELS = replace(small_spaces.KERNELS, probe_id=ROW.probe_id)
BLEND = BlendSpace.of("both", [(MAPS, 1.0), (KERNELS, 3.0)], "none", "none")


def create(home: Path, kind: str, n: int) -> ModelSpace:
    """A registry of n models, on probe images that can be drawn."""
    Registry.create(home / "registry.duckdb")
    with Registry.open(home / "registry.duckdb", write=True) as registry:
        with registry.transaction():
            registry.add_probe_set(ROW, None)
            for spec in (BLEND, MAPS, KERNELS):
                registry.add_space(spec, default=False)
        for name, number, group in list(zip(NAMES, *KINDS[kind], strict=True))[:n]:
            fields: dict[str, Any] = {"tags": {"group": group}} if group else {"task": None}
            maps, kernel = small_spaces.blocks_of(number).values()
            with registry.transaction():
                model_id = registry.add_model(shelf.card(name, **fields))
                for spec in (MAPS, KERNELS, BLEND):
                    affinity.append(registry, spec, model_id, {MAPS.space_id: maps, KERNELS.space_id: kernel}, {})
    return ModelSpace.open(home)


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], ModelSpace]:
    """Registries by kind and number of models, each created once."""
    return functools.cache(lambda kind, n: create(tmp_path_factory.mktemp("few"), kind, n))


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No UMAP, whose import takes seconds, and few resamples; no warning of numpy or matplotlib."""
    FakeFit(monkeypatch)
    for module in ("figures", "pages"):
        monkeypatch.setattr(f"modelspace.verbs.pictures.{module}.RESAMPLES", 5)
    warnings.simplefilter("error")


VERBS: dict[str, tuple[str, Callable[[ModelSpace], Any]]] = {
    "map": ("m.svg", lambda space: space.map(store=False)),
    "tree": ("t.svg", lambda space: space.tree()),
    "heatmap": ("h.svg", lambda space: space.heatmap()),
    "gallery": ("g.svg", lambda space: space.gallery(images=[0])),
    "atlas": ("a.html", lambda space: space.atlas(store=False)),
    "report": ("r.html", lambda space: space.report(store=False)),
}
CASES: list[Any] = [pytest.param("mixed", n, marks=[pytest.mark.long] if n in (4, 6) else []) for n in range(8)]
CASES += [("pairs of copies", 3), ("all copies", 2), ("all copies", 4)]


@pytest.mark.first(1)
@pytest.mark.sampled(4)
@pytest.mark.parametrize(("kind", "n"), CASES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_picture_or_one_sentence(
    verb: str, kind: str, n: int, spaces: Callable[[str, int], ModelSpace], tmp_path: Path
) -> None:
    name, draw = VERBS[verb]
    least = 1 if verb == "gallery" else 2
    if n < least:
        article = "an" if verb == "atlas" else "a"
        with pytest.raises(NotFoundError, match=rf"holds {n} models?, but {article} {verb} needs {least} or more"):
            draw(spaces(kind, n))
        return
    draw(spaces(kind, n)).save(tmp_path / name)
    text = (tmp_path / name).read_text("utf-8")
    # A picture of paths holds no text; a page names each model.
    assert len(text) > 1000
    assert name.endswith(".svg") or all(model in text for model in NAMES[:n])


@pytest.mark.parametrize("method", ["single", "complete", "ward"])
@pytest.mark.parametrize(("kind", "n"), [("mixed", 2), ("mixed", 3), ("all copies", 4)])
def test_trees_by_every_linkage(method: str, kind: str, n: int, spaces: Callable[[str, int], ModelSpace]) -> None:
    tree = spaces(kind, n).clusters(method=method).tree
    assert tree.n_leaves == n


@pytest.mark.wide
def test_the_report_of_two_to_five_models_has_one_neighbour_each(spaces: Callable[[str, int], ModelSpace]) -> None:
    """The agreement with measured transfer once asked for five sources where there were fewer."""
    for n in (3, 4, 5):
        space = spaces("mixed", n)
        own = evaluation.Oracle("own", NAMES[:n], NAMES[:n], np.arange(n * n, dtype=float).reshape(n, n))
        outcome = space.evaluate(oracle=own)
        assert outcome.ks == tuple(range(1, n))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "load", lambda name, own=own: own)
            page = space.report(store=False).html()
        assert "Agreement with measured transfer" in page
        assert f"{n} targets" in page


@pytest.mark.first(6)
@pytest.mark.parametrize(("kind", "n"), CASES)
def test_an_evaluation_is_read_by_curves_or_is_one_sentence(
    kind: str, n: int, spaces: Callable[[str, int], ModelSpace], tmp_path: Path
) -> None:
    space = spaces(kind, n)
    truth = np.add.outer(np.arange(7.0), np.arange(7.0) % 3)
    own = evaluation.Oracle("own", NAMES, NAMES, truth)
    if n < 3:
        words = "only 0 targets of oracle own have two or more sources" if n else "holds no model"
        with pytest.raises((UsageError, NotFoundError), match=words):
            space.evaluate(oracle=own, space="all")
        return
    outcome = space.evaluate(oracle=own, space="all")
    assert len(outcome.sources) == n
    assert float(outcome.row("random").summary["precision"].mean[0]) <= 1 / 2
    for figure in ("spearman", "kendall"):
        assert np.isfinite(outcome.row("both").per_target[figure]).all()
    assert "| both |" in outcome.to_markdown()
    (tmp_path / "ev.json").write_text(to_json(outcome.to_dict()), "utf-8")
    (tmp_path / "ev.csv").write_text(to_csv(COLUMNS, outcome.to_rows()), "utf-8")
    assert read_curves(tmp_path / "ev.json") == read_curves(tmp_path / "ev.csv")
    if (kind, n) in (("mixed", 3), ("all copies", 4)):
        curves_picture(tmp_path / "ev.json").save(tmp_path / "curves.svg")
        assert (tmp_path / "curves.svg").stat().st_size > 1000
