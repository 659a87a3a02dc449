"""The torture programs of texts and of foreign registries, at a short length."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from torture import commands, foreign, texts  # noqa: E402

#: A few of each kind; all are tried by scripts/torture/foreign.py --full.
CASES = (
    "models is a view",
    "a macro count(x)",
    "another nearest",
    "embeddings: vector = [NULL]",
    "maps: n_images = -1",
)
VERBS = ("list", "nearest", "verify", "sql", "merge all")


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.long
def test_foreign_registries(tmp_path: Path) -> None:
    trial = foreign.Trial(tmp_path / "tried")
    cases = [case for case in foreign.cases(trial.base) if case.name in CASES]
    cases = list({case.name: case for case in cases}.values())
    assert {case.name for case in cases} == set(CASES)
    for case in cases:
        trial.try_case(case, VERBS)
    assert trial.failures == []
    assert trial.possible == len(cases)
    assert trial.refused > 5
    assert trial.answered > 5


@pytest.mark.long
def test_texts(tmp_path: Path) -> None:
    written = [words for words in texts.WRITTEN if words.startswith(("export", "tree"))]
    tried = texts.Texts(tmp_path / "tried", written)
    tried.try_text("../\x1b[2J<script>\u202e'\"", texts.SHOWN[::3], pictures=True)
    assert tried.failures == []
    assert tried.escaped > 3
    assert tried.refused > 3
    assert tried.files > 10


def test_faults_are_seen() -> None:
    assert commands.Answer((), 70, b"", "error: unexpected", 0.0).faults()
    assert commands.Answer((), 1, b"", "error: \x1b[2J", 0.0).faults()
    assert commands.Answer((), 1, b"", "", 0.0).faults()
    assert not commands.Answer((), 1, b"", "error: there is no model 'x'\nhint: add one", 0.0).faults()
    assert commands.control_characters("a\u202eb\x9b\n") == ["\x9b", "\u202e"]
    page = texts.Elements()
    page.feed("<p onclick='x'>a<script>b</script>")
    assert page.names == {"p": 1, "script": 1}
    assert ("p", ("onclick",), ()) in page.seen
