"""The examples of docs/how-to/pictures.md run in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pictures.md"


@pytest.mark.wide
@pytest.mark.slow
def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    written = {file.name for file in tmp_path.iterdir()}
    assert written == {
        "map.png", "tree.svg", "heatmap.pdf", "gallery.png", "layers.png", "curves.png", "bits.png", "choices.png",
        "atlas.html", "report.html", "report.md", "report_pictures",
    }  # fmt: skip
    for name in ("projection", "tree", "page", "report"):
        assert names[name]._repr_html_().startswith("<")
