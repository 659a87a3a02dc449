"""The table of tested networks: its coverage, and that the page in docs/ has its rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_support", ROOT / "scripts" / "check_support.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_support"] = module
    spec.loader.exec_module(module)
    return module


def test_it_covers_many_networks_each_once(script):
    names = {title: [case.name for case in cases()] for title, cases in script.GROUPS.items()}
    every = [name for group in names.values() for name in group]
    assert len(set(every)) == len(every)
    assert len(names["timm"]) >= 40
    assert len(names["torchvision"]) >= 15
    assert len(names["transformers"]) >= 8


def test_the_page_has_a_line_for_every_network(script):
    text = script.PAGE.read_text(encoding="utf-8")
    for title, cases in script.GROUPS.items():
        section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
        rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
        assert rows == [case.name.partition(":")[2].strip() for case in cases()]


def test_a_row_says_what_went_wrong(script):
    row = script.check("nothing", "zoo:nothing")
    assert not row.loads
    assert not row.good
    assert "the zoo has no model called 'nothing'" in row.error


@pytest.mark.long
def test_a_row_of_a_model_of_the_zoo(script):
    row = script.check("zoo", "zoo:rgb2depth")
    assert row.good
    assert row.residual < script.CLOSED
    assert row.methods == dict.fromkeys(script.METHODS, True)
    text = script.page({"zoo": [row]})
    assert "**1 networks: 1 load, 1 give all three maps, the ledger closes for 1." in text
