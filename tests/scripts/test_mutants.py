"""Mutants: each is one change that the source shows, and it is told apart whether tests notice it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from mutation import changes, modules, page  # noqa: E402
from mutation.results import Result  # noqa: E402
from mutation.trials import Outcome  # noqa: E402

SOURCE = '''
"""A module."""
LIMIT: "1 + 1" = 3


def area(width, height=2, *, scale=True):
    """Width times height."""
    if not width < LIMIT and scale:
        raise ValueError(f"{width + 1} is too wide")
    print(width)
    return width * height
'''


def changed(source: str) -> list[str]:
    return [mutant.change for mutant in changes.mutants(ast.parse(source))]


def test_each_kind_of_change_is_made_once() -> None:
    assert sorted(changed(SOURCE)) == sorted(
        [
            "3 → 4",
            "2 → 3",
            "True → False",
            "not width < LIMIT and scale → not width < LIMIT or scale",
            "not width < LIMIT → width < LIMIT",
            "width < LIMIT → width <= LIMIT",
            "raise ValueError(f'{width + 1} is too wide') → pass",
            "print(width) → pass",
            "return width * height → return None",
            "width * height → width / height",
        ]
    )


def test_a_mutant_differs_in_one_line_and_leaves_the_tree_alone() -> None:
    tree = ast.parse(SOURCE)
    before = ast.unparse(tree).splitlines()
    for mutant in changes.mutants(tree):
        after = ast.unparse(mutant.code(tree)).splitlines()
        assert sum(old != new for old, new in zip(before, after, strict=True)) == 1, mutant.change
        assert ast.unparse(tree).splitlines() == before
        compile(mutant.code(tree), "mutant", "exec")


def test_equal_changes_of_one_function_have_names_of_their_own() -> None:
    source = "def add(a):\n    return a[0] + a[0]\n"
    names = [(mutant.function, mutant.change) for mutant in changes.mutants(ast.parse(source))]
    assert len(set(names)) == len(names) == 4
    assert ("add", "0 → 1 in a[0] (2)") in names


def test_conditions_are_negated_and_prose_is_left_alone() -> None:
    assert changed("if ready:\n    'a remark'\nelse:\n    go()\n") == ["if ready → if not ready", "go() → pass"]
    assert changed("x: int = f'{1 + 2}'\n") == []


def test_the_instrumented_module_reports_what_ran() -> None:
    lines: list[int] = []
    code = compile(changes.instrumented(ast.parse(SOURCE)), "instrumented", "exec")
    names = {changes.PROBE: lines.append}
    exec(code, names)
    assert lines == [3, 6]
    assert names["area"](3, 4, scale=False) == 12
    assert lines == [3, 6, 8, 10, 11]
    assert changes.statement_line(ast.parse(SOURCE), 9) == 9


RUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mutation import changes, trials
import ast
trials.LIBRARIES = ("pytest", "hypothesis")
trials.ROOT, trials.GRACE = Path(sys.argv[2]), 2.0
trials.prepare()
file = trials.ROOT / "modelspace" / "area.py"
mutants = changes.mutants(ast.parse(file.read_text()))
outcomes = trials.trials("modelspace.area", file, mutants, ["tests/test_area.py"], 2)
print(json.dumps({o.mutant.change: o.verdict for o in outcomes}))
"""
AREA = """
def area(width, height):
    if width < 0:
        return 0
    return width * height


def unused():
    return 1


def countdown(n):
    while n > 0:
        n -= 1
    return n
"""
TESTS = """
from modelspace.area import area, countdown

def test_area():
    assert area(2, 3) == 6
    assert area(-2, 3) == 0

def test_countdown():
    assert countdown(3) == 0
"""


@pytest.mark.wide
def test_it_is_told_apart_which_mutants_are_noticed(tmp_path: Path) -> None:
    for name, text in {"modelspace/__init__.py": "", "modelspace/area.py": AREA, "tests/test_area.py": TESTS}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    arguments = [sys.executable, "-c", RUN, str(ROOT / "scripts"), str(tmp_path)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    verdicts = json.loads(result.stdout)
    assert verdicts["width * height → width / height"] == "killed"
    assert verdicts["0 → 1 in width < 0"] == "survived"
    assert verdicts["width < 0 → width <= 0"] == "survived"
    assert verdicts["return 1 → return None"] == "not run"
    assert verdicts["n -= 1 → pass"] == "timeout"


def test_the_share_leaves_out_equivalent_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = changes.mutants(ast.parse(SOURCE))
    module = "spaces/hubness.py"
    monkeypatch.setitem(modules.EQUIVALENT, (module, "area", mutants[1].change), "because | so")
    verdicts = ["killed", "survived", "timeout", "not run"]
    result = Result(module, 10, [Outcome(m, v, 0.1) for m, v in zip(mutants[:4], verdicts, strict=True)], 1.0)
    assert (result.killed, len(result.equivalent), len(result.survivors)) == (2, 1, 1)
    assert result.share == pytest.approx(2 / 3)
    text = page.text([result], 4, 0)
    assert f"| `{module}` | `spaces/test_hubness.py` | 10 | 4 | 2 | 1 | 1 | 67% |" in text
    assert f"| `{module}` | `area` | `{mutants[3].change}` | no test reaches it |" in text


def test_the_modules_and_their_tests_exist_and_so_do_the_equivalent_mutants() -> None:
    assert len(modules.MODULES) == 11
    for module, tests in modules.MODULES.items():
        assert all((ROOT / "tests" / test).is_file() for test in tests)
        mutants = changes.mutants(ast.parse((ROOT / "modelspace" / module).read_text()))
        known = {(mutant.function, mutant.change) for mutant in mutants}
        named = {(function, change) for name, function, change in modules.EQUIVALENT if name == module}
        assert named <= known, f"{module} changed: name its equivalent mutants again"
    assert {name for name, _, _ in modules.EQUIVALENT} <= set(modules.MODULES)
