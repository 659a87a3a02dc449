"""Translation of the library's messages for the command line: parameters become flags, methods become commands.

Messages, hints and notes use Python names, in backticks (the convention is in `modelspace.errors`). Text in backticks
that has no counterpart on the command line is left unchanged.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import cache
from types import EllipsisType
from typing import Any

from modelspace.cli.commands import COMMANDS, load
from modelspace.deprecated import renamed
from modelspace.late import dataclass


@dataclass(frozen=True)
class Verb:
    """The command for a method of `modelspace.workspace.ModelSpace`.

    Attributes:
        command: its words after "modelspace".
        arguments: flags of its positional arguments; "" for an argument without a flag, the default for further ones.
        flags: flags of parameters that this command names differently from the others.
    """

    command: str
    arguments: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)


#: Methods whose command differs from `Verb(name)`.
VERBS = {
    "create": Verb("init", ("--home",), {"name": "--space"}),
    "init": Verb("init", (), {"name": "--space"}),
    "blend": Verb("init", ("--space", "--blend"), {"name": "--space"}),
    "evaluate_search": Verb("evaluate", ("--task", "--oracle")),
    "create_probes": Verb("probes create"),
    "probe_sets": Verb("probes list"),
    "add_all": Verb("add", ("--manifest",)),
    "fill": Verb("fill", (), {"models": "--model"}),
    "gallery": Verb("gallery", (), {"images": "--image"}),
    "remove_all": Verb("remove"),
    "tag_all": Verb("tag"),
    "remove_space": Verb("spaces remove"),
    "rename_space": Verb("spaces rename"),
    "set_default": Verb("spaces", ("--set-default",)),
    "add_task": Verb("task add"),
    "tasks": Verb("task list"),
    "task": Verb("task show"),
    "rename_task": Verb("task rename"),
    "remove_task": Verb("task remove"),
    "prospects": Verb("nearest", ("--task",)),
    "try_task": Verb("try"),
    "label_scores": Verb("scores", (), {"names": "--score"}),
    "observe_file": Verb("observe", ("--from",)),
    "import_published": Verb("outcomes", ("--import",)),
    "backups": Verb("backup"),
    "repair": Verb("verify", ("--repair",)),
    "reembed": Verb("verify", ("--reembed",)),
    "push_index": Verb("index push", ("--index",)),
    "index_status": Verb("index status", ("--index",)),
    "drop_index": Verb("index drop", ("--index",)),
}

#: Methods that do something else than the command of the same name: `ModelSpace.open` opens a registry, not the atlas.
NOT_THE_COMMAND = frozenset({"open"})

#: Parameters whose flag differs from their name with dashes.
FLAGS = {
    "k": "-k",
    "matrices": "--matrix",
    "oracles": "--oracle",
    "tasks": "--task",
    "members": "--blend",
    "methods": "--method",
    "tags": "--tag",
    "timeout_s": "--timeout",
}

#: Python expressions with a translation of their own.
EXPRESSIONS = {
    "space.evaluate().to_dict()": "evaluate --out evaluation.json",
    "space.backups()": "backup --list",
    "space.resume()": "add --resume",
    "space.import_published()": "outcomes --import published",
}

#: Values whose flag has another form.
VALUES = {
    "rounds=(60, 120)": "--rounds 60,120",
    "higher_is_better=True": "--direction higher",
    "higher_is_better=False": "--direction lower",
}

#: Arguments whose name in messages differs from the one in the help texts.
METAVARS = {"model": "URI"}

_BACKTICKED = re.compile(r"`([^`\n]+)`")
_PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+")


class _UntranslatableError(Exception):
    """The text in backticks has no counterpart on the command line."""


def in_flags(text: str) -> str:
    """Translate a message, hint or note of the library for the command line.

    >>> in_flags("tap another layer with `layer=`; `space.layers(model)` lists them")
    "tap another layer with --layer; 'modelspace layers URI' lists them"
    >>> in_flags("add `preprocessing={'input_size': 224, 'std': (1, 1, 1)}`, or give it another name with `name='b'`")
    'add --input-size 224 --std 1,1,1, or give it another name with --name b'
    >>> in_flags("make one: `ModelSpace.create()`")
    'make one: modelspace init'
    """

    def translated(match: re.Match[str]) -> str:
        # A command after a colon at the end of the line needs no quotes.
        bare = text[: match.start()].endswith(": ") and match.end() == len(text)
        try:
            return _translated(match[1], "" if bare else "'")
        except (_UntranslatableError, SyntaxError, TypeError, ValueError):
            return match[0]

    return _BACKTICKED.sub(translated, text) if "`" in text else text


def record_in_flags(row: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a record with its message, hint, detail and notes translated for the command line."""
    return {
        key: _value_in_flags(value) if key in ("message", "hint", "detail", "notes") else value
        for key, value in row.items()
    }


def _value_in_flags(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_value_in_flags(each) for each in value)
    return in_flags(value) if isinstance(value, str) else value


def _translated(code: str, quote: str) -> str:
    if code in VALUES:
        return VALUES[code]
    if code in EXPRESSIONS:
        return f"{quote}modelspace {EXPRESSIONS[code]}{quote}"
    if re.fullmatch(r"\w+=", code):
        return _known(flag(code[:-1]), _flags())
    if re.match(r"\w+=", code):
        call = ast.parse(f"f({code})", mode="eval").body
        assert isinstance(call, ast.Call)
        return " ".join(_options(call.keywords, {}, _flags()))
    return f"{quote}modelspace {' '.join(_command(ast.parse(code, mode='eval').body))}{quote}"


