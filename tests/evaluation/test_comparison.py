"""The comparison of methods: same pairs for all, no self-pairs, fixed resamples, files of published matrices."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from modelspace.errors import ConflictError, DamagedError, NotFoundError, UsageError
from modelspace.evaluation import Cost, Oracle, evaluate, load, read_affinity


def perfect(oracle: Oracle) -> tuple[tuple[str, ...], np.ndarray]:
    """The oracle itself as an affinity matrix over its sources."""
    matrix = np.full((len(oracle.sources),) * 2, -99.0)
    for name, row in zip(oracle.targets, oracle.score, strict=True):
        matrix[oracle.sources.index(name)] = np.where(np.isfinite(row), row, 0.0)
    return oracle.sources, matrix


def small_oracle(seeds: int = 3) -> Oracle:
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d", "e", "f")
    losses = rng.random((5, 6)) + 0.05 * rng.random((seeds, 5, 6))
    return Oracle("small", names[:5], names, -losses.mean(0), losses.mean(0), losses, "synthetic")


def test_the_published_figures_of_the_baselines() -> None:
    outcome = evaluate({}, load("taskonomy"))
    assert outcome.ks == tuple(range(1, 20))
    popularity = outcome.curves()["popularity"].mean
    assert [round(float(popularity[k - 1]), 2) for k in (1, 3, 5)] == [0.39, 0.56, 0.51]
    assert outcome.curves()["random"].mean == pytest.approx(5 / 19)
    assert outcome.curves("recall")["random"].mean == pytest.approx(np.arange(1, 20) / 19)
    assert outcome.row("random").summary["spearman"].mean == 0
    assert outcome.row("popularity by mean rank").summary["spearman"].mean == pytest.approx(0.408, abs=5e-4)


def test_the_oracle_evaluated_against_itself_is_perfect() -> None:
    oracle = load("taskonomy")
    row = evaluate({"oracle": perfect(oracle)}, oracle).row("oracle")
    assert row.summary["precision"].mean[:5] == pytest.approx(1)
    assert row.summary["spearman"].mean == pytest.approx(1)
    assert row.summary["relative_regret"].mean == pytest.approx(0)


def test_self_pairs_count_only_on_request() -> None:
    oracle = load("taskonomy-affinity")
    names = [name for name in oracle.targets if name in oracle.sources]
    rng = np.random.default_rng(0)
    matrix = rng.random((len(names),) * 2)
    np.fill_diagonal(matrix, 1.0)
    other = matrix.copy()
    np.fill_diagonal(other, -5.0)
    without = evaluate({"x": (names, matrix), "y": (names, other)}, oracle)
    assert without.row("x").summary["spearman"].mean == without.row("y").summary["spearman"].mean
    with_self = evaluate({"x": (names, matrix), "y": (names, other)}, oracle, with_self=True)
    assert len(with_self.ks) == len(without.ks) + 1
    assert with_self.row("x").summary["spearman"].mean > without.row("x").summary["spearman"].mean
    truth = oracle.subset(names, names).score
    expected = np.mean([spearmanr(a, b).statistic for a, b in zip(matrix, truth, strict=True)])
    assert with_self.row("x").summary["spearman"].mean == pytest.approx(expected)
    with pytest.raises(UsageError, match="pair of a model with itself"):
        evaluate({}, load("taskonomy"), with_self=True)


def test_methods_are_compared_on_the_models_that_all_have() -> None:
    oracle = small_oracle()
    names, matrix = perfect(oracle)
    subset = [0, 1, 2, 4, 5]
    smaller = tuple(names[i] for i in subset), matrix[np.ix_(subset, subset)]
    larger = (*names, "stranger"), np.pad(matrix, (0, 1))
    outcome = evaluate({"less": smaller, "more": larger}, oracle)
    assert outcome.targets == ("a", "b", "c", "e")
    assert outcome.sources == ("a", "b", "c", "e", "f")
    assert set(outcome.left_out) == {"d", "stranger"}
    assert np.array_equal(outcome.row("less").per_target["precision"], outcome.row("more").per_target["precision"])
    restricted = evaluate({"more": larger}, oracle, models=["f", "a", "b", "c", "e"])
    assert restricted.targets == outcome.targets
    with pytest.raises(NotFoundError, match="does not have stranger"):
        evaluate({"more": larger}, oracle, models=["a", "stranger"])


def test_other_spellings_are_matched() -> None:
    oracle = load("taskonomy")
    names, matrix = perfect(oracle)
    renamed = [{"rgb2sfnorm": "normal", "inpainting_whole": "impainting_whole"}.get(name, name) for name in names]
    assert evaluate({"x": (renamed, matrix)}, oracle).row("x").summary["spearman"].mean == pytest.approx(1)


def test_order_of_models_does_not_matter() -> None:
    oracle = load("taskonomy")
    names = oracle.sources
    matrix = np.random.default_rng(1).integers(0, 6, (20, 20)).astype(float)
    shuffle = np.random.default_rng(2).permutation(20)
    outcome = evaluate(
        {"x": (names, matrix), "y": ([names[i] for i in shuffle], matrix[np.ix_(shuffle, shuffle)])}, oracle
    )
    for figure in ("precision", "recall", "spearman", "kendall", "regret"):
        assert np.array_equal(outcome.row("x").summary[figure].mean, outcome.row("y").summary[figure].mean)


def test_missing_pairs_of_the_oracle_are_ignored_and_reported() -> None:
    oracle = small_oracle()
    score = oracle.score.copy()
    score[0, 3] = np.nan
    incomplete = Oracle("incomplete", oracle.targets, oracle.sources, score)
    names, matrix = perfect(oracle)
    matrix[0, 3] = np.nan
    outcome = evaluate({"x": (names, matrix)}, incomplete)
    assert outcome.unmeasured == 1
    assert outcome.row("x").summary["spearman"].mean == pytest.approx(1)
    assert "1 pairs are not in the oracle" in outcome.to_markdown()
    with pytest.raises(UsageError, match="x has no finite affinity of target a with source d"):
        evaluate({"x": (names, matrix)}, oracle)


def test_refusals() -> None:
    oracle = small_oracle()
    names, matrix = perfect(oracle)
    with pytest.raises(ConflictError, match="name of a baseline"):
        evaluate({"random": (names, matrix)}, oracle)
    evaluate({"random": (names, matrix)}, oracle, include_baselines=False)
    with pytest.raises(UsageError, match="for 5 names"):
        evaluate({"x": (names[:5], matrix)}, oracle)
    with pytest.raises(ConflictError, match="twice"):
        evaluate({"x": (("a", "a", "c", "d", "e", "f"), matrix)}, oracle)
    with pytest.raises(UsageError, match="only 0 targets"):
        evaluate({"x": (("p", "q"), np.eye(2))}, oracle)
    with pytest.raises(NotFoundError, match="costs are given for y"):
        evaluate({"x": (names, matrix)}, oracle, costs={"y": Cost()})


def test_outcome_is_reproducible_and_json() -> None:
    oracle = small_oracle()
    pair = perfect(oracle)[0], np.random.default_rng(3).random((6, 6))
    costs = {"x": Cost(1.25, 100, 100)}
    first = evaluate({"x": pair}, oracle, costs=costs).to_dict()
    text = json.dumps(first, allow_nan=False)
    assert text == json.dumps(evaluate({"x": pair}, oracle, costs=costs).to_dict(), allow_nan=False)
    assert json.loads(text) == first
    assert first["methods"][0]["cost"] == {"seconds": 1.25, "forward_passes": 100, "backward_passes": 100}
    assert [method["method"] for method in first["methods"]] == ["x", "random", "popularity", "popularity by mean rank"]
    moved = evaluate({"x": pair}, oracle, seed=1, n_resamples=50).row("x").summary["spearman"]
    assert abs(float(moved.low) - first["methods"][0]["summary"]["spearman"]["low"]) > 1e-6


def test_markdown_has_one_row_per_method_and_the_reliability() -> None:
    oracle = small_oracle()
    text = evaluate({"x|y": perfect(oracle)}, oracle, costs={"x|y": Cost(0.5, 7, 0)}).to_markdown(ks=(1, 5, 99))
    lines = text.splitlines()
    assert (
        lines[0] == "| method | P@1 | P@5 | Spearman | Kendall | regret@1 | regret@5 | seconds | forward | backward |"
    )
    assert lines[2].startswith("| x\\|y | 1.00 [1.00, 1.00] |")
    assert lines[2].endswith("| 0.5 | 7 | 0 |")
    assert all(line.count(" | ") == lines[0].count(" | ") for line in lines[2:6])
    assert "Reliability of the oracle" in text
    assert "(3 seeds)" in text
    assert "Reliability" not in evaluate({}, small_oracle(seeds=1)).to_markdown()


def test_difference_is_paired() -> None:
    oracle = small_oracle()
    pair = perfect(oracle)[0], np.random.default_rng(3).random((6, 6))
    outcome = evaluate({"best": perfect(oracle), "x": pair}, oracle)
    gap = outcome.difference("best", "x")
    mean = outcome.row("best").per_target["spearman"] - outcome.row("x").per_target["spearman"]
    assert gap.mean == pytest.approx(mean.mean())
    assert gap.low <= gap.mean <= gap.high
    same = outcome.difference("x", "x", "precision", k=2)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    with pytest.raises(UsageError, match="no metric"):
        outcome.difference("x", figure="accuracy")
    with pytest.raises(UsageError, match="K = 9"):
        outcome.difference("x", figure="precision", k=9)
    with pytest.raises(NotFoundError, match="evaluated: best, x, random, popularity"):
        outcome.row("z")
    with pytest.raises(UsageError, match="no curve"):
        outcome.curves("spearman")


def test_a_source_without_other_targets_is_the_least_popular() -> None:
    score = np.array([[np.nan, 1.0, 5.0, 4.0], [2.0, np.nan, np.nan, 3.0]])
    outcome = evaluate({}, Oracle("x", ("a", "b"), ("a", "b", "c", "d"), score), n_relevant=1)
    assert math.isfinite(float(outcome.row("popularity").summary["spearman"].mean))


NAMES = ("a", "b", "c")
MATRIX = np.array([[1.0, 0.2, 0.3], [0.4, 1.0, 0.6], [0.7, 0.8, 1.0]])


@pytest.mark.parametrize(
    "text",
    [
        ",a,b,c\na,1,.2,.3\nb,.4,1,.6\nc,.7,.8,1\n",
        "name,a,b,c\nc,.7,.8,1\na,1,.2,.3\nb,.4,1,.6\n",
        "a,b,c\n1,.2,.3\n.4,1,.6\n.7,.8,1\n",
        "target,source,score\na,a,1\na,b,.2\na,c,.3\nb,a,.4\nb,b,1\nb,c,.6\nc,a,.7\nc,b,.8\nc,c,1\n",
        "source,affinity,target\na,1,a\nb,.2,a\nc,.3,a\na,.4,b\nb,1,b\nc,.6,b\na,.7,c\nb,.8,c\nc,1,c\n",
    ],
)
def test_matrices_as_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    names, matrix = read_affinity(tmp_path / "m.csv")
    assert names == NAMES
    assert np.array_equal(matrix, MATRIX)


def test_matrices_as_npy(tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    np.save(path, MATRIX.astype(np.float32))
    with pytest.raises(NotFoundError, match=r"names of the models in m\.npy"):
        read_affinity(path)
    (tmp_path / "m.json").write_text('["a", "b", "c"]')
    (tmp_path / "other.txt").write_text("a\nb\n\nc\n")
    for names in (None, NAMES, tmp_path / "other.txt"):
        model_names, matrix = read_affinity(path, names)
        assert model_names == NAMES
        assert np.array_equal(matrix, MATRIX.astype(np.float32))
    with pytest.raises(UsageError, match="for 2 names"):
        read_affinity(path, ["a", "b"])
    with pytest.raises(UsageError, match="twice"):
        read_affinity(path, ["a", "b", "b"])
    path.write_bytes(b"not an array")
    with pytest.raises(DamagedError, match=r"m\.npy"):
        read_affinity(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedError, match=r"m\.npy"):
        read_affinity(path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", UsageError),
        (",a,b\na,1,2\n", UsageError),
        (",a,b\na,1,2\nc,3,4\n", UsageError),
        (",a,b\na,1,2\nb,3,x\n", DamagedError),
        ("target,source,score\na,b,1\na,b,2\n", UsageError),
        ("target,source,score\na,b\n", DamagedError),
    ],
)
def test_invalid_matrices_are_refused(tmp_path: Path, text: str, error: type[Exception]) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(error, match=r"m\.csv"):
        read_affinity(tmp_path / "m.csv")
    with pytest.raises(NotFoundError, match="no file"):
        read_affinity(tmp_path / "absent.csv")


@pytest.mark.wide
def test_evaluation_does_not_import_torch() -> None:
    heavy = "import sys, modelspace.evaluation; print([m for m in ('torch', 'matplotlib', 'umap') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
    with_matplotlib = subprocess.run(
        [sys.executable, "-c", "import matplotlib\n" + heavy], capture_output=True, text=True, check=True
    )
    assert with_matplotlib.stdout.strip() == "['matplotlib']"


def test_random_order_of_four_sources_is_not_perfect() -> None:
    """Of four sources five would be relevant: at most a third of them are, and the report says so."""
    names = ("a", "b", "c", "d")
    table = np.random.default_rng(0).normal(size=(4, 4))
    outcome = evaluate({"x": (names, table)}, Oracle("small", names, names, table))
    assert outcome.relevant == (1, 1, 1, 1)
    np.testing.assert_allclose(outcome.row("random").summary["precision"].mean, 1 / 3)
    np.testing.assert_allclose(outcome.row("x").summary["precision"].mean, [1, 1 / 2, 1 / 3])
    said = "the first of a target is relevant (not 5: at most a third of its sources)"
    assert outcome.relevance == said
    assert said in outcome.to_markdown()
    assert outcome.to_dict()["relevant"] == 1
    assert outcome.over(("b", "d")).relevant == (1, 1)


def test_each_target_has_a_number_of_relevant_sources() -> None:
    score = np.random.default_rng(1).normal(size=(3, 17))
    score[0, 7:] = np.nan
    names = tuple(f"s{i}" for i in range(17))
    outcome = evaluate({}, Oracle("ragged", ("x", "y", "z"), names, score))
    assert outcome.relevant == (2, 5, 5)
    assert outcome.relevance.startswith("the first 2 to 5 of a target are relevant (not 5:")
    assert outcome.over(("y",)).relevance == "the first 5 of a target are relevant"
