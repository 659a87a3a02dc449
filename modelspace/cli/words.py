"""Shell completion without typer: what a word of a command line can be, from a table and a small file of names.

A shell starts a process at each press of the tab key. Typer, the registry and their imports take 0.4 s of it; here most
questions are answered in 40 ms. `words.json` says which kind of word each command takes where; it is written from the
commands by `scripts/make_cli_docs.py`. The names in a registry are kept in `index/names.json`, with the state of the
registry's file that they were read from; the first completion after a change reads them again. Whatever this module
can't answer goes to typer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VARIABLE = "_MODELSPACE_COMPLETE"

TABLE = Path(__file__).with_name("words.json")

#: The file with the names in a registry, in its index.
NAMES = "names.json"

#: Kinds of names, each a function of `modelspace.cli.completion`.
KINDS = ("models", "spaces", "probe_sets", "tasks", "tags")


def answer() -> str | None:
    """What the shell is told, by the environment that it sets; None if typer must say.

    A failure is None too: typer's completion is slower, and never prints an error.
    """
    try:
        shell = os.environ[VARIABLE].removeprefix("complete_")
        if shell not in ("bash", "zsh", "fish"):
            return None
        words, incomplete = _words(shell)
        values = candidates(words, incomplete, is_plain=shell == "bash")
        return None if values is None else _formatted(shell, values)
    except Exception:
        return None


def _words(shell: str) -> tuple[list[str], str]:
    """The complete words after the program's name, and the incomplete one.

    Raises:
        ValueError: a quotation mark is not closed.
    """
    import shlex

    if shell == "bash":
        words = shlex.split(os.environ["COMP_WORDS"])
        place = int(os.environ["COMP_CWORD"])
        return words[1:place], words[place] if place < len(words) else ""
    text = os.environ["_TYPER_COMPLETE_ARGS"]
    words = shlex.split(text)[1:]
    return (words, "") if text.endswith(" ") or not words else (words[:-1], words[-1])


def candidates(words: Sequence[str], incomplete: str, *, is_plain: bool = True) -> list[str] | None:
    """The words that the incomplete one can become; None if it is not for this module to say.

    Args:
        words: the complete ones, without the name of the program.
        incomplete: the last one; may be empty.
        is_plain: whether a word is shown without its help text, which is not in the table.
    """
    table: Any = json.loads(TABLE.read_bytes())
    words = list(words)
    while "commands" in table:
        if not words:
            known = [*table["commands"]]
            return _starting(known, incomplete) if is_plain and not incomplete.startswith("-") else None
        table = table["commands"][words.pop(0)]
    kind, home, is_option = _expected(table, words)
    if incomplete.startswith("-") and not is_option:
        return _starting([*table["flags"], *table["values"]], incomplete) if is_plain else None
    if isinstance(kind, list):
        return _starting(kind, incomplete)
    return _starting(_names(home)[kind], incomplete) if kind in KINDS else None


def _starting(values: Sequence[str], start: str) -> list[str]:
    return [value for value in values if value.startswith(start)]


def _expected(table: Mapping[str, Any], words: Sequence[str]) -> tuple[Any, str | None, bool]:
    """The kind of the next word, the value of --home, and whether the word is the value of an option.

    Raises:
        ValueError: the words are not simple enough to say.
    """
    home, place, rest = None, 0, list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            place += 1
        elif word in table["values"]:
            kind, count = table["values"][word]
            if len(rest) < count:
                return kind, home, True
            value, rest = rest[0], rest[count:]
            home = value if word == "--home" else home
        elif word not in table["flags"]:
            raise ValueError(f"{word} is not in the table")
    arguments = table["arguments"]
    if not arguments or (place >= len(arguments) and not arguments[-1][1]):
        return None, home, False
    return arguments[min(place, len(arguments) - 1)][0], home, False


def _names(home: str | None) -> dict[str, list[str]]:
    """The names in a registry by kind: from the file, if the registry has not changed since."""
    from modelspace.home import INDEX, REGISTRY, find_home

    folder = find_home(home)
    if folder is None:
        return {kind: [] for kind in KINDS}
    path, file = folder / REGISTRY, folder / INDEX / NAMES
    state = _state(path)
    try:
        stored: Any = json.loads(file.read_bytes())
        if stored["state"] == state and all(_is_names(stored["names"][kind]) for kind in KINDS):
            return dict(stored["names"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    from modelspace import temporary
    from modelspace.verbs.contents import names_by_kind

    names = names_by_kind(path)
    if _state(path) == state:
        try:
            file.parent.mkdir(exist_ok=True)
            with temporary.replacing(file) as draft:
                draft.write_text(json.dumps({"state": state, "names": names}), "utf-8")
        except OSError:
            pass  # a folder that can't be written to: the next completion is as slow as this one
    return names


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _state(path: Path) -> list[list[int]]:
    """What changes whenever the registry does, as JSON gives it back."""
    from modelspace.home import state_of

    return [list(each or ()) for each in state_of(path)]


def _formatted(shell: str, values: Sequence[str]) -> str | None:
    """The values as typer's scripts for a shell expect them."""
    if shell == "zsh":
        quoted = (
            value.replace('"', '""').replace("'", "''").replace("$", "\\$").replace("`", "\\`").replace(":", r"\\:")
            for value in values
        )
        lines = "\n".join(f'"{value}"' for value in quoted)
        return f"_arguments '*: :(({lines}))'" if values else "_files"
    if shell == "fish" and os.environ.get("_TYPER_COMPLETE_FISH_ACTION") != "get-args":
        return None
    return "\n".join(values)
