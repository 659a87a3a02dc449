"""A query starts fast: it imports nothing that only embedding, analysis or plots need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import add, near, net, space

#: Packages that a query of a registered model does not need. pydantic is typer's, see modelspace/cli/parsing.py.
HEAVY = (
    "torch",
    "scipy",
    "faiss",
    "rich",
    "pandas",
    "matplotlib",
    "umap",
    "sklearn",
    "numba",
    "captum",
    "PIL",
    "pydantic",
)

PROGRAM = """
import sys
{before}
from modelspace.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    if ended.code:
        raise
print("imported:", *(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


def heavy_imports(*words: str, before: str = "") -> list[str]:
    """The heavy packages that a fresh interpreter has imported after a command."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before, heavy=HEAVY), *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.rpartition("imported:")[2].split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    registry = space(folder, images=4, methods=["gradient_x_input"])
    for name, module in {"a": net(1), "b": near(1, 0.1), "c": net(2)}.items():
        add(registry, name, module)
    return folder


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "words",
    [
        ["nearest", "a", "-k", "2", "--format", "table"],
        ["nearest", "a", "--where", "parameters > 0", "--format", "json"],
        ["list"],
        ["show", "a"],
        ["spaces", "--format", "csv"],
        ["sql", "SELECT name FROM models"],
    ],
    ids=lambda words: words[0],
)
def test_queries_import_nothing_heavy(home: Path, words: list[str]) -> None:
    assert heavy_imports(*words, "--home", str(home)) == []


@pytest.mark.wide
def test_an_import_would_be_seen(home: Path) -> None:
    assert heavy_imports("nearest", "a", "--home", str(home), before="import pandas, faiss, rich") == [
        "faiss",
        "rich",
        "pandas",
    ]


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["nearest", "--help"]])
def test_help_imports_not_even_numpy(words: list[str]) -> None:
    program = PROGRAM.format(before="", heavy=("numpy", "duckdb", "faiss", "torch", "rich", "pydantic"))
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)
    assert done.stderr == "imported:\n"


def test_importing_the_package_imports_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, modelspace; names = {'numpy', 'duckdb', 'faiss', 'torch', 'typer'} & set(sys.modules);"
        "print(sorted(names), modelspace.Preprocessing.__name__, modelspace.ModelspaceError.__name__,"
        " 'ModelSpace' in dir(modelspace), hasattr(modelspace, 'nonsense'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[] Preprocessing ModelspaceError True False\n", done.stderr


def test_direct_conversion_gives_the_same_values_as_typer() -> None:
    """Simple values, converted by `modelspace.cli.parsing` and by typer."""
    import typer

    from modelspace.cli import nearest
    from modelspace.cli.app import SETTINGS, load

    plain = typer.Typer(add_completion=False, rich_markup_mode=None)
    plain.command("nearest", context_settings=SETTINGS)(nearest.command)
    words = [
        "depth",
        "-k",
        "07",
        "--format",
        "csv",
        "-q",
        "--mean",
        "1",
        "--value-range",
        "-1",
        "1",
        "--batch-size",
        "3",
    ]
    ours = load("nearest").make_context("nearest", list(words)).params
    theirs = typer.main.get_command(plain).make_context("nearest", list(words)).params
    assert ours == theirs
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in theirs.items()}


#: Says what the end of a process does, with and without taking the interpreter apart.
ENDING = """
import atexit, sys
{before}
class Told:
    def __del__(self): print("taken apart")
told = Told()
atexit.register(print, "exit functions")
from modelspace.cli import run
run()
"""


@pytest.mark.parametrize(
    ("before", "words", "expected"),
    [
        ("", ["nearest", "a", "--format", "csv"], (0, ["exit functions"])),
        ("import cProfile; cProfile.Profile().enable()", ["--version"], (0, ["exit functions", "taken apart"])),
        ("", ["nearest", "b", "-k", "0"], (2, ["exit functions"])),
    ],
    ids=["command", "profiled", "failure"],
)
def test_a_program_ends_without_taking_the_interpreter_apart(
    home: Path, before: str, words: list[str], expected: tuple[int, list[str]]
) -> None:
    if words[0] == "nearest":
        words = [*words, "--home", str(home)]
    program = ENDING.format(before=before)
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stdout.splitlines() if line in ("exit functions", "taken apart")]
    assert (done.returncode, lines) == expected
    assert done.stdout.startswith("rank,") == (words[2:3] == ["--format"])
