"""The table of commands, and how one of them becomes a parser."""

from __future__ import annotations

import importlib
from typing import Any

import typer

from modelspace.cli import parsing
from modelspace.cli.examples import epilog

#: Of every command: -h is --help.
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: Every command, in the order of the help text; the module `modelspace.cli.NAME` has it as the function `command`, or
#: as the Typer application `group` if it has commands of its own.
COMMANDS = (
    "init",
    "add",
    "nearest",
    "evaluate",
    "map",
    "tree",
    "heatmap",
    "gallery",
    "curves",
    "atlas",
    "report",
    "list",
    "show",
    "remove",
    "rename",
    "tag",
    "spaces",
    "probes",
    "layers",
    "sql",
    "export",
    "merge",
    "verify",
    "rebuild",
)


def load(name: str) -> Any:
    """The parser of one command, as `typer.main.get_command` makes it."""
    module = importlib.import_module(f"modelspace.cli.{name}")
    if hasattr(module, "group"):
        parser = typer.main.get_command(module.group)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, epilog=epilog(module.EXAMPLES), context_settings=SETTINGS)(module.command)
        parser = typer.main.get_command(single)
    parser.name = name
    parsing.lighten(parser)
    return parser
