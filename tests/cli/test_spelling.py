"""Messages use parameter and method names; the command line translates them to flags and commands."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cli_support import Line, fake_line, neighbour
from message_texts import FILLED, MODULES, commands_of, messages, texts
from typer.testing import CliRunner

from modelspace.cli import spelling
from modelspace.cli.app import app
from modelspace.cli.commands import COMMANDS, load
from modelspace.cli.spelling import in_flags
from modelspace.errors import ModelspaceError
from modelspace.results import Added, Check, Merged, Neighbours, Outcome, Records
from modelspace.sources.fields import FIELDS
from modelspace.types import Preprocessing

# ---- what every message of the library may name


@cache
def keywords() -> dict[str, frozenset[str]]:
    """The parameters of each public method of `ModelSpace`, including those passed on as `**options`."""
    from modelspace.embedding.prepare import Request
    from modelspace.verbs.evaluate import evaluate
    from modelspace.verbs.try_task import Search
    from modelspace.workspace import ModelSpace

    loading = {entry.name for entry in fields(Request)} - {"model", "name"}
    passed_on = {
        "create": set(inspect.signature(ModelSpace.init).parameters),
        "evaluate": set(inspect.signature(evaluate).parameters) - {"path"},
        "try_task": {entry.name for entry in fields(Search)},
        **dict.fromkeys(("layers", "nearest", "gallery"), loading),
    }
    verbs = {name: verb for name, verb in inspect.getmembers(ModelSpace, callable) if not name.startswith("_")}
    return {
        name: frozenset({*inspect.signature(verb).parameters, *passed_on.get(name, ())} - {"self", "options"})
        for name, verb in verbs.items()
    }


def parameters() -> frozenset[str]:
    """The names that may be written as ``name=`` in a message."""
    return frozenset().union(*keywords().values(), (entry.name for entry in fields(Preprocessing)))


#: Messages whose parameter name is an f-string field: module, and the possible names.
NAMED_LATER = {
    "types": {"crop", "interpolation", "layout"},
    "sources.base": {"channels", "value_range"},
    "sources.fields": set(FIELDS),
    "spaces.ranking": {"hubs", "rerank"},
}

#: Strings that are not messages: a stored format, Markdown's special characters, and the backtick itself.
NO_MESSAGES = {("types", "--layer "), ("plots.report", r"([\\`*_{}\[\]#|~$!])"), ("verbs.manifest", "`")}

#: Commands of other programs.
OTHERS = re.compile(r"pip install [^;]*|ray start --head|scripts/\w+\.py [^);]*|truncate -s")
FLAG = re.compile(r"(?<![\w-])--[a-z]|(?<![\w-])-[a-zA-Z]\b")
COMMAND = re.compile(rf"\bmodelspace ({'|'.join(COMMANDS)})\b")


def mistakes(module: str, source: str) -> list[str]:
    """The problems of the messages of a module."""
    problems = []
    for text in texts(source):
        if (module, text) in NO_MESSAGES:
            continue
        plain = OTHERS.sub("", re.sub(r"`[^`\n]+`", "", text))
        if FLAG.search(plain) or COMMAND.search(plain):
            problems.append(f"names a flag or a command: {text!r}")
        if "`" in plain:
            problems.append(f"an odd backtick: {text!r}")
        for code in re.findall(r"`([^`\n]+)`", text):
            problems += [f"`{code}`: {problem}" for problem in problems_of(code, module)]
    return problems


def problems_of(code: str, module: str) -> Iterator[str]:
    """The problems of a text between backticks."""
    if code in spelling.EXPRESSIONS:
        return
    if match := re.match(r"(\w+)=", code):
        for name in NAMED_LATER.get(module, {FILLED}) if match[1] == FILLED else {match[1]}:
            yield from problems_of_parameter(name, code.replace(f"{FILLED}=", f"{name}=", 1))
        return
    call = ast.parse(code, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        yield "is neither a parameter nor a verb"
    elif call.func.attr not in keywords():
        yield f"there is no verb {call.func.attr}"
    else:
        known = keywords()[call.func.attr]
        yield from (f"{call.func.attr} has no {key.arg}" for key in call.keywords if key.arg not in known)
        if "`" in in_flags(f"`{code}`"):
            yield "is no command"


def problems_of_parameter(name: str, code: str) -> Iterator[str]:
    if name not in parameters():
        yield f"there is no parameter {name}"
    # Preprocessing entries that are f-string fields are checked where they are created (`stating`).
    elif code != f"preprocessing={FILLED}" and "`" in in_flags(f"`{code}`"):
        yield "is no flag"


def test_messages_name_only_what_exists_in_python_and_on_the_command_line() -> None:
    by_module = {name: mistakes(name, path.read_text("utf-8")) for name, path in MODULES.items()}
    assert {name: problems for name, problems in by_module.items() if problems} == {}


def test_there_are_messages_with_backticks_to_check() -> None:
    count = sum(text.count("`") // 2 for found in messages().values() for text in found)
    assert count > 100


def parsed(words: list[str]) -> None:
    """Parse a command line as the program does; a placeholder may stand for a number."""
    name, *rest = words
    parser = load(name)
    if rest and rest[0] in getattr(parser, "commands", {}):
        parser, name, *rest = parser.commands[rest[0]], *rest
    try:
        parser.make_context(name, [*rest])
    except Exception:
        parser.make_context(name, ["5" if word.isupper() else word for word in rest])


def test_every_command_that_a_message_names_can_be_parsed() -> None:
    """With its arguments: what is missing there would be an error when it is typed. `test_hints.py` runs them."""
    problems, count = [], 0
    for name, found in messages().items():
        for text in found:
            for words in commands_of(text):
                count += 1
                try:
                    parsed([word for word in words if word != "..."])
                except Exception as error:
                    problems.append((name, words, str(error)))
    assert problems == []
    assert count > 60


@pytest.mark.parametrize("code", ["space.rename('a')", "space.nearest(k='x')", "space.export()"])
def test_a_command_that_lacks_an_argument_is_noticed(code: str) -> None:
    (words,) = commands_of(f"`{code}`")
    with pytest.raises(Exception, match=r"."):
        parsed(words)


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ('raise UsageError("no", "use `lyer=`")', "there is no parameter lyer"),
        ('raise UsageError("no", "use `lyer=\'x\'`")', "there is no parameter lyer"),
        ('raise UsageError("no", f"use `{name}={value!r}`")', "there is no parameter FILLED"),
        ('hint = "run `space.verfy()`"', "there is no verb verfy"),
        ('hint = "run `space.verify(deeep=True)`"', "verify has no deeep"),
        ('hint = "see `space.affinity()`"', "is no command"),
        ('hint = "see `verify`"', "is neither a parameter nor a verb"),
        ('hint = "use `progress=`"', "is no flag"),
        ("hint = \"use `preprocessing={'size': 3}`\"", "is no flag"),
        ('hint = "use --layer"', "names a flag or a command"),
        ('hint = "example: -k 5"', "names a flag or a command"),
        ('hint = f"use --bits {bits}"', "names a flag or a command"),
        ("hint = \"run 'modelspace verify'\"", "names a flag or a command"),
        ('hint = "use `layer="', "an odd backtick"),
    ],
)
def test_a_message_that_names_anything_else_is_reported(source: str, wrong: str) -> None:
    assert [each for each in mistakes("some.module", source) if wrong in each], mistakes("some.module", source)


@pytest.mark.parametrize(
    "source",
    [
        '"""Docstrings may speak of --flags and `anything`."""',
        'hint = "pip install --upgrade duckdb"',
        'hint = "tap another `layer=`; `space.layers(model)` lists them"',
        'hint = f"use `layer={name!r}`"',
        'text = "well-known and -1..1"',
    ],
)
def test_other_texts_are_fine(source: str) -> None:
    assert mistakes("some.module", source) == []


def test_the_possible_names_of_fields_are_parameters() -> None:
    for names in NAMED_LATER.values():
        assert names <= parameters()


def test_every_method_has_a_command_or_is_for_python_only() -> None:
    for_python = {
        "affinity",
        "clusters",
        "cosines",
        "kept_open",
        "kernels",
        "maps",
        "open",
        "probe_images",
        "probe_names",
        "survey",
        "waiting",
    }
    for name in set(keywords()) - for_python:
        assert "`" not in in_flags(f"`space.{name}()`"), name
    for name in for_python:
        assert in_flags(f"`space.{name}()`") == f"`space.{name}()`"
    assert set(spelling.VERBS) <= set(keywords())


def test_the_flags_of_the_irregular_methods_and_expressions_exist() -> None:
    flags = spelling._flags()
    assert set(spelling.FLAGS.values()) <= flags
    for verb in spelling.VERBS.values():
        assert {*verb.arguments, *verb.flags.values()} - {""} <= spelling._flags_of(verb.command)
    for words in spelling.EXPRESSIONS.values():
        name, *rest = shlex.split(words)
        load(name).make_context(name, rest)
    for name in FIELDS:
        assert spelling.flag(name) in flags


# ---- the translation


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ("pass `layer=`", "pass --layer"),
        ("`k=5`", "-k 5"),
        ("`replace=True`, `store=False`, `weights=None`", "--replace, --no-store, no --weights"),
        ("`where=\"task = 'depth'\"`", "--where \"task = 'depth'\""),
        ("`where='name = \"x\"'`", "--where 'name = \"x\"'"),
        ("`std=''`", "--std ''"),
        ("`weights=file`", "--weights FILE"),
        ("`methods=['dds', 'rsa']`", "--method dds --method rsa"),
        ("`layers=['conv1', 'fc:in']`", "--layers conv1,fc:in"),
        ("`tags={'licence': 'mit'}`", "--tag licence=mit"),
        ("`members={'dds': 0.5, 'saliency': 1}`", "--blend dds=0.5,saliency=1"),
        ("`input_size=(192, 256)` or `input_size=224`", "--input-size 192x256 or --input-size 224"),
        ("`mean=(0.5, 0.25)`, `value_range=(-1, 1)`, `alpha=1.0`", "--mean 0.5,0.25, --value-range -1 1, --alpha 1"),
        ("`preprocessing={'channels': 'gray', 'resize': 8}`", "--channels gray --resize 8"),
        ("`space.verify()`, then `space.rebuild()`", "'modelspace verify', then 'modelspace rebuild'"),
        ("`space.rebuild(coordinates=True)`", "'modelspace rebuild --coordinates'"),
        ("see: `space.verify()`", "see: modelspace verify"),
        ("see: `space.verify()` or not", "see: 'modelspace verify' or not"),
        ("`space.tag('a', ...)` sets them", "'modelspace tag a ...' sets them"),
        ("`space.add(model, name='a b')`", "'modelspace add URI --name \"a b\"'"),
        ("`space.gallery(['a', 'b'], images=[0, 7])`", "'modelspace gallery a b --image 0 --image 7'"),
        ("`space.init(methods=['dds'], name='x')`", "'modelspace init --method dds --space x'"),
        ("`space.blend('x', {'dds': 1})`", "'modelspace init --space x --blend dds=1'"),
        ("`space.create_probes(name, images=3)`", "'modelspace probes create NAME --images 3'"),
        ("`space.backups()` lists them", "'modelspace backup --list' lists them"),
        ("`space.set_default(space)`", "'modelspace spaces --set-default SPACE'"),
        ("`space.add_all('zoo', workers=2)`", "'modelspace add --manifest zoo --workers 2'"),
        ("`ModelSpace.create('/a/b')`", "'modelspace init --home /a/b'"),
        ("`ModelSpace.open(folder).verify(deep=True)`", "'modelspace verify --deep --home FOLDER'"),
        ("write one: `space.evaluate().to_dict()`", "write one: modelspace evaluate --out evaluation.json"),
    ],
)  # fmt: skip
def test_python_is_translated_to_the_command_line(python: str, typed: str) -> None:
    assert in_flags(python) == typed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no backtick, --layer as it is",
        "pass `trust_remote_code=True`",
        "`num_samples=0` and `forward()`, `x.y()`, `other.verify()`, `space.verify`",
        "`space.verify(nonsense=1)` `preprocessing={1: 2}` `preprocessing=file`",
        "`layer=1+1` `layer=[`",
        "`\x00=`",
    ],
)
def test_other_code_is_left_unchanged(text: str) -> None:
    assert in_flags(text) == text


def test_a_translated_message_can_be_parsed() -> None:
    words = shlex.split(in_flags("`preprocessing={'input_size': (8, 9), 'mean': 0.5, 'value_range': (-1, 1)}`"))
    params = load("add").make_context("add", ["python:a.py:f", *words]).params
    assert (params["input_size"], params["mean"], params["value_range"]) == ("8x9", "0.5", ("-1", "1"))


# ---- the same error, once in Python and once on the command line


def both(in_python: Callable[[], Any], *words: str) -> tuple[str, str]:
    """The text of an error in Python, and of the same error on the command line."""
    with pytest.raises(ModelspaceError) as caught:
        in_python()
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code in (1, 2)
    assert "--" not in str(caught.value)
    assert "`" not in done.stderr
    return str(caught.value), done.stderr


def test_an_error_names_the_parameter_in_python_and_the_flag_on_the_command_line(tmp_path: Path) -> None:
    from modelspace.workspace import ModelSpace

    space = ModelSpace.create(tmp_path, methods=("gradient_x_input",), images=2, canvas=8)
    home = ("--home", str(tmp_path))
    python, typed = both(lambda: space.list("nonsense = 1"), "list", "--where", "nonsense = 1", *home)
    assert python.startswith("`where='nonsense = 1'`: ")
    assert typed.startswith('error: --where "nonsense = 1": ')
    assert python.endswith("for example: `where=\"task = 'depth'\"`")
    assert typed.endswith("for example: --where \"task = 'depth'\"\n")
    python, typed = both(lambda: space.nearest("a", hubs="x"), "nearest", "a", "--hubs", "x", *home)
    assert python.startswith("`hubs='x'` is not known")
    assert typed.startswith("error: --hubs x is not known")
    python, typed = both(lambda: space.nearest("a", k=0), "nearest", "a", "-k", "0", *home)
    assert python.endswith("example: `k=5`")
    assert typed.endswith("example: -k 5\n")


def test_an_error_names_the_method_in_python_and_the_command_on_the_command_line(tmp_path: Path) -> None:
    from modelspace.workspace import ModelSpace

    missing = str(tmp_path / "none")
    python, typed = both(lambda: ModelSpace.open(missing), "list", "--home", missing)
    assert python.endswith(f"make one with `ModelSpace.create('{missing}')`")
    assert typed.endswith(f"make one with 'modelspace init --home {missing}'\n")
    space = ModelSpace.create(tmp_path, methods=("gradient_x_input",), images=2, canvas=8)
    python, typed = both(space.map, "map", "--home", str(tmp_path))
    assert python.endswith("add one: `space.add(model)`")
    assert typed.endswith("add one: modelspace add URI\n")


def test_the_hint_for_a_missing_layer(tmp_path: Path) -> None:
    from modelspace.workspace import ModelSpace

    space = ModelSpace.create(tmp_path, methods=("gradient_x_input",), images=2, canvas=8)
    python, typed = both(
        lambda: space.add("zoo:curvature", layer="nonsense", device="cpu"),
        *("add", "zoo:curvature", "--layer", "nonsense", "--device", "cpu", "--home", str(tmp_path)),
    )
    assert python.endswith("`space.layers(model)` lists them")
    assert typed.endswith("'modelspace layers URI' lists them\n")


def test_the_hint_for_missing_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace import sources

    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 4, 3)\n", "utf-8")
    python, typed = both(lambda: sources.load("python:net.py:make"), "layers", "python:net.py:make")
    values = "{'input_size': 224, 'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}"
    assert python.endswith(f"for example `preprocessing={values}`")
    assert typed.endswith("for example --input-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225\n")


# ---- records and notes


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    return fake_line(monkeypatch, tmp_path)


def printed_without_backticks(line: Line, *words: str) -> str:
    done = line(*words)
    assert "`" not in done.output
    return " ".join(done.output.split())


def test_outcomes_checks_and_notes_are_translated_in_every_format(line: Line, tmp_path: Path) -> None:
    texts: dict[str, Any] = {"message": "no `layer=`", "hint": "see `space.layers(model)`", "notes": ("`k=2`",)}
    line.answer("add_all", Records([Outcome(1, "a", "failed", "zoo:a", **texts)], Outcome))
    merged = Merged("a", "a", "refused", (), texts["message"], texts["hint"])
    line.answer("merge", Records([merged], Merged))
    line.answer("verify", Records([Check("maps", False, "no `layer=`", "run `space.rebuild()`")], Check))
    for words in (["add", "--manifest", "zoo"], ["merge", "other"], ["verify"]):
        for format in ("table", "json", "csv"):
            text = printed_without_backticks(line, *words, "--format", format)
            assert "no --layer" in text
            assert "'modelspace " in text
    assert "error: a: no --layer" in printed_without_backticks(line, "add", "--manifest", "zoo", "-q")
    assert "error: a: no --layer" in printed_without_backticks(line, "merge", "other", "-q")
    notes = json.loads(line("add", "--manifest", "zoo", "--format", "json").stdout)[0]["notes"]
    assert notes == ["-k 2"]


def test_notes_are_translated(line: Line) -> None:
    notes = ["explains fc:in (`layer='fc*'`)"]
    line.answer("nearest", Neighbours([neighbour(1, "a", 0.5)], "zoo:depth", "s", notes))
    assert line("nearest", "zoo:depth").stderr == 'note: explains fc:in (--layer "fc*")\n'
    known = line.fake.answers["add"]
    added = known("zoo:depth") if callable(known) else known
    line.answer("add", Added(added.name, added.status, added.spaces, added.card, ("`k=2`",)))
    assert "note: -k 2\n" in line("add", "zoo:depth").stderr
    assert json.loads(line("add", "zoo:depth", "--format", "json").stdout)["notes"] == ["-k 2"]
