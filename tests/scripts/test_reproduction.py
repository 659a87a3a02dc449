"""The page that checks the paper's claims: rules on synthetic numbers, structure, and one section on few models."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelspace.analysis.tree import build_tree
from modelspace.evaluation import Interval

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from reproduction import measures, page, verdicts  # noqa: E402
from reproduction.verdicts import HOLDS, IN_PART, NOT, Verdict  # noqa: E402

PAGE = ROOT / "docs" / "lab-book" / "reproduction.md"


def about(mean: float, half: float = 0.1) -> Interval:
    return Interval(np.float64(mean), np.float64(mean - half), np.float64(mean + half))


def test_all_parts_hold_some_or_none() -> None:
    assert [verdicts.word(parts) for parts in ([True, True], [True, False], [False, False])] == [HOLDS, IN_PART, NOT]


@pytest.mark.parametrize(
    ("near", "gap", "expected"), [(0.99, 0.2, HOLDS), (0.99, -0.2, IN_PART), (0.5, 0.2, IN_PART), (0.5, 0.05, NOT)]
)
def test_methods(near: float, gap: float, expected: str) -> None:
    # A gap of 0.05 ± 0.1 is above 0 in the mean alone.
    sets = [(about(gap), about(gap))] * 3
    names = ("rooms", "photographs", "yards")
    found = verdicts.methods(dict.fromkeys(names, near), {"gradient*input": sets, "ε-LRP": sets})
    assert found.word == expected
    assert f"{gap:+.2f}" in found.sentence


def test_probe_sets_and_bits() -> None:
    assert verdicts.probe_sets([0.9, 0.8], [[0.5, 0.6]], [0.96], [0.01]).word == HOLDS
    assert verdicts.probe_sets([0.9, 0.7], [[0.5, 0.6]], [0.96], [0.01]).word == IN_PART
    assert verdicts.probe_sets([0.9, 0.9], [[0.4, 0.6]], [0.9], [0.01]).word == NOT
    assert verdicts.bits(verdicts.PAPER_BITS).word == HOLDS
    assert verdicts.bits({**verdicts.PAPER_BITS, 1: 0.5}).word == IN_PART


def test_depth_clusters_trees_and_places() -> None:
    assert verdicts.depth({"saliency": about(-0.5)}, about(0.3)).word == HOLDS
    assert verdicts.depth({"saliency": about(-0.05)}, about(0.3)).word == IN_PART
    assert verdicts.depth({"saliency": about(0.5)}, about(0.0)).word == NOT
    assert verdicts.clusters((1.0, 0.001), (0.5, 0.01), (0.8, 0.01), 1, 38).word == HOLDS
    assert verdicts.clusters((1.0, 0.001), (0.4, 0.01), (0.8, 0.01), 2, 38).word == IN_PART
    assert verdicts.trees({"a": (0.95, 0.8, 0.2), "b": (0.95, 0.8, 0.2)}).word == HOLDS
    assert verdicts.trees({"a": (0.85, 0.8, 0.2), "b": (0.95, 0.1, 0.2)}).word == NOT
    assert verdicts.places((0.1, 0.3), (0.02, 3, 18)).word == HOLDS
    assert verdicts.places((0.4, 0.3), (0.02, 13, 18)).word == NOT


def test_cost_and_the_default() -> None:
    assert verdicts.cost(1.0, 20.0, 12.0).word == HOLDS
    assert verdicts.cost(1.0, 20.0, 0.9).word == IN_PART
    assert verdicts.cost(1.0, 9.0, 0.9).word == NOT
    sure, unsure, worse = ({"Spearman": about(mean)} for mean in (0.3, 0.05, -0.05))
    assert verdicts.default(sure, {"yards": sure}, (0.8, 0.7)).word == HOLDS
    assert verdicts.default(sure, {"yards": unsure}, (0.8, 0.7)).word == IN_PART
    assert verdicts.default(sure, {}, (0.8, 0.7)).word == IN_PART
    assert verdicts.default(worse, {"yards": sure}, (0.8, 0.7)).word == NOT
    assert verdicts.default(sure, {"yards": sure}, (0.6, 0.7)).word == NOT


def test_uniformity_at_its_ends() -> None:
    maps = np.array([[0.5, -0.5, 0.5, -0.5], [0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_allclose(measures.participation(maps), [1.0, 0.25])
    np.testing.assert_allclose(measures.entropy(maps), [1.0, 0.0], atol=1e-12)


def test_a_cluster_and_a_family_are_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2, 3], 4)
    points = np.eye(4)[label] + 0.15 * rng.normal(size=(16, 4))
    matrix = measures.inner(list(points / np.linalg.norm(points, axis=1, keepdims=True)))
    own = measures.cluster(matrix, range(4), draws=200)
    assert own.share > 0.9
    assert own.p < 0.01
    mixed = measures.cluster(matrix, (0, 4, 8, 12), draws=200)
    assert mixed.p > 0.1
    assert measures.families(matrix, [str(one) for one in label], draws=200)[1] < 0.01
    assert measures.auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == pytest.approx(0.875)


def test_a_subsets_tree_is_found_again_in_the_tree_that_it_is_cut_from() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(12, 5))
    matrix = measures.inner(list(points / np.linalg.norm(points, axis=1, keepdims=True)))
    names = [str(i) for i in range(12)]
    # Under single linkage the heights of a subset are the same wherever nothing outside it bridges a gap.
    whole = measures.shape(build_tree(names, matrix), build_tree(names, matrix), draws=50)
    assert whole.correlation == pytest.approx(1.0)
    assert whole.kept == 1.0
    assert whole.random_kept[1] < 1.0
    few = build_tree(names[:6], matrix[:6, :6])
    assert measures.shape(few, build_tree(names, matrix), draws=50).kept <= 1.0


def test_a_section_has_its_picture_rule_and_row() -> None:
    one = page.Section(
        3, "Bits per map", "They say.", "We did.", "At least.", Verdict(NOT, "it falls to 0.1."), "ρ 0.1"
    )
    text = one.to_markdown()
    assert "**Verdict: does not hold.** It falls to 0.1." in text
    assert one.summary() == "| [3](#3-bits-per-map) | Bits per map | **does not hold** | ρ 0.1 |"


def test_the_page_has_a_verdict_for_every_claim_and_all_its_pictures() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^## (?=\d)", text, flags=re.M)[1:]
    assert [section.split(".")[0] for section in sections] == [str(n) for n in range(1, 10)]
    summary = re.findall(r"^\| \[(\d)\]\(#(\S+)\) \| .+ \| \*\*(.+)\*\* \| ", text, flags=re.M)
    for section, (number, link, word) in zip(sections, summary, strict=True):
        heading = section.split("\n")[0]
        assert heading.startswith(f"{number}. ")
        assert link == re.sub(r"[^a-z0-9-]", "", heading.lower().replace(" ", "-"))
        assert word in (HOLDS, IN_PART, NOT)
        for part in ("**The paper.**", "**Here.**", "**Rule.**", f"**Verdict: {word}.**", "](reproduction/"):
            assert part in section, (number, part)
    linked = set(re.findall(r"\]\(reproduction/(\S+?)\)", text))
    there = {file.name: file.stat().st_size for file in (PAGE.parent / "reproduction").iterdir()}
    assert linked == set(there)
    assert max(there.values()) < 120_000


@pytest.mark.long
def test_a_section_runs_on_few_models(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), "--quick", "--only", "3"]
    command += ["--docs", str(tmp_path), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3. Bits per map element: " in done.stdout
    assert "sections 1, 2, 4, 5, 6, 7, 8, 9 are missing" in done.stdout
    assert (tmp_path / "reproduction" / "bits.png").stat().st_size > 10_000
    assert not (tmp_path / "reproduction.md").exists()
