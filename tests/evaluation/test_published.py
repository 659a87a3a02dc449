"""Published accuracies: what the package holds, which pairs count, and the figures that others reported of them."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import weightedtau

from modelspace.errors import ConflictError, DamagedError, NotFoundError, UsageError
from modelspace.evaluation import Oracle, available, baselines, evaluate, load, metrics, published
from modelspace.evaluation.comparison import STATIC, STATIC_BY_SCORE

NAMES = tuple(published.tables())

#: Reported mean weighted Kendall of models ordered by their mean rank on the other targets, and whether the pairs of a
#: model with its own data set were counted: they were where nothing but a model's name tells them.
REPORTED = {
    "sfda-cnn": (0.837, False),
    "sfda-selfsup": (0.685, False),
    "emms-vit": (0.777, False),
    "modelspider-66x7": (0.701, False),
    "tll-cnn": (0.680, False),
    "transfergraph-vtab1k": (0.337, True),
    "transfergraph-records": (0.523, True),
    "parc": (0.726, False),
    "parc-controlled": (0.688, False),
}


def slow_static(truth: np.ndarray) -> np.ndarray:
    """Minus the mean relative rank on the other targets, pair by pair; -9 if no other target has the source."""
    result = np.full(truth.shape, np.nan)
    for row, column in np.argwhere(np.isfinite(truth)):
        places = []
        for other, scores in enumerate(truth):
            if other == row or math.isnan(scores[column]):
                continue
            others = [score for score in scores if not math.isnan(score)]
            better = sum(score > scores[column] for score in others)
            equal = sum(score == scores[column] for score in others) - 1
            places.append((better + equal / 2) / (len(others) - 1 or 1))
        result[row, column] = round(-sum(places) / len(places), 12) if places else -9.0
    return result


def test_the_data_is_small_and_every_table_has_its_origin() -> None:
    assert sum(path.stat().st_size for path in published.folder().iterdir()) < 350_000
    assert len(NAMES) == 13
    for name, table in published.tables().items():
        assert table.origin.startswith("github.com/")
        assert table.commit
        assert table.licence
        assert table.unit in ("percent", "share")
        assert available()[name] == f"{table.title}; {table.source}"


@pytest.mark.parametrize("name", NAMES)
def test_the_index_counts_what_the_file_holds(name: str) -> None:
    table, oracle = published.tables()[name], load(name)
    rows = published.measurements(table)
    assert (table.targets, table.models) == oracle.score.shape
    assert table.measurements == len(rows) == len({(row.target, row.source) for row in rows})
    assert np.isfinite(oracle.score).sum() == table.measurements
    assert (np.nanmin(oracle.score) >= 0) & (np.nanmax(oracle.score) <= 100)
    assert np.nanmedian(oracle.score) > 10, "percent, not shares"
    assert oracle.own is not None
    assert oracle.own.sum() == table.own
    assert oracle.is_accuracy


@pytest.mark.first(1)
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", REPORTED)
def test_the_static_order_reaches_what_was_reported(name: str) -> None:
    reported, with_self = REPORTED[name]
    truth = load(name).truth(with_self)
    taus = [
        weightedtau(s[np.isfinite(t)], t[np.isfinite(t)]).statistic
        for s, t in zip(slow_static(truth), truth, strict=True)
    ]
    assert np.mean(taus) == pytest.approx(reported, abs=0.01)
    if not with_self:
        row = evaluate({}, load(name)).row(STATIC)
        assert row.summary["weighted_kendall"].mean == pytest.approx(np.mean(taus), abs=1e-9)


def test_methods_that_come_along_reach_what_was_reported() -> None:
    outcome = evaluate({}, load("tll-cnn"))
    # 0.687 with the column as TLL prints it, which on DTD is a copy of LogME's.
    assert outcome.row("NCE (published)").summary["weighted_kendall"].mean == pytest.approx(0.659, abs=0.001)
    assert outcome.row("LogME (published)").summary["weighted_kendall"].mean == pytest.approx(0.670, abs=0.001)
    assert len([row for row in outcome.rows if row.method.endswith("(published)")]) == 9
    assert outcome.reported == {"Model Spider": 0.8}
    oracle = load("tll-cnn")
    row = oracle.targets.index("DTD")
    assert (oracle.methods["NCE"][row] < 0).all()
    assert not (oracle.methods["NCE"] == oracle.methods["LogME"]).any()


def test_names_of_the_same_figures_share_one_table() -> None:
    whole = load("sfda-cnn")
    for name in ("ncti-cnn", "emms-cnn"):
        assert published.tables()[name].part_of == "sfda-cnn"
        assert np.array_equal(load(name).score, whole.score)
        assert load(name).origin != whole.origin
    part, whole = load("sfda-selfsup"), load("ncti-selfsup")
    assert set(whole.targets) - set(part.targets) == {"eurosat", "resisc"}
    assert np.array_equal(part.score, whole.subset(part.targets, part.sources).score)


def test_a_table_that_repeats_another_has_its_figures() -> None:
    few, all_ = load("parc-controlled"), load("parc")
    assert published.tables()["parc-controlled"].repeats == "parc"
    assert np.array_equal(few.score, all_.subset(few.targets, few.sources).score, equal_nan=True)


def test_what_stands_for_no_measurement_is_missing() -> None:
    selfsup = load("ncti-selfsup")
    missing = {(selfsup.targets[i], selfsup.sources[j]) for i, j in np.argwhere(np.isnan(selfsup.score))}
    assert missing == {(target, f"simclr-v{i}") for target in ("eurosat", "resisc") for i in (1, 2)}
    assert np.nanmin(load("parc").score) > 0


def test_a_models_own_data_set_never_counts() -> None:
    spider = load("modelspider-66x7")
    own = {(spider.targets[i], spider.sources[j]) for i, j in np.argwhere(spider.self_pairs())}
    assert own == {(target, f"{net}@{target}") for target in spider.targets for net in NETS}
    graph = load("transfergraph-records")
    pairs = {(graph.targets[i], graph.sources[j]) for i, j in np.argwhere(graph.self_pairs())}
    assert ("cifar100", "Ahmed9275/Vit-Cifar100") in pairs
    assert ("cifar100", "karthiksv/vit-base-patch16-224-cifar10") not in pairs
    assert np.isnan(graph.truth()[graph.self_pairs()]).all()
    assert np.isfinite(graph.truth(with_self=True)[graph.self_pairs()]).all()
    assert evaluate({}, spider, with_self=True).unmeasured == 0
    subset = spider.subset(spider.targets[::-1], spider.sources[::2])
    assert subset.own is not None
    assert subset.own.any()
    assert np.array_equal(subset.truth(), spider.truth()[::-1, ::2], equal_nan=True)


NETS = ("densenet201", "inception_v3", "resnet50")


@pytest.mark.wide
def test_regret_is_in_accuracy_points() -> None:
    outcome = evaluate({}, load("transfergraph-vtab1k"))
    truth = load("transfergraph-vtab1k").truth()
    random = np.nanmax(truth, axis=1) - np.nanmean(truth, axis=1)
    assert outcome.row("random").per_target["regret"][:, 0] == pytest.approx(random)
    assert outcome.regret == "regret"
    assert "tau_w" in outcome.to_markdown()
    assert "accuracy points" in outcome.to_markdown()
    assert "tau_w" not in evaluate({}, load("taskonomy")).to_markdown()
    assert [row.method for row in outcome.rows] == ["random", STATIC, STATIC_BY_SCORE]


def test_a_matrix_is_compared_with_static_and_its_name_is_free() -> None:
    oracle = load("tll-cnn")
    names = (*oracle.targets, *oracle.sources)
    matrix = np.zeros((len(names), len(names)))
    matrix[: len(oracle.targets), len(oracle.targets) :] = oracle.score
    outcome = evaluate({"oracle itself": (names, matrix)}, oracle)
    best = outcome.row("oracle itself").summary
    assert best["weighted_kendall"].mean == pytest.approx(1.0)
    assert best["regret"].mean[0] == 0.0
    assert outcome.difference("oracle itself", figure="weighted_kendall").mean == pytest.approx(1 - 0.680, abs=0.001)
    for taken in (STATIC, "LogME (published)"):
        with pytest.raises(ConflictError, match="name of a baseline"):
            evaluate({taken: (names, matrix)}, oracle)
    evaluate({"popularity": (names, matrix)}, oracle)
    few = oracle.sources[:4]
    outcome = evaluate({"four": ((*oracle.targets, *few), np.ones((12, 12)))}, oracle)
    assert outcome.sources == few
    assert outcome.row("LogME (published)").per_target["spearman"].shape == (8,)


@pytest.mark.parametrize("by", ["rank", "score"])
def test_static_ignores_the_targets_own_row_and_missing_pairs(by: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 9, (6, 8)).astype(float)
    truth[rng.random(truth.shape) < 0.3] = np.nan
    truth[0], truth[:, 7] = rng.random(8), np.nan
    truth[0, 7] = 5.0
    order = baselines.static(truth, by)
    assert np.array_equal(np.isfinite(order), np.isfinite(truth))
    changed = truth.copy()
    changed[0] = truth[0, ::-1]
    kept = np.isfinite(truth[0]) & np.isfinite(changed[0])
    assert np.array_equal(baselines.static(changed, by)[0, kept], order[0, kept])
    assert order[0, 7] == np.nanmin(order[0]), "no other target has this source"
    assert (order[0, :7] > order[0, 7]).all()
    if by == "rank":
        slow = slow_static(truth)
        assert np.allclose(order[slow > -9], slow[slow > -9])


def test_static_by_score_is_the_mean_standardised_score() -> None:
    truth = np.array([[1.0, 2.0, 3.0], [10.0, 30.0, 20.0], [5.0, 5.0, 5.0]])
    z = (truth[:2] - truth[:2].mean(1, keepdims=True)) / truth[:2].std(1, keepdims=True)
    assert baselines.static(truth, "score")[2] == pytest.approx(z.mean(axis=0))
    assert baselines.static(truth, "score")[0] == pytest.approx(z[1] / 2)
    with pytest.raises(UsageError, match="two or more"):
        baselines.static(truth[:1])
    with pytest.raises(UsageError, match="by 'place'"):
        baselines.static(truth, "place")


def test_weighted_kendall_weighs_the_first_places() -> None:
    truth = np.arange(10.0)[None]
    top, bottom = truth.copy(), truth.copy()
    top[0, [8, 9]], bottom[0, [0, 1]] = top[0, [9, 8]], bottom[0, [1, 0]]
    assert metrics.kendall(top, truth) == metrics.kendall(bottom, truth)
    assert metrics.weighted_kendall(top, truth) < metrics.weighted_kendall(bottom, truth)
    assert metrics.weighted_kendall(truth, truth) == pytest.approx(1.0)
    assert metrics.weighted_kendall(-truth, truth) == pytest.approx(-1.0)
    assert metrics.weighted_kendall(np.zeros((1, 10)), truth) == 0.0


def slow_weighted_kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Vigna 2015, equations 1 to 3, hyperbolic weights, mean over the decreasing orders by (x, y) and by (y, x)."""

    def by(first: np.ndarray, second: np.ndarray) -> float:
        place = {int(i): rank for rank, i in enumerate(np.lexsort((second, first))[::-1])}

        def dot(a: np.ndarray, b: np.ndarray) -> float:
            return sum(
                np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) * (1 / (place[i] + 1) + 1 / (place[j] + 1))
                for i in range(len(a))
                for j in range(i)
            )

        return float(dot(x, y) / math.sqrt(dot(x, x) * dot(y, y)))

    return (by(x, y) + by(y, x)) / 2


