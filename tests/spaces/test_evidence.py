"""The chance that a neighbour is among the best: when there is one, and where it comes from."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest

from modelspace.home import INDEX, REGISTRY
from modelspace.registry import Registry
from modelspace.spaces import evidence
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking
from modelspace.workspace import ModelSpace

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import measure_confidence as script  # noqa: E402


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    home = tmp_path_factory.mktemp("evidence")
    shutil.copy(ROOT / REGISTRY, home)
    shutil.copytree(ROOT / INDEX, home / INDEX)
    return ModelSpace.open(home)


def test_a_chance_follows_from_score_and_rank(space: ModelSpace) -> None:
    ranking = space.nearest("rgb2depth", k=38)
    for row in ranking:
        x = (
            evidence.WEIGHTS.constant
            + evidence.WEIGHTS.score * row.score
            + evidence.WEIGHTS.log_rank * math.log(row.rank)
        )
        assert row.chance == pytest.approx(1 / (1 + math.exp(-x)))
        assert row.confidence == evidence.class_of(row.chance)
    chances = [row.chance or 0 for row in ranking]
    assert chances == sorted(chances, reverse=True)
    assert (ranking[0].confidence, ranking[-1].confidence) == ("high", "low")


def test_a_chance_needs_enough_sources_and_a_combined_ranking(space: ModelSpace) -> None:
    few = ", ".join(f"'{row.name}'" for row in space.nearest("rgb2depth", k=evidence.FEWEST))
    enough = space.nearest("rgb2depth", k=3, where=f"name IN ({few})")
    assert all(row.chance is not None for row in enough)
    few = ", ".join(f"'{row.name}'" for row in space.nearest("rgb2depth", k=evidence.FEWEST - 1))
    too_few = space.nearest("rgb2depth", k=3, where=f"name IN ({few})")
    assert {row.chance for row in too_few} == {None}
    assert [row.confidence for row in too_few] == [row.confidence for row in enough]
    for ranking in (
        space.nearest("rgb2depth", k=3, rerank="directed"),
        space.nearest("rgb2depth", k=3, space="saliency"),
    ):
        assert [(row.chance, row.confidence) for row in ranking] == [(None, "")] * 3


def test_the_weights_are_those_that_the_script_fits(space: ModelSpace) -> None:
    with Registry.open(space.path) as registry:
        row = registry.space("transfer").spec
        ids, matrix = score_matrix(registry, row, set(registry.model_ids(row.space_id)), Ranking.of(row))
        labels = registry.labels(ids)
    names = [labels[i].name for i in ids]
    fits = [
        script.Pairs.of(matrix, names, script.oracle_part(name, targets)) for name, targets in script.FITTED.items()
    ]
    assert script.fitted(fits) == pytest.approx(evidence.WEIGHTS, abs=2e-3)
    kept = script.Pairs.of(matrix, names, script.oracle_part("rooms-all", "kept"))
    assert script.error(kept.chances(), kept.best) < 0.05
