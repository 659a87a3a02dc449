"""The same add gives the same bits (`scripts/torture/determinism.py` has more models and variants)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "scripts" / "torture" / "determinism.py"
spec = importlib.util.spec_from_file_location("torture_determinism", FILE)
assert spec is not None
assert spec.loader is not None
determinism = importlib.util.module_from_spec(spec)
spec.loader.exec_module(determinism)

NAMES, IMAGES = ["curvature", "edge2d"], 4


@pytest.mark.long
def test_a_fresh_pass_is_the_same_bits_and_other_batches_almost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(determinism, "VARIANTS", [(2, 1)])
    monkeypatch.setattr(determinism, "METHODS", ("saliency", "dds"))
    torture = determinism.Torture(tmp_path, NAMES, IMAGES)
    first = torture.build("first", *determinism.BASE)
    torture.variants(first)
    torture.reembedded()
    assert torture.failures == []
    assert torture.figures["largest difference of an affinity in float32"] <= 1e-6
    # What differs is found.
    key = space, bits, model = next(iter(first))
    maps, vector, affinities = first[key]
    changed = {**first, key: (maps[:-1] + bytes([maps[-1] ^ 1]), vector, affinities)}
    assert determinism.differing(first, changed) == [f"{model} in {space}"]
    assert determinism.distance(first, {}, bits) == float("inf")