def test_weighted_kendall_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(3)
    scores, truth = rng.integers(0, 6, (5, 9)).astype(float), rng.integers(0, 6, (5, 9)).astype(float)
    truth[2, 4] = np.nan
    for tau, s, t in zip(metrics.weighted_kendall(scores, truth), scores, truth, strict=True):
        known = np.isfinite(t)
        assert tau == pytest.approx(slow_weighted_kendall(s[known], t[known]))


def test_unknown_columns_and_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no column LogME"):
        load("tll-cnn", "LogME")
    with pytest.raises(NotFoundError, match="no oracle sfda"):
        load("sfda")
    table = published.tables()["transfergraph-vtab1k"]
    monkeypatch.setattr(published, "folder", lambda: tmp_path)
    with pytest.raises(DamagedError, match="can't be read"):
        load(table.name)
    (tmp_path / table.file).write_bytes(gzip.compress(b"target,source,score\na,b,1\n")[:-9])
    with pytest.raises(DamagedError):
        load(table.name)
    (tmp_path / table.file).write_bytes(gzip.compress(b"target,source,score\na,b,x\n"))
    with pytest.raises(DamagedError):
        load(table.name)
    (tmp_path / table.file).write_bytes(gzip.compress(b"target,source,score\na,b,1\na,c,2\n"))
    assert isinstance(load(table.name), Oracle)


def test_files_have_the_documented_columns() -> None:
    for table in published.tables().values():
        path = published.folder() / table.file
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8")
        header = next(csv.reader(text.splitlines()))
        assert header == ["target", "source", "score", *(["own"] if table.own else []), *table.methods]
