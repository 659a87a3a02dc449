"""Too many probe images are refused, and many asked about, before one is rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelspace.errors import UsageError
from modelspace.spaces.cost import check_memory, cost
from modelspace.spaces.kinds import kind_of
from modelspace.types import SpaceSpec
from modelspace.workspace import ModelSpace


def spec(method: str, n_images: int, canvas: int = 64, bits: int = 8) -> SpaceSpec:
    return kind_of(method).define(method, method, "probes", n_images, canvas, bits, "sum")


def test_what_is_stored_is_counted() -> None:
    assert cost([spec("saliency", 1000)], rendered=True).stored == 1000 * 64 * 64
    assert cost([spec("saliency", 1000, bits=4)], rendered=True).stored == 1000 * 64 * 64 // 2
    both = cost([spec("saliency", 10), spec("gradient_x_input", 10)], rendered=False)
    assert both.stored == 2 * 10 * 64 * 64
    assert both.rendering == 0
    triangle = cost([spec("dds", 2000)], rendered=True).stored
    assert triangle == pytest.approx(2000 * 2001 / 2, rel=0.01)


def test_only_much_is_asked_about() -> None:
    assert not cost([spec("saliency", 2000)], rendered=True).is_large
    assert cost([spec("saliency", 20_000)], rendered=True).is_large  # an hour
    assert cost([spec("saliency", 5000, canvas=256)], rendered=False).is_large  # 312 MiB


def test_what_the_memory_cannot_hold_is_refused_with_the_number_that_fits() -> None:
    estimate = cost([spec("saliency", 500_000)], rendered=True)
    check_memory(estimate, memory=8 << 30)
    with pytest.raises(UsageError, match=r"500,000 probe images need 1\.9 GiB .* machine has 2\.0 GiB") as error:
        check_memory(estimate, memory=2 << 30)
    assert "262,144 or fewer" in error.value.hint
    check_memory(cost([spec("saliency", 262_144)], rendered=True), memory=2 << 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 5_000_000}, r"with method dds can't have 5,000,000 probe images: 4,096 at most"),
        ({"images": 5_000_000, "methods": ["saliency"]}, r"can't have 5,000,000 probe images: 1,000,000 at most"),
        ({"images": 5000, "methods": ["linear_cka"]}, "4,096 at most"),
    ],
)
def test_init_refuses_at_once_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("modelspace.spaces.create.choose_probe_set", None)  # nothing is rendered or read
    with pytest.raises(UsageError, match=message) as error:
        ModelSpace.create(tmp_path / "home", **options)
    assert "200" in error.value.hint
    assert not (tmp_path / "home").exists()


def test_init_asks_once_with_the_numbers(tmp_path: Path) -> None:
    asked = []

    def refuse(sentence: str) -> None:
        asked.append(sentence)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ModelSpace.create(tmp_path / "home", images=100_000, methods=["saliency"], canvas=8, on_cost=refuse)
    (sentence,) = asked
    assert sentence.startswith("100,000 probe images take about 5.3 hours to render; each model then takes 4 minutes")
    assert sentence.endswith("3.1 MiB in the registry")
    assert not (tmp_path / "home").exists()
