"""The page on the size of a registry: roundings against their definitions, and the whole page on few models."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from modelspace.representations import maps

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import measure_weight  # noqa: E402
from reproduction import passes  # noqa: E402


@pytest.fixture
def kernel() -> np.ndarray:
    table = np.random.default_rng(0).standard_normal((7, 4))
    return table @ table.T


def by_definition(values: list[float], bits: int) -> list[float]:
    low, high = min(values), max(values)
    step = (high - low) / (2**bits - 1)
    return [low + round((value - low) / step) * step if step else value for value in values]


@pytest.mark.parametrize("bits", [8, 4])
def test_a_triangle_is_rounded_row_by_row(kernel: np.ndarray, bits: int) -> None:
    found = measure_weight.range_per_row(kernel, bits)
    assert np.array_equal(found, found.T)
    assert np.diag(found) == pytest.approx(by_definition(list(np.diag(kernel)), bits))
    for k in range(6):
        assert found[k, k + 1 :] == pytest.approx(by_definition(list(kernel[k, k + 1 :]), bits))


def test_rows_are_rounded_as_spaces_of_kernels_round_them(kernel: np.ndarray) -> None:
    codes, scales = maps.quantise(kernel.astype(np.float32), 8)
    stored = maps.dequantise(codes, scales, 8, 7)
    assert measure_weight.by_rows(kernel, 8) == pytest.approx(stored, abs=1e-5)


def test_one_range_has_two_extremes(kernel: np.ndarray) -> None:
    found = measure_weight.one_range(kernel, 2)
    above = np.triu_indices(7, 1)
    assert len(np.unique(found[above].round(9))) <= 4
    assert (found[above].min(), found[above].max()) == pytest.approx((kernel[above].min(), kernel[above].max()))


@pytest.mark.long
def test_the_page_is_made_of_few_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "CACHE", tmp_path)
    names = ("autoencoder", "denoise", "reshade", "rgb2depth", "mobilenet_025_objects")
    text = measure_weight.page(passes.Scale(names, images=12, many=12))
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("| canvas"))
    rows = [line for line in lines if line[:4] in ("| 64", "| 32", "| 16", "| 8 ")]
    assert len(rows) == 2 * 4 * 6
    assert {row.count("|") for row in rows} == {head.count("|")}
    assert sum(line.startswith(("| rows", "| triangle", "| unrounded")) for line in lines) == 3 * 5 * 2 + 2
    assert "over the pairs of the 4 task encoders" in " ".join(text.split())


def test_the_page_in_docs_is_of_this_script() -> None:
    page = measure_weight.PAGE.read_text(encoding="utf-8")
    for part in (measure_weight.KERNELS, measure_weight.BUILDS):
        assert part in page, "run 'make weight'"
