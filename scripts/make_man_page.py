"""Write share/man/man1/modelspace.1, which the wheel installs, from the help texts of the commands.

python scripts/make_man_page.py            # write it
python scripts/make_man_page.py --check    # exit code 1 if it is not up to date
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_cli_docs

PAGE = make_cli_docs.TOP / "share" / "man" / "man1" / "modelspace.1"

#: click's mark for a paragraph that is not filled.
UNFILLED = "\b"


def page() -> str:
    """The whole page, in the man macros that groff and mandoc both know."""
    (_, program), *commands = make_cli_docs.commands()
    lines = [
        '.\\" Written by scripts/make_man_page.py from the help texts: change those, and run it again.',
        '.TH MODELSPACE 1 "" modelspace "User commands"',
        ".SH NAME",
        escaped(f"modelspace - {first_sentence(program.help).rstrip('.').lower()}"),
        ".SH SYNOPSIS",
        ".B modelspace",
        ".I command",
        escaped("[options] [arguments]"),
        ".SH DESCRIPTION",
        *paragraphs(program.help),
        *paragraphs(program.epilog),
        ".SH COMMANDS",
    ]
    for words, command in commands:
        lines += section(words, command)
    lines += [".SH EXIT STATUS", *table("exit code"), ".SH ENVIRONMENT", *table("environment variable")]
    lines += [".SH FILES", ".TP", ".I registry.duckdb", "The registry, in the folder that \\-\\-home names."]
    lines += [".TP", ".I index/", "Index files; derived from the registry, and rebuilt if they are missing."]
    return "\n".join(lines) + "\n"


def first_sentence(text: str) -> str:
    return inspect.cleandoc(text).split("\n\n")[0].replace("\n", " ").split(": ")[0]


def section(words: str, command: Any) -> Iterator[str]:
    """A command: usage, description, parameters and examples."""
    context = typer.Context(command, info_name=words, terminal_width=1000, max_content_width=1000)
    yield f".SS {escaped(words)}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".B {escaped(words)}"
    yield escaped(usage)
    yield from paragraphs(command.help)
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None:
            yield ".TP"
            yield f".B {escaped(record[0].strip())}"
            yield escaped(record[1].strip()) or "\\&"
    yield from paragraphs(command.epilog)


def paragraphs(text: str | None) -> Iterator[str]:
    r"""The paragraphs of a help text; those after a \b line by line."""
    for block in inspect.cleandoc(text or "").split("\n\n"):
        if not block.strip():
            continue
        yield ".PP"
        if block.startswith(UNFILLED):
            yield from (".nf", *map(escaped, block.lstrip(UNFILLED).strip("\n").split("\n")), ".fi")
        else:
            yield escaped(" ".join(block.split()))


def table(head: str) -> Iterator[str]:
    """The rows of the page's table with this first heading, as a list of terms."""
    part = make_cli_docs.HEAD.partition(f"| {head} |")[2].partition("\n\n")[0]
    for term, meaning in re.findall(r"^\| (.+?) \| (.+) \|$", part, re.MULTILINE):
        yield ".TP"
        yield f".B {escaped(term.replace('`', ''))}"
        yield escaped(meaning.replace("`", ""))


def escaped(line: str) -> str:
    r"""A line of text for roff.

    >>> print(escaped(".5 is --rate C:\\x"))
    \&.5 is \-\-rate C:\ex
    """
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    make_cli_docs.write(PAGE, page(), Path(__file__).name)
