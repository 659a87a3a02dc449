"""The attempts to get out of the SQL sandbox: a sample of them, and proof that a leak would be seen."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "torture"))

import sandbox as torture


@pytest.mark.wide
def test_a_sample_of_the_attempts_is_refused_or_harmless() -> None:
    counts, faults = torture.run(every=151)
    assert faults == []
    assert counts["attempts"] > 30
    assert counts["refused"] > counts["attempts"] / 2


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (lambda path, attempt: ("refused", f"can't read {torture.SECRET}"), "the secret came out"),
        (lambda path, attempt: ("answered", "[]"), "accepted"),
        (lambda path, attempt: ("refused", (path.parent / "made").write_text("x") and ""), "files changed"),
        (lambda path, attempt: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_leak_is_seen(answer: object, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torture, "ask", answer)
    path = torture.make(tmp_path)
    problems = list(torture.faults(path, [torture.Attempt("DROP TABLE models", False, "write")], Counter()))
    assert len(problems) == 1
    assert fault in problems[0]
