"""What a hint says is typed: the error is provoked, the command or option of its hint is run, and the error is gone.

`test_spelling.py` checks that every other command that a message names can be parsed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.workspace import ModelSpace

NETS = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))

def wide():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))
"""
FLAGS = "--input-size 16 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"

#: A command line of a hint: in quotes, or the rest of its line after a colon.
COMMAND = re.compile(r"'modelspace ([^\n]*?)'(?=$|[\s,;:.)])|: modelspace ([^\n]*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of two models in a space of maps, a file of nets, and a folder without a registry."""
    folder = tmp_path_factory.mktemp("hints")
    (folder / "nets.py").write_text(NETS)
    (folder / "none").mkdir()
    space = ModelSpace.create(folder / "home", methods=("saliency",), images=10, canvas=8, probes="yards")
    for name in ("make", "wide"):
        stated = {"input_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
        space.add(f"python:{folder}/nets.py:{name}", name=name, preprocessing=stated, task="depth")
    return folder


@dataclass(frozen=True)
class Typed:
    """A command that was run: its exit code, and its hint on one line."""

    code: int
    output: str
    hint: str


@pytest.fixture
def typed(folder: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]  # a function
    """Runs a command in the folder, on its registry."""
    monkeypatch.chdir(folder)

    def run(line: str) -> Typed:
        words = shlex.split(line)
        done = CliRunner().invoke(
            app, words if "--home" in words or words[0] == "layers" else [*words, "--home", "home"]
        )
        hint = re.search(r"^hint: (.*)$", done.stderr, re.MULTILINE)
        return Typed(done.exit_code, done.output, hint[1] if hint else "")

    return run


def test_the_commands_of_hints_remove_the_error(typed) -> None:  # type: ignore[no-untyped-def]
    """A registry that is missing; kernels that are missing; models that a space lacks."""
    home = "list --home none"
    refused = typed(home)
    assert refused.code == 1
    follow(typed, refused.hint, "--images 3 --method dds")  # fewer images than the default, which takes a minute
    assert typed(home).code == 0

    directed = "nearest make --rerank directed"
    refused = typed(directed)
    assert refused.code == 1
    init, fill = commands(refused.hint)
    assert "--probes yards --images 10" in init  # the same images, or the kernels would be of no use
    done = typed(init)
    assert done.code == 0
    assert done.output.endswith("next: modelspace fill dds\n")
    lacking = typed(directed)  # the space exists now, and is empty
    assert lacking.code == 1
    in_kernels = typed("nearest make --space dds")
    assert in_kernels.code == 1
    assert [typed(line).code for line in commands(lacking.hint)] == [0]
    assert typed(directed).code == 0
    assert typed("nearest wide --space dds").code == 1
    follow(typed, typed("nearest wide --space dds").hint)
    assert typed("nearest wide --space dds").code == 0
    assert typed(fill).code == 0  # nothing is left to do


def commands(hint: str) -> list[str]:
    """The command lines that a hint names, without "modelspace"."""
    return [first or second for first, second in COMMAND.findall(hint)]


def follow(typed, hint: str, more: str = "") -> None:  # type: ignore[no-untyped-def]
    """Run the commands of a hint, which must have some."""
    lines = commands(hint)
    assert lines, hint
    for line in lines:
        done = typed(f"{line} {more}")
        assert done.code == 0, (line, done.output)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("list --where task=depth", r"(--where .*)$"),
        ("list --where 'task = \"depth\"'", r"(--where .*)$"),
        ("nearest make -k 0", r"(-k 5)"),
        ("layers python:nets.py:make", r"add the values .*, for example (--input-size.*)$"),
        ("add python:nets.py:make --name third", r"add the values .*, for example (--input-size.*)$"),
        (f"add python:nets.py:wide --name make {FLAGS}", r"(--replace)"),
        ("export models.csv", r"(--force)"),
        ("nearest make --space transfer --hubs csls", r"(--rerank none)"),
        ("nearest make --rerank direct", r"did you mean (?P<value>directed)\?"),
        ("list --where \"tak = 'x'\"", r"for example: (--where .*)$"),
    ],
)
def test_the_options_of_hints_remove_the_error(typed, line: str, hint: str) -> None:  # type: ignore[no-untyped-def]
    if "transfer" in line or "rerank" in line:
        typed("init --method dds --probes yards --images 10")
        typed("fill")
        typed("init --space transfer --blend dds=1 --rerank directed")
    (Path("models.csv")).write_text("x")
    refused = typed(line)
    assert refused.code in (1, 2), refused.output
    match = re.search(hint, refused.hint)
    assert match, refused.hint
    words = shlex.split(line)
    if match.re.groupindex:
        words[-1] = match["value"]
    else:
        option, *_ = fixed = shlex.split(match[1])
        if option in words and len(fixed) == 2:  # another value of an option that was given
            at = words.index(option)
            words[at : at + 2] = fixed
        else:
            words += fixed
    done = typed(shlex.join(words))
    assert done.code == 0, (words, done.output)


def test_a_hint_for_other_weights_runs_the_model_as_it_was(typed, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """Weights that changed: the new ones are added under another name, with all that the model needs."""
    nets = folder / "nets.py"
    nets.write_text(NETS.replace("manual_seed(1)", "manual_seed(2)"))
    try:
        refused = typed("verify --reembed wide")
        assert refused.code == 1
        follow(typed, refused.hint)
        shown = ModelSpace.open(folder / "home").show("new")
    finally:
        nets.write_text(NETS)
        typed("remove new --force")
    assert shown.preprocessing["input_size"] == [16, 16]
