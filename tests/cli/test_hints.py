"""What a hint says is typed: the error is provoked, the command or option of its hint is run, and the error is gone.

`test_spelling.py` checks that every other command that a message names can be parsed.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import hint_cases
import pytest
import typed_cases
from hint_cases import Case, Step
from labelled_pictures import pictures
from message_texts import FILLED, PACKAGE, commands_of, messages, texts
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.cli.spelling import in_flags
from modelspace.errors import ModelspaceError
from modelspace.registry import Registry
from modelspace.workspace import ModelSpace


@dataclass(frozen=True)
class Typed:
    """A command line that was run: exit code, and what it printed."""

    code: int
    output: str


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders to begin with: a registry of three models, one without models, one without spaces, and none."""
    folder = tmp_path_factory.mktemp("places")
    for name in ("home", "empty", "bare", "none"):
        pictures(folder / name / "images", per_class=4)
        (folder / name / "nets.py").write_text(hint_cases.NETS)
        (folder / name / "zoo.toml").write_text(hint_cases.ZOO)
    Registry.create(folder / "bare" / "registry.duckdb")
    probes = {"images": 10, "probes": "yards"}
    space = ModelSpace.create(folder / "empty", methods=("saliency", "dds"), canvas=8, **probes)
    shutil.copy(space.path, folder / "home")
    with contextlib.chdir(folder / "home"):
        space = ModelSpace.open(".")
        for name in ("make", "wide", "deep"):
            space.add(f"python:nets.py:{name}", name=name, preprocessing=hint_cases.STATED, task="depth")
        space.add_task("seen", "images")
    shutil.rmtree(folder / "home" / "index", ignore_errors=True)
    return folder


