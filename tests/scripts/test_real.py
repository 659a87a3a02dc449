"""The script of `make real`, without the packages: its addresses, and the page that it writes."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from modelspace import ModelSpace
from modelspace.sources import flags_of, parse_uri
from modelspace.sources.base import merge_preprocessing

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_real", ROOT / "scripts" / "check_real.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_real"] = module
    spec.loader.exec_module(module)
    return module


def test_every_package_is_installed_by_make_real(script: ModuleType) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["real"]
    installed = {re.split(r"[\[<>=]", requirement)[0] for requirement in extra}
    installed |= set(re.findall(r"--no-deps ([a-z-]+)", (ROOT / "Makefile").read_text("utf-8")))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for case in script.CASES:
        scheme, name = parse_uri(case.uri)
        if scheme == "onnx":
            folder = name.split("/")[1]
            assert name.startswith(".real/")
            assert folder in makefile, case.name
            continue
        package = name.partition("/")[0] if scheme == "package" else name.partition(".")[0].replace("_", "-")
        assert package in installed, case.name


def test_every_preprocessing_can_be_read(script: ModuleType) -> None:
    assert len({case.name for case in script.CASES}) == len(script.CASES)
    for case in script.CASES:
        values = {"input_size": 64, **case.preprocessing}
        assert merge_preprocessing(None, flags_of(values)).n_channels in (1, 3)


@pytest.mark.long
def test_a_package_that_is_not_installed_is_no_refusal(script: ModuleType, tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=3, canvas=16)
    absent = script.check(script.Case("absent", "package:no-such-nets/a.onnx"), space)
    refused = script.check(script.Case("refused", "package:torch/torch/version.txt"), space)
    assert (absent.is_absent, refused.is_absent) == (True, False)
    assert script._without_folders(f"{sys.path[-1]}/a/b.pt fails") == "a/b.pt fails"
    added = script.check(script.Case("edges", "zoo:edge2d"), space)
    assert (added.error, added.shape) != ("", "")
    page = script.page([absent, refused, added], 2)
    assert "**3 files: 1 registered, 1 refused, 1 not tried.**" in page
    assert "where this page was written: no-such-nets." in page
    assert page.count("\n| refused | torch | ") == 1


def test_the_page_is_of_the_script(script: ModuleType) -> None:
    page = script.PAGE.read_text("utf-8")
    names = set(re.findall(r"^\| ([\w.-]+) \| ", page, re.MULTILINE)) - {"network", "file"}
    assert names == {case.name for case in script.CASES}
    assert not re.search(r"[ (`']/\w", page), "folders of a machine"