def flag(parameter: str) -> str:
    """The flag of a method's parameter, or of a field of `modelspace.types.Preprocessing`.

    >>> flag("input_size"), flag("k")
    ('--input-size', '-k')
    """
    return FLAGS.get(parameter, f"--{parameter.replace('_', '-')}")


def _command(call: ast.expr) -> Iterator[str]:
    """The command line for a call such as ``space.add(model, name="a")``, without "modelspace"."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        raise _UntranslatableError
    owner, name = call.func.value, call.func.attr
    if name in NOT_THE_COMMAND:
        raise _UntranslatableError
    verb = VERBS.get(name, Verb(name))
    known = _flags_of(verb.command)
    yield verb.command
    for place, argument in enumerate(call.args):
        option = verb.arguments[place] if place < len(verb.arguments) else ""
        if option:
            yield _known(option, known)
        yield from _words(name, argument)
    yield from _options(call.keywords, verb.flags, known)
    if isinstance(owner, ast.Call) and ast.unparse(owner.func) == "ModelSpace.open":
        yield from ("--home", *_words("home", owner.args[0]))
    elif not isinstance(owner, ast.Name) or owner.id not in ("space", "ModelSpace"):
        raise _UntranslatableError


def _options(keywords: Iterable[ast.keyword], flags: Mapping[str, str], known: frozenset[str]) -> Iterator[str]:
    for keyword in keywords:
        name = str(keyword.arg)
        if name == "preprocessing":
            yield from _options(_entries(keyword.value), flags, known)
        else:
            yield from _option(flags.get(name, flag(name)), name, keyword.value, known)


def _entries(value: ast.expr) -> list[ast.keyword]:
    """The entries of a `preprocessing` dictionary as keyword arguments."""
    from modelspace.sources.fields import FIELDS

    if not isinstance(value, ast.Dict):
        raise _UntranslatableError
    keys = [ast.literal_eval(key) for key in value.keys if key is not None]
    if not set(keys) <= set(FIELDS):
        raise _UntranslatableError
    return [ast.keyword(key, entry) for key, entry in zip(keys, value.values, strict=True)]


def _option(option: str, name: str, value: ast.expr, known: frozenset[str]) -> Iterator[str]:
    """The words for a parameter and its value; a switch or None has no value."""
    constant = value.value if isinstance(value, ast.Constant) else ...
    if constant is None:
        yield from ("no", _known(option, known))
    elif constant is False:
        yield _known(f"--no-{option.lstrip('-')}", known)
    elif constant is True:
        yield _known(option, known)
    elif isinstance(value, ast.List) and name != "layers":
        for each in value.elts:
            yield from (_known(option, known), *_words(name, each))
    else:
        yield from (_known(option, known), *_words(name, value))


def _words(name: str, value: ast.expr) -> Iterator[str]:
    """The words for a value; a Python name becomes a placeholder."""
    from modelspace.sources.fields import FIELDS  # imported late, since commands without messages don't need it

    if isinstance(value, ast.Name):
        yield METAVARS.get(value.id, value.id.upper())
        return
    literal = _literal(value)
    if isinstance(literal, EllipsisType):
        yield "..."
    elif name in FIELDS and not isinstance(literal, str):
        yield from FIELDS[name].form.write(literal)
    elif isinstance(literal, dict):
        yield _quoted(",".join(f"{key}={each}" for key, each in literal.items()))
    elif isinstance(literal, list | tuple):
        parts = [str(each) for each in literal]
        yield from [_quoted(",".join(parts))] if name == "layers" else map(_quoted, parts)
    else:
        yield _quoted(str(literal))


def _literal(value: ast.expr) -> Any:
    """A value; in a dictionary, a Python name becomes a placeholder."""
    if not isinstance(value, ast.Dict):
        return ast.literal_eval(value)
    entries = zip(value.keys, value.values, strict=True)
    return {
        entry.id.upper() if isinstance(entry, ast.Name) else ast.literal_eval(entry): (
            each.id.upper() if isinstance(each, ast.Name) else ast.literal_eval(each)
        )
        for entry, each in entries
        if entry is not None
    }


def _quoted(word: str) -> str:
    """A word quoted for the shell."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    return f'"{word}"' if word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _known(option: str, flags: frozenset[str]) -> str:
    if option not in flags:
        raise _UntranslatableError
    return option


@cache
def _flags_of(command: str) -> frozenset[str]:
    """The flags of a command or subcommand ("probes create")."""
    first, _, subcommand = command.partition(" ")
    if first not in COMMANDS:
        raise _UntranslatableError
    parser = load(first)
    subparsers = getattr(parser, "commands", {})
    parsers = [subparsers[subcommand]] if subcommand else [parser, *subparsers.values()]
    return frozenset(
        option for each in parsers for param in each.params for option in (*param.opts, *param.secondary_opts)
    )


@cache
def _flags() -> frozenset[str]:
    """The flags of all commands."""
    return frozenset().union(*map(_flags_of, COMMANDS))


__getattr__ = renamed(__name__, {"WHOLE": "EXPRESSIONS"})
