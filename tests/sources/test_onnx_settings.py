"""Every operator with settings drawn at random does what its definition or onnx's reference says.

Two hundred settings here, and thousands in `make torture` (scripts/torture_onnx.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("onnx")
from onnx_settings import DEFINITIONS, FAMILIES, SKIPPED, drawn, outcome

from modelspace.sources.onnx.operators import OPERATORS, Node

SETTINGS = 200


def test_operators_equal_the_reference_in_all_their_settings() -> None:
    counts: Counter[str] = Counter()
    differences: list[str] = []
    kinds: set[str] = set()
    number = 0
    while counts["equal"] + len(differences) < SETTINGS:
        result = outcome(number)
        if result in ("equal", "refused", "left out"):
            counts[result] += 1
            kinds |= {drawn(number).kind} if result == "equal" else set()
        else:
            differences.append(result)
        number += 1
    assert differences == []
    assert counts["refused"] <= 0.02 * number, counts
    assert counts["left out"] <= 0.12 * number, counts
    assert len(kinds) > 60


def test_a_number_is_always_the_same_setting() -> None:
    for number in range(20):
        assert str(drawn(number)) == str(drawn(number))
        assert (drawn(number).x == drawn(number).x).all()


def _without(name: str) -> Callable[..., Any]:
    """The operator as if it passed an attribute over."""
    right = OPERATORS[name]
    attribute = {"MaxPool": "ceil_mode", "AveragePool": "count_include_pad", "ConvTranspose": "output_padding"}[name]

    def wrong(node: Any, *inputs: Any) -> Any:
        fewer = {key: value for key, value in node.attributes.items() if key != attribute}
        return right(type(node)(node.kind, node.opset, fewer, node.n_outputs), *inputs)

    return wrong


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "ConvTranspose"])
def test_an_attribute_that_is_passed_over_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, name, _without(name))
    numbers = [number for number in range(700) if drawn(number).kind == name]
    assert any("instead of" in outcome(number) or "differ" in outcome(number) for number in numbers)


def test_a_wrong_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "Conv", lambda node, x, *rest: torch.relu(Conv(node, x, *rest)))
    assert any("differ" in outcome(number) for number in range(60) if drawn(number).kind == "Conv")


Conv = OPERATORS["Conv"]


def test_what_is_left_out_is_said_and_happens() -> None:
    """There is a reason for each setting that is left out, and none that applies to nothing."""
    assert all(reason for _, reason in SKIPPED)
    settings = [drawn(number) for number in range(1500)]
    assert all(any(applies(setting) for setting in settings) for applies, _ in SKIPPED)
    assert {setting.kind for setting in settings} >= set(DEFINITIONS)
    assert len(FAMILIES) == 23


YES, NO = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "expected"),
    [
        ("And", [YES, NO], {}, [True, False, False, False]),
        ("Or", [YES, NO], {}, [True, True, True, False]),
        ("Xor", [YES, NO], {}, [False, True, True, False]),
        ("Not", [YES], {}, [False, False, True, True]),
        ("IsNaN", [torch.tensor([0.0, torch.nan])], {}, [False, True]),
        ("Where", [NO, torch.arange(4), torch.tensor([9])], {}, [0, 9, 2, 9]),
        ("CastLike", [torch.tensor([1.7, -1.7]), torch.tensor([0])], {}, [1, -1]),
        ("Size", [torch.zeros(2, 3)], {}, 6),
        ("Range", [torch.tensor(1), torch.tensor(8), torch.tensor(3)], {}, [1, 4, 7]),
        ("Range", [torch.tensor(4), torch.tensor(0), torch.tensor(-2)], {}, [4, 2]),
        ("ConstantOfShape", [torch.tensor([2])], {"value": torch.tensor([3])}, [3, 3]),
        ("ConstantOfShape", [torch.tensor([2])], {}, [0.0, 0.0]),
        ("Swish", [torch.tensor([0.0, 2.0])], {"alpha": 0.5}, [0.0, 2 / (1 + torch.exp(torch.tensor(-1.0)).item())]),
    ],
)
def test_operators_that_no_setting_draws(kind: str, inputs: list[torch.Tensor], attributes: Any, expected: Any) -> None:
    value = OPERATORS[kind](Node(kind, 18, attributes), *inputs)
    wanted = torch.tensor(expected)
    assert value.dtype == wanted.dtype
    torch.testing.assert_close(value, wanted)


def test_the_page_lists_all_operators_and_nothing_else() -> None:
    """`python scripts/torture_onnx.py --page` writes it."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "lab-book" / "support_operators.md").read_text(
        encoding="utf-8"
    )
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[1:] == sorted(OPERATORS)
