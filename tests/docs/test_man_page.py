"""The man page: complete, up to date, and read by groff without a warning."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelspace.cli.app import COMMANDS, load

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_man_page.py"

#: What the page may ask of roff.
REQUESTS = {".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".nf", ".fi", '.\\"'}


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_man_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(script: Any) -> str:
    return str(script.page())


def test_it_is_up_to_date(script: Any, page: str) -> None:
    assert script.PAGE.read_text("utf-8") == page, "run 'python scripts/make_man_page.py'"


def test_the_check_fails_when_it_is_old(tmp_path: Path) -> None:
    for name in (SCRIPT.name, "make_cli_docs.py"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copyfile(SCRIPT.parent / name, tmp_path / "scripts" / name)
    run = [sys.executable, str(tmp_path / "scripts" / SCRIPT.name)]
    options: dict[str, Any] = {"env": {"PYTHONPATH": str(ROOT)}, "timeout": 60, "capture_output": True}
    assert subprocess.run([*run, "--check"], **options).returncode == 1
    assert subprocess.run(run, **options).returncode == 0
    assert subprocess.run([*run, "--check"], **options).returncode == 0


def test_it_has_every_command_option_and_example(page: str) -> None:
    plain = page.replace("\\-", "-").replace("\\(ti", "~").replace("\\e", "\\")
    for name in COMMANDS:
        command = load(name)
        for each in (command, *getattr(command, "commands", {}).values()):
            for param in each.params:
                for option in param.opts if not getattr(param, "hidden", False) else ():
                    assert not option.startswith("-") or option in plain, (name, option)
            for line in (each.epilog or "").split("\n"):
                assert line.replace("\b", "").strip() in plain, (name, line)
        assert f".SS modelspace {name}" in plain
    for word in (".SH EXIT STATUS", ".B 141", ".SH ENVIRONMENT", ".B MODELSPACE_HOME", ".B PAGER"):
        assert word in page


def test_only_known_requests_and_no_text_that_roff_would_take_for_one(page: str) -> None:
    assert {line.split(" ", 1)[0] for line in page.splitlines() if line[:1] in (".", "'")} <= REQUESTS
    assert set(re.findall(r"\\(?!\").", page)) <= {"\\-", "\\e", "\\&", "\\("}
    assert page.count(".nf\n") == page.count(".fi\n")
    assert not [line for line in page.splitlines() if not line]  # a blank line breaks the paragraph


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_no_complaint(script: Any) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", str(script.PAGE)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "--private" in re.sub(r".\x08", "", done.stdout)  # bold is printed by striking letters twice