@pytest.fixture
def home(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the registry of three models, in the current folder."""
    home = Path(shutil.copytree(places / "home", tmp_path / "home"))
    monkeypatch.chdir(home)
    return home


def run(line: str) -> Typed:
    """Run a command line in the current folder; its output has no quotes and escapes of JSON."""
    done = CliRunner().invoke(app, shlex.split(line))
    output = done.output
    if "--format json" in line:
        with contextlib.suppress(ValueError):
            output = "\n".join([*_strings(json.loads(done.stdout)), done.stderr])
    return Typed(done.exit_code, output)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def do(step: Step) -> None:
    if isinstance(step, str):
        done = run(step)
        assert done.code == 0, (step, done.output)
    else:
        step()


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("list --where task=depth", r"(--where .*)$"),
        ("list --where 'task = \"depth\"'", r"(--where .*)$"),
        ("nearest make -k 0", r"(-k 5)"),
        ("layers python:nets.py:make", r"add the values .*, for example (--input-size.*)$"),
        ("add python:nets.py:make --name third", r"add the values .*, for example (--input-size.*)$"),
        (f"add python:nets.py:wide --name make {hint_cases.FLAGS}", r"(--replace)"),
        ("export models.csv", r"(--force)"),
        ("nearest make --space transfer --hubs csls", r"(--rerank none)"),
        ("nearest make --rerank direct", r"did you mean (?P<value>directed)\?"),
        ("list --where \"tak = 'x'\"", r"for example: (--where .*)$"),
    ],
)
def test_the_options_of_hints_remove_the_error(home: Path, line: str, hint: str) -> None:
    if "transfer" in line:
        do("init --space transfer --blend dds=1 --rerank directed")
    (home / "models.csv").write_text("x")
    refused = run(line)
    assert refused.code in (1, 2), refused.output
    (printed,) = re.findall(r"^hint: (.*)$", refused.output, re.MULTILINE)
    match = re.search(hint, printed)
    assert match, refused.output
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
    done = run(shlex.join(words))
    assert done.code == 0, (words, done.output)


@pytest.mark.wide
def test_a_hint_for_other_weights_runs_the_model_as_it_was(home: Path) -> None:
    hint_cases.reseeded()
    (line,) = Plain("`space.add(FILLED, name=FILLEDFILLED)`").commands(run("verify --reembed deep").output)
    do(line)
    assert ModelSpace.open(home).show("new").preprocessing["input_size"] == [16, 16]


# ---- every command that a message names


class Plain:
    """The text of a source string as a pattern of what is printed, with a group for each command that it names."""

    def __init__(self, text: str) -> None:
        parts = []
        for place, part in enumerate(re.split(r"`([^`\n]+)`", text)):
            typed = in_flags(f"`{part}`") if place % 2 else part
            command = re.fullmatch(r"'modelspace (.*)'", typed) if place % 2 else None
            name = f"{{}}{place}"
            if command:
                words = _pattern(command[1])
                quoted = f"'modelspace (?P<{name.format('a')}>{words})'(?!\\w)"
                parts.append(f"(?:{quoted}|modelspace (?P<{name.format('b')}>{words})$)")
            else:
                parts.append(_pattern(typed))
        self.pattern = re.compile("".join(parts), re.MULTILINE)

    def commands(self, output: str) -> list[str]:
        """The commands in what was printed, without "modelspace"; none if the text is not there."""
        match = self.pattern.search(output)
        return [words for words in match.groups() if words] if match else []


def _pattern(text: str) -> str:
    return re.escape(text).replace(FILLED, ".*?")


@cache
def named() -> dict[tuple[str, str], Plain]:
    """Module and source text of each message that names a command."""
    lists = {"cli.list": tuple(texts((PACKAGE / "cli" / "list.py").read_text("utf-8")))}
    return {
        (module, text): Plain(text)
        for module, found in (messages() | lists).items()
        for text in found
        if list(commands_of(text))
    }


#: Messages whose commands are not run here: module and a part of the text -> why, and the test that covers it.
NOT_RUN: dict[tuple[str, str], str] = {
    ("sources.identify", "put FILLED and FILLED next to it"): (
        "needs the weights of a whole model of transformers; sources/test_huggingface.py:"
        " test_a_relative_folder_and_weights_of_ones_own loads such a folder with them"
    ),
    ("spaces.milvus", "fill it: `space.push_index(index=FILLED)`"): (
        "needs a store; spaces/test_milvus.py: test_a_large_copy_that_disagrees_is_refused_with_what_to_do fills it"
    ),
    ("verbs.index", "`space.push_index(whole=True)` fills all of it again"): (
        "needs a store; spaces/test_milvus.py: test_a_push_that_arrives_damaged_is_refused fills it"
    ),
    ("verbs.verify", "run `space.push_index()`"): (
        "needs a store; spaces/test_milvus.py: test_verify_compares_the_copy_that_queries_use reads it"
    ),
    ("verbs.verify", "don't use `space.rebuild(coordinates=True)`"): (
        "it names what not to type; verbs/test_verify.py reads it"
    ),
}


def source(case: Case) -> Plain:
    """The message that a case provokes."""
    (plain,) = (plain for (module, text), plain in named().items() if module == case.module and case.text in text)
    return plain


def provoked(refused: str | Callable[[], object]) -> str:
    """The message, as the command line prints it."""
    if isinstance(refused, str):
        return run(refused).output
    with pytest.raises(ModelspaceError) as caught:
        refused()
    return in_flags(str(caught.value))


def filled(words: str, values: dict[str, str], more: str) -> str:
    """The words of a hint with what is typed for those that stand for something."""
    typed = " ".join(values.get(word, word) for word in words.split(" "))
    return f"{typed} {more}"


#: Folder and command line of plain cases that were run: the same line in the same folder is not run twice.
RAN: set[tuple[str, str]] = set()


@pytest.mark.first(6)
@pytest.mark.sampled(5)
@pytest.mark.parametrize("case", hint_cases.CASES, ids=lambda case: f"{case.module} {case.text}")
def test_the_commands_of_a_message_can_be_run(
    case: Case, places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(shutil.copytree(places / case.home, tmp_path / "home"))
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(home))
    for step in case.before:
        do(step)
    with pytest.MonkeyPatch.context() as patch:
        for target, value in case.patched.items():
            patch.setattr(target, value)
        output = provoked(case.refused)
    lines = source(case).commands(output)
    assert lines, output
    for step in case.mend:
        do(step)
    for line in lines:
        typed = filled(line, case.values, case.more)
        known = (case.home, typed)
        if case.is_plain and known in RAN:
            continue
        done = run(typed)
        assert done.code == case.code, (typed, done.output)
        if case.is_plain:
            RAN.add(known)
    if case.again:
        assert isinstance(case.refused, str)
        done = run(case.refused)
        assert done.code == 0, (case.refused, done.output)
        assert not source(case).commands(done.output), done.output


def test_every_message_that_names_a_command_is_provoked_or_says_why_not() -> None:
    provoked = {(case.module, case.text) for case in hint_cases.CASES}
    covered = provoked | set(NOT_RUN)
    places = {part: [each for each in named() if each[0] == part[0] and part[1] in each[1]] for part in covered}
    assert {part: found for part, found in places.items() if len(found) != 1} == {}
    assert provoked & set(NOT_RUN) == set()
    assert set(named()) - {found for (found,) in places.values()} == set()


# ---- what the command line itself says, in plain text


@pytest.mark.first(3)
@pytest.mark.sampled(5)
@pytest.mark.parametrize("case", typed_cases.CASES, ids=lambda case: f"{case.module} {case.text}")
def test_the_commands_of_a_plain_message_can_be_run(
    case: typed_cases.Typed, places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(shutil.copytree(places / case.home, tmp_path / "home"))
    monkeypatch.chdir(home)
    for step in case.before:
        do(step)
    with pytest.MonkeyPatch.context() as patch:
        for target, value in case.patched.items():
            patch.setattr(target, value)
        printed = run(case.typed)
    assert printed.code == case.code, printed.output
    (text,) = typed_cases.of(case.module, case.text)
    words = typed_cases.command(text, printed.output)
    assert words, printed.output
    for step in case.mend:
        do(step)
    values = typed_cases.EXAMPLES | case.values
    line = shlex.join([values.get(word, word) for word in words]) + f" {case.more}"
    done = run(line)
    assert done.code == 0, (line, done.output)


def test_every_plain_message_that_names_a_command_is_provoked_or_says_why_not() -> None:
    parts = [(case.module, case.text) for case in typed_cases.CASES] + list(typed_cases.OTHERS)
    found = [typed_cases.of(*part) for part in parts]
    assert [part for part, texts in zip(parts, found, strict=True) if len(texts) != 1] == []
    assert {(module, text) for (module, _), (text,) in zip(parts, found, strict=True)} == typed_cases.named()
