"""The check of a card: what becomes of a part is reported, and no part stops the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import gpu_check  # noqa: E402
from gpu_check import Failed, Part, Report, Skipped  # noqa: E402


def report(status: str, why: str = "") -> Report:
    return Report("bf16", status, why, [("speed", "2 x")] if status == "ok" else [], 1.0)


def test_all_parts_together_take_at_most_six_minutes() -> None:
    assert sum(part.seconds for part in gpu_check.PARTS.values()) <= 360


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(["ok", "ok"], 0), (["ok", "skipped"], 2), (["skipped", "failed"], 1), (["out of time", "ok"], 1)],
)
def test_the_exit_status_says_what_happened(statuses: list[str], expected: int) -> None:
    assert gpu_check.exit_status([report(status) for status in statuses]) == expected


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (Skipped("no pytest"), "skipped", "no pytest"),
        (Failed("other maps"), "failed", "other maps"),
        (ValueError("broken"), "failed", "ValueError: broken"),
    ],
)
def test_what_a_part_raises_is_its_answer(
    error: Exception, status: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(device: str) -> list[gpu_check.Row]:
        raise error

    monkeypatch.setitem(gpu_check.PARTS, "bf16", Part(run, 1))
    printed = "a line of a library\n" + gpu_check.answer_of("bf16", "cpu")
    assert gpu_check._report("bf16", 0, printed, "", 1.0) == Report("bf16", status, why, [], 1.0)


def test_a_process_that_dies_or_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    died = gpu_check._report("bf16", -9, "half a line", "first\nout of memory\n", 1.0)
    assert (died.status, died.why) == ("failed", "exit status -9: out of memory")
    assert gpu_check._report("bf16", 1, "", "", 1.0).why == "exit status 1: it printed nothing"
    monkeypatch.setitem(gpu_check.PARTS, "device", Part(gpu_check.machine, 0))
    late = gpu_check.report_of("device", "cpu")
    assert (late.status, late.why, late.rows) == ("out of time", "after 0 s", [])


def test_without_a_card_the_rest_is_not_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def tried(name: str, device: str) -> Report:
        return Report(name, "failed", "no | card", [], 0.0)

    monkeypatch.setattr(gpu_check, "report_of", tried)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    assert gpu_check.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "| device | **failed**: no / card |"
    assert not any(line.startswith("tests") for line in lines)


def test_the_device_of_a_dry_run_is_named() -> None:
    answer = json.loads(gpu_check.answer_of("device", "cpu"))
    assert answer["status"] == "ok"
    assert answer["rows"][0][1].startswith("CPU, ")


def test_the_page_gets_the_table_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{gpu_check.BEGIN}\nold\n{gpu_check.END}\nafter\n")
    text = gpu_check.table([report("ok"), report("skipped", "no\npytest")])
    gpu_check.write_page(text, page)
    rows = "| what | result |\n|---|---|\n| speed | 2 x |\n| bf16 | **skipped**: no pytest |"
    assert page.read_text() == f"before\n{gpu_check.BEGIN}\n\n{rows}\n\n{gpu_check.END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="no markers"):
        gpu_check.write_page(text, page)
    # the real page has them
    assert gpu_check.BEGIN in gpu_check.PAGE.read_text()
