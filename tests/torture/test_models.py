"""Some of the models that misbehave (`scripts/torture/models.py` has all of them)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "scripts" / "torture" / "models.py"
spec = importlib.util.spec_from_file_location("torture_models", FILE)
assert spec is not None
assert spec.loader is not None
models = importlib.util.module_from_spec(spec)
sys.modules["torture_models"] = models  # its dataclasses look themselves up
spec.loader.exec_module(models)


@pytest.mark.wide
def test_models_that_misbehave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.limits, "PATIENCE", models.limits.PATIENCE)  # put back at the end
    torture = models.Torture(tmp_path / "home")
    torture.round(3, step=9)
    assert torture.failures == []
    assert torture.added >= 1
    assert torture.refused >= 4


@pytest.mark.wide
def test_a_misbehaviour_that_passed_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.limits, "PATIENCE", models.limits.PATIENCE)
    torture = models.Torture(tmp_path / "home")
    torture.space.add(models.Net(0), name="plain", preprocessing=models.PREPROCESSING)
    torture.attempt(models.Case("other weights", models.Net(1), "not finite"), "by hand")
    assert any("should have been refused" in failure for failure in torture.failures)
    assert sum("are off by" in failure for failure in torture.failures) == 4
    torture.attempt(models.Case("raises", models.odd(0, lambda _, x: 1 / 0)), "by hand")
    assert "expected 'that it is added'" in torture.failures[-1]
