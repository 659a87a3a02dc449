"""A test that is skipped because something is missing fails if that is required."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import required_parts

ROOT = Path(__file__).parents[1]

TESTS = {
    "test_module.py": """
        import pytest
        pytest.importorskip("pandas_that_is_not_there", reason="could not import 'pandas'")
        def test_never(): pass
    """,
    "test_mark.py": """
        import pytest
        @pytest.mark.skipif(True, reason="needs a CUDA device")
        def test_fine(): pass
        def test_passes(): pass
        @pytest.mark.xfail(reason="known")
        def test_expected_to_fail(): assert 0
    """,
    "test_call.py": """
        import pytest
        @pytest.fixture
        def browser(): pytest.skip("the browser tests need Chromium: apt-get install chromium")
        def test_a_page(browser): pass
        def test_another_reason(): pytest.skip("not today")
    """,
}


def run(folder: Path, required: str | None, *options: str) -> tuple[int, str]:
    for name, text in TESTS.items():
        lines = text.strip("\n").splitlines()
        (folder / name).write_text("\n".join(line[8:] for line in lines))
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MODELSPACE"))}
    environment["PYTHONPATH"] = str(ROOT / "tests" / "support")
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # of all installed plugins, only those named below
    if required is not None:
        environment[required_parts.VARIABLE] = required
    command = [sys.executable, "-m", "pytest", "-p", "required_parts", "-p", "no:cacheprovider"]
    command += [*(["-p", "xdist"] if "-n" in options else []), *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_without_the_variable_skips_are_skips(tmp_path: Path) -> None:
    code, said = run(tmp_path, None)
    assert code == 0, said
    assert "1 passed, 4 skipped, 1 xfailed" in said


@pytest.mark.first(1)
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_module_that_is_skipped_for_the_lack_of_it_fails(tmp_path: Path, workers: tuple[str, ...]) -> None:
    code, said = run(tmp_path, "chromium,pandas", *workers)
    assert code != 0, said
    assert re.search(r"could not import 'pandas'\npandas is required here \(MODELSPACE_REQUIRE\)", said), said


def test_a_test_that_is_skipped_for_the_lack_of_it_fails_and_so_does_an_unknown_reason(tmp_path: Path) -> None:
    code, said = run(tmp_path, "chromium, ray")
    assert code == 1, said
    assert "chromium is required here" in said
    assert "not today\nthis reason is not known" in said
    assert re.search("1 failed, 1 passed, 2 skipped, 1 xfailed, 1 error", said), said


def test_a_part_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    code, said = run(tmp_path, "pands")
    assert code == pytest.ExitCode.USAGE_ERROR, said
    assert "MODELSPACE_REQUIRE names pands; it may name chromium, " in said


def reasons_in(text: str) -> list[str]:
    """The reasons of all skips in a module's source."""
    reasons = []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        verb = ast.unparse(call.func).split(".")[-1]
        if verb not in ("skip", "skipif", "importorskip"):
            continue
        given = [word.value for word in call.keywords if word.arg == "reason"] or call.args[:1]
        assert isinstance(given[0], ast.Constant), f"the reason is not a plain text: {ast.unparse(call)}"
        reasons.append(f"could not import {given[0].value!r}" if verb == "importorskip" else given[0].value)
    return reasons


@pytest.mark.wide
def test_every_reason_in_the_tests_is_known() -> None:
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if file != Path(__file__)]
    reasons = {reason for file in files for reason in reasons_in(file.read_text("utf-8"))}
    assert len(reasons) >= 15
    assert sorted(reason for reason in reasons if required_parts.forbidden(reason, [])) == []
    unused = [name for name in required_parts.PARTS if not any(required_parts.forbidden(r, [name]) for r in reasons)]
    assert unused == [], "no test is skipped for the lack of these"


def test_reasons_are_found_in_a_text() -> None:
    text = 'pytest.importorskip("a.b")\nx = pytest.mark.skipif(1 < 2, reason="c")\ndef f():\n    pytest.skip("d")'
    assert reasons_in(text) == ["could not import 'a.b'", "c", "d"]
    assert reasons_in('importorskip("a", reason="needs a")') == ["could not import 'needs a'"]


def test_make_test_requires_what_it_installs() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    (listed,) = re.findall(r"^REQUIRE := (\S+)", text, re.MULTILINE)
    (more,) = re.findall(r"^MORE := (.+)", text, re.MULTILINE)
    further = {"pyarrow" if extra == "arrow" else extra for extra in more.split()}
    assert set(listed.split(",")) == set(required_parts.PARTS) - {"chromium", "milvus"} - further
    assert 'REQUIRED := MODELSPACE_REQUIRE="$(REQUIRE)' in text
    assert len(re.findall(r"^\t\$\(REQUIRED\) \$\(PYTEST\) .*not long", text, re.MULTILINE)) == 2
    (installed,) = re.findall(r"^EXTRAS=(\S+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert installed.split(",") == ["dev", *more.split()], "what `make test` goes without, .ci/run has"
