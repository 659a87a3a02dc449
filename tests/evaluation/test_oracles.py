"""Oracles: the shipped ones, CSV files, spellings of names, and agreement between seeds."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from modelspace.errors import ConflictError, DamagedError, NotFoundError, UsageError
from modelspace.evaluation import Oracle, available, load, oracles, splits
from modelspace.evaluation.names import SPELLINGS, match


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_oracle_loads_and_has_an_origin() -> None:
    assert "taskonomy" in available()
    for name, origin in available().items():
        oracle = load(name)
        assert oracle.name == name
        assert origin
        assert oracle.origin == origin
        assert np.isfinite(oracle.score).any(axis=1).all()


def test_published_order() -> None:
    oracle = load("taskonomy")
    assert (len(oracle.targets), len(oracle.sources)) == (18, 20)
    assert set(oracle.sources) - set(oracle.targets) == {"colorization", "inpainting_whole"}
    assert (np.isfinite(oracle.truth()).sum(axis=1) == 19).all()
    first = np.nanargmax(oracle.score, axis=1)
    assert oracle.sources[first[oracle.targets.index("curvature")]] == "rgb2sfnorm"


def test_the_published_order_is_that_of_the_16k_affinities() -> None:
    order, affinity = load("taskonomy"), load("taskonomy-affinity-16k")
    rows, columns = match(order.targets, affinity.targets), match(order.sources, affinity.sources)
    assert None not in rows + columns
    table = affinity.subset([r for r in rows if r], [c for c in columns if c])
    for ours, theirs in zip(order.truth(), table.truth(), strict=True):
        known = np.isfinite(ours)
        assert spearmanr(ours[known], theirs[known]).statistic == pytest.approx(1)


def test_rooms_are_complete_and_reliable() -> None:
    oracle = load("rooms")
    assert set(oracle.targets) == set(load("taskonomy").targets)
    assert set(oracle.sources) == set(load("taskonomy").sources)
    assert oracle.seed_losses is not None
    assert oracle.seed_losses.shape == (3, 18, 20)
    assert np.isfinite(oracle.seed_losses).all()
    reliability = oracle.reliability()
    assert reliability is not None
    assert reliability.spearman > 0.95
    # An encoder trained for the target itself is the best source, or nearly.
    self_scores = np.array(
        [row[oracle.sources.index(name)] for name, row in zip(oracle.targets, oracle.score, strict=True)]
    )
    assert (np.sum(oracle.score > self_scores[:, None], axis=1) <= 2).mean() > 0.8
    everything = load("rooms-all")
    assert set(everything.sources) >= set(oracle.sources)
    wins, affinity = load("rooms-wins"), load("rooms-affinity")
    assert set(wins.sources) == set(affinity.sources) == set(everything.sources)
    assert wins.score.mean(axis=1) == pytest.approx(0.5, abs=1e-4)
    assert affinity.score.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_yards_are_complete_and_reliable() -> None:
    oracle, rooms = load("yards"), load("rooms")
    assert (oracle.targets, oracle.sources) == (rooms.targets, rooms.sources)
    assert oracle.seed_losses is not None
    assert oracle.seed_losses.shape == (3, 18, 20)
    assert np.isfinite(oracle.seed_losses).all()
    reliability = oracle.reliability()
    assert reliability is not None
    assert reliability.spearman > 0.9
    # The losses differ from those in rooms, but their orders are correlated.
    assert oracle.loss is not None
    assert rooms.loss is not None
    assert np.isclose(oracle.loss, rooms.loss, rtol=1e-3).mean() < 0.02
    agreement = [
        spearmanr(a[np.isfinite(a)], b[np.isfinite(b)]).statistic
        for a, b in zip(oracle.truth(), rooms.truth(), strict=True)
    ]
    assert np.mean(agreement) > 0.5
    assert load("yards-all").sources == load("rooms-all").sources


@pytest.mark.parametrize("world", [name for name in ("yards", "streets") if name in available()])
def test_other_worlds_are_measured_like_the_rooms(world: str) -> None:
    oracle, rooms = load(world), load("rooms")
    assert (oracle.targets, oracle.sources) == (rooms.targets, rooms.sources)
    assert oracle.seed_losses is not None
    assert oracle.seed_losses.shape == (3, 18, 20)
    assert np.isfinite(oracle.seed_losses).all()
    assert oracle.weights == rooms.weights
    everything = load(f"{world}-all")
    assert set(oracle.sources) <= set(everything.sources) <= set(load("rooms-all").sources)
    wins, affinity = load(f"{world}-wins"), load(f"{world}-affinity")
    assert set(wins.sources) == set(affinity.sources) == set(everything.sources)
    assert wins.score.mean(axis=1) == pytest.approx(0.5, abs=1e-4)
    assert affinity.score.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_the_world_that_options_are_chosen_on_was_measured_on_the_targets_for_choosing_alone() -> None:
    chosen = splits.split(load("rooms").targets, splits.SELECTION)
    for name in ("repainted", "repainted-all"):
        assert load(name).targets == chosen
    oracle = load("repainted-all")
    assert oracle.sources == load("rooms-all").sources
    assert load("repainted").sources == load("rooms").sources
    assert oracle.seed_losses is not None
    assert np.isfinite(oracle.seed_losses).all()


def test_streets_are_an_oracle_as_soon_as_they_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(oracles, "_data", tmp_path.joinpath)
    oracles._weights_of_zoo.cache_clear()
    assert "streets" not in available()
    with pytest.raises(NotFoundError, match="oracle streets has no data in this installation"):
        load("streets")
    rows = "reshade,edge2d,0,0.5\nreshade,edge2d,1,0.7\nreshade,vgg16_objects,0,0.9\nreshade,vgg16_objects,1,0.9\n"
    write(tmp_path / "streets_transfer.csv", f"target,source,seed,loss\n{rows}")
    write(tmp_path / "rooms_baselines.json", '{"names": ["edge2d"], "weights": ["abc"]}')
    try:
        assert set(available()) >= {"streets", "streets-all"}
        assert load("streets").sources == ("edge2d",)
        assert load("streets-all").sources == ("edge2d", "vgg16_objects")
        assert load("streets-all").score.tolist() == [[pytest.approx(-0.6), pytest.approx(-0.9)]]
        assert load("streets").weights == {"edge2d": "abc"}
    finally:
        oracles._weights_of_zoo.cache_clear()


def test_the_row_named_self_is_not_a_source() -> None:
    assert "self" not in load("taskonomy-affinity").sources
    assert "class_places" not in load("taskonomy-affinity").targets
    assert "class_places" in load("taskonomy-affinity-16k").targets


def test_self_pairs_are_excluded_by_default() -> None:
    oracle = load("taskonomy-affinity")
    pair = oracle.targets.index("reshade"), oracle.sources.index("reshade")
    assert math.isnan(oracle.truth()[pair])
    assert oracle.truth(with_self=True)[pair] == pytest.approx(0.05218586314913473)
    assert oracle.self_pairs().sum() == len(set(oracle.targets) & set(oracle.sources))


def test_scores_from_a_file(tmp_path: Path) -> None:
    text = "target,source,score,note\na,b,2,x\na,c,,y\nb,a,-1e-3,\nb,c,3,\n"
    oracle = load(write(tmp_path / "mine.csv", text))
    assert (oracle.name, oracle.targets, oracle.sources) == ("mine", ("a", "b"), ("b", "c", "a"))
    assert oracle.score[0, 0] == 2
    assert np.isnan(oracle.score[0, 1:]).all()
    assert oracle.loss is None
    assert np.array_equal(oracle.gain(), oracle.truth(), equal_nan=True)


def test_losses_and_ranks_from_a_file_are_negated(tmp_path: Path) -> None:
    ranks = load(write(tmp_path / "r.csv", "target,source,rank\na,b,1\na,c,2\n"))
    assert ranks.score.tolist() == [[-1, -2]]
    losses = load(write(tmp_path / "l.csv", "\ufefftarget,source,seed,loss\na,b,0,1\na,b,1,3\na,c,0,5\na,c,1,\n"))
    assert losses.score.tolist() == [[-2, -5]]
    assert losses.loss is not None
    assert losses.loss.tolist() == [[2, 5]]
    assert losses.gain().tolist() == [[-2, -5]]
    assert losses.seed_losses is not None
    assert losses.seed_losses.shape == (2, 1, 2)
    assert math.isnan(losses.seed_losses[1, 0, 1])
    assert load(tmp_path / "l.csv", column="loss").score.tolist() == [[-2, -5]]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("target,source\na,b\n", UsageError, "no column score, loss or rank"),
        ("source,score\nb,1\n", UsageError, "no column target"),
        ("target,source,score\na,b,1\na,b,2\n", UsageError, "line 3: a from b occurs twice"),
        ("target,source,score\na,b,good\n", DamagedError, "line 2: 'good' is not a finite number"),
        ("target,source,score\na,b,inf\n", DamagedError, "not a finite number"),
        ("target,source,score\na,b,\n", UsageError, "has no measurement"),
        ("", UsageError, "no column target"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(write(tmp_path / "bad.csv", text))


def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="taskonomy-affinity-16k"):
        load("taskonomi")


def test_tables_of_an_oracle_must_have_equal_shape() -> None:
    with pytest.raises(UsageError, match="names a source twice"):
        Oracle("x", ("a",), ("b", "b"), np.zeros((1, 2)))
    with pytest.raises(UsageError, match="score table"):
        Oracle("x", ("a",), ("b", "c"), np.zeros((2, 2)))
    with pytest.raises(UsageError, match="seed losses"):
        Oracle("x", ("a",), ("b", "c"), np.zeros((1, 2)), seed_losses=np.zeros((3, 2, 2)))


def noisy_oracle(n_seeds: int = 3, noise: float = 0.5) -> Oracle:
    rng = np.random.default_rng(0)
    names = tuple("abcdefgh")
    losses = rng.normal(size=(6, 8)) + noise * rng.normal(size=(n_seeds, 6, 8))
    return Oracle("noisy", names[:6], names, -losses.mean(0), losses.mean(0), losses)


def test_reliability_by_definition() -> None:
    oracle = noisy_oracle()
    result = oracle.reliability(n_relevant=3)
    assert result is not None
    assert oracle.seed_losses is not None
    rhos, taus, hits = [], [], []
    for a, b in itertools.combinations(range(3), 2):
        for t in range(6):
            others = [s for s in range(8) if s != t]
            x, y = (oracle.seed_losses[seed, t, others] for seed in (a, b))
            rhos.append(spearmanr(x, y).statistic)
            taus.append(kendalltau(x, y).statistic)
            hits.append(len(set(np.argsort(x)[:4]) & set(np.argsort(y)[:3])) / 4)
            hits.append(len(set(np.argsort(y)[:4]) & set(np.argsort(x)[:3])) / 4)
    r = np.mean(rhos)
    assert result.spearman == pytest.approx(r)
    assert result.kendall == pytest.approx(np.mean(taus))
    assert result.precision[3] == pytest.approx(np.mean(hits))
    assert result.spearman_of_mean == pytest.approx(3 * r / (1 + 2 * r))
    assert result.n_seeds == 3


def test_reliability_extremes() -> None:
    perfect = noisy_oracle(noise=0.0).reliability()
    assert perfect is not None
    assert perfect.spearman == pytest.approx(1)
    assert perfect.precision[4] == pytest.approx(1)
    assert noisy_oracle(n_seeds=1).reliability() is None
    assert load("taskonomy").reliability() is None


def test_spearman_brown_predicts_the_agreement_of_means() -> None:
    rng = np.random.default_rng(1)
    names = tuple(map(str, range(40)))
    truth = rng.normal(size=(30, 40))
    losses = truth + rng.normal(size=(6, 30, 40))
    three = Oracle("x", names[:30], names, truth, truth, losses[:3]).reliability()
    measured = [spearmanr(a, b).statistic for a, b in zip(losses[:3].mean(0), losses[3:].mean(0), strict=True)]
    assert three is not None
    assert three.spearman_of_mean == pytest.approx(np.mean(measured), abs=0.05)


def test_subset_applies_to_all_tables() -> None:
    oracle = noisy_oracle()
    part = oracle.subset(("c", "a"), ("h", "b", "a"))
    assert oracle.loss is not None
    assert oracle.seed_losses is not None
    assert part.loss is not None
    assert part.seed_losses is not None
    assert part.score[0, 1] == oracle.score[2, 1]
    assert part.loss[1, 0] == oracle.loss[0, 7]
    assert part.seed_losses[2, 1, 2] == oracle.seed_losses[2, 0, 0]


def test_names() -> None:
    assert match(["inpainting_whole", "segmentsemantic"], ["impainting_whole", "segmentsemantic_rb"]) == [
        "impainting_whole",
        "segmentsemantic_rb",
    ]
    assert match(["depth", "rgb2depth"], ["rgb2depth", "depth"]) == ["rgb2depth", "depth"][::-1]
    assert match(["jigsaw"], ["reshade"]) == [None]
    with pytest.raises(ConflictError, match="normal or normals"):
        match(["rgb2sfnorm"], ["normal", "normals"])
    spellings = [name for group in SPELLINGS for name in group]
    assert len(set(spellings)) == len(spellings)
    assert [group[0] for group in SPELLINGS] == sorted(load("taskonomy").sources)
