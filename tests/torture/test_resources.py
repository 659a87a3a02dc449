"""Some commands while resources run out or signals arrive (`scripts/torture/resources.py` has all of them)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and sets limits of Linux")

FILE = Path(__file__).parents[2] / "scripts" / "torture" / "resources.py"
spec = importlib.util.spec_from_file_location("torture_resources", FILE)
assert spec is not None
assert spec.loader is not None
resources = importlib.util.module_from_spec(spec)
sys.modules["torture_resources"] = resources  # its dataclasses look themselves up
spec.loader.exec_module(resources)


@pytest.mark.wide
def test_commands_without_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        resources, "COMMANDS", {name: resources.COMMANDS[name] for name in ("remove", "list", "verify")}
    )
    monkeypatch.setattr(resources, "REGISTRIES", {"home": ("curvature",)})
    (tmp_path / "disk").mkdir()
    torture = resources.Torture(tmp_path, tmp_path / "disk", may_mount=False)
    try:
        kinds = ["size", "descriptors", "signal", "streams", "terminals", "clock"]
        for attempt in resources.plan(kinds, list(resources.COMMANDS), 0, 8):
            torture.attempt(*attempt)
        assert torture.failures == []
        assert sum(torture.tried.values()) == 8
        assert torture.outcomes["done"] >= 3
        assert torture.outcomes["refused"] >= 1
        # A command whose success was not what it should be would be noticed.
        torture.after["remove"] = torture.before
        torture.attempt("clock", "remove", 0)
        assert "the registry is not what it should be" in torture.failures[0]
    finally:
        torture.close()
