"""Write docs/reference/cli.md from the help texts of the commands, and the table of words for shell completion.

python scripts/make_cli_docs.py            # write it
python scripts/make_cli_docs.py --check    # exit code 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from modelspace.cli.app import COMMANDS, app, load

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "reference" / "cli.md"
TABLE = TOP / "modelspace" / "cli" / "words.json"

#: Columns of the help texts, whatever terminal the script runs in.
WIDTH = 80

HEAD = """\
# Command line

<!-- Written by scripts/make_cli_docs.py from the help texts: change those, and run it again. -->

```
modelspace COMMAND --help
```

Data goes to standard output; progress, notes and errors go to standard error. `--format json` and `--format csv` are
for programs: UTF-8, numbers with full precision, dates in ISO 8601, lists and dictionaries in CSV as JSON. Tables are
for people: they fit the width of a terminal, and are printed in full and without colour into a pipe.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the command failed, or a check of `verify` did; `error:` says what, `hint:` what to do |
| 2 | wrong usage: an unknown option or a missing argument |
| 70 | a bug in modelspace |
| 130 | interrupted |
| 141 | the output was closed by its reader |

| environment variable | meaning |
|---|---|
| `MODELSPACE_HOME` | folder of the registry, unless `--home` is given |
| `MODELSPACE_INDEX` | where queries search, unless `--index` is given: [Search in Milvus](../how-to/milvus.md) |
| `MODELSPACE_INDEX_TOKEN_FILE`, `MODELSPACE_INDEX_TOKEN` | file with the token of a Milvus server, or the token |
| `MODELSPACE_INDEX_CA` | certificate of the authority that signed a Milvus server's |
| `MODELSPACE_DEBUG` | `1`: print the traceback of an error |
| `NO_COLOR` | any value: no colours |
| `PAGER` | program for tables that are longer than the terminal; default: `less`; empty or `cat`: none |

`modelspace --install-completion` installs shell completion for commands, options, and the names in the registry. The
wheel installs this page for `man modelspace`.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it, groups before their members."""
    yield "modelspace", typer.main.get_command(app)
    for name in COMMANDS:
        yield from _below(f"modelspace {name}", load(name))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield words, command
    for name, member in getattr(command, "commands", {}).items():
        yield from _below(f"{words} {name}", member)


def help_text(words: str, command: Any) -> str:
    settings = {**command.context_settings, "terminal_width": WIDTH}
    return str(command.get_help(typer.Context(command, info_name=words, **settings)))


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for words, command in commands():
        lines = "\n".join(line.rstrip() for line in help_text(words, command).rstrip().split("\n"))
        parts.append(f"## {words}\n\n```\n{lines}\n```\n")
    return "\n".join(parts)


def word_table(command: Any) -> dict[str, Any]:
    """What `modelspace.cli.words` knows of a command: its flags, the kinds of its options' values and its arguments."""
    if hasattr(command, "commands"):
        return {"commands": {name: word_table(each) for name, each in command.commands.items()}}
    table: dict[str, Any] = {"flags": [], "values": {}, "arguments": []}
    for param in command.get_params(typer.Context(command, **command.context_settings)):
        names = sorted([*param.opts, *param.secondary_opts], key=len, reverse=True)  # those of --help are a set
        if param.param_type_name == "argument":
            table["arguments"].append([kind_of(param), param.nargs == -1])
        elif getattr(param, "is_flag", False) or param.name == "help":
            table["flags"] += names
        else:
            table["values"] |= {name: [kind_of(param), param.nargs] for name in names}
    return table


def kind_of(param: Any) -> str | list[str] | None:
    """The kind of names that complete a parameter, or its choices."""
    described = getattr(param, "type_descriptor", None)
    completion = getattr(getattr(described, "parameter_info", None), "autocompletion", None)
    if completion is not None:
        return str(completion.__name__)
    annotation = getattr(described, "annotation", None)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(each.value) for each in annotation]
    return None


def words_text() -> str:
    """The file `modelspace/cli/words.json`: one line per command."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(word_table(load(name)))}" for name in COMMANDS)
    return f'{{"commands": {{\n{lines}\n}}}}\n'


def write(page: Path, text: str, script: str) -> None:
    """Write a page that a script makes from the help texts; with --check, exit with 1 if it is not up to date."""
    name = page.relative_to(TOP).as_posix()
    parser = argparse.ArgumentParser(description=f"Write {name} from the help texts.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is not up to date")
    if parser.parse_args().check:
        if not page.is_file() or page.read_text("utf-8") != text:
            sys.exit(f"{name} is not up to date: run 'python scripts/{script}'")
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    write(PAGE, page(), Path(__file__).name)
    write(TABLE, words_text(), Path(__file__).name)
